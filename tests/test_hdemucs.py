"""Chapter 7's module: equality with the package demucs and with torchaudio, the parts by hand, errors and edges."""

import itertools
import re

import demucs.hdemucs
import demucs.svd
import pytest
import torch
import torchaudio
from torch import nn

from course_lib.data import STEMS, Track
from course_lib.demucs import separate
from course_lib.hdemucs import (
    TORCHAUDIO_NAMES,
    Fit,
    HDemucs,
    Listened,
    PenalisedStep,
    ScaledEmbedding,
    aligned_istft,
    aligned_stft,
    automix,
    beat_offset,
    channels_as_complex,
    chroma_of,
    complex_as_channels,
    from_torchaudio,
    in_blocks,
    largest_singular_value,
    layer_sizes,
    moved,
    padded_to_hops,
    shift_distances,
    standardised,
    svd_penalty,
    tempo_factor,
    torchaudio_hdemucs,
    weight_matrices,
)

SMALL = dict(sources=["a", "b", "c"], channels=4, nfft=256, depth=5, norm_starts=2, norm_groups=2, dconv_attn=3,
             dconv_lstm=3, dconv_comp=1, dconv_init=0.3)
OPTIONS = [
    dict(),
    dict(audio_channels=1),
    dict(channels_time=8),
    dict(channels_time=2, dconv_comp=0.5),
    dict(growth=1.5, norm_groups=1, dconv_comp=0.25, dconv_attn=9),
    dict(nfft=64, depth=3),
    dict(nfft=1024, depth=6),
    dict(depth=3),
    dict(cac=False),
    dict(cac=False, wiener_iters=-1, end_iters=-1),
    dict(cac=False, hybrid=False, wiener_iters=0, end_iters=0),
    dict(rewrite=False),
    dict(hybrid=False),
    dict(hybrid=False, nfft=128, depth=4),
    dict(hybrid_old=True),
    dict(hybrid_old=True, cac=False),
    dict(multi_freqs=[0.25, 0.5], multi_freqs_depth=1, norm_starts=1, nfft=1024),
    dict(multi_freqs=[0.3, 0.55, 0.8], multi_freqs_depth=2, nfft=4096, depth=6, channels=2, dconv_comp=0.5),
    dict(multi_freqs=[0.3], multi_freqs_depth=2, hybrid=False, nfft=1024, freq_emb=0),
    dict(freq_emb=0),
    dict(freq_emb=0.7, emb_scale=3, emb_smooth=False),
    dict(kernel_size=4, stride=2, nfft=64),
    dict(time_stride=4),
    dict(context=2, context_enc=1),
    dict(context=0),
    dict(norm_starts=0, norm_groups=1),
    dict(norm_starts=99),
    dict(dconv_mode=0),
    dict(dconv_mode=2),
    dict(dconv_mode=3, dconv_depth=3),
    dict(dconv_depth=-2),
    dict(dconv_attn=9),
    dict(dconv_lstm=9, dconv_comp=0.5),
    dict(rescale=0),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shaken(model: nn.Module, seed=0) -> nn.Module:
    """Scales, norms and biases away from their starting values, which hide mistakes."""
    random = generator(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim == 1:
                centre = 1.0 if name.endswith("weight") else 0.3 if "scale" in name else 0.0
                tensor.copy_(centre + 0.2 * torch.randn(tensor.shape, generator=random))
            if "query_decay.bias" in name:
                tensor -= 1.0
    return model.eval()


def pair_of(**options) -> tuple[HDemucs, nn.Module]:
    torch.manual_seed(0)
    official = shaken(demucs.hdemucs.HDemucs(**options))
    ours = HDemucs(**options).eval()
    ours.load_state_dict(official.state_dict(), strict=True)
    official.load_state_dict(ours.state_dict(), strict=True)
    return ours, official


def mixture(channels=2, time=3000, batch=2, dtype=torch.float32):
    return 0.2 * torch.randn(batch, channels, time, generator=generator(1), dtype=torch.float64).to(dtype)


def relative(ours, theirs) -> float:
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12))


def activations(model: nn.Module, x) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The output, and what every layer gave, by the layer's name."""
    seen, handles = {}, []
    for name, layer in model.named_modules():
        if name and not isinstance(layer, (nn.ModuleList, nn.LSTM)):
            handles.append(layer.register_forward_hook(lambda _layer, _x, y, name=name: seen.update(
                {name: (y[0] if isinstance(y, tuple) else y).detach().clone()})))    # demucs adds in place
    y = model(x)
    for handle in handles:
        handle.remove()
    return y, seen


def renamed(name: str) -> str:
    """A layer's or tensor's name in `HDemucs`, given torchaudio's or demucs' own."""
    part, dot, rest = name.partition(".")
    return TORCHAUDIO_NAMES.get(part, part) + dot + rest


def check_equal(ours, official, x, bar=1e-5):
    """Output, activations and gradients agree."""
    (y, own), (z, other) = activations(ours, x), activations(official, x)
    other = {renamed(name): values for name, values in other.items()}
    assert y.shape == z.shape and relative(y, z) < bar
    common = set(own) & set(other)
    assert {name.rsplit(".", 1)[-1] for name in common} >= {"conv", "conv_tr"}
    # residual branches, transformer layers and what scales them are added in one pass here: their sum is compared
    apart = [name for name in other if not re.search(r"dconv\.layers\.\d+(\.\d+)?$|gamma_\d$", name) or name in own]
    assert len(common) > 0.8 * len(apart)
    for name in common:
        theirs = other[name]
        if name.endswith("conv_tr"):                       # may have left out its margins, where demucs cuts them later
            for axis, (size, whole) in enumerate(zip(own[name].shape, theirs.shape)):
                theirs = theirs.narrow(axis, (whole - size) // 2, size)
        if own[name].shape == theirs.shape:                # of bands: padded outside in one, inside in the other
            assert relative(own[name], theirs) < bar, name
    check_gradients(ours, y, official, z, bar, floor=1e-3)


def check_gradients(ours, y, official, z, bar=1e-5, floor=1e-3):
    """Gradients of the same loss of outputs y and z agree, each by its own size or, where it is less, by `floor` of the
    largest one's: in 32 bits small ones are sums whose terms nearly cancel, and those of a bias before a norm are 0.
    """
    loss = lambda y: (y * torch.linspace(0.5, 1.5, y.shape[-1], dtype=y.dtype)).square().mean()
    loss(y).backward()
    loss(z).backward()
    theirs = {renamed(name): parameter for name, parameter in official.named_parameters()}
    largest = max(float(p.grad.abs().max()) for p in theirs.values() if p.grad is not None)
    for name, parameter in ours.named_parameters():
        grad = theirs[name].grad
        if grad is None:
            assert parameter.grad is None or not parameter.grad.any(), name
            continue
        assert (parameter.grad - grad).abs().max() <= bar * max(floor * largest, float(grad.abs().max())), name


def check_exact_gradients(ours, official, x):
    """Gradients in 64 bits: even one of a ten-millionth of the largest agrees by its own size."""
    for model in (ours.double(), official.double()):
        model.zero_grad()
    check_gradients(ours, ours(x.double()), official, official(x.double()), floor=1e-7)


# --- equality with the package demucs --------------------------------------------------------------------------------

@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equal_to_demucs(options):
    options = {**SMALL, **options}
    ours, official = pair_of(**options)
    x = mixture(options.get("audio_channels", 2))
    check_equal(ours, official, x)
    check_exact_gradients(ours, official, x)


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("residual", [False, True])
def test_equal_to_demucs_with_wiener_filtering(rounds, residual):
    """In 64 bits: EM magnifies the rounding of 32 (tests/test_open_unmix.py)."""
    options = {**SMALL, "nfft": 64, "depth": 3, "cac": False, "wiener_iters": rounds, "end_iters": rounds,
               "wiener_residual": residual}
    ours, official = (model.double() for model in pair_of(**options))
    x = mixture(time=64 // 4 * 700, dtype=torch.float64)          # three windows of at most 300 frames
    with torch.no_grad():
        assert relative(ours(x), official(x)) < 1e-5


def test_rounds_of_wiener_filtering_differ_in_training_without_time_branch():
    options = {**SMALL, "cac": False, "hybrid": False, "wiener_iters": 1, "end_iters": -1}
    ours, official = (model.double() for model in pair_of(**options))
    x = mixture(dtype=torch.float64)
    with torch.no_grad():
        after, in_training = ours(x), ours.train()(x)
        assert relative(after, official(x)) < 1e-5 and relative(in_training, official.train()(x)) < 1e-5
    assert relative(after, in_training) > 1e-3


@pytest.mark.parametrize("time", [1, 2, 63, 64, 65, 100, 257, 1000])
@pytest.mark.parametrize("hybrid_old", [False, True])
def test_equal_for_every_length(time, hybrid_old):
    ours, official = pair_of(**SMALL, hybrid_old=hybrid_old)
    with torch.no_grad():
        y = ours(mixture(time=time))
        assert y.shape == (2, 3, 2, time) and relative(y, official(mixture(time=time))) < 1e-5


def test_branches_add_up_and_silence_stays_finite():
    ours, official = pair_of(**SMALL)
    with torch.no_grad():
        assert torch.equal(sum(ours.branches(mixture())), ours(mixture()))
        silence = ours(torch.zeros(1, 2, 700))
        assert silence.isfinite().all() and silence.abs().max() < 1e-3
        assert torch.allclose(silence, official(torch.zeros(1, 2, 700)), atol=1e-7)
        one = HDemucs(["a"], 1, 4, nfft=64, depth=2, dconv_mode=0)(torch.ones(1, 1, 1))
        assert one.shape == (1, 1, 1, 1) and one.isfinite().all()


def test_equal_in_float64():
    ours, official = (model.double() for model in pair_of(**SMALL))
    with torch.no_grad():
        assert relative(ours(mixture(dtype=torch.float64)), official(mixture(dtype=torch.float64))) < 1e-7


def test_blocks_of_rows_change_nothing(monkeypatch):
    """Without gradients layers work on a few rows at a time."""
    ours, official = pair_of(**{**SMALL, "norm_starts": 4, "dconv_mode": 3})
    blocks = []
    def small(f, y, numbers=600):
        seen = lambda block: blocks.append(block.shape[2]) or f(block)
        return in_blocks(seen, y, numbers)
    monkeypatch.setattr("course_lib.hdemucs.in_blocks", small)
    with torch.no_grad():
        assert relative(ours(mixture()), official(mixture())) < 1e-5
    assert min(blocks) < 8 and len(blocks) > 20
    blocks.clear()
    assert relative(ours(mixture()), official(mixture())) < 1e-5 and len(blocks) < 10     # with gradients: whole


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 7, 5), (1, 2, 5, 0), (1, 2, 0, 3)])
@pytest.mark.parametrize("numbers", [1, 31, 10 ** 6])
def test_blocks_of_any_size(shape, numbers):
    x = torch.randn(shape, generator=generator())
    with torch.no_grad():
        assert torch.equal(in_blocks(lambda y: y * 2, x, numbers), x * 2)


def test_full_configuration_equals_demucs():
    """As released; more than 200 steps reach no BLSTM in so short a sound: the next test tries that."""
    with torch.device("meta"):
        assert sum(p.numel() for p in demucs.hdemucs.HDemucs(STEMS).parameters()) == 83_637_832
    ours, official = pair_of(sources=list(STEMS), dconv_init=1e-3)
    assert sum(p.numel() for p in ours.parameters()) == 83_637_832
    check_equal(ours, official, mixture(time=15_000, batch=1))


def test_long_sounds_are_cut_into_frames_alike():
    """250 steps at the layers with BLSTM."""
    options = dict(SMALL, nfft=64, depth=3, dconv_lstm=0, dconv_attn=0)
    ours, official = pair_of(**options)
    check_equal(ours, official, mixture(time=16 * 250, batch=1))


# --- torchaudio ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size,count", [("low", 20_040_296), ("medium", 78_908_488), ("high", 83_639_368)])
def test_equal_to_torchaudio(size, count):
    """Of the smallest activations and gradients, too."""
    torch.manual_seed(0)
    official = shaken(getattr(torchaudio.models, f"hdemucs_{size}")(list(STEMS)))
    assert sum(p.numel() for p in official.parameters()) == count
    ours = torchaudio_hdemucs(size, STEMS).eval()
    ours.load_state_dict(from_torchaudio(official.state_dict()), strict=True)
    x = mixture(time=20_000, batch=1)
    if size == "low":
        check_equal(ours, official, x)
    else:
        with torch.no_grad():
            assert relative(ours(x), official(x)) < 1e-5


def test_unknown_torchaudio_size():
    with pytest.raises(ValueError, match="size is 'huge'"):
        torchaudio_hdemucs("huge", STEMS)


# --- the parts -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("time,shifted", itertools.product([1, 15, 16, 17, 100, 1000], [False, True]))
def test_aligned_transform(time, shifted):
    x = mixture(time=time, dtype=torch.float64)
    X = aligned_stft(x, 64, reflect=not shifted)
    assert X.shape == (2, 2, 32, -(-time // 16))
    assert aligned_istft(X, time, shifted).shape == x.shape
    if not shifted and time >= 100:                        # exact but for the top bin, which is left out
        smooth = torch.cos(torch.arange(time, dtype=torch.float64) / 4).expand(1, 1, -1)
        again = aligned_istft(aligned_stft(smooth, 64), time)
        assert (again - smooth)[..., 40:-40].abs().max() < 1e-3


def test_frames_lie_on_hops():
    """A click in hop m is strongest in frame m."""
    for hop in range(8):
        x = torch.zeros(1, 1, 128)
        x[..., 16 * hop + 8] = 1
        assert aligned_stft(x, 64).abs().square().sum(2).argmax() == hop
    assert padded_to_hops(torch.ones(1, 1, 1), 16).shape[-1] == 16 + 3 * 16


def test_complex_as_channels_and_back():
    X = torch.randn(2, 2, 5, 3, dtype=torch.complex64, generator=generator())
    x = complex_as_channels(X)
    assert x.shape == (2, 4, 5, 3) and torch.equal(x[:, 1], X[:, 0].imag) and torch.equal(x[:, 2], X[:, 1].real)
    assert torch.equal(channels_as_complex(x), X)


def test_standardised():
    x, mean, deviation = standardised(5 + 3 * torch.randn(2, 3, 400, generator=generator()))
    assert x.mean((1, 2)).abs().max() < 1e-5 and (x.std((1, 2)) - 1).abs().max() < 1e-4
    assert mean.shape == deviation.shape == (2, 1, 1)
    assert standardised(torch.ones(2, 1, 1))[0].abs().max() == 0


def test_scaled_embedding_starts_as_the_official_one():
    for smooth in (False, True):
        torch.manual_seed(3)
        ours = ScaledEmbedding(40, 6, 10, smooth)
        torch.manual_seed(3)
        theirs = demucs.hdemucs.ScaledEmbedding(40, 6, 10, smooth)
        assert torch.allclose(ours.weight, theirs.weight) and torch.allclose(
            ours(torch.arange(5)), theirs(torch.arange(5)))


def test_layer_sizes():
    sizes = layer_sizes()
    assert [size.bins for size in sizes] == [2048, 512, 128, 32, 8, 1]
    assert [size.freq for size in sizes] == [True] * 5 + [False]
    assert [size.kernel_size for size in sizes] == [8, 8, 8, 8, 8, 4]
    assert all(size.time_stride == 4 and size.time_kernel == 8 for size in sizes[:5])
    assert layer_sizes(2048)[4].time_stride == 2 and layer_sizes(2048)[4].time_kernel == 4


# --- errors ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options,message", [
    (dict(hybrid_old=True, hybrid=False), "hybrid_old is True"),
    (dict(wiener_iters=1), "wiener_iters is 1"),
    (dict(multi_freqs=[0.5], norm_starts=1), "norm_starts is 1"),
    (dict(nfft=1000), "nfft is 1000"),
    (dict(nfft=6), "nfft is 6"),
    (dict(depth=0), "depth 0"),
])
def test_arguments_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        HDemucs(["a"], **{"channels": 4, **options})


@pytest.mark.parametrize("mix", [torch.zeros(2, 100), torch.zeros(1, 1, 100), torch.zeros(1, 2, 0),
                                 torch.zeros(0, 2, 100), torch.zeros(1, 2, 100, dtype=torch.int16)], ids=str)
def test_wrong_mixtures(mix):
    with pytest.raises(ValueError, match="mix"):
        HDemucs(["a"], channels=4, nfft=64, depth=2)(mix)


def test_numpy_is_refused():
    with pytest.raises(ValueError, match="mix is a numpy"):
        HDemucs(["a"], channels=4, nfft=64, depth=2)(torch.zeros(1, 2, 9).numpy())


def test_chapter_6_separates_with_it():
    model = HDemucs(list(STEMS), 1, 4, nfft=64, depth=3, dconv_comp=1).eval()
    with torch.no_grad():
        assert separate(model, mixture(1)[0]).shape == (4, 1, 3000)


# --- singular values -------------------------------------------------------------------------------------------------

def test_penalty_equals_demucs():
    model = HDemucs(["a"], channels=4, nfft=256, depth=5, norm_starts=2, dconv_attn=9)
    size = 0.001
    assert {name.rsplit(".", 1)[-1] for name, _ in weight_matrices(model, size)} >= {"weight", "weight_hh_l1"}
    exact = demucs.svd.svd_penalty(model, min_size=size, exact=True)
    assert relative(svd_penalty(model, size, "exact"), exact) < 1e-5
    torch.manual_seed(0)
    theirs = demucs.svd.svd_penalty(model, min_size=size, dim=3, niters=4)
    torch.manual_seed(0)
    assert relative(svd_penalty(model, size, "lowrank", 3, 4), theirs) < 1e-5
    assert relative(svd_penalty(model, size, "power", iterations=200), exact) < 1e-2
    assert svd_penalty(nn.Linear(2, 2)) == 0


@pytest.mark.parametrize("method", ["exact", "lowrank", "power"])
def test_largest_singular_value_and_its_gradient(method):
    torch.manual_seed(0)
    U, V = (torch.linalg.qr(torch.randn(n, 6))[0] for n in (30, 20))
    A = (U * torch.tensor([5.0, 2.0, 1.0, 0.5, 0.2, 0.1]) @ V.mT).requires_grad_()
    value = largest_singular_value(A, method, 5, 8)
    value.backward()
    assert abs(float(value.detach()) - 5) < 1e-3
    assert torch.allclose(A.grad.abs(), torch.outer(U[:, 0], V[:, 0]).abs(), atol=1e-2)
    with pytest.raises(ValueError, match="method is 'guess'"):
        largest_singular_value(A, "guess")


def test_penalised_step():
    model = nn.Linear(600, 600)
    step = PenalisedStep(lambda model, x: model(x).abs().mean(), 0.5, method="exact")
    parts = step(model, torch.randn(2, 600))
    assert relative(parts["loss"], parts["error"] + 0.5 * parts["penalty"]) < 1e-6 and parts["penalty"] > 1


# --- remixed songs ---------------------------------------------------------------------------------------------------

RATE = 22_050


def click_song(name: str, bpm: float, first: float, pitch: float, seconds=12.0) -> Track:
    """Clicks on the beats, and a bass of one note."""
    time = torch.arange(round(seconds * RATE)) / RATE
    beats = torch.arange(first, seconds, 60 / bpm)
    drums = torch.zeros_like(time)
    for beat in beats.tolist():
        at = round(beat * RATE)
        n = min(800, len(drums) - at)
        drums[at:at + n] = 0.5 * torch.randn(n, generator=generator()) * torch.exp(-torch.arange(n) / 100)
    bass = 0.3 * torch.sin(2 * torch.pi * pitch * time)
    return Track.from_tensors(name, RATE, {"drums": drums[None], "bass": bass[None], "other": 0.1 * bass[None],
                                           "vocals": drums[None]})


def test_shift_and_tempo():
    one = torch.zeros(12)
    one[4] = 1
    distances = shift_distances(one, one.roll(3))
    assert min(distances, key=distances.get) == 3 and distances[3] == 0
    assert tempo_factor(100, 110) == pytest.approx(1.1) and tempo_factor(60, 110) == pytest.approx(11 / 12)
    assert chroma_of(torch.zeros(1, RATE), RATE).sum() == pytest.approx(1)
    assert int(chroma_of(torch.sin(2 * torch.pi * 110 * torch.arange(2 * RATE) / RATE)[None], RATE).argmax()) == 9


def test_offset_of_beats():
    beats = torch.tensor([0.5, 1.0, 1.7, 2.0, 3.1])
    assert beat_offset(beats, beats + 0.3, 6.0) == pytest.approx(0.3)
    assert beat_offset(beats + 1.0, beats, 6.0) == pytest.approx(-1.0)


def test_automix_puts_beats_together():
    songs = [Listened(click_song("a", 100, 0.2, 110.0)), Listened(click_song("b", 108, 0.45, 98.0))]
    fit = songs[1].fit_to(songs[0])
    assert fit.semitones == 2 and 0.85 < fit.factor < 1 and fit.allowed
    mixed = automix(songs, 0, generator())
    assert set(mixed) == {"drums", "bass", "other", "vocals"} and mixed["vocals"][0] == "b"
    drums, vocals = (mixed[stem][1][0] for stem in ("drums", "vocals"))
    assert drums.shape == vocals.shape
    envelope = lambda x: x.abs().unfold(-1, 441, 441).mean(-1)
    agreement = lambda x, y: float(torch.corrcoef(torch.stack([envelope(x), envelope(y)]))[0, 1])
    untouched = songs[1].track.sources(["drums"])[0, 0]
    assert agreement(drums, vocals) > agreement(drums, untouched) + 0.2


def test_songs_that_do_not_fit_are_left_out():
    assert not Fit(4, 1.0, 0.0).allowed and not Fit(0, 1.2, 0.0).allowed and Fit(-3, 0.9, 1.0).allowed
    songs = [Listened(click_song("a", 100, 0.2, 110.0)), Listened(click_song("b", 100, 0.4, 155.6))]
    assert set(automix(songs, 0, generator())) == {"drums"}
    silent = Listened(Track.from_tensors("s", RATE, {"drums": torch.zeros(1, RATE), "bass": torch.zeros(1, RATE)}))
    assert silent.fit_to(songs[0]) is None
    assert moved(torch.ones(1, 100), Fit(0, 1.0, -0.001), RATE, 200).shape == (1, 200)
