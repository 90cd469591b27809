"""A search for the fourteen constants of chapter 2's "all the evidence" on the band's training songs.

    uv run python benchmarks/classic_constants.py      # two minutes; writes data/results/classic_constants.csv

Ten seconds of every third training song and of all validation songs. The constants of `course_lib.classic.EVIDENCE`
(and the share that is spread evenly) move by gradient descent on the mean SDR of the training songs, from a plain
start; the validation songs are only looked at. The SDR is that of the spectrograms, every fourth frame of them: for a
mask M on the mixture X its error is |S|^2 - 2 M Re(S X*) + M^2 |X|^2, so the sounds themselves aren't needed. The
shipped constants come from an earlier search of this kind, of which no log was kept; this one ends at other values and
scores them beside the shipped ones.
"""

import argparse
import csv
import math

import torch
from torch import Tensor

from course_lib.classic import EVIDENCE, SHRINK, evidence_masks, evidence_of
from course_lib.data import STEMS, Track, open_tracks
from course_lib.paths import repository_root
from course_lib.spectral import fft_frequencies, stft

N_FFT, EVERY = 4096, 4
HERTZ = ("low", "high", "voice_from", "voice_to")         # searched on a logarithmic scale
START = dict(drums_slope=2.0, drums_start=0.0, drums_low=0.0, drums_high=0.0, low=200.0, high=4000.0, voice_start=0.0,
             voice_repeats=0.0, voice_similar=0.0, voice_percussive=0.0, voice_from=200.0, voice_to=4000.0, voice_edges=2.0)


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
    return {"evidence": {name: values[..., ::EVERY].clone() for name, values in evidence.items()},
            "own": (S.abs() ** 2).sum((1, 2, 3)), "common": (S * X.conj()).real, "mixture": X.abs() ** 2}


def sdr(song: dict, frequencies: Tensor, constants: dict, shrink: Tensor) -> Tensor:
    """SDR in dB of each stem: (4,)."""
    masks = (1 - shrink) * evidence_masks(song["evidence"], frequencies, constants) + shrink / 4
    error = song["own"] + (masks ** 2 * song["mixture"] - 2 * masks * song["common"]).sum((1, 2, 3))
    return 10 * torch.log10(song["own"].clamp_min(1e-9) / error.clamp_min(1e-9))


def main() -> None:
    parser = argparse.ArgumentParser(description="Search the constants of chapter 2's evidence on training songs.")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--songs", type=int, default=20, help="training songs (default: 20, every third)")
    arguments = parser.parse_args()
    train, valid = open_tracks("band", "train")[::3][:arguments.songs], open_tracks("band", "valid")
    frequencies = fft_frequencies(N_FFT, train[0].rate)
    songs = {"train": [read(track) for track in train], "valid": [read(track) for track in valid]}
    free = {name: torch.tensor(math.log2(value) if name in HERTZ else value, requires_grad=True) for name, value in START.items()}
    logit = torch.tensor(-2.0, requires_grad=True)                    # of the share that is spread evenly
    optimizer, generator = torch.optim.Adam([*free.values(), logit], 0.05), torch.Generator().manual_seed(0)

    def constants() -> dict:
        return {name: 2 ** value if name in HERTZ else value for name, value in free.items()}

    @torch.no_grad()
    def report(title: str, chosen: dict, shrink: Tensor) -> dict:
        means = {split: torch.stack([sdr(song, frequencies, chosen, shrink) for song in some]).mean(0) for split, some in songs.items()}
        print(f"{title}:", *(f"{split} {values.mean():.2f} dB ({', '.join(f'{value:.1f}' for value in values)})"
                             for split, values in means.items()), flush=True)
        return {"constants": title, **{f"{split}_songs": len(some) for split, some in songs.items()},
                **{f"{split}_db": f"{values.mean():.3f}" for split, values in means.items()},
                **{name: f"{float(value):.4g}" for name, value in {**chosen, "even_share": shrink}.items()}}

    for step in range(arguments.steps):
        if step % 60 == 0:
            report(f"step {step:4}", constants(), torch.sigmoid(logit))
        optimizer.zero_grad()
        chosen = torch.randint(len(train), (4,), generator=generator).tolist()
        scores = [sdr(songs["train"][i], frequencies, constants(), torch.sigmoid(logit)).mean() for i in chosen]
        (-sum(scores) / len(scores)).backward()
        optimizer.step()
    rows = [report("found", constants(), torch.sigmoid(logit)), report("shipped", EVIDENCE, torch.tensor(SHRINK["evidence"]))]
    with (repository_root() / "data" / "results" / "classic_constants.csv").open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
