"""A search for the fourteen constants of chapter 2's "all the evidence" on the band's training songs.

`course experiment classic_constants` (two minutes) fills data/results/02_classic_separation/constants.csv.
Ten seconds of every third training song and of all validation songs. The constants of `course_lib.classic.EVIDENCE`
(and the share that is spread evenly) move by gradient descent on the mean SDR of the training songs, from a plain
start; the validation songs are only looked at. The SDR is that of the spectrograms, every fourth frame of them: for a
mask M on the mixture X its error is |S|^2 - 2 M Re(S X*) + M^2 |X|^2, so the sounds themselves aren't needed. The
shipped constants come from an earlier search of this kind, of which no log was kept; this one ends at other values and
scores them beside the shipped ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.classic import EVIDENCE, SHRINK, evidence_masks, evidence_of
from course_lib.data import STEMS, Track, open_tracks
from course_lib.experiments.runner import Experiment, Work
from course_lib.spectral import fft_frequencies, stft

N_FFT, EVERY = 4096, 4
HERTZ = ("low", "high", "voice_from", "voice_to")  # searched on a logarithmic scale
START = dict(
    drums_slope=2.0,
    drums_start=0.0,
    drums_low=0.0,
    drums_high=0.0,
    low=200.0,
    high=4000.0,
    voice_start=0.0,
    voice_repeats=0.0,
    voice_similar=0.0,
    voice_percussive=0.0,
    voice_from=200.0,
    voice_to=4000.0,
    voice_edges=2.0,
)


def middle_and_rest(Z: Tensor) -> Tensor:
    """Channels (..., 2, bin, frame) as their mean and half their difference, of the same total energy."""
    left, right = Z.unbind(-3)
    return torch.stack([left + right, left - right], -3) / math.sqrt(2)


def read(track: Track) -> dict:
    """What the search needs of a song, every fourth frame."""
    S = stft(track.excerpt(5.0, 10.0).sources(STEMS), N_FFT)
    evidence = evidence_of(S.sum(0), N_FFT / 4 / track.rate)
    S = middle_and_rest(S)[..., ::EVERY]
    X = S.sum(0)
    return {
        "evidence": {name: values[..., ::EVERY].clone() for name, values in evidence.items()},
        "own": (S.abs() ** 2).sum((1, 2, 3)),
        "common": (S * X.conj()).real,
        "mixture": X.abs() ** 2,
    }


def sdr(song: dict, frequencies: Tensor, constants: dict, shrink: Tensor) -> Tensor:
    """SDR in dB of each stem: (4,)."""
    masks = (1 - shrink) * evidence_masks(song["evidence"], frequencies, constants) + shrink / 4
    error = song["own"] + (masks**2 * song["mixture"] - 2 * masks * song["common"]).sum((1, 2, 3))
    return 10 * torch.log10(song["own"].clamp_min(1e-9) / error.clamp_min(1e-9))


@dataclass(frozen=True)
class Settings:
    """Steps of gradient descent, and training songs (every third)."""

    steps: int = 240
    songs: int = 20


@dataclass(frozen=True)
class Constants:
    """Which constants are scored: those that a search found, or those that the course ships."""

    constants: str


def _songs(settings: Settings, _cache) -> dict[str, list[dict]]:
    train, valid = open_tracks("band", "train")[::3][: settings.songs], open_tracks("band", "valid")
    return {"rate": train[0].rate, "train": [read(track) for track in train], "valid": [read(track) for track in valid]}


@torch.no_grad()
def report(songs: dict, chosen: dict, shrink: Tensor) -> dict[str, str | int]:
    """Mean SDR of a choice of constants on both splits, and the constants, as a row."""
    frequencies = fft_frequencies(N_FFT, songs["rate"])
    means = {
        split: torch.stack([sdr(song, frequencies, chosen, shrink) for song in songs[split]]).mean()
        for split in ("train", "valid")
    }
    return {
        **{f"{split}_songs": len(songs[split]) for split in means},
        **{f"{split}_db": f"{value:.3f}" for split, value in means.items()},
        **{name: f"{float(value):.4g}" for name, value in {**chosen, "even_share": shrink}.items()},
    }


def search(songs: dict, steps: int) -> tuple[dict, Tensor]:
    """The constants and the even share that gradient descent finds on the training songs."""
    frequencies = fft_frequencies(N_FFT, songs["rate"])
    free = {
        name: torch.tensor(math.log2(value) if name in HERTZ else value, requires_grad=True)
        for name, value in START.items()
    }
    logit = torch.tensor(-2.0, requires_grad=True)  # of the share that is spread evenly
    optimizer, generator = torch.optim.Adam([*free.values(), logit], 0.05), torch.Generator().manual_seed(0)

    def constants() -> dict:
        return {name: 2**value if name in HERTZ else value for name, value in free.items()}

    for step in range(steps):
        if step % 60 == 0:
            row = report(songs, constants(), torch.sigmoid(logit))
            print(f"step {step:4}: train {row['train_db']} dB, valid {row['valid_db']} dB", flush=True)
        optimizer.zero_grad()
        chosen = torch.randint(len(songs["train"]), (4,), generator=generator).tolist()
        scores = [sdr(songs["train"][i], frequencies, constants(), torch.sigmoid(logit)).mean() for i in chosen]
        (-sum(scores) / len(scores)).backward()
        optimizer.step()
    return {name: value.detach() for name, value in constants().items()}, torch.sigmoid(logit).detach()


def score(variation: Constants, work: Work) -> dict[str, list[dict]]:
    """The row of the constants that are found, or of the shipped ones."""
    found = variation.constants == "found"
    chosen, shrink = search(work.given, work.settings.steps) if found else (EVIDENCE, torch.tensor(SHRINK["evidence"]))
    return {"constants": [report(work.given, chosen, shrink)]}


def facts(_work: Work) -> Mapping:
    """What a number is."""
    return {"unit": "SDR in dB of spectrograms, every fourth frame, mean over songs and stems"}


EXPERIMENT = Experiment(
    name="classic_constants",
    what="a search for the constants of chapter 2's evidence, beside the shipped ones",
    topic="02_classic_separation",
    table="constants",
    settings=Settings(),
    prepare=_songs,
    run=score,
    stages=[lambda work: [Constants("found"), Constants("shipped")]],
    names=("found", "shipped"),
    facts=facts,
)
