"""One scoreboard: what a separator must give, its bounds, and how songs are scored."""

import math

import pytest
import torch
from torch import nn

from course_lib.classic import METHODS
from course_lib.data import STEMS, Track
from course_lib.experiments import classic, classic_constants, open_unmix
from course_lib.experiments.runner import run_experiment
from course_lib.experiments.scoreboard import (
    HIGHEST,
    LOWEST,
    RULES,
    IdealRatioMask,
    ModelSeparator,
    Oracle,
    Quarter,
    Rules,
    Separator,
    bounds,
    estimates_of,
    score_rows,
    score_songs,
    scores_of,
    separate_song,
    song_names,
    stem_scores,
    summary,
)
from course_lib.open_unmix import JointOpenUnmix
from course_lib.results import Results, measured
from course_lib.spectral import song_sdr

RATE = 8000


def song(name="a song", seconds=2.5, rate=RATE, silent=None):
    """Four noises of different colours, and a stem that is silent."""
    generator = torch.Generator().manual_seed(len(name))
    parts = torch.randn(4, 2, round(seconds * rate), generator=generator) * torch.tensor(
        [0.1, 0.05, 0.2, 0.08]
    ).reshape(4, 1, 1)
    if silent is not None:
        parts[silent] = 0
    return Track.from_tensors(name, rate, dict(zip(STEMS, parts)))


class Fixed:
    """A separator at one rate that gives shares of the mixture, or whatever it is told."""

    def __init__(self, rate=RATE, give=lambda x: x.expand(4, *x.shape) / 4, stems=STEMS):
        self.rate, self.give, self.stems, self.heard = rate, give, stems, []

    def __call__(self, mixture, rate):
        self.heard.append((tuple(mixture.shape), rate))
        return self.give(mixture)


def test_contracts_are_met():
    for separator in (Quarter(), Rules(), Fixed(), ModelSeparator(JointOpenUnmix(65, hidden_size=8), rate=RATE)):
        assert isinstance(separator, Separator) and not isinstance(separator, Oracle)
    assert isinstance(IdealRatioMask(), Oracle) and list(bounds()) == [LOWEST, RULES, HIGHEST]


def test_another_rate_is_resampled_and_the_length_kept():
    mixture = torch.sin(2 * math.pi * 440 * torch.arange(44_101) / 44_100).repeat(2, 1)
    separator = Fixed(16_000)
    sources = separate_song(separator, mixture, 44_100)
    assert separator.heard == [((2, 16_001), 16_000)] and sources.shape == (4, 2, 44_101)
    assert song_sdr(4 * sources[..., 500:-500], mixture[None, :, 500:-500].expand(4, -1, -1)).min() > 40
    assert torch.equal(separate_song(Fixed(44_100), mixture, 44_100), mixture.expand(4, -1, -1) / 4)


def test_models_refuse_another_rate_and_need_to_know_their_own():
    separator = ModelSeparator(JointOpenUnmix(65, hidden_size=8).eval(), rate=RATE)
    with pytest.raises(ValueError, match="rate is 44100 Hz; JointOpenUnmix works at 8000: use separate_song"):
        separator(torch.zeros(2, 9000), 44_100)
    with pytest.raises(ValueError, match="rate of Linear is not known"):
        ModelSeparator(nn.Linear(1, 1))
    assert separator.stems == STEMS


@pytest.mark.parametrize(
    "give, message",
    [
        (lambda x: x.expand(3, *x.shape), r"gave \(3, 2, 800\); expected"),
        (lambda x: x, r"gave \(2, 800\)"),
        (lambda x: x.expand(4, *x.shape) * math.nan, "gave NaN or infinity"),
        (lambda x: x.expand(4, *x.shape)[..., :700], "gave 700 samples"),
        (lambda x: x.expand(4, *x.shape).mT, r"gave \(4, 800, 2\)"),
    ],
)
def test_what_a_separator_must_not_give(give, message):
    with pytest.raises(ValueError, match=f"Fixed {message}"):
        separate_song(Fixed(give=give), torch.ones(2, 800), RATE)


@pytest.mark.parametrize(
    "mixture", [torch.zeros(800), torch.zeros(1, 2, 800), torch.zeros(2, 0), torch.zeros(2, 800, dtype=torch.int16)]
)
def test_a_mixture_is_channels_by_time(mixture):
    with pytest.raises(ValueError, match="expected floats \\(channels, time\\)"):
        separate_song(Quarter(), mixture, RATE)


def test_stems_are_matched_by_name():
    track = song()
    references = track.sources(STEMS)
    order = ("vocals", "drums", "bass", "other")
    separator = Fixed(give=lambda x: track.sources(order), stems=order)
    assert torch.equal(estimates_of(separator, references, RATE), references)
    with pytest.raises(ValueError, match="Fixed gives drums, bass, not vocals"):
        estimates_of(Fixed(stems=("drums", "bass")), references[[3]], RATE, ["vocals"])


def test_bounds_by_hand():
    track = song()
    references = track.sources(STEMS)
    quarter = scores_of(estimates_of(Quarter(), references, RATE), references, RATE)["song"]
    error = references - references.sum(0) / 4
    assert torch.allclose(quarter, 10 * torch.log10((references**2).sum((1, 2)) / (error**2).sum((1, 2))), atol=1e-4)
    oracle = scores_of(estimates_of(IdealRatioMask(n_fft=512), references, RATE), references, RATE)["song"]
    assert (oracle > quarter + 1).all()
    with pytest.raises(ValueError, match="method is 'magic'; expected one of mixture, "):
        Rules("magic")


def test_a_silent_stem_has_no_score_and_leaves_the_others_alone():
    rows = score_rows(Quarter(), song(silent=3))
    whole = rows[0]
    assert (
        whole["score"] == "song"
        and whole["vocals"] == "nan"
        and all(math.isfinite(float(whole[stem])) for stem in STEMS[:3])
    )
    assert [row["score"] for row in rows] == ["song", "frames, mean", "frames, median"]


def test_scores_of_two_methods_are_in_the_same_order():
    tracks = [song(name) for name in ("a", "bb", "ccc")]
    rows = score_songs({"quarter": Quarter(), "ideal": IdealRatioMask(n_fft=512)}, tracks, "noise")
    expected = {name: stem_scores(rows, name, songs="noise") for name in ("quarter", "ideal")}
    assert (
        expected["quarter"].shape == (3, 4)
        and (expected["ideal"] > expected["quarter"]).all()
        and song_names(rows, "noise") == ["a", "bb", "ccc"]
    )
    mixed = [
        rows[i] for i in (0, 7, 3, 12, 6, 15, 9, 1, 2, 4, 5, 8, 10, 11, 13, 14, 16, 17)
    ]  # as several processes may write them
    places = [["a", "bb", "ccc"].index(name) for name in song_names(mixed, "noise")]
    for name, table in expected.items():
        assert torch.equal(stem_scores(mixed, name, songs="noise"), table[places])
    with pytest.raises(ValueError, match="no rows of 'best', score 'song', on 'noise'"):
        stem_scores(rows, "best", songs="noise")
    assert summary(rows).count("3 songs: drums") == 6


def test_the_classic_experiment_fills_a_scoreboard(tmp_path, monkeypatch):
    tracks = [song("one", rate=RATE), song("two", rate=RATE, silent=1)]
    monkeypatch.setattr(classic, "open_tracks", lambda *args, **options: tracks)
    monkeypatch.setattr(classic, "SEPARATORS", {"mixture": Quarter(), HIGHEST: IdealRatioMask()})
    outcome = run_experiment(classic.EXPERIMENT, folder=tmp_path, cache=tmp_path / "cache")
    assert len(outcome.done) == 4 and not outcome.failed
    rows = Results("02_classic_separation", tmp_path).rows("scores")
    assert stem_scores(rows, "mixture")[1, 1].isnan() and len(rows) == 12
    assert Results("02_classic_separation", tmp_path).card("scores")["songs"] == 2


def test_the_search_moves_the_constants(tmp_path, monkeypatch):
    songs = [song(f"song {i}", 15.5, rate=4000) for i in range(2)]
    monkeypatch.setattr(classic_constants, "open_tracks", lambda *args, **options: songs)
    settings = classic_constants.Settings(steps=3, songs=1)
    outcome = run_experiment(classic_constants.EXPERIMENT, folder=tmp_path, cache=tmp_path / "cache", settings=settings)
    assert outcome.failed == {}
    found, shipped = Results("02_classic_separation", tmp_path).rows("constants")
    assert (found["constants"], shipped["constants"]) == ("found", "shipped") and found["low"] != shipped["low"]
    assert all(
        math.isfinite(float(row[column]))
        for row in (found, shipped)
        for column in ("train_db", "valid_db", "even_share")
    )


def test_weights_of_open_unmix_are_in_its_rows():
    """The stored rows rest on the weights that come with the course, or the scoreboard must be measured again."""
    digits = {(method, open_unmix.file_sha256(open_unmix.weights_of(checkpoint))[:8])
              for method, (checkpoint, _) in open_unmix.OURS.items()}
    rows = measured("04_open_unmix/scores")
    assert {(row["method"], row["weights"]) for row in rows if row["method"] in open_unmix.OURS} == digits


def test_readers_over_music_are_known_mixtures(monkeypatch):
    """Two recordings, equally loud, whose sum is the mixture; drums and bass are silent."""
    def noise(name, rate):
        length = 30_000 if name == "trumpet" else 60_000
        seed = (*open_unmix.READERS, *open_unmix.MUSIC).index(name)
        channels = 1 if name in open_unmix.READERS else 2
        return (seed + 1) * torch.randn(channels, length, generator=torch.Generator().manual_seed(seed)), rate

    monkeypatch.setattr(open_unmix, "recording", noise)
    tracks = open_unmix.read_over_music(1.0)
    assert len(tracks) == 9 and len({track.name for track in tracks}) == 9
    for track in tracks:
        drums, bass, other, vocals = track.sources(STEMS)
        assert track.frames == (30_000 if "trumpet" in track.name else 44_100) and track.channels == 2
        assert not drums.any() and not bass.any() and torch.equal(vocals[0], vocals[1])
        levels = [part.square().mean().sqrt() for part in (other, vocals, track.mixture)]
        torch.testing.assert_close(levels[0], levels[1], rtol=1e-4, atol=0)
        torch.testing.assert_close(float(levels[2]), open_unmix.MIXTURE_LEVEL, rtol=1e-4, atol=0)
        torch.testing.assert_close(track.mixture, other + vocals)


def test_sets_that_this_machine_lacks_are_left_out(monkeypatch, capsys):
    def lacking(source, split="test", **options):
        if set(options) & {"world", "soundfont"}:
            raise FileNotFoundError("freepats was not found; apt install freepats")
        return [song()]

    monkeypatch.setattr(open_unmix, "open_tracks", lacking)
    monkeypatch.setattr(open_unmix, "find_fluid_soundfont", lambda: "a font")
    monkeypatch.setattr(open_unmix, "read_over_music", lambda seconds: [song("reader")])
    given = open_unmix.Given(open_unmix.Settings())
    assert set(given.tracks) == {open_unmix.BAND, open_unmix.REAL}
    assert "unheard: left out, freepats was not found" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, sets, methods",
    [
        ("02_classic_separation/scores", {"band": 20}, {*METHODS, HIGHEST}),
        (
            "04_open_unmix/scores",
            {open_unmix.BAND: 20, open_unmix.OTHER: 20, open_unmix.UNHEARD: 20, open_unmix.REAL: 9},
            set(open_unmix.NAMES),
        ),
    ],
)
def test_stored_scoreboards_are_whole(name, sets, methods):
    """Every method on every song of a set, with every score, and no song twice."""
    rows = measured(name)
    assert {row["set"] for row in rows} == set(sets)
    for songs, count in sets.items():
        found = [(row["method"], row["song"], row["score"]) for row in rows if row["set"] == songs]
        names = song_names(rows, songs)
        assert len(names) == count and sorted(found) == sorted(
            (method, one, score)
            for method in methods
            for one in names
            for score in ("song", "frames, mean", "frames, median")
        )
