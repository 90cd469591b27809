# %% [markdown]
# # Chapter 7 · Hybrid Demucs, two U-Nets that meet

# %%
#| default_exp hdemucs
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("07_hybrid_demucs", cpu=dict(songs=2, steps=6), gpu=dict(songs=20, steps=60), threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/hdemucs.py`.

# %%
#| export
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.demucs import DConv, repitch, rescale_module
from course_lib.open_unmix import wiener
from course_lib.spectral import istft, stft

# %% [markdown]
# ## 7.2 alignment

# %%
#| export
def padded_to_hops(x: Tensor, hop_length: int, reflect: bool = True) -> Tensor:
    """Audio with 3/2 hops more before it, and after it as much and what fills up its last hop.

    x: (batch, channel, time). hop_length: even. Frames of 4 hops then number ceil(time / hop),
    and frame m is centred on the middle of hop m (eq. 7.1). reflect: mirror the ends; where the
    sound is too short for that, zeros follow it first. Else zeros. Source: section 7.2.
    """
    before = 3 * hop_length // 2
    after = before + -x.shape[-1] % hop_length
    if not reflect:
        return F.pad(x, (before, after))
    zeros = max(0, after + 1 - x.shape[-1])
    return F.pad(F.pad(x, (0, zeros)), (before, after - zeros), mode="reflect")


def aligned_stft(x: Tensor, nfft: int, reflect: bool = True) -> Tensor:
    """The spectrogram whose frames lie on hops of nfft / 4 samples, without its top bin.

    x: (batch, channel, time), at least one sample. Returns complex (batch, channel, nfft/2,
    ceil(time / hop)), divided by sqrt(nfft). reflect: see `padded_to_hops`. Source: Défossez 2021;
    section 7.2.
    """
    padded = padded_to_hops(x, nfft // 4, reflect)
    return stft(padded, nfft, nfft // 4, center=False)[..., :-1, :] / nfft ** 0.5


def aligned_istft(X: Tensor, length: int, shifted: bool = False) -> Tensor:
    """The inverse of `aligned_stft`: complex (..., bin, frame) to (..., length).

    shifted: leave out the shift by 3/2 hops, as networks with `hybrid_old` do. Section 7.2.
    """
    nfft = 2 * X.shape[-2]
    hop = nfft // 4
    before = 0 if shifted else 3 * hop // 2
    around = F.pad(X, (2, 2, 0, 1)) * nfft ** 0.5      # silent frames, and the top bin
    whole = hop * math.ceil(length / hop) + 2 * before
    return istft(around, nfft, hop, whole)[..., before:before + length]

# %% [markdown]
# ## 7.3 complex as channels

# %%
#| export
def complex_as_channels(X: Tensor) -> Tensor:
    """Complex (batch, channel, bin, frame) to real (batch, 2 channel, bin, frame): re, im of each
    channel. Source: Choi et al. 2020; section 7.3."""
    return torch.view_as_real(X).movedim(-1, 2).flatten(1, 2)


def channels_as_complex(x: Tensor) -> Tensor:
    """The reverse: real (..., 2 channel, bin, frame) to complex (..., channel, bin, frame)."""
    return torch.view_as_complex(x.unflatten(-3, (-1, 2)).movedim(-3, -1).contiguous())


def standardised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each item of a batch less its mean, divided by its (unbiased) deviation; and both.

    x: (batch, ...). A single number has deviation 0. Source: section 7.3.
    """
    axes = tuple(range(1, x.ndim))
    mean = x.mean(axes, keepdim=True)
    several = x[0].numel() > 1
    deviation = x.std(axes, keepdim=True) if several else torch.zeros_like(mean)
    return (x - mean) / (1e-5 + deviation), mean, deviation

# %% [markdown]
# ## 7.5 embedding

# %%
#| export
class ScaledEmbedding(nn.Module):
    """A vector for each place, learned faster than other weights: whole numbers (...) to
    (..., embedding_dim).

    scale: the weights are kept divided by it, and multiplied when used. smooth: neighbours start
    alike (eq. 7.4). Source: Isik et al. 2020; Défossez 2021; section 7.5.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, scale: float = 10.0,
                 smooth: bool = False):
        super().__init__()
        self.embedding, self.scale = nn.Embedding(num_embeddings, embedding_dim), scale
        with torch.no_grad():
            weight = self.embedding.weight
            if smooth:
                count = torch.arange(1, num_embeddings + 1)[:, None]
                weight.copy_(weight.cumsum(0) / count.sqrt())
            weight /= scale

    @property
    def weight(self) -> Tensor:
        """All vectors, as they are used: (num_embeddings, embedding_dim)."""
        return self.embedding.weight * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(x) * self.scale

# %% [markdown]
# ## 7.8 layers

# %%
#| export
class _HybridLayer(nn.Module):
    """What the layers of both encoders and decoders share: along frequency, or along time."""

    freq: bool
    dconv: nn.Module | None

    def along(self, size: int, other: int) -> int | tuple[int, int]:
        """A size along frequency and `other` along time; of a layer along time the size alone."""
        return (size, other) if self.freq else size

    def branch(self, y: Tensor) -> Tensor:
        """The residual branch along time; every bin is an item of the batch to it."""
        if self.dconv is None or not self.freq:
            return y if self.dconv is None else self.dconv(y)
        rows = y.transpose(1, 2).flatten(0, 1)                      # (batch * bin, channel, frame)
        return self.dconv(rows).unflatten(0, (len(y), -1)).transpose(1, 2)


def _norm(norm: bool, groups: int, channels: int) -> nn.Module:
    return nn.GroupNorm(groups, channels) if norm else nn.Identity()

# %%
#| export
class HEncLayer(_HybridLayer):
    """A layer of an encoder: (batch, chin, bin, frame), or with freq=False (batch, chin, time), to
    chout channels and `stride` times fewer bins, or steps.

    kernel_size, stride: of the convolution; pad: a quarter of the kernel at both ends. norm: with
    GroupNorm of norm_groups. empty: the convolution alone. dconv: with a residual branch along
    time, `DConv` with dconv_kw. rewrite: a convolution of 1 + 2 context with a gate. forward:
    inject, (batch, chout, time), is added after the convolution. A time layer takes spectra of one
    bin, too, and pads its input to a multiple of the stride. Arguments and tensor names as
    demucs.hdemucs.HEncLayer. Source: Défossez 2021; section 7.8.
    """

    def __init__(self, chin: int, chout: int, kernel_size: int = 8, stride: int = 4,
                 norm_groups: int = 1, empty: bool = False, freq: bool = True, dconv: bool = True,
                 norm: bool = True, context: int = 0, dconv_kw: Mapping | None = None,
                 pad: bool = True, rewrite: bool = True):
        super().__init__()
        self.freq, self.empty, self.kernel_size, self.stride = freq, empty, kernel_size, stride
        Conv = nn.Conv2d if freq else nn.Conv1d
        margin = kernel_size // 4 if pad else 0
        self.conv = Conv(chin, chout, self.along(kernel_size, 1), self.along(stride, 1),
                         self.along(margin, 0))
        if empty:
            return
        self.norm1 = _norm(norm, norm_groups, chout)
        self.rewrite = None
        if rewrite:
            self.rewrite = Conv(chout, 2 * chout, 1 + 2 * context, 1, context)
            self.norm2 = _norm(norm, norm_groups, 2 * chout)
        self.dconv = DConv(chout, **(dconv_kw or {})) if dconv else None

    def forward(self, x: Tensor, inject: Tensor | None = None) -> Tensor:
        if not self.freq:
            x = x.flatten(1, -2)                                    # one bin: (batch, chin, time)
            x = F.pad(x, (0, -x.shape[-1] % self.stride))
        y = self.conv(x)
        if self.empty:
            return y
        if inject is not None:
            y = y + inject.unsqueeze(2)                             # (batch, chout, 1, time)
        y = self.branch(F.gelu(self.norm1(y)))
        if self.rewrite is None:
            return y
        return F.glu(self.norm2(self.rewrite(y)), dim=1)

# %%
#| export
class HDecLayer(_HybridLayer):
    """A layer of a decoder, the mirror image of `HEncLayer`: chin channels to chout.

    context_freq: the gated convolution looks at neighbouring bins as well as frames. last: without
    GELU at the end. forward(x, skip, length): skip is added first; a time layer's output is cut to
    `length`. Returns the output, and what went into the transposed convolution. Arguments and
    tensor names as demucs.hdemucs.HDecLayer. Source: Défossez 2021; section 7.8.
    """

    def __init__(self, chin: int, chout: int, last: bool = False, kernel_size: int = 8,
                 stride: int = 4, norm_groups: int = 1, empty: bool = False, freq: bool = True,
                 dconv: bool = True, norm: bool = True, context: int = 1,
                 dconv_kw: Mapping | None = None, pad: bool = True, context_freq: bool = True,
                 rewrite: bool = True):
        super().__init__()
        self.freq, self.empty, self.last, self.chin = freq, empty, last, chin
        self.kernel_size, self.stride = kernel_size, stride
        self.pad = kernel_size // 4 if pad else 0
        Conv, Transposed = ((nn.Conv2d, nn.ConvTranspose2d) if freq
                            else (nn.Conv1d, nn.ConvTranspose1d))
        self.conv_tr = Transposed(chin, chout, self.along(kernel_size, 1), self.along(stride, 1))
        self.norm2 = _norm(norm, norm_groups, chout)
        if empty:
            return
        self.rewrite = None
        if rewrite:
            size, margin = 1 + 2 * context, context
            if not context_freq:
                size, margin = self.along(1, size), self.along(0, margin)
            self.rewrite = Conv(chin, 2 * chin, size, 1, margin)
            self.norm1 = _norm(norm, norm_groups, 2 * chin)
        self.dconv = DConv(chin, **(dconv_kw or {})) if dconv else None

    def refine(self, x: Tensor) -> Tensor:
        """What comes before the transposed convolution: gate and residual branch."""
        if self.rewrite is not None:
            x = F.glu(self.norm1(self.rewrite(x)), dim=1)
        return self.branch(x)

    def forward(self, x: Tensor, skip: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
        if self.freq and x.ndim == 3:
            x = x.unflatten(1, (self.chin, -1))                     # (batch, chin, 1, frame)
        y = x if self.empty else self.refine(x + skip)
        z = self.norm2(self.conv_tr(y))
        if self.freq:
            z = z[..., self.pad:z.shape[-2] - self.pad, :]
        else:
            z = z[..., self.pad:self.pad + length]
        return z if self.last else F.gelu(z), y

# %% [markdown]
# ## bands

# %%
#| export
class EncoderBands(nn.Module):
    """Several `HEncLayer` side by side, each with its own band of frequencies, as one layer.

    make: makes a layer along frequency without norm. ratios: where a band ends, as shares of all
    bins; the last band ends with them. With equal weights it is one layer. Tensor names as
    demucs.hdemucs.MultiWrap. Source: section 7.10.
    """

    def __init__(self, make: Callable[[], HEncLayer], ratios: Sequence[float]):
        super().__init__()
        self.ratios = tuple(ratios)
        self.layers = nn.ModuleList(make() for _ in range(len(self.ratios) + 1))
        for layer in self.layers:
            layer.conv.padding = (0, 0)                             # forward pads around all bands

    def forward(self, x: Tensor, inject: Tensor | None = None) -> Tensor:
        kernel, stride = self.layers[0].kernel_size, self.layers[0].stride
        margin = kernel // 4
        padded = F.pad(x, (0, 0, margin, margin))                   # (batch, chin, bin, frame)
        rows, start, outputs = (padded.shape[2] - kernel) // stride + 1, 0, []
        for layer, ratio in zip(self.layers, (*self.ratios, 1)):
            limit = round(x.shape[2] * ratio) + margin              # the band's end, in `padded`
            count = round((limit - start * stride - kernel) / stride + 1)
            end = rows if ratio == 1 else start + count
            outputs.append(layer(padded[:, :, start * stride:(end - 1) * stride + kernel]))
            start = end
        return torch.cat(outputs, 2)


class DecoderBands(nn.Module):
    """Several `HDecLayer` side by side, as `EncoderBands`; neighbours' outputs overlap and add."""

    def __init__(self, make: Callable[[], HDecLayer], ratios: Sequence[float]):
        super().__init__()
        self.ratios = tuple(ratios)
        self.layers = nn.ModuleList(make() for _ in range(len(self.ratios) + 1))

    def forward(self, x: Tensor, skip: Tensor, length: int) -> tuple[Tensor, None]:
        kernel, stride = self.layers[0].kernel_size, self.layers[0].stride
        bins, start, outputs = x.shape[2], 0, 0.0
        rows = (bins - 1) * stride + kernel
        for layer, ratio in zip(self.layers, (*self.ratios, 1)):
            end = bins if ratio == 1 else round(bins * ratio)
            y = layer.conv_tr(layer.refine(x[:, :, start:end] + skip[:, :, start:end]))
            if start:                                               # the overlap has a bias already
                bias = layer.conv_tr.bias[:, None, None]
                y = torch.cat([y[:, :, :kernel - stride] - bias, y[:, :, kernel - stride:]], 2)
            first, last = start * stride, (end - 1) * stride + kernel
            outputs = outputs + F.pad(y, (0, 0, first, rows - last))
            start = end
        outputs = outputs[:, :, stride // 2:rows - stride // 2]     # (batch, chout, bin, frame)
        return outputs if self.layers[0].last else F.gelu(outputs), None

# %% [markdown]
# ## plan

# %%
#| export
@dataclass(frozen=True)
class LayerSizes:
    """One depth of a hybrid network. bins: that go in. freq: along frequency, or shared, along
    time. kernel_size, stride, pad: of the frequency branch or the shared layer; merges: the branch
    comes down to one bin here. time_kernel, time_stride: of the time branch."""

    bins: int
    freq: bool
    kernel_size: int
    stride: int
    pad: bool
    merges: bool
    time_kernel: int
    time_stride: int

    @property
    def bins_out(self) -> int:
        return 1 if self.merges or not self.freq else self.bins // self.stride


def layer_sizes(nfft: int = 4096, depth: int = 6, kernel_size: int = 8, stride: int = 4,
                time_stride: int = 2) -> list[LayerSizes]:
    """The convolutions of `HDemucs`, layer by layer (section 7.9).

    Where both branches meet, the time branch must have one step a hop: its last stride makes up
    for what is missing, as in torchaudio's networks of other nfft (demucs takes the stride of the
    other layers, and fails). ValueError where no whole stride does, and where bins don't divide.
    """
    if nfft < 8 or nfft % 4 or min(depth, kernel_size, stride, time_stride) < 1:
        raise ValueError(f"nfft is {nfft}, depth {depth}, kernel_size {kernel_size}, stride "
                         f"{stride}, time_stride {time_stride}; expected all above 0, and nfft a "
                         "multiple of 4, such as 4096")
    sizes, bins = [], nfft // 2
    for index in range(depth):
        if bins == 1:
            sizes.append(LayerSizes(1, False, 2 * time_stride, time_stride, True, False, 0, 0))
            continue
        merges = bins <= kernel_size
        step, rest = divmod(nfft // 4, stride ** index) if merges else (stride, 0)
        if rest or step < 1 or (not merges and bins % stride):
            raise ValueError(f"nfft is {nfft}, stride {stride}; at layer {index} {bins} bins are "
                             "left, and the branches don't meet: choose a power of two, such as "
                             "4096 with stride 4")
        sizes.append(LayerSizes(
            bins, True, bins if merges else kernel_size, stride, not merges, merges,
            kernel_size if step == stride else kernel_size * step // stride, step))
        bins = sizes[-1].bins_out
    return sizes

# %% [markdown]
# ## HDemucs

# %%
#| export
class HDemucs(nn.Module):
    """Hybrid Demucs (v3): mixture (batch, channel, time) to its sources (batch, source, channel,
    time), as long as the mixture; any length from 1 on.

    sources: their names. audio_channels: of the mixture and of each source. channels: of the first
    layer; channels_time: of the time branch's, where it is another number; growth: their factor.
    nfft: of the STFT; its hop is a quarter. depth: layers in all, those of both branches and those
    they share. cac: complex as channels; else magnitudes, refined by wiener_iters rounds of EM
    (end_iters in training; below 0: the mixture's phase alone), wiener_residual: with one more
    source for what is left. hybrid: with the time branch; hybrid_old: with zeros around the sound
    and the output 3/2 hops late, as the first models were trained. multi_freqs: shares of the bins
    at which the outer multi_freqs_depth layers are split into bands. freq_emb: weight of the
    frequency embedding, 0: none; emb_scale, emb_smooth: see `ScaledEmbedding`. kernel_size, stride:
    of the branches' layers, time_stride: of the shared ones. context, context_enc: steps on either
    side that the gated convolution of decoder and encoder looks at; rewrite: whether there is one.
    norm_starts, norm_groups: GroupNorm from this layer on. dconv_mode: `DConv` in the encoders (1),
    the decoders (2), both (3) or neither (0); dconv_depth, dconv_comp, dconv_init: its depth,
    compress and init; dconv_attn, dconv_lstm: attention and BLSTM in it from this layer on.
    rescale: see `rescale_module`, 0: not. samplerate, segment: kept as they are.

    ValueError for other shapes, and for arguments that don't go together. Arguments, defaults and
    tensor names are those of demucs.hdemucs.HDemucs 4.1.0. Source: Défossez 2021; section 7.9.
    """

    def __init__(self, sources: Sequence[str], audio_channels: int = 2, channels: int = 48,
                 channels_time: int | None = None, growth: float = 2, nfft: int = 4096,
                 wiener_iters: int = 0, end_iters: int = 0, wiener_residual: bool = False,
                 cac: bool = True, depth: int = 6, rewrite: bool = True, hybrid: bool = True,
                 hybrid_old: bool = False, multi_freqs: Sequence[float] | None = None,
                 multi_freqs_depth: int = 2, freq_emb: float = 0.2, emb_scale: float = 10,
                 emb_smooth: bool = True, kernel_size: int = 8, time_stride: int = 2,
                 stride: int = 4, context: int = 1, context_enc: int = 0, norm_starts: int = 4,
                 norm_groups: int = 4, dconv_mode: int = 1, dconv_depth: int = 2,
                 dconv_comp: float = 4, dconv_attn: int = 4, dconv_lstm: int = 4,
                 dconv_init: float = 1e-4, rescale: float = 0.1, samplerate: int = 44100,
                 segment: float = 4 * 10):
        super().__init__()
        _check_options(hybrid, hybrid_old, wiener_iters, end_iters, multi_freqs,
                       multi_freqs_depth, norm_starts)
        self.sources, self.audio_channels, self.channels = list(sources), audio_channels, channels
        self.nfft, self.hop_length, self.depth = nfft, nfft // 4, depth
        self.cac, self.hybrid, self.hybrid_old = cac, hybrid, hybrid_old
        self.wiener_iters, self.end_iters = wiener_iters, end_iters
        self.wiener_residual = wiener_residual
        self.samplerate, self.segment = samplerate, segment
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        self.tencoder, self.tdecoder = nn.ModuleList(), nn.ModuleList()
        self.freq_emb, self.freq_emb_scale = None, freq_emb

        parts = 2 if cac else 1                                     # real and imaginary
        inputs, outputs = audio_channels, audio_channels * len(self.sources)
        inputs_z, outputs_z = parts * inputs, parts * outputs       # z: the frequency branch
        wide, wide_z = channels_time or channels, channels
        for index, size in enumerate(layer_sizes(nfft, depth, kernel_size, stride, time_stride)):
            if size.merges:
                wide = wide_z = max(wide, wide_z)
            branch = dict(lstm=index >= dconv_lstm, attn=index >= dconv_attn, depth=dconv_depth,
                          compress=dconv_comp, init=dconv_init, gelu=True)
            same = dict(norm=index >= norm_starts, norm_groups=norm_groups, dconv_kw=branch,
                        rewrite=rewrite)
            spectral = dict(same, freq=size.freq, kernel_size=size.kernel_size, stride=size.stride,
                            pad=size.pad)
            bands = multi_freqs if multi_freqs and index < multi_freqs_depth else None
            encoder = partial(HEncLayer, inputs_z, wide_z, dconv=bool(dconv_mode & 1),
                              context=context_enc, **spectral)
            decoder = partial(HDecLayer, wide_z, outputs_z, dconv=bool(dconv_mode & 2),
                              context=context, last=index == 0, context_freq=not bands, **spectral)
            self.encoder.append(EncoderBands(encoder, bands) if bands else encoder())
            self.decoder.insert(0, DecoderBands(decoder, bands) if bands else decoder())
            if hybrid and size.freq:
                timed = dict(same, freq=False, kernel_size=size.time_kernel,
                             stride=size.time_stride, empty=size.merges)
                self.tencoder.append(HEncLayer(inputs, wide, dconv=bool(dconv_mode & 1),
                                               context=context_enc, **timed))
                self.tdecoder.insert(0, HDecLayer(wide, outputs, dconv=bool(dconv_mode & 2),
                                                  context=context, last=index == 0, **timed))
            if index == 0 and freq_emb:
                self.freq_emb = ScaledEmbedding(size.bins_out, wide_z, emb_scale, emb_smooth)
            inputs, outputs, inputs_z, outputs_z = wide, wide, wide_z, wide_z
            wide, wide_z = int(growth * wide), int(growth * wide_z)
        if rescale:
            rescale_module(self, rescale)

    def spectrogram(self, mix: Tensor) -> Tensor:
        """The mixture's complex spectrogram (batch, channel, nfft/2, frame)."""
        if self.hybrid:
            return aligned_stft(mix, self.nfft, reflect=not self.hybrid_old)
        enough = F.pad(mix, (0, max(0, self.nfft // 2 + 1 - mix.shape[-1])))
        return stft(enough, self.nfft, self.hop_length)[..., :-1, :] / self.nfft ** 0.5

    def waveform(self, X: Tensor, length: int) -> Tensor:
        """Complex spectrograms (..., nfft/2, frame) to audio (..., length)."""
        if self.hybrid:
            return aligned_istft(X, length, shifted=self.hybrid_old)
        return istft(F.pad(X, (0, 0, 0, 1)) * self.nfft ** 0.5, self.nfft, self.hop_length, length)

    def encode(self, x: Tensor, xt: Tensor) -> tuple[list, list, list[int], list[int]]:
        """Both encoders: the skips of either, and the lengths that went into each layer."""
        skips, skips_t, lengths, lengths_t = [], [], [], []
        for index, layer in enumerate(self.encoder):
            inject = None
            lengths.append(x.shape[-1])
            if index < len(self.tencoder):                          # still two branches
                lengths_t.append(xt.shape[-1])
                xt = self.tencoder[index](xt)
                if self.tencoder[index].empty:                      # here they meet
                    inject = xt
                else:
                    skips_t.append(xt)
            x = layer(x, inject)
            if index == 0 and self.freq_emb is not None:
                bins = torch.arange(x.shape[2], device=x.device)
                x = x + self.freq_emb_scale * self.freq_emb(bins).T.unsqueeze(-1)
            skips.append(x)
        return skips, skips_t, lengths, lengths_t

    def decode(self, skips: list, skips_t: list, lengths: list[int],
               lengths_t: list[int]) -> tuple[Tensor, Tensor]:
        """Both decoders, which begin with zeros: all they know comes through the skips."""
        x, xt = torch.zeros_like(skips[-1]), 0.0
        shared = len(self.decoder) - len(self.tdecoder)
        for index, layer in enumerate(self.decoder):
            x, before = layer(x, skips.pop(), lengths.pop())
            if self.hybrid and index >= shared:
                time_layer = self.tdecoder[index - shared]
                if time_layer.empty:                                # here they part
                    xt, _ = time_layer(before.squeeze(2), None, lengths_t.pop())
                else:
                    xt, _ = time_layer(xt, skips_t.pop(), lengths_t.pop())
        return x, xt

    def spectra(self, x: Tensor, X: Tensor) -> Tensor:
        """What the frequency branch gives, (batch, source, channel or 2 channel, bin, frame), as
        complex spectra; X: the mixture's."""
        if self.cac:
            return channels_as_complex(x)
        rounds = self.end_iters if self.training else self.wiener_iters
        if rounds < 0:
            return (X / (1e-8 + X.abs())).unsqueeze(1) * x
        pieces = [wiener(magnitudes, piece, rounds, residual=self.wiener_residual)
                  for magnitudes, piece in zip(x.split(300, -1), X.split(300, -1))]
        return torch.cat(pieces, -1)[:, :len(self.sources)]

    def branches(self, mix: Tensor) -> tuple[Tensor, Tensor]:
        """What the frequency branch and the time branch give, whose sum is the estimate: two
        (batch, source, channel, time), the second 0 without time branch."""
        _check_mixture(mix, self.audio_channels)
        X = self.spectrogram(mix)
        x, mean, deviation = standardised(complex_as_channels(X) if self.cac else X.abs())
        xt, mean_t, deviation_t = standardised(mix)
        x, xt = self.decode(*self.encode(x, xt))
        split = (len(self.sources), -1)
        x = x.unflatten(1, split) * deviation.unsqueeze(1) + mean.unsqueeze(1)
        spectral = self.waveform(self.spectra(x, X), mix.shape[-1])
        if not self.hybrid:
            return spectral, torch.zeros_like(spectral)
        return spectral, xt.unflatten(1, split) * deviation_t.unsqueeze(1) + mean_t.unsqueeze(1)

    def forward(self, mix: Tensor) -> Tensor:
        spectral, timed = self.branches(mix)
        return spectral + timed

    def valid_length(self, length: int) -> int:
        """Every length is valid: `course_lib.demucs.separate` pads nothing."""
        return length


def _check_options(hybrid, hybrid_old, wiener_iters, end_iters, multi_freqs, multi_freqs_depth,
                   norm_starts) -> None:
    if hybrid_old and not hybrid:
        raise ValueError("hybrid_old is True and hybrid False; expected hybrid=True with it")
    if hybrid and wiener_iters != end_iters:
        raise ValueError(f"wiener_iters is {wiener_iters} and end_iters {end_iters}; a hybrid "
                         "network adds both branches in training and after: expected them equal")
    if multi_freqs and norm_starts < multi_freqs_depth:
        raise ValueError(f"norm_starts is {norm_starts} and multi_freqs_depth {multi_freqs_depth}; "
                         "layers split into bands have no norm: expected norm_starts >= it")


def _check_mixture(mix: Tensor, channels: int) -> None:
    check_audio(mix=mix)
    if mix.ndim != 3 or mix.shape[1] != channels or 0 in mix.shape:
        raise ValueError(f"mix has shape {tuple(mix.shape)}; expected (batch, channel, time) with "
                         f"{channels} channels and at least one sample")

# %% [markdown]
# ## torchaudio

# %%
#| export
TORCHAUDIO_NAMES = {"freq_encoder": "encoder", "freq_decoder": "decoder",
                    "time_encoder": "tencoder", "time_decoder": "tdecoder"}
TORCHAUDIO_SIZES = {"low": dict(nfft=1024, depth=5), "medium": dict(nfft=2048, depth=6),
                    "high": dict(nfft=4096, depth=6)}


def from_torchaudio(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a torchaudio.models.HDemucs under the names of `HDemucs`.

    Its last time encoder layer holds a norm that it never uses; that is left out. Section 7.11.
    """
    named = {}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        named[f"{TORCHAUDIO_NAMES.get(part, part)}.{rest}"] = tensor
    last = max(int(name.split(".")[1]) for name in named if name.startswith("tencoder."))
    return {name: tensor for name, tensor in named.items()
            if not name.startswith(f"tencoder.{last}.norm1")}


def torchaudio_hdemucs(size: str, sources: Sequence[str]) -> HDemucs:
    """The network of torchaudio.models.hdemucs_low, _medium or _high: size is its last word."""
    if size not in TORCHAUDIO_SIZES:
        raise ValueError(f"size is {size!r}; expected one of {', '.join(TORCHAUDIO_SIZES)}")
    return HDemucs(sources, **TORCHAUDIO_SIZES[size])

# %% [markdown]
# ## 7.12 singular values

# %%
#| export
def weight_matrices(model: nn.Module, min_megabytes: float = 1.0) -> Iterator[tuple[str, Tensor]]:
    """Every large weight tensor as a matrix (outputs, all that an output reads), with its name.

    min_megabytes: at 4 bytes a number, in 2^20. Source: Défossez 2021; section 7.12.
    """
    for owner, layer in model.named_modules():
        turned = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d))
        for name, p in layer.named_parameters(recurse=False):
            if p.ndim >= 2 and p.numel() * 4 >= min_megabytes * 2 ** 20:
                yield f"{owner}.{name}", (p.transpose(0, 1) if turned else p).flatten(1)


def largest_singular_value(A: Tensor, method: str = "lowrank", rank: int = 50,
                           iterations: int = 4) -> Tensor:
    """The largest singular value of A (row, column), with a gradient.

    method: "exact"; "lowrank", of a random projection to `rank` dimensions (torch.svd_lowrank);
    "power", by iterating with one vector. Both draw from torch's global generator. ValueError for
    another word. Source: Halko, Martinsson and Tropp 2011; section 7.12.
    """
    if method == "exact":
        return torch.linalg.matrix_norm(A, 2)
    if method == "lowrank":
        return torch.svd_lowrank(A, min(rank, *A.shape), iterations)[1][0]
    if method != "power":
        raise ValueError(f"method is {method!r}; expected exact, lowrank or power")
    with torch.no_grad():
        b = F.normalize(torch.randn(A.shape[1], dtype=A.dtype, device=A.device), dim=0)
        for _ in range(iterations):
            b = F.normalize(A.mT @ (A @ b), dim=0)
    return (A @ b).norm()


def svd_penalty(model: nn.Module, min_megabytes: float = 1.0, method: str = "lowrank",
                rank: int = 50, iterations: int = 4) -> Tensor:
    """Squared largest singular values, added up over a model's large matrices (eq. 7.9)."""
    values = [largest_singular_value(A, method, rank, iterations).square()
              for _, A in weight_matrices(model, min_megabytes)]
    return torch.stack(values).sum() if values else next(model.parameters()).new_zeros(())

# %%
#| export
class PenalisedStep:
    """A training step with the penalty on singular values: (model, batch) -> loss, and its parts.

    step: whose loss is penalised, a scalar. weight: of the penalty. options: as `svd_penalty`.
    Source: Défossez 2021; section 7.12.
    """

    def __init__(self, step: Callable[[nn.Module, Tensor], Tensor], weight: float = 1e-5,
                 **options):
        self.step, self.weight, self.options = step, weight, options

    def __call__(self, model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        error, penalty = self.step(model, batch), svd_penalty(model, **self.options)
        return {"loss": error + self.weight * penalty, "error": error, "penalty": penalty}

# %% [markdown]
# ## 7.13 automix

# %%
#| export
TEMPO_RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)


def chroma_of(bass: Tensor, rate: int) -> Tensor:
    """How much each pitch class sounds in a bass, (12,) from C on, adding up to 1.

    bass: (channel, time). Frames under 5% of the loudest frame's level don't count; a silent bass
    gives 1/12 each. Source: Rouard, Massa and Défossez' training code; section 7.13.
    """
    import librosa
    y = bass.mean(0).numpy()
    if not y.any():
        return torch.full((12,), 1 / 12)
    chroma = torch.from_numpy(librosa.feature.chroma_cqt(y=y, sr=rate)).float()    # (12, frame)
    level = torch.from_numpy(librosa.feature.rms(y=y, hop_length=512)[0])
    n = min(chroma.shape[1], len(level))
    mean = chroma[:, :n][:, level[:n] >= 0.05 * level.max()].mean(1)
    return mean / mean.sum()


def shift_distances(chroma: Tensor, target: Tensor) -> dict[int, float]:
    """Mean absolute difference of two chroma vectors for each shift, -6 to 5 semitones (7.10)."""
    return {k: float((chroma.roll(k) - target).abs().mean()) for k in range(-6, 6)}


def tempo_factor(tempo: float, target: float) -> float:
    """How much faster a song must be for its beats to fall on another's (eq. 7.11).

    Beats of one may be halves or doubles of the other's: the ratio that changes least is taken.
    """
    factors = [target * ratio / tempo for ratio in TEMPO_RATIOS]
    return min(factors, key=lambda factor: abs(math.log(factor)))

# %%
#| export
def beat_curve(beats: Tensor, seconds: float, step: float = 0.005, width: float = 0.02) -> Tensor:
    """Beats (count,) in seconds as a curve on a grid, a small hill a beat: (seconds / step,)."""
    grid = torch.arange(round(seconds / step)) * step
    return torch.exp(-0.5 * ((grid - beats[:, None]) / width) ** 2).sum(0)


def beat_offset(beats: Tensor, target: Tensor, seconds: float, step: float = 0.005,
                most: float = 4.0) -> float:
    """By how many seconds beats must come later to fall best on others': -most to most.

    Both (count,) in seconds. Source: section 7.13.
    """
    reach = round(most / step)
    ours, theirs = (beat_curve(times, seconds, step) for times in (beats, target))
    scores = F.conv1d(F.pad(theirs, (reach, reach))[None, None], ours[None, None]).flatten()
    return (int(scores.argmax()) - reach) * step

# %%
#| export
@dataclass(frozen=True)
class Fit:
    """What makes one song's stems fit another song: semitones up, times as fast, seconds later."""

    semitones: int
    factor: float
    later: float

    @property
    def allowed(self) -> bool:
        """At most 3 semitones and 15%: beyond that, stems sound treated."""
        return abs(self.semitones) <= 3 and abs(self.factor - 1) <= 0.15


class Listened:
    """What is heard of a song for `automix`: tempo (a minute), beats (seconds), chroma (12,).

    track: with drums and bass. Tempo and beats come from the drums, by librosa's beat tracker.
    """

    def __init__(self, track):
        import librosa
        self.track = track
        drums, bass = track.sources(["drums", "bass"])              # (channel, time)
        tempo, beats = librosa.beat.beat_track(y=drums.mean(0).numpy(), sr=track.rate, units="time")
        self.tempo, self.beats = float(np.atleast_1d(tempo)[0]), torch.from_numpy(beats).float()
        self.chroma = chroma_of(bass, track.rate)

    def fit_to(self, other: "Listened") -> Fit | None:
        """How this song's stems would have to be moved to fit the other; None without beats."""
        if not len(self.beats) or not len(other.beats) or not self.tempo > 0 or not other.tempo > 0:
            return None
        distances = shift_distances(self.chroma, other.chroma)
        factor = tempo_factor(self.tempo, other.tempo)
        later = beat_offset(self.beats / factor, other.beats, other.track.seconds)
        return Fit(min(distances, key=distances.get), factor, later)


def moved(stem: Tensor, fit: Fit, rate: int, length: int) -> Tensor:
    """A stem (channel, time) at another pitch, tempo and place, `length` samples of it."""
    x = repitch(stem, fit.semitones, fit.factor)
    late = round(fit.later * rate)
    x = F.pad(x, (late, 0)) if late >= 0 else x[..., -late:]
    return F.pad(x, (0, max(0, length - x.shape[-1])))[..., :length]


def automix(songs: Sequence[Listened], base: int, generator: torch.Generator,
            stems: Sequence[str] = ("bass", "other", "vocals")) -> dict[str, tuple[str, Tensor]]:
    """A new song: one song's drums, and each other stem from another song that fits it.

    songs: all at one rate. base: whose drums. stems: to be found elsewhere, each in the first
    song, in random order, that fits within `Fit.allowed`. Returns stem -> (name of its song, audio
    (channel, time)), only of those that were found. Source: Rouard, Massa and Défossez' training
    code; section 7.13.
    """
    home = songs[base].track
    found = {"drums": (home.name, home.sources(["drums"])[0])}
    for stem in stems:
        for index in torch.randperm(len(songs), generator=generator).tolist():
            fit = songs[index].fit_to(songs[base]) if index != base else None
            if fit is not None and fit.allowed:
                audio = songs[index].track.sources([stem])[0]
                found[stem] = songs[index].track.name, moved(audio, fit, home.rate, home.frames)
                break
    return found
