"""Chapter 12's module: equality with transformers' Jukebox on weights drawn anew, the parts by hand, errors, edges."""

import re

import pytest
import torch
from torch import nn
from transformers.models.deprecated.jukebox.configuration_jukebox import JukeboxPriorConfig
from transformers.models.deprecated.jukebox.modeling_jukebox import JukeboxPrior
from transformers.models.deprecated.jukebox.modeling_jukebox import filter_logits as their_filter
from transformers.models.deprecated.jukebox.modeling_jukebox import get_relevant_lyric_tokens as their_lyrics
from transformers.models.deprecated.jukebox.modeling_jukebox import get_starts as their_starts

from course_lib.priors import (
    COLUMN,
    DENSE,
    ENCODER,
    LYRICS,
    PREVIOUS,
    PUBLISHED,
    ROW,
    Cache,
    ConditionalAutoregressive2D,
    Conditioner,
    Conv1D,
    FactoredAttention,
    LabelConditioner,
    RangeEmbedding,
    SimplePrior,
    Transformer,
    allowed_pairs,
    attn_funcs,
    filter_logits,
    get_relevant_lyric_tokens,
    get_starts,
    joint_loss,
    lyric_attention,
    newest_slice,
    prior_loss,
    published_prior,
    quick_gelu,
    restore_decoder,
    sample,
    sample_levels,
    sample_prior,
    window_above,
    window_labels,
)

LABELS = dict(y_bins=(6, 5), t_bins=8, sr=100, min_duration=1.0, max_duration=50.0, max_bow_genre_size=3)
NARROW = dict(width=32, heads=2, blocks=6)
ENCODED = dict(n_tokens=8, bins=7, prime_loss_fraction=0.4, width=24, depth=3, heads=2, attn_order=2, blocks=4)


def tiny(**changes) -> SimplePrior:
    """A small prior with weights drawn so large that nothing is hidden."""
    sizes = dict(n_ctx=24, l_bins=11, level=2, prior_kwargs=NARROW | dict(depth=4, attn_order=2), y_cond_kwargs=LABELS)
    return drawn(SimplePrior(**sizes | changes))


def drawn(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in eval mode with all weights, scales and biases drawn anew."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            values = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.3 * values if re.search(r"ln[_.\d]*\.weight|ln\.weight|layer_norm", name) else 0.3 * values)
    return model.eval()


CASES = {
    "top": {},
    "row and column, dropped in": dict(prior_kwargs=NARROW | dict(depth=3, attn_order=1)),
    "res_scale": dict(prior_kwargs=NARROW | dict(depth=3, attn_order=2, res_scale=True)),
    "merged": dict(merged_decoder=True),
    "two networks": dict(prior_kwargs=NARROW | dict(depth=10, attn_order=8), prime_kwargs=ENCODED,
                         merged_decoder=True),
    "one network": dict(prior_kwargs=dict(width=32, heads=2, blocks=4, depth=16, attn_order=12), single_enc_dec=True,
                        prime_kwargs=dict(n_tokens=8, bins=7, prime_loss_fraction=0.4)),
    "upsampler": dict(level=1, x_cond_kwargs=dict(width=20, depth=5, dilation_growth_rate=3, dilation_cycle=3,
                                                  res_scale=True)),
}


def theirs(ours: SimplePrior, case: dict) -> JukeboxPrior:
    """transformers' prior of the same sizes and weights."""
    kwargs = dict(NARROW | dict(depth=4, attn_order=2)) | case.get("prior_kwargs", {})
    prime, cond = case.get("prime_kwargs", {}), case.get("x_cond_kwargs", {})
    funcs = {ROW: "block_attn", COLUMN: "transpose_block_attn", PREVIOUS: "prev_block_attn", DENSE: "dense_attn",
             ENCODER: "cross_attention", LYRICS: "prime_attn"}
    import transformers.models.deprecated.jukebox.modeling_jukebox as theirs_module

    theirs_module.ATTENTION_PATTERNS["ours"] = lambda d: funcs[attn_funcs(kwargs["attn_order"], d + 1)[d]]
    theirs_module.ATTENTION_PATTERNS["turns"] = lambda d: funcs[attn_funcs(2, d + 1)[d]]
    encoder = None
    if "width" in prime:
        encoder = dict(hidden_size=prime["width"], num_layers=prime["depth"], n_heads=prime["heads"],
                       blocks=prime["blocks"], attention_pattern="turns", mask=True, n_ctx=prime["n_tokens"],
                       music_vocab_size=prime["bins"], nb_relevant_lyric_tokens=0, merged_decoder=False)
    config = JukeboxPriorConfig(
        n_ctx=24, hidden_size=32, num_layers=kwargs["depth"], n_heads=2, blocks=kwargs["blocks"], mask=True,
        attention_pattern="ours", attn_res_scale=kwargs.get("res_scale", False), music_vocab_size=11,
        lyric_vocab_size=prime.get("bins", 7), nb_relevant_lyric_tokens=prime.get("n_tokens", 0),
        is_encoder_decoder=case.get("single_enc_dec", False), encoder_config=encoder,
        merged_decoder=case.get("merged_decoder", False), metadata_dims=[6, 5], max_nb_genres=3, timing_dims=8,
        min_duration=1.0, max_duration=50.0, sampling_rate=100, res_conv_width=cond.get("width", 8),
        res_conv_depth=cond.get("depth", 1), res_dilation_growth_rate=cond.get("dilation_growth_rate", 1),
        res_dilation_cycle=cond.get("dilation_cycle"), conv_res_scale=cond.get("res_scale"), encoder_loss_fraction=0.4)
    model = JukeboxPrior(config, level=0 if ours.level == 2 else 1).eval()
    missing = model.load_state_dict(their_names(ours.state_dict()), strict=True)
    assert not missing.missing_keys
    return model


def their_names(state: dict) -> dict:
    """Tensor names of openai/jukebox as transformers calls them."""
    def block(match) -> str:
        return f"conditioner_blocks.upsampler.upsample_block.{2 * (int(match[1]) - 1)}.resnet_block.{match[2]}."

    names = {}
    for name, value in state.items():
        new = name.replace("prime_state_proj", "encoder.proj_in").replace("prime_state_ln", "encoder.final_layer_norm")
        new = new.replace("prime_x_out", "encoder.lm_head").replace("prime_prior", "encoder")
        new = new.replace("conditioner_blocks.0.ln", "conditioner_blocks.layer_norm")
        new = re.sub(r"conditioner_blocks\.0\.cond\.model\.(\d+)\.0\.blocks\.(\d+)\.model\.", block, new)
        new = re.sub(r"conditioner_blocks\.0\.cond\.model\.(\d+)\.1\.",
                     lambda m: f"conditioner_blocks.upsampler.upsample_block.{2 * int(m[1]) - 1}.", new)
        new = new.replace("conditioner_blocks.0.cond.model.0.", "conditioner_blocks.upsampler.proj_in.")
        new = new.replace("conditioner_blocks.0.x_emb", "conditioner_blocks.embed_tokens")
        new = re.sub(r"(resnet_block\.\d+\.)1\.", r"\1conv1d_1.", new)
        new = re.sub(r"(resnet_block\.\d+\.)3\.", r"\1conv1d_2.", new)
        new = re.sub(r"y_emb\.(bow_genre|artist)_emb\.emb\.", r"metadata_embedding.\1_emb.", new)
        new = new.replace("y_emb.", "metadata_embedding.").replace("x_emb", "embed_tokens")
        new = new.replace("x_out", "fc_proj_out").replace(".ln_", ".layer_norm_")
        names[re.sub(r"\.b$", ".bias", re.sub(r"\.w$", ".weight", new))] = value
    return names


def batch(ours: SimplePrior, seed: int = 1):
    """Codes, codes above, labels."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randint(ours.l_bins, (2, 24), generator=generator)
    above = [torch.randint(ours.l_bins, (2, 6), generator=generator)] if ours.x_cond else []
    y = torch.tensor([[4000, 300, 384, 2, 1, 5, -1], [4900, 1200, 384, 4, 0, -1, -1]])
    y[:, 2] = ours.sample_length // 10
    y = torch.cat([y, torch.randint(7, (2, ours.n_tokens), generator=generator)], 1)
    rows = 1 if hasattr(ours, "prime_prior") else 2        # theirs takes a batch of one with an encoder
    return z[:rows], above, y[:rows]


def their_costs(reference: JukeboxPrior, z, above, y) -> dict:
    """What transformers' prior gives, by the names of `prior_loss`."""
    if reference.nb_relevant_lyric_tokens:
        loss, metrics = reference.forward_tokens(z.clone(), list(above), y.clone(), get_preds=True)
        return {"loss": loss, "gen_loss": metrics["next_token_prediction_loss"],
                "prime_loss": metrics["encoder_loss"], "preds": metrics["preds"]}
    audio, start, _ = reference.get_cond(list(above), y)       # its forward_tokens fails without an encoder
    loss, preds = reference.prior(z, audio, start, None, get_preds=True)
    return {"loss": loss, "gen_loss": loss, "preds": preds}


def activations(blocks, run) -> list[torch.Tensor]:
    """What each block gave while `run` ran."""
    seen = []
    hooks = [block.register_forward_hook(lambda m, given, out: seen.append(out)) for block in blocks]
    run()
    for hook in hooks:
        hook.remove()
    return seen


def close(ours: torch.Tensor, reference: torch.Tensor) -> None:
    """Equal to 1e-5 of the reference's largest value."""
    assert ours.shape == reference.shape
    assert float((ours - reference).detach().abs().max() / reference.detach().abs().max()) < 1e-5


@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "_"))
def test_priors_equal_transformers(case):
    """Logits, losses, activations of every block and gradients."""
    ours = tiny(**CASES[case])
    reference = theirs(ours, CASES[case])
    z, above, y = batch(ours)
    found, expected = {}, {}
    one = activations(ours.prior.transformer._attn_mods, lambda: found.update(prior_loss(ours, z, above, y)))
    two = activations(reference.prior.transformer._attn_mods,
                      lambda: expected.update(their_costs(reference, z, above, y)))
    assert len(one) == len(two) == CASES[case].get("prior_kwargs", {"depth": 4})["depth"]
    for a, b in zip(one, two):
        close(a, b)
    close(found["preds"], expected["preds"][:, ours.n_tokens if ours.single_enc_dec else 0:])
    for name in ("gen_loss", "loss", *(["prime_loss"] if ours.n_tokens else [])):
        close(found[name], expected[name])
    found["loss"].backward()
    expected["loss"].backward()
    for name, p in ours.named_parameters():
        other = dict(reference.named_parameters(remove_duplicate=False))[next(iter(their_names({name: p})))]
        assert (p.grad is None) == (other.grad is None), name
        if p.grad is not None:
            assert float((p.grad - other.grad).abs().max()) < 1e-4 * max(float(other.grad.abs().max()), 1e-2), name


@pytest.mark.parametrize(("case", "layer"), [("two networks", 9), ("one network", 15)])
def test_attention_to_lyrics_equals_transformers(case, layer):
    ours = tiny(**CASES[case])
    reference = theirs(ours, CASES[case])
    z, _, y = batch(ours)
    reference.prior.transformer._attn_mods[layer].attn.record_attn = True
    with torch.no_grad():
        reference.forward_tokens(z.clone(), [], y.clone())
    close(lyric_attention(ours, layer, z, y), reference.prior.transformer._attn_mods[layer].attn.attention_prob)
    with pytest.raises(ValueError, match="layer 0 is of kind 1; expected one that sees letters, 6 or 7"):
        lyric_attention(ours, 0, z, y)


@pytest.mark.parametrize("case", ["top", "two networks", "one network", "upsampler"])
def test_sampled_codes_equal_transformers_where_the_likeliest_is_taken(case):
    """top_k 1 leaves nothing to chance, so both must draw the same, from nothing and from a beginning."""
    ours = tiny(**CASES[case])
    reference = theirs(ours, CASES[case])
    z, above, y = batch(ours)
    for given in (None, z[:, :5]):
        given = None if given is None else given[:len(y)]
        found = sample_prior(ours, len(y), given, above, y, top_k=1)
        if ours.single_enc_dec:                    # theirs draws letters, too, and then calls them code 0
            continue
        expected = reference.sample(len(y), given, above or None, y, top_k=1)
        assert torch.equal(found, expected)


def test_published_priors_have_the_published_sizes():
    counts = {name: sum(p.numel() for p in published_prior(name).parameters()) for name in PUBLISHED}
    assert counts == {"5b": 5_060_452_800, "5b_lyrics": 5_640_506_800, "1b_lyrics": 942_643_200,
                      "upsampler_level_1": 981_298_176, "upsampler_level_0": 981_298_176}
    with pytest.raises(ValueError, match="name is '6b'; expected one of 5b, 5b_lyrics"):
        published_prior("6b")


@pytest.mark.parametrize("kind", [DENSE, ROW, COLUMN, PREVIOUS, LYRICS])
@pytest.mark.parametrize("time", [24, 22, 5, 1])
def test_attention_equals_dense_attention_under_its_mask(kind, time):
    """Also where the last row is not full, and one code at a time from a cache."""
    layer = drawn(FactoredAttention(12, 24, 8, 2, kind, blocks=6, prime_len=4))
    x = torch.randn(2, time, 12, generator=torch.Generator().manual_seed(time))
    q, k, v = (y.unflatten(-1, (2, 4)).transpose(1, 2) for y in layer.c_attn(x).chunk(3, -1))
    allowed = allowed_pairs(kind, time, 4, layer.lyrics)
    weights = (q @ k.mT / 2).masked_fill(~allowed, -torch.inf).softmax(-1).nan_to_num(0.0)
    expected = layer.c_proj((weights @ v).transpose(1, 2).flatten(2))
    close(layer(x), expected)
    for given in {1, min(3, time), time}:
        cache = Cache()
        parts = [layer(x[:, :given], cache=cache)] + [layer(x[:, t:t + 1], cache=cache) for t in range(given, time)]
        close(torch.cat(parts, 1), expected)
    for t in range(time):
        seen = torch.arange(time)[newest_slice(kind, t, 4, layer.lyrics)]
        assert seen.tolist() == allowed[t].nonzero()[:, 0].tolist()


def test_the_first_block_of_the_previous_row_hears_zeros():
    layer = drawn(FactoredAttention(12, 24, 8, 2, PREVIOUS, blocks=6))
    x = torch.randn(1, 24, 12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(layer(x)[:, :4], layer.c_proj.b.expand(1, 4, -1))
    assert (layer(x)[:, 4:] - layer.c_proj.b).abs().max() > 0.1


def test_attention_refuses():
    with pytest.raises(ValueError, match="n_state is 9 with n_head 2"):
        FactoredAttention(12, 24, 9, 2)
    with pytest.raises(ValueError, match="n_ctx 24 with blocks 5"):
        FactoredAttention(12, 24, 8, 2, ROW, 5)
    with pytest.raises(ValueError, match="kind is 5; expected one of 0, 1, 2, 3, 7"):
        allowed_pairs(5, 4, 2)
    with pytest.raises(ValueError, match="attn_order is 3; expected one of 0, 1, 2, 8, 10 or 12"):
        attn_funcs(3, 2)
    layer, cache = FactoredAttention(12, 24, 8, 2, ROW, 6), Cache()
    layer(torch.zeros(1, 3, 12), cache=cache)
    with pytest.raises(ValueError, match="2 codes follow others in a cache; expected one at a time"):
        layer(torch.zeros(1, 2, 12), cache=cache)


def test_no_guess_sees_its_own_code():
    model = drawn(ConditionalAutoregressive2D(24, 11, 16, 6, 2, attn_order=2, blocks=6))
    z = torch.randint(11, (1, 24), generator=torch.Generator().manual_seed(0))
    before = model.logits(z)
    for t in (0, 3, 4, 17, 23):
        other = z.clone()
        other[0, t] = (z[0, t] + 1) % 11
        change = (model.logits(other) - before).abs().amax((0, 2))
        assert change[:t + 1].max() == 0 and (t == 23 or change[t + 1] > 0)
    with pytest.raises(ValueError, match="x has 25 codes; expected at most 24, each from 0 to 10"):
        model(torch.zeros(1, 25, dtype=torch.long))
    with pytest.raises(ValueError, match="each from 0 to 10"):
        model(torch.full((1, 3), 11))


@pytest.mark.parametrize("case", ["top", "two networks", "one network", "upsampler"])
def test_cached_sampling_equals_uncached_and_is_repeatable(case):
    ours = tiny(**CASES[case])
    z, above, y = batch(ours)
    draws = [sample_prior(ours, len(y), given, above, y, temp=20.0, cached=cached,
                          generator=torch.Generator().manual_seed(seed))
             for given in (None, z[:, :7]) for seed, cached in ((0, True), (0, False), (0, True), (1, True))]
    for four in (draws[:4], draws[4:]):
        assert torch.equal(four[0], four[1]) and torch.equal(four[0], four[2]) and not torch.equal(four[0], four[3])
        assert four[0].shape == (len(y), 24) and four[0].min() >= 0 and four[0].max() < 11
    assert torch.equal(draws[4][:, :7], z[:, :7])


def test_with_a_cache_every_place_goes_through_the_network_once():
    """512 codes: 512 places instead of 512 * 513 / 2."""
    model = ConditionalAutoregressive2D(512, 5, 8, 1, 1, attn_order=2, blocks=16).eval()
    places = {}
    for cached in (True, False):
        seen = []
        hook = model.transformer.register_forward_pre_hook(lambda m, given: seen.append(given[0].shape[1]))
        sample(model, cached=cached, generator=torch.Generator().manual_seed(0))
        hook.remove()
        places[cached] = sum(seen)
    assert places == {True: 512, False: 512 * 513 // 2}


def test_sampling_follows_the_guesses():
    """4000 draws of two codes: frequencies are the probabilities within five deviations."""
    torch.manual_seed(0)
    model = drawn(ConditionalAutoregressive2D(2, 4, 8, 1, 1))
    z = sample(model, 4000, generator=torch.Generator().manual_seed(0))
    first = model.logits(torch.zeros(1, 2, dtype=torch.long))[0, 0].softmax(-1)
    counts = torch.bincount(z[:, 0], minlength=4) / 4000
    assert ((counts - first).abs() < 5 * (first * (1 - first) / 4000).sqrt() + 1e-6).all()
    likeliest = int(first.argmax())
    row = torch.tensor([[likeliest, 0]])
    second = model.logits(row)[0, 1].softmax(-1)
    after = z[z[:, 0] == likeliest, 1]
    share = torch.bincount(after, minlength=4) / len(after)
    assert ((share - second).abs() < 5 * (second * (1 - second) / len(after)).sqrt() + 1e-6).all()


def test_sampling_refuses():
    model = ConditionalAutoregressive2D(8, 4, 8, 1, 1)
    with pytest.raises(ValueError, match="training mode"):
        sample(model)
    with pytest.raises(ValueError, match="temp is 0; expected a number above 0"):
        sample(model.eval(), temp=0)
    with pytest.raises(ValueError, match=r"x has shape \(1, 9\) and sample_tokens is 8"):
        sample(model, 1, torch.zeros(1, 9, dtype=torch.long))
    with pytest.raises(ValueError, match="sample_tokens is 9"):
        sample(model, sample_tokens=9)
    assert sample(model, 2, torch.ones(2, 3, dtype=torch.long), sample_tokens=3).tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize("knobs", [dict(top_k=3), dict(top_p=0.6), dict(top_k=5, top_p=0.8), dict(top_p=1e-6), {},
                                   dict(top_k=99)])
def test_filtered_logits_equal_transformers(knobs):
    logits = torch.randn(7, 3, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(filter_logits(logits, **knobs), their_filter(logits, **knobs))
    assert torch.isfinite(filter_logits(logits, **knobs)).any(-1).all()
    with pytest.raises(ValueError, match="top_k is -1"):
        filter_logits(logits, -1)


@pytest.mark.parametrize(("total", "n_ctx", "hop"), [(24, 8, 4), (25, 8, 4), (8, 8, 4), (31, 8, 8), (9, 8, 1)])
def test_windows_begin_as_in_transformers(total, n_ctx, hop):
    starts = get_starts(total, n_ctx, hop)
    assert starts == sorted(set(their_starts(total, n_ctx, hop))) and starts[-1] == total - n_ctx
    with pytest.raises(ValueError, match="expected 1 <= hop_length <= n_ctx <= total_length"):
        get_starts(total, n_ctx, n_ctx + 1)


@pytest.mark.parametrize("count", [3, 8, 20, 101])
def test_lyrics_of_a_window_equal_transformers(count):
    text = list(range(1, count + 1))
    for offset in (0, 40, 90):
        tokens, indices = get_relevant_lyric_tokens(text, 8, 100, offset, 10)
        theirs_tokens, theirs_indices = their_lyrics(torch.tensor([text]), 8, 100, offset, 10)
        assert tokens == theirs_tokens[0].tolist() and indices == theirs_indices
        even = [(n + 1) / count * 100 - 1e-3 for n in range(count)]     # the n-th is over at this time
        assert get_relevant_lyric_tokens(text, 8, 100, offset, 10, even) == (tokens, indices)
    late = get_relevant_lyric_tokens(text, 8, 100, 0, 10, [99.0] * count)[1]
    assert late[0] in (0, -1)
    with pytest.raises(ValueError, match=f"times has 1 values; expected {count}"):
        get_relevant_lyric_tokens(text, 8, 100, 0, 10, [1.0])


def test_times_are_cut_into_bins():
    emb = RangeEmbedding(4, 10, (0.0, 100.0), 3)
    assert emb.positions(torch.tensor([[0.0], [50.0]]), torch.tensor([[40.0], [100.0]])).tolist() == [
        [0, 1, 2, 3], [5, 6, 7, 8]]
    for start, end in ((-1.0, 5.0), (100.0, 100.0), (50.0, 101.0)):
        with pytest.raises(ValueError, match=r"expected them in \[0, 100\)"):
            emb(torch.tensor([[start]]), torch.tensor([[end]]))
    labels = LabelConditioner(**LABELS, n_time=8, out_width=4)
    with pytest.raises(ValueError, match=r"y has shape \(1, 6\); expected \(batch, 7\): total length, offset, length"):
        labels(torch.zeros(1, 6, dtype=torch.long))


def test_small_parts_by_hand():
    layer = Conv1D(3, 2)
    x = torch.randn(4, 3)
    assert torch.allclose(layer(x), x @ layer.w + layer.b) and Conv1D(3, 2, zero_out=True).w.abs().max() == 0
    assert torch.allclose(quick_gelu(x), x / (1 + torch.exp(-1.702 * x)), atol=1e-6)
    assert float(joint_loss(torch.tensor(3.0), torch.tensor(5.0), 2, 6, 0.5)) == (0.5 * 2 * 3 + 6 * 5) / 8
    shape = Conditioner(5, 3, 2, 6, 1.0, width=4, depth=2)(torch.zeros(2, 7, dtype=torch.long)).shape
    assert shape == (2, 56, 6)
    assert attn_funcs(10, 79).count(ENCODER) == 7 and attn_funcs(12, 72)[15::16] == [LYRICS, LYRICS, DENSE, LYRICS]


def test_a_restored_decoder_is_the_decoder():
    torch.manual_seed(0)
    plain = tiny(prior_kwargs=NARROW | dict(depth=9, attn_order=2))
    singing = SimplePrior(n_ctx=24, l_bins=11, prior_kwargs=NARROW | dict(depth=10, attn_order=8),
                          y_cond_kwargs=LABELS, prime_kwargs=ENCODED).eval()
    z, _, y = batch(singing)
    z, y = z.repeat(2, 1), y.repeat(2, 1)
    with torch.no_grad():
        expected = prior_loss(plain, z, y=y[:, :7])["preds"]
        assert torch.equal(prior_loss(restore_decoder(singing, plain), z, y=y)["preds"], expected)
    with pytest.raises(ValueError, match="the decoder has 4 layers and the prior 9 beside those that ask letters"):
        restore_decoder(singing, tiny())


def test_all_levels_are_drawn_window_by_window():
    priors = {2: tiny(), 1: tiny(**CASES["upsampler"])}
    labels = {"y": torch.tensor([[4000, 0, 0, 2, 1, -1, -1]])}
    for prior in priors.values():
        prior.y_emb.include_time_signal = prior.y_emb.include_time_signal
    given = [torch.zeros(1, 0, dtype=torch.long)] * 2 + [torch.randint(11, (1, 5))]
    length = 128 * 30                                               # 30 codes above, 120 beneath, context 24
    draw = lambda seed: sample_levels(priors, given, length, labels, generator=torch.Generator().manual_seed(seed))
    zs, again = draw(0), draw(0)
    assert [z.shape[1] for z in zs] == [0, 120, 30] and torch.equal(zs[2][:, :5], given[2])
    assert all(torch.equal(a, b) for a, b in zip(zs, again)) and not torch.equal(zs[1], draw(1)[1])
    assert window_above(priors[1], zs, 96)[0].tolist() == zs[2][:, 24:30].tolist()
    assert window_above(priors[1], zs, 108)[0].tolist() == [zs[2][0, 27:].tolist() + [0, 0, 0]]
    with pytest.raises(ValueError, match="begins at code 2; expected a multiple of 4"):
        window_above(priors[1], zs, 2)
    with pytest.raises(ValueError, match="sample_length is 130; expected a multiple of 128, the hop of level 2"):
        sample_levels(priors, given, 130, labels)
    short = sample_levels({2: priors[2]}, [z[:, :0] for z in given], 128 * 7, labels)
    assert short[2].shape == (1, 7)


def test_labels_move_with_the_window():
    prior = tiny(**CASES["two networks"])
    labels = {"y": torch.tensor([[4000, 100, 0, 2, 1, -1, -1]]), "letters": [list(range(1, 6)) * 8]}
    first, later = window_labels(prior, labels, 0), window_labels(prior, labels, 4)
    assert first[0, :3].tolist() == [4000, 100, prior.sample_length] and later[0, 1] == 100 + 4 * 128
    assert first.shape == (1, 7 + 8) and labels["y"][0, 1] == 100
    assert window_labels(prior, None, 0) is None


def test_new_layers_begin_small_and_encoder_layers_at_zero():
    torch.manual_seed(0)
    stack = Transformer(64, 24, 2, 10, attn_order=8, blocks=6, init_scale=0.5)
    deviation = float(stack._attn_mods[0].mlp.c_fc.w.std())
    assert abs(deviation / 0.01 - 1) < 0.1
    crossing = stack._attn_mods[9]
    assert crossing.attn.c_proj.w.abs().max() == crossing.mlp.c_proj.w.abs().max() == 0
    x, kv = torch.randn(1, 24, 64), torch.randn(1, 5, 64)
    assert torch.equal(crossing(x, kv), x)
