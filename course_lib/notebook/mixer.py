"""The stem mixer: stems played in sync, with solo, mute and gain for each, over the mixture's spectrogram.

A running kernel shows it as a widget (anywidget, with `mixer.js` and `mixer.css` beside this module). What a notebook
stores is something else: a plain player a stem, as a widget without its kernel is an error message. JupyterLab hides
widgets in a notebook it does not trust and writes "Error displaying widget: model not found" in one it does; a second
form in the widget's own output helps only the first. So the players are an output of their own, and where a notebook is
executed to be stored (COURSE_EXECUTING=1) they are the only one.

The sound is stored once, in the players. The widget gets the same MP3 bytes through its traits, which are sent to the
browser and are not part of the notebook file. All stems have the same length and settings, hence the same encoder
delay, and run on the one clock of one AudioContext: they stay together to the sample.
"""

import base64
import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from course_lib.notebook import players
from course_lib.progress import executing

STEM_COMPRESSION = 0.8                                # variable bit rate: about 10 kB/s for a stereo stem at 44.1 kHz
GAIN_RANGE = (-40.0, 6.0)                             # dB
PICTURE_SIZE = (7.6, 1.7)                             # inches
PLOT_BOX = (0.075, 0.25, 0.915, 0.71)                 # the axes inside the picture: left, bottom, width, height
RUN_NOTE = "Run this cell for the mixer: all stems in sync, with solo, mute and gain."


@dataclass(frozen=True)
class EncodedStems:
    """Stems ready to be played: name -> MP3 bytes, the seconds they last, and what they are in words."""

    audio: dict[str, bytes]
    duration: float
    description: str


def checked_stems(stems: Mapping[str, object]) -> dict[str, np.ndarray]:
    """Stems as arrays (channels, time), after a check that they fit together. Errors as in `mix_stems`."""
    if not isinstance(stems, Mapping) or not stems:
        found = f"{type(stems).__name__}" if not isinstance(stems, Mapping) else "empty"
        raise ValueError(f"stems is {found}; expected a mapping name -> audio with at least one stem")
    if odd := [name for name in stems if not isinstance(name, str) or not name.strip()]:
        raise ValueError(f"stems has the names {odd}; expected words such as 'drums'")
    arrays = {name: players.as_channels(x, f"stem {name!r}") for name, x in stems.items()}
    shapes = {name: x.shape for name, x in arrays.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"the stems have the shapes {shapes}; expected one and the same (channels, time)")
    return arrays


def encode_stems(stems: Mapping[str, object], rate: int, compression: float = STEM_COMPRESSION) -> EncodedStems:
    """The stems as MP3. Where one of them would clip all are turned down alike, and the description says so."""
    arrays, rate = checked_stems(stems), players.checked_rate(rate)
    first = next(iter(arrays.values()))
    scale = players.playback_scale(max(float(np.abs(x).max()) for x in arrays.values()), normalize=False)
    audio = {name: players.encode_audio(x * scale, rate, compression=compression)[0] for name, x in arrays.items()}
    remark = f", scaled by {scale:g}" if scale != 1 else ""
    return EncodedStems(audio, first.shape[1] / rate, f"{', '.join(audio)}; {players.describe(first, rate)}{remark}")


def players_html(encoded: EncodedStems, title: str, *, folded: bool) -> str:
    """A plain player a stem, which need no kernel. folded: beneath a heading that opens them."""
    rows = []
    for name, data in encoded.audio.items():
        word, source = html.escape(name), f"data:audio/mpeg;base64,{base64.b64encode(data).decode('ascii')}"
        rows.append(f'<div class="course-stem-player" style="display: flex; align-items: center; margin: 0.15em 0;">'
                    f'<span style="flex: 0 0 7em;">{word}</span><audio controls preload="metadata" title="{word}" '
                    f'aria-label="{word}" style="flex: 1 1 auto; height: 2.2em;" src="{source}"></audio></div>')
    heading, style = html.escape(title), 'style="margin: 0.3em 0 0.8em 0; max-width: 40em;"'
    if folded:
        return (f'<details class="course-stem-players" {style}><summary>{heading}: plain players</summary>'
                f'{"".join(rows)}</details>')
    note = f'<span style="opacity: 0.75; font-size: 0.92em;">{RUN_NOTE}</span>'
    return (f'<figure class="course-stem-players" {style}><figcaption>{heading}<br>{note}</figcaption>'
            f'{"".join(rows)}</figure>')


def mixture_picture(stems: Mapping[str, np.ndarray], rate: int) -> bytes:
    """The spectrogram of the stems' sum as a PNG, its axes at PLOT_BOX for the position to be drawn over it."""
    import matplotlib.pyplot as plt

    from course_lib.notebook.figures import png_bytes
    from course_lib.notebook.plots import house_style, plot_spectrogram

    with house_style():
        figure = plt.figure(figsize=PICTURE_SIZE, layout="none")
        plot_spectrogram(sum(stems.values()), rate, colour_bar=False, ax=figure.add_axes(PLOT_BOX))
        picture = png_bytes(figure)
    plt.close(figure)
    return picture


class StemMixer(anywidget.AnyWidget):
    """The mixer as a widget. Its traits follow the browser, and setting them moves the browser's controls.

    gains: stem -> dB in GAIN_RANGE. mutes, solos: stem -> bool. A stem is heard if it is not muted and, where any
    stem is soloed, is one of those. playing: bool. position: seconds. status: "idle" until the first play, then
    "ready", or "error: ..." where the browser could not decode. The rest (`stems`, `audio`, ...) is fixed when it is
    made.
    """

    _esm = Path(__file__).with_name("mixer.js")
    _css = Path(__file__).with_name("mixer.css")

    title = traitlets.Unicode().tag(sync=True)
    stems = traitlets.List(traitlets.Unicode()).tag(sync=True)
    colours = traitlets.Dict().tag(sync=True)
    audio = traitlets.Dict().tag(sync=True)
    duration = traitlets.Float().tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    plot_box = traitlets.List(list(PLOT_BOX)).tag(sync=True)
    gain_range = traitlets.List(list(GAIN_RANGE)).tag(sync=True)
    gains = traitlets.Dict().tag(sync=True)
    mutes = traitlets.Dict().tag(sync=True)
    solos = traitlets.Dict().tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    position = traitlets.Float(0.0).tag(sync=True)
    status = traitlets.Unicode("idle").tag(sync=True)

    def __init__(self, stems: Mapping[str, object], rate: int, title: str = "stem mixer", *,
                 encoded: EncodedStems | None = None):
        """stems, rate and errors as in `mix_stems`. encoded: the same stems where they are encoded already."""
        from course_lib.notebook.plots import OKABE_ITO, STEM_COLOURS

        encoded = encoded or encode_stems(stems, rate)
        names = list(encoded.audio)
        self.description = encoded.description
        super().__init__(title=title, stems=names, audio=encoded.audio, duration=encoded.duration,
                         colours={name: STEM_COLOURS.get(name, OKABE_ITO["black"]) for name in names},
                         picture=mixture_picture(checked_stems(stems), rate), gains=dict.fromkeys(names, 0.0),
                         mutes=dict.fromkeys(names, False), solos=dict.fromkeys(names, False))

    @traitlets.validate("gains", "mutes", "solos")
    def _for_every_stem(self, proposal):
        name, value = proposal["trait"].name, dict(proposal["value"])
        if set(value) != set(self.stems):
            raise traitlets.TraitError(f"{name} names {sorted(value)}; expected a value for each of {self.stems}")
        if name == "gains":
            return {stem: float(np.clip(gain, *GAIN_RANGE)) for stem, gain in value.items()}
        return {stem: bool(on) for stem, on in value.items()}

    @traitlets.validate("position")
    def _within_the_song(self, proposal):
        return float(np.clip(proposal["value"], 0.0, self.duration))

    def __repr__(self) -> str:
        return f"{self.title} ({self.description})"


def mix_stems(stems: Mapping[str, object], rate: int, title: str | None = None, *,
              compression: float = STEM_COMPRESSION) -> None:
    """Show the stem mixer: play, pause and seek, and for each stem solo, mute and gain.

    stems: name -> (time,) or (channels, time), floats in [-1, 1], all of one shape; the mixture is their sum. rate: Hz.
    title: the heading. compression: of the MP3, 0 (best) to 1 (smallest).
    Under a running kernel: the mixer, and plain players folded beneath it, which stay when the kernel has gone. In a
    stored notebook: the plain players. Use `StemMixer` for the widget itself, to read or set its controls.
    Raises ValueError for no stems, stems of different shapes, and whatever `listen` refuses.
    """
    from IPython.display import display

    encoded = encode_stems(stems, rate, compression)
    title = title or "stem mixer"
    live = not executing()
    if live:
        display(StemMixer(stems, rate, title, encoded=encoded))
    display({"text/html": players_html(encoded, title, folded=live), "text/plain": f"{title} ({encoded.description})"},
            raw=True)
