# %% [markdown]
# # Chapter 8 · HT Demucs, a transformer between two U-Nets

# %%
#| default_exp htdemucs
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("08_ht_demucs", cpu=dict(songs=2), gpu=dict(songs=6), threads=1)

# %%
#| export
import math
import random
from collections.abc import Sequence
from fractions import Fraction
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.demucs import LayerScale, rescale_module
from course_lib.hdemucs import (HybridEnds, HybridPasses, LayerMaker, ScaledEmbedding, TwoUNets,
                                check_mixture, layer_sizes)

# %%
#| export
class MultiheadAttention(nn.Module):
    """Every query gathers what the keys hold, in several heads (eq. 8.1, 8.2).

    embed_dim: channels of queries, keys and output; num_heads: among which they are divided, else
    ValueError. dropout: of the weights, in training. forward(query, key): (batch, query, channel)
    and (batch, key, channel) to (batch, query, channel); without key, queries attend to each
    other. Tensor names, and first weights, as torch.nn.MultiheadAttention. Source: Vaswani et al.
    2017; section 8.3.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim is {embed_dim} and num_heads {num_heads}; expected a "
                             "multiple of it")
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def heads(self, x: Tensor, first: int, last: int) -> list[Tensor]:
        """Projections number `first` to `last` (query 0, key 1, value 2) of tokens, by heads:
        (batch, token, channel) to (batch, head, token, channel of a head) each."""
        rows = slice(first * self.embed_dim, (last + 1) * self.embed_dim)
        y = F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])
        y = y.unflatten(-1, (last + 1 - first, self.num_heads, -1))   # (batch, token, 3, head, c)
        return list(y.permute(2, 0, 3, 1, 4))

    def forward(self, query: Tensor, key: Tensor | None = None) -> Tensor:
        if key is None:
            q, k, v = self.heads(query, 0, 2)
        else:
            (q,), (k, v) = self.heads(query, 0, 0), self.heads(key, 1, 2)
        dropout = self.dropout if self.training else 0.0
        heard = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out_proj(heard.transpose(1, 2).flatten(2))        # (batch, query, channel)

# %%
#| export
def sin_positions(length: int, dim: int, max_period: float = 10000.0, shift: int = 0) -> Tensor:
    """A vector for each step in time, (length, dim): cosines, then sines, of ever slower phases
    (eq. 8.3).

    dim: even and >= 4, else ValueError. max_period: of the slowest, over 2 pi. shift: of the first
    step. Source: Vaswani et al. 2017, in the form of HT Demucs; section 8.4.
    """
    return _waves(shift + torch.arange(length), dim, max_period)


def _waves(positions: Tensor, dim: int, max_period: float) -> Tensor:
    """(..., length) to (..., length, dim)."""
    if dim < 4 or dim % 2:
        raise ValueError(f"dim is {dim}; expected an even number of channels from 4 on")
    half = dim // 2
    phase = positions[..., None] / max_period ** (torch.arange(half) / (half - 1))
    return torch.cat([phase.cos(), phase.sin()], -1)

# %%
#| export
def sin_positions_2d(dim: int, bins: int, frames: int, max_period: float = 10000.0) -> Tensor:
    """A vector for each place of a spectrogram, (dim, bins, frames): the first half of the channels
    knows the frame, the second the bin; sine and cosine in turn (eq. 8.4).

    dim: a multiple of 4, else ValueError. Source: Rouard, Massa and Défossez 2022; section 8.4.
    """
    if dim % 4:
        raise ValueError(f"dim is {dim}; expected a multiple of 4: sine and cosine, twice")
    half = dim // 2
    rates = torch.exp(torch.arange(0.0, half, 2) * -(math.log(max_period) / half))
    def waves(count: int) -> Tensor:
        phase = torch.arange(float(count)) * rates[:, None]             # (rate, place)
        return torch.stack([phase.sin(), phase.cos()], 1).flatten(0, 1)
    in_time = waves(frames)[:, None, :].expand(-1, bins, -1)
    in_frequency = waves(bins)[:, :, None].expand(-1, -1, frames)
    return torch.cat([in_time, in_frequency])

# %%
#| export
def cape_positions(length: int, dim: int, batch: int, max_period: float = 10000.0,
                   mean_normalize: bool = True,
                   moves: Sequence[float] | None = None) -> Tensor:
    """Continuous positions that training moves at random: (batch, length, dim).

    mean_normalize: count from the middle. moves: largest shift of all, largest shift of each step,
    largest factor; None: none of them. Draws from torch's global generator. Source: Likhomanenko
    et al. 2021 (CAPE); section 8.4.
    """
    positions = torch.arange(float(length)).expand(batch, -1)           # (batch, length)
    if mean_normalize:
        positions = positions - positions.mean(-1, keepdim=True)
    if moves is not None:
        shift, jitter, factor = moves
        uniform = lambda *size: 2 * torch.rand(size) - 1
        positions = positions + shift * uniform(batch, 1) + jitter * uniform(batch, length)
        positions = positions * torch.exp(math.log(factor) * uniform(batch, 1))
    return _waves(positions, dim, max_period)

# %%
#| export
class TokenGroupNorm(nn.GroupNorm):
    """GroupNorm of tokens: (batch, token, channel); with one group over all tokens and channels.

    Source: Rouard, Massa and Défossez 2022; section 8.5.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.num_groups > 1:
            return super().forward(x.mT).mT
        return F.layer_norm(x, x.shape[1:], eps=self.eps) * self.weight + self.bias

# %%
#| export
class _TransformerLayer(nn.Module):
    """What both kinds of layers share: feed-forward part, scales, the last norm (section 8.5)."""

    def __init__(self, norms: int, d_model: int, dim_feedforward: int, dropout: float, gelu: bool,
                 group_norm: int, norm_first: bool, norm_out: int, layer_scale: bool,
                 init_values: float):
        super().__init__()
        self.norm_first, self.activation = norm_first, F.gelu if gelu else F.relu
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        self.linear2 = nn.Linear(dim_feedforward, d_model)
        self.dropout = nn.Dropout(dropout)
        for index in range(1, norms + 1):
            norm = TokenGroupNorm(int(group_norm), d_model) if group_norm else nn.LayerNorm(d_model)
            setattr(self, f"norm{index}", norm)
        self.norm_out = (TokenGroupNorm(int(norm_out), d_model) if norm_first and norm_out
                         else nn.Identity())
        scale = lambda: LayerScale(d_model, init_values, channel_last=True)
        self.gamma_1, self.gamma_2 = ((scale(), scale()) if layer_scale
                                      else (nn.Identity(), nn.Identity()))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Each token on its own: (batch, token, channel)."""
        hidden = self.dropout(self.activation(self.linear1(x)))
        return self.dropout(self.linear2(hidden))

# %%
#| export
class SelfAttentionLayer(_TransformerLayer):
    """Tokens of one branch listen to each other: (batch, token, channel) to the same (eq. 8.5).

    d_model: channels; nhead: heads; dim_feedforward: inside the second part; gelu: else ReLU.
    group_norm: groups of a `TokenGroupNorm` instead of LayerNorm (0: LayerNorm). norm_first: norms
    before each part, and norm_out after both; else after each part. layer_scale: see `LayerScale`,
    init_values at first. Tensor names as demucs.transformer.MyTransformerEncoderLayer 4.1.0.
    Source: Rouard, Massa and Défossez 2022; section 8.5.
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 gelu: bool = True, group_norm: int = 0, norm_first: bool = False,
                 norm_out: int = 0, layer_scale: bool = False, init_values: float = 1e-4):
        super().__init__(2, d_model, dim_feedforward, dropout, gelu, group_norm, norm_first,
                         norm_out, layer_scale, init_values)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        attend = lambda y: self.gamma_1(self.dropout(self.self_attn(y)))
        if self.norm_first:
            x = x + attend(self.norm1(x))
            x = x + self.gamma_2(self.feed_forward(self.norm2(x)))
            return self.norm_out(x)
        x = self.norm1(x + attend(x))
        return self.norm2(x + self.gamma_2(self.feed_forward(x)))

# %%
#| export
class CrossAttentionLayer(_TransformerLayer):
    """Tokens of one branch listen to the other branch: x (batch, token, channel) and other
    (batch, token of the other, channel) to the shape of x (eq. 8.6).

    Arguments as `SelfAttentionLayer`. Tensor names as
    demucs.transformer.CrossTransformerEncoderLayer 4.1.0, whose norm3 does nothing where norms come
    last. Source: Rouard, Massa and Défossez 2022; section 8.6.
    """

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
                 gelu: bool = True, group_norm: int = 0, norm_first: bool = False,
                 norm_out: int = 0, layer_scale: bool = False, init_values: float = 1e-4):
        super().__init__(3, d_model, dim_feedforward, dropout, gelu, group_norm, norm_first,
                         norm_out, layer_scale, init_values)
        self.cross_attn = MultiheadAttention(d_model, nhead, dropout)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        attend = lambda y, keys: self.gamma_1(self.dropout(self.cross_attn(y, keys)))
        if self.norm_first:
            x = x + attend(self.norm1(x), self.norm2(other))
            x = x + self.gamma_2(self.feed_forward(self.norm3(x)))
            return self.norm_out(x)
        x = self.norm1(x + attend(x, other))
        return self.norm2(x + self.gamma_2(self.feed_forward(x)))

# %%
#| export
class CrossTransformerEncoder(nn.Module):
    """The transformer between two branches: x (batch, channel, bin, frame) and xt (batch, channel,
    step) to the same shapes, bins, frames and steps any number.

    dim: channels, emb: positions in time, "sin", "cape" or "scaled" (learned, max_positions of
    them); of the spectrogram always `sin_positions_2d`. hidden_scale: times dim in the feed-forward
    parts. num_layers: a branch; self and cross attention in turn, cross_first or not. norm_in:
    LayerNorm of what comes in, or norm_in_group: TokenGroupNorm. sin_random_shift: largest shift of
    the positions, drawn by Python's generator. weight_pos_embed: their factor. The others as in
    `SelfAttentionLayer`. weight_decay, lr: kept for the optimiser. ValueError for heads that don't
    divide dim and another emb. Tensor names as demucs.transformer.CrossTransformerEncoder 4.1.0.
    Source: Rouard, Massa and Défossez 2022; section 8.6.
    """

    def __init__(self, dim: int, emb: str = "sin", hidden_scale: float = 4.0, num_heads: int = 8,
                 num_layers: int = 6, cross_first: bool = False, dropout: float = 0.0,
                 max_positions: int = 1000, norm_in: bool = True, norm_in_group: int = 0,
                 group_norm: int = 0, norm_first: bool = False, norm_out: int = 0,
                 max_period: float = 10000.0, weight_decay: float = 0.0, lr: float | None = None,
                 layer_scale: bool = False, gelu: bool = True, sin_random_shift: int = 0,
                 weight_pos_embed: float = 1.0, cape_mean_normalize: bool = True,
                 cape_augment: bool = True,
                 cape_glob_loc_scale: Sequence[float] = (5000.0, 1.0, 1.4)):
        super().__init__()
        if emb not in ("sin", "cape", "scaled"):
            raise ValueError(f"emb is {emb!r}; expected sin, cape or scaled")
        self.emb, self.max_period, self.weight_pos_embed = emb, max_period, weight_pos_embed
        self.sin_random_shift, self.weight_decay, self.lr = sin_random_shift, weight_decay, lr
        self.cape_mean_normalize, self.cape_augment = cape_mean_normalize, cape_augment
        self.cape_glob_loc_scale = tuple(cape_glob_loc_scale)
        if emb == "scaled":
            self.position_embeddings = ScaledEmbedding(max_positions, dim, scale=3.0)
            with torch.no_grad():
                self.position_embeddings.embedding.weight *= 0.2
        norm = lambda: (nn.LayerNorm(dim) if norm_in else
                        TokenGroupNorm(int(norm_in_group), dim) if norm_in_group else nn.Identity())
        self.norm_in, self.norm_in_t = norm(), norm()
        self.layers, self.layers_t = nn.ModuleList(), nn.ModuleList()
        for index in range(num_layers):
            kind = CrossAttentionLayer if index % 2 != cross_first else SelfAttentionLayer
            for layers in (self.layers, self.layers_t):
                layers.append(kind(dim, num_heads, int(dim * hidden_scale), dropout, gelu,
                                   group_norm, norm_first, norm_out, layer_scale))

    def positions(self, xt: Tensor) -> Tensor:
        """Of the steps of xt (batch, step, channel): (1 or batch, step, channel)."""
        batch, steps, dim = xt.shape
        if self.emb == "scaled":
            return self.position_embeddings(torch.arange(steps, device=xt.device))[None]
        if self.emb == "sin":
            shift = random.randrange(self.sin_random_shift + 1)
            return sin_positions(steps, dim, self.max_period, shift)[None].to(xt)
        moves = self.cape_glob_loc_scale if self.training and self.cape_augment else None
        return cape_positions(steps, dim, batch, self.max_period, self.cape_mean_normalize,
                              moves).to(xt)

    def forward(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        _, dim, bins, frames = x.shape
        places = sin_positions_2d(dim, bins, frames, self.max_period).to(x)
        tokens = lambda y: y.transpose(-3, -1).flatten(-3, -2)      # (..., frame * bin, channel)
        x = self.norm_in(tokens(x)) + self.weight_pos_embed * tokens(places)
        xt = self.norm_in_t(xt.mT)
        xt = xt + self.weight_pos_embed * self.positions(xt)        # (batch, step, channel)
        for layer, layer_t in zip(self.layers, self.layers_t):
            x, xt = layer(x, xt), layer_t(xt, x)                    # both from what was before
        return x.unflatten(1, (frames, bins)).transpose(-3, -1), xt.mT

# %%
#| export
class HTDemucs(TwoUNets, HybridPasses, HybridEnds):
    """Hybrid Transformer Demucs (v4): mixture (batch, channel, time) to its sources
    (batch, source, channel, time), as long as the mixture.

    As `HDemucs` but for the middle: the branches never become one; after `depth` layers, of stride
    `stride` each, a `CrossTransformerEncoder` lets them listen to each other, and the decoders
    begin with what it gives. bottom_channels: number of its channels, two 1x1 convolutions a branch
    lead there and back; 0: those of the last layer. t_layers: 0: no transformer; t_...: arguments
    of the transformer. dconv_...: of the residual branches, which have neither BLSTM nor attention
    here. samplerate, segment: the length in seconds of a training chunk; with use_train_segment
    training keeps it, and in eval mode shorter mixtures are padded to it and longer ones refused
    (chapter 9 cuts them up); without, every length from 1 on is taken as it is.

    ValueError for other shapes, arguments that don't go together, sparse attention (chapter 8b:
    `sparsify`), and a depth at which one bin would be left. Arguments, defaults and tensor names:
    demucs.htdemucs.HTDemucs 4.1.0. Source: Rouard, Massa and Défossez 2022; section 8.7.
    """

    def __init__(self, sources: Sequence[str], audio_channels: int = 2, channels: int = 48,
                 channels_time: int | None = None, growth: float = 2, nfft: int = 4096,
                 wiener_iters: int = 0, end_iters: int = 0, wiener_residual: bool = False,
                 cac: bool = True, depth: int = 4, rewrite: bool = True,
                 multi_freqs: Sequence[float] | None = None, multi_freqs_depth: int = 3,
                 freq_emb: float = 0.2, emb_scale: float = 10, emb_smooth: bool = True,
                 kernel_size: int = 8, time_stride: int = 2, stride: int = 4, context: int = 1,
                 context_enc: int = 0, norm_starts: int = 4, norm_groups: int = 4,
                 dconv_mode: int = 1, dconv_depth: int = 2, dconv_comp: float = 8,
                 dconv_init: float = 1e-3, bottom_channels: int = 0, t_layers: int = 5,
                 t_emb: str = "sin", t_hidden_scale: float = 4.0, t_heads: int = 8,
                 t_dropout: float = 0.0, t_max_positions: int = 10000, t_norm_in: bool = True,
                 t_norm_in_group: int = 0, t_group_norm: int = 0, t_norm_first: bool = True,
                 t_norm_out: int = 1, t_max_period: float = 10000.0, t_weight_decay: float = 0.0,
                 t_lr: float | None = None, t_layer_scale: bool = True, t_gelu: bool = True,
                 t_weight_pos_embed: float = 1.0, t_sin_random_shift: int = 0,
                 t_cape_mean_normalize: bool = True, t_cape_augment: bool = True,
                 t_cape_glob_loc_scale: Sequence[float] = (5000.0, 1.0, 1.4),
                 t_sparse_self_attn: bool = False, t_sparse_cross_attn: bool = False,
                 t_mask_type: str = "diag", t_mask_random_seed: int = 42,
                 t_sparse_attn_window: int = 500, t_global_window: int = 100,
                 t_sparsity: float = 0.95, t_auto_sparsity: bool = False,
                 t_cross_first: bool = False, rescale: float = 0.1, samplerate: int = 44100,
                 segment: float = 10, use_train_segment: bool = True):
        sizes = layer_sizes(nfft, depth, kernel_size, stride, time_stride)
        wide = int(channels * growth ** (depth - 1))
        _check_arguments(sizes, nfft, depth, wiener_iters, end_iters, channels, channels_time,
                         t_sparse_self_attn or t_sparse_cross_attn)
        branch = dict(depth=dconv_depth, compress=dconv_comp, init=dconv_init)
        make = LayerMaker(rewrite, context, context_enc, norm_starts, norm_groups, dconv_mode,
                          branch, depth, depth, multi_freqs, multi_freqs_depth)
        parts, outputs = 2 if cac else 1, audio_channels * len(sources)
        super().__init__(sizes, make, (parts * audio_channels, parts * outputs, channels),
                         (audio_channels, outputs, channels), growth, timed=True)
        self.sources, self.audio_channels = list(sources), audio_channels
        self.nfft, self.hop_length, self.depth = nfft, nfft // 4, depth
        self.cac, self.hybrid, self.hybrid_old = cac, True, False
        self.wiener_iters, self.end_iters = wiener_iters, end_iters
        self.wiener_residual, self.freq_emb_scale = wiener_residual, freq_emb
        self.samplerate, self.segment = samplerate, segment
        self.use_train_segment, self.bottom_channels = use_train_segment, bottom_channels
        self.freq_emb = (ScaledEmbedding(sizes[0].bins_out, channels, emb_scale, emb_smooth)
                         if freq_emb else None)
        if rescale:
            rescale_module(self, rescale)                   # all that follows keeps its weights
        if bottom_channels:
            for branch_name in ("", "_t"):
                up, down = nn.Conv1d(wide, bottom_channels, 1), nn.Conv1d(bottom_channels, wide, 1)
                setattr(self, f"channel_upsampler{branch_name}", up)
                setattr(self, f"channel_downsampler{branch_name}", down)
        self.crosstransformer = CrossTransformerEncoder(
            bottom_channels or wide, t_emb, t_hidden_scale, t_heads, t_layers, t_cross_first,
            t_dropout, t_max_positions, t_norm_in, t_norm_in_group, t_group_norm, t_norm_first,
            t_norm_out, t_max_period, t_weight_decay, t_lr, t_layer_scale, t_gelu,
            t_sin_random_shift, t_weight_pos_embed, t_cape_mean_normalize, t_cape_augment,
            t_cape_glob_loc_scale) if t_layers else None

    def exchange(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """What the transformer makes of both branches' last layers, in their shapes."""
        if self.crosstransformer is None:
            return x, xt
        if not self.bottom_channels:
            return self.crosstransformer(x, xt)
        bins = x.shape[2]
        x = self.channel_upsampler(x.flatten(2)).unflatten(2, (bins, -1))
        x, xt = self.crosstransformer(x, self.channel_upsampler_t(xt))
        x = self.channel_downsampler(x.flatten(2)).unflatten(2, (bins, -1))
        return x, self.channel_downsampler_t(xt)

    def through(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Down, through the transformer, and up again."""
        skips, skips_t, lengths, lengths_t = self.encode(x, xt)
        x, xt = self.exchange(skips[-1], skips_t[-1])
        return self.decode(skips, skips_t, lengths, lengths_t, x, xt)

    def valid_length(self, length: int) -> int:
        """The number of samples that the network works on: the segment's, or `length`."""
        if not self.use_train_segment:
            return length
        longest = int(self.segment * self.samplerate)
        if length > longest:
            raise ValueError(f"the mixture has {length} samples; this network takes at most a "
                             f"segment of {longest}: cut it up (`course_lib.separating`)")
        return longest

    def forward(self, mix: Tensor) -> Tensor:
        check_mixture(mix, self.audio_channels)
        length = mix.shape[-1]
        if self.use_train_segment and not self.training:
            mix = F.pad(mix, (0, self.valid_length(length) - length))
        estimates = sum(self.branches(mix))[..., :length]
        if self.use_train_segment and self.training:
            self.segment = Fraction(length, self.samplerate)
        return estimates

# %%
#| export
def _check_arguments(sizes, nfft, depth, wiener_iters, end_iters, channels, channels_time,
                     sparse) -> None:
    if any(size.merges or not size.freq for size in sizes):
        raise ValueError(f"depth is {depth} and nfft {nfft}: less than two bins are left; expected "
                         "fewer layers, such as 4 with nfft 4096, so that both branches stay apart")
    if wiener_iters != end_iters:
        raise ValueError(f"wiener_iters is {wiener_iters} and end_iters {end_iters}; both branches "
                         "are added in training and after: expected them equal")
    if channels_time not in (None, channels):
        raise ValueError(f"channels is {channels} and channels_time {channels_time}; the "
                         "transformer compares both branches: expected them equal, or None")
    if sparse:
        raise ValueError("t_sparse_self_attn or t_sparse_cross_attn is True; build the network "
                         "with dense attention, and call chapter 8b's `sparsify` on it")
