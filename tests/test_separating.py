"""Chapter 9's module: equality with the package demucs, streaming against the plain form, files, errors and edges."""

import random
from fractions import Fraction

import demucs.api
import demucs.apply
import demucs.demucs
import demucs.hdemucs
import demucs.htdemucs
import numpy as np
import pytest
import soundfile
import torch
from torch import nn

import course_lib.separating as separating
from course_lib.data import Track
from course_lib.data.audio_files import read_audio
from course_lib.data.datasets import open_tracks
from course_lib.data.resampling import resample
from course_lib.demucs import Demucs, DemucsV2
from course_lib.experiments.scoreboard import Separator, separate_song
from course_lib.hdemucs import HDemucs
from course_lib.htdemucs import HTDemucs
from course_lib.open_unmix import JointOpenUnmix
from course_lib.separating import (
    Bag,
    FrameByFrame,
    RealSpectra,
    SlidingAudio,
    SlidingSum,
    SongLevel,
    SongSeparator,
    SpectrogramModel,
    StemFiles,
    channel_groups,
    check_format,
    chunk_sizes,
    export_onnx,
    first_chunks,
    joined_groups,
    label_levels,
    load_official,
    members,
    pass_length,
    segment_of,
    separate,
    separate_file,
    separated_blocks,
    separation_scores,
    shared_residual,
    stem_paths,
    transition_weights,
    two_stems,
    window,
)
from course_lib.spectral import song_sdr
from course_lib.training import Facts
from tests.training.test_official_packages import no_settings, peer  # noqa: F401
from tests.training.test_official_packages import written as package

RATE = 8000
NAMES = ["drums", "bass", "other", "vocals"]
TIME = dict(channels=4, depth=3, dconv_attn=2, dconv_lstm=2, norm_starts=2, norm_groups=2, dconv_init=0.3,
            samplerate=RATE, segment=0.5)
BOTH = dict(channels=4, nfft=256, depth=5, norm_starts=2, norm_groups=2, dconv_attn=3, dconv_lstm=3, dconv_comp=1,
            dconv_init=0.3, samplerate=RATE, segment=0.6)
TOKENS = dict(channels=8, nfft=512, depth=3, dconv_comp=2, dconv_init=0.3, bottom_channels=16, t_layers=2, t_heads=2,
              samplerate=RATE, segment=0.5)


def rerandomised(model: nn.Module, seed: int) -> nn.Module:
    """Scales, norms and biases drawn anew, so that every part of the network is heard."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                fresh = torch.randn(p.shape, generator=generator)
                p.copy_(1 + 0.2 * fresh if name.endswith(("weight", "scale")) else 0.1 * fresh)
    return model.eval()


def twins(kind: str, channels: int = 2, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """A network of ours and the package's with equal weights."""
    torch.manual_seed(seed)
    (ours, theirs), sizes = {"time": ((Demucs, demucs.demucs.Demucs), TIME),
                             "hybrid": ((HDemucs, demucs.hdemucs.HDemucs), BOTH),
                             "transformer": ((HTDemucs, demucs.htdemucs.HTDemucs), TOKENS)}[kind]
    peer = rerandomised(theirs(NAMES, audio_channels=channels, **sizes), seed)
    model = ours(NAMES, audio_channels=channels, **sizes).eval()
    model.load_state_dict(peer.state_dict())
    return model, peer


def song(frames: int, channels: int = 2, seed: int = 0, batch: int | None = None) -> torch.Tensor:
    shape = (channels, frames) if batch is None else (batch, channels, frames)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return 0.3 * noise.cumsum(-1) / noise.cumsum(-1).abs().amax().clamp_min(1e-3)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, bar: float = 1e-5) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).norm() / theirs.norm().clamp_min(1e-12)) <= bar


def theirs_with(model, x, monkeypatch=None, begins=(), **options):
    """apply_model, its random shifts replaced by ours."""
    draws = iter([RATE // 2 + begin for begin in begins])
    if monkeypatch is not None:
        monkeypatch.setattr(random, "randint", lambda low, high: next(draws))
    with torch.no_grad():
        return demucs.apply.apply_model(model, x, **{"shifts": 0, **options})


# ------------------------------------------------------------------------------------------------- equal to the package


@pytest.mark.parametrize("kind", ["time", "hybrid", "transformer"])
@pytest.mark.parametrize("frames", [1, 37, 3999, 4000, 4001, 6000, 12_345])
@pytest.mark.parametrize("split", [True, False])
def test_equal_to_apply_model_at_many_lengths(kind, frames, split):
    """The transformer hears its segment of 4000 samples, always: longer songs must be cut up."""
    ours, theirs = twins(kind)
    x = song(frames, batch=2)
    if kind == "transformer" and not split and frames > 4000:
        with pytest.raises(ValueError, match="at most a segment of 4000"):
            separate(ours, x, split=False)
        with pytest.raises(ValueError):
            theirs_with(theirs, x, split=False)
        return
    assert_close(separate(ours, x, split=split), theirs_with(theirs, x, split=split))


@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("power", [1.0, 2.5])
def test_equal_to_apply_model_with_any_overlap_and_power(overlap, power):
    ours, theirs = twins("time")
    x = song(11_111, batch=1)
    assert_close(separate(ours, x, overlap=overlap, transition_power=power, segment=0.31),
                 theirs_with(theirs, x, overlap=overlap, transition_power=power, segment=0.31))


@pytest.mark.parametrize("kind, split", [("time", True), ("time", False), ("hybrid", True), ("hybrid", False),
                                         ("transformer", True)])
def test_equal_to_apply_model_with_equal_shifts(kind, split, monkeypatch):
    ours, theirs = twins(kind)
    x = song(9_001, batch=1)
    begins = first_chunks(ours, 3, torch.Generator().manual_seed(5))
    assert len(set(begins)) == 3 and all(-RATE // 2 <= begin <= 0 for begin in begins)
    expected = theirs_with(theirs, x, monkeypatch, begins, shifts=3, split=split)
    found = separate(ours, x, shifts=3, split=split, generator=torch.Generator().manual_seed(5))
    assert_close(found, expected)
    other = separate(ours, x, shifts=3, split=split, generator=torch.Generator().manual_seed(6))
    assert float((other - expected).norm() / expected.norm()) > 1e-3            # the shifts matter, so they are tested


@pytest.mark.parametrize("segment", [None, 0.7])
def test_equal_to_apply_model_with_bags(segment, monkeypatch):
    pairs = [twins("time", seed=1), twins("hybrid", seed=2), twins("time" if segment else "transformer", seed=3)]
    weights = [[1.0, 2.0, 0.0, 1.0], [0.5, 1.0, 1.0, 0.0], [3.0, 0.0, 1.0, 1.0]]
    ours = Bag([one for one, _ in pairs], weights, segment)
    theirs = demucs.apply.BagOfModels([other for _, other in pairs], weights, segment)
    x, begins = song(10_000, batch=1), []
    generator = torch.Generator().manual_seed(7)
    for model, _ in pairs:
        begins += first_chunks(model, 2, generator)
    expected = theirs_with(theirs, x, monkeypatch, begins, shifts=2)
    assert_close(separate(ours, x, shifts=2, generator=torch.Generator().manual_seed(7)), expected)


@pytest.mark.parametrize("options", [dict(), dict(segment=0.31), dict(overlap=0.6, transition_power=2.0)], ids=str)
def test_a_network_of_fixed_length_is_given_it(options):
    """HT Demucs always hears its training length, however short the chunk."""
    ours, theirs = twins("transformer", seed=4)
    x = song(9_999, batch=1)
    assert_close(separate(ours, x, **options), theirs_with(theirs, x, **options))
    assert pass_length(ours, 100) == 4_000 and pass_length(ours, 100, 0.31) == 2_480
    with pytest.raises(ValueError, match="segment is 0.6 s; this network learned on chunks of 0.5 s"):
        separate(ours, x, segment=0.6)


def test_the_released_transformer_equals_apply_model():
    """Every tensor of htdemucs; only its segment is short, since a chunk of 7.8 s costs seconds."""
    released = dict(bottom_channels=512, dconv_mode=3, t_dropout=0.02, segment=Fraction(1, 4))
    torch.manual_seed(0)
    theirs = rerandomised(demucs.htdemucs.HTDemucs(NAMES, **released), 0)
    ours = HTDemucs(NAMES, **released).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert sum(p.numel() for p in ours.parameters()) == 41_984_456
    x = song(15_001, batch=1)                                              # two chunks
    assert_close(separate(ours, x), theirs_with(theirs, x))


def test_standardised_as_the_package_does(monkeypatch):
    ours, theirs = twins("hybrid")
    x = 5 * song(9_000) + 0.2
    peer = demucs.api.Separator.__new__(demucs.api.Separator)
    peer._model, peer._samplerate, peer._audio_channels = theirs, RATE, 2
    for name, value in dict(segment=None, shifts=0, split=True, overlap=0.25, device="cpu", jobs=0, callback=None,
                            callback_arg=None, progress=False).items():
        setattr(peer, f"_{name}", value)
    with torch.no_grad():
        _, found = peer.separate_tensor(x.clone())
    assert_close(separate(ours, x, standardise=True), torch.stack([found[name] for name in NAMES]))


# ------------------------------------------------------------------------------------------------------- parts, by hand


def test_weights_by_hand():
    assert transition_weights(5).tolist() == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    assert transition_weights(4, 2).tolist() == [0.25, 1, 1, 0.25] and transition_weights(1).tolist() == [1]
    for length, power in ((0, 1), (4, 0.5), (4, float("nan"))):
        with pytest.raises(ValueError, match="expected both at least 1"):
            transition_weights(length, power)
    assert chunk_sizes(7.8, 0.25, 44_100) == (343_980, 257_985)
    for segment, overlap in ((0, 0.25), (-1, 0.25), (1, 1), (1, -0.1), (1e-9, 0), (float("nan"), 0)):
        with pytest.raises(ValueError, match="expected a segment above 0, an overlap from 0 to below 1"):
            chunk_sizes(segment, overlap, RATE)


def test_windows_have_zeros_outside_only():
    x = torch.arange(1.0, 7).reshape(1, 6)
    assert window(x, -2, 10).tolist() == [[0, 0, 1, 2, 3, 4, 5, 6, 0, 0]]
    assert window(x, 2, 3).tolist() == [[3, 4, 5]]
    assert window(x, 9, 2).tolist() == window(x, -5, 2).tolist() == [[0, 0]]


def test_chunks_hear_their_neighbours():
    """A change outside a chunk, within what the network hears, reaches the chunk."""
    class Left(nn.Module):
        sources, audio_channels, samplerate, segment = ("a",), 1, 10, 1.0

        def __init__(self):
            super().__init__()
            self.anchor = nn.Parameter(torch.zeros(1))

        def valid_length(self, length):
            return length + 8

        def forward(self, x):
            return x.roll(3, -1).unsqueeze(1)

    x = song(50, 1)
    expected = torch.cat([torch.zeros(1, 3), x[:, :-3]], -1)
    found = separate(Left().eval(), x, overlap=0.0)[0]
    assert torch.allclose(found, expected, atol=1e-6)


def test_channels_in_groups():
    x = song(20, 5, batch=2)
    for size in (1, 2, 3, 5):
        groups = channel_groups(x, size)
        assert groups.shape == (2 * -(-5 // size), size, 20)
        back = joined_groups(torch.stack([groups, 2 * groups], 1), 5)
        assert torch.allclose(back, torch.stack([x, 2 * x], 1))
    ours, _ = twins("time")
    mono, three = song(5000, 1), song(5000, 3)
    twice = separate(ours, mono.expand(2, -1))
    assert torch.allclose(separate(ours, mono)[:, 0], twice.mean(1), atol=1e-6)
    assert torch.allclose(separate(ours, three)[:, :2], separate(ours, three[:2]), atol=1e-5)
    single, _ = twins("time", channels=1)
    each = torch.cat([separate(single, one[None]) for one in three], dim=1)
    assert torch.allclose(separate(single, three), each, atol=1e-5)


def test_level_in_blocks_is_the_level():
    x = 3 + song(10_000) * 7
    one, many = SongLevel.of([x]), SongLevel.of(x.split(333, -1))
    assert many.mean == pytest.approx(float(x.double().mean()), rel=1e-9)
    assert many.deviation == pytest.approx(float(x.double().mean(0).std()), rel=1e-6) == one.deviation
    assert SongLevel.of([torch.zeros(2, 5)]) == SongLevel(0.0, 1e-8) == SongLevel.of([torch.zeros(1, 1)])
    assert torch.allclose(one.undo(one.standardise(x)), x, atol=1e-5)


def test_silence_and_one_sample():
    for kind in ("time", "hybrid"):
        model, _ = twins(kind)
        for frames in (1, 2, 9000):
            assert separate(model, torch.zeros(2, frames), standardise=True, shifts=1).isfinite().all()


def test_types_and_modes_stay():
    ours, _ = twins("time")
    x = song(3000).double()
    assert separate(ours, x).dtype == torch.float64 and separate(ours, x.float()).dtype == torch.float32
    before = torch.random.get_rng_state()
    separate(ours, x, shifts=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(2, 0), {}, "at least one sample"),
        (torch.zeros(5), {}, "expected \\(batch, channel, time\\)"),
        (torch.zeros(1, 1, 2, 5), {}, "expected \\(batch, channel, time\\)"),
        (torch.full((2, 9), float("nan")), {}, "NaN or infinity"),
        (torch.zeros(2, 9, dtype=torch.int16), {}, "mixture is torch.int16"),
        (np.zeros((2, 9)), {}, "mixture is a numpy.ndarray"),
        (torch.zeros(2, 9), dict(overlap=1.0), "overlap 1.0"),
        (torch.zeros(2, 9), dict(transition_power=0.5), "power 0.5"),
        (torch.zeros(2, 9), dict(segment=0.0), "segment is 0"),
        (torch.zeros(2, 9), dict(shifts=-1), "shifts is -1"),
    ],
)
def test_what_cannot_be_separated_is_named(x, options, message):
    with pytest.raises(ValueError, match=message):
        separate(twins("time")[0], x, **options)


def test_bags_are_checked():
    one, other = twins("time")[0], twins("time", seed=1)[0]
    assert [share.tolist() for _, share in members(Bag([one, other], [[1, 0, 2, 1], [1, 1, 2, 3]]))] == [
        [0.5, 0, 0.5, 0.25], [0.5, 1, 0.5, 0.75]]
    mono = twins("time", channels=1)[0]
    for models, weights, message in (
        ([], None, "expected one or more models, all alike"),
        ([one, mono], None, "expected one or more models, all alike"),
        ([one, other], [[1, 1, 1, 1]], "expected numbers >= 0 for 2 models and 4 sources"),
        ([one, other], [[1, 1, 1, 0], [1, 1, 1, 0]], "none without any"),
        ([one], [[1, 1, 1, -1]], "expected numbers >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Bag(models, weights)
    with pytest.raises(ValueError, match="call `separate`"):
        Bag([one])(torch.zeros(1, 2, 5))


def test_a_segment_is_found_or_asked_for():
    model = DemucsV2(NAMES, 1, 4, 3, resample=False, samplerate=RATE)
    with pytest.raises(ValueError, match="DemucsV2 doesn't say how long its chunks are"):
        segment_of(model)
    model.facts = Facts(segment=1.5)
    assert segment_of(model) == 1.5 and segment_of(model, 2) == 2 and segment_of(twins("time")[0]) == 0.5


# ------------------------------------------------------------------------------------------- what is made of the stems


def test_the_residual_is_shared_out_and_the_error_falls_by_its_share():
    truth = song(1000, 2, batch=3)
    estimates = truth + 0.1 * song(1000, 2, seed=4, batch=3)
    mixture = truth.sum(0)
    shared = shared_residual(estimates, mixture)
    residual = mixture - estimates.sum(0)
    energy = lambda y: float(y.double().square().sum())
    assert torch.allclose(shared.sum(0), mixture, atol=1e-5)
    assert energy(estimates - truth) - energy(shared - truth) == pytest.approx(energy(residual) / 3, rel=1e-3)
    only = shared_residual(estimates, mixture, torch.tensor([0.0, 1, 0]))
    assert torch.equal(only[0], estimates[0]) and torch.allclose(only[1], estimates[1] + residual, atol=1e-6)
    with pytest.raises(ValueError, match="expected 3 numbers that sum to 1"):
        shared_residual(estimates, mixture, torch.tensor([0.5, 0.2, 0.2]))


def test_two_stems_by_either_method():
    estimates = song(1000, 2, batch=4)
    mixture = song(1000, 2, seed=9)
    minus, add = (two_stems(estimates, mixture, 3, method) for method in ("minus", "add"))
    assert torch.equal(minus[0], estimates[3]) and torch.allclose(minus.sum(0), mixture, atol=1e-6)
    assert torch.allclose(add[1], estimates[:3].sum(0), atol=1e-6)
    shared = shared_residual(estimates, mixture)
    assert torch.allclose(two_stems(shared, mixture, 1, "add"), two_stems(shared, mixture, 1), atol=1e-5)
    with pytest.raises(ValueError, match="method is 'times'"):
        two_stems(estimates, mixture, 0, "times")


# ------------------------------------------------------------------------------------------------------------ streaming


@pytest.mark.parametrize("options", [
    dict(), dict(shifts=3), dict(overlap=0.0), dict(overlap=0.7, transition_power=3.0), dict(segment=0.23, shifts=2),
    dict(segment=9.0), dict(shifts=2, max_shift=0),
])
@pytest.mark.parametrize("frames", [1, 4000, 9_001])
def test_streaming_equals_the_plain_form(options, frames):
    bag = Bag([twins("time")[0], twins("hybrid", seed=1)[0]], [[1, 2, 0, 1], [1, 0, 1, 3]])
    x = song(frames, 3)
    whole = separate(bag, x, generator=torch.Generator().manual_seed(2), **options)
    blocks = separated_blocks(bag, x.split(777, -1), frames, generator=torch.Generator().manual_seed(2), **options)
    pieces = list(blocks)
    assert torch.allclose(torch.cat(pieces, -1), whole, atol=1e-6 * float(whole.abs().max()) + 1e-7)


def test_streaming_holds_no_more_for_longer_songs(monkeypatch):
    model, most = twins("time")[0], {}
    for frames in (20_000, 80_000):
        held = []
        forget = SlidingAudio.forget
        monkeypatch.setattr(SlidingAudio, "forget",
                            lambda self, before: (held.append(self.held.shape[-1]), forget(self, before)))
        for piece in separated_blocks(model, song(frames).split(500, -1), frames):
            held.append(piece.shape[-1])
        most[frames] = max(held)
        monkeypatch.setattr(SlidingAudio, "forget", forget)
    assert most[80_000] == most[20_000] < 12_000


def test_a_stream_that_ends_early_or_is_not_finite_is_named():
    model = twins("time")[0]
    with pytest.raises(ValueError, match="ends before its sample 4098 of 9000|ends before its sample .* of 9000"):
        list(separated_blocks(model, [song(3000)], 9000))
    with pytest.raises(ValueError, match="NaN or infinity"):
        list(separated_blocks(model, [torch.full((2, 3000), float("inf"))], 3000))


def test_sliding_sums():
    sums = SlidingSum()
    sums.add(-2, torch.tensor([[9.0, 9, 1, 1]]))
    sums.add(1, torch.tensor([[1.0, 5]]))
    assert sums.take(2).tolist() == [[1, 2]] and sums.take(2).tolist() == [[]] and sums.take(3).tolist() == [[5]]
    sums.add(-9, torch.tensor([[7.0]]))
    assert sums.take(5).shape == (1, 0)


# ---------------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def separator():
    model = twins("time")[0]
    return SongSeparator(model, shifts=1, seed=4)


def written(path, x, rate, **options):
    soundfile.write(path, x.T.numpy(), rate, **options)
    return path


@pytest.mark.parametrize(("rate", "channels"), [(8000, 2), (11_025, 1), (44_100, 3), (7999, 2)])
def test_files_equal_what_is_in_memory(tmp_path, separator, rate, channels):
    x = 0.5 * song(3 * rate + 11, channels)
    path = written(tmp_path / "a song.wav", x, rate, subtype="FLOAT")
    found = separate_file(separator, path, tmp_path / "out", bits=32)
    expected = separate_song(separator, x, rate)
    assert sorted(found.stems) == sorted(NAMES) and found.clipped == 0
    for stem, y in zip(separator.stems, expected):
        stored, stored_rate = read_audio(found.stems[stem]), soundfile.info(found.stems[stem]).samplerate
        assert stored_rate == rate and stored.shape == x.shape
        assert float((stored - y).abs().max()) <= 1e-6 * max(1.0, float(expected.abs().max()))
    assert sorted(path.name for path in (tmp_path / "out" / "a song").iterdir()) == sorted(f"{n}.wav" for n in NAMES)
    assert open_tracks("folder", root=tmp_path / "out")[0].stems[0] in NAMES


@pytest.mark.parametrize(("name", "options"), [("x.flac", {}), ("x.ogg", {}), ("x.mp3", {}), ("x.aiff", {})])
def test_whatever_soundfile_reads(tmp_path, separator, name, options):
    path = written(tmp_path / name, 0.5 * song(22_050), 22_050, **options)
    found = separate_file(separator, path, tmp_path / "out", format="flac", bits=24)
    info = soundfile.info(found.stems["vocals"])
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_24", 22_050, 2)
    assert info.frames == soundfile.info(path).frames


def test_mp3_out(tmp_path, separator):
    path = written(tmp_path / "x.wav", 0.5 * song(22_050), 22_050)
    found = separate_file(separator, path, tmp_path / "out", format="mp3")
    info = soundfile.info(found.stems["bass"])
    assert info.format in ("MP3", "MPEG") and info.frames == 22_050 and info.samplerate == 22_050


def test_stems_that_add_up_and_two_stems(tmp_path, separator):
    x = 0.5 * song(20_000)
    path = written(tmp_path / "x.wav", x, RATE, subtype="FLOAT")
    found = separate_file(separator, path, tmp_path / "sum", bits=32, sum_to_mix=True)
    total = sum(read_audio(one) for one in found.stems.values())
    assert float((total - x).abs().max()) < 1e-5
    pair = separate_file(separator, path, tmp_path / "two", bits=32, only="vocals")
    assert list(pair.stems) == ["vocals", "accompaniment"]
    assert float((sum(read_audio(one) for one in pair.stems.values()) - x).abs().max()) < 1e-6
    assert list(stem_paths(path, tmp_path, NAMES, only="bass")) == ["bass", "no_bass"]
    with pytest.raises(ValueError, match="stem is 'flute'; this model gives drums"):
        separate_file(separator, path, tmp_path / "two", only="flute")


def test_an_interrupted_run_leaves_nothing(tmp_path, separator, monkeypatch):
    path = written(tmp_path / "x.wav", song(40_000), RATE)
    calls = []

    def stopped(self, sources):
        calls.append(sources)
        if len(calls) > 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(StemFiles, "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        separate_file(separator, path, tmp_path / "deep" / "out")
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["x.wav"]


def test_an_interrupted_run_leaves_what_was_there(tmp_path, separator, monkeypatch):
    path = written(tmp_path / "x.wav", song(20_000), RATE)
    first = separate_file(separator, path, tmp_path / "out")
    before = {name: one.read_bytes() for name, one in first.stems.items()}
    monkeypatch.setattr(StemFiles, "write", lambda self, sources: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        separate_file(separator, path, tmp_path / "out")
    assert {name: one.read_bytes() for name, one in first.stems.items()} == before
    assert len(list((tmp_path / "out" / "x").iterdir())) == 4


def test_a_full_disk_and_a_folder_that_is_none(tmp_path, separator, monkeypatch):
    path = written(tmp_path / "x.wav", song(9_000), RATE)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="can't write there"):
        separate_file(separator, path, tmp_path / "file" / "out")

    def full(self, data):
        raise soundfile.LibsndfileError(2, "No space left on device. ")

    monkeypatch.setattr(soundfile.SoundFile, "write", full)
    with pytest.raises(OSError, match="writing failed .*is the disk full"):
        separate_file(separator, path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_broken_songs_are_named_and_leave_nothing(tmp_path, separator):
    broken = song(9_000)
    broken[0, 5000] = float("nan")
    written(tmp_path / "nan.wav", broken, RATE, subtype="FLOAT")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "words.wav").write_text("this is not audio at all, whatever its name says")
    whole = written(tmp_path / "whole.wav", song(9_000), RATE).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:20_000])
    for name, message in (("nan.wav", "not finite"), ("empty.wav", "empty"), ("words.wav", "not readable as audio"),
                          ("cut.wav", "truncated")):
        with pytest.raises(ValueError, match=message):
            separate_file(separator, tmp_path / name, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no such audio file"):
        separate_file(separator, tmp_path / "none.wav", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_song_is_not_replaced_by_its_stem(tmp_path, separator):
    folder = tmp_path / "vocals"
    folder.mkdir()
    path = written(folder / "vocals.wav", song(9_000), RATE)
    with pytest.raises(ValueError, match="would replace the song itself"):
        separate_file(separator, path, tmp_path)


def test_clipping_is_counted(tmp_path):
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    loud = torch.tensor([[[0.5, 1.5, -2.0]], [[1.0, -1.0, 0.0]]])
    with StemFiles(paths, RATE, 1) as files:
        files.write(loud)
    assert files.clipped == 2 and soundfile.read(paths[0])[0].tolist() == pytest.approx([0.5, 1.0, -1.0], abs=1e-4)
    with StemFiles(paths, RATE, 1, bits=32) as files:
        files.write(loud)
    assert files.clipped == 0 and soundfile.read(paths[0])[0].tolist() == [0.5, 1.5, -2.0]
    with pytest.raises(ValueError, match="NaN or infinity"), StemFiles(paths, RATE, 1) as files:
        files.write(loud * float("nan"))


def test_long_wav_files_become_rf64(tmp_path):
    files = StemFiles([tmp_path / "a.wav"], 44_100, 2, bits=32, frames=600_000_000)
    assert files.kind["format"] == "RF64" and StemFiles([tmp_path / "a.wav"], 44_100, 2).kind["format"] == "WAV"


def test_formats_are_checked_first():
    assert check_format("wav", 24, 44_100, 12) == ("WAV", "PCM_24")
    for arguments, message in ((("aac", 16, 44_100, 2), "format is 'aac'"), (("flac", 32, 44_100, 2), "32 bits"),
                               (("mp3", 16, 44_100, 3), "one or two channels"), (("mp3", 16, 22_051, 2), "22051 Hz"),
                               (("flac", 16, 44_100, 9), "up to 8 channels")):
        with pytest.raises(ValueError, match=message):
            check_format(*arguments)


def test_separators_fit_the_scoreboard(separator):
    assert isinstance(separator, Separator) and separator.rate == RATE and separator.stems == tuple(NAMES)
    x = song(9000)
    assert torch.equal(separator(x, RATE), separator(x, RATE))
    with pytest.raises(ValueError, match="works at 8000"):
        separator(x, 44_100)
    assert separate_song(separator, song(44_100), 44_100).shape == (4, 2, 44_100)
    for options, message in ((dict(overlap=1.5), "overlap"), (dict(shifts=-1), "shifts"), (dict(segment=-1), "segment"),
                             (dict(transition_power=0), "power")):
        with pytest.raises(ValueError, match=message):
            SongSeparator(twins("time")[0], **options)


def test_a_spectrogram_model_becomes_one_on_waveforms():
    model = separating.load_separator("open_unmix_band").model
    assert isinstance(model, SpectrogramModel) and model.samplerate == 44_100 and model.audio_channels == 2
    x = song(44_100)
    with torch.no_grad():
        whole = separating.open_unmix.separate(model.model, x)
    assert_close(separate(model, x, split=False), whole)
    assert separate(model, x[:, :5]).shape == (4, 2, 5)
    with pytest.raises(ValueError, match="doesn't say its rate"):
        SpectrogramModel(nn.Linear(1, 1))


def test_models_at_their_own_rate(tmp_path):
    """A network of one channel at 22 kHz separates a stereo song at 44.1 kHz, each channel alone."""
    separator = separating.load_separator("demucs_band", standardise=False)
    x = 0.5 * song(44_100)
    found = separate_file(separator, written(tmp_path / "x.wav", x, 44_100, subtype="FLOAT"), tmp_path, bits=32)
    low = resample(x, 44_100, 22_050)
    expected = resample(separate(separator.model, low), 22_050, 44_100)
    stored = torch.stack([read_audio(one) for one in found.stems.values()])
    assert stored.shape == (4, 2, 44_100) and float((stored - expected).abs().max()) < 1e-5


# -------------------------------------------------------------------------------------------- live, labels, other homes


def test_frame_by_frame_looks_back_only_and_is_the_whole():
    torch.manual_seed(0)
    model = rerandomised(JointOpenUnmix(33, 2, 8, 2, unidirectional=True, max_bin=20, dropout=0.0), 1)
    x = song(16 * 40)
    live = FrameByFrame(model)
    streamed = torch.cat([live.push(piece) for piece in x.split(16, -1)], -1)
    assert live.delay == 64 and streamed.shape == (4, 2, 16 * 40)
    frames = torch.nn.functional.pad(x, (48, 0)).unfold(-1, 64, 16) * torch.hann_window(64)    # (channel, frame, n_fft)
    X = torch.fft.rfft(frames).mT
    with torch.no_grad():
        Y = model.masks(X.abs()[None])[0] * X                                       # (source, channel, bin, frame)
    pieces = torch.fft.irfft(Y.mT, 64) * torch.hann_window(64) / 1.5
    whole = torch.zeros(4, 2, 16 * 40 + 48)
    for m in range(40):
        whole[..., 16 * m:16 * m + 64] += pieces[..., m, :]
    assert torch.allclose(streamed, whole[..., :16 * 40], atol=1e-5)
    with pytest.raises(ValueError, match="also runs backwards"):
        FrameByFrame(JointOpenUnmix(33, 1, 8, 2, dropout=0.0))


def test_levels_of_a_stem():
    class Halves(nn.Module):
        sources, audio_channels, samplerate, segment = ("a", "b"), 1, 10, 1.0

        def __init__(self):
            super().__init__()
            self.weights = nn.Parameter(torch.tensor([1.0, 0.1]))

        def forward(self, x):
            return self.weights[:, None, None] * x.unsqueeze(1)

    assert label_levels(Halves(), song(40, 1)).tolist() == pytest.approx([0, -20], abs=1e-3)
    assert label_levels(Halves(), torch.zeros(1, 40)).isnan().all()


# --- a set of songs is cleaned


class Tall(nn.Module):
    """Two sources, told apart by size: `high` is what is above 0.5, `low` the rest."""

    def __init__(self):
        super().__init__()
        self.sources, self.samplerate, self.audio_channels, self.segment = ["high", "low"], 8000, 1, 0.01
        self.nothing = nn.Parameter(torch.zeros(1))

    def valid_length(self, length):
        return length

    def forward(self, mix):
        high = torch.where(mix.abs() > 0.5, mix, torch.zeros_like(mix))
        return torch.stack([high, mix - high], 1)


def two_stems_song(name, high, low, rate=8000):
    return Track.from_tensors(name, rate, {"high": high, "low": low})


HIGH, LOW = torch.full((1, 400), 0.8), torch.full((1, 400), 0.1)


def test_a_set_is_cleaned(tmp_path):
    """A clean song and one with a silent stem stay; swapped, bleeding, silent and unreadable ones go, with a reason."""
    bleeding = LOW.clone()
    bleeding[:, :40] += 0.8                                 # most of its energy is the stranger's
    (tmp_path / "broken").mkdir()
    for stem in ("high", "low", "mixture"):
        (tmp_path / "broken" / f"{stem}.wav").write_bytes(b"no audio")
    silent = torch.zeros(1, 400)
    tracks = [two_stems_song("clean", HIGH, LOW), two_stems_song("swapped", LOW, HIGH), tmp_path / "broken",
              two_stems_song("bleeding", HIGH, bleeding), two_stems_song("no low", HIGH, silent),
              two_stems_song("nothing", silent, silent), Track.from_tensors("one stem", 8000, {"high": HIGH}),
              tmp_path / "not there", two_stems_song("another rate", HIGH.repeat(1, 2), LOW.repeat(1, 2), 16000)]
    found = {one.song: one for one in separating.cleaned(iter(tracks), Tall())}
    assert [name for name, one in found.items() if one.keeps] == ["clean", "no low", "another rate"]
    assert list(found) == ["clean", "swapped", "broken", "bleeding", "no low", "nothing", "one stem", "not there",
                           "another rate"]
    assert len(found["swapped"].why) == 2 and found["swapped"].why[0].startswith("high is heard as high at -inf dB")
    assert [why[:3] for why in found["bleeding"].why] == ["low"]
    assert found["nothing"].why == ("all of its stems are silent",)
    for name, word in (("broken", "broken"), ("not there", "not there"), ("one stem", "no stem 'low'")):
        assert found[name].why[0].startswith("it can't be read: ") and word in found[name].why[0]
        assert found[name].levels is None
    assert found["no low"].levels[1].isnan().all() and found["clean"].levels.shape == (2, 2)
    assert list(separating.cleaned([], Tall())) == []


def test_what_is_wrong_with_the_call_is_no_song_s_fault():
    with pytest.raises(ValueError, match="overlap 2"):
        list(separating.cleaned([two_stems_song("clean", HIGH, LOW)], Tall(), overlap=2))


@pytest.mark.parametrize("levels, rule, keeps", [
    ([[-1, -20], [-20, -1]], {}, True),
    ([[-11, -20], [-20, -1]], {}, False),
    ([[-1, -9], [-20, -1]], {}, False),
    ([[-11, -20], [-20, -1]], {"own": -12.0}, True),
    ([[-1, -9], [-20, -1]], {"other": -8.0}, True),
    ([[-12, -20], [-9, -1]], {"margin": 7.9}, True),
    ([[-12, -20], [-9, -1]], {"margin": 8.0}, False),
    ([[float("nan")] * 2, [-20, -1]], {}, True),
    ([[-float("inf")] * 2, [-20, -1]], {"margin": 0.0}, False),
])
def test_rules_of_a_song(levels, rule, keeps):
    assert separating.keeps_song(torch.tensor(levels, dtype=torch.float32), **rule) is keeps


def test_levels_have_a_row_a_source():
    with pytest.raises(ValueError, match=r"levels has shape \(2, 3\); expected \(stem, source\)"):
        separating.keeps_song(torch.zeros(2, 3))


def test_exported_networks_give_the_same(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = rerandomised(DemucsV2(NAMES, 2, 4, 3, resample=False, samplerate=RATE), 0)
    length = export_onnx(model, tmp_path / "model.onnx", 0.25)
    assert length == pass_length(model, 2000) and [one.name for one in tmp_path.iterdir()] == ["model.onnx"]
    x = song(length, batch=1)
    found = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"mixture": x.numpy()})[0]
    with torch.no_grad():
        assert_close(torch.from_numpy(found), model(x), 1e-4)


HYBRIDS = {
    "HTDemucs": lambda **more: HTDemucs(NAMES, 2, 8, nfft=256, depth=2, t_layers=2, t_heads=2, samplerate=RATE,
                                        segment=0.25, **more),
    "HDemucs": lambda **more: HDemucs(NAMES, 2, 4, nfft=256, depth=5, norm_starts=3, samplerate=RATE, segment=0.25,
                                      **more),
}


@pytest.mark.parametrize("kind", HYBRIDS)
@pytest.mark.parametrize("length", [2000, 1511])
def test_hybrids_without_complex_numbers(kind, length):
    torch.manual_seed(0)
    model = rerandomised(HYBRIDS[kind](), 0)
    x = song(length, batch=2)
    with torch.no_grad():
        assert_close(RealSpectra(model).eval()(x), model(x), 1e-5)


@pytest.mark.parametrize("more", [{"cac": False}, {"hybrid": False}, {"hybrid_old": True}])
def test_hybrids_that_need_complex_numbers_are_refused(more):
    with pytest.raises(ValueError, match="expected True, True, False"):
        RealSpectra(HYBRIDS["HDemucs"](**more))


def test_exported_hybrids_give_the_same(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model = rerandomised(HYBRIDS["HTDemucs"](), 0)
    assert export_onnx(model, tmp_path / "model.onnx") == 2000
    x = song(2000, batch=1)
    found = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"mixture": x.numpy()})[0]
    with torch.no_grad():
        assert_close(torch.from_numpy(found), model(x), 1e-4)


def test_official_packages_are_separators(tmp_path):
    """Two packages and a bag, written by the package demucs itself, separate as its own bag does."""
    peers = [peer("hybrid", seed).float() for seed in (1, 2)]
    for model, name in zip(peers, ("aaaaaaaa", "bbbbbbbb")):
        package(tmp_path, model, name, half=False)
    weights = [[1, 1, 0, 0], [0, 1, 1, 1]]
    (tmp_path / "pair.yaml").write_text(f"models: [aaaaaaaa, bbbbbbbb]\nweights: {weights}\n")
    ours = load_official("pair", tmp_path)
    theirs = demucs.apply.BagOfModels(peers, weights)
    x = song(50_000, batch=1)
    assert_close(separate(ours, x, segment=0.5), theirs_with(theirs, x, segment=0.5))
    single = load_official("bbbbbbbb", tmp_path)
    assert isinstance(single, HDemucs) and SongSeparator(single).stems == tuple(NAMES)
    with pytest.raises(ValueError, match="expected one of htdemucs"):
        load_official("nobody")


def test_scores_of_whole_songs():
    model = twins("time")[0]
    tracks = [Track.from_tensors(f"{n}", RATE, {name: song(9_000, seed=n + k) for k, name in enumerate(NAMES)})
              for n in range(2)]
    found = separation_scores(model, tracks)
    table = torch.stack([song_sdr(separate(model, one.mixture), one.sources(NAMES)) for one in tracks])
    assert list(found) == ["sdr", *NAMES] and found["sdr"] == pytest.approx(float(table.mean()), abs=1e-5)
