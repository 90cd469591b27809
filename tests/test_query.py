"""Chapter 20: questions, FiLM, the network that is asked, and the edges of all of them."""

import pytest
import torch

from course_lib.query import (
    WHERE,
    Asked,
    FiLM,
    QueryEncoder,
    QueryStep,
    QueryUnmix,
    ask,
    between,
    check_example,
    condition_of,
    draw_example,
    embed_example,
    mixture_and_target,
    modulate,
    penultimate,
    query_loss,
    tag_vector,
)
from course_lib.separating import SongSeparator
from course_lib.training import load_trained

KNOWN = ("drums", "bass", "piano")
RATE = 16_000


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def tagger():
    return load_trained("tagger_band").requires_grad_(False)


def network(where="behind", **options):
    torch.manual_seed(0)
    model = QueryUnmix(KNOWN, hidden_size=8, condition=6, embedding=64, nb_layers=1, n_fft=256, hop_length=128,
                       where=where, **options).eval()
    for name, parameter in model.named_parameters():
        if "to_film" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


# ------------------------------------------------------------------------------------------------------------- targets


def test_the_target_is_the_sum_of_what_is_asked():
    s = noise(2, 3, 100)
    asked = torch.tensor([[True, False, True], [False, False, False]])
    x, y = mixture_and_target(s, asked)
    assert torch.allclose(x, s.sum(1)) and torch.allclose(y[0], s[0, 0] + s[0, 2]) and not y[1].any()
    assert torch.allclose(mixture_and_target(s[0], torch.ones(3, dtype=torch.bool))[1], s[0].sum(0))


def test_a_source_that_is_not_asked_leaves_no_trace_even_if_it_is_broken():
    s = noise(2, 10)
    s[1] = float("nan")
    assert mixture_and_target(s, torch.tensor([True, False]))[1].isfinite().all()


@pytest.mark.parametrize("asked", [torch.tensor([1.0, 0.0]), torch.tensor([True]), torch.ones(2, 2, dtype=torch.bool)])
def test_targets_refuse(asked):
    with pytest.raises(ValueError, match=r"asked \(.*expected \(..., source, time\)"):
        mixture_and_target(noise(2, 10), asked)


# ---------------------------------------------------------------------------------------------------------------- tags


def test_tags():
    assert tag_vector("bass", KNOWN).tolist() == [0, 1, 0]
    assert tag_vector(["piano", "bass", "piano"], KNOWN).tolist() == [0, 1, 1]          # a question is a set


@pytest.mark.parametrize("tags, words", [("theremin", "'theremin'; expected one or more of drums, bass, piano"),
                                         (["bass", "Bass"], "'Bass'"), ([], "tags is empty")])
def test_unknown_tags_name_the_known_ones(tags, words):
    with pytest.raises(ValueError, match=words):
        tag_vector(tags, KNOWN)


# ------------------------------------------------------------------------------------------------------------ examples


def test_the_last_layer_makes_the_tags_of_it(tagger):
    x = 0.1 * noise(2, tagger.samples)
    e = penultimate(tagger, x)
    assert e.shape == (2, 64) and not e.requires_grad
    assert torch.allclose(tagger.dense(e).sigmoid(), tagger(x), atol=1e-5)
    assert not tagger.dense._forward_pre_hooks                                           # nothing is left behind
    with pytest.raises(ValueError, match="tagger is Identity; expected a network of chapter 13"):
        penultimate(torch.nn.Identity(), x)


def test_an_example_says_what_not_how_loud_or_how_long(tagger):
    x = 0.1 * noise(tagger.samples)
    e = embed_example(tagger, x)
    for other in (1e-3 * x, 100 * x, torch.cat([x, torch.zeros_like(x)]), torch.cat([x, x / 2])):
        assert torch.allclose(embed_example(tagger, other), e, rtol=1e-3, atol=1e-3)
    short = embed_example(tagger, x[:RATE // 2])                                         # half a second is enough
    assert short.shape == (64,) and short.isfinite().all()


@pytest.mark.parametrize("x, words", [
    (torch.zeros(RATE), "example is silent"), (1e-7 * noise(RATE), "example is silent"),
    (noise(RATE // 2 - 1), r"at least 0.5 s, 8000 samples"), (noise(1, RATE), r"expected \(time,\)"),
    (noise(0), "expected"), (torch.full((RATE,), float("nan")), "NaN or infinity"),
])
def test_what_can_not_be_an_example(tagger, x, words):
    with pytest.raises(ValueError, match=words):
        check_example(x, RATE)
    with pytest.raises(ValueError, match=words):
        embed_example(tagger, x)


def test_examples_come_from_other_songs():
    tags, songs = ["piano", "bass", "piano", "piano", "bass"], [0, 0, 1, 2, 1]
    g = torch.Generator().manual_seed(0)
    drawn = [draw_example(tags, songs, "piano", 0, g) for _ in range(300)]
    assert set(drawn) == {2, 3} and 100 < drawn.count(2) < 200
    assert {draw_example(tags, songs, "piano", "none of them", g) for _ in range(100)} == {0, 2, 3}
    again = torch.Generator().manual_seed(0)
    assert drawn == [draw_example(tags, songs, "piano", 0, again) for _ in range(300)]
    with pytest.raises(ValueError, match="no song but 1 has an example of 'bass'"):
        draw_example(tags[:2] + ["bass"], [1, 1, 1], "bass", 1, g)
    with pytest.raises(ValueError, match="2 tags and 1 songs"):
        draw_example(["a", "b"], [0], "a", 0, g)


# ---------------------------------------------------------------------------------------------------------------- FiLM


@pytest.mark.parametrize("shape", [(2, 3), (2, 5, 3), (2, 4, 5, 3)])
def test_film_by_hand(shape):
    x, gamma, beta = noise(*shape), noise(2, 3, seed=1), noise(2, 3, seed=2)
    y = modulate(x, gamma, beta)
    for b in range(2):
        for k in range(3):
            assert torch.allclose(y[b, ..., k], gamma[b, k] * x[b, ..., k] + beta[b, k])


def test_film_refuses_what_would_broadcast_wrongly():
    for gamma, beta in ((noise(3, 2), noise(3, 2)), (noise(1, 3), noise(1, 3)), (noise(2, 3), noise(3))):
        with pytest.raises(ValueError, match=r"gamma \(.*expected \(batch, ..., channel\)"):
            modulate(noise(2, 5, 3), gamma, beta)


@pytest.mark.parametrize("scale", [True, False])
def test_a_new_film_changes_nothing_and_learns(scale):
    film, x, c = FiLM(4, 3, scale), noise(2, 5, 3), noise(2, 4, seed=1)
    assert torch.equal(film(x, c), x)
    film(x, c).square().sum().backward()
    assert film.to_film.weight.grad.abs().sum() > 0
    assert sum(p.numel() for p in film.parameters()) == (6 if scale else 3) * 5


def test_offsets_alone_are_concatenation():
    joint, film = torch.nn.Linear(3 + 4, 6), FiLM(4, 6, scale=False)
    with torch.no_grad():
        film.to_film.weight.copy_(joint.weight[:, 3:])
        film.to_film.bias.copy_(joint.bias)
    x, c = noise(2, 5, 3), noise(2, 4, seed=1)
    appended = joint(torch.cat([x, c[:, None].expand(-1, 5, -1)], -1))
    assert torch.allclose(film(x @ joint.weight[:, :3].T, c), appended, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- network


def test_both_kinds_of_question_have_one_space():
    encoder = QueryEncoder(KNOWN, 64, 6)
    one, two = (encoder.of_tags(tag_vector(tag, KNOWN)) for tag in ("bass", "piano"))
    assert torch.allclose(encoder.of_tags(tag_vector(["piano", "bass"], KNOWN)), one + two, atol=1e-6)
    assert encoder.of_example(noise(2, 5, 64)).shape == (2, 5, 6)
    encoder.mean.fill_(1.0)
    encoder.deviation.fill_(2.0)
    e = noise(64)
    assert torch.allclose(encoder.of_example(e), encoder.from_example((e - 1) / 2))


@pytest.mark.parametrize("where", sorted(WHERE))
def test_every_question_is_answered_by_itself(where):
    model, x, c = network(where), noise(2, 1, 2000), noise(2, 3, 6, seed=1)
    with torch.no_grad():
        together = model(x, c)
        assert together.shape == (2, 3, 1, 2000) and set(model.films) == set(WHERE[where])
        for b in range(2):
            for q in range(3):
                alone = model(x[b:b + 1], c[b:b + 1, q:q + 1])[0, 0]
                assert torch.allclose(together[b, q], alone, atol=1e-5)
        assert not torch.allclose(together[:, 0], together[:, 1], atol=1e-4)             # and it is heard


def test_level_goes_through_and_silence_stays():
    model, x, c = network(), noise(1, 1, 2000), noise(1, 2, 6, seed=1)
    with torch.no_grad():
        y = model(x, c)
        for gain in (1e-5, 1e5):
            assert torch.allclose(model(gain * x, c) / gain, y, atol=1e-3)
        assert not model(0 * x, c).any()


@pytest.mark.parametrize("x, c, words", [
    (noise(1, 2, 2000), noise(1, 1, 6), "mono"), (noise(1, 1, 255), noise(1, 1, 6), "at least 256 samples"),
    (noise(1, 1, 2000), noise(1, 6), r"c has shape \(1, 6\)"), (noise(2, 1, 2000), noise(1, 1, 6), "2 mixtures"),
    (noise(1, 1, 2000), noise(1, 1, 5), "conditions of 6 numbers"),
])
def test_the_network_refuses(x, c, words):
    with pytest.raises(ValueError, match=words):
        network()(x, c)


def test_an_unknown_place():
    with pytest.raises(ValueError, match="where is 'middle'; expected one of every, behind"):
        network("middle")


# ---------------------------------------------------------------------------------------------------------------- loss


def test_the_loss_is_a_level_that_survives_silence():
    x, y = noise(2, 500), noise(2, 500, seed=1)
    expected = sum(10 * torch.log10((0.5 * y[b]).square().sum() / x[b].square().sum() + 0.03) for b in range(2)) / 2
    assert torch.allclose(query_loss(0.5 * y, y, x), expected, atol=1e-4)
    silent = torch.zeros_like(x)
    for estimate, target, mixture in ((silent, silent, x), (silent, silent, silent), (x, x, x)):
        assert float(query_loss(estimate, target, mixture)) == pytest.approx(-15.229, abs=1e-3)
    assert float(query_loss(x, silent, x, 1e-3)) == pytest.approx(0.004, abs=1e-3)
    estimate = (1e-3 * x).requires_grad_()
    query_loss(estimate, silent, x).backward()
    assert estimate.grad.isfinite().all() and estimate.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="expected the same"):
        query_loss(x, y[:1], x)


def batch_of(model, kinds):
    tags = torch.stack([tag_vector("bass", KNOWN), tag_vector("piano", KNOWN)])[None]
    examples, weights = noise(1, 2, 2, 64), torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    return noise(1, 2000), noise(1, 2, 2000, seed=3), tags, examples, weights, torch.tensor([[0.0, 1.0]])


@pytest.mark.parametrize("kinds", ["both", "tags", "examples"])
def test_a_step_asks_as_the_batch_says(kinds):
    model = network()
    x, y, tags, examples, weights, by_example = batch = batch_of(model, kinds)
    by_tag = model.query.of_tags(tags)
    heard = (model.query.of_example(examples) * weights[..., None]).sum(2)
    c = {"both": torch.stack([by_tag[:, 0], heard[:, 1]], 1), "tags": by_tag, "examples": heard}[kinds]
    answers = model(x[None], c)[0, :, 0]
    expected = query_loss(answers, y[0], x.expand(2, -1))
    assert torch.allclose(QueryStep(kinds=kinds)(model, batch), expected, atol=1e-4)
    with pytest.raises(ValueError, match="kinds is 'words'"):
        QueryStep(kinds="words")


# -------------------------------------------------------------------------------------------------------------- asking


def test_conditions_add_up(tagger):
    model, x = network(), 0.1 * noise(RATE)
    tag, example = condition_of(model, "bass"), condition_of(model, example=x, tagger=tagger)
    assert torch.allclose(example, condition_of(model, example=embed_example(tagger, x)))
    assert torch.allclose(condition_of(model, "bass", x, tagger), tag + example, atol=1e-6)
    assert torch.equal(condition_of(model, ["bass", "bass"]), tag) and not tag.requires_grad
    with pytest.raises(ValueError, match="neither tags nor an example"):
        condition_of(model)
    with pytest.raises(ValueError, match="or audio and a tagger"):
        condition_of(model, example=x)


@pytest.mark.parametrize("samples", [1, 255, 2000, 20_000])
def test_any_length_and_number_of_channels(samples):
    model, x = network(), noise(2, samples)
    c = condition_of(model, "bass")
    y = ask(model, x, c)
    assert y.shape == x.shape and torch.allclose(y[:1], ask(model, x[:1], c), atol=1e-6)
    assert torch.allclose(ask(model, x[None], c)[0], y, atol=1e-6) and not ask(model, 0 * x, c).any()


def test_a_question_is_a_separator():
    model, x = network(), noise(1, 5000)
    c = condition_of(model, "bass")
    separator = SongSeparator(Asked(model, c, "bass"), standardise=False)
    assert separator.stems == ("bass",) and torch.allclose(separator(x, RATE)[0], ask(model, x, c), atol=1e-6)
    with pytest.raises(ValueError, match="NaN"):
        ask(model, torch.full((1, 5000), float("nan")), c)


def test_between():
    a, b = noise(6), noise(6, seed=1)
    assert torch.equal(between(a, b, 0), a) and torch.equal(between(a, b, 1), b)
    assert torch.allclose(between(a, b, 0.25), between(b, a, 0.75), atol=1e-6)
    for share, other in ((1.5, b), (float("nan"), b), (0.5, b[:3])):
        with pytest.raises(ValueError, match="expected equal shapes and a share from 0 to 1"):
            between(a, other, share)
