"""Chapter 8's networks on music that nobody generated: real multitracks, and real voices over real music.

`course experiment real_songs` scores the networks that come with the course, chapter 2's rules and the bounds on two
sets; data/results/08_ht_demucs/real_songs.csv holds a row a song and method:

- "multitracks": the songs of a data set. By default the only real multitrack that comes with a package: six seconds of
  MUSDB18, which stempeg (below musdb) brings to test itself with. With a network `--set data=musdb18-7s` fetches the
  excerpts of all songs; `--set data=musdb18hq --set root=FOLDER` takes whole ones (from their middle), and `--folder`
  says where the tables of other settings go.
- "voices over music": every voice over every piece at some levels: readers of audiobooks over recordings without
  words, and, where multitracks are there, the first one's singer and what accompanies it. A voice, and the rest.

None of it was learned from: all trainings of the course are on the band. References are mono at RATE. What works in
stereo at another rate hears the original, and what it gives is brought to mono and RATE. The mixture is the sum of the
stems. Rows of a network carry the first digits of its weights' SHA-256 and are measured again when those are others. A
set that this machine lacks (ffmpeg reads MUSDB18) is left out, and named; rows of its songs stay.
"""

import itertools
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from course_lib.data import STEMS, Track, open_tracks, recording
from course_lib.data.band.soundfonts import file_sha256
from course_lib.data.mono import mono_tracks
from course_lib.data.resampling import resample
from course_lib.demucs import center_trim
from course_lib.experiments.demucs import RATE, middle
from course_lib.experiments.htdemucs import SEGMENT, TOPIC, TRAINED, UNMIX, estimated
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.scoreboard import HIGHEST, RULES, IdealRatioMask, ModelSeparator, Quarter, Rules
from course_lib.metrics import si_sdr
from course_lib.results import shipped_file
from course_lib.spectral import song_sdr
from course_lib.training import load_trained

SONGS, PAIRS = "multitracks", "voices over music"
PACKAGED = "stempeg"                                                # the data set of one song that comes with a package
READERS, MUSIC = ("libri1", "libri2", "libri3"), ("brahms", "nutcracker", "trumpet", "vibeace")       # of `recording`
LENDING = 1                                                         # so many multitracks lend voice and band
MIXTURE_LEVEL = 0.1                                                 # root mean square
SHARES, IN_STEREO = "equal shares", "chapter 2's best, stereo"
UNMIXES = {"Open-Unmix": UNMIX, "Open-Unmix, wide": "open_unmix_wide"}
WEIGHTS = {**UNMIXES, **TRAINED}                                    # method -> checkpoint
METHODS = (SHARES, RULES, IN_STEREO, *WEIGHTS, HIGHEST)
SCORED = (*STEMS, "rest", "vocals_si")                  # rest: all but vocals; vocals_si: SI-SDR, whatever their level


@dataclass(frozen=True)
class Settings:
    """What is scored. data, split, root: as `open_tracks` takes them ("": its default; PACKAGED: the packaged song)."""

    data: str = PACKAGED
    split: str = "test"
    root: str = ""
    song_seconds: float = 30.0        # from the middle of each song
    pair_seconds: float = 6.0         # from the middle of each recording; of shorter ones all
    equal: float = 0.0                # levels of a voice in dB, of its root mean square against the music's
    below: float = -5.0


@dataclass(frozen=True)
class Scored:
    """One method on one song of a set; weights: the first digits of the network's SHA-256, "" for the others."""

    set: str
    song: str
    method: str
    weights: str


class Given:
    """The songs of both sets by name, as they are (`tracks`), and the methods, loaded when they are asked for."""

    def __init__(self, settings: Settings, cache: Path):
        self.tracks: dict[str, dict[str, Track]] = {}
        songs = self._open(SONGS, lambda: multitracks(settings, cache))
        self._open(PAIRS, lambda: voices_over_music(settings, songs))

    def _open(self, name: str, opened: Callable[[], list[Track]]) -> list[Track]:
        try:
            tracks = opened()
        except (OSError, ModuleNotFoundError) as error:             # not installed, or not to be downloaded
            print(f"{name}: left out, {error}")
            return []
        self.tracks[name] = {track.name: track for track in tracks}
        return tracks

    @cached_property
    def unmixes(self) -> dict[str, ModelSeparator]:
        return {method: ModelSeparator(load_trained(name)) for method, name in UNMIXES.items()}

    @cached_property
    def networks(self) -> dict[str, torch.nn.Module]:
        return {method: load_trained(name) for method, name in TRAINED.items()}


# ------------------------------------------------------------------------------------------------------------ the data


def multitracks(settings: Settings, cache: Path) -> list[Track]:
    """The songs of the data set, of longer ones the middle. OSError or ModuleNotFoundError where it isn't to be had."""
    if settings.data == PACKAGED:
        tracks = open_tracks("musdb18", "test", root=packaged_song(cache / PACKAGED))
    else:
        fetch = {"download": True} if settings.data == "musdb18-7s" and not settings.root else {}
        tracks = open_tracks(settings.data, settings.split, root=settings.root or None, **fetch)
    return [middle(track, settings.song_seconds) for track in tracks]


def packaged_song(folder: Path) -> Path:
    """The song that comes with stempeg, laid out as MUSDB18 is, so that it is read as MUSDB18. FileNotFoundError where
    the package (which comes with musdb) is not installed, or doesn't bring it any more."""
    try:
        inside = Path(str(metadata.distribution("stempeg").locate_file("stempeg/data")))
    except metadata.PackageNotFoundError as error:
        raise FileNotFoundError("stempeg is not installed; it comes with pip install musdb") from error
    song = next(inside.glob("*.stem.mp4"), None)
    if song is None:
        raise FileNotFoundError(f"stempeg {metadata.version('stempeg')} brings no .stem.mp4 file; expected one in its "
                                "folder data, as in version 0.2.6")
    target = folder / "test" / song.name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_file():
        shutil.copy(song, target)
    return folder


def voices_over_music(settings: Settings, songs: Sequence[Track] = ()) -> list[Track]:
    """Every voice over every piece at every level, in stereo at 44.1 kHz; `other` is the piece, drums and bass are
    silent. songs: multitracks, of which the first LENDING lend their voice and what is under it. info: voice,
    piece and level.

    FileNotFoundError where a recording can't be had.
    """
    rate = 44_100
    voices = {name: recording(name, rate)[0] for name in READERS}
    music = {name: recording(name, rate)[0] for name in MUSIC}
    for track in songs[:LENDING]:
        sources = resample(track.sources(STEMS), track.rate, rate)                      # (source, channel, time)
        if all(sound.any() for sound in (sources[3], sources[:3].sum(0))):              # instrumentals lend nothing
            voices[track.name], music[track.name] = sources[3], sources[:3].sum(0)
    levels = (settings.equal, settings.below)
    return [laid_over(voice, piece, voices[voice], music[piece], level, rate, settings.pair_seconds)
            for voice, piece, level in itertools.product(voices, music, levels)]


def laid_over(voice_name: str, piece: str, voice: Tensor, music: Tensor, level: float, rate: int,
              seconds: float) -> Track:
    """A voice over a piece, both (channel, time): the middle `seconds` of each, or as much as both have of it.

    level: of the voice in dB against the piece. The mixture's root mean square is MIXTURE_LEVEL.
    """
    frames = min(round(seconds * rate), voice.shape[-1], music.shape[-1])
    voice, music = (sound[:, (sound.shape[-1] - frames) // 2:][:, :frames].expand(2, -1) for sound in (voice, music))
    voice, music = (sound / sound.square().mean().sqrt().clamp_min(1e-8) for sound in (voice, music))
    voice = 10 ** (level / 20) * voice
    scale = MIXTURE_LEVEL / (voice + music).square().mean().sqrt()
    silence = torch.zeros_like(music)
    stems = {"drums": silence, "bass": silence, "other": scale * music, "vocals": scale * voice}
    return Track.from_tensors(f"{voice_name} over {piece}, {level:g} dB", rate, stems,
                              info={"voice": voice_name, "piece": piece, "level": level})


# ---------------------------------------------------------------------------------------------------------- the scores


def estimate(method: str, full: Track, track: Track, given: Given) -> Tensor:
    """What a method makes of a song, (source, channel, time), in the order of STEMS, mono at RATE.

    full: the song as it is; track: the same, mono at RATE.
    """
    references = track.sources(STEMS)
    mixture = references.sum(0)
    if method == HIGHEST:
        return IdealRatioMask().of_sources(references, RATE)
    if method == SHARES:
        return Quarter()(mixture, RATE) if "voice" not in full.info else torch.stack(
            [torch.zeros_like(mixture), torch.zeros_like(mixture), mixture / 2, mixture / 2])
    if method == RULES:
        return Rules()(mixture, RATE)
    if method in TRAINED:
        return estimated(given.networks[method], mixture, SEGMENT)
    separator = Rules() if method == IN_STEREO else given.unmixes[method]
    heard = full.sources(STEMS).sum(0)
    own = separator.rate or full.rate
    found = separator(resample(heard, full.rate, own), own).mean(1, keepdim=True)
    return center_trim(resample(found, own, RATE), track.frames)


def sdr_by_stem(estimates: Tensor, references: Tensor, pair: bool = False) -> dict[str, float]:
    """SDR in dB by name and SI-SDR of vocals (SCORED), NaN for a silent stem; of a pair, a voice over a piece, of
    vocals and rest only.

    estimates, references: (source, channel, time), in the order of STEMS.
    """
    rest = lambda sources: sources[:3].sum(0, keepdim=True)                                               # noqa: E731
    scores = song_sdr(*(torch.cat([one, rest(one)]) for one in (estimates, references))).tolist()
    named = dict(zip(SCORED, [*scores, float(si_sdr(estimates[3], references[3]))]))
    return {name: named[name] for name in ("vocals", "rest", "vocals_si")} if pair else named


def all_methods(work: Work) -> list[Scored]:
    """Every method on every song; of songs that this machine can't open the rows that there are."""
    digits = {method: file_sha256(weights_of(name))[:8] for method, name in WEIGHTS.items()}
    tracks = work.given.tracks
    absent = [Scored(row["set"], row["song"], row["method"], row["weights"]) for row in work.rows()
              if row["song"] not in tracks.get(row["set"], {})]
    return absent + [Scored(songs, song, method, digits.get(method, ""))
                     for songs, named in tracks.items() for song in named for method in METHODS]


def weights_of(checkpoint: str) -> Path:
    """The file of a committed checkpoint."""
    return shipped_file(f"checkpoints/{checkpoint}.safetensors")


@torch.no_grad()
def score(variation: Scored, work: Work) -> dict[str, list[dict]]:
    """A song's row: voice and piece (of a multitrack both are the song), level, and SDR by stem."""
    full = work.given.tracks[variation.set][variation.song]
    track = mono_tracks(partial(list, [full]), RATE, full.seconds)[0]
    scores = sdr_by_stem(estimate(variation.method, full, track, work.given), track.sources(STEMS),
                         pair="voice" in full.info)
    return {"real_songs": [{
        "voice": full.info.get("voice", full.name), "piece": full.info.get("piece", full.name),
        "level_db": full.info.get("level"), "seconds": f"{track.seconds:.1f}",
        **{name: f"{scores[name]:.3f}" if name in scores else None for name in SCORED}}]}


def facts(work: Work) -> Mapping:
    """How many songs, voices and pieces, the weights, and what a number is."""
    rows = work.rows()
    of = lambda songs, column: len({row[column] for row in rows if row["set"] == songs})                  # noqa: E731
    return {"songs": {songs: of(songs, "song") for songs in (SONGS, PAIRS)}, "voices": of(PAIRS, "voice"),
            "pieces": of(PAIRS, "piece"), "rate_hz": RATE,
            "weights": {name: file_sha256(weights_of(name)) for name in WEIGHTS.values()},
            "unit": f"SDR in dB of the whole song or piece, mono at {RATE} Hz; rest: all but vocals; vocals_si: "
                    "SI-SDR of vocals"}


EXPERIMENT = Experiment(name="real_songs", what="networks that learned from the band alone, rules and bounds, on real "
                        "multitracks and on real voices over real music", topic=TOPIC, stages=[all_methods], run=score,
                        settings=Settings(), table="real_songs", prepare=Given, names=(*METHODS, SONGS, PAIRS),
                        facts=facts, keep_others=False)

__all__ = ["EXPERIMENT", "Given", "IN_STEREO", "METHODS", "PAIRS", "SHARES", "SONGS", "Scored", "Settings",
           "estimate", "laid_over", "multitracks", "packaged_song", "sdr_by_stem", "voices_over_music"]
