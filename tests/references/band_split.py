"""What BS-RoFormer 1.2.4 and the official SCNet give for weights and inputs that a seed determines: makes
band_split.npz beside it.

The package needs four more (beartype, hyper-connections, PoPE-pytorch, rotary-embedding-torch) that nothing else here
does, and SCNet is no package, so their answers are kept. To make them anew, with SCNet at commit 7393986 in scnet/:

    uv venv old --python 3.11
    uv pip install --python old/bin/python torch==2.11.0 numpy BS-RoFormer==1.2.4 hyper-connections==0.4.11 \
        PoPE-pytorch==0.2.1 rotary-embedding-torch==0.9.1
    PYTHONPATH=FOLDER_WITH_scnet old/bin/python tests/references/band_split.py

The test imports CONFIGURATIONS and `filled` from here and needs none of them.
"""

from pathlib import Path

import numpy as np
import torch

FILE = Path(__file__).with_suffix(".npz")
SMALL = dict(dim=16, depth=2, heads=2, dim_head=8, stft_n_fft=128, stft_win_length=128, stft_hop_length=32,
             multi_stft_resolutions_window_sizes=(128, 64, 32), multi_stft_hop_size=16)
BANDS = dict(freqs_per_bands=(5, 10, 20, 30), **SMALL)
MEL = dict(num_bands=8, sample_rate=8000, **SMALL)
SCNET = dict(audio_channels=1, dims=[2, 4, 8, 8], nfft=128, hop_size=32, win_size=128, num_dplayer=2)
# Every argument that changes the output differs from its default in at least one of them.
CONFIGURATIONS = {
    "plain": ("BSRoformer", dict(BANDS, num_residual_streams=1), 320),
    "stereo": ("BSRoformer", dict(BANDS, num_residual_streams=1, stereo=True, num_stems=3, zero_dc=True), 352),
    "streams": ("BSRoformer", dict(BANDS), 320),
    "more streams": ("BSRoformer", dict(BANDS, num_stems=2, num_residual_streams=2, mc_hyper_conn_sinkhorn_iters=3),
                     320),
    "range": ("BSRoformer", dict(BANDS, num_residual_streams=1, freq_range=(4, 60), freqs_per_bands=(6, 20, 30)), 320),
    "written out": ("BSRoformer", dict(BANDS, num_residual_streams=1, flash_attn=False, mask_estimator_depth=1,
                                       time_transformer_depth=1, freq_transformer_depth=3, stft_normalized=True,
                                       multi_stft_normalized=True, multi_stft_resolution_loss_weight=0.5), 320),
    "window": ("BSRoformer", dict(BANDS, num_residual_streams=1, stft_win_length=96, stft_hop_length=24,
                                  stft_window_fn=torch.hamming_window, multi_stft_window_fn=torch.hamming_window,
                                  mask_estimator_depth=3), 336),
    "mel": ("MelBandRoformer", dict(MEL, num_residual_streams=1), 320),
    "mel stereo": ("MelBandRoformer", dict(MEL, num_residual_streams=1, stereo=True, num_stems=3), 320),
    "mel streams": ("MelBandRoformer", dict(MEL), 320),
    "mel without linear": ("MelBandRoformer", dict(MEL, linear_transformer_depth=0, num_residual_streams=1,
                                                   mask_estimator_depth=0), 320),
    "mel without mix": ("MelBandRoformer", dict(MEL, num_residual_streams=1, add_value_residual=False,
                                                linear_transformer_depth=2), 320),
    "mel length": ("MelBandRoformer", dict(MEL, num_residual_streams=1, zero_dc=True, match_input_audio_length=True,
                                           flash_attn=False, linear_flash_attn=True), 337),
    "scnet": ("SCNet", dict(SCNET), 700),
    "scnet stereo": ("SCNet", dict(SCNET, sources=["a", "b", "c"], audio_channels=2, dims=[4, 6, 8, 10], expand=2,
                                   conv_depths=[2, 1, 1], compress=2, conv_kernel=5, num_dplayer=4), 704),
    "scnet bands": ("SCNet", dict(SCNET, band_SR=[0.225, 0.372, 0.403], band_stride=[1, 2, 8], band_kernel=[5, 2, 8],
                                  normalized=False, win_size=96), 511),
}
SHOWN = 64                                        # values kept of an activation or gradient
LAYERS = ("Attention", "MelAttention", "LinearAttention", "FeedForward", "BandSplit", "MaskEstimator", "Transformer",
          "SDlayer", "ConvolutionModule", "FusionLayer", "SUlayer", "DualPathRNN")


def filled(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Every tensor from NumPy's old generator, whose stream never changes; only rotary frequencies stay."""
    random = np.random.RandomState(seed)
    with torch.no_grad():
        for name, tensor in sorted(model.state_dict().items()):
            if not name.endswith("freqs"):
                fan_in = max(1, tensor[0].numel()) if tensor.ndim > 1 else 4
                tensor.copy_(torch.as_tensor(random.randn(*tensor.shape) / fan_in ** 0.5))
    return model.eval()


def mixture(channels: int, length: int, seed: int) -> torch.Tensor:
    """Two mixtures (batch, channel, time)."""
    return torch.from_numpy(0.2 * np.random.RandomState(seed).randn(2, channels, length)).float()


def shown(values: torch.Tensor) -> np.ndarray:
    """Evenly spaced values of a tensor, at most SHOWN of them."""
    flat = values.detach().flatten()
    return flat[:: -(-flat.numel() // SHOWN)].numpy().copy()                # the official SCNet adds in place


def answers(model: torch.nn.Module, length: int) -> dict[str, np.ndarray]:
    """Output, what every layer gave, and gradients of a filled model, the latter two one after the other in the order
    of their names; with a loss of its own, that, too."""
    kept: dict[str, np.ndarray] = {}

    def keep(name):
        def hook(module, inputs, output):
            first = output[0] if isinstance(output, tuple) else output
            kept[name] = shown(torch.cat(first, 2) if isinstance(first, list) else first)
        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in model.named_modules()
               if type(module).__name__ in LAYERS]
    x = mixture(model.audio_channels, length, 0)
    y = model(x)
    for handle in handles:
        handle.remove()
    y.square().mean().backward()
    gradients = {name: shown(p.grad) for name, p in model.named_parameters() if p.grad is not None}
    joined = lambda arrays: np.concatenate([arrays[name] for name in sorted(arrays)])
    found = {"output": y.detach().numpy(), "layers": joined(kept), "gradients": joined(gradients)}
    if hasattr(model, "num_stems"):
        target = torch.from_numpy(0.2 * np.random.RandomState(1).randn(*y.shape)).float()
        total, (time, spectra) = model(x, target, return_loss_breakdown=True)
        found["loss"] = torch.stack([total, time, spectra]).detach().numpy()
    return found


def main() -> None:
    from bs_roformer import BSRoformer, MelBandRoformer
    from scnet.SCNet import SCNet

    kinds = {"BSRoformer": BSRoformer, "MelBandRoformer": MelBandRoformer, "SCNet": SCNet}
    kept, sizes = {}, {}
    for name, (kind, options, length) in CONFIGURATIONS.items():
        options = {**options, **({"attn_dropout": 0.2, "ff_dropout": 0.2} if kind == "MelBandRoformer" else {})}
        model = filled(kinds[kind](**options), 0)
        kept |= {f"{name} {what}": values for what, values in answers(model, length).items()}
        sizes[name] = len(model.state_dict())
    with torch.device("meta"):
        kept["official scnet parameters"] = np.array(sum(p.numel() for p in SCNet().parameters()))
    np.savez_compressed(FILE, **kept)
    print(f"{FILE.name}: {len(kept)} arrays, tensors {sizes}")


if __name__ == "__main__":
    main()
