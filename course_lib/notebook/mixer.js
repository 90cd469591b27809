// The stem mixer's browser side: an anywidget module. Python side, traits and their meaning: mixer.py.

const SECONDS_BETWEEN_REPORTS = 0.25;   // how often the playing position is sent to Python
const SEEK_TOLERANCE = 0.3;             // seconds: a position from Python that is this close needs no jump
const FADE = 0.012;                     // seconds: time constant of gain changes, short of a click

/** Stems that play together: one AudioContext, hence one clock, and a gain for each stem. */
class StemPlayer {
  constructor(duration) {
    this.duration = duration;
    this.context = null;
    this.stems = new Map();             // name -> {buffer, gain, source}
    this.playing = false;
    this.offset = 0;                    // seconds into the song when not playing
    this.startTime = 0;                 // the context's time at second 0 of the song while playing
    this.levels = new Map();            // name -> linear gain
  }

  /** Decode all stems; must follow a click or key, or the browser keeps the context silent. */
  load(audio) {
    this.loading ??= this.#decode(audio);
    return this.loading;
  }

  async #decode(audio) {
    this.context = new AudioContext();
    await Promise.all(Object.entries(audio).map(async ([name, view]) => {
      const bytes = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
      const buffer = await this.context.decodeAudioData(bytes);
      const gain = this.context.createGain();
      gain.connect(this.context.destination);
      this.stems.set(name, { buffer, gain, source: null });
    }));
    for (const [name, level] of this.levels) this.setLevel(name, level);
  }

  setLevel(name, level) {
    this.levels.set(name, level);
    const parameter = this.stems.get(name)?.gain.gain;
    if (!parameter) return;
    parameter.cancelScheduledValues(this.context.currentTime);
    parameter.setTargetAtTime(level, this.context.currentTime, FADE);
  }

  get position() {
    const now = this.playing ? this.context.currentTime - this.startTime : this.offset;
    return Math.min(Math.max(now, 0), this.duration);
  }

  play() {
    if (this.playing || !this.context) return;
    if (this.offset >= this.duration - 0.01) this.offset = 0;
    const begin = this.context.currentTime + 0.05;          // all stems are told the same moment
    for (const stem of this.stems.values()) {
      stem.source = this.context.createBufferSource();
      stem.source.buffer = stem.buffer;
      stem.source.connect(stem.gain);
      stem.source.start(begin, this.offset);
    }
    this.startTime = begin - this.offset;
    this.playing = true;
    this.context.resume();
  }

  pause() {
    this.offset = this.position;
    this.playing = false;
    for (const stem of this.stems.values()) {
      stem.source?.stop();
      stem.source?.disconnect();
      stem.source = null;
    }
  }

  seek(seconds) {
    const wasPlaying = this.playing;
    if (wasPlaying) this.pause();
    this.offset = Math.min(Math.max(seconds, 0), this.duration);
    if (wasPlaying) this.play();
  }

  close() {
    if (this.playing) this.pause();
    this.context?.close();
  }
}

/** An element with a class, attributes and children. */
function element(tag, className, attributes = {}, children = []) {
  const made = document.createElement(tag);
  made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** A button or slider that has the keyboard to itself: JupyterLab takes arrows and letters for its commands. */
function control(tag, className, attributes, children = []) {
  return element(tag, className, { ...attributes, "data-lm-suppress-shortcuts": "true" }, children);
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
}

/** Whether a stem is heard: not muted, and soloed where any stem is. */
function isHeard(model, name) {
  const solos = model.get("solos");
  return !model.get("mutes")[name] && (!Object.values(solos).some(Boolean) || solos[name]);
}

/** Set one stem's entry of a dictionary trait. */
function setEntry(model, trait, name, value) {
  model.set(trait, { ...model.get(trait), [name]: value });
  model.save_changes();
}

/** One stem's row: name, solo, mute, gain. Returns the element and a function that shows the model's values. */
function stemRow(model, name) {
  const [lowest, highest] = model.get("gain_range");
  const toggle = (trait, word) => {
    const attributes = { type: "button", "aria-label": `${word} ${name}` };
    const button = control("button", `course-mixer-${word}`, attributes, [word]);
    button.addEventListener("click", () => setEntry(model, trait, name, !model.get(trait)[name]));
    return button;
  };
  const solo = toggle("solos", "solo"), mute = toggle("mutes", "mute");
  const gain = control("input", "course-mixer-gain",
    { type: "range", min: lowest, max: highest, step: 1, "aria-label": `gain of ${name} in dB` });
  gain.addEventListener("input", () => setEntry(model, "gains", name, Number(gain.value)));
  const readout = element("output", "course-mixer-decibels");
  const dot = element("span", "course-mixer-dot", { "aria-hidden": "true" });
  dot.style.background = model.get("colours")[name];
  const row = element("div", "course-mixer-stem", { role: "group", "aria-label": name, "data-stem": name },
    [dot, element("span", "course-mixer-name", {}, [name]), solo, mute, gain, readout]);

  const refresh = (player) => {
    const decibels = model.get("gains")[name];
    const level = isHeard(model, name) ? 10 ** (decibels / 20) : 0;
    player.setLevel(name, level);
    row.dataset.level = level.toFixed(4);
    row.classList.toggle("course-mixer-silent", level === 0);
    solo.setAttribute("aria-pressed", String(model.get("solos")[name]));
    mute.setAttribute("aria-pressed", String(model.get("mutes")[name]));
    gain.value = decibels;
    gain.setAttribute("aria-valuetext", `${decibels} decibels`);
    readout.textContent = `${decibels > 0 ? "+" : ""}${decibels.toFixed(0)} dB`;
  };
  return { row, refresh };
}

/** The mixture's spectrogram with the playing position over it; a click seeks. */
function picture(model, seek) {
  const [left, bottom, width, height] = model.get("plot_box");
  const address = URL.createObjectURL(new Blob([model.get("picture")], { type: "image/png" }));
  const image = element("img", "course-mixer-spectrogram",
    { src: address, alt: "spectrogram of the mixture", draggable: "false" });
  const line = element("div", "course-mixer-position", { "aria-hidden": "true" });
  line.style.top = `${100 * (1 - bottom - height)}%`;
  line.style.height = `${100 * height}%`;
  const frame = element("div", "course-mixer-picture", {}, [image, line]);
  const seekTo = (event) => {
    const box = image.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width - left) / width * model.get("duration"));
  };
  frame.addEventListener("pointerdown", (event) => { frame.setPointerCapture(event.pointerId); seekTo(event); });
  frame.addEventListener("pointermove", (event) => { if (event.buttons & 1) seekTo(event); });
  const showPosition = (seconds) => { line.style.left = `${100 * (left + width * seconds / model.get("duration"))}%`; };
  return { frame, showPosition, close: () => URL.revokeObjectURL(address) };
}

function render({ model, el }) {
  const duration = model.get("duration");
  const player = new StemPlayer(duration);
  let reported = -1, frameRequest = 0, closed = false;

  const root = element("div", "course-mixer", { role: "group", "aria-label": model.get("title") });
  const play = control("button", "course-mixer-play", { type: "button" });
  const time = element("span", "course-mixer-time");
  const slider = control("input", "course-mixer-seek",
    { type: "range", min: 0, max: duration, step: Math.min(0.25, duration / 20), "aria-label": "position in seconds" });
  const message = element("div", "course-mixer-message", { role: "status" });

  const report = () => {
    reported = player.position;
    model.set("position", reported);
    model.save_changes();
  };
  const seek = (seconds) => { player.seek(seconds); showPosition(); report(); };
  const spectrogram = picture(model, seek);
  const rows = model.get("stems").map((name) => stemRow(model, name));

  const showPosition = () => {
    const now = player.position;
    spectrogram.showPosition(now);
    slider.value = now;
    slider.setAttribute("aria-valuetext", `${now.toFixed(1)} of ${duration.toFixed(1)} seconds`);
    time.textContent = `${clock(now)} / ${clock(duration)}`;
  };
  const tick = () => {
    showPosition();
    if (player.position >= duration) { model.set("playing", false); model.save_changes(); return; }
    if (Math.abs(player.position - reported) >= SECONDS_BETWEEN_REPORTS) report();
    if (player.playing) frameRequest = requestAnimationFrame(tick);
  };
  const showPlaying = () => {
    const on = model.get("playing");
    play.textContent = on ? "Pause" : "Play";
    play.setAttribute("aria-label", `${on ? "Pause" : "Play"} ${model.get("title")}`);
    root.dataset.playing = String(on);
  };
  const setStatus = (status) => {
    root.dataset.status = status;
    message.textContent = status === "loading" ? "Loading the stems ..." : status.startsWith("error") ? status : "";
    if (status !== "loading") { model.set("status", status); model.save_changes(); }
  };

  const followPlaying = async () => {
    showPlaying();
    if (model.get("playing") === player.playing) return;
    if (!model.get("playing")) {
      player.pause();
      cancelAnimationFrame(frameRequest);
      showPosition();
      report();
      return;
    }
    try {
      if (player.stems.size === 0) setStatus("loading");
      await player.load(model.get("audio"));
      if (root.dataset.status !== "ready") setStatus("ready");
    } catch (error) {
      setStatus(`error: the browser cannot play the stems (${error.message ?? error})`);
      model.set("playing", false);
      model.save_changes();
      return;
    }
    if (closed || !model.get("playing")) return;              // paused or removed while the stems were loading
    player.play();
    tick();
  };
  const followPosition = () => {
    if (Math.abs(model.get("position") - player.position) <= SEEK_TOLERANCE) return;
    player.seek(model.get("position"));
    showPosition();
  };
  const followControls = () => rows.forEach(({ refresh }) => refresh(player));

  play.addEventListener("click", () => { model.set("playing", !model.get("playing")); model.save_changes(); });
  slider.addEventListener("input", () => seek(Number(slider.value)));
  const followed = [["change:playing", followPlaying], ["change:position", followPosition],
    ["change:gains", followControls], ["change:mutes", followControls], ["change:solos", followControls]];
  followed.forEach(([event, follow]) => model.on(event, follow));

  root.append(element("div", "course-mixer-title", {}, [model.get("title")]), spectrogram.frame,
    element("div", "course-mixer-transport", {}, [play, slider, time]),
    element("div", "course-mixer-stems", {}, rows.map(({ row }) => row)), message);
  el.append(root);
  root.dataset.status = "idle";
  player.seek(model.get("position"));
  followControls();
  showPosition();
  showPlaying();

  return () => {
    closed = true;
    followed.forEach(([event, follow]) => model.off(event, follow));
    cancelAnimationFrame(frameRequest);
    spectrogram.close();
    player.close();
  };
}

export default { render };
