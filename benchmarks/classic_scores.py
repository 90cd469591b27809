"""How far separation without learning gets: every method of chapter 2 on the band's test songs.

    uv run python benchmarks/classic_scores.py        # all 20 songs of 20 s; writes data/results/classic_scores.csv

Two kinds of SDR, both over the two channels together, in dB:

- `framewise`: of 1 s frames, the median over a song's frames (museval's SDR; frames with a silent stem left out),
- `whole_song`: of the whole song at once (utterance SDR, as in the newer challenges).

Of each, the mean over the songs with its 95% bootstrap interval, and for comparison with SiSEC's tables the median.
The row `ideal ratio mask` has seen the stems (the exponent is 2, the frames are those of the methods); `mixture` is
a quarter of the mixture. A stem that is silent in a whole song has no SDR there and is left out.
"""

import argparse
import csv
import datetime
import time
from pathlib import Path

import torch
from torch import Tensor

from course_lib.classic import METHODS, separate_unsupervised
from course_lib.data import STEMS, open_tracks
from course_lib.notebook import mean_interval, median_interval
from course_lib.spectral import apply_mask, framewise_sdr, ideal_ratio_mask, istft, stft

TABLE = Path(__file__).resolve().parents[1] / "data" / "results" / "classic_scores.csv"
COMMAND = "uv run python benchmarks/classic_scores.py"
ORACLE = "ideal ratio mask"
COLUMNS = ("method", "score", "stem", "mean_db", "low_db", "high_db", "median_db", "songs", "seconds", "seconds_per_song",
           "command", "date")


def whole_song_sdr(estimates: Tensor, references: Tensor) -> Tensor:
    """10 log10 |s|^2 / |s - estimate|^2 over channels and time, NaN for a silent stem: (stem,)."""
    signal, error = (references ** 2).sum((1, 2)), ((references - estimates) ** 2).sum((1, 2))
    return torch.where(signal > 0, 10 * torch.log10(signal / error), torch.nan)


def estimate(method: str, sources: Tensor, rate: int) -> Tensor:
    """What a method makes of the sum of the sources, (4, channels, time); only the oracle looks at them."""
    if method == ORACLE:
        S = stft(sources, 4096)
        return istft(apply_mask(ideal_ratio_mask(S, 2.0), S.sum(0)), 4096, length=sources.shape[-1])
    return separate_unsupervised(sources.sum(0), rate, method)


def measure(songs: int, source: str, root: str | None) -> list[dict]:
    """The rows of the table, one a method, kind of score and stem."""
    tracks = open_tracks(source, "test", count=songs or None, root=root)
    scores: dict = {(method, kind): [] for method in (*METHODS, ORACLE) for kind in ("framewise", "whole_song")}
    seconds = dict.fromkeys((*METHODS, ORACLE), 0.0)
    for number, track in enumerate(tracks, 1):
        sources = track.sources(STEMS)
        for method in seconds:
            start = time.process_time()
            estimates = estimate(method, sources, track.rate)
            seconds[method] += time.process_time() - start
            scores[method, "whole_song"].append(whole_song_sdr(estimates, sources))
            scores[method, "framewise"].append(framewise_sdr(estimates, sources, track.rate).nanquantile(0.5, dim=-1))
        print(f"{number}/{len(tracks)} {track.name}", flush=True)
    length = f"{sum(track.seconds for track in tracks) / len(tracks):.0f}"
    rows = []
    for (method, kind), by_song in scores.items():
        table = torch.stack(by_song)                                  # (song, stem)
        for stem, column in zip((*STEMS, "mean"), (*table.T, table.nanmean(1))):
            mean, low, high = (f"{value:.2f}" for value in mean_interval(column))
            rows.append(dict(zip(COLUMNS, (method, kind, stem, mean, low, high, f"{median_interval(column)[0]:.2f}",
                                           len(tracks), length, f"{seconds[method] / len(tracks):.1f}", COMMAND,
                                           datetime.date.today().isoformat()))))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Score chapter 2's methods on test songs.")
    parser.add_argument("--songs", type=int, default=0, help="only the first so many songs, printed and not written")
    parser.add_argument("--source", default="band", help="as in open_tracks; another than the band is printed only")
    parser.add_argument("--root", default=None, help="where that data set lies")
    arguments = parser.parse_args()
    rows = measure(arguments.songs, arguments.source, arguments.root)
    for row in rows:
        if row["stem"] == "mean":
            print(f"{row['method']:18} {row['score']:11} mean {row['mean_db']} [{row['low_db']}, {row['high_db']}] dB")
    if arguments.songs or arguments.source != "band":
        return
    with TABLE.open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
