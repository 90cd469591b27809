"""Chapter 16's translator, its adversary and its rivals, held against plain NumPy that shares no code with them."""

import argparse
import math
import pickle
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F

from course_lib.cli import main
from course_lib.experiments import translation as experiment
from course_lib.training import FitSettings, fit
from course_lib.translation import (
    CycleStep,
    DiscriminatorStep,
    Encoder,
    HarmonicNoise,
    MusicTranslator,
    PictureTranslator,
    SynthStep,
    TranslationStep,
    ZDiscriminator,
    concatenate_nearest,
    critic_part,
    discriminator_part,
    domain_loss,
    filter_envelope,
    griffin_lim,
    hint_part,
    jittered,
    load_official,
    mean_spectrum,
    read_at,
    shift_locally,
    translation_bits,
)
from course_lib.wavenet import WaveNet

ENCODER = dict(encoder_channels=5, encoder_blocks=2, encoder_layers=3)
DECODER = dict(blocks=2, layers=3, kernel_size=2, residual_channels=6, skip_channels=4)
DOMAINS = ("a", "b", "c")


def numbers(seed):
    return torch.Generator().manual_seed(seed)


def redrawn(model, seed=0, scale=0.4):
    """The model with every weight and bias drawn anew, by number and not by torch's own initialisation."""
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data = torch.from_numpy(scale * rng.standard_normal(tuple(p.shape))).to(p)
    return model


def translator(seed=0, domains=DOMAINS):
    return redrawn(MusicTranslator(domains, 3, 8, ENCODER, DECODER), seed)


def pieces(seed=1, batch=2, time=32, domains=3):
    codes = torch.randint(0, 256, (batch, domains, time), generator=numbers(seed))
    heard = torch.randint(0, 256, (batch, domains, time), generator=numbers(seed + 1))
    pitch = torch.randint(0, 26, (batch, domains, time // 8), generator=numbers(seed + 2))
    return {"clean": codes, "heard": heard, "pitch": pitch}


# --------------------------------------------------------------------------------------- plain loops, by official names


def conv(x, weight, bias, dilation=1, before=0, after=0):
    """(channel, time) tap by tap, zeros before and after."""
    x = np.pad(x, ((0, 0), (before, after)))
    taps, length = weight.shape[2], x.shape[1] - (weight.shape[2] - 1) * dilation
    y = np.repeat(bias[:, None], length, 1).astype(float)
    for j in range(taps):
        y += weight[:, :, j] @ x[:, j * dilation:j * dilation + length]
    return y


def tensors_of(module):
    w = {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}
    return lambda name: (w[f"{name}.weight"], w[f"{name}.bias"])


def reference_encoder(module, codes, blocks, layers, pool):
    """Every block's output, then z."""
    get, seen = tensors_of(module), []
    x = conv((codes / 255 - 0.5)[None], *get("start"), before=1, after=1)
    for n in range(blocks * layers):
        d = 2 ** (n % layers)
        h = conv(x, *get(f"dilated_convs.{n}.dilated_conv"), d, before=d, after=d)
        x = x + conv(np.where(h > 0, h, 0), *get(f"dilated_convs.{n}.conv_1x1"))
        seen.append(x)
    z = conv(x, *get("conv_1x1"))
    frames = z.shape[1] // pool
    return seen, np.stack([z[:, f * pool:(f + 1) * pool].mean(1) for f in range(frames)], 1)


def reference_decoder(module, codes, z, blocks, layers):
    get = tensors_of(module)
    long = lambda c: np.repeat(c, len(codes) // c.shape[1], 1)
    x = conv(np.concatenate([[0.0], codes[:-1] / 255 - 0.5])[None], *get("first_conv"), before=1)
    skips = conv(x, *get("skip_conv"))
    for n in range(blocks * layers):
        d = 2 ** (n % layers)
        a = conv(x, *get(f"layers.{n}.causal"), d, before=d) + long(conv(z, *get(f"layers.{n}.condition")))
        gate, content = np.split(a, 2)
        h = np.tanh(content) / (1 + np.exp(-gate))
        x, skips = x + conv(h, *get(f"layers.{n}.residual")), skips + conv(h, *get(f"layers.{n}.skip"))
    y = conv(np.maximum(skips, 0), *get("fc")) + long(conv(z, *get("condition")))
    return conv(np.maximum(y, 0), *get("logits"))


def close(ours, expected, tolerance=1e-5):
    """Within 1e-5 of the largest number."""
    ours = ours.detach().double().numpy()
    return ours.shape == expected.shape and np.abs(ours - expected).max() <= tolerance * np.abs(expected).max()


def test_encoder_and_its_blocks_are_the_plain_loops():
    net, codes = redrawn(Encoder(3, **ENCODER, encoder_pool=8), 3), torch.randint(0, 256, (1, 43), generator=numbers(0))
    seen, z = reference_encoder(net, codes[0].numpy(), 2, 3, 8)
    ours = []
    for block in net.dilated_convs:
        block.register_forward_hook(lambda _block, _given, out: ours.append(out[0]))
    assert close(net(codes)[0], z) and z.shape == (3, 5)
    assert all(close(a, b) for a, b in zip(ours, seen, strict=True))


def test_logits_of_every_domain_are_the_plain_loops():
    model, batch = translator(), pieces()
    logits, z = model(batch["heard"], batch["clean"])
    assert logits.shape == (2, 3, 256, 32) and z.shape == (2, 3, 3, 4)
    for b in range(2):
        for k in range(3):
            _, expected_z = reference_encoder(model.encoder, batch["heard"][b, k].numpy(), 2, 3, 8)
            expected = reference_decoder(model.decoders[k], batch["clean"][b, k].numpy(), expected_z, 2, 3)
            assert close(z[b, k], expected_z) and close(logits[b, k], expected)


def test_discriminator_is_the_plain_loops():
    net, z = redrawn(ZDiscriminator(3, 2, 7, 4), 5), torch.randn(2, 3, 6, generator=numbers(2))
    get = tensors_of(net)
    for n in range(2):
        x = z[n].double().numpy()
        for place in (0, 2):
            x = conv(x, *get(f"convs.{place}"))
            x = np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)
        assert close(net(z)[n], conv(x, *get("convs.4")).mean(1))


def test_frozen_vectors():
    """What the blocks gave when this was written: weights by a formula, so that no generator is asked."""
    def formula(module):
        for number, p in enumerate(module.parameters()):
            t = torch.arange(p.numel(), dtype=torch.float64)
            p.data = (0.5 * torch.sin(1.7 * t + number)).view(p.shape).to(p)
        return module

    codes = (torch.arange(16)[None] * 37) % 256
    z = formula(Encoder(2, 3, 1, 2, 8))(codes)
    logits = formula(WaveNet(2, 1, 2, 2, 3, 3))(codes, z)
    d = formula(ZDiscriminator(2, 1, 3, 2))(z)
    assert np.allclose(z.detach().numpy().ravel(), FROZEN["z"], rtol=1e-5, atol=1e-6)
    assert np.allclose(logits.detach()[0, :4, -1].numpy(), FROZEN["logits"], rtol=1e-5, atol=1e-6)
    assert np.allclose(d.detach().numpy().ravel(), FROZEN["d"], rtol=1e-5, atol=1e-6)


FROZEN = {"z": [-0.666816, -0.686824, 0.119969, 0.086447],
          "logits": [0.11321, 0.639571, -0.136542, -0.679268],
          "d": [0.392955, -0.055263]}


def test_official_names_defaults_and_sizes():
    count = lambda module: sum(p.numel() for p in module.parameters())
    assert (count(Encoder()), count(WaveNet()), count(ZDiscriminator())) == (1_990_784, 5_356_544, 33_706)
    assert {name.split(".")[0] for name in Encoder().state_dict()} == {"start", "dilated_convs", "conv_1x1"}
    assert set(ZDiscriminator(2, 2, 3, 4).state_dict()) == {f"convs.{n}.{what}" for n in (0, 2, 4)
                                                            for what in ("weight", "bias")}
    assert Encoder().hop_length == 800


# --------------------------------------------------------------------------------------------------- who moves whom


def gradients(module):
    return [p.grad is not None and bool((p.grad != 0).any()) for p in module.parameters()]


def test_the_discriminators_step_moves_the_discriminator_alone():
    model, net, batch = translator(), redrawn(ZDiscriminator(3, 2, 7, 3), 5), pieces()
    loss = DiscriminatorStep(net, 0.5)(model, batch)
    loss.backward()
    assert all(gradients(net)) and not any(gradients(model))
    z = model.encoder(batch["clean"].flatten(0, 1)).detach()                     # of the clean sound
    expected = 0.5 * F.cross_entropy(net(z), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_the_confusion_moves_the_encoder_and_no_decoder():
    model, net, batch = translator(), redrawn(ZDiscriminator(3, 2, 7, 3), 5), pieces()
    _, z = model(batch["heard"], batch["clean"])
    (-domain_loss(net, z)).backward()
    assert all(gradients(model.encoder)[:-1]) and not any(gradients(model.decoders))


def test_the_steps_loss_is_its_terms():
    model, batch = translator(), pieces()
    net, head = redrawn(ZDiscriminator(3, 2, 7, 3), 5), redrawn(torch.nn.Conv1d(3, 26, 1), 6)
    out = TranslationStep({"discriminator": net, "hint": head}, 0.2, 0.3)(model, batch)
    logits, z = model(batch["heard"], batch["clean"])
    p = logits.softmax(2).gather(2, batch["clean"][:, :, None])[:, :, 0]
    q = net(z.flatten(0, 1)).softmax(1)[torch.arange(6), torch.tensor([0, 1, 2, 0, 1, 2])]
    r = head(z.flatten(0, 1)).softmax(1).gather(1, batch["pitch"].flatten(0, 1)[:, None])
    expected = -p.log().mean() + 0.2 * q.log().mean() - 0.3 * r.log().mean()
    assert float(out["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    assert float(out["bits"].detach()) == pytest.approx(float(-p.detach().log2().mean()), rel=1e-4)
    plain = TranslationStep()(model, batch)
    assert set(plain) == {"loss", "bits"}


def test_training_takes_turns_and_moves_everything():
    torch.manual_seed(0)
    model = MusicTranslator(DOMAINS, 3, 8, ENCODER, DECODER)
    parts = [discriminator_part(model, 1, 5), hint_part(model)]
    before = [[p.detach().clone() for p in module.parameters()] for module in (model, *(part.module for part in parts))]
    step = TranslationStep({part.name: part.module for part in parts}, hint=0.1, jitter=2.0)
    history = fit(model, step, lambda start: (pieces(k) for k in range(start, 9)),
                  torch.optim.Adam(model.parameters(), lr=1e-3), FitSettings(3), parts=parts, progress=False)
    for module, old in zip((model, *(part.module for part in parts)), before):
        moved = [bool((p != q).any()) for p, q in zip(module.parameters(), old)]
        assert sum(moved) >= len(moved) - 2 * 3                    # each decoder's last residual goes nowhere
    assert {"bits", "confused", "hint", "discriminator"} <= set(history.steps[-1])


def test_jitter():
    codes = torch.full((4, 4000), 100)
    assert jittered(codes, 0.0) is codes
    torch.manual_seed(0)
    moved = jittered(codes, 5.0)
    spread = moved.float().std(1)
    assert moved.dtype == torch.int64 and spread.max() < 5.5 and len(set(spread.tolist())) > 1
    assert int(jittered(torch.full((1, 500), 255), 5.0).max()) == 255


def test_bits_of_the_domains():
    model, batch = translator().eval(), pieces()
    scored = translation_bits(model, [batch["clean"]])
    logits, _ = model(batch["clean"], batch["clean"])
    p = logits.detach().softmax(2).gather(2, batch["clean"][:, :, None])[:, :, 0]
    assert scored["bits_b"] == pytest.approx(float(-p[:, 1].log2().mean()), rel=1e-4)
    assert scored["bits"] == pytest.approx(np.mean([scored[f"bits_{name}"] for name in DOMAINS]), rel=1e-5)


# --------------------------------------------------------------------------------------------------------- augmentation


def test_a_piece_goes_out_of_tune_and_the_rest_stays():
    t = torch.arange(8000) / 8000
    x = torch.sin(2 * math.pi * 440 * t)
    semitones, lengths = [], []
    for seed in range(30):
        y = shift_locally(x, 8000, numbers(seed))
        changed = (y != x).nonzero()[:, 0]
        a, b = int(changed.min()), int(changed.max()) + 1
        lengths.append((b - a) / 8000)
        spectrum = np.abs(np.fft.rfft(y[a:b].numpy() * np.hanning(b - a), 1 << 17))
        semitones.append(12 * math.log2(spectrum.argmax() * 8000 / (1 << 17) / 440))
        assert y.shape == x.shape and torch.equal(y[:a], x[:a]) and torch.equal(y[b:], x[b:])
    assert 0.2 < min(lengths) and max(lengths) <= 0.501 and max(lengths) - min(lengths) > 0.15
    assert -0.52 < min(semitones) < -0.25 and 0.25 < max(semitones) < 0.52


def test_a_shift_is_that_of_librosa():
    """One piece, read faster by half a semitone, has the pitch of librosa's phase vocoder."""
    t = np.arange(4000) / 8000
    x = np.sin(2 * np.pi * 300 * t).astype(np.float32)
    theirs = librosa.effects.pitch_shift(x, sr=8000, n_steps=0.5)
    ours = read_at(torch.from_numpy(x), 2000 + 2 ** (0.5 / 12) * (torch.arange(4000.0) - 2000))
    pitch = lambda y: np.abs(np.fft.rfft(y[1000:3000] * np.hanning(2000), 1 << 16)).argmax() * 8000 / (1 << 16)
    assert pitch(ours.numpy()) == pytest.approx(pitch(theirs), abs=1.0)


def test_reading_between_samples():
    x = torch.tensor([0.0, 1.0, 8.0, 27.0, 64.0, 125.0])           # a cubic is read exactly
    assert torch.allclose(read_at(x, torch.tensor([1.5, 2.0, 2.25])), torch.tensor([1.5, 2.0, 2.25]) ** 3, atol=1e-4)
    with pytest.raises(ValueError, match="x has 100 samples"):
        shift_locally(torch.zeros(100), 8000, numbers(0))


# ------------------------------------------------------------------------------------------------- the official layout


def official_folder(folder: Path, model, **arguments):
    """What the official training leaves behind: args.pth with a Namespace, and a file a domain."""
    settings = argparse.Namespace(latent_d=3, encoder_pool=8, encoder_func="relu", d_lambda=0.01, **ENCODER, **DECODER,
                                  data=[Path("musicnet/preprocessed") / name for name in model.domains])
    vars(settings).update(arguments)
    torch.save([settings, 7], folder / "args.pth")
    for k, decoder in enumerate(model.decoders):
        torch.save({"encoder_state": model.encoder.state_dict(), "decoder_state": decoder.state_dict(),
                    "discriminator_state": ZDiscriminator(3, 1, 2, 3).state_dict(), "model_optimizer_state": {},
                    "dataset": k, "d_optimizer_state": {}}, folder / f"lastmodel_{k}.pth")
    return folder


def test_official_checkpoints_are_read(tmp_path):
    model = translator(domains=("Bach_Solo_Cello", "Beethoven_Solo_Piano"))
    read = load_official(official_folder(tmp_path, model))
    assert read.domains == model.domains and not read.training
    codes = pieces(domains=2)["clean"]
    for ours, theirs in zip(read(codes, codes), model(codes, codes)):
        assert torch.equal(ours, theirs)
    assert load_official(tmp_path, ["cello", "piano"]).domains == ["cello", "piano"]


def test_official_files_that_are_none(tmp_path):
    model = translator(domains=("a", "b"))
    official_folder(tmp_path, model)
    (tmp_path / "lastmodel_1.pth").unlink()
    with pytest.raises(FileNotFoundError, match="lastmodel_1.pth"):
        load_official(tmp_path)
    torch.save({"encoder_state": {}}, tmp_path / "lastmodel_1.pth")
    with pytest.raises(ValueError, match="decoder_state"):
        load_official(tmp_path)
    torch.save({"some": 1}, tmp_path / "args.pth")
    with pytest.raises(ValueError, match="args.pth"):
        load_official(tmp_path)
    official_folder(tmp_path, model, layers=2)
    with pytest.raises(ValueError, match="decoder_state of lastmodel_0.pth"):
        load_official(tmp_path)


class Harmful:
    def __reduce__(self):
        return (print, ("code of the file ran",))


def test_no_code_of_a_file_is_run(tmp_path, capsys):
    official_folder(tmp_path, translator(domains=("a",)))
    torch.save([Harmful(), 1], tmp_path / "args.pth", pickle_module=pickle)
    with pytest.raises(ValueError, match="print"):
        load_official(tmp_path)
    assert "ran" not in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------------- translating


def test_translating_draws_the_same_for_the_same_seed():
    model, x = translator().eval(), 0.3 * torch.randn(2, 45, generator=numbers(3))
    y = model.translate(x, "b", numbers(4))
    assert y.shape == x.shape and torch.equal(y, model.translate(x, "b", numbers(4)))
    assert torch.equal(y[:, 40:], torch.zeros(2, 5))               # beyond the last whole frame
    assert not torch.equal(y, model.translate(x, "c", numbers(4)))
    assert torch.isfinite(model.translate(torch.zeros(1, 16), "a", numbers(0))).all()
    with pytest.raises(ValueError, match="a, b, c"):
        model.translate(x, "d")


@pytest.mark.parametrize("domains", [(), ("a", "a")])
def test_domains_are_checked(domains):
    with pytest.raises(ValueError, match="different names"):
        MusicTranslator(domains)


def test_other_shapes_are_refused():
    model, codes = translator(), pieces()["clean"]
    for heard, known in ((codes[:, :2], codes[:, :2]), (codes[0], codes[0]), (codes, codes[..., :16])):
        with pytest.raises(ValueError, match="expected"):
            model(heard, known)
    with pytest.raises(ValueError, match="n_datasets"):
        ZDiscriminator(n_datasets=0)


# --------------------------------------------------------------------------------------------------------------- rivals


def test_the_filter_brings_one_spectrum_to_the_other():
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.standard_normal(16_000).astype(np.float32)) for _ in "12")
    dull = torch.from_numpy(np.convolve(y.numpy(), np.ones(4) / 4, "same").astype(np.float32))
    target = mean_spectrum(dull)
    before = (mean_spectrum(x).log() - target.log()).abs().mean()
    after = (mean_spectrum(filter_envelope(x, target)).log() - target.log()).abs().mean()
    assert after < 0.1 * before
    assert torch.isfinite(filter_envelope(torch.zeros(4000), target)).all()


def test_concatenation_finds_itself():
    x = torch.randn(256 * 9, generator=numbers(0))
    pieces_ = F.pad(x, (128, 128)).unfold(0, 512, 256)[:9]          # a piece around every frame
    features = torch.arange(9.0)[:, None]
    y = concatenate_nearest(features, features, pieces_, 256)
    assert y.shape == x.shape and torch.allclose(y[128:-256], x[128:-256], atol=1e-5)


def test_the_synthesiser_plays_the_pitch_and_is_silent_at_level_0():
    torch.manual_seed(0)
    net = HarmonicNoise(("a", "b"))
    f0, level = torch.full((2, 125), 500.0), torch.full((2, 125), 0.2)
    loud, shares, noise = net.controls(f0, level, torch.tensor([0, 1]))
    assert torch.allclose(shares.sum(1), torch.ones(2, 125), atol=1e-5) and (noise >= 0).all() and (loud > 0).all()
    y = net(f0, level, torch.tensor([0, 1])).detach()
    spectrum = torch.fft.rfft(y[0] * torch.hann_window(8000)).abs()
    assert y.shape == (2, 8000) and int(spectrum.argmax()) % 500 == 0
    assert float(net(f0, 0 * level, torch.tensor([0, 1])).detach().abs().max()) == 0.0
    loss = SynthStep()(net, {"x": 0.1 * torch.randn(1, 2, 8000), "f0": f0[None], "level": level[None]})["loss"]
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_harmonics_beyond_half_the_rate_are_left_out():
    net = HarmonicNoise(("a",), harmonics=16, bands=4)
    net.net[-1].weight.data.zero_(), net.net[-1].bias.data.fill_(0)
    net.net[-1].bias.data[-4:] = -60                                # no noise
    y = net(torch.full((1, 125), 900.0), torch.full((1, 125), 0.2), torch.tensor([0])).detach()
    found = (torch.fft.rfft(y[0] * torch.hann_window(8000)).abs() > 5).nonzero()[:, 0]
    assert {round(float(f) / 900) for f in found if min(f % 900, -f % 900) <= 3} == {1, 2, 3, 4} and len(found) < 40


def test_the_cycle_and_its_critic_take_turns():
    torch.manual_seed(0)
    net, batch = PictureTranslator(DOMAINS, 4), {"picture": torch.randn(1, 3, 96, 40)}
    part = critic_part(net)
    out = CycleStep({"critic": part.module})(net, batch)
    assert set(out) == {"loss", "fooled", "back"}
    assert net(torch.randn(2, 1, 96, 40), torch.tensor([0, 2])).shape == (2, 1, 96, 40)
    for p in (*net.parameters(), *part.module.parameters()):
        p.grad = None
    part.step(net, batch).backward()
    assert all(gradients(part.module)) and not any(gradients(net))


def test_griffin_lim_keeps_a_sound_that_is_consistent():
    x = torch.randn(8000, generator=numbers(5))
    from course_lib.spectral import stft
    X = stft(x, 1024, 128)
    assert torch.allclose(griffin_lim(X.abs(), X.angle(), 8000, rounds=2), x, atol=1e-3)
    guess = griffin_lim(X.abs(), torch.zeros_like(X.angle()), 8000, rounds=10)
    once = griffin_lim(X.abs(), torch.zeros_like(X.angle()), 8000, rounds=0)
    off = lambda y: float((stft(y, 1024, 128).abs() - X.abs()).square().sum())
    assert off(guess) < 0.5 * off(once)


# ------------------------------------------------------------------------------------------------------------- the data


def test_melodies_are_one_voice_in_range_and_never_shared():
    names = list(experiment.PROGRAMS)
    seen = {}
    for number, name in enumerate(names):
        for k in (0, 39):
            notes = experiment.melody(100 * number + k, 6.0)
            assert all(a.onset + a.duration <= b.onset for a, b in zip(notes, notes[1:]))
            assert {note.pitch for note in notes} <= set(experiment.PITCHES)
            seen[name, k] = tuple(notes)
    assert len(set(seen.values())) == len(seen)
    assert experiment.melody(3, 2.0) == experiment.melody(3, 2.0)


def test_the_same_notes_on_all_instruments():
    x = experiment.same_melodies("test", 1, 1.0, ("piano", "flute"))
    assert x.shape == (1, 2, 8000) and float(x.abs().max()) <= 1 and (x.square().mean(-1) > 1e-4).all()
    tune = experiment.melody(experiment.FIRST_SEED["test"], 1.0)
    for sound in x[0]:
        track = experiment.pitch_classes(sound)
        for note in tune:
            place = int((note.onset + note.duration / 2) * experiment.RATE / experiment.HOP)
            assert int(track[place]) == note.pitch - experiment.HEARD[0]
    assert (experiment.pitch_classes(torch.zeros(4000)) == len(experiment.HEARD)).all()
    with pytest.raises(ValueError, match="valid or test"):
        experiment.same_melodies("train", 1, 1.0)


def test_scores_of_the_truth_and_of_silence():
    x, same, other = (experiment.play(experiment.melody(experiment.FIRST_SEED["test"] + k, 2.0), name, 2.0)
                      for k, name in ((0, "flute"), (0, "piano"), (1, "piano")))
    assert experiment.chroma_agreement(x, x) == pytest.approx(1.0, abs=1e-3)
    assert experiment.pitch_agreement(x, x) == 1.0
    for agreement in (experiment.chroma_agreement, experiment.onset_agreement, experiment.pitch_agreement):
        assert agreement(same, x) > agreement(other, x) + 0.1
    assert experiment.onset_agreement(x, x) == pytest.approx(1.0)
    assert experiment.onset_agreement(torch.zeros(16_000), x) == 0
    assert experiment.pitch_agreement(torch.zeros(16_000), x) == 0.0
    assert abs(experiment.chroma_agreement(torch.zeros(16_000), x)) < 0.2
    assert experiment.timbre(torch.stack([x, torch.zeros(16_000)])).isfinite().all()


# ---------------------------------------------------------------------------------------------------------- the command


def song(path, seconds=0.5, rate=22_050):
    t = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, np.stack([0.2 * np.sin(2 * np.pi * 330 * t)] * 2, 1), rate)
    return path


def test_the_command(tmp_path, capsys):
    given = ["translate", str(song(tmp_path / "tune.wav")), "--to", "cello", "piano", "-o", str(tmp_path / "out"),
             "--translators", "translation_band", "--threads", "1"]
    assert main(given) == 0
    info = soundfile.info(tmp_path / "out" / "tune_cello.wav")
    assert (info.samplerate, info.channels, info.frames) == (8000, 1, 4000)
    assert (tmp_path / "out" / "tune_piano.wav").is_file() and "tune_cello.wav: 0.5 s" in capsys.readouterr().out
    assert main(given) == 2 and "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(("further", "words"), [
    (["--to", "tuba"], "tuba"), (["--to", "piano", "--temperature", "-1"], "temperature"),
    (["--to", "piano", "--start", "9"], "lasts 0.5 s"), (["--to", "piano", "--level", "2"], "level"),
    (["--to", "piano", "--seconds", "0.01"], "a frame of the code"), (["--to", "piano", "--seconds", "0"], "seconds")])
def test_the_command_refuses(tmp_path, capsys, further, words):
    given = ["translate", str(song(tmp_path / "tune.wav")), "-o", str(tmp_path / "out"), "--translators",
             "translation_band"]
    assert main(given + further) == 2 and words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
