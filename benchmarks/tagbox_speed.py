"""Steps per second of TagBox (chapter 14): excerpts, sizes and taggers at once, and one after the other.

    OMP_NUM_THREADS=1 uv run python benchmarks/tagbox_speed.py

Both ways steer the same excerpts by the same taggers, in turn; processor time of one thread is counted, after a warm-up
of each, and divided into steps of one excerpt. Writes data/results/14_tagbox/speed.csv and its card.
"""

import argparse
import statistics
import time

import torch

from course_lib.results import Results, machine
from course_lib.tagbox import steer, tags_of, target_of
from course_lib.training import load_trained

SIZES = (512, 1024)


def seconds_of(codec, taggers, x: torch.Tensor, steps: int, batched: bool) -> float:
    """Processor seconds of `steps` steps of all excerpts with all taggers and sizes."""
    targets = [target_of("drums", tags_of(tagger)) for tagger in taggers]
    options = dict(steps=steps, lr=1.0, fill="repeat", text="")
    began = time.process_time()
    if batched:
        steer(codec, taggers, x, targets, n_fft=SIZES, **options)
    else:
        for song in x:
            for tagger, target in zip(taggers, targets):
                for size in SIZES:
                    steer(codec, [tagger], song[None], [target], n_fft=[size], **options)
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--excerpts", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    codec = load_trained("jukebox_band").requires_grad_(False)
    taggers = [load_trained("tagger_band").requires_grad_(False) for _ in range(2)]
    x = 0.3 * torch.randn(arguments.excerpts, 22_050, generator=torch.Generator().manual_seed(0))
    for batched in (True, False):
        seconds_of(codec, taggers, x, 1, batched)
    times = {True: [], False: []}
    for _ in range(arguments.turns):
        for batched, found in times.items():
            found.append(seconds_of(codec, taggers, x, arguments.steps, batched))
    done = arguments.steps * arguments.excerpts
    together, plain = (done / statistics.median(times[batched]) for batched in (True, False))
    row = {"excerpts": arguments.excerpts, "taggers": len(taggers), "sizes": len(SIZES), "seconds": 1.0,
           "steps_per_second": f"{together:.2f}", "plain_steps_per_second": f"{plain:.2f}",
           "ratio": f"{together / plain:.2f}", "turns": arguments.turns, "machine": machine()}
    results = Results("14_tagbox")
    results.append("speed", [row], ["excerpts", "taggers", "sizes"])
    results.write_card("speed", {
        "what": "steps of one excerpt per second of processor time, all at once and one after the other",
        "command": "uv run python benchmarks/tagbox_speed.py", "tables": ["speed"]})
    print(row)


if __name__ == "__main__":
    main()
