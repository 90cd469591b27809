"""Chapter 19's experiment: its data, its rows, and that the committed weights do what the tables say."""

import numpy as np
import pytest
import torch

from course_lib.data import STEMS, Track
from course_lib.experiments import prior_separation as experiment
from course_lib.prior_separation import karras_sigmas, separate_with_diffusion
from course_lib.results import measured
from course_lib.training import load_trained


def tracks(count: int = 2, frames: int = 400) -> list[Track]:
    generator = torch.Generator().manual_seed(0)
    return [Track.from_tensors(f"song {n}", experiment.RATE,
                               {stem: 0.1 * torch.randn(1, frames, generator=generator) for stem in STEMS})
            for n in range(count)]


def test_pieces_are_functions_of_seed_and_number():
    data, again = (experiment.SourceChunks(tracks(), 5, 3, 64) for _ in range(2))
    assert len(data) == 5 and data[0].shape == (4, 64)
    assert torch.equal(data[4], again[4]) and not torch.equal(data[3], data[4])
    assert not torch.equal(data[0], experiment.SourceChunks(tracks(), 5, 4, 64)[0])
    with pytest.raises(ValueError, match="samples is 401"):
        experiment.SourceChunks(tracks(), 5, 3, 401)


def test_sources_of_a_piece_come_from_one_place():
    song = Track.from_tensors("ramp", experiment.RATE,
                              {stem: torch.linspace(0.1, 1, 400)[None] for stem in STEMS})
    piece = experiment.SourceChunks([song], 1, 0, 64)[0]
    shape = piece / piece[:, :1]                                              # gains and sign apart they are one ramp
    assert torch.allclose(shape, shape[:1].expand(4, -1), atol=1e-4)


def test_code_pieces():
    codes = torch.arange(2 * 3 * 50).view(2, 3, 50)
    data = experiment.CodeChunks(codes, 4, 0, 10)
    piece = data[1]
    assert piece.shape == (2, 10) and torch.equal(piece[1] - piece[0], torch.full((10,), 50))
    assert torch.equal(piece, experiment.CodeChunks(codes, 4, 0, 10)[1])
    with pytest.raises(ValueError, match="n_ctx is 51"):
        experiment.CodeChunks(codes, 4, 0, 51)


def test_rows_of_a_song():
    x = torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
    rows = {row["score"]: row for row in experiment.song_rows(x.sum(0).expand(2, -1), x, "song")}
    assert float(rows["SDRi"]["drums"]) == 0 and rows["SDRi"]["other"] == ""
    silent = {row["score"]: row for row in experiment.song_rows(0 * x, x, "song")}
    assert silent["SI-SDRi"]["bass"] == "nan" and float(silent["level"]["bass"]) < -60


def test_every_run_has_its_rows():
    runs = {(row["set"], row["method"]) for row in measured("19_prior_separation/runs")}
    assert runs == {(run.set, run.method) for run in experiment.all_runs(None)}
    songs = measured("19_prior_separation/songs")
    counts = {}
    for row in songs:
        counts[row["set"], row["variant"], row["score"]] = counts.get((row["set"], row["variant"], row["score"]), 0) + 1
    assert set(counts.values()) == {20}


def test_committed_codes_priors_know_their_parts():
    model = load_trained(experiment.CODE_PRIORS)
    assert model.parts == experiment.PARTS and int(model.table.counts.sum()) > 500_000
    with torch.no_grad():
        bits = model(torch.zeros(1, 2, 40, dtype=torch.long))
    assert torch.isfinite(bits).all()


def test_committed_denoiser_separates_and_adds_up():
    model = load_trained(experiment.OURS)
    t = torch.arange(8192) / experiment.RATE
    mixture = (0.1 * torch.sin(2 * np.pi * 80 * t))[None]
    found = separate_with_diffusion(model, mixture, 4, karras_sigmas(6, 1e-3, 1.0), source=2,
                                    generator=torch.Generator().manual_seed(0))
    assert found.shape == (1, 4, 8192) and (found.sum(1) - mixture).abs().max() < 1e-4
    assert found.square().mean(-1)[0, 1] > found.square().mean(-1)[0, 3]                 # a low tone isn't a voice
