"""Chapter 13's module: the published names and counts, equality with independent constructions and kept numbers, layers
by hand, chunks, scores equal to scikit-learn's, gradients, bad input."""

import http.server
import json
import math
import os
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch
import torchaudio
from sklearn.metrics import average_precision_score, roc_auc_score

from course_lib import losses, taggers
from course_lib.taggers import (
    CRNN,
    FCN,
    JAMENDO_TAGS,
    MTAT_TAGS,
    ConvLayer,
    HarmonicCNN,
    HarmonicSTFT,
    MelFrontEnd,
    Musicnn,
    ResidualLayer,
    TaggingStep,
    VerticalFilters,
    average_precision,
    harmonic_centres,
    harmonic_filters,
    in_chunks,
    listening_map,
    load_tagger,
    ranked,
    roc_auc,
    tag,
)
from course_lib.training.official import read_tensors
from tests.references import taggers as reference

CLASSES = {"fcn": FCN, "musicnn": Musicnn, "crnn": CRNN, "hcnn": HarmonicCNN}
KEPT = dict(np.load(reference.FILE))


def filled(kind: str, seed: int) -> torch.nn.Module:
    """A network with the reference's weights, in eval mode."""
    model = CLASSES[kind]()
    values = reference.filled({name: tuple(t.shape) for name, t in model.state_dict().items()}, seed)
    model.load_state_dict(values, strict=False)
    return model.eval()


# ------------------------------------------------------------------------------------------ names, counts, equality


@pytest.mark.parametrize(("kind", "parameters"), [("fcn", 447_732), ("musicnn", 784_300), ("crnn", 394_100),
                                                  ("hcnn", 3_631_551)])
def test_the_published_names_and_counts(kind, parameters):
    model = CLASSES[kind]()
    assert sum(p.numel() for p in model.parameters()) == parameters
    names = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    front = {"hstft.spec.window": (512,)} if kind == "hcnn" else {"spec.spectrogram.window": (512,),
                                                                  "spec.mel_scale.fb": (257, 96)}
    counters = {name for name in names if name.endswith("num_batches_tracked")}
    assert {name: shape for name, shape in names.items() if name not in counters} == {
        **reference.shapes_of(kind), **front}
    assert len(counters) == sum(name.endswith("running_mean") for name in names)


@pytest.mark.parametrize("kind", reference.NETWORKS)
def test_outputs_and_layers_equal_the_kept_numbers(kind):
    seed = reference.NETWORKS.index(kind)
    model, found = filled(kind, seed), {}
    pools = {"fcn": taggers.FCN().pooling, "crnn": CRNN.pooling, "hcnn": HarmonicCNN.pooling}.get(kind)

    def keep(name):
        def hook(module, given, value):
            value = value[0] if isinstance(value, tuple) else value
            if pools and name.startswith("layer") and value.ndim == 4:
                value = torch.nn.functional.max_pool2d(value, pools[int(name[5:]) - 1])
            found[name] = value
        return hook

    for name, module in model.named_modules():
        if f"{kind}/{name}" in KEPT:
            module.register_forward_hook(keep(name))
    x = reference.sound(reference.SAMPLES[kind], seed)
    with torch.no_grad():
        output = model(x)
        found["levels"] = model.levels(x)
    assert np.abs(output.numpy() - KEPT[f"{kind}/output"]).max() < 1e-4
    assert KEPT[f"{kind}/output"].std() > 0.05                         # they say something
    known = {name.partition("/")[2] for name in KEPT if name.startswith(f"{kind}/")} - {"output", "heard"}
    assert known <= set(found)
    for name in known:
        theirs = KEPT[f"{kind}/{name}"]
        scale = np.abs(theirs).max()
        assert np.abs(reference.shown(found[name]) - theirs).max() < 1e-4 * scale, name


def test_gradients_equal_the_independent_construction():
    """Of the output to the sound, through front end and network, in float64."""
    model = filled("musicnn", 1).double()
    parts = reference.Parts({name: t.double() for name, t in model.state_dict().items()})
    x = reference.sound(8000, 5).double()
    front = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, f_min=0.0, f_max=8000.0, n_mels=96).double()
    front.mel_scale.fb = model.spec.mel_scale.fb
    front.spectrogram.window = model.spec.spectrogram.window
    parts.mel = lambda x: parts.norm(10 * front(x).clamp_min(1e-10).log10()[:, None], "spec_bn")
    gradients = []
    for network in (model, parts.musicnn):
        y = x.clone().requires_grad_()
        network(y).square().sum().backward()
        gradients.append(y.grad)
    assert gradients[0].norm() > 0
    assert torch.allclose(*gradients, rtol=1e-6, atol=1e-9 * float(gradients[0].abs().max()))


def test_the_front_end_is_torchaudios():
    front, x = MelFrontEnd(), reference.sound(20_000, 3)
    theirs = torchaudio.transforms.MelSpectrogram(16_000, n_fft=512, f_min=0.0, f_max=8000.0, n_mels=96)
    assert torch.allclose(front.spectrogram.window, theirs.spectrogram.window, atol=1e-6)
    assert torch.allclose(front.mel_scale.fb, theirs.mel_scale.fb, atol=1e-4)
    assert torch.allclose(front(x), torchaudio.transforms.AmplitudeToDB()(theirs(x)), atol=1e-2)
    assert torch.allclose(front(torch.zeros(1, 1000)), torch.tensor(-100.0))


# ------------------------------------------------------------------------------------------------------ layers by hand


@torch.no_grad()
def test_a_convolution_layer_by_loops():
    layer = ConvLayer(2, 3).eval()
    torch.manual_seed(0)
    for t in layer.state_dict().values():
        t.copy_(torch.rand(t.shape) + 0.1)
    x = torch.randn(1, 2, 5, 4)
    padded = np.pad(x[0].numpy(), ((0, 0), (1, 1), (1, 1)))
    w, bn = layer.conv.weight.numpy(), layer.bn
    for c in range(3):
        y = sum(scipy.signal.correlate2d(padded[i], w[c, i], mode="valid") for i in range(2))
        y = y + float(layer.conv.bias[c])
        y = (y - float(bn.running_mean[c])) / math.sqrt(float(bn.running_var[c]) + 1e-5)
        y = np.maximum(0, y * float(bn.weight[c]) + float(bn.bias[c]))
        assert np.allclose(layer(x)[0, c].numpy(), y, atol=1e-5)


@torch.no_grad()
def test_vertical_filters_take_the_best_place():
    layer = VerticalFilters(1, 3, 1).eval()
    layer.conv.weight.copy_(torch.tensor([1.0, 2.0, -1.0]).view(1, 1, 3, 1))
    layer.conv.bias.zero_()
    x = torch.tensor([0.0, 1, 3, 0, 2, 2])
    by_hand = max(x[i] + 2 * x[i + 1] - x[i + 2] for i in range(4)) / math.sqrt(1 + 1e-5)
    assert torch.allclose(layer(x.view(1, 1, 6, 1))[0, 0, 0], by_hand)


@torch.no_grad()
def test_a_residual_layer_adds_what_it_got():
    layer = ResidualLayer(2).eval()
    layer.conv_2.weight.zero_()
    layer.conv_2.bias.zero_()
    x = torch.randn(1, 2, 4, 4)
    assert torch.allclose(layer(x), x.clamp_min(0))


def test_harmonic_filters_by_hand():
    centres = harmonic_centres()
    assert centres.shape == (6, 128)
    for h, p in ((1, 0), (1, 127), (3, 40), (6, 90)):
        assert math.isclose(float(centres[h - 1, p]), h * 440 * 2 ** ((24 + p / 2 - 69) / 12), rel_tol=1e-6)
    assert float(centres[:, -1].max()) < 8000
    bins, Q = torch.linspace(0, 8000, 257), torch.tensor([2.0], requires_grad=True)
    filters = harmonic_filters(centres, Q, bins)
    shown = filters.detach()
    for k, h, p in ((10, 0, 60), (14, 0, 90), (40, 2, 80), (200, 5, 125), (28, 1, 91)):
        f, width = float(centres[h, p]), (0.1079 * float(centres[h, p]) + 24.7) / 2
        by_hand = max(0.0, 1 - abs(k * 31.25 - f) / (width / 2))
        assert math.isclose(float(shown[k, h, p]), by_hand, abs_tol=1e-4), (k, h, p)
    filters.sum().backward()
    assert Q.grad.isfinite().all() and float(Q.grad) < 0               # a larger Q: narrower triangles


def test_the_width_of_the_harmonic_filters_learns():
    stft = HarmonicSTFT()
    stft(reference.sound(4000, 0)).mean().backward()
    assert stft.bw_Q.grad.isfinite().all() and float(stft.bw_Q.grad.abs()) > 0
    assert list(stft.state_dict()) == ["bw_Q", "spec.window"]


def test_chapter_5s_features_are_a_view_of_fcn():
    model = filled("fcn", 0)
    view, x = model.features(), reference.sound(30_000, 2)
    h = model.spec_bn(model.spec(x)[:, None])
    for n, maps in enumerate(view.feature_maps(x), 1):
        h = getattr(model, f"layer{n}")(h)
        assert torch.allclose(maps, h, rtol=1e-4, atol=1e-4 * float(h.detach().abs().max()))
        h = torch.nn.functional.max_pool2d(h, (2, 4))
    assert view.layer1.conv.weight is model.layer1.conv.weight and not view.training
    assert isinstance(view, losses.TaggerFeatures)


# ---------------------------------------------------------------------------------------------------- the real weights


@pytest.fixture(scope="module")
def at_hand():
    folder = os.environ.get("COURSE_WEIGHTS_DIR")
    if not folder or not (Path(folder) / "taggers" / "mtat_fcn.pth").is_file():
        pytest.skip("the published weights are not at hand: COURSE_WEIGHTS_DIR names no folder with taggers/")
    return Path(folder) / "taggers"


def test_the_published_weights_load_and_their_tags_are_known(at_hand):
    known = json.loads((at_hand / "tags.json").read_text(encoding="utf8"))
    # that list has Jamendo's tags as the training code writes them down; its label encoder sorts them
    assert MTAT_TAGS == tuple(known["mtat"]) and JAMENDO_TAGS == tuple(sorted(known["jamendo"]))
    x = reference.sound(16_000, 1)
    for name in ("mtat_fcn", "jamendo_musicnn", "mtat_crnn"):
        model = load_tagger(name)
        given = tag(model, x)
        assert model.tags == taggers.OFFICIAL_TAGS[name.partition("_")[0]] and not model.training
        assert not any(p.requires_grad for p in model.parameters())
        assert given.shape == (2, 50) and bool(((0 < given) & (given < 1)).all())


@pytest.mark.parametrize("kind", ["fcn", "musicnn", "crnn"])
@pytest.mark.parametrize("data", ["mtat", "jamendo"])
def test_a_published_network_equals_the_independent_construction(at_hand, data, kind):
    tensors = read_tensors(at_hand / f"{data}_{kind}.pth")             # as published, not as our class has them
    model, x = load_tagger(f"{data}_{kind}"), reference.sound(reference.SAMPLES[kind], 4)[:1]
    front = MelFrontEnd()
    assert torch.allclose(tensors["spec.spectrogram.window"], front.spectrogram.window, atol=1e-6)
    assert torch.allclose(tensors["spec.mel_scale.fb"], front.mel_scale.fb, atol=1e-4)     # triangles of height 1
    with torch.no_grad():
        theirs = getattr(reference.Parts(tensors), kind)(x)
        assert theirs.std() > 0.01 and torch.allclose(model(x), theirs, atol=1e-4)


def test_chapter_5_loads_the_same_first_layers(at_hand):
    x = reference.sound(20_000, 6)
    for a, b in zip(load_tagger("mtat_fcn").features().feature_maps(x), losses.load_tagger().feature_maps(x)):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "said"), [("fcn", "name is 'fcn'"), ("msd_fcn", "mtat or jamendo"),
                                            ("mtat_vgg", "one of fcn, musicnn"),
                                            ("mtat_hcnn", "no hash of .* is known; pass path,"),
                                            (3, "name is 3")])
def test_unknown_names_are_told(name, said):
    with pytest.raises(ValueError, match=said):
        load_tagger(name)


def test_a_file_of_another_network_is_refused(tmp_path):
    path = tmp_path / "best_model.pth"
    torch.save(Musicnn().state_dict(), path)
    assert isinstance(load_tagger("jamendo_musicnn", path), Musicnn)
    with pytest.raises(ValueError, match="best_model.pth does not fit FCN: layer4.conv.weight is missing"):
        load_tagger("mtat_fcn", path)
    torch.save(HarmonicCNN(n_class=50).state_dict(), path)
    assert load_tagger("mtat_hcnn", path).tags == MTAT_TAGS


@pytest.mark.parametrize("data", ["mtat", "jamendo"])
def test_weights_without_a_known_hash_are_fetched_only_with_leave(tmp_path, monkeypatch, data):
    """From a server of the test's own: not without `unchecked`, then strictly, and not what was cut short."""
    served, name = tmp_path / "served" / "taggers" / f"{data}_hcnn.pth", f"{data}_hcnn"
    served.parent.mkdir(parents=True)
    torch.manual_seed(0)
    published = HarmonicCNN()
    torch.save(published.state_dict(), served)
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda self, *arguments: None})
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=tmp_path / "served"))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    monkeypatch.delenv("COURSE_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("COURSE_WEIGHTS_URL", f"http://127.0.0.1:{httpd.server_address[1]}")
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "data"))
    try:
        with pytest.raises(ValueError, match="unchecked=True"):
            load_tagger(name)
        assert not (tmp_path / "data").exists()                        # nothing was asked for
        model = load_tagger(name, unchecked=True)
        assert model.tags == taggers.OFFICIAL_TAGS[data] and not model.training
        assert all(torch.equal(x, published.state_dict()[key]) for key, x in model.state_dict().items())
    finally:
        httpd.shutdown()
        httpd.server_close()
    kept = next((tmp_path / "data").rglob(f"{name}.pth"))
    kept.write_bytes(kept.read_bytes()[:-1000])                        # no hash tells, but it can't be read
    with pytest.raises(ValueError, match=f"{name}.pth"):
        load_tagger(name, unchecked=True)


# --------------------------------------------------------------------------------------------------- chunks and tagging


def small(seed: int = 0) -> FCN:
    """A small network for half a second."""
    torch.manual_seed(seed)
    pools = [(2, 2), (2, 2), (2, 2), (3, 2), (4, 2)]
    return FCN(n_class=4, channels=(2, 3, 3, 3, 2), pooling=pools, seconds=0.5).eval()


def test_chunks_cover_the_song():
    x = torch.arange(1.0, 8)[None]
    assert in_chunks(x, 3).tolist() == [[[1, 2, 3], [4, 5, 6], [7, 0, 0]]]
    assert in_chunks(x, 3, "repeat").tolist() == [[[1, 2, 3], [4, 5, 6], [7, 1, 2]]]
    assert in_chunks(x, 3, "back").tolist() == [[[1, 2, 3], [4, 5, 6], [5, 6, 7]]]
    assert in_chunks(x, 10).tolist() == [[[*range(1, 8), 0, 0, 0]]]
    assert in_chunks(x, 10, "repeat").tolist() == in_chunks(x, 10, "back").tolist() == [[[*range(1, 8), 1, 2, 3]]]
    for fill in taggers.FILLS:
        assert torch.equal(in_chunks(x, 7, fill), x[:, None])


def test_a_song_is_the_mean_of_its_chunks_whatever_the_batch():
    model, x = small(), reference.sound(20_001, 0)
    with torch.no_grad():
        by_hand = torch.stack([model(torch.nn.functional.pad(x, (0, 3999))[:, start:start + 8000])
                               for start in (0, 8000, 16_000)]).mean(0)
        for batch_size in (1, 2, 5, 100):
            assert torch.allclose(tag(model, x, batch_size), by_hand, atol=1e-6)
        assert torch.allclose(tag(model, x[1:]), by_hand[1:], atol=1e-6)


def test_gradients_pass_through_chunks_and_silence_is_finite():
    model, x = small(), torch.zeros(1, 12_000, requires_grad=True)
    given = tag(model, x)
    given.sum().backward()
    assert given.isfinite().all() and x.grad.isfinite().all()
    x = reference.sound(12_000, 0).requires_grad_()
    tag(model, x).sum().backward()
    assert x.grad[:, 8000:].abs().sum() > 0 and x.grad[:, :8000].abs().sum() > 0


def test_ranked_tags():
    assert ranked(torch.tensor([0.25, 0.75, 0.5]), ("a", "b", "c"), 2) == [("b", 0.75), ("c", 0.5)]
    with pytest.raises(ValueError, match=r"shape \(2, 3\); expected one for each of 3"):
        ranked(torch.zeros(2, 3), ("a", "b", "c"))


def test_bad_audio_is_told():
    model = small()
    for x, said in ((torch.zeros(8000), r"shape \(8000,\) and samples is 8000; expected \(batch, time\)"),
                    (np.zeros((1, 8000)), "numpy.ndarray"), (torch.zeros(1, 8000, dtype=torch.int16), "int16"),
                    (torch.zeros(1, 0), "at least one sample"), (torch.full((1, 8000), torch.nan), "not finite")):
        with pytest.raises(ValueError, match=said):
            tag(model, x)
    with pytest.raises(ValueError, match="fill is 'wrap'"):
        tag(model, torch.zeros(1, 8000), fill="wrap")
    for network, samples in ((FCN(), 48_000), (FCN(), 2_000_000), (CRNN(), 16_000), (HarmonicCNN(8), 48_000)):
        with pytest.raises(ValueError, match="`tag` cuts longer audio"):
            network.eval()(torch.zeros(1, samples))
    with pytest.raises(ValueError, match="512|expected"):
        Musicnn().eval()(torch.zeros(1, 100))
    with pytest.raises(ValueError, match="five layers"):
        FCN(channels=(1, 2))
    with pytest.raises(ValueError, match="64 heights"):
        HarmonicCNN(semitone_scale=1)


def test_the_listening_map_is_the_gradient():
    model, x = small().double(), reference.sound(8000, 2).double()
    levels, gradient = listening_map(model, x, 2)
    assert levels.shape == gradient.shape == (2, 96, 32)
    place = tuple(int(n) for n in np.unravel_index(int(gradient[0].abs().argmax()), gradient[0].shape))
    odds = []
    for step in (1e-4, -1e-4):
        moved = levels.clone()
        moved[0][place] += step
        with torch.no_grad():
            odds.append(float(model.tagged(moved)[0, 2].logit()))
    assert math.isclose((odds[0] - odds[1]) / 2e-4, float(gradient[0][place]), rel_tol=1e-3)
    with pytest.raises(ValueError, match="tag is 4; the model has tags 0 to 3"):
        listening_map(model, x, 4)


# -------------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("ties", [False, True])
def test_scores_equal_scikit_learn(ties):
    random = np.random.default_rng(0)
    labels = (random.random((300, 7)) < [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98]).astype(int)
    scores = random.random((300, 7))
    labels[0], labels[1] = 0, 1
    scores = 0.4 * scores + 0.3 * labels
    scores = np.round(scores, 1) if ties else scores
    ours_roc, ours_pr = (f(torch.from_numpy(labels), torch.from_numpy(scores)).numpy()
                         for f in (roc_auc, average_precision))
    assert np.allclose(ours_roc, roc_auc_score(labels, scores, average=None), atol=1e-12)
    assert np.allclose(ours_pr, average_precision_score(labels, scores, average=None), atol=1e-12)


def test_scores_by_hand_and_where_they_are_undefined():
    labels, scores = torch.tensor([1, 0, 1, 0]), torch.tensor([0.9, 0.8, 0.3, 0.1])
    assert float(roc_auc(labels, scores)) == 0.75
    assert math.isclose(float(average_precision(labels, scores)), (1 + 2 / 3) / 2)
    assert float(roc_auc(labels, torch.zeros(4))) == 0.5 == float(average_precision(labels, torch.zeros(4)))
    none = torch.stack([labels, 0 * labels, 1 + 0 * labels], 1)
    roc, pr = (f(none, scores[:, None].expand(4, 3)) for f in (roc_auc, average_precision))
    assert roc.isnan().tolist() == [False, True, True] and pr.isnan().tolist() == [False, True, False]
    assert torch.equal(roc_auc(labels, 5 * scores - 100), roc_auc(labels, scores))


@pytest.mark.parametrize(("labels", "scores", "said"), [
    (torch.ones(3), torch.ones(2), r"labels has shape \(3,\), scores \(2,\)"),
    (torch.ones(0), torch.ones(0), "at least one item"),
    (torch.tensor([0, 2]), torch.ones(2), "0 or 1"),
    (torch.tensor([0, 1]), torch.tensor([0.1, torch.nan]), "finite")])
def test_bad_scores_are_told(labels, scores, said):
    for measure in (roc_auc, average_precision):
        with pytest.raises(ValueError, match=said):
            measure(labels, scores)


def test_the_training_step_is_the_mean_cross_entropy():
    model, x = small(), reference.sound(8000, 1)
    labels = torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 1]])
    with torch.no_grad():
        p = model(x)
        by_hand = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    loss = TaggingStep()(model, (x, labels))
    assert math.isclose(float(loss.detach()), float(by_hand), rel_tol=1e-5)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
