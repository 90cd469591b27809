"""Chapter 17's experiment on one short song: rows, bounds, and what a chunk's tags are asked of."""

from collections import Counter

import pytest
import torch

from course_lib.data import STEMS
from course_lib.data.band.song import Note, Part, Song
from course_lib.experiments import studio as experiment
from course_lib.experiments.runner import run_experiment
from course_lib.experiments.taggers import TAGS
from course_lib.results import Results
from tests.test_studio import Fakes, Loud, noise


def test_four_stems_are_the_six_sources():
    six = torch.randn(6, 2, 50)
    stems = experiment.four_of(six)
    assert tuple(stems) == STEMS and torch.allclose(sum(stems.values()), six.sum(0), atol=1e-6)
    assert torch.equal(stems["vocals"], six[3]) and torch.equal(stems["bass"], six[1])


def test_whom_a_tag_is_asked_of(monkeypatch):
    monkeypatch.setattr(experiment, "TAGS", ("drums", "guitar"))
    monkeypatch.setattr(Loud, "tags", ("drums", "guitar"))
    level = lambda x: {"drums": x, "guitar": x / 10}                                         # noqa: E731
    monkeypatch.setattr(experiment, "tags_of_sound",
                        lambda tagger, x, rate: level(float(x.abs().max())) if x.any() else {})
    stems = {name: torch.full((1, 9), 0.1 * (n + 1)) for n, name in enumerate(STEMS)}
    silent = {name: torch.zeros(1, 9) for name in STEMS}
    found = experiment.heard_by(torch.ones(1, 9), stems, silent, None, 8000)
    assert found[experiment.FROM_SONG] == [1.0, 0.1] and found[experiment.TRUE] == [0.0, 0.0]
    assert found[experiment.OWN] == pytest.approx([0.1, 0.03])
    assert found[experiment.LOUDEST] == pytest.approx([0.4, 0.04])


def test_the_shipped_table_says_how_it_was_made():
    table, card = Results(experiment.TOPIC), Results(experiment.TOPIC).card("runs")
    assert {row["part"] for row in table.rows("runs")} == set(experiment.PARTS)
    assert card["settings"] == {**experiment.EXPERIMENT.settings.__dict__}
    songs = {row["song"] for row in table.rows("stems")}
    assert len(songs) == experiment.Sizes().songs and len({row["song"] for row in table.rows("areas")}) == len(songs)


def test_where_a_voice_sings_alone():
    """The piece with most of the lead voice, and never one with a second voice; its notes from there on."""
    lead = Part("vocals", "vocals", 1, [Note(0.5, 3.0, 60, 90), Note(6.0, 1.0, 62, 90), Note(7.5, 2.0, 64, 90)], "lead")
    backing = Part("vocals", "vocals", 2, [Note(3.0, 0.2, 64, 90)], "backing")
    song = Song(0, "pop", 120.0, "C major", 12.0, [lead, backing])
    start, notes = experiment.lone_voice(song)
    assert start == 5.5 and notes == [Note(0.5, 1.0, 62, 90), Note(2.0, 2.0, 64, 90)]
    assert experiment.within(lead.notes, 1.0, 2.0) == [Note(0.0, 2.0, 60, 90)]
    with pytest.raises(ValueError, match="no 4 s"):
        experiment.lone_voice(Song(0, "pop", 120.0, "C major", 12.0, [backing]))


def test_the_rows_of_translations():
    """Every song, target and sound has a row; what is left as it is, is the same for all targets but for the truth."""
    rows = [row for row in Results(experiment.TOPIC).rows("translated") if row["method"] == experiment.SEPARATORS[0]]
    sounds = Counter((row["to"], row["start"], row["way"]) for row in rows)
    assert len(sounds) == len(experiment.TARGETS) * 5 and set(sounds.values()) == {experiment.Sizes().songs}
    mean = lambda way: sum(float(row["pitch"]) for row in rows if row["way"] == way)
    assert mean(experiment.ANOTHER) < 0.5 * mean(experiment.LEFT) / 2


def test_a_small_run(tmp_path, monkeypatch):
    """Stems and remixes of one song of noise: the bounds stand where they must."""
    from course_lib.data import Track
    from course_lib.data.tracks import SIX_STEMS

    x = {name: 0.2 * noise(1.0, channels=1, seed=n) for n, name in enumerate(SIX_STEMS)}
    x["other"] = x["other"] + x["guitar"] + x["piano"]
    track = Track.from_tensors("noise", 8000, x)
    monkeypatch.setattr(experiment, "Models", Fakes)
    small = experiment.Experiment(**{**experiment.EXPERIMENT.__dict__, "prepare": lambda sizes, cache: [track]})
    outcome = run_experiment(small, ["stems"], folder=tmp_path, cache=tmp_path, settings=experiment.Sizes(songs=1))
    assert outcome.failed == {} and len(outcome.done) == 4
    rows = {row["method"]: row for row in Results(experiment.TOPIC, tmp_path).rows("stems")}
    for stem in STEMS:
        assert float(rows[experiment.IDEAL][stem]) > float(rows[experiment.QUARTER][stem]) > 0
    row = rows[experiment.IDEAL]
    for name in ("voice +3 dB", "voice -6 dB", "without voice"):                              # (17.6)
        assert float(row[name]) - float(row[f"{name}, song"]) == pytest.approx(float(row["vocals"]), abs=0.05)
    assert len(TAGS) == 9
