"""A change of the band's sound or notes must raise GENERATOR_VERSION, or old and new songs would lie in one folder."""

import numpy as np
import pytest

from course_lib.data.band.composer import compose
from course_lib.data.band.mixer import mix
from course_lib.data.band.song import GENERATOR_VERSION

# Level of each stem in dB (root mean square over the whole song) as version 1 renders it: 6 s at 22,050 Hz.
LEVELS_OF_VERSION = {
    1: {
        3: {"drums": -23.14, "bass": -18.51, "piano": -22.85, "rest": -18.78, "vocals": -19.52},
        211: {"drums": -24.62, "bass": -24.73, "guitar": -28.65, "piano": -18.57, "rest": -21.87, "vocals": -21.04},
    },
}


def levels(seed: int) -> dict[str, float]:
    """The level in dB of each stem that sounds."""
    stems = mix(compose(seed, 6.0), 22050)
    return {name: round(10 * float(np.log10(np.mean(x.astype(np.float64) ** 2))), 2) for name, x in stems.items() if x.any()}


@pytest.mark.parametrize("seed", [3, 211])
def test_the_sound_is_that_of_its_version(seed):
    measured, known = levels(seed), LEVELS_OF_VERSION[GENERATOR_VERSION][seed]
    assert set(measured) == set(known) and all(abs(measured[stem] - known[stem]) < 0.1 for stem in known), (
        f"seed {seed} sounds different from version {GENERATOR_VERSION}: {measured}. If that is meant, raise GENERATOR_VERSION in "
        "course_lib/data/band/song.py and add its levels here")
