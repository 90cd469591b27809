"""Songs on disk: a folder in the MUSDB18-HQ layout, whose stems add up to the mixture to the last bit.

    mixture.wav = drums.wav + bass.wav + other.wav + vocals.wav        other.wav = guitar.wav + piano.wav + the rest
    song.json     what was played: notes, instruments, chords, beats, sections, and what rendered it

All are 16-bit stereo PCM. The sums hold in whole steps of 16 bits, and so do they for the floats read from the files.
"""

import json
import re
import shutil
import uuid
from pathlib import Path

import numpy as np
import soundfile

from course_lib.data.band.song import GENERATOR_VERSION, Chord, Note, Part, Song
from course_lib.data.band.soundfonts import default_soundfont, file_sha256
from course_lib.data.band.worlds import SOUNDS, World
from course_lib.paths import for_libsndfile, shown

GENERATOR = "course_lib.data.band"      # says in song.json who wrote a folder
GROUPS = ("drums", "bass", "guitar", "piano", "rest", "vocals")      # what the mixer renders
FILES = ("mixture", "drums", "bass", "other", "vocals", "guitar", "piano")     # what is written, as NAME.wav
SONG_FILES = (*(f"{name}.wav" for name in FILES), "song.json")
STEPS_16_BIT = 32768                    # steps of 16 bits from 0 to full scale
WAV_HEADER_BYTES = 44
PARTIAL = ".partial"                    # how the name of an unfinished folder ends
LOWEST_RATE, HIGHEST_RATE = 8000, 192000


def write_song(song: Song, folder: Path | str, rate: int = 44100, soundfont: Path | str | None = None,
               scratch: Path | str | None = None, world: World | None = None) -> Path:
    """Render a song and write its folder; the folder appears complete, or not at all.

    folder: where the song shall lie; a folder that is there already is replaced if the generator wrote it, otherwise
    ValueError. rate: samples per second. soundfont: an .sf2 or .sf3 file, by default the one inside pretty_midi.
    scratch: where to put the files while they are written, by default beside `folder`; on the same disk.
    world: whose sounds to draw from instead of the soundfont. Returns the folder. The same song, rate and soundfont
    or world give the same bytes on one machine. OSError where the disk is full or may not be written.
    """
    from course_lib.data.band import mixer  # here, because it takes seconds and songs that are there do not need it

    folder, soundfont = Path(folder), Path(soundfont or default_soundfont())
    check_rate(rate)
    if folder.exists() and not is_song_folder(folder):
        raise ValueError(f"{folder} is there already and is no song of the band; choose another folder or delete it")
    steps = quantise(mixer.mix(song, rate, soundfont, world))
    partial = (Path(scratch) if scratch else folder.parent) / f".{folder.name}.{uuid.uuid4().hex[:8]}{PARTIAL}"
    partial.mkdir(parents=True)
    try:
        for name in FILES:
            _write_wav(partial / f"{name}.wav", steps[name], rate)
        text = json.dumps(describe(song, rate, soundfont, steps, world), indent=1)
        (partial / "song.json").write_text(compact_number_lists(text), encoding="utf-8")
        _move_into_place(partial, folder)
    except OSError as error:
        raise OSError(f"{shown(folder)}: the song can't be written ({error}); free some space on that disk, or set "
                      "COURSE_DATA_DIR to a folder on another one that you may write in") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write_wav(path: Path, steps: np.ndarray, rate: int) -> None:
    """Write int16 (2, time) as WAV; OSError where the disk does not take it all."""
    try:
        soundfile.write(for_libsndfile(path), steps.T, rate, format="WAV", subtype="PCM_16")
    except (soundfile.SoundFileError, AssertionError) as error:      # soundfile asserts that all was written
        raise OSError(f"{path.name} could not be written whole: {error or 'the disk took less'}") from error


def quantise(groups: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """From the mixer's six float groups to the seven files in 16-bit steps.

    groups: drums, bass, guitar, piano, rest, vocals, each float (2, time) in [-1, 1]. Returns int16 arrays (2, time)
    named as FILES, in which the sums above are exact. ValueError for a missing group, NaN, or a sum beyond 16 bits.
    """
    if missing := [name for name in GROUPS if name not in groups]:
        raise ValueError(f"the mix lacks {', '.join(missing)}; expected {', '.join(GROUPS)}")
    if unsound := [name for name in GROUPS if not np.isfinite(groups[name]).all()]:
        raise ValueError(f"the mix has NaN or infinite samples in {', '.join(unsound)}")
    steps = {name: np.rint(groups[name] * np.float32(STEPS_16_BIT)).astype(np.int32) for name in GROUPS}
    steps["other"] = steps["guitar"] + steps["piano"] + steps.pop("rest")
    steps["mixture"] = steps["drums"] + steps["bass"] + steps["other"] + steps["vocals"]
    for name, values in steps.items():
        peak = max(int(values.max()), -int(values.min()))
        if peak >= STEPS_16_BIT:
            raise ValueError(f"{name} reaches {peak / STEPS_16_BIT:.3f} of full scale; the mixer must leave every file "
                             "below 1")
    return {name: steps[name].astype(np.int16) for name in FILES}


def describe(song: Song, rate: int, soundfont: Path, steps: dict[str, np.ndarray], world: World | None = None) -> dict:
    """What song.json says; `read_song` makes the song from it again."""
    frames = steps["mixture"].shape[1]
    facts = dict(vars(song))
    parts = [{**vars(part), "six_stem": part.six_stem} for part in facts.pop("parts")]
    return {
        "generator": GENERATOR,
        "generator_version": GENERATOR_VERSION,
        **{name: facts.pop(name) for name in ("seed", "style", "key", "bpm", "seconds")},
        "rate": rate,
        "frames": frames,
        **({"soundfont": {"name": soundfont.name, "sha256": file_sha256(soundfont)}} if world is None else
           {"world": {"name": world.name, "digest": world.digest(), "voices": world.engines(),
                      "sounds": {name: SOUNDS[name].sha256 for name in world.sounds()}}}),
        "tags": song.tags(),
        "levels_db": {name: level_db(steps[name]) for name in FILES},
        "bytes": {f"{name}.wav": WAV_HEADER_BYTES + 4 * frames for name in FILES},
        **facts,
        "parts": parts,
    }


def level_db(steps: np.ndarray) -> float | None:
    """Root mean square of a file in dB re full scale, to 0.01 dB; None for silence."""
    mean_square = float(np.mean(np.square(steps, dtype=np.float64))) / STEPS_16_BIT**2
    return round(10 * np.log10(mean_square), 2) if mean_square > 0 else None


def read_song(folder: Path | str) -> Song:
    """The song that a folder holds, from its song.json: equal to what `compose` returned."""
    facts = read_description(folder)
    parts = [Part(part["stem"], part["name"], part["program"], [Note(*note) for note in part["notes"]], part["role"])
             for part in facts["parts"]]
    return Song(
        seed=facts["seed"], style=facts["style"], bpm=facts["bpm"], key=facts["key"], seconds=facts["seconds"],
        parts=parts, beats=facts["beats"], downbeats=facts["downbeats"],
        chords=[Chord(onset, name, tuple(classes)) for onset, name, classes in facts["chords"]],
        sections=[(onset, name) for onset, name in facts["sections"]],
    )


def read_description(folder: Path | str) -> dict:
    """The contents of a folder's song.json; FileNotFoundError or ValueError where it is missing or damaged."""
    path = Path(folder) / "song.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a song folder that `course band` wrote")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete its folder and run `course band` again") from error
    if not isinstance(facts, dict) or facts.get("generator") != GENERATOR:
        raise ValueError(f"{path} was not written by the band's generator; expected \"generator\": \"{GENERATOR}\"")
    return facts


def is_song_folder(folder: Path) -> bool:
    """Whether the generator wrote this folder: its song.json says so."""
    try:
        read_description(folder)
    except (OSError, ValueError):
        return False
    return True


def find_damage(folder: Path | str) -> str | None:
    """What is wrong with a song folder, or None where song.json can be read and every file has its size."""
    try:
        facts = read_description(folder)
    except (OSError, ValueError) as error:
        return str(error)
    if facts.get("generator_version") != GENERATOR_VERSION:
        return f"{folder} is of generator version {facts.get('generator_version')}; this is version {GENERATOR_VERSION}"
    sizes = facts.get("bytes")
    if not isinstance(sizes, dict) or set(sizes) != {f"{name}.wav" for name in FILES}:
        return f"{Path(folder) / 'song.json'} does not give the sizes of the files"
    for name, expected in sizes.items():
        path = Path(folder) / name
        found = path.stat().st_size if path.is_file() else None
        if found != expected:
            return f"{path} is missing" if found is None else f"{path} has {found} bytes; expected {expected}"
    return None


def song_bytes(seconds: float, rate: int) -> int:
    """Bytes that a song takes on the disk: seven files of 16-bit stereo, and about 100 kB for song.json."""
    return len(FILES) * (WAV_HEADER_BYTES + 4 * round(seconds * rate)) + 100_000


def check_rate(rate: int) -> None:
    """ValueError unless `rate` is a usable number of samples per second."""
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)) or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise ValueError(f"rate is {rate!r}; expected a whole number of Hz from {LOWEST_RATE} to {HIGHEST_RATE}")


def compact_number_lists(text: str) -> str:
    """JSON text with every innermost list on one line, so that a note is a line."""
    def on_one_line(match: re.Match) -> str:
        return re.sub(r"\s+", " ", match[0]).replace("[ ", "[").replace(" ]", "]")

    return re.sub(r"\[[^\[\]{}]*\]", on_one_line, text)


def _move_into_place(partial: Path, folder: Path) -> None:
    """Rename the finished folder to its place; an older song that lies there moves out first, then goes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    replaced = partial.with_name(f"{partial.name}.replaced{PARTIAL}")
    if folder.exists():
        folder.rename(replaced)
    partial.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
