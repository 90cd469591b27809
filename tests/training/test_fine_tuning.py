"""Fine-tuning: networks that begin with the weights of another, with its sources or any others."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
import yaml

from course_lib.cli import main
from course_lib.data import SIX_STEMS, STEMS, open_tracks
from course_lib.demucs import Demucs, DemucsV2, separation_scores
from course_lib.hdemucs import HDemucs
from course_lib.training import command, configuration, load_trained, save_weights
from course_lib.training.fine_tuning import SourceStep, begin, described, open_checkpoint, with_start
from course_lib.training.trained import Facts
from tests.song_folders import write_set
from tests.training import training_runs

EXAMPLES = Path(configuration.__file__).parent / "examples"
NETWORKS = {
    "version 2": ("course_lib.demucs:DemucsV2", DemucsV2, {"channels": 4, "depth": 2, "audio_channels": 1}),
    "time": ("course_lib.demucs:Demucs", Demucs, {"channels": 4, "depth": 2, "lstm_layers": 0, "norm_groups": 2}),
    "hybrid": ("course_lib.hdemucs:HDemucs", HDemucs, {"channels": 4, "depth": 4, "nfft": 256, "norm_groups": 2}),
}
if importlib.util.find_spec("course_lib.htdemucs"):
    from course_lib.htdemucs import HTDemucs
    NETWORKS["transformer"] = ("course_lib.htdemucs:HTDemucs", HTDemucs, {
        "channels": 8, "nfft": 2048, "t_layers": 1, "t_heads": 2, "bottom_channels": 16, "segment": 0.25})
CARD = {name: "test" for name in ("what", "trained_on", "steps", "seed", "command", "machine", "score")}


def checkpoint(tmp_path, kind, sources=STEMS):
    """A network with random weights, saved with a card, as `start` opens it."""
    name, network, options = NETWORKS[kind]
    torch.manual_seed(1)
    model = network(list(sources), **options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.2, 0.8)
    part = {"use": name, "sources": list(sources), **options}
    model.facts = Facts(rate=44100, stems=tuple(sources))
    path = save_weights(tmp_path / "start.safetensors", model, {**CARD, "config": {"model": part}})
    return open_checkpoint({"file": str(path)})


def started(opened, sources, origins=None, seed=2):
    """A new network with these sources, begun from a checkpoint: (in eval mode, what begins as what)."""
    part = {**opened.part, "sources": list(sources)}
    torch.manual_seed(seed)
    model = configuration.use(part)
    return model, begin(model, part, opened, origins)


def estimates(model, channels):
    x = torch.randn(1, channels, model.valid_length(6000), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return dict(zip(model.sources, model.eval()(x)[0]))


def close(one, other):
    return (one - other).abs().max() <= 1e-5 * other.abs().max()


@pytest.mark.parametrize("kind", NETWORKS)
def test_sources_go_on_by_name_and_new_ones_share_other(tmp_path, kind):
    """In any order and number, each estimate is the checkpoint's of that name; new ones share its `other` with it."""
    opened = checkpoint(tmp_path, kind)
    theirs = estimates(opened.model, opened.model.audio_channels)
    for sources in (STEMS, ("vocals", "other"), ("vocals", "piano", "drums", "other", "bass", "guitar")):
        model, begun = started(opened, sources)
        ours = estimates(model, model.audio_channels)
        shared = {"other", "piano", "guitar"} if "piano" in sources else set()
        assert list(ours) == list(sources)
        for source in set(sources) - shared:
            assert begun[source] == {source: 1} and close(ours[source], theirs[source]), (sources, source)
        for source in shared:                       # what a network adds back of the mixture's mean is no weight
            assert begun[source] == {"other": 1 / 3}
            assert (3 * ours[source] - theirs["other"]).std() <= 1e-3 * theirs["other"].std(), source
    assert not close(theirs["vocals"], theirs["other"]), "the sources of the checkpoint differ"


@pytest.mark.parametrize("kind", ["version 2", "hybrid"])
def test_a_source_may_begin_as_a_sum_or_anew(tmp_path, kind):
    opened = checkpoint(tmp_path, kind)
    with torch.no_grad():                       # what is added back after the network is no weight: leave no mean
        theirs = estimates(opened.model, opened.model.audio_channels)
    model, begun = started(opened, ("band", "vocals"), {"band": ["drums", "bass", "other"]})
    ours = estimates(model, model.audio_channels)
    assert begun == {"band": {"drums": 1, "bass": 1, "other": 1}, "vocals": {"vocals": 1}}
    total = theirs["drums"] + theirs["bass"] + theirs["other"]
    difference = ours["band"] - total
    assert close(ours["vocals"], theirs["vocals"]) and difference.std() <= 1e-4 * total.std()
    first, _ = started(opened, ("vocals", "choir"), {"choir": None}, seed=2)
    again, _ = started(opened, ("vocals", "choir"), {"choir": None}, seed=3)
    ours, others = (estimates(one, one.audio_channels) for one in (first, again))
    assert close(ours["vocals"], others["vocals"]) and not close(ours["choir"], others["choir"])
    assert described(begun) == "as they are: vocals, band as drums + bass + other"
    assert described({"choir": {}}) == "choir as new"
    _, begun = started(opened, ("guitar", "choir", "other"), {"guitar": {"other": 0.5, "drums": 0.25}})
    assert begun == {"guitar": {"other": 0.5, "drums": 0.25}, "choir": {"other": 0.5}, "other": {"other": 0.5}}
    assert described(begun) == "guitar as 0.5 other + 0.25 drums, choir as 0.5 other, other as 0.5 other"


def test_a_checkpoint_without_other(tmp_path):
    """Then a new source keeps the first weights that it has."""
    opened = checkpoint(tmp_path, "version 2", ("voice", "noise"))
    _, begun = started(opened, ("voice", "music"))
    assert begun == {"voice": {"voice": 1}, "music": {}}


def test_networks_that_differ_are_named(tmp_path):
    opened = checkpoint(tmp_path, "version 2")
    before = None
    for changed, message in (({"channels": 8}, r"start.safetensors does not fit DemucsV2: .* has shape \(4, 1, 8\)"),
                             ({"depth": 3}, "start.safetensors does not fit DemucsV2: .* is missing"),
                             ({"audio_channels": 2}, "does not fit DemucsV2: .* has shape"),
                             ({"glu": False}, "does not fit DemucsV2")):
        part = {**opened.part, **changed, "sources": ["vocals", "choir"]}
        model = configuration.use(part)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(ValueError, match=message):
            begin(model, part, opened, {"choir": None})
        assert training_runs.same_weights(before, model.state_dict()), "it stays as it was"


@pytest.mark.parametrize("sources, origins, message", [
    (["drums"], {"vocals": "drums"}, "from in start names vocals, which the model does not have; it has drums"),
    (["drums"], {"drums": "guitar"}, "drums begins as guitar; start.safetensors has drums, bass, other, vocals"),
    (["drums", "drums"], {}, "sources of the model hold drums twice"),
])
def test_origins_that_are_wrong(tmp_path, sources, origins, message):
    opened = checkpoint(tmp_path, "version 2")
    with pytest.raises(ValueError, match=message):
        started(opened, sources, origins)


def test_networks_that_take_no_sources(tmp_path):
    """They begin with all weights as they are, or not at all."""
    model = training_runs.make(1)[0]
    part = {"use": "tests.training.training_runs:Masks"}
    path = save_weights(tmp_path / "masks.safetensors", model, {**CARD, "config": {"model": part}})
    opened, other = open_checkpoint({"file": str(path)}), training_runs.make(2)[0]
    assert begin(other, part, opened) == {} and described({}) == "all weights as they are"
    assert training_runs.same_weights(other.state_dict(), model.state_dict())
    with pytest.raises(ValueError, match="from in start names drums, but .*Masks takes no sources"):
        begin(other, part, opened, {"drums": "bass"})
    with pytest.raises(ValueError, match="sources in start: the network of masks.safetensors, .*takes no sources"):
        with_start({"start": {"sources": ["drums"]}, "data": {}}, opened)


def test_an_official_package_begins_a_run(tmp_path):
    """By its file; a configuration gets what builds it, in numbers that JSON holds."""
    from fractions import Fraction
    torch.manual_seed(0)
    theirs = HDemucs(list(STEMS), **NETWORKS["hybrid"][2])
    from course_lib.training import official_packages
    package = official_packages.Package("demucs.hdemucs.HDemucs", (list(STEMS),), {
        **NETWORKS["hybrid"][2], "segment": Fraction(39, 5)}, theirs.state_dict())
    assert official_packages.model_part(package) == {
        "use": "course_lib.hdemucs:HDemucs", "sources": list(STEMS), **NETWORKS["hybrid"][2], "segment": 7.8}
    low = official_packages.Package("torchaudio.models.HDemucs", (), {"size": "low", "sources": list(STEMS)}, {})
    assert official_packages.model_part(low) == {
        "use": "course_lib.hdemucs:HDemucs", "sources": list(STEMS), "nfft": 1024, "depth": 5}
    torch.save(DemucsV2(STEMS, channels=4).state_dict(), tmp_path / "demucs_unittest.th")
    opened = open_checkpoint({"file": str(tmp_path / "demucs_unittest.th")})
    assert opened.part == {"use": "course_lib.demucs:DemucsV2", "sources": list(STEMS), "audio_channels": 2,
                           "channels": 4}
    config = with_start({"start": {"sources": ["vocals", "other"]}, "data": {"tracks": {}}}, opened)
    assert config["model"]["sources"] == ["vocals", "other"] == config["data"]["stems"] == config["facts"]["stems"]
    json.dumps(config)


def test_a_bag_needs_to_say_which_member(monkeypatch):
    from types import SimpleNamespace

    from course_lib.training import fine_tuning
    bag = SimpleNamespace(packages=("one", "two"))
    monkeypatch.setattr(fine_tuning, "fetch_official", lambda name, progress: bag)
    monkeypatch.setattr(fine_tuning, "_of_package", lambda name, package: package)
    with pytest.raises(ValueError, match="htdemucs_ft is a bag of 2 networks; say which one begins, member: 0 to 1"):
        open_checkpoint({"official": "htdemucs_ft"})
    with pytest.raises(ValueError, match="member is 2; htdemucs_ft has 2 networks, counted from 0"):
        open_checkpoint({"official": "htdemucs_ft", "member": 2})
    assert open_checkpoint({"official": "htdemucs_ft", "member": 1}) == "two"


# --- course train ----------------------------------------------------------------------------------------------------

RATE = 22050


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven stereo songs of a second, six stems each, `other` with guitar and piano as the band writes it."""
    root = tmp_path_factory.mktemp("own")
    write_set(root, "ABCDEFG", frames=RATE, rate=RATE, six_stems=True)
    return root


def config(folder, start, **changed):
    songs = {"source": "folder", "root": str(folder), "mono": True, "other": "whole"}
    whole = {
        "name": "own", "what": "a test of fine-tuning", "seed": 3, "start": start,
        "step": {"use": "course_lib.demucs:WaveformStep"},
        "data": {"tracks": songs, "seconds": 0.3, "remix": 0.5},
        "validation": {"use": "course_lib.demucs:separation_scores", "tracks": {**songs, "count": 2, "middle": 0.5}},
        "optimizer": {"use": "torch.optim:Adam", "lr": 0.0001},
        "training": {"steps": 4, "batch_size": 2, "validate_every": 2, "checkpoint_every": 2, "ema_decay": 0.5},
        "keep": {"dtype": "float16"},
    }
    return {name: part for name, part in {**whole, **changed}.items() if part is not None}


def write(path, content):
    path.write_text(yaml.safe_dump(content), encoding="utf8")
    return str(path)


@pytest.mark.parametrize("sources", [["vocals", "other"], list(STEMS), list(SIX_STEMS)], ids=["two", "four", "six"])
def test_from_a_checkpoint_of_the_course_to_ones_own_sources(folder, tmp_path, monkeypatch, capsys, sources):
    """It begins at the checkpoint's own score, goes on where it stopped, and comes back whole with its sources."""
    monkeypatch.setattr(command, "repository_root", lambda: tmp_path / "course")
    file = write(tmp_path / "own.yaml", config(folder, {"trained": "demucs_band", "sources": sources}))
    still = config(folder, {"trained": "demucs_band", "sources": sources}, keep=None,
                   optimizer={"use": "torch.optim:SGD", "lr": 0.0}, training={"steps": 1, "batch_size": 2})
    history = command.run_config(configuration.read_config(write(tmp_path / "still.yaml", still)), tmp_path / "still",
                                 command="test", progress=False)
    songs = configuration.tracks_of(still["validation"]["tracks"])
    band = load_trained("demucs_band")
    for name in set(sources) & {"drums", "bass", "vocals"}:
        own = separation_scores(band, songs)[name]
        assert history.validations[0][name] == pytest.approx(own, abs=1e-3)
    straight, halted = (["train", file, "--folder", str(tmp_path / run)] for run in "ab")
    assert main([*straight]) == 0
    said = capsys.readouterr().out
    shares = ("guitar as 0.33 other" in said, "guitar" in sources)
    assert "begins with demucs_band: as they are: " in said and shares[0] == shares[1]
    model = load_trained(tmp_path / "course" / "data" / "checkpoints" / "own.safetensors")
    assert model.sources == sources and model.facts.stems == tuple(sources) and model.facts.rate == RATE
    assert model.card["config"]["start"]["trained"] == "demucs_band"
    assert main([*halted, "--steps", "2", "--no-keep"]) == 0 and main([*halted, "--no-keep"]) == 0
    states = [torch.load(tmp_path / run / "checkpoints" / "step_00000004" / "state.pt", weights_only=True)
              for run in "ab"]
    assert training_runs.same_weights(states[0]["model"], states[1]["model"])
    begun = band.state_dict()["decoder.0.0.weight"]
    moved = states[0]["model"]["decoder.0.0.weight"] - begun
    assert 0 < moved.abs().max() < 0.01, "the weights moved, from where the checkpoint had them"
    # another beginning is another run
    other = write(tmp_path / "own.yaml", config(folder, {"trained": "demucs_band", "sources": sources,
                                                         "from": {sources[0]: "bass"}}))
    assert main(["train", other, "--folder", str(tmp_path / "a")]) == 2
    assert "start was" in capsys.readouterr().err


WRONG = [
    ({"start": {}}, "start in wrong.yaml has nothing; expected one of trained, official, file"),
    ({"start": "demucs_band"}, "start in wrong.yaml has 'demucs_band'; expected one of"),
    ({"start": {"trained": "a", "official": "b"}}, "start in wrong.yaml has official, trained; expected one of"),
    ({"start": {"trained": "demucs_band", "form": {}}}, "start in wrong.yaml has form, trained; expected one of"),
    ({"start": {"trained": "no_such"}}, "no trained model 'no_such' comes with the course; expected one of"),
    ({"start": {"trained": 3}}, "trained in start in wrong.yaml is 3; expected a name"),
    ({"start": {"official": "htdemucs9"}}, "name of an official model is 'htdemucs9'; expected one of htdemucs"),
    ({"start": {"file": "nowhere.safetensors"}}, "nowhere.safetensors has no card"),
    ({"start": {"file": "nowhere.th"}}, "no weights at nowhere.th"),
    ({"start": {"trained": "demucs_band", "sources": "vocals"}}, "sources in start in wrong.yaml is 'vocals'"),
    ({"start": {"trained": "demucs_band", "from": ["other"]}}, "from in start in wrong.yaml is ['other']"),
    ({"start": {"trained": "demucs_band", "from": {"drums": 3}}}, "from in start in wrong.yaml is {'drums': 3}"),
    ({"start": {"trained": "demucs_band", "member": -1}}, "member in start in wrong.yaml is -1"),
    ({"start": {"trained": "demucs_band", "sources": ["vocals", "flute"]}}, "has no flute; it has drums, bass, other"),
    ({"start": {"trained": "demucs_band", "sources": ["vocals"]},
      "model": {"use": "course_lib.demucs:DemucsV2", "sources": ["vocals"]}}, "sources are in start, and there is a "),
    ({"model": {"use": "course_lib.demucs:DemucsV2", "sources": ["bass"], "audio_channels": 1, "depth": 2}},
     "demucs_band does not fit DemucsV2"),
    ({"start": None}, "wrong.yaml lacks model"),
    ({"data": {"tracks": {"source": "folder", "other": "whole"}, "seconds": 0.3, "stems": ["vocals", "drums"]}},
     "the model has the sources drums, bass, other, vocals, the data the stems vocals, drums; write stems: [drums, "),
    ({"data": {"tracks": {"source": "folder"}, "seconds": 0.3}},
     "the model takes 1 channel, the data have 2; write mono: true in tracks"),
    ({"optimizer": {"use": "torch.optim:Adam", "lr": 1e-4, "groups": {"names": "a"}}}, "groups of optimizer in wrong"),
    ({"optimizer": {"use": "torch.optim:Adam", "groups": [{"lr": 1e-4}]}}, "groups[0] of optimizer in wrong.yaml la"),
    ({"optimizer": {"use": "torch.optim:Adam", "groups": [{"names": "lstm.*", "weight_decy": 1}]}},
     "groups[0] of optimizer in wrong.yaml has weight_decy, which is not known"),
    ({"optimizer": {"use": "torch.optim:Adam", "groups": [{"names": ["lstm.*"]}]}}, "expected a pattern such as"),
    ({"optimizer": {"use": "torch.optim:Adam", "groups": [{"names": "crosstransformer.*"}]}},
     "names 'crosstransformer.*' in groups of optimizer match no parameter that is left; the model has encoder.0"),
    ({"step": {"use": "course_lib.training.fine_tuning:SourceStep", "weights": {"flute": 1}}}, "weights name flute; "),
    ({"validation": {"use": "course_lib.demucs:separation_scores", "tracks": {"source": "folder", "middle": 0}}},
     "middle of tracks is 0; expected seconds"),
]


@pytest.mark.parametrize("changed, message", WRONG)
def test_what_is_wrong_is_named(folder, tmp_path, capsys, monkeypatch, changed, message):
    monkeypatch.chdir(tmp_path)
    content = config(folder, **{"start": {"trained": "demucs_band"}, "validation": None, **changed})
    for part in (content["data"], content.get("validation", {})):
        if "tracks" in part:
            part["tracks"] = {"root": str(folder), "other": "whole", **part["tracks"]}
    status = main(["train", write(tmp_path / "wrong.yaml", content), "--folder", str(tmp_path / "run"), "--no-keep"])
    said = capsys.readouterr().err
    assert status == 2 and message in said and said.count("\n") == 1, said


def test_examples_are_whole(monkeypatch):
    """Every name in them exists, as soon as the network's module does."""
    files = sorted(EXAMPLES.glob("*.yaml"))
    assert [path.stem for path in files] == ["htdemucs_vocals", "own_stems"]
    for path in files:
        read = configuration.read_config(str(path))
        assert read["name"] == path.stem and "start" in read


def test_the_example_runs_on_a_folder_of_songs(tmp_path, monkeypatch):
    """As it stands, but for the number of steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "repository_root", lambda: tmp_path / "course")
    write_set(tmp_path / "my_songs" / "train", "ABCDEF", frames=2 * RATE, rate=RATE)
    write_set(tmp_path / "my_songs" / "valid", "GH", frames=2 * RATE, rate=RATE)
    for song in (tmp_path / "my_songs").glob("*/*"):
        (song / "mixture.wav").unlink()
        for stem in ("guitar", "piano"):
            (song / f"{stem}.wav").write_bytes((song / "other.wav").read_bytes())
    content = configuration.read_config(str(EXAMPLES / "own_stems.yaml"))
    content["training"] |= {"steps": 2, "batch_size": 2}
    content["schedule"] |= {"warmup": 1}
    assert main(["train", write(tmp_path / "own_stems.yaml", content), "--folder", str(tmp_path / "run")]) == 0
    model = load_trained(tmp_path / "course" / "data" / "checkpoints" / "own_stems.safetensors")
    assert model.sources == list(SIX_STEMS) and set(SIX_STEMS) <= set(model.card["score"])


@pytest.mark.skipif("transformer" not in NETWORKS, reason="HT Demucs is not there yet")
def test_the_official_recipe_on_a_small_package(tmp_path, monkeypatch):
    """What the example says of step, optimizer and clipping, from a package in 16 bits: only one source is counted."""
    import demucs.htdemucs

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "repository_root", lambda: tmp_path / "course")
    torch.manual_seed(0)
    options = {"sources": list(STEMS), **NETWORKS["transformer"][2]}
    theirs = demucs.htdemucs.HTDemucs(**options)
    half = {name: tensor.half() for name, tensor in theirs.state_dict().items()}
    torch.save({"klass": type(theirs), "args": (), "kwargs": options, "state": half, "training_args": {}}, "tiny.th")
    write_set(tmp_path / "songs", "ABC", frames=22050, rate=44100)
    songs = {"source": "folder", "root": "songs"}
    content = configuration.read_config(str(EXAMPLES / "htdemucs_vocals.yaml"))
    content["start"], content["data"]["tracks"], content["validation"]["tracks"] = {"file": "tiny.th"}, songs, {
        **songs, "middle": 0.25}
    content["data"]["seconds"] = 0.25
    content["training"] |= {"steps": 2, "batch_size": 1, "precision": "no", "validate_every": 1, "workers": 0}
    assert main(["train", write(tmp_path / "tiny.yaml", content), "--folder", str(tmp_path / "run")]) == 0
    model = load_trained(tmp_path / "course" / "data" / "checkpoints" / "htdemucs_vocals.safetensors")
    assert type(model) is HTDemucs and model.facts.segment == 0.25 and "vocals" in model.card["score"]
    state = torch.load(tmp_path / "run/checkpoints/step_00000002/state.pt", weights_only=True)
    groups = state["optimizer"]["param_groups"]
    transformer = [name for name, _ in model.named_parameters() if name.startswith("crosstransformer.")]
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [
        (len(list(model.parameters())) - len(transformer), 0.0), (len(transformer), 0.05)] and transformer
    last = state["model"]["decoder.3.conv_tr.weight"] - half["decoder.3.conv_tr.weight"].float()
    moved = last.unflatten(1, (4, -1)).abs().amax((0, 2, 3, 4))
    assert moved[3] > 0 and moved[:3].eq(0).all(), "without weight decay the other sources' outputs stay"


# --- the step and the optimizer --------------------------------------------------------------------------------------

class Fixed(torch.nn.Module):
    """Gives the same estimates whatever it hears."""

    sources = ["drums", "vocals"]

    def __init__(self, estimates):
        super().__init__()
        self.estimates = torch.nn.Parameter(estimates)

    def forward(self, mixture):
        return self.estimates


def test_the_loss_counts_the_sources_that_it_is_told():
    sources = torch.zeros(1, 2, 1, 4)
    model = Fixed(torch.tensor([[[[1.0, 1, 1, 1]], [[3.0, 3, 3, -3]]]]))
    assert {name: x.item() for name, x in SourceStep({"vocals": 1})(model, sources).items()} == {"loss": 3, "vocals": 3}
    both = SourceStep({"drums": 3, "vocals": 1})(model, sources)
    assert {name: x.item() for name, x in both.items()} == {"loss": 1.5, "drums": 1, "vocals": 3}
    assert SourceStep({"vocals": 2.0}, loss="l2")(model, sources)["loss"].item() == 9
    SourceStep({"vocals": 1, "drums": 0})(model, sources)["loss"].backward()
    assert model.estimates.grad[:, 0].eq(0).all() and model.estimates.grad[:, 1].ne(0).all()
    longer = torch.cat([torch.full((1, 2, 1, 1), 9.0), sources, torch.full((1, 2, 1, 2), 9.0)], -1)
    assert SourceStep({"vocals": 1})(model, longer)["loss"].item() == 3, "the middle of the targets"
    wrapped = torch.nn.DataParallel(model)                  # as accelerate wraps it: the sources lie one deeper
    assert SourceStep({"vocals": 1})(wrapped, sources)["loss"].item() == 3


def test_source_steps_that_are_wrong():
    nan = float("nan")
    for weights in ({}, {"vocals": 0}, {"vocals": -1}, {"vocals": "1"}, {"vocals": nan}, [1], {"vocals": True}):
        with pytest.raises(ValueError, match="weights are"):
            SourceStep(weights)
    with pytest.raises(ValueError, match="loss is 'l3'; expected one of l1, l2"):
        SourceStep({"vocals": 1}, loss="l3")
    with pytest.raises(ValueError, match=r"the model gives \(1, 2, 1, 4\), the targets have \(1, 3, 1, 4\)"):
        SourceStep({"vocals": 1})(Fixed(torch.zeros(1, 2, 1, 4)), torch.zeros(1, 3, 1, 4))


def test_groups_of_an_optimizer():
    """By names, the first that matches; the others keep the settings of all."""
    model = HDemucs(list(STEMS), channels=4, depth=2, nfft=64, dconv_mode=0)
    part = {"use": "torch.optim:AdamW", "lr": 1e-4, "weight_decay": 0.0, "groups": [
        {"names": "encoder.*.weight", "weight_decay": 0.05}, {"names": "encoder.*", "lr": 0.0},
        {"names": "freq_emb*", "lr": 1e-3}]}
    optimizer = configuration.optimizer_of(part, model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [({names[id(p)] for p in group["params"]}, group["lr"], group["weight_decay"])
             for group in optimizer.param_groups]
    everything = set(names.values())
    encoder = {name for name in everything if name.startswith("encoder.")}
    weights = {name for name in encoder if name.endswith(".weight")}
    embedding = {name for name in everything if name.startswith("freq_emb")}
    assert found == [(everything - encoder - embedding, 1e-4, 0.0), (weights, 1e-4, 0.05),
                     (encoder - weights, 0.0, 0.0), (embedding, 1e-3, 0.0)]
    assert weights and encoder - weights and embedding and part["groups"][0]["names"] == "encoder.*.weight"
    part = {"use": "torch.optim:SGD", "lr": 0.1, "groups": [{"names": "*", "lr": 0.2}]}
    alone = configuration.optimizer_of(part, model)
    assert [group["lr"] for group in alone.param_groups] == [0.2]


def test_mono_tracks(folder):
    """The mean of the channels, read piece by piece, at any rate."""
    stereo, mono = (open_tracks("folder", root=folder, count=1, mono=mono)[0] for mono in (False, True))
    assert mono.channels == 1 and mono.mono() is mono
    for stem in ("mixture", "other", "guitar"):
        assert torch.allclose(mono[stem], stereo[stem].mean(0, keepdim=True), atol=1e-7)
    assert torch.allclose(mono.read("drums", 100, 50), stereo.read("drums", 100, 50).mean(0, keepdim=True), atol=1e-7)
    slow = open_tracks("folder", root=folder, count=1, mono=True, rate=11025, cache_mb=10)[0]
    half = stereo.resampled(11025)["bass"].mean(0, keepdim=True)
    assert slow.rate == 11025 and torch.allclose(slow["bass"], half, atol=1e-6)


def test_six_stems_are_remixed_in_larger_groups(folder):
    songs = open_tracks("folder", root=folder, other="whole")
    chunks = configuration.chunks_of({"seconds": 0.1, "remix": True, "stems": list(SIX_STEMS)}, songs, 12, 0)
    assert chunks.group == 6 and len({place.track for place in chunks.places(0)}) == 6
    assert configuration.chunks_of({"seconds": 0.1, "remix": True}, songs, 8, 0).group == 4
