"""Steps per second of TagBox (chapter 14): excerpts, sizes and taggers at once, and one after the other.

    OMP_NUM_THREADS=1 uv run python benchmarks/tagbox_speed.py

Three ways, in turn, on the same excerpts, taggers and sizes; processor time of one thread is counted, after a warm-up
of each, and divided into steps of one excerpt:

- together: `steer` on all excerpts.
- plain: the same objective by loops: excerpt after excerpt, in every step size after size and tagger after tagger.
- separately: a run of its own for every excerpt, tagger and size, as one without a common loss would have it; the
  decoder works tagger x size times as often.

Writes data/results/14_tagbox/speed.csv, a row a number of excerpts, and its card.
"""

import argparse
import statistics
import time
from functools import partial

import torch
import torch.nn.functional as F

from course_lib.data.resampling import resample
from course_lib.jukebox import to_hops
from course_lib.results import Results, machine
from course_lib.tagbox import Loop, Quantiser, masked_audio, peaks_of, steer, tagger_rate, tags_of, target_of
from course_lib.taggers import tag
from course_lib.training import load_trained

SIZES, LR = (512, 1024), 1.0


def together(codec, taggers, targets, x: torch.Tensor, steps: int) -> torch.Tensor:
    """All at once; the losses, (step, batch, tagger, size)."""
    return steer(codec, taggers, x, targets, steps=steps, lr=LR, n_fft=SIZES, fill="repeat", text="").losses


def plain(codec, taggers, targets, x: torch.Tensor, steps: int) -> torch.Tensor:
    """The same, one after the other: the same losses, (step, batch, tagger, size), but for rounding."""
    rate, quantiser = codec.facts.rate, Quantiser(codec.bottleneck.level_blocks[0])
    loop, songs = Loop(codec, 0, quantiser), []
    for song in x.split(1):
        with torch.no_grad():
            heard = loop.through(to_hops(song / peaks_of(song), codec.hop_lengths[0]))
            z = loop.embed(heard)
        z.requires_grad_()
        adam, rows = torch.optim.Adam([z], lr=LR), []
        for _ in range(steps):
            J, losses = loop.sound(z), []
            for n_fft in SIZES:
                signal = masked_audio(heard, J, n_fft)
                for tagger, target in zip(taggers, targets):
                    given = tag(tagger, resample(signal, rate, tagger_rate(tagger)), fill="repeat")
                    losses.append(F.binary_cross_entropy(given, target[None]))
            adam.zero_grad()
            torch.stack(losses).mean().backward()
            adam.step()
            rows.append(torch.stack(losses).detach().view(len(SIZES), len(taggers)).T)
        songs.append(torch.stack(rows))
    return torch.stack(songs, 1)


def separately(codec, taggers, targets, x: torch.Tensor, steps: int) -> None:
    """A run for every excerpt, tagger and size."""
    for song in x.split(1):
        for tagger, target in zip(taggers, targets):
            for size in SIZES:
                steer(codec, [tagger], song, [target], steps=steps, lr=LR, n_fft=[size], fill="repeat", text="")


def seconds_of(way) -> float:
    began = time.process_time()
    way()
    return time.process_time() - began


def measure(codec, taggers, targets, excerpts: int, steps: int, turns: int) -> dict:
    """A row: steps of one excerpt per second of processor time by each way, medians over turns."""
    x = 0.3 * torch.randn(excerpts, codec.facts.rate, generator=torch.Generator().manual_seed(0))
    times = {way: [] for way in (together, plain, separately)}
    for way in times:
        way(codec, taggers, targets, x, 1)
    for _ in range(turns):
        for way, found in times.items():
            found.append(seconds_of(partial(way, codec, taggers, targets, x, steps)))
    done = {way.__name__: steps * excerpts / statistics.median(found) for way, found in times.items()}
    return {"excerpts": excerpts, "taggers": len(taggers), "sizes": len(SIZES), "seconds": 1.0,
            **{f"{way}_steps_per_second": f"{value:.2f}" for way, value in done.items()},
            "ratio_to_plain": f"{done['together'] / done['plain']:.2f}",
            "ratio_to_separately": f"{done['together'] / done['separately']:.2f}", "turns": turns, "steps": steps,
            "machine": machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--excerpts", type=int, nargs="+", default=[2, 4, 8])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codec = load_trained("jukebox_band").requires_grad_(False)
    taggers = [load_trained("tagger_band").requires_grad_(False) for _ in range(2)]
    targets = [target_of("drums", tags_of(tagger)) for tagger in taggers]
    results = Results("14_tagbox")
    for excerpts in arguments.excerpts:
        row = measure(codec, taggers, targets, excerpts, arguments.steps, arguments.turns)
        results.append("speed", [row], ["excerpts", "taggers", "sizes"])
        print(row, flush=True)
    results.write_card("speed", {
        "what": "steps of one excerpt per second of processor time: all at once, the same by loops, and separate runs",
        "command": "uv run python benchmarks/tagbox_speed.py", "tables": ["speed"]})


if __name__ == "__main__":
    main()
