"""The listening test and the analysis of its ratings. All ratings here are made up BY THE TESTS, from formulas:
nobody heard anything.
"""

import csv
import itertools
import math

import ipywidgets
import numpy as np
import pytest
import scipy.stats
import torch

from course_lib.notebook import listening
from course_lib.notebook.listening import (
    REFERENCE,
    ListeningTest,
    Rating,
    available_ratings,
    correlate,
    mean_ratings,
    presentation_order,
    read_ratings,
    screen_raters,
    spearman,
    write_ratings,
)

RATE = 8000
CONDITIONS = (REFERENCE, "soft mask", "hard mask", "anchor")


def sounds(level=0.5):
    return {name: level * torch.sin(0.1 * (k + 1) * torch.arange(RATE // 4)) for k, name in enumerate(CONDITIONS)}


def items(count=3):
    return {f"song {k}": sounds() for k in range(count)}


def synthetic_ratings(raters=5, songs=4, spread=5.0, seed=0):
    """Made-up ratings whose truth is known: the reference about 97,
    the others falling with their place in CONDITIONS.
    """
    generator = np.random.default_rng(seed)
    truth = {REFERENCE: 97, "soft mask": 75, "hard mask": 45, "anchor": 20}
    return [
        Rating(
            f"synthetic {r}", f"song {k}", name, float(np.clip(value + spread * generator.standard_normal(), 0, 100))
        )
        if name != REFERENCE
        else Rating(f"synthetic {r}", f"song {k}", name, 97.0)
        for r, k, (name, value) in itertools.product(range(raters), range(songs), truth.items())
    ]


# --- the order ------------------------------------------------------------------------------------------------------

def test_order_is_random_by_rater_and_seed_and_complete():
    table = {f"song {k}": CONDITIONS for k in range(6)}
    pages = presentation_order(table, "anna", seed=1)
    assert pages == presentation_order(table, "anna", seed=1)
    assert pages != presentation_order(table, "ben", seed=1) and pages != presentation_order(table, "anna", seed=2)
    assert sorted(item for item, _ in pages) == sorted(table) and all(sorted(c) == sorted(CONDITIONS) for _, c in pages)


def test_no_condition_has_a_favourite_place():
    places = [presentation_order({"song": CONDITIONS}, str(rater))[0][1].index(REFERENCE) for rater in range(400)]
    assert np.bincount(places, minlength=4).min() > 60, "each of the four places about a hundred times"


# --- the test and its file ------------------------------------------------------------------------------------------

def rated(path, rater="anna", **options):
    test = ListeningTest(items(), RATE, path, rater=rater, **options)
    for number, (item, conditions) in enumerate(test.pages):
        for place, condition in enumerate(conditions):
            test.rate_condition(item, condition, 10 * number + place)
    return test


def test_ratings_come_back_from_the_file(tmp_path):
    path = tmp_path / "new folder" / "ratings.csv"
    test = rated(path)
    assert test.save() == path
    ratings = read_ratings(path)
    assert len(ratings) == 12 and {rating.rater for rating in ratings} == {"anna"}
    assert {(r.item, r.condition): r.rating for r in ratings} == {
        (item, condition): value for item, own in test.ratings.items() for condition, value in own.items()}
    assert path.read_text(encoding="utf8").splitlines()[0] == "rater,item,condition,rating"
    assert [p.name for p in path.parent.iterdir()] == ["ratings.csv"], "no part of a file is left"


def test_a_second_rater_is_added_and_a_second_try_replaces(tmp_path):
    path = tmp_path / "ratings.csv"
    rated(path).save()
    rated(path, "ben").save()
    again = rated(path)
    again.rate_condition("song 0", "soft mask", 77)
    again.save()
    ratings = read_ratings(path)
    assert len(ratings) == 24
    assert [r.rating for r in ratings if r[:3] == ("anna", "song 0", "soft mask")] == [77]


def test_half_a_test_is_not_saved(tmp_path):
    test = ListeningTest(items(), RATE, tmp_path / "r.csv", rater="anna")
    test.rate_condition("song 1", "hard mask", 3)
    assert test.missing() == {"song 0": 4, "song 1": 3, "song 2": 4}
    with pytest.raises(ValueError, match="missing"):
        test.save()
    assert not (tmp_path / "r.csv").exists()


@pytest.mark.parametrize("bad,words", [
    ({}, "empty"), ({"a": {"soft mask": torch.zeros(9), "hard mask": torch.zeros(9)}}, "reference"),
    ({"a": {"reference": torch.zeros(9)}}, "reference"),
    ({"a": {"reference": torch.zeros(9), "soft mask": torch.zeros(8)}}, "shapes"),
    ({"a": {"reference": torch.zeros(9), "soft mask": torch.full((9,), math.nan)}}, "NaN|nan|finite")])
def test_bad_items(bad, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        ListeningTest(bad, RATE, tmp_path / "r.csv", rater="anna")


def test_bad_raters_and_ratings(tmp_path):
    with pytest.raises(ValueError, match="rater"):
        ListeningTest(items(), RATE, tmp_path / "r.csv", rater=" ")
    test = ListeningTest(items(), RATE, tmp_path / "r.csv", rater="anna")
    for arguments in (("song 0", "soft mask", 101), ("song 0", "nobody", 50), ("song 9", "soft mask", 50)):
        with pytest.raises(ValueError):
            test.rate_condition(*arguments)


# --- the widget, without a browser ----------------------------------------------------------------------------------

@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: outputs.append(data))
    return outputs


def widgets_in(box):
    yield box
    for child in getattr(box, "children", ()):
        yield from widgets_in(child)


def test_widget_walks_through_the_pages_and_saves(tmp_path, shown, monkeypatch):
    monkeypatch.delenv("COURSE_EXECUTING", raising=False)
    test = ListeningTest(items(2), RATE, tmp_path / "r.csv", rater="anna")
    test._repr_mimebundle_()
    [box] = shown
    everything = list(widgets_in(box))
    assert sum(isinstance(w, ipywidgets.Audio) for w in everything) == 5, "the open reference and four letters"
    assert [w.description for w in everything if isinstance(w, ipywidgets.IntSlider)] == ["A", "B", "C", "D"]
    for word in CONDITIONS[1:]:
        assert not any(word in str(getattr(w, name, "")) for w in everything for name in ("description", "value")
                       if not isinstance(w, ipywidgets.Audio)), "no name betrays a condition"
    test._next.click()
    assert test.page == 0 and "4 sliders" in test._message.value
    for page in range(2):
        for number, slider in enumerate(test.sliders.values()):
            slider.value = 20 * (number + 1)
        assert test._next.description == ("Next" if page == 0 else "Save")
        test._next.click()
    assert "Saved to r.csv" in test._message.value and len(read_ratings(tmp_path / "r.csv")) == 8
    test._back.click()
    assert test.page == 0 and [slider.value for slider in test.sliders.values()] == [20, 40, 60, 80], "ratings stay"


def test_a_rating_of_zero_counts_once_the_slider_has_moved(tmp_path, shown, monkeypatch):
    monkeypatch.delenv("COURSE_EXECUTING", raising=False)
    test = ListeningTest(items(1), RATE, tmp_path / "r.csv", rater="anna")
    test._repr_mimebundle_()
    slider = next(iter(test.sliders.values()))
    slider.value = 5
    slider.value = 0
    assert test.missing() == {"song 0": 3}


def test_only_widgets_of_both_versions_are_used():
    """Names and arguments that ipywidgets 7.7 (Colab) and 8 share; 8 alone knows e.g. `Button.style.text_color`."""
    for name in ("VBox", "HBox", "HTML", "Label", "Button", "Audio", "IntSlider", "Layout"):
        assert hasattr(ipywidgets, name)


def test_loud_sounds_of_one_item_are_turned_down_alike(tmp_path):
    loud = {**sounds(0.5), "hard mask": 2 * torch.ones(RATE // 4)}
    test = ListeningTest({"a": loud}, RATE, tmp_path / "r.csv", rater="anna")
    played = test._playable("a")
    factors = {name: np.abs(played[name]).max() / float(loud[name].abs().max()) for name in played}
    assert max(np.abs(x).max() for x in played.values()) <= 1 and np.ptp(list(factors.values())) < 1e-6


def test_stored_form_has_players_and_no_names(tmp_path, shown, monkeypatch):
    monkeypatch.setenv("COURSE_EXECUTING", "1")
    test = ListeningTest(items(2), RATE, tmp_path / "r.csv", rater="anna")
    page = test._repr_mimebundle_()
    assert not shown and page["text/html"].count("<audio") == 5 and listening.RUN_NOTE in page["text/html"]
    assert not any(name in page["text/html"] for name in CONDITIONS[1:])
    assert page["text/plain"] == "listening test: 2 items, 4 sounds each to rate"


# --- reading ratings ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text,words", [
    ("rater,item,rating\na,b,3\n", "condition"), ("rater,item,condition,rating\na,b,c,120\n", "line 2"),
    ("rater,item,condition,rating\na,b,c,\n", "line 2"), ("rater,item,condition,rating\na,b,c,1\n,b,c,1\n", "line 3"),
    ("rater,item,condition,rating\na,b,c,1\na,b,c,2\n", "line 2 already"), ("", "no columns")])
def test_bad_files(tmp_path, text, words):
    (tmp_path / "r.csv").write_text(text, encoding="utf8")
    with pytest.raises(ValueError, match=words):
        read_ratings(tmp_path / "r.csv")


def test_files_from_elsewhere(tmp_path):
    path = tmp_path / "theirs.csv"
    with path.open("w", encoding="utf8", newline="") as file:           # another order, another column
        table = csv.writer(file)
        table.writerows([["item", "comment", "rating", "rater", "condition"], ["song", "hm", "12.5", "a", "soft mask"]])
    assert read_ratings(path) == [Rating("a", "song", "soft mask", 12.5)]
    with pytest.raises(FileNotFoundError, match="rater, item, condition, rating"):
        read_ratings(tmp_path / "none.csv")


def test_no_ratings_where_there_is_no_file_and_none_while_a_notebook_is_stored(tmp_path, monkeypatch):
    monkeypatch.delenv("COURSE_EXECUTING", raising=False)
    path = tmp_path / "r.csv"
    assert available_ratings(path) == []
    write_ratings(path, synthetic_ratings(1, 1))
    assert len(available_ratings(path)) == 4
    monkeypatch.setenv("COURSE_EXECUTING", "1")
    assert available_ratings(path) == []


# --- what ratings say -----------------------------------------------------------------------------------------------

def test_screening():
    def hidden(rater, values):
        return [Rating(rater, f"song {k}", REFERENCE, value) for k, value in enumerate(values)]
    careful, once = hidden("careful", [100] * 7), hidden("once", [50] + [95] * 6)             # 1 of 7 is 14%
    twice, never = hidden("twice", [50, 60] + [95] * 5), [Rating("never", "song 0", "soft mask", 50)]
    kept, out = screen_raters(careful + once + twice + never)
    assert out == ["never", "twice"] and {rating.rater for rating in kept} == {"careful", "once"}
    assert screen_raters(hidden("edge", [90] * 3))[1] == [], "ninety is not below ninety"
    assert screen_raters([]) == ([], [])


def test_mean_ratings():
    ratings = [Rating("a", "s", "x", 10), Rating("b", "s", "x", 20), Rating("a", "s", "y", 5)]
    assert mean_ratings(ratings) == {("s", "x"): 15, ("s", "y"): 5}


def test_correlation_equals_scipy_and_finds_what_was_put_in():
    ratings = synthetic_ratings(songs=6)
    generator = np.random.default_rng(1)
    truth = {"soft mask": 12.0, "hard mask": 6.0, "anchor": 0.0}
    scores = {
        (f"song {k}", name): value + generator.standard_normal() for k in range(6) for name, value in truth.items()
    }
    scores |= {(f"song {k}", REFERENCE): math.inf for k in range(6)}
    result = correlate(ratings, scores)
    means = mean_ratings(ratings)
    pairs = [(means[key], value) for key, value in scores.items() if math.isfinite(value)]
    assert (result.pairs, result.items, result.raters) == (18, 6, 5)
    assert math.isclose(result.pearson[0], scipy.stats.pearsonr(*zip(*pairs)).statistic, rel_tol=1e-9)
    assert math.isclose(result.spearman[0], scipy.stats.spearmanr(*zip(*pairs)).statistic, rel_tol=1e-9)
    for value, low, high in (result.pearson, result.spearman):
        assert 0.8 < low <= value <= high <= 1
    assert correlate(ratings, scores) == result, "the same seed, the same interval"


def test_a_metric_that_knows_nothing_has_an_interval_around_zero():
    ratings = synthetic_ratings(songs=12)
    generator = np.random.default_rng(3)
    blind = {(f"song {k}", name): generator.standard_normal() for k in range(12) for name in CONDITIONS[1:]}
    value, low, high = correlate(ratings, blind).pearson
    assert low < 0 < high and abs(value) < 0.5


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Made-up songs with a known correlation; the percentile bootstrap on 20 items is a little too narrow,
    not by much.
    """
    inside, rho = 0, 0.6
    for trial in range(100):
        generator = np.random.default_rng(trial)
        xy = generator.multivariate_normal([50, 0], [[100, rho * 10], [rho * 10, 1]], size=20)
        ratings = [
            Rating("synthetic", f"song {k}", "soft mask", float(np.clip(x, 0, 100))) for k, (x, _) in enumerate(xy)
        ]
        scores = {(f"song {k}", "soft mask"): float(y) for k, (_, y) in enumerate(xy)}
        _, low, high = correlate(ratings, scores, resamples=300).pearson
        inside += low <= rho <= high
    assert 84 <= inside <= 99


def test_too_little_to_correlate():
    ratings = synthetic_ratings(1, 1)
    scores = {("song 0", name): float(k) for k, name in enumerate(CONDITIONS[1:])}
    result = correlate(ratings, scores)
    assert result.items == 1 and math.isnan(result.pearson[1]) and not math.isnan(result.pearson[0])
    with pytest.raises(ValueError, match="agree"):
        correlate(ratings, {("another song", "soft mask"): 1.0})
    constant = {key: 3.0 for key in scores}
    assert math.isnan(correlate(ratings, constant).spearman[0])


def test_spearman_with_ties():
    x, y = [1, 2, 2, 3, 5], [10, 20, 15, 15, 90]
    assert math.isclose(spearman(x, y), scipy.stats.spearmanr(x, y).statistic)
