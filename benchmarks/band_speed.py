"""How fast and how large the band renders: seconds of music per second of processor time, and peak memory.

    OMP_NUM_THREADS=1 uv run python benchmarks/band_speed.py

Every song is composed and mixed to six stems at 44.1 kHz stereo; nothing is written to disk. Processor time (user and
system) is counted rather than the clock's, so that other programs on the machine disturb the figure less; with several
threads it would still count all of them.
"""

import argparse
import json
import re
import resource
import sys
import time
from pathlib import Path

from course_lib.data.band.composer import compose
from course_lib.data.band.mixer import mix


def peak_megabytes() -> float:
    """The most memory this program has held.

    Linux: VmHWM, as ru_maxrss there starts with the peak of the process that started this one. macOS counts bytes.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return int(re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)[1]) / 2 ** 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** 20 if sys.platform == "darwin" else peak / 2 ** 10


def measure(songs: int, seconds: float, rate: int, first_seed: int) -> dict[str, float]:
    """Compose and mix `songs` songs, after one that warms the caches up."""
    mix(compose(first_seed, 2.0), rate)
    clock, composing, mixing = time.perf_counter(), 0.0, 0.0
    for seed in range(first_seed, first_seed + songs):
        start = time.process_time()
        song = compose(seed, seconds)
        composed = time.process_time()
        mix(song, rate)
        composing, mixing = composing + composed - start, mixing + time.process_time() - composed
    music = songs * seconds
    return {"songs": songs, "music_s": music, "rate": rate, "compose_cpu_s": composing, "mix_cpu_s": mixing,
            "clock_s": time.perf_counter() - clock, "realtime_mix_only": music / mixing,
            "realtime_per_core": music / (composing + mixing), "peak_mb": peak_megabytes()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast the band renders.")
    parser.add_argument("--songs", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a song (default: 20)")
    parser.add_argument("--rate", type=int, default=44100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures as one line of JSON")
    arguments = parser.parse_args()
    figures = measure(arguments.songs, arguments.seconds, arguments.rate, arguments.first_seed)
    if arguments.json:
        print(json.dumps(figures))
        return
    print("music                   {music_s:8.0f} s  ({songs} songs at {rate} Hz, stereo, six stems)\n"
          "processor time, compose {compose_cpu_s:8.2f} s\n"
          "processor time, mix     {mix_cpu_s:8.2f} s\n"
          "clock                   {clock_s:8.2f} s\n"
          "times real time         {realtime_per_core:8.1f} per core, composing included\n"
          "                        {realtime_mix_only:8.1f} per core, mix only\n"
          "peak memory             {peak_mb:8.0f} MB".format(**figures))


if __name__ == "__main__":
    main()
