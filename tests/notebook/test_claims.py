"""Verdicts on paper claims: one meaning each, and no table without them."""

import numpy as np
import pytest
import torch

from course_lib.notebook import claims
from course_lib.notebook.claims import (
    NEEDS_REAL_DATA,
    NOT_SEEN,
    REPRODUCED,
    SAME_TREND,
    Claim,
    difference_in_words,
    reproduced,
    same_trend,
    show_claims,
)


@pytest.mark.parametrize(
    "ours, paper, within, expected",
    [
        (5.61, 5.6, 0.05, REPRODUCED),
        (5.66, 5.6, 0.05, NOT_SEEN),
        (torch.tensor([0.0, -2e-6]), 0, 1e-5, REPRODUCED),
        ([0.0, 2e-5], 0, 1e-5, NOT_SEEN),
        (float("nan"), 0, 1, NOT_SEEN),
        ([], 0, 1, NOT_SEEN),
        (3, 3, 0, REPRODUCED),
        (torch.tensor(1.0, requires_grad=True), 1, 0, REPRODUCED),
        (float("inf"), 1, 1, NOT_SEEN),
    ],
)
def test_reproduced_is_a_number_within_its_tolerance(ours, paper, within, expected):
    assert reproduced(ours, paper, within) == expected


def test_a_tolerance_is_stated():
    with pytest.raises(ValueError, match="within is -1"):
        reproduced(1, 1, -1)
    with pytest.raises(ValueError, match="within is nan"):
        reproduced(1, 1, float("nan"))


def test_a_trend_needs_an_interval_that_excludes_zero():
    generator = np.random.default_rng(0)
    clear, unclear = generator.normal(1, 0.5, 20), generator.normal(0.1, 2, 20)
    assert unclear.mean() > 0, "the mean alone would do"
    assert same_trend(clear) == SAME_TREND and same_trend(-clear) == NOT_SEEN and same_trend(unclear) == NOT_SEEN
    assert same_trend(torch.tensor(clear)) == SAME_TREND
    assert same_trend(np.zeros(20)) == NOT_SEEN


def test_few_songs_cannot_tell():
    assert same_trend([1.0] * 5) == NEEDS_REAL_DATA and same_trend([1.0] * 6) == SAME_TREND
    assert same_trend([1.0] * 5 + [float("nan")] * 5) == NEEDS_REAL_DATA, "songs without a score don't count"
    assert same_trend([]) == same_trend(np.zeros((3, 0))) == same_trend(np.full(9, np.nan)) == NEEDS_REAL_DATA


def test_every_training_must_agree():
    by_seed = np.ones((3, 20)) + np.arange(20) / 100
    assert same_trend(by_seed) == SAME_TREND
    by_seed[2] -= 1.5  # one seed the other way: the mean over seeds alone would pass
    assert (by_seed.mean(0) > 0).all() and same_trend(by_seed) == NOT_SEEN
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3\)"):
        same_trend(np.ones((1, 2, 3)))


def test_chance_alone_is_seldom_called_a_trend():
    """Of differences without a mean, about 2.5% of the intervals lie above zero; the bootstrap's are narrow."""
    generator = np.random.default_rng(1)
    called = [same_trend(generator.normal(0, 1, 20)) == SAME_TREND for _ in range(200)]
    assert np.mean(called) <= 0.07


def test_differences_in_words():
    assert (
        difference_in_words([1.0] * 6) == "+1.00 dB [1.00, 1.00], 6 songs"
        and difference_in_words([-0.5]) == "-0.50 dB, 1 song"
    )
    assert difference_in_words([]) == difference_in_words([np.nan]) == "not run"
    assert difference_in_words(np.array([[1.0, np.nan], [3.0, 1.0]]), "points", 1) == "+2.0 points, 1 song"


def test_a_claim_has_a_source_a_section_and_a_verdict():
    good = dict(text="A beats B", source="C 1999", section="2.9", paper="order only", ours="+1 dB", verdict=SAME_TREND)
    Claim(**good), Claim(**{**good, "section": "2.5, 2.6"})
    for change, message in (
        ({"verdict": "same"}, "verdict of 'A beats B' is 'same'"),
        ({"section": "two"}, "section 'two'"),
        ({"text": ""}, "claim ''"),
        ({"source": ""}, "of ''"),
    ):
        with pytest.raises(ValueError, match=message):
            Claim(**{**good, **change})


def test_the_table_says_what_its_verdicts_mean(monkeypatch):
    shown = []
    monkeypatch.setattr(claims, "show_table", lambda *arguments: shown.append(arguments))
    show_claims([Claim("A beats B", "C 1999", "2.9", None, "+1 dB", same_trend(np.ones(6)))])
    [(rows, columns, caption)] = shown
    assert rows == [["A beats B", "C 1999", "2.9", None, "+1 dB", "same trend"]]
    assert columns == ("claim", "source", "section", "paper", "ours", "verdict")
    assert all(verdict in caption.lower() for verdict in claims.VERDICTS)
