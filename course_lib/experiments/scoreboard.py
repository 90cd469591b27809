"""One scoreboard for all chapters: what a separator is, its bounds, and how a song is scored.

A row of a scoreboard is one song, one method and one kind of score, in dB per stem, NaN where a stem is silent:

- "song": SDR of the whole song, all channels together (`course_lib.spectral.song_sdr`; chapter 1, section 1.11),
- "frames, mean" and "frames, median": of museval's SDR in frames of 1 s (`course_lib.spectral.framewise_sdr`).

Every trained separator stands beside its bounds: a quarter of the mixture, the best rules of chapter 2 and the ideal
ratio mask. Methods are compared on the same songs: `course_lib.notebook.paired_interval` of their `stem_scores`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from course_lib.classic import METHODS, separate_unsupervised
from course_lib.data import STEMS, Track
from course_lib.data.resampling import resample
from course_lib.open_unmix import separate
from course_lib.progress import progress
from course_lib.spectral import apply_mask, framewise_sdr, ideal_ratio_mask, istft, song_sdr, stft

SCORES = ("song", "frames, mean", "frames, median")


# ---------------------------------------------------------------------------------------------------------- contracts


@runtime_checkable
class Separator(Protocol):
    """What takes a mixture apart: audio in, its rate known, sources out.

    stems: the sources' names, in the order of the output. rate: Hz that it works at, None for any.
    Called with mixture (channels, time), floats in [-1, 1], and its rate; gives (sources, channels, time), equally
    long. ValueError for another rate than its own: `separate_song` resamples.
    """

    stems: Sequence[str]
    rate: int | None

    def __call__(self, mixture: Tensor, rate: int) -> Tensor: ...


@runtime_checkable
class Oracle(Protocol):
    """What is shown the sources themselves: an upper bound. References and estimates (sources, channels, time)."""

    def of_sources(self, references: Tensor, rate: int) -> Tensor: ...


def separate_song(separator: Separator, mixture: Tensor, rate: int) -> Tensor:
    """Separate a song at its own rate: (channels, time) to (sources, channels, time).

    Where the separator works at another rate, the mixture is resampled to it and the sources are resampled back, as
    long as the mixture; above half the lower rate nothing is left then. ValueError for a mixture of another shape,
    and for what a separator must not give: another shape, NaN or infinity.
    """
    if mixture.ndim != 2 or not mixture.is_floating_point() or not mixture.numel():
        raise ValueError(
            f"mixture has shape {tuple(mixture.shape)} and type {mixture.dtype}; expected floats (channels, time)"
        )
    own = separator.rate or rate
    sources = separator(_resample(mixture, rate, own), own)
    expected = (len(separator.stems), mixture.shape[0])
    if sources.ndim != 3 or tuple(sources.shape[:2]) != expected:
        raise ValueError(
            f"{_name(separator)} gave {tuple(sources.shape)}; expected (sources, channels, time) with {expected} first"
        )
    if not torch.linalg.vector_norm(sources.float(), torch.inf).isfinite():
        raise ValueError(f"{_name(separator)} gave NaN or infinity; find out where they come from before scoring it")
    sources = _resample(sources, own, rate)
    if abs(sources.shape[-1] - mixture.shape[-1]) > max(1, -(-rate // own)):
        raise ValueError(
            f"{_name(separator)} gave {sources.shape[-1]} samples at {rate} Hz for {mixture.shape[-1]}; "
            "expected as many"
        )
    return nn.functional.pad(sources, (0, max(0, mixture.shape[-1] - sources.shape[-1])))[..., : mixture.shape[-1]]


def _resample(audio: Tensor, from_rate: int, to_rate: int) -> Tensor:
    return audio if from_rate == to_rate else resample(audio, from_rate, to_rate)


def _name(method: object) -> str:
    return type(method).__name__


# ----------------------------------------------------------------------------------------------- bounds and separators


class Quarter:
    """The lower bound: every stem is an equal share of the mixture, a quarter for four."""

    rate = None

    def __init__(self, stems: Sequence[str] = STEMS):
        self.stems = tuple(stems)

    def __call__(self, mixture: Tensor, rate: int) -> Tensor:
        return (mixture / len(self.stems)).expand(len(self.stems), *mixture.shape)


class Rules:
    """A method of chapter 2, which learns nothing: one of `course_lib.classic.METHODS`, at any rate."""

    rate, stems = None, STEMS

    def __init__(self, method: str = "evidence"):
        if method not in METHODS:
            raise ValueError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
        self.method = method

    def __call__(self, mixture: Tensor, rate: int) -> Tensor:
        return separate_unsupervised(mixture, rate, self.method)


class ModelSeparator:
    """A spectrogram model of chapter 4's kind, with its STFT, at its own rate.

    model: as `course_lib.open_unmix.separate` takes it, in eval mode. rate, stems: default: the model's facts
    (`course_lib.training.load_trained` sets them). niter: rounds of EM. ValueError where a rate is not known.
    """

    def __init__(self, model: nn.Module, niter: int = 0, rate: int | None = None, stems: Sequence[str] | None = None):
        facts = getattr(model, "facts", None)
        self.rate = rate or getattr(facts, "rate", None)
        if self.rate is None:
            raise ValueError(
                f"rate of {type(model).__name__} is not known; pass rate= in Hz, or a model of load_trained"
            )
        self.model, self.niter = model, niter
        self.stems = tuple(stems or getattr(facts, "stems", None) or model.sources)

    @torch.no_grad()
    def __call__(self, mixture: Tensor, rate: int) -> Tensor:
        if rate != self.rate:
            raise ValueError(
                f"rate is {rate} Hz; {type(self.model).__name__} works at {self.rate}: "
                "use separate_song, which resamples"
            )
        device = next((p.device for p in self.model.parameters()), "cpu")
        return separate(self.model, mixture.to(device), niter=self.niter).to(mixture.device)


class IdealRatioMask:
    """The upper bound of what masks between 0 and 1 reach: powers p of the magnitudes of the sources themselves."""

    def __init__(self, p: float = 2.0, n_fft: int = 4096):
        self.p, self.n_fft = p, n_fft

    def of_sources(self, references: Tensor, rate: int) -> Tensor:
        S = stft(references, self.n_fft)
        return istft(apply_mask(ideal_ratio_mask(S, self.p), S.sum(0)), self.n_fft, length=references.shape[-1])


LOWEST, RULES, HIGHEST = "mixture / 4", "chapter 2's best", "ideal ratio mask"


def bounds() -> dict[str, Separator | Oracle]:
    """What every separator stands beside, by name: a quarter of the mixture, chapter 2's best rules, the ideal mask."""
    return {LOWEST: Quarter(), RULES: Rules(), HIGHEST: IdealRatioMask()}


# -------------------------------------------------------------------------------------------------------------- scores


def estimates_of(method: Separator | Oracle, references: Tensor, rate: int, stems: Sequence[str] = STEMS) -> Tensor:
    """What a method makes of the sum of the references (source, channel, time), in the order of `stems`.

    ValueError where a separator doesn't give one of the stems.
    """
    if isinstance(method, Oracle):
        return method.of_sources(references, rate)
    if missing := [stem for stem in stems if stem not in method.stems]:
        raise ValueError(
            f"{_name(method)} gives {', '.join(method.stems)}, not {', '.join(missing)}; "
            "score it on stems that it gives"
        )
    found = separate_song(method, references.sum(0), rate)
    return found[[list(method.stems).index(stem) for stem in stems]]


def scores_of(estimates: Tensor, references: Tensor, rate: int) -> dict[str, Tensor]:
    """The kinds of score of one song, (source,) each; estimates and references (source, channel, time)."""
    frames = framewise_sdr(estimates, references, rate)
    return dict(zip(SCORES, (song_sdr(estimates, references), frames.nanmean(-1), frames.nanquantile(0.5, dim=-1))))


def score_rows(method: Separator | Oracle, track: Track, stems: Sequence[str] = STEMS) -> list[dict[str, str]]:
    """A song's rows for one method: score, and a column a stem in dB with three decimals."""
    references = track.sources(stems)
    with torch.no_grad():
        scores = scores_of(estimates_of(method, references, track.rate, stems), references, track.rate)
    return [
        {"score": kind, **{stem: f"{value:.3f}" for stem, value in zip(stems, values.tolist())}}
        for kind, values in scores.items()
    ]


def score_songs(
    methods: Mapping[str, Separator | Oracle],
    tracks: Iterable[Track],
    songs: str = "band",
    stems: Sequence[str] = STEMS,
) -> list[dict[str, str]]:
    """The rows of all methods on all songs: set (`songs`), song, method, score, a column a stem."""
    return [
        {"set": songs, "song": track.name, "method": name, **row}
        for track in progress(tracks, songs)
        for name, method in methods.items()
        for row in score_rows(method, track, stems)
    ]


def stem_scores(
    rows: Iterable[Mapping], method: str, score: str = "song", songs: str = "band", stems: Sequence[str] = STEMS
) -> Tensor:
    """One method's scores from a scoreboard's rows: (song, stem), in the order in which songs come in the table.

    The order is the same for all methods, and for all sets of the same songs, so that scores can be subtracted.
    ValueError where there are none.
    """
    rows = list(rows)
    place = {song: number for number, song in enumerate(dict.fromkeys(row["song"] for row in rows))}
    chosen = sorted(
        (row for row in rows if (row["set"], row["method"], row["score"]) == (songs, method, score)),
        key=lambda row: place[row["song"]],
    )
    if not chosen:
        raise ValueError(
            f"no rows of {method!r}, score {score!r}, on {songs!r}; expected a method, score and set of the table"
        )
    return torch.tensor([[float(row[stem]) for stem in stems] for row in chosen])


def song_names(rows: Iterable[Mapping], songs: str = "band") -> list[str]:
    """The songs of a set, in the order of `stem_scores`."""
    rows = list(rows)
    known = {row["song"] for row in rows if row["set"] == songs}
    return [song for song in dict.fromkeys(row["song"] for row in rows) if song in known]


def summary(rows: Sequence[Mapping], stems: Sequence[str] = STEMS) -> str:
    """A scoreboard in words: of every set, score and method the mean over songs with its interval, and stems."""
    from course_lib.notebook.tables import format_number, mean_interval

    lines = []
    for songs, score, method in dict.fromkeys((row["set"], row["score"], row["method"]) for row in rows):
        scores = stem_scores(rows, method, score, songs, stems)
        lines.append(
            f"{songs:18} {score:15} {method:22} {format_number(mean_interval(scores.nanmean(1))):>20} dB, "
            f"{len(scores)} songs: "
            + ", ".join(f"{stem} {value:.2f}" for stem, value in zip(stems, scores.nanmean(0).tolist()))
        )
    return "\n".join(lines)


__all__ = [
    "HIGHEST",
    "IdealRatioMask",
    "LOWEST",
    "ModelSeparator",
    "Oracle",
    "Quarter",
    "RULES",
    "Rules",
    "SCORES",
    "Separator",
    "bounds",
    "estimates_of",
    "score_rows",
    "score_songs",
    "scores_of",
    "separate_song",
    "song_names",
    "stem_scores",
    "summary",
]
