"""Chapter 20's songs, questions and runs in miniature, on songs of noise."""

import pytest
import torch

from course_lib.data import Track
from course_lib.data.tracks import SIX_STEMS
from course_lib.experiments import query as experiment
from course_lib.experiments.query import Bank, Given, QuerySongs, Questions, Run, Sizes, Source
from course_lib.experiments.runner import run_experiment
from course_lib.query import QueryUnmix
from course_lib.results import Results

SECONDS = 12.0


def source(*tags, asked=None):
    return Source(frozenset(tags), (tags[0] if tags else "") if asked is None else asked,
                  not set(tags) & set(experiment.UNSEEN))


def songs(count=4, rest=("strings",), seed=0):
    """Songs of noise in which everything plays all the time."""
    g = torch.Generator().manual_seed(seed)
    rest = source(*rest, asked=rest[0] if rest and rest[0] in experiment.KNOWN else "")
    sources = [source("drums"), source("bass"), rest, source("vocals"), source("guitar"), source("piano")]
    tracks = [Track.from_tensors(f"{''.join(rest.tags)} {n}", experiment.RATE, {
        stem: 0.1 * torch.randn(1, round(SECONDS * experiment.RATE), generator=g) for stem in SIX_STEMS})
        for n in range(count)]
    playing = torch.ones(count, len(SIX_STEMS), 9, round(SECONDS / experiment.FRAME), dtype=torch.bool)
    return QuerySongs(tracks, [sources] * count, playing)


def bank(names, kinds=experiment.KNOWN):
    g = torch.Generator().manual_seed(1)
    rows = [(tag, name) for name in names for tag in kinds]
    return Bank(torch.randn(len(rows), 64, generator=g), [row[0] for row in rows], [row[1] for row in rows])


def test_what_is_set_aside():
    sources = experiment.sources_of(200)                                       # a test song with brass
    assert experiment.unseen_in(sources) == "brass" and not sources[experiment.REST].clean
    assert [one.asked for one in sources[:2]] == ["drums", "bass"] and sources[experiment.REST].asked == ""
    both = experiment.sources_of(209)                                          # strings and winds in one source
    assert experiment.unseen_in(both) == "" and both[experiment.REST].asked == "" and not both[experiment.REST].clean
    every = experiment.joined(songs(2), songs(3, ("brass",)), songs(1, ("no tag",)))
    assert len(every.set_aside().tracks) == 4 and len(every.learnt().tracks) == 2
    assert len(every.learnt().playing) == 2


def test_questions_are_pure_and_answered_by_other_songs():
    data = experiment.joined(songs(3), songs(3, ("brass", "strings")))
    names = [track.name for track in data.tracks]
    questions = Questions(data, bank(names), 30, seed=1, seconds=1.0, questions=4)
    assert set(questions.usable[experiment.REST]) == {0, 1, 2}                 # brass never sounds
    kinds = set()
    for index in range(30):
        item = questions[index]
        assert all(torch.equal(a, b) for a, b in zip(item, questions[index]))
        x, y, tags, examples, weights, by_example = item
        assert x.shape == (16_000,) and y.shape == (4, 16_000) and tags.shape == (4, 7)
        assert torch.equal(tags.sum(1), weights.sum(1)) and set(by_example.tolist()) <= {0.0, 1.0}
        kinds |= {(int(tags[n].sum()), bool(y[n].any())) for n in range(4)}
    assert {(1, True), (1, False), (2, True)} <= kinds
    with pytest.raises(IndexError, match="item 30 asked"):
        questions[30]


def test_an_example_is_never_of_the_same_song():
    data = songs(2)
    names = [track.name for track in data.tracks]
    marked = bank(names)
    marked.embeddings[:] = torch.tensor([float(names.index(name)) for name in marked.songs])[:, None]
    questions = Questions(data, marked, 10, 0, seconds=1.0)
    pieces, asked = torch.randn(2, 100), [("drums", names[0]), ("bass", names[1])]
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        asks = [([0], ""), ([0, 1], ""), ([], "synth")]
        _, y, _, examples, weights, _ = questions.answered(pieces, asked, asks, g)
        assert float(examples[0, 0, 0]) == 1 and examples[1, :, 0].tolist() == [1, 0]
        assert torch.equal(y[1], pieces.sum(0)) and not y[2].any() and weights.sum(1).tolist() == [1, 2, 1]


def test_excerpts_are_the_loudest_and_of_one_source():
    track = songs(1)
    audio = {stem: track.tracks[0].read(stem) for stem in SIX_STEMS}
    audio["drums"][:, :5 * experiment.RATE] = 0
    quiet = QuerySongs([Track.from_tensors("x", experiment.RATE, audio)], track.sources, track.playing)
    found = experiment.excerpts_of(quiet, seconds=5.0, each=4)
    starts = {tag: [one.start for one in found if one.tag == tag] for tag in ("drums", "bass")}
    assert starts == {"drums": [5.0], "bass": [0.0, 5.0]} and len({one.tag for one in found}) == 6
    one = found[0]                                                             # guitar and piano are in its mixture
    first = round(one.start * experiment.RATE)
    whole = sum(audio[stem][0, first:first + 5 * experiment.RATE] for stem in SIX_STEMS)
    assert torch.allclose(one.mixture, whole, atol=1e-6)


def test_the_ideal_mask_and_silence():
    target, rest = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    gains = experiment.gains(experiment.ideal(target, target + rest), target, target + rest)
    assert float(gains["sdri"]) > 2 and float(gains["si_sdri"]) > 2
    assert experiment.gains(torch.zeros(8000), target, target + rest)["si_sdri"] == ""


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The experiment on noise and with an untrained network; gives a function that runs it."""
    data = songs(3)
    names = [track.name for track in data.tracks]
    torch.manual_seed(0)
    model = QueryUnmix(experiment.KNOWN, hidden_size=8, nb_layers=1).eval()
    for name, value in {"model": model, "learnt": data, "bank": bank(names), "valid_bank": bank(["v"])}.items():
        monkeypatch.setattr(Given, name, value)
    monkeypatch.setattr(Given, "songs", lambda self, part: songs(2, seed=5) if part != experiment.ASIDE else
                        songs(2, ("brass",), 6))
    monkeypatch.setattr(experiment, "examples_in", lambda found, kinds=experiment.KNOWN: bank(
        [track.name for track in found.tracks] + ["another"], kinds))
    monkeypatch.setattr(experiment, "fluid", lambda: False)
    sizes = Sizes(each=1, shares=(0.0, 1.0), hidden_size=8, steps=2, batch_size=2)
    return lambda only: run_experiment(experiment.EXPERIMENT, only, settings=sizes, folder=tmp_path / "results",
                                       cache=tmp_path / "cache")


def test_it_runs_through_and_repeats_nothing(small, tmp_path):
    small(["wrong tag", "silence", "concatenation", experiment.ABSENT, experiment.BETWEEN, experiment.EMBEDDING])
    results = Results(experiment.TOPIC, tmp_path / "results")
    runs = {(row["part"], row["method"]) for row in results.rows("runs")}
    assert {(experiment.TEST, "wrong tag"), (experiment.TEST, "silence"), (experiment.ASIDE, "silence"),
            (experiment.ABSENT, "tag"), (experiment.BETWEEN, "drums to bass"), (experiment.ABLATION, "concatenation"),
            (experiment.EMBEDDING, experiment.TAGGER)} <= runs
    rows = [row for row in results.rows("excerpts") if row["part"] == experiment.TEST and row["method"] == "silence"]
    assert {row["instrument"] for row in rows} == {"drums", "bass", "vocals", "guitar", "piano", "strings"}
    assert all(0 < float(row["sdri"]) < 12 and row["si_sdri"] == "" for row in rows)
    assert {row["instrument"] for row in results.rows("absent")} == {"synth"}
    assert {row["share"] for row in results.rows("between")} == {"0", "1"}
    assert not small(["silence", "concatenation"]).done


def test_runs_change_what_they_say():
    sizes = Sizes(hidden_size=8)
    for change, options in experiment.CHANGES.items():
        model = experiment.new_model(change, sizes, 0)
        assert model.where == options.get("where", "behind")
    same = [experiment.new_model("concatenation", sizes, 0).fc2.weight for _ in range(2)]
    assert torch.equal(*same)
    assert Run("x", "y") != Run("x", "y", 1)
