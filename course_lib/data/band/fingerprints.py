"""Which recordings two sources of sounds have in common: soundfonts and kits copy from one another without a word.

    fingerprints(find_sound("timgm6mb")) & fingerprints(find_sound("gmbank"))      # two files, many common recordings

Files that differ can hold the same recordings, so hashes of files do not keep a held-out world held out. A recording's
fingerprint is a hash of its first sound, independent of its level and of what precedes it; copies that were resampled
or equalised are not recognised.
"""

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from course_lib.data.band.drum_kits import read_beginning, read_kit
from course_lib.data.band.gus_patches import read_patch
from course_lib.data.band.sampler import SoundFont

POINTS = 1024               # length of what is compared
ONSET = 0.05                # share of the recording's peak at which its sound begins
LEVELS = 127                # steps from silence to the peak, so that a copy's rounding does not count
SHORTEST = 256              # recordings with fewer points after the onset are left out: single waves of synthesisers


def fingerprints(path: Path | str, left_out: Collection[int] = ()) -> set[str]:
    """The fingerprints of all recordings of a soundfont, a folder of patches or a drum kit.

    left_out: programs of a folder of patches that are not played (`Sound.left_out`).
    """
    return {mark for points in _recordings(Path(path), left_out) if (mark := fingerprint(points)) is not None}


def fingerprint(points: np.ndarray) -> str | None:
    """The hash of a recording, (time,) floats; None where it is silent or too short to tell."""
    peak = float(np.abs(points).max()) if len(points) else 0.0
    if peak == 0:
        return None
    first = int(np.argmax(np.abs(points) > ONSET * peak))
    start = points[first:first + POINTS]
    if len(start) < SHORTEST:
        return None
    steps = np.rint(start * (LEVELS / np.abs(start).max())).astype(np.int8)
    return hashlib.sha256(steps.tobytes()).hexdigest()[:16]


def _recordings(path: Path, left_out: Collection[int]) -> Iterator[np.ndarray]:
    """Every recording of a source as (time,) float32."""
    if path.is_file():
        yield from SoundFont(path).recordings()
    elif (path / "drumkit.xml").is_file():
        layers = {layer.path for instrument in read_kit(path) for layer in instrument.layers}
        for layer in sorted(layers):
            yield from read_beginning(layer)[0]
    else:
        melodic = {f"{program:03d}_" for program in left_out}
        for patch in sorted(path.rglob("*.pat")):
            if patch.parent.name == "Tone_000" and patch.name[:4] in melodic:
                continue
            yield from (sample.points for sample, _ in read_patch(patch))
