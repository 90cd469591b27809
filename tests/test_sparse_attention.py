"""Chapter 8b: hashing against the formula and demucs' buckets, every way to compute against dense attention."""

import copy
import math
import sys
import types

import pytest
import torch
from demucs import transformer as official
from torch import nn

from course_lib.experiments.sparse_attention import CHOICES, Sizes, chooser, rebuilt_error
from course_lib.htdemucs import HTDemucs
from course_lib.sparse_attention import (
    MASK_TYPES,
    FrameRetrieval,
    SparseMultiheadAttention,
    attention_mask,
    block_lsh_attention,
    block_lsh_mask,
    chunked_attention,
    collision_probability,
    count_matches,
    elementary_mask,
    hash_directions,
    log_mel_frames,
    lsh_attention,
    lsh_buckets,
    lsh_mask,
    masked_attention,
    match_probability,
    matches_needed,
    pack_buckets,
    sparse_from_dense,
    sparsify,
    train_retrieval,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def tokens(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-30))


def written_out(q, k, v, mask):
    """(8b.3) in float64, query by query."""
    scores = q.double() @ k.double().mT / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~mask, -torch.inf)
    weights = (scores - scores.amax(-1, keepdim=True).clamp_min(-1e300).detach()).exp()
    total = weights.sum(-1, keepdim=True)
    return weights @ v.double() / torch.where(total > 0, total, 1.0)


def compare(attend, expected, leaves, bar=1e-5):
    """Output and all gradients of two functions of the leaves."""
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    found, wanted = attend(*leaves), expected(*leaves)
    upstream = tokens(*found.shape, seed=9, dtype=found.dtype)
    assert found.dtype == leaves[0].dtype and relative(found, wanted) < bar
    for mine, theirs in zip(torch.autograd.grad(found, leaves, upstream),
                            torch.autograd.grad(wanted, leaves, upstream.to(wanted.dtype))):
        assert (mine - theirs).abs().max() <= bar * theirs.abs().max().clamp_min(0.1)  # or zero but for rounding


# ------------------------------------------------------------------------------------------------------------ hashing


def test_buckets_are_those_of_demucs():
    x, R = tokens(3, 50, 16), hash_directions(16, 32, 4, generator(1))
    assert torch.equal(lsh_buckets(x, R), official._compute_buckets(x, R[None]))
    torch.manual_seed(5)
    drawn = torch.randn(1, 16, 32, 2)
    torch.manual_seed(5)
    assert torch.equal(hash_directions(16), drawn[0])


def test_buckets_mind_directions_only():
    x, R = tokens(40, 8), hash_directions(8, 20, 6, generator(1))
    b = lsh_buckets(x, R)
    assert b.dtype == torch.uint8 and b.shape == (40, 20) and int(b.max()) == 5
    assert torch.equal(lsh_buckets(4 * x, R), b) and torch.equal(lsh_buckets(-x, R), (b + 3) % 6)
    assert (lsh_buckets(torch.zeros(2, 8), R) == 0).all()
    assert torch.equal(lsh_buckets(x.bfloat16(), R), lsh_buckets(x.bfloat16().float(), R))


@pytest.mark.parametrize("degrees", [0, 20, 60, 90, 135, 180])
def test_collision_probability(degrees):
    angle = torch.tensor(math.radians(degrees), dtype=torch.float64)
    x = torch.eye(2, dtype=torch.float64)[:1]
    y = torch.stack([angle.cos(), angle.sin()])[None]
    R = hash_directions(2, 40000, generator=generator(degrees))
    same = (lsh_buckets(x, R) == lsh_buckets(y, R)).double()
    p = float(collision_probability(angle))
    assert abs(float(same.mean()) - p) < 5 * math.sqrt(p * (1 - p) / 40000) + 1e-6
    enough = (same.reshape(-1, 32).sum(-1) >= 12).double().mean()
    assert abs(float(enough - match_probability(angle, 12))) < 0.06


def test_match_probability_at_its_ends():
    angles = torch.linspace(0, math.pi, 7)
    assert torch.allclose(match_probability(angles, 0), torch.ones(7, dtype=torch.float64))
    assert float(match_probability(angles, 33).max()) == 0
    assert torch.allclose(match_probability(angles, 32), collision_probability(angles.double()) ** 32)


def test_counts_and_packed_words_agree():
    b_q, b_k = (torch.randint(0, 4, (2, n, 32), generator=generator(n), dtype=torch.uint8) for n in (7, 9))
    counts = count_matches(b_q, b_k)
    assert torch.equal(counts.long(), (b_q[:, :, None] == b_k[:, None]).sum(-1))
    words_q, words_k = pack_buckets(b_q), pack_buckets(b_k)
    differ = (words_q[..., :, None] ^ words_k[..., None, :])
    ones = [[int(low | high).bit_count() for low, high in zip(row[0], row[1])]
            for row in differ[0].transpose(1, 0, 2)]
    assert (32 - torch.tensor(ones)).tolist() == counts[0].tolist()
    with pytest.raises(ValueError, match="33 rounds"):
        pack_buckets(torch.zeros(2, 33, dtype=torch.uint8))


def test_matches_needed_is_the_smallest_that_leaves_out_enough():
    counts = torch.tensor([[[5, 5, 5, 5, 4, 3, 2, 1, 0, 0]], [[2, 2, 2, 2, 2, 2, 2, 2, 2, 2]]])
    assert matches_needed(counts, 0.6, 8).tolist() == [5, 3]          # four of ten are kept: 40%
    assert matches_needed(counts, 0.61, 8).tolist() == [6, 3]
    assert matches_needed(counts, 0.5, 8).tolist() == [4, 3]
    assert matches_needed(torch.full((1, 3), 8), 0.9, 8).tolist() == 8  # no k parts them
    with pytest.raises(ValueError, match="sparsity is 1"):
        matches_needed(counts, 1, 8)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99])
def test_the_mask_leaves_out_the_share_and_no_query(sparsity):
    q, k = tokens(2, 3, 100, 16), tokens(2, 3, 120, 16, seed=1)
    mask = lsh_mask(q, k, hash_directions(16, generator=generator()), sparsity)
    assert mask.any(-1).all()
    rows = mask.float().mean((-2, -1))
    assert (rows <= 1 - sparsity + 2 / 120).all() and (sparsity > 0 or rows.max() > 0.99)


def test_a_query_far_from_all_keeps_its_best():
    k = tokens(60, 16)
    q = torch.cat([k[:50], -k.mean(0, keepdim=True) * 100])
    R = hash_directions(16, generator=generator())
    counts = count_matches(lsh_buckets(q, R), lsh_buckets(k, R))[-1]
    kept = lsh_mask(q, k, R, 0.98)[-1]
    assert torch.equal(kept, counts == counts.max())


def test_only_allowed_pairs_are_kept():
    q, allowed = tokens(80, 16), (torch.arange(80)[:, None] - torch.arange(80)).abs() > 5
    allowed[7] = False
    mask = lsh_mask(q, q, hash_directions(16, generator=generator()), 0.9, allowed=allowed)
    assert not (mask & ~allowed).any() and mask.any(-1).sum() == 79
    assert float(mask[allowed].float().mean()) < 0.13


# -------------------------------------------------------------------------------------------------------- fixed masks


@pytest.mark.parametrize("kind", MASK_TYPES)
@pytest.mark.parametrize("T1,T2", [(50, 50), (50, 31), (31, 50), (1, 5), (5, 1), (1, 1), (200, 7)])
def test_fixed_masks_are_those_of_demucs(kind, T1, T2):
    for window, share, sparsity in ((3, 4, 0.9), (0, 1, 0.5), (60, 50, 0.0)):
        theirs = official.get_elementary_mask(T1, T2, kind, window, share, 7, sparsity, "cpu")
        ours = elementary_mask(T1, T2, kind, window, share, 7, sparsity)
        assert ours.dtype == torch.bool and torch.equal(ours, theirs)


def test_joined_masks():
    options = dict(sparse_attn_window=2, global_window=3)
    diag, everywhere = (elementary_mask(40, 30, kind, **options) for kind in ("diag", "global"))
    assert torch.equal(attention_mask(40, 30, "diag_global", **options), diag | everywhere)
    with pytest.raises(ValueError, match="'band'"):
        attention_mask(4, 4, "diag_band")
    with pytest.raises(ValueError, match="T1 0"):
        elementary_mask(0, 4, "diag")


# --------------------------------------------------------------------------------------------- attention under a mask


def test_masked_attention_with_and_without_keys():
    leaves = [tokens(2, 5, 4), tokens(2, 7, 4, seed=1), tokens(2, 7, 3, seed=2)]
    mask = tokens(2, 5, 7, seed=3) > 0
    mask[0, 2], mask[1, 0] = False, False
    mask[1, 1], mask[1, 1, 3] = False, True
    compare(lambda q, k, v: masked_attention(q, k, v, mask), lambda q, k, v: written_out(q, k, v, mask), leaves)
    found = masked_attention(*leaves, mask)
    assert (found[0, 2] == 0).all() and torch.allclose(found[1, 1], leaves[2][1, 3])


def test_masked_attention_says_what_is_wrong():
    q, k, v = tokens(2, 5, 4), tokens(2, 7, 4), tokens(2, 7, 4)
    for wrong, said in (((q[..., :3], k, v), "as many features"), ((q, k[:1], v), "same batch"),
                        ((q, k, v[:, :6]), "as many keys"), ((q.double(), k, v), "one float type"),
                        ((q[:, :0], k, v), "at least one"), ((q[0, 0], k, v), "expected")):
        with pytest.raises(ValueError, match=said):
            masked_attention(*wrong, torch.ones(5, 7, dtype=torch.bool))
    with pytest.raises(ValueError, match="mask is torch.float32"):
        masked_attention(q, k, v, torch.ones(5, 7))
    with pytest.raises(ValueError, match="5 queries and 7 keys"):
        masked_attention(q, k, v, torch.ones(7, 5, dtype=torch.bool))


SHAPES = {
    "self": (2, 3, 150, 150, 16, 16), "cross": (1, 2, 90, 201, 8, 8), "more queries": (2, 1, 201, 30, 8, 8),
    "other values": (1, 2, 70, 80, 8, 5), "one token": (2, 2, 1, 1, 8, 8), "one key": (1, 1, 9, 1, 8, 8),
    "one query": (1, 1, 1, 40, 8, 8)}


@pytest.mark.parametrize("method", ["kernel", "chunks", "mask", "blocks"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_method_is_dense_attention_under_its_mask(method, shape):
    batch, heads, T_q, T_k, d, values = shape
    leaves = [tokens(batch, heads, T_q, d), tokens(batch, heads, T_k, d, seed=1),
              tokens(batch, heads, T_k, values, seed=2)]
    R = hash_directions(d, generator=generator())
    mask = block_lsh_mask(*leaves[:2], R, 0.8, 16) if method == "blocks" else lsh_mask(*leaves[:2], R, 0.8)
    assert mask.any(-1).all()

    def attend(q, k, v):
        if method == "blocks":
            return block_lsh_attention(q, k, v, 0.8, R=R, block=16, numbers=5000)
        return lsh_attention(q, k, v, 0.8, R=R, method=method, chunk=32)

    compare(attend, lambda q, k, v: written_out(q, k, v, mask), leaves)


@pytest.mark.parametrize("method", ["kernel", "chunks"])
def test_keys_alike_and_zeros_are_all_kept(method):
    v = tokens(1, 40, 8)
    for q in (tokens(1, 1, 8).expand(1, 40, 8), torch.zeros(1, 40, 8)):
        everything = torch.ones(1, 40, 40, dtype=torch.bool)
        compare(lambda q, k, v: lsh_attention(q, k, v, generator=generator(), method=method),
                lambda q, k, v: written_out(q, k, v, everything), [q, q, v])


def test_large_scores_and_double_precision():
    leaves = [100 * tokens(1, 60, 8, dtype=torch.float64, seed=n) for n in range(3)]
    R = hash_directions(8, generator=generator())
    mask = lsh_mask(*leaves[:2], R)
    compare(lambda q, k, v: lsh_attention(q, k, v, R=R, method="kernel"),
            lambda q, k, v: written_out(q, k, v, mask), leaves, 1e-9)


@pytest.mark.parametrize("method", ["kernel", "chunks"])
def test_half_precision(method):
    q, k, v = (tokens(2, 60, 8, seed=n).bfloat16() for n in range(3))
    R = hash_directions(8, generator=generator())
    found = lsh_attention(q, k, v, R=R, method=method)
    assert found.dtype == torch.bfloat16
    assert relative(found.double(), written_out(q, k, v, lsh_mask(q, k, R))) < 0.03


def test_nan_is_not_hidden():
    q = tokens(1, 30, 8)
    q[0, 3, 2] = torch.nan
    found = lsh_attention(q, q.nan_to_num(), q.nan_to_num(), generator=generator(), method="kernel")
    assert found[0, 3].isnan().all() and torch.isfinite(found[0, :3]).all()


def test_two_threads_give_what_one_gives():
    q, k, v = (tokens(2, 4, 80, 8, seed=n).requires_grad_() for n in range(3))
    R, found, threads = hash_directions(8, generator=generator()), [], torch.get_num_threads()
    for number in (1, 2):
        torch.set_num_threads(number)
        y = lsh_attention(q, k, v, R=R, method="kernel")
        found.append([y, *torch.autograd.grad(y.square().sum(), (q, k, v))])
    torch.set_num_threads(threads)
    assert all(relative(b, a) < 1e-6 for a, b in zip(*found))


@pytest.mark.parametrize("attend", [
    lambda q, k, v, R: lsh_attention(q, k, v, R=R, method="kernel"),
    lambda q, k, v, R: lsh_attention(q, k, v, R=R, method="chunks", chunk=16),
    lambda q, k, v, R: block_lsh_attention(q, k, v, R=R, block=16, numbers=4096)], ids=["kernel", "chunks", "blocks"])
def test_what_is_kept_for_the_gradient_grows_with_the_length(attend):
    kept = {}
    for T in (128, 512):
        q, k, v = (tokens(1, T, 8, seed=n).requires_grad_() for n in range(3))
        storages = {}
        with torch.autograd.graph.saved_tensors_hooks(
                lambda x: storages.__setitem__(x.untyped_storage().data_ptr(), x.numel()) or x, lambda x: x):
            attend(q, k, v, hash_directions(8, generator=generator()))
        kept[T] = sum(storages.values())
    assert kept[512] < 5 * kept[128] and kept[512] < 512 * 512 / 4


def test_fixed_masks_in_chunks():
    leaves = [tokens(2, 50, 8), tokens(2, 70, 8, seed=1), tokens(2, 70, 8, seed=2)]
    mask = attention_mask(70, 50, "jmask_random", sparsity=0.9)
    mask[3] = False
    compare(lambda q, k, v: chunked_attention(q, k, v, lambda start, stop: mask[start:stop], 16),
            lambda q, k, v: written_out(q, k, v, mask), leaves)
    with pytest.raises(ValueError, match="chunk is 0"):
        chunked_attention(*leaves, lambda start, stop: mask[start:stop], 0)


def test_other_rounds_and_buckets():
    q, k, v = (tokens(1, 60, 8, seed=n) for n in range(3))
    for rounds, buckets in ((5, 4), (40, 4), (16, 8)):
        R = hash_directions(8, rounds, buckets, generator())
        assert relative(lsh_attention(q, k, v, R=R), written_out(q, k, v, lsh_mask(q, k, R))) < 1e-5
        mask = block_lsh_mask(q, k, R, 0.7, 8)
        assert relative(block_lsh_attention(q, k, v, 0.7, R=R, block=8), written_out(q, k, v, mask)) < 1e-5
    with pytest.raises(ValueError, match="take 'chunks'"):
        lsh_attention(q, k, v, R=R, method="kernel")
    with pytest.raises(ValueError, match="method is 'best'"):
        lsh_attention(q, k, v, method="best")
    with pytest.raises(ValueError, match="an even number"):
        hash_directions(8, 32, 3)
    with pytest.raises(ValueError, match="as many features as R"):
        lsh_buckets(q, hash_directions(9))


# -------------------------------------------------------------------------------------------------------- in networks


def randomised(layer):
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer


@pytest.fixture
def xformers(monkeypatch):
    """Dense stand-ins for the four functions that demucs takes from its unpublished kernels."""
    def find_locations(b_q, b_k, sparsity, infer):
        counts = torch.stack([count_matches(q, k) for q, k in zip(b_q, b_k)])
        needed = matches_needed(counts, sparsity, 32)[:, None, None]
        return counts >= torch.minimum(needed, counts.amax(-1, keepdim=True)), None

    ops = types.ModuleType("xformers.ops")
    ops.masked_matmul = lambda a, b, mask: (a @ b).masked_fill(~mask, -torch.inf)
    ops.find_locations = find_locations
    ops.sparse_memory_efficient_attention = lambda q, k, v, mask, _, bias: written_out(q, k, v, mask).to(q.dtype)
    monkeypatch.setitem(sys.modules, "xformers", types.ModuleType("xformers"))
    monkeypatch.setitem(sys.modules, "xformers.ops", ops)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_the_layer_is_that_of_demucs(xformers, batch_first, bias):
    for sparsity in (0, 0.9):
        theirs = randomised(official.MultiheadAttention(16, 4, bias=bias, batch_first=batch_first,
                                                        auto_sparsity=sparsity))
        ours = SparseMultiheadAttention(16, 4, bias=bias, batch_first=batch_first, auto_sparsity=sparsity)
        ours.load_state_dict(theirs.state_dict())
        x, y = tokens(60, 2, 16), tokens(80, 2, 16, seed=1)
        x, y = (x.transpose(0, 1), y.transpose(0, 1)) if batch_first else (x, y)
        mask = None if sparsity else attention_mask(80, 60, "diag", sparse_attn_window=9)
        torch.manual_seed(3)
        expected = theirs(x, y, y, attn_mask=mask)
        torch.manual_seed(3)
        found = ours(x, y, y, attn_mask=mask)
        assert relative(found[0], expected[0]) < 1e-5 and found[1] is expected[1] is None


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_dense_layer_turned_sparse(batch_first, bias):
    dense = randomised(nn.MultiheadAttention(16, 2, bias=bias, batch_first=batch_first)).eval()
    x = tokens(70, 3, 16)
    x = x.transpose(0, 1) if batch_first else x
    assert relative(sparse_from_dense(dense, 0)(x, x, x)[0], dense(x, x, x)[0]) < 1e-5
    for method in ("auto", "chunks", "mask"):
        sparse = sparse_from_dense(dense, 0.8, method=method, seed=4)
        q, k = (layer(x if batch_first else x.transpose(0, 1)).unflatten(-1, (2, 8)).transpose(1, 2)
                for layer in (sparse.q, sparse.k))
        kept = lsh_mask(q, k, hash_directions(8, generator=generator(4)), 0.8)
        expected = dense(x, x, x, attn_mask=~kept.flatten(0, 1))[0]
        assert not sparse.training and relative(sparse(x, x, x, need_weights=False)[0], expected) < 1e-5
    assert sparse_from_dense(dense, 0.8, method="blocks", block=8)(x, x, x)[0].shape == x.shape


def test_new_directions_in_training_the_same_ones_afterwards():
    layer, x = SparseMultiheadAttention(16, 2, auto_sparsity=0.9), tokens(60, 1, 16)
    torch.manual_seed(0)
    first, second = layer(x, x, x)[0], layer(x, x, x)[0]
    torch.manual_seed(0)
    assert torch.equal(layer(x, x, x)[0], first) and not torch.equal(first, second)
    layer.eval()
    state = torch.get_rng_state()
    assert torch.equal(layer(x, x, x)[0], layer(x, x, x)[0]) and torch.equal(torch.get_rng_state(), state)
    layer.seed = 1
    assert not torch.equal(layer(x, x, x)[0], first)


def test_the_layer_refuses_what_it_cannot_do():
    for wrong, said in ((dict(auto_sparsity=None), "auto_sparsity is None"), (dict(auto_sparsity=1.0), "is 1.0"),
                        (dict(kdim=8), "not supported"), (dict(add_zero_attn=True), "not supported"),
                        (dict(num_heads=3), "multiple"), (dict(method="fast"), "method is 'fast'")):
        with pytest.raises(ValueError, match=said):
            SparseMultiheadAttention(**{"embed_dim": 16, "num_heads": 2, "auto_sparsity": 0.9, **wrong})
    layer, x = SparseMultiheadAttention(16, 2, auto_sparsity=0.9), tokens(6, 1, 16)
    with pytest.raises(ValueError, match="hashing chooses"):
        layer(x, x, x, attn_mask=torch.ones(6, 6, dtype=torch.bool))
    for wrong in (dict(is_causal=True), dict(key_padding_mask=torch.zeros(1, 6, dtype=torch.bool))):
        with pytest.raises(ValueError, match="no key_padding_mask"):
            layer(x, x, x, **wrong)
    with pytest.raises(ValueError, match="expected a plain"):
        sparse_from_dense(nn.MultiheadAttention(16, 2, kdim=8))


class TwoBranches(nn.Module):
    """Named as HT Demucs' transformer is: layers that look at themselves and at each other."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Module(), nn.Module(), nn.Module()])
        for number, name in enumerate(("self_attn", "cross_attn", "self_attn")):
            setattr(self.layers[number], name, nn.MultiheadAttention(16, 2, dropout=0.1))

    def forward(self, x, other):
        x = x + self.layers[0].self_attn(x, x, x, need_weights=False)[0]
        x = x + self.layers[1].cross_attn(x, other, other, need_weights=False)[0]
        return x + self.layers[2].self_attn(x, x, x, need_weights=False)[0]


def test_sparsify_replaces_self_attention():
    network = TwoBranches().eval()
    x, other = tokens(50, 2, 16), tokens(30, 2, 16, seed=1)
    before = network(x, other)
    assert sparsify(network, 0.0) == ["layers.0.self_attn", "layers.2.self_attn"]
    assert relative(network(x, other), before) < 1e-5
    with pytest.raises(ValueError, match="no nn.MultiheadAttention of the wanted kind"):
        sparsify(network)
    assert sparsify(network, 0.5, rounds=16, cross=True) == ["layers.1.cross_attn"]
    assert network.layers[1].cross_attn.rounds == 16 and network.layers[1].cross_attn.attn_drop.p == 0.1
    assert network(x, other).shape == before.shape


@pytest.mark.parametrize("batch_first", [False, True])
def test_pytorchs_own_layers_run_with_it(batch_first):
    """Their shortcut in inference reads in_proj_weight; it must not be taken."""
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
    sparsify(layer, 0.9)
    x = tokens(4, 40, 16)
    layer(x).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())
    layer.eval()
    with torch.no_grad():
        assert torch.isfinite(layer(x)).all()


# ---------------------------------------------------------------------------------------------------- frames, rebuilt


def test_frames_of_sound_and_silence():
    frames = log_mel_frames(tokens(1, 22050), 22050)
    assert frames.shape == (22, 64) and abs(float(frames.std()) - 1) < 1e-3 and frames.mean(0).abs().max() < 1e-4
    assert (log_mel_frames(torch.zeros(1, 22050), 22050) == 0).all()
    with pytest.raises(ValueError, match="mean of the"):
        log_mel_frames(tokens(2, 22050), 22050)


def test_what_repeats_is_rebuilt():
    pattern = tokens(15, 8)
    frames = pattern.repeat(6, 1)
    model, losses = train_retrieval(frames, 40)
    assert losses[-1] < 0.1 * float(frames.var()) and losses[-1] < losses[0]
    assert not model.allowed(frames)[3, 3:14].any() and model.allowed(frames)[3, 14]
    again = train_retrieval(frames, 40)[1]
    assert again == losses
    silent = train_retrieval(torch.zeros(40, 8), 2)[0]
    assert all(torch.isfinite(parameter).all() for parameter in silent.parameters())


def test_every_choice_keeps_about_a_tenth():
    frames = tokens(120, 8)
    model, sizes = FrameRetrieval(8), Sizes(draws=2)
    allowed = model.allowed(frames)
    for kind in CHOICES[1:]:
        mask = chooser(kind, sizes, 0)(model.queries(frames).detach(), allowed)
        assert not (mask & ~allowed).any() and 0.03 < float(mask[allowed].float().mean()) < 0.15, kind
    assert rebuilt_error(model, frames, "all pairs", sizes, 0)[1] == 1


@pytest.mark.parametrize("cross", [False, True])
def test_chapter_8s_network_with_hashed_attention(cross):
    torch.manual_seed(0)
    model = HTDemucs(["a"], 1, 8, nfft=2048, t_heads=2, t_layers=3, use_train_segment=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3)                        # the layers' scales of 1e-4 hide the transformer
    x = torch.randn(1, 1, 9000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(x)
        names = sparsify(copy.deepcopy(model), 0.9, cross=cross)
        dense, hashed = copy.deepcopy(model), copy.deepcopy(model)
        sparsify(dense, 0.0, cross=cross)
        sparsify(hashed, 0.8, cross=cross)
        assert len(names) == (6 if cross else 4)
        assert torch.allclose(dense(x), before, rtol=0, atol=float(1e-5 * before.abs().max()))
        assert not torch.allclose(hashed(x), before, rtol=0, atol=float(1e-4 * before.abs().max()))
        assert torch.equal(hashed(x), hashed(x))
