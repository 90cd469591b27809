"""Scores of chapter 4's Open-Unmix on the band's test songs, beside its bounds: data/results/open_unmix_scores.csv.

    uv run python benchmarks/open_unmix_scores.py

Twenty whole songs of 20 s, twice: as the band plays them, and on the instruments of another soundfont (FluidR3, which
is not installed everywhere: `apt install fluid-soundfont-gm`; without it only the first set is scored). A row is one
song, one method and one kind of score, in dB per stem:

- "song": SDR of the whole song, both channels (`course_lib.metrics.utterance_sdr`; chapter 3),
- "frames, mean" and "frames, median": of museval's SDR in frames of 1 s (`course_lib.spectral.framewise_sdr`).

Rows that are in the file already are kept where they rest on the same weights (the first digits of their SHA-256 are
in the last column); `--afresh` measures all. `--weights` scores other weights.
"""

import argparse
import csv
from pathlib import Path

import torch
from safetensors.torch import load_file

from course_lib.classic import separate_unsupervised
from course_lib.data import STEMS, Track, open_tracks
from course_lib.data.band.soundfonts import file_sha256, find_fluid_soundfont
from course_lib.metrics import utterance_sdr
from course_lib.notebook import progress
from course_lib.open_unmix import JointOpenUnmix, separate
from course_lib.spectral import apply_mask, framewise_sdr, ideal_ratio_mask, istft, stft

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "data" / "checkpoints" / "open_unmix_band.safetensors"
RESULTS = ROOT / "data" / "results" / "open_unmix_scores.csv"
COLUMNS = ("set", "song", "method", "score", *STEMS, "weights")


def load_model(path: Path) -> JointOpenUnmix:
    """The committed network, in evaluation mode."""
    model = JointOpenUnmix(nb_bins=2049, max_bin=1025, hidden_size=256)
    model.load_state_dict(load_file(path))
    return model.eval()


def oracle(references: torch.Tensor) -> torch.Tensor:
    """The ideal ratio mask (p = 2) on the mixture."""
    S = stft(references, 4096, 1024)
    return istft(apply_mask(ideal_ratio_mask(S), S.sum(0)), 4096, 1024, references.shape[-1])


# method -> (model, references (source, channel, time), rate) to estimates of that shape
METHODS = {
    "mixture / 4": lambda model, references, rate: (references.sum(0) / 4).expand_as(references),
    "chapter 2's best": lambda model, references, rate: separate_unsupervised(references.sum(0), rate),
    "Open-Unmix": lambda model, references, rate: separate(model, references.sum(0)),
    "Open-Unmix, EM": lambda model, references, rate: separate(model, references.sum(0), niter=1),
    "ideal ratio mask": lambda model, references, rate: oracle(references),
}


def scores_of(estimates: torch.Tensor, references: torch.Tensor, rate: int) -> dict[str, torch.Tensor]:
    """The three kinds of score, (source,) each; NaN for a silent stem."""
    frames = framewise_sdr(estimates, references, rate)
    silent = references.square().sum((1, 2)) == 0
    return {"song": torch.where(silent, torch.nan, utterance_sdr(estimates, references)),
            "frames, mean": frames.nanmean(-1), "frames, median": frames.nanquantile(0.5, dim=-1)}


@torch.no_grad()
def score(name: str, tracks: list[Track], model: JointOpenUnmix | None, weights: str, known: dict[tuple, list[dict]],
          ) -> list[dict]:
    """One row a song, method and kind of score; known: rows of an earlier run by (set, song, method, weights).

    model: None for the methods that need none.
    """
    rows = []
    for track in progress(tracks, name):
        references = track.sources(STEMS)
        for method, separator in METHODS.items():
            ours = method.startswith("Open-Unmix")
            of = weights if ours else ""
            if (name, track.name, method, of) in known:
                rows += known[name, track.name, method, of]
                continue
            if ours and model is None:
                continue
            for kind, values in scores_of(separator(model, references, track.rate), references, track.rate).items():
                rows.append({"set": name, "song": track.name, "method": method, "score": kind,
                             **{stem: f"{value:.3f}" for stem, value in zip(STEMS, values.tolist())}, "weights": of})
    return rows


def read_known(path: Path) -> dict[tuple, list[dict]]:
    """The rows of a results file, grouped by what they were measured on."""
    known: dict[tuple, list[dict]] = {}
    if path.is_file():
        with path.open(encoding="utf8", newline="") as file:
            for row in csv.DictReader(file):
                known.setdefault((row["set"], row["song"], row["method"], row["weights"]), []).append(row)
    return known


def summary(rows: list[dict]) -> None:
    """Print the mean over songs of every set, method and kind of score."""
    for name, method, kind in dict.fromkeys((row["set"], row["method"], row["score"]) for row in rows):
        chosen = [row for row in rows if (row["set"], row["method"], row["score"]) == (name, method, kind)]
        means = torch.tensor([[float(row[stem]) for stem in STEMS] for row in chosen]).nanmean(0)
        print(f"{name:18s} {method:22s} {kind:15s} mean {means.mean():5.2f}  "
              + "  ".join(f"{stem} {value:5.2f}" for stem, value in zip(STEMS, means.tolist())))


def main() -> None:
    parser = argparse.ArgumentParser(description="Score chapter 4's Open-Unmix on the band's test songs.")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--bounds-only", action="store_true", help="leave out what needs the weights")
    parser.add_argument("--songs", type=int, default=20)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--afresh", action="store_true", help="keep no row of the file that is there")
    arguments = parser.parse_args()
    model = None if arguments.bounds_only else load_model(arguments.weights)
    digits = "" if arguments.bounds_only else file_sha256(arguments.weights)[:8]
    known = {} if arguments.afresh else read_known(arguments.output)
    rows = score("band", open_tracks("band", "test", count=arguments.songs), model, digits, known)
    try:
        font = find_fluid_soundfont()
    except FileNotFoundError as error:
        print(f"other instruments are left out: {error}")
    else:
        tracks = open_tracks("band", "test", count=arguments.songs, soundfont=font)
        rows += score("other instruments", tracks, model, digits, known)
    with arguments.output.open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    summary(rows)


if __name__ == "__main__":
    main()
