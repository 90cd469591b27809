"""Chapter 14's measurements: excerpts, what is target and what is rest, other data sets, scores; on songs of tones."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import yaml

from course_lib.data import Track, open_tracks
from course_lib.data.band import compose
from course_lib.data.tracks import SIX_STEMS
from course_lib.experiments import tagbox as experiment
from course_lib.experiments.taggers import tags_of as tags_of_part
from course_lib.tagbox import tags_of
from course_lib.taggers import HarmonicCNN
from course_lib.training import load_trained

RATE = experiment.RATE


def tone(frequency, seconds=3.0, level=0.2, rate=RATE):
    return level * torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * rate)) / rate)


def six(seconds=3.0, rate=RATE, silent=()):
    """A song of six tones; as in every data set "other" holds guitar and piano, too."""
    own = {stem: tone(110 * (n + 1), seconds, 0.0 if stem in silent else 0.1, rate)[None]
           for n, stem in enumerate(SIX_STEMS)}
    return Track.from_tensors("song", rate, {**own, "other": own["other"] + own["guitar"] + own["piano"]})


def test_target_and_rest_are_the_mixture():
    excerpt = experiment.excerpt_of(six())
    for instrument in experiment.INSTRUMENTS:
        target, rest = experiment.split_up(excerpt, instrument, "six")
        assert torch.allclose(target + rest, excerpt.mixture[0], atol=1e-5)
        assert torch.allclose(target, excerpt[instrument][0], atol=1e-6)
    target, rest = experiment.split_up(excerpt, "guitar", "four")
    assert torch.allclose(rest, sum(excerpt[stem][0] for stem in ("drums", "bass", "vocals")), atol=1e-6)
    assert experiment.split_up(experiment.excerpt_of(six(silent=("bass",))), "bass", "six") is None


def test_the_busiest_piece_is_taken_and_brought_to_the_rate():
    loud, quiet = six(3.0, 44_100), six(3.0, 44_100, silent=("bass", "vocals", "piano"))
    joined = {stem: torch.cat([quiet[stem], loud[stem]], 1) for stem in quiet.stems}
    found = experiment.excerpt_of(Track.from_tensors("song", 44_100, joined))
    assert (found.rate, found.frames) == (RATE, 3 * RATE)
    assert float(found["bass"].square().mean().sqrt()) > experiment.LEAST
    short = experiment.excerpt_of(six(1.0))                                # a song shorter than an excerpt
    assert short.frames == RATE


def test_a_data_set_of_four_stems(tmp_path, monkeypatch):
    for number in range(2):
        folder = tmp_path / "test" / f"song {number}"
        folder.mkdir(parents=True)
        for n, stem in enumerate(("drums", "bass", "other", "vocals")):
            audio = tone(110 * (n + 1), 3.5, 0.1, 44_100)[:, None].repeat(1, 2).numpy()
            soundfile.write(folder / f"{stem}.wav", audio, 44_100)
        soundfile.write(folder / "mixture.wav", sum(soundfile.read(folder / f"{stem}.wav")[0] for stem in (
            "drums", "bass", "other", "vocals")), 44_100)
    monkeypatch.setattr(experiment, "open_tracks", lambda source, split, count: open_tracks(
        source, split, root=tmp_path, count=count))
    sizes = experiment.Sizes(data="musdb18hq", songs=2)
    work = SimpleNamespace(settings=sizes, given=experiment.prepare(sizes, tmp_path))
    runs = experiment.main_runs(work)
    assert {run.instrument for run in runs} == {"vocals", "drums", "bass"} and {run.sources for run in runs} == {"six"}
    assert {"TagBox", "HPSS", "silence", experiment.MIXIT} <= {run.method for run in runs}
    assert experiment.split_up(work.given[0], "guitar", "six") is None
    rows = experiment.one_run(next(run for run in runs if (run.method, run.instrument) == ("silence", "bass")), work)
    assert [row["song"] for row in rows["songs"]] == ["song 0", "song 1"] and rows["runs"][0]["test_songs"] == 2
    assert "musdb18hq" in experiment.facts(work)["songs"]


def test_songs_in_slakhs_layout(tmp_path, monkeypatch):
    """What `--set data=slakh2100` does: guitar and piano are in its songs, vocals never sound."""
    programs = {"S00": ("Drums", 128), "S01": ("Bass", 33), "S02": ("Guitar", 27), "S03": ("Piano", 0),
                "S04": ("Strings (continued)", 48)}
    for number in (1876, 1877):
        folder = tmp_path / "test" / f"Track{number:05d}"
        (folder / "stems").mkdir(parents=True)
        audio = {key: tone(110 * (n + 1), 3.2, 0.1, 44_100).numpy() for n, key in enumerate(programs)}
        for key, samples in {**audio, "mix": sum(audio.values())}.items():
            soundfile.write(folder / ("" if key == "mix" else "stems") / f"{key}.flac", samples, 44_100)
        (folder / "metadata.yaml").write_text(yaml.safe_dump({"UUID": "1", "stems": {
            key: {"inst_class": kind, "is_drum": kind == "Drums", "audio_rendered": True, "program_num": program}
            for key, (kind, program) in programs.items()}}))
    monkeypatch.setattr(experiment, "open_tracks", lambda source, split, count: open_tracks(
        source, split, root=tmp_path, count=count))
    sizes = experiment.Sizes(data="slakh2100", songs=2)
    work = SimpleNamespace(settings=sizes, given=experiment.prepare(sizes, tmp_path))
    runs = experiment.main_runs(work)
    assert {(run.sources, run.instrument) for run in runs} == {
        *(("six", name) for name in ("drums", "bass", "guitar", "piano")),
        *(("four", name) for name in ("drums", "bass", "guitar"))}
    assert not experiment.more_runs(work) and not experiment.tag_runs(work)              # those are the band's
    found = experiment.one_run(experiment.Run("main", "six", "piano", "ideal ratio mask"), work)["songs"]
    assert [row["song"] for row in found] == ["Track01876", "Track01877"] and float(found[0]["si_sdri"]) > 10
    target, rest = experiment.split_up(work.given[0], "guitar", "six")
    assert float((target + rest - work.given[0].mixture[0]).abs().max()) < 1e-4


def test_further_songs_have_a_tag_alone():
    seeds = experiment.further_seeds()
    tags = [experiment.lone_tag(seed) for seed in seeds]
    assert set(tags) == set(experiment.TAGS) and max(map(tags.count, tags)) == experiment.EACH
    assert seeds == sorted(set(seeds)) and min(seeds) >= 2000                             # no training took them
    other = [part for part in compose(seeds[0], 20.0).parts if part.six_stem == "other"]
    assert other and {tag for part in other for tag in tags_of_part(part)} == {tags[0]}


def test_more_songs_and_single_tags(monkeypatch):
    """Which songs a run takes: guitar and piano from further ones, a tag from all in which it plays alone."""
    named = lambda name: Track.from_tensors(name, RATE, {stem: six()[stem] for stem in six().stems})    # noqa: E731
    test, further = [named("a"), named("b")], [named("c"), named("d"), named("e")]
    lone = {200: "synth", 201: "brass", 2000: "synth", 2001: "", 2002: "synth"}
    monkeypatch.setattr(experiment, "further_songs", lambda: further)
    monkeypatch.setattr(experiment, "further_seeds", lambda: [2000, 2001, 2002])
    monkeypatch.setattr(experiment, "lone_tag", lone.get)
    work = SimpleNamespace(settings=experiment.Sizes(more_songs=2), given=test)
    take = lambda *key: experiment.pairs_for(experiment.Run(*key, "silence"), work)                     # noqa: E731
    assert [name for name, _ in take("more", "six", "piano")] == ["c", "d"]
    assert [name for name, _ in take("main", "six", "piano")] == ["a", "b"]
    pairs = take("tags", "six", "synth")
    assert [name for name, _ in pairs] == ["a", "c", "e"]
    target, rest = pairs[0][1]
    assert torch.allclose(target, tone(110 * 3, level=0.1), atol=1e-6)                    # "other" without the rest
    assert torch.allclose(target + rest, test[0].mixture[0], atol=1e-5)


def test_style_runs_say_what_is_heard(monkeypatch):
    work = SimpleNamespace(settings=experiment.Sizes(steps=1), given=[experiment.excerpt_of(six())])
    runs = experiment.style_runs(work)
    assert [run.instrument for run in runs] == list(experiment.INSTRUMENTS)
    rows = experiment.one_run(runs[1], work)
    heard, = rows["heard"]
    assert heard["song"] == "song" and all(0 <= float(heard[key]) <= 1 for key in experiment.HEARD[:4])
    assert {row["reading"] for row in rows["songs"]} == {"masked", "residual", "steered"}
    silent = experiment.level_of(torch.zeros(10))
    assert silent == -120 and abs(experiment.level_of(torch.ones(10))) < 1e-6


def test_the_harmonic_network_joins_where_its_weights_are(monkeypatch):
    work = SimpleNamespace(settings=experiment.Sizes(), given=[experiment.excerpt_of(six())])
    shipped = [name for name in experiment.shipped_models() if name != experiment.HARMONIC]
    asked = lambda: {run.change for run in experiment.ablations(work)} & set(experiment.BY_HARMONIC)    # noqa: E731
    monkeypatch.setattr(experiment, "shipped_models", lambda: shipped)
    assert not asked()
    monkeypatch.setattr(experiment, "shipped_models", lambda: [*shipped, experiment.HARMONIC])
    assert asked() == {"taggers=harmonic_band", "taggers=tagger_band+harmonic_band"}
    small = HarmonicCNN(n_channels=4, n_class=9).eval()
    small.facts = load_trained("tagger_band").facts
    own = lambda name: small if name == experiment.HARMONIC else load_trained(name)                     # noqa: E731
    monkeypatch.setattr(experiment, "load_trained", own)
    found = experiment.taggers_named("tagger_band+harmonic_band")
    assert [type(one).__name__ for one in found] == ["FCN", "HarmonicCNN"]
    assert not any(p.requires_grad for one in found for p in one.parameters())
    x = tone(220, 1.0)[None] + tone(880, 1.0)[None]
    steered = experiment.tagbox(x, "drums", experiment.Sizes(steps=1), taggers="tagger_band+harmonic_band")
    assert steered[0]["masked"].shape == x[0].shape and bool(steered[0]["masked"].isfinite().all())


def test_scores_of_what_is_known():
    target, rest = tone(220), tone(1500)
    x = target + rest
    perfect, mixture = experiment.scores(target, target, x), experiment.scores(x, target, x)
    assert perfect["l1"] == 0 and perfect["sdri"] > 60 and perfect["si_sdri"] > 60
    assert abs(mixture["sdri"]) < 1e-4 and abs(mixture["si_sdri"]) < 1e-4 and mixture["l1"] == mixture["l1_mixture"]
    assert abs(experiment.scores(torch.zeros_like(x), target, x)["sdri"]) < 0.1          # both sources equally loud
    assert math.isnan(experiment.sar_of(torch.zeros_like(x), target, rest))
    assert experiment.sar_of(target + 0.3 * rest, target, rest) > 40                       # no artifacts, only the rest


@pytest.mark.parametrize("method", ["mixture", "silence", "ideal ratio mask", "HPSS"])
def test_estimates_have_the_length(method):
    target, rest = tone(220, 1.0), tone(1500, 1.0)
    found = experiment.estimate(method, target + rest, target, rest, "bass")
    assert found.shape == target.shape and bool(found.isfinite().all())
    if method == "ideal ratio mask":
        assert float((found - target).square().mean() / target.square().mean()) < 0.01


def test_mixit_is_chosen_by_the_oracle():
    target, rest = tone(220, 1.0), tone(1500, 1.0)
    outputs = experiment.separate_sources((target + rest)[None], RATE)[:, 0]
    found = experiment.estimate(experiment.MIXIT, target + rest, target, rest, "bass")
    subsets = [sum((outputs[n] for n in range(len(outputs)) if choice >> n & 1), torch.zeros_like(target))
               for choice in range(1, 2 ** len(outputs) - 1)]
    total = [float((one - target).square().sum() + (outputs.sum(0) - one - rest).square().sum()) for one in subsets]
    assert float((found - subsets[int(np.argmin(total))]).abs().max()) < 1e-5


def test_names_of_taggers():
    one, other = (experiment.taggers_named(name)[0] for name in ("tagger_band", "random"))
    assert tags_of(one) == tags_of(other) and not any(p.requires_grad for p in other.parameters())
    differs = [name for name, tensor in one.state_dict().items() if not torch.equal(tensor, other.state_dict()[name])]
    assert differs
    again = experiment.taggers_named("random")[0].state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in other.state_dict().items())
