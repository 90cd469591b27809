"""Real songs and voices over music: how they are laid over each other, scored and kept; on tiny songs of noise."""

import pytest
import torch

from course_lib.data import STEMS
from course_lib.experiments import real_songs as experiment
from course_lib.experiments.demucs import RATE
from course_lib.experiments.runner import run_experiment
from course_lib.results import Results
from tests.experiments.test_losses import noise_songs
from tests.song_folders import write_song

VOICE, PIECE = "libri1", "brahms"


@pytest.fixture
def noise(monkeypatch):
    """Recordings of noise, one voice and one piece."""
    drawn = lambda name: torch.Generator().manual_seed(sum(map(ord, name)))
    monkeypatch.setattr(experiment, "recording", lambda name, rate: (torch.randn(1, rate, generator=drawn(name)), rate))
    monkeypatch.setattr(experiment, "READERS", (VOICE,))
    monkeypatch.setattr(experiment, "MUSIC", (PIECE,))


@pytest.mark.parametrize("level", [0.0, -5.0])
def test_a_voice_is_as_loud_as_asked_for(level):
    generator = torch.Generator().manual_seed(0)
    voice, music = torch.randn(1, 500, generator=generator), 3 * torch.randn(2, 400, generator=generator)
    track = experiment.laid_over("a", "b", voice, music, level, 100, 3.0)
    assert (track.frames, track.channels) == (300, 2) and track.info == {"voice": "a", "piece": "b", "level": level}
    power = {stem: track[stem].square().mean() for stem in STEMS}
    assert 10 * torch.log10(power["vocals"] / power["other"]).item() == pytest.approx(level, abs=1e-3)
    assert power["drums"] == power["bass"] == 0
    assert track.mixture.square().mean().sqrt().item() == pytest.approx(experiment.MIXTURE_LEVEL, rel=1e-3)
    place = track["vocals"][0] / voice[0, 100:400]
    assert torch.allclose(place, place[:1].expand(300), rtol=1e-3), "the middle of the recording"


def test_songs_lend_their_voice_and_what_is_under_it(noise):
    settings = experiment.Settings(pair_seconds=0.5)
    song, other = noise_songs(2)
    tracks = {track.name: track for track in experiment.voices_over_music(settings, [song, other])}
    assert len(tracks) == 2 * 2 * 2 and f"{VOICE} over {PIECE}, -5 dB" in tracks
    own = tracks[f"{song.name} over {song.name}, 0 dB"]
    assert {track.info["piece"] for track in tracks.values()} == {PIECE, song.name}
    assert own["vocals"].any() and torch.nn.functional.cosine_similarity(own["vocals"][0], own["other"][0], 0) < 0.2


def test_the_rest_is_all_but_vocals():
    references = torch.randn(4, 1, 1000, generator=torch.Generator().manual_seed(0))
    estimates = references.clone()
    estimates[0], estimates[1] = references[1], references[0]                            # drums and bass exchanged
    scores = experiment.sdr_by_stem(estimates + 0.01, references)
    assert tuple(scores) == experiment.SCORED and scores["drums"] < 0 < 30 < scores["rest"]
    references[:2] = 0
    pair = experiment.sdr_by_stem(0.5 * references + 0.01, references, pair=True)
    assert set(pair) == {"vocals", "rest", "vocals_si"} and pair["vocals_si"] > 30 > pair["vocals"]
    assert torch.tensor(experiment.sdr_by_stem(estimates, references)["drums"]).isnan()


def test_bounds_are_in_order_and_nothing_is_repeated(noise, monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "METHODS", (experiment.SHARES, experiment.RULES, experiment.HIGHEST))
    monkeypatch.setattr(experiment, "multitracks", lambda settings, cache: noise_songs(1, 0.6))
    run = lambda: run_experiment(experiment.EXPERIMENT, settings=experiment.Settings(pair_seconds=0.5),
                                 folder=tmp_path / "results", cache=tmp_path / "cache")
    assert not (first := run()).failed and len(first.done) == 3 * (1 + 8) and not run().done
    rows = Results(experiment.TOPIC, tmp_path / "results").rows("real_songs")
    assert len({row["song"] for row in rows}) == 9
    for song in {row["song"] for row in rows}:
        by_method = {row["method"]: row for row in rows if row["song"] == song}
        assert float(by_method[experiment.HIGHEST]["vocals"]) > float(by_method[experiment.SHARES]["vocals"])
        assert (by_method[experiment.SHARES]["drums"] == "") == (" over " in song)

    monkeypatch.setattr(experiment, "multitracks", _missing)                             # its rows stay
    assert len((again := run()).known) == 27 and not again.failed
    assert len(Results(experiment.TOPIC, tmp_path / "results").rows("real_songs")) == 27


def _missing(settings, cache):
    raise FileNotFoundError("ffmpeg and ffprobe are not installed")


class Unmix:
    """Gives the mixture as every stem, at 44.1 kHz, in stereo."""

    rate = 44_100

    def __call__(self, mixture, rate):
        assert rate == self.rate and mixture.shape[0] == 2
        return mixture.expand(4, *mixture.shape)


def test_what_works_in_stereo_is_brought_to_mono(noise):
    full = experiment.voices_over_music(experiment.Settings(pair_seconds=0.5))[0]
    track = experiment.mono_tracks(lambda: [full], RATE, 0.5)[0]
    given = experiment.Given.__new__(experiment.Given)
    given.unmixes = {"Open-Unmix": Unmix()}
    found = experiment.estimate("Open-Unmix", full, track, given)
    assert found.shape == (4, 1, track.frames)
    error = (found[0] - track.mixture).square().mean() / track.mixture.square().mean()
    assert error < 1e-3


def test_the_packaged_song_is_laid_out_as_musdb18(tmp_path):
    folder = experiment.packaged_song(tmp_path)
    song, = (folder / "test").iterdir()
    assert song.name.endswith(".stem.mp4") and song.stat().st_size > 1e5
    assert experiment.packaged_song(tmp_path) == folder


def test_the_shipped_table_rests_on_its_card():
    results = Results(experiment.TOPIC)
    rows, card = results.rows("real_songs"), results.card("real_songs")
    assert {row["method"] for row in rows} == set(experiment.METHODS)
    for songs, count in card["songs"].items():
        names = {row["song"] for row in rows if row["set"] == songs}
        assert len(names) == count > 0
        assert sum(row["set"] == songs for row in rows) == count * len(experiment.METHODS)
    digits = {row["method"]: row["weights"] for row in rows if row["weights"]}
    assert digits == {method: card["weights"][name][:8] for method, name in experiment.WEIGHTS.items()}


def test_another_data_set_is_opened_as_it_says(tmp_path):
    write_song(tmp_path / "test" / "mine")                                                          # a second of noise
    settings = experiment.Settings(data="musdb18hq", root=str(tmp_path), song_seconds=0.5)
    song, = experiment.multitracks(settings, tmp_path / "cache")
    assert (song.name, song.seconds) == ("mine", 0.5) and "voice" not in song.info
