# %% [markdown]
# # Chapter 19 · Separating with a prior
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/NAME/blob/main/chapters/19_prior_separation.ipynb)
#
# Everyone who knows what drums sound like, and what a bass sounds like, can tell them apart in a mixture, without ever having been *trained* to separate. That knowledge is a **prior**: a model of single
# sources, which has never heard a mixture. Bayes' rule turns priors into a separator. You build two: one that draws the codes of chapter 11 pair by pair, so that they could have made the mixture's codes, and one that
# lets all sources of a song come out of noise together, under the condition that they add up. The second one also plays along with a given drum track, or makes up a song from nothing, with the same weights.
#
# **You will be able to**
# - write down Bayes' rule for a mixture, and solve it exactly where that is possible: few codes, or Gaussians,
# - count which codes go together, and use the counts as a likelihood, also where nothing was counted,
# - draw pairs of codes that fit a mixture, and say what such a drawing gets wrong,
# - train a denoiser, follow it down from noise to sources, and check each step against an exact one,
# - derive Dirac and Gaussian guidance, and measure what they do to a posterior that you know,
# - say what a prior costs in seconds and in decibels beside networks that were trained to separate.
#
# **You need** chapter 12 (priors over codes, sampling), chapter 11 (the codec) and chapter 1 (masks); chapter 14b for what MixIT is.
#
# **Time** <!-- minutes 19_prior_separation -->0.5 minutes on 2 CPU cores, GPU not measured<!-- /minutes -->. Reading and exercises: about four hours.

# %% [markdown]
# ## 19.0 Set up
#
# The first lines install the course where it is missing, on Colab; on your own machine they do nothing.

# %%
#| default_exp prior_separation
import importlib.util, sys
if "google.colab" in sys.modules and importlib.util.find_spec("course_lib") is None:
    get_ipython().run_line_magic("pip", 'install -q "git+https://github.com/OWNER/NAME@main"')
from course_lib.notebook import setup
P = setup("19_prior_separation", cpu=dict(steps=30, draws=16, codes=344), threads=1)

# %% [markdown]
# What we write becomes the module `course_lib/prior_separation.py`.

# %%
#| export
import math
from collections.abc import Callable, Sequence
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from course_lib.audio import check_audio
from course_lib.metrics import sdr
from course_lib.priors import ConditionalAutoregressive2D, attend, filter_logits
from course_lib.spectral import apply_mask, ideal_ratio_mask, istft, stft

# %% [markdown]
# The rest serves the chapter only.

# %%
import matplotlib.pyplot as plt
import numpy as np
from course_lib.data import STEMS
from course_lib.data.resampling import resample
from course_lib.experiments import prior_separation as experiment
from course_lib.notebook import (Diagram, listen, mean_interval, plot_spectrogram, show,
                                 show_table)
from course_lib.notebook.claims import Claim, difference_in_words, same_trend, show_claims
from course_lib.results import measured
from course_lib.training import load_trained

# %% [markdown]
# ## 19.1 Bayes' rule of separation
#
# A mixture $m$ of two sources $x_1$ and $x_2$ is given. Which pairs could it be? All that add up to it, and there are very many. But most of them are nonsense: a "drum track" that holds half of the bass. A model of how
# likely a drum track is, $p(x_1)$, and one of bass tracks, $p(x_2)$, tell nonsense from music. Bayes' rule puts both together with the **likelihood** $p(m \mid x_1, x_2)$, how well a pair explains the mixture:
#
# $$ p(x_1, x_2 \mid m) = \frac{p(m \mid x_1, x_2)\; p(x_1)\; p(x_2)}{p(m)}. \tag{19.1} $$
#
# The denominator is the sum of the numerator over all pairs. Note what is *not* there: no pair of a mixture and its sources is needed to learn $p(x_1)$. It is the third answer of this course to "no training for separation": TagBox (chapter 14)
# steers a codec by a tagger, MixIT (14b) learns from mixtures of mixtures, and a prior learns from single sources.
#
# The smallest example: each source is one of four levels, 0 to 3, and the mixture is their sum. Source 1 is mostly low, source 2 mostly high:

# %%
prior_1, prior_2 = torch.tensor([0.5, 0.3, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.3, 0.4])
level = torch.arange(4)
adds_up = (level[:, None] + level == 3).float()                      # p(m = 3 | x1, x2)
print(adds_up)

# %% [markdown]
# Four pairs give a sum of 3. In code, (19.1) is three factors and a sum:

# %%
#| export
def pair_posterior(prior_1: Tensor, prior_2: Tensor, likelihood: Tensor) -> Tensor:
    """Bayes' rule for a pair (eq. 19.1): (k1, k2), which sums to 1.

    prior_1: (k1,), prior_2: (k2,), likelihood: (k1, k2), of the mixture that was heard; none
    negative, in any unit. ValueError for other shapes, and where no pair is possible.
    Source: section 19.1.
    """
    if prior_1.ndim != 1 or prior_2.ndim != 1 or likelihood.shape != (len(prior_1), len(prior_2)):
        raise ValueError(f"likelihood has shape {tuple(likelihood.shape)}, the priors "
                         f"{tuple(prior_1.shape)} and {tuple(prior_2.shape)}; expected (k1, k2), "
                         "(k1,) and (k2,)")
    joint = prior_1[:, None] * prior_2 * likelihood
    total = joint.sum()
    if not total > 0:
        raise ValueError("no pair has both a prior and a likelihood above 0; expected a mixture "
                         "that these sources can make: smooth the likelihood")
    return joint / total

# %% [markdown]
# The prior decides among the four:

# %%
posterior = pair_posterior(prior_1, prior_2, adds_up)
show_table([[f"{a} + {b}", float(prior_1[a] * prior_2[b]), float(posterior[a, b])]
            for a, b in zip(range(4), range(3, -1, -1))], ["pair", "prior", "posterior"], digits=3)
assert posterior.argmax() == 3 and abs(float(posterior.sum()) - 1) < 1e-6

# %% [markdown]
# With flat priors all four are equally likely: the mixture alone says nothing more than "add up to 3".

# %%
flat = pair_posterior(torch.ones(4), torch.ones(4), adds_up)
assert torch.allclose(flat[adds_up > 0], torch.tensor(0.25))

# %% [markdown]
# **A quick question.** Both priors are the same. What can a separator do?
#
# <details><summary>Answer</summary>
#
# The posterior is symmetric: $p(x_1 = a, x_2 = b \mid m) = p(x_1 = b, x_2 = a \mid m)$. It may find out *which two* sounds they are, not which is whose. And over time it may swap them, unless the prior knows how a source goes on.
# </details>

# %% [markdown]
# ## 19.2 Gaussians: a prior you know already
#
# For one other kind of prior (19.1) has a closed form. Let sources be independent Gaussians of mean 0 and variance $v_j$, and the mixture their sum, with a little noise of variance $s^2$ added. Then the posterior is Gaussian, too, with
#
# $$ \mathbb E[x_j \mid m] = \frac{v_j}{\sum_i v_i + s^2}\, m, \qquad \operatorname{Cov}[x_j, x_k \mid m] = \delta_{jk} v_j - \frac{v_j v_k}{\sum_i v_i + s^2}. \tag{19.2} $$
#
# The factor of $m$ is the **Wiener mask**: chapter 1's ratio mask with $p = 2$ (section 1.10), where $v_j$ is a point's power. So a Wiener mask *is* separation with a prior, one that knows of each source how loud it is at each point.

# %%
#| export
def gaussian_posterior(mixture: Tensor, variances: Tensor,
                       noise: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean (..., source) and covariance (..., source, source) of independent Gaussian sources of
    mean 0 whose sum is known (eq. 19.2).

    mixture: (...). variances: (..., source), >= 0. noise: variance of what is added to the sum.
    Where all variances are 0 the mean is 0. ValueError for negative ones and shapes that don't
    fit. Source: section 19.2.
    """
    if variances.ndim < 1 or variances.shape[:-1] != mixture.shape:
        raise ValueError(f"mixture has shape {tuple(mixture.shape)}, variances "
                         f"{tuple(variances.shape)}; expected (...) and (..., source)")
    if noise < 0 or bool((variances < 0).any()):
        raise ValueError(f"noise is {noise}, the least variance {float(variances.min())}; expected "
                         "none below 0")
    total = variances.sum(-1, keepdim=True) + noise
    gain = torch.where(total > 0, variances / total.clamp_min(1e-30), 0.0)
    covariance = torch.diag_embed(variances) - gain[..., None] * variances[..., None, :]
    return gain * mixture[..., None], covariance

# %% [markdown]
# Two checks. Drawn pairs whose sum happens to be near 1.2 must have this mean and spread:

# %%
g = torch.Generator().manual_seed(0)
variances = torch.tensor([1.0, 0.25])
pairs = torch.randn(400_000, 2, generator=g) * variances.sqrt()
near = pairs[(pairs.sum(1) - 1.2).abs() < 0.05]
mean, covariance = gaussian_posterior(torch.tensor(1.2), variances)
print(f"closed form: means {mean[0]:.2f} and {mean[1]:.2f}, "
      f"deviation {covariance[0, 0].sqrt():.2f}")
assert (near.mean(0) - mean).abs().max() < 0.03
assert (near.std(0) - covariance.diagonal().sqrt()).abs().max() < 0.02

# %% [markdown]
# And the mask of chapter 1 is that mean:

# %%
S = torch.randn(2, 1, 5, 3, dtype=torch.complex64, generator=g)      # (source, channel, bin, frame)
wiener = gaussian_posterior(torch.ones(1, 5, 3), S.abs().square().movedim(0, -1))[0]
assert torch.allclose(wiener.movedim(-1, 0), ideal_ratio_mask(S, 2.0), atol=1e-5)

# %% [markdown]
# Remember the covariance. The best single answer is the mean; but a **posterior** says more, how far off one may be. Two posterior samples differ by about $\sqrt 2$ deviations, and both are right. Section 19.10 looks at a method that claims to sample
# from the posterior, and measures whether it does.

# %% [markdown]
# ## 19.3 Pairs of codes
#
# Music isn't Gaussian, and one can't list all waveforms. But with chapter 11's codec a second of sound is a row of whole numbers, and one *can* list all codes: 512. The course's codec has three levels; we take the slowest, with a code every 128 samples. Drums, bass and their sum, from
# the middle of a test song:

# %%
codec = load_trained("jukebox_band")
rate = codec.facts.rate
song = experiment.a_song(2)
stems = song.sources(("drums", "bass"))[:, 0, 8 * rate:8 * rate + 128 * P.codes]
true = torch.stack([stems[0], stems[1], stems.sum(0)])                # drums, bass, mixture
codes = experiment.encoded(codec, true, 2)                            # (signal, code)
print(codes[:, :8])
assert codes.shape == (3, P.codes)

# %% [markdown]
# The codec isn't linear: the mixture's code is not a function of the parts' codes that one could write down. And it costs something to pass through it. That is a **bound**: whatever draws codes at this level can't sound better than the true stems' codes:

# %%
with torch.no_grad():
    coded = codec.decode(codes, 2)[:, 0]                              # (signal, time)
for name, signal in zip(("drums", "bass", "their sum"), coded):
    listen(signal, rate, f"{name} through 172 codes a second")
bound_here = sdr(coded, true)
print("SDR of the coded signals:", [f"{value:.0f} dB" for value in bound_here.tolist()])
assert (bound_here > 1).all()

# %% [markdown]
# All test songs, at this level and at the faster ones:

# %%
bounds = measured("19_prior_separation/codec")
show_table([[f"hop {hop}", *(mean_interval([float(row[name]) for row in bounds
                                            if row["hop"] == str(hop)])
                             for name in ("drums", "bass", "sum"))] for hop in (8, 32, 128)],
           ["codes", "drums", "bass", "their sum"], digits=1,
           caption="SDR in dB of true signals through the codec at 22,050 Hz, 20 test songs.")

# %% [markdown]
# The codec has learnt from whole songs, but single stems pass it no worse than their sum does. Why take the slowest level at all? Because a prior has to guess every code, and to remember: three seconds are 512 codes here, and 8192 at hop 8.

# %% [markdown]
# ## 19.4 A likelihood that is counted
#
# What is $p(k_m \mid k_1, k_2)$, the probability of the mixture's code given those of the parts? We don't know, so we count. Take many songs, encode drums, bass and their sum, and note at each time the **triple** $(k_1, k_2, k_m)$. With $n$ for the counts,
#
# $$ p(k_m \mid k_1, k_2) \approx \frac{n[k_1, k_2, k_m]}{\sum_k n[k_1, k_2, k]}. \tag{19.3} $$
#
# No network is trained for that; the paper, *Latent Autoregressive Source Separation* (LASS), calls it a likelihood learnt "by counting". The table would have $512^3$ entries, 134 million, but nearly all are zero: we keep the triples that were seen, each
# as one number.

# %%
#| export
class SumTable:
    """How often a pair of codes was seen with a code of its sum: counts n[k1, k2, km], sparse.

    bins: codes of the codebook. keys: sorted whole numbers (km * bins + k1) * bins + k2, each
    once; counts: above 0. Make one with `count_sums`. Source: Postolache et al. 2023, section 4;
    section 19.4.
    """

    def __init__(self, bins: int, keys: Tensor, counts: Tensor):
        if keys.ndim != 1 or keys.shape != counts.shape or not len(keys):
            raise ValueError(f"keys has shape {tuple(keys.shape)}, counts {tuple(counts.shape)}; "
                             "expected one shape (triple,), at least one triple")
        self.bins, self.keys, self.counts = bins, keys.long(), counts.long()
        square = bins * bins
        self.starts = torch.searchsorted(self.keys, torch.arange(bins + 1) * square)
        pairs = torch.zeros(square, dtype=torch.long)
        self.pairs = pairs.index_add_(0, self.keys % square, self.counts).view(bins, bins)
        self.sums = torch.zeros(bins, dtype=torch.long).index_add_(
            0, self.keys // square, self.counts)

    def of(self, code: int) -> Tensor:
        """Counts of all pairs whose sum had this code: (k1, k2)."""
        if not 0 <= code < self.bins:
            raise ValueError(f"code is {code}; expected 0 to {self.bins - 1}")
        place = slice(int(self.starts[code]), int(self.starts[code + 1]))
        found = torch.zeros(self.bins ** 2, dtype=torch.long)
        found[self.keys[place] % self.bins ** 2] = self.counts[place]
        return found.view(self.bins, self.bins)

# %% [markdown]
# Filling it takes one call of `torch.unique`:

# %%
#| export
def count_sums(first: Tensor, second: Tensor, mixed: Tensor, bins: int) -> SumTable:
    """Count which codes go together: first, second, mixed, whole numbers of one shape, the codes of
    two parts and of their sum at the same times.

    ValueError for other shapes, and for codes that are not from 0 to bins - 1.
    Source: Postolache et al. 2023, section 4; section 19.4.
    """
    codes = (first, second, mixed)
    if len({x.shape for x in codes}) > 1 or not first.numel() or any(
            x.is_floating_point() for x in codes):
        raise ValueError(f"codes have shapes {[tuple(x.shape) for x in codes]} and kinds "
                         f"{[x.dtype for x in codes]}; expected whole numbers of one shape")
    low, high = min(int(x.min()) for x in codes), max(int(x.max()) for x in codes)
    if low < 0 or high >= bins:
        raise ValueError(f"codes go from {low} to {high}; expected 0 to {bins - 1}")
    k1, k2, km = (x.flatten().long() for x in codes)
    return SumTable(bins, *torch.unique((km * bins + k1) * bins + k2, return_counts=True))

# %% [markdown]
# Four observations of an alphabet of three:

# %%
tiny = count_sums(torch.tensor([0, 0, 0, 1]), torch.tensor([2, 2, 2, 0]),
                  torch.tensor([1, 1, 0, 1]), bins=3)
print("pairs whose sum had code 1:\n", tiny.of(1))
assert tiny.of(1)[0, 2] == 2 and tiny.pairs[0, 2] == 3 and int(tiny.counts.sum()) == 4

# %% [markdown]
# Most pairs were never seen, and for them (19.3) is $0 / 0$. A pair that was seen once would be sure of its sum. Both are mended by **smoothing**: pretend that every pair had been seen $\alpha$ more times, with the sum's codes as frequent as over all, $q(k_m)$:
#
# $$ p(k_m \mid k_1, k_2) = \frac{n[k_1, k_2, k_m] + \alpha\, q(k_m)}{\sum_k n[k_1, k_2, k] + \alpha}. \tag{19.4} $$

# %%
#| export
def log_likelihood(table: SumTable, code: int, smoothing: float = 1.0) -> Tensor:
    """ln p(km | k1, k2) of one code of the mixture for all pairs, smoothed (eq. 19.4): (k1, k2).

    smoothing: how many observations the frequencies of the sums' codes are worth, above 0, else
    ValueError: a pair that was never seen gives these frequencies, so it says nothing. All are
    finite. Source: section 19.4.
    """
    if not smoothing > 0:
        raise ValueError(f"smoothing is {smoothing}; expected a number above 0, or pairs that were "
                         "never seen have no likelihood")
    share = (table.sums[code] + 1) / (table.sums.sum() + table.bins)
    return ((table.of(code) + smoothing * share) / (table.pairs + smoothing)).log()

# %% [markdown]
# It is a distribution over the mixture's codes, for pairs that were seen and for those that weren't; the latter say nothing but $q$:

# %%
all_codes = torch.stack([log_likelihood(tiny, k).exp() for k in range(3)])     # (km, k1, k2)
print("p(km | 0, 2):", [round(float(x), 2) for x in all_codes[:, 0, 2]],
      "  p(km | 2, 2), never seen:", [round(float(x), 2) for x in all_codes[:, 2, 2]])
assert torch.allclose(all_codes.sum(0), torch.ones(3, 3))

# %% [markdown]
# The course's own table comes from 210 songs of the band; it is kept with the priors of 19.6:

# %%
parts_model = load_trained("lass_band")
table = parts_model.table
seen = table.pairs[codes[0], codes[1]] > 0
print(f"{len(table.keys):,} different triples, {int(table.counts.sum()):,} in all; "
      f"{float((table.pairs > 0).float().mean()):.0%} of all pairs were seen")
print(f"of the pairs in the test song {float(seen.float().mean()):.0%} were")
assert len(table.keys) < 512 ** 3 / 100 and seen.any()

# %% [markdown]
# ## 19.5 One pair after the other
#
# A prior over codes is autoregressive (12.1): it says how likely the next code is after those before. So go through time, and at each step draw a *pair* from the product of both priors and the likelihood:
#
# $$ p(k_{1,t}, k_{2,t} \mid \dots) \propto p_1(k_{1,t} \mid k_{1,<t})\; p_2(k_{2,t} \mid k_{2,<t})\; p(k_{m,t} \mid k_{1,t}, k_{2,t}). \tag{19.5} $$
#
# That is a matrix of $512 \times 512$ numbers. In logarithms the product is a sum, and broadcasting makes the matrix:

# %%
#| export
def joint_logits(logits_1: Tensor, logits_2: Tensor, likelihood: Tensor) -> Tensor:
    """Logarithms of prior times prior times likelihood of all pairs (eq. 19.5): (batch, k1, k2).

    logits_1: (batch, k1), logits_2: (batch, k2), before the softmax. likelihood: (k1, k2), in
    logarithms. The sum over pairs of their exponentials is p(km | all before).
    ValueError for other shapes. Source: Postolache et al. 2023, section 3; section 19.5.
    """
    fits = logits_1.ndim == logits_2.ndim == 2 and len(logits_1) == len(logits_2)
    if not fits or likelihood.shape != (logits_1.shape[1], logits_2.shape[1]):
        raise ValueError(f"logits have shapes {tuple(logits_1.shape)} and {tuple(logits_2.shape)}, "
                         f"likelihood {tuple(likelihood.shape)}; expected (batch, k1), (batch, k2) "
                         "and (k1, k2)")
    p1, p2 = logits_1.log_softmax(-1), logits_2.log_softmax(-1)
    return p1[:, :, None] + p2[:, None, :] + likelihood

# %% [markdown]
# Drawing is what chapter 12 did, for pairs: flatten, draw, and take the number apart. A temperature below 1 sharpens, `top_k` forbids unlikely pairs.

# %%
#| export
def sample_pairs(joint: Tensor, temperature: float = 1.0, top_k: int = 0,
                 generator: torch.Generator | None = None) -> Tensor:
    """Draw a pair for each of a batch: joint (batch, k1, k2), logarithms, to codes (batch, 2).

    temperature: above 0; small ones draw the likeliest pair. top_k: of the pairs keep the k
    likeliest, and those that tie with the last (0: all). ValueError outside these ranges.
    Source: section 19.5.
    """
    if joint.ndim != 3 or not temperature > 0:
        raise ValueError(f"joint has shape {tuple(joint.shape)}, temperature is {temperature}; "
                         "expected (batch, k1, k2), and a number above 0")
    p = filter_logits(joint.flatten(1) / temperature, top_k).softmax(-1)
    drawn = torch.multinomial(p, 1, generator=generator)[:, 0]
    return torch.stack([drawn // joint.shape[2], drawn % joint.shape[2]], 1)

# %% [markdown]
# For *one* step it is exact. On the small alphabet, how often pairs are drawn against (19.1):

# %%
p1, p2 = torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([[0.2, 0.3, 0.5]])
joint = joint_logits(p1.log(), p2.log(), log_likelihood(tiny, 1))
drawn = sample_pairs(joint.expand(20_000, -1, -1), generator=g)
found = torch.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9).view(3, 3) / len(drawn)
exact = pair_posterior(p1[0], p2[0], log_likelihood(tiny, 1).exp())
print(f"largest difference between frequency and posterior: {(found - exact).abs().max():.2f}")
assert (found - exact).abs().max() < 0.02

# %% [markdown]
# A matrix of 262,144 numbers for every code and every draw takes its time. Without `top_k` we can do without: the probability of $k_1$ is $p_1(k_1) \sum_{k_2} p(k_m \mid k_1, k_2)\, p_2(k_2)$, a matrix times a vector; draw $k_1$ from it, then $k_2$ from its row. The same distribution, by a matrix product and two short draws:

# %%
#| export
def sample_factored(logits_1: Tensor, logits_2: Tensor, likelihood: Tensor,
                    temperature: float = 1.0, generator: torch.Generator | None = None
                    ) -> tuple[Tensor, Tensor]:
    """`joint_logits`, then `sample_pairs` without top_k, without ever forming (batch, k1, k2).

    Returns pairs (batch, 2), and ln p(km | all before) (batch,), eq. 19.6, whatever the
    temperature. First k1 is drawn from its marginal, a matrix product, then k2 given k1.
    ValueError for a temperature that isn't above 0. Source: section 19.5.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; expected a number above 0")
    p1, p2 = logits_1.log_softmax(-1), logits_2.log_softmax(-1)
    weight = likelihood.exp()                                            # (k1, k2)
    evidence = ((p1.exp() @ weight) * p2.exp()).sum(-1).clamp_min(1e-37).log()
    sharp = (likelihood / temperature).exp() if temperature != 1 else weight
    q1, q2 = (p1 / temperature).softmax(-1), (p2 / temperature).softmax(-1)
    k1 = torch.multinomial(q1 * (q2 @ sharp.T), 1, generator=generator)[:, 0]
    k2 = torch.multinomial(sharp[k1] * q2, 1, generator=generator)[:, 0]
    return torch.stack([k1, k2], 1), evidence

# %% [markdown]
# Equal frequencies, and the same evidence:

# %%
drawn, evidence = sample_factored(p1.log().expand(20_000, -1), p2.log().expand(20_000, -1),
                                  log_likelihood(tiny, 1), generator=g)
found = torch.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9).view(3, 3) / len(drawn)
assert (found - exact).abs().max() < 0.02
assert torch.allclose(evidence, joint.flatten(1).logsumexp(1).expand(20_000), atol=1e-5)

# %% [markdown]
# **A quick question.** Why not draw $k_1$ from its prior alone, and then $k_2$ given $k_1$ and the mixture?
#
# <details><summary>Answer</summary>
#
# $k_1$ would be drawn as if nothing had been heard, and $k_2$ would have to make up for it, however unlikely that is. The marginal above has the mixture in it: it sums over all $k_2$ that could explain it together with $k_1$.
# </details>
#
# And the loop over time. Beside the codes it sums $\ln p(k_{m,t} \mid \text{all before})$, the logarithm of the sum over all pairs, which every step has at hand; we need it in a moment.

# %%
#| export
@torch.no_grad()
def separate_codes(priors: Sequence[Callable], table: SumTable, mixed: Tensor, draws: int = 1,
                   temperature: float = 1.0, top_k: int = 0, smoothing: float = 1.0,
                   resampled: bool = False, generator: torch.Generator | None = None
                   ) -> tuple[Tensor, Tensor]:
    """Draw the codes of two parts, one pair after the other, given those of their sum.

    priors: two functions, the codes so far (draw, t) to the logits of the next (draw, bins).
    mixed: (time,), the mixture's codes. temperature, top_k: see `sample_pairs`; smoothing: see
    `log_likelihood`. resampled: let draws that the mixture speaks against be replaced by copies of
    others (`resampling`); priors with a memory then need a method reorder. Returns codes (draw, 2,
    time), and the logarithm of each draw's weight, (draw,): the sum over time of (19.6), evened out
    at each resampling. ValueError for other shapes, and draws below 1.
    Source: Postolache et al. 2023, algorithm 1; section 19.5.
    """
    if mixed.ndim != 1 or not len(mixed) or draws < 1 or len(priors) != 2:
        raise ValueError(f"mixed has shape {tuple(mixed.shape)}, draws is {draws}, there are "
                         f"{len(priors)} priors; expected (time,), 1 or more, and two")
    codes = torch.zeros(draws, 2, 0, dtype=torch.long)
    evidence = torch.zeros(draws)
    known: dict[int, Tensor] = {}
    for code in mixed.tolist():
        if code not in known:
            known[code] = log_likelihood(table, code, smoothing)
        told = priors[0](codes[:, 0]), priors[1](codes[:, 1]), known[code]
        if top_k:
            joint = joint_logits(*told)
            told_by_all = joint.flatten(1).logsumexp(1)
            pair = sample_pairs(joint, temperature, top_k, generator)
        else:
            pair, told_by_all = sample_factored(*told, temperature, generator)
        evidence = evidence + told_by_all
        codes = torch.cat([codes, pair[:, :, None]], 2)
        if resampled:
            order, evidence = resampling(evidence, generator)
            codes = codes[order]
            for prior in priors:
                getattr(prior, "reorder", lambda order: None)(order)
    return codes, evidence

# %% [markdown]
# ### What the loop gets wrong
#
# The posterior of whole rows is $p(z_1, z_2 \mid z_m) \propto \prod_t$ of the right side of (19.5), *without* making each step's numbers sum to 1. The loop does, step by step: it leaves out, in every step, the factor
#
# $$ w_t = \sum_{k_1, k_2} p_1(k_1 \mid k_{1,<t})\, p_2(k_2 \mid k_{2,<t})\, p(k_{m,t} \mid k_1, k_2) = p(k_{m,t} \mid \text{all before}). \tag{19.6} $$
#
# A pair that fits now but leads to where nothing fits is drawn as often as if there were no future. Two steps over an alphabet of three show
# it, for here all 81 pairs of rows can be listed. Source 1 stays where it is, mostly; source 2 draws anew:

# %%
stay = torch.tensor([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]])
first, free = torch.tensor([0.4, 0.3, 0.3]), torch.tensor([0.2, 0.3, 0.5])
rule_1 = lambda z: (first.expand(len(z), -1) if z.shape[1] == 0 else stay[z[:, -1]]).log()
rule_2 = lambda z: free.expand(len(z), -1).log()
level = torch.arange(3)
sums = (level[:, None] + level).flatten().clamp_max(3)                # code of the sum: 0 to 3
sum_table = count_sums(level.repeat_interleave(3), level.repeat(3), sums, bins=4)
mixed = torch.tensor([2, 0])

# %% [markdown]
# Our `SumTable` has one alphabet for all, so the parts' rows get a fourth code that never comes. First all rows of codes, with their exact posterior:

# %%
pad = lambda rule: lambda z: F.pad(rule(z), (0, 1), value=-1e9)
rows = torch.cartesian_prod(*[level] * 4)                             # (row, k1 k1' k2 k2')
z1, z2 = rows[:, :2], rows[:, 2:]
log_p = sum(rule(z[:, :t])[torch.arange(81), z[:, t]] for rule, z in ((rule_1, z1), (rule_2, z2))
            for t in range(2))
log_p += sum(log_likelihood(sum_table, int(mixed[t]), 0.01)[z1[:, t], z2[:, t]] for t in range(2))
exact = log_p.softmax(0)                                              # (row,)

# %% [markdown]
# Then many draws, plain, and each weighted by $\prod_t w_t$. That is **importance weighting**: the weight is exactly what normalising took away.

# %%
drawn, evidence = separate_codes([pad(rule_1), pad(rule_2)], sum_table, mixed, draws=40_000,
                                 smoothing=0.01, generator=g)
number = (drawn.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1)      # which row it is
plain = torch.bincount(number, minlength=81) / len(number)
weighted = torch.bincount(number, evidence.softmax(0), minlength=81)
for name, found in (("plain", plain), ("weighted", weighted)):
    print(f"{name}: distance from the posterior {float((found - exact).abs().sum() / 2):.2f}")
assert (weighted - exact).abs().sum() / 2 < 0.05 < (plain - exact).abs().sum() / 2

# %% [markdown]
# The distance is half the sum of absolute differences: 0 for equal, 1 for disjoint distributions. Plain drawing, as in the paper, is off; with weights it is right up to chance.
#
# Over hundreds of steps nearly all weight would fall on one of the draws. The cure is as old as tracking by radar, and isn't in the paper: **resampling**. As soon as the weights count as fewer than half of the draws, draw the *draws* anew, by weight. Those that the mixture speaks against die out; good ones go on twice. The whole is called a particle filter.

# %%
#| export
def resampling(log_weights: Tensor, generator: torch.Generator | None = None
               ) -> tuple[Tensor, Tensor]:
    """Which draws go on, and their weights: indices (draw,) and logarithms (draw,).

    Where the weights w (draw,) count as fewer than half of the draws, (sum w)^2 / sum w^2, draws
    are drawn anew by weight, and all weights become their mean; else nothing changes.
    ValueError for another shape. Source: Gordon et al. 1993 (particle filters); section 19.5.
    """
    if log_weights.ndim != 1 or not len(log_weights):
        raise ValueError(f"log_weights has shape {tuple(log_weights.shape)}; expected (draw,)")
    share, count = log_weights.softmax(0), len(log_weights)
    if 1 / share.square().sum() >= count / 2:
        return torch.arange(count), log_weights
    order = torch.multinomial(share, count, replacement=True, generator=generator)
    return order, (log_weights.logsumexp(0) - math.log(count)).expand(count)

# %% [markdown]
# With `resampled=True` the loop does so after each step. The posterior comes out as before:

# %%
drawn, evidence = separate_codes([pad(rule_1), pad(rule_2)], sum_table, mixed, draws=40_000,
                                 smoothing=0.01, resampled=True, generator=g)
number = (drawn.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1)
filtered = torch.bincount(number, evidence.softmax(0), minlength=81)
assert (filtered - exact).abs().sum() / 2 < 0.05

# %% [markdown]
# Why that matters for music: think of drums that pause for a second, as they do in many songs. "Drums silent, and the bass is all there is" is a pair that was counted often, and a prior that has just heard silence expects silence. So a plain draw may fall silent and never come back, while the mixture's codes get ever more
# unlikely. Only the weight notices.
#
# The paper's own way is to draw several, and keep the one whose *decoded* parts $\hat x_1, \hat x_2$ add up to the mixture best,
#
# $$ \hat d = \arg\min_d \big\lVert m - \hat x_1^{(d)} - \hat x_2^{(d)} \big\rVert^2. \tag{19.7} $$

# %%
#| export
def best_draw(parts: Tensor, mixture: Tensor) -> tuple[int, Tensor]:
    """The draw whose parts add up to the mixture best, and all draws' SDR of the sum in dB.

    parts: (draw, part, time); mixture: (time,). A silent mixture's SDR is NaN: then the draw whose
    sum has least energy. ValueError for other shapes. Source: Postolache et al. 2023, section 4;
    section 19.5.
    """
    if parts.ndim != 3 or parts.shape[2:] != mixture.shape or 0 in parts.shape:
        raise ValueError(f"parts has shape {tuple(parts.shape)}, mixture {tuple(mixture.shape)}; "
                         "expected (draw, part, time) and (time,)")
    sums = parts.sum(1)
    error = (sums - mixture).square().sum(-1)
    return int(error.argmin()), sdr(sums, mixture.expand_as(sums))

# %% [markdown]
# One thing more is not in the paper. The decoded parts have passed the codec; the mixture has not. So use the parts only to say *where* each source is, as Wiener masks on the mixture (19.2):

# %%
#| export
def masked_parts(parts: Tensor, mixture: Tensor, n_fft: int = 1024) -> Tensor:
    """The mixture through Wiener masks made of rough parts (eqs. 1.9, 1.11): (part, time).

    parts: (part, time), decoded codes, say; mixture: (time,). The masks add up to 1 where any part
    sounds, so that the results add up to the mixture there. Source: this course; section 19.5.
    """
    if parts.ndim != 2 or parts.shape[1:] != mixture.shape or 0 in parts.shape:
        raise ValueError(f"parts has shape {tuple(parts.shape)}, mixture {tuple(mixture.shape)}; "
                         "expected (part, time) and (time,)")
    masks = ideal_ratio_mask(stft(parts[:, None], n_fft), 2.0)          # (part, 1, bin, frame)
    X = stft(mixture[None], n_fft)
    return istft(apply_mask(masks, X), n_fft, length=mixture.shape[-1])[:, 0]

# %% [markdown]
# A check with the true parts: their masks give back what adds up to the mixture.

# %%
again = masked_parts(true[:2], true[2])
gained = sdr(again, true[:2]) - sdr(true[2].expand(2, -1), true[:2])
print("SDR gained by masks of the true parts:", [f"{value:.0f} dB" for value in gained.tolist()])
assert (again.sum(0) - true[2]).abs().max() < 1e-3 and (gained > 3).all()

# %% [markdown]
# ## 19.6 Two priors that never met
#
# The priors are chapter 12's transformers, as small as they come: one for the codes of drums, one for bass. One checkpoint holds both; nothing of one reaches the other.

# %%
d = Diagram()
heard = d.block("codes of\nthe mixture", "(time,)", kind="data")
sums_of = d.block("counts\n$p(k_m | k_1, k_2)$", "(512, 512)", after=heard)
joint_block = d.block("product\n(19.5)", "(512, 512)", after=sums_of, gap=0.5)
drums_prior = d.block("prior of\ndrums", "(512,)", after=joint_block, place="above", kind="trained",
                      arrow=False, gap=0.4)
bass_prior = d.block("prior of\nbass", "(512,)", after=joint_block, place="below", kind="trained",
                     arrow=False, gap=0.4)
d.arrow(drums_prior, joint_block)
d.arrow(bass_prior, joint_block)
pair_block = d.block("draw a pair", "(2,)", after=joint_block, gap=0.5)
decoded_block = d.block("decode", "(2, time · 128)", after=pair_block, kind="frozen")
above_pair = d.block("drums so far", "(t,)", after=pair_block, place="above", kind="data",
                     gap=0.52)
below_pair = d.block("bass so far", "(t,)", after=pair_block, place="below", kind="data",
                     gap=0.52)
d.arrow(above_pair, drums_prior)
d.arrow(below_pair, bass_prior)
show(d.draw(), "Separation in the space of codes: at every time a pair is drawn, which both priors "
     "hear at the next time.", d.in_words())

# %% [markdown]
# As a module, with the counts beside the priors:

# %%
#| export
class PartPriors(nn.Module):
    """A prior over codes for each part, which never hear each other, and the counts of their sums.

    parts: their names. triples: of the counts, see `count_into`. The rest: of
    `ConditionalAutoregressive2D`, chapter 12's transformer over codes. forward: codes (batch, part,
    time) to the bits per code of every part, (part,). table: the counts as a `SumTable`.
    Source: Postolache et al. 2023, section 3; section 19.6.
    """

    def __init__(self, parts: Sequence[str] = ("drums", "bass"), triples: int = 1, **sizes):
        super().__init__()
        self.parts = tuple(parts)
        self.priors = nn.ModuleList(ConditionalAutoregressive2D(**sizes) for _ in self.parts)
        self.register_buffer("keys", torch.zeros(triples, dtype=torch.int32))
        self.register_buffer("counts", torch.ones(triples, dtype=torch.int32))

    @property
    def table(self) -> SumTable:
        return SumTable(self.priors[0].bins, self.keys, self.counts)

    def forward(self, codes: Tensor) -> Tensor:
        if codes.ndim != 3 or codes.shape[1] != len(self.parts):
            raise ValueError(f"codes has shape {tuple(codes.shape)}; expected (batch, "
                             f"{len(self.parts)}, time), a row for each of {self.parts}")
        return torch.stack([prior(codes[:, n]) for n, prior in enumerate(self.priors)])


def count_into(model: PartPriors, data) -> None:
    """Before a training: count triples of codes, data.codes (song, 3, time), of parts and sum.

    ValueError where there are more or fewer of them than the model has room for.
    """
    table = count_sums(*data.codes.unbind(1), model.priors[0].bins)
    if len(table.keys) != len(model.keys):
        raise ValueError(f"the songs hold {len(table.keys)} different triples, the model has room "
                         f"for {len(model.keys)}; write triples: {len(table.keys)}")
    model.keys.copy_(table.keys)
    model.counts.copy_(table.counts)


class PartPriorsStep:
    """A training step of `course train`: (model, codes (batch, part, time)) to mean bits."""

    def __call__(self, model: nn.Module, codes: Tensor) -> Tensor:
        return model(codes).mean()

# %% [markdown]
# To draw we ask for one code after the other. Chapter 12's caches keep what was computed (12.4); `separate_codes` only wants a function from codes to logits:

# %%
#| export
class Stepwise:
    """A transformer over codes as `separate_codes` asks: (draw, t) to logits (draw, bins).

    Keys and values of earlier calls are kept, so each call must bring one code more than the last;
    a call without codes begins anew. reorder(order): from now on, the draws are these of the old.
    ValueError for a model in training mode, and other calls. Source: section 12.6; section 19.6.
    """

    def __init__(self, prior: ConditionalAutoregressive2D):
        if prior.training:
            raise ValueError("the prior is in training mode; call eval() first")
        self.prior, self.caches, self.time = prior, prior.transformer.caches(), 0

    def __call__(self, codes: Tensor) -> Tensor:
        time = codes.shape[1]
        if time == 0:
            self.caches, self.time = self.prior.transformer.caches(), 0
        if time != self.time:
            raise ValueError(f"{time} codes came, expected {self.time}; one more each time")
        self.time += 1
        return self.prior.logits(F.pad(codes, (0, 1)), caches=self.caches, start=time,
                                 stop=time + 1)[:, -1]

    def reorder(self, order: Tensor) -> None:
        if torch.equal(order, torch.arange(len(order))):
            return
        for cache in self.caches:
            cache.keys, cache.values = cache.keys[order], cache.values[order]

# %% [markdown]
# It gives what the whole row would give at once:

# %%
torch.manual_seed(0)
small = ConditionalAutoregressive2D(8, 5, width=16, depth=1, heads=1).eval()
row = torch.tensor([[3, 1, 4, 0]])
with torch.no_grad():
    ask = Stepwise(small)
    one_by_one = torch.stack([ask(row[:, :t]) for t in range(4)], 1)
    assert torch.allclose(one_by_one, small.logits(row), atol=1e-5)

# %% [markdown]
# The committed priors were trained by `course train lass_band`, on the stems of 210 songs. How many bits a code takes, against 9 for guessing among 512:

# %%
with torch.no_grad():
    bits = parts_model(codes[None, :2])
print({name: f"{float(value):.1f} bits" for name, value in zip(parts_model.parts, bits)})
assert (bits < 9).all()

# %% [markdown]
# Now the song of 19.3: only the mixture's codes go in. Plain draws, of which the best sum is kept, and particles, of which the likeliest is.

# %%
priors = [Stepwise(prior) for prior in parts_model.priors]
found = {}
with torch.no_grad():
    for name, draws, resampled in (("plain", 4, False), ("particles", P.draws, True)):
        drawn, weights = separate_codes(priors, table, codes[2], draws, resampled=resampled,
                                        generator=g)
        found[name] = codec.decode(drawn.flatten(0, 1), 2)[:, 0].unflatten(0, (draws, 2))
best, fits = best_draw(found["plain"], true[2])
parts = {"plain": found["plain"][best], "particles": found["particles"][weights.argmax()]}
parts["as masks"] = masked_parts(parts["particles"], true[2])
assert parts["plain"].shape == (2, 128 * P.codes)

# %% [markdown]
# Listen, and look at the levels: a source that has collapsed to silence is found there at once.

# %%
decibels_of = lambda x: [f"{float(20 * one.square().mean().sqrt().clamp_min(1e-6).log10()):.0f}"
                         for one in x]
for name, signals in {"true": true[:2], **parts}.items():
    print(f"{name}: levels of drums and bass {decibels_of(signals)} dB")
    for part, signal in zip(("drums", "bass"), signals):
        listen(signal, rate, f"{part}, {name}")

# %% [markdown]
# What came of it on all test songs stands in 19.12. First the second kind of prior.

# %% [markdown]
# ## 19.7 A prior that is asked through noise
#
# Codes lose sound before separation begins. A **diffusion model** works on the waveform. It never says how likely a sound is; it answers one question only: *here is a sound with noise on it, of deviation $\sigma$; what was the clean one, on average?*
#
# $$ D(x; \sigma) = \mathbb E[\,x_0 \mid x_0 + \sigma n = x\,], \qquad n \sim \mathcal N(0, I). \tag{19.8} $$
#
# Such a **denoiser** knows the prior at every level of noise, for it gives the **score**, the direction in which noisy sounds get likelier (Tweedie's formula):
#
# $$ \nabla_x \ln p(x; \sigma) = \frac{D(x; \sigma) - x}{\sigma^2}. \tag{19.9} $$

# %%
#| export
def score(denoised: Tensor, x: Tensor, sigma: float) -> Tensor:
    """Gradient of ln p(x; sigma) from what a denoiser makes of x (eq. 19.9).

    denoised, x: one shape. sigma: above 0, else ValueError. Source: Karras et al. 2022, eq. 3;
    section 19.7.
    """
    if not sigma > 0 or denoised.shape != x.shape:
        raise ValueError(f"sigma is {sigma}, denoised has shape {tuple(denoised.shape)}, x "
                         f"{tuple(x.shape)}; expected a number above 0 and one shape")
    return (denoised - x) / sigma ** 2

# %% [markdown]
# Why: $p(x; \sigma) = \int p(x_0)\, \mathcal N(x; x_0, \sigma^2)\, dx_0$; under the integral the gradient brings the factor $(x_0 - x) / \sigma^2$, and dividing by $p(x; \sigma)$ makes of it a mean over the posterior of $x_0$.
#
# One case we can compute: numbers drawn from a mixture of Gaussians. Its denoiser is exact, and will be our judge for the rest of the chapter.

# %%
#| export
class GaussianMixtureDenoiser:
    """The exact denoiser of sources that are drawn from mixtures of Gaussians, each on its own.

    weights, means, deviations: (source, component) each. Called with x (batch, source, time) and
    sigma, a number >= 0: the expected clean sources of each sample. ValueError for other shapes.
    Source: section 19.7.
    """

    def __init__(self, weights: Tensor, means: Tensor, deviations: Tensor):
        if not weights.shape == means.shape == deviations.shape or weights.ndim != 2:
            raise ValueError(f"weights {tuple(weights.shape)}, means {tuple(means.shape)}, "
                             f"deviations {tuple(deviations.shape)}; expected (source, component)")
        self.weights, self.means, self.deviations = (
            y[None, :, :, None] for y in (weights, means, deviations))

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        y, v = x[:, :, None], self.deviations.square()                 # (batch, source, 1, time)
        total = v + sigma ** 2
        far = -(y - self.means).square() / (2 * total) - total.log() / 2
        share = (self.weights.log() + far).softmax(2)                  # which component it is
        return (share * (self.means + v / total * (y - self.means))).sum(2)

# %% [markdown]
# Two sources, with two bumps each: source 1 is near −1 or 1, source 2 near −0.4 or 0.4. Its score against the gradient that autograd gives:

# %%
bumps = (torch.full((2, 2), 0.5), torch.tensor([[-1.0, 1.0], [-0.4, 0.4]]),
         torch.full((2, 2), 0.15))
judge = GaussianMixtureDenoiser(*bumps)
x = torch.randn(6, 2, 1, generator=g).requires_grad_()
spread = (bumps[2] ** 2 + 0.3 ** 2).sqrt()
normal = torch.distributions.Normal(bumps[1], spread)
log_density = (normal.log_prob(x).exp() * bumps[0]).sum(-1).log().sum()
by_autograd, = torch.autograd.grad(log_density, x)
assert torch.allclose(by_autograd, score(judge(x, 0.3), x, 0.3), atol=1e-4)

# %% [markdown]
# ### From noise to sources
#
# Begin with noise so strong that any sound would drown in it, and take it away little by little. The path that keeps the right distribution at every level is
#
# $$ \frac{dx}{d\sigma} = -\sigma\, \nabla_x \ln p(x; \sigma) = \frac{x - D(x; \sigma)}{\sigma}. \tag{19.10} $$
#
# Euler's rule: a step of length $\sigma_{i+1} - \sigma_i$ along this slope. Each step costs one call of the network.

# %%
#| export
def euler_step(x: Tensor, slope: Tensor, sigma: float, next_sigma: float) -> Tensor:
    """One step down the noise along dx/dsigma (eq. 19.10). Source: section 19.7."""
    return x + (next_sigma - sigma) * slope

# %% [markdown]
# Which levels? Small ones matter more, for there the sound gets its details. Karras et al. space the $\rho$-th roots evenly:
#
# $$ \sigma_i = \Big( \sigma_{\max}^{1/\rho} + \tfrac{i}{N - 1} \big( \sigma_{\min}^{1/\rho} - \sigma_{\max}^{1/\rho} \big) \Big)^{\rho}, \qquad \sigma_N = 0. \tag{19.11} $$

# %%
#| export
def karras_sigmas(steps: int, sigma_min: float = 1e-3, sigma_max: float = 1.0,
                  rho: float = 7.0) -> Tensor:
    """Noise levels from sigma_max down to sigma_min, then 0 (eq. 19.11): (steps + 1,).

    steps: at least 2. rho: how much closer the small ones lie. ValueError outside 0 < sigma_min <
    sigma_max, rho > 0. Source: Karras et al. 2022, eq. 5; section 19.7.
    """
    if steps < 2 or not 0 < sigma_min < sigma_max or not rho > 0:
        raise ValueError(f"steps is {steps}, sigma_min {sigma_min}, sigma_max {sigma_max}, rho "
                         f"{rho}; expected at least 2, 0 < sigma_min < sigma_max and rho > 0")
    place = torch.linspace(0, 1, steps)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return F.pad((high + place * (low - high)) ** rho, (0, 1))

# %% [markdown]
# Six levels:

# %%
print([round(value, 3) for value in karras_sigmas(6, 0.001, 1.0).tolist()])
assert karras_sigmas(6)[0] == 1 and abs(karras_sigmas(6)[5] - 1e-3) < 1e-6

# %% [markdown]
# A path may also get a little *fresh* noise before each step, **churn**, and go down from a slightly higher level. Errors of earlier steps drown in it; and, as we'll see, it matters more than that.

# %%
#| export
def churned(x: Tensor, sigma: float, churn: float, steps: int,
            generator: torch.Generator | None = None) -> tuple[Tensor, float]:
    """x with a little more noise, and the level it then has (eq. 19.10).

    churn: over all steps; 0 adds nothing and draws nothing. A step's level grows by at most the
    square root of 2. ValueError for a negative churn. Source: Karras et al. 2022, algorithm 2;
    section 19.7.
    """
    if churn < 0:
        raise ValueError(f"churn is {churn}; expected 0 or more")
    if churn == 0:
        return x, sigma
    higher = sigma * (1 + min(churn / steps, 2 ** 0.5 - 1))
    fresh = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
    return x + (higher ** 2 - sigma ** 2) ** 0.5 * fresh, higher

# %% [markdown]
# All together. `heun` takes the slope at the end of each step as well and goes along the mean of both; `before` will be needed in 19.9.

# %%
#| export
def free_slope(denoiser: Callable) -> Callable:
    """dx/dsigma = (x - D(x; sigma)) / sigma, all sources free (eq. 19.10). Section 19.7."""
    return lambda x, sigma: -sigma * score(denoiser(x, sigma), x, sigma)


@torch.no_grad()
def sample_sources(slope: Callable, shape: Sequence[int], sigmas: Tensor, churn: float = 0.0,
                   heun: bool = False, before: Callable | None = None,
                   generator: torch.Generator | None = None) -> Tensor:
    """Follow the noise down: samples of a shape (batch, source, time).

    slope: (x, sigma) to dx/dsigma, for example `free_slope(denoiser)`. sigmas: falling, see
    `karras_sigmas`. churn: see `churned`. heun: average the slopes at both ends of each step but
    the last. before: (x, sigma) to x, called before every step and at the end, to put in what is
    known. ValueError for levels that don't fall. Source: Karras et al. 2022, algorithm 2; section
    19.7.
    """
    levels = sigmas.tolist()
    if len(levels) < 2 or any(a <= b for a, b in zip(levels, levels[1:])):
        raise ValueError("sigmas do not fall; expected levels such as those of karras_sigmas")
    x = levels[0] * torch.randn(tuple(shape), generator=generator)
    for sigma, lower in zip(levels, levels[1:]):
        x = x if before is None else before(x, sigma)
        x, sigma = churned(x, sigma, churn, len(levels) - 1, generator)
        here = slope(x, sigma)
        down = euler_step(x, here, sigma, lower)
        if heun and lower > 0:
            down = euler_step(x, (here + slope(down, lower)) / 2, sigma, lower)
        x = down
    return x if before is None else before(x, 0.0)

# %% [markdown]
# Four thousand draws must have the sources' own distribution: means 0, and deviations $\sqrt{\mu^2 + s^2}$.

# %%
levels = karras_sigmas(50, 1e-3, 5.0)
drawn = sample_sources(free_slope(judge), (4000, 2, 1), levels, generator=g)
wanted = (bumps[1].square().mean(1) + 0.15 ** 2).sqrt()
print("deviations:", [f"{value:.1f}" for value in drawn.std(0)[:, 0].tolist()])
assert (drawn.std(0)[:, 0] - wanted).abs().max() < 0.05 and drawn.mean(0).abs().max() < 0.08

# %% [markdown]
# ### Learning the denoiser
#
# A network can't be asked to give $D$ directly at all levels: its input would have deviations from 0.001 to 1, and at small $\sigma$ its output would be nearly its input. **Preconditioning** leaves to the network $F$ only what isn't known, at levels that don't change:
#
# $$ D(x; \sigma) = c_{\text{skip}}\, x + c_{\text{out}}\, F(c_{\text{in}}\, x; \sigma), \quad c_{\text{skip}} = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}, \quad c_{\text{out}} = \frac{\sigma \sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}, \quad c_{\text{in}} = \frac{1}{\sqrt{\sigma^2 + \sigma_d^2}}. \tag{19.12} $$

# %%
#| export
def preconditioning(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    """Factors of what passes a denoiser by, goes in and comes out (eq. 19.12): c_skip, c_in, c_out.

    sigma: the noise's deviation, any shape, above 0. sigma_data: the data's, above 0.
    ValueError for others. Source: Karras et al. 2022, table 1; section 19.7.
    """
    if not sigma_data > 0 or not bool((sigma > 0).all()):
        raise ValueError(f"sigma_data is {sigma_data} and the least sigma {float(sigma.min())}; "
                         "expected numbers above 0")
    total = sigma.square() + sigma_data ** 2
    return sigma_data ** 2 / total, total.rsqrt(), sigma * sigma_data * total.rsqrt()

# %% [markdown]
# $\sigma_d$ is the deviation of the data. $c_{\text{skip}}\, x$ alone is the Wiener mask of white noise (19.2): with $F = 0$ the denoiser knows the level of music, and nothing else.

# %%
sigma = torch.tensor([0.01, 0.1, 1.0])
skip, into, out = preconditioning(sigma, 0.1)
assert torch.allclose(skip, gaussian_posterior(torch.ones(3), torch.stack(
    [torch.full((3,), 0.01), sigma ** 2], 1))[0][:, 0])
assert torch.allclose(into ** 2 * (sigma ** 2 + 0.1 ** 2), torch.ones(3))

# %% [markdown]
# The loss: put noise on, ask for the clean sound, weigh the squared error by $1 / c_{\text{out}}^2$, so that all levels count alike:
#
# $$ L = \mathbb E_{x_0, \sigma, n} \Big[ \frac{1}{c_{\text{out}}(\sigma)^2} \big\lVert D(x_0 + \sigma n; \sigma) - x_0 \big\rVert^2 \Big], \qquad \ln \sigma \sim \mathcal N(-3, 1.2^2), \tag{19.13} $$
#
# the squared norm as a mean over samples and sources.

# %%
#| export
def denoising_loss(denoiser: Callable, sources: Tensor, sigma: Tensor, noise: Tensor,
                   sigma_data: float) -> Tensor:
    """Weighted squared error of sources that were hidden in noise (eq. 19.13): (batch,).

    denoiser: (x, sigma) to sources. sources: (batch, source, time). sigma: (batch,). noise: of
    deviation 1, shaped as the sources. sigma_data: the sources' deviation. A denoiser that knows
    nothing but `sigma_data` costs 1 at every sigma. ValueError for shapes that don't fit.
    Source: Karras et al. 2022, eq. 108; section 19.7.
    """
    if sources.ndim != 3 or noise.shape != sources.shape or sigma.shape != sources.shape[:1]:
        raise ValueError(f"sources has shape {tuple(sources.shape)}, noise {tuple(noise.shape)}, "
                         f"sigma {tuple(sigma.shape)}; expected (batch, source, time) twice, and "
                         "(batch,)")
    guess = denoiser(sources + sigma[:, None, None] * noise, sigma)
    weight = 1 / preconditioning(sigma, sigma_data)[2].square()         # 1 / c_out^2
    return weight * (guess - sources).square().mean((1, 2))

# %% [markdown]
# The denoiser that knows only the level costs 1 at every $\sigma$. That is our zero line: what falls below it is knowledge of music.

# %%
white = 0.1 * torch.randn(3, 4, 20_000, generator=g)
wiener_only = lambda x, sigma: preconditioning(sigma, 0.1)[0][:, None, None] * x
cost = denoising_loss(wiener_only, white, sigma, torch.randn(white.shape, generator=g), 0.1)
print([f"{value:.2f}" for value in cost.tolist()])
assert (cost - 1).abs().max() < 0.05

# %% [markdown]
# ## 19.8 A network for four sources at once
#
# Multi-source diffusion (MSDM) stacks *all* sources of a song as channels. So the prior isn't $p(x_1)\, p(x_2) \dots$ but the joint one, $p(x_1, \dots, x_N)$: the bass that goes with these drums. Ours is small: a U-Net on 3 seconds at 11,025 Hz.

# %%
d = Diagram()
node = d.block("noisy sources", "(4, 32768)", kind="data")
node = d.block("fold 8", "(32, 4096)", after=node)
first_level = d.block("block", "(64, 4096)", after=node, kind="trained")
second_level = d.block("÷ 4, block", "(128, 1024)", after=first_level, kind="trained")
third_level = d.block("÷ 4, block,\nattention, block", "(192, 256)", after=second_level,
                      kind="trained")
up_second = d.block("× 4, block", "(128, 1024)", after=third_level, kind="trained")
up_first = d.block("× 4, block", "(64, 4096)", after=up_second, kind="trained")
last = d.block("unfold", "(4, 32768)", after=up_first)
d.arrow(second_level, up_second, "add", route="over", reach=0.3)
d.arrow(first_level, up_first, "add", route="over", reach=0.6)
noise_level = d.block("noise level σ", "(128,)", after=third_level, place="below", kind="data",
                      arrow=False, gap=0.5)
d.arrow(noise_level, third_level, "to every block")
show(d.draw(), "The U-Net: sources are channels from the first layer to the last.", d.in_words())

# %% [markdown]
# The noise's level goes in as cosines and sines of its logarithm, like a position in chapter 8:

# %%
#| export
def noise_features(sigma: Tensor, channels: int) -> Tensor:
    """What a network hears of the noise's level: sigma (batch,) to cosines and sines (batch,
    channels) of ln(sigma) / 4 at frequencies from 1/2 to 32 turns.

    channels: even, else ValueError. Source: Karras et al. 2022, table 1 (c_noise); section 19.8.
    """
    if channels < 2 or channels % 2:
        raise ValueError(f"channels is {channels}; expected an even number of at least 2")
    turns = 2 ** torch.linspace(-1, 5, channels // 2, device=sigma.device)
    angle = 2 * math.pi * (sigma.log() / 4)[:, None] * turns
    return torch.cat([angle.cos(), angle.sin()], 1)

# %% [markdown]
# Each block is told that level; it scales and shifts what is between its two convolutions.

# %%
#| export
class NoiseBlock(nn.Module):
    """Two convolutions added to their input; the noise's level scales and shifts in between.

    channels: in and out, a multiple of 8. told: numbers that describe the noise. forward: x (batch,
    channels, frame), e (batch, told) to the same shape as x. The last convolution begins at zero.
    Source: after Karras et al. 2022, appendix F, and Schneider et al. 2023; section 19.8.
    """

    def __init__(self, channels: int, told: int):
        super().__init__()
        self.first_norm = nn.GroupNorm(8, channels)
        self.first = nn.Conv1d(channels, channels, 3, padding=1)
        self.film = nn.Linear(told, 2 * channels)
        self.second_norm = nn.GroupNorm(8, channels)
        self.second = nn.Conv1d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        y = self.first(F.silu(self.first_norm(x)))
        scale, shift = self.film(e)[..., None].chunk(2, 1)             # (batch, channel, 1) each
        y = self.second_norm(y) * (1 + scale) + shift
        return x + self.second(F.silu(y))

# %% [markdown]
# At first a block changes nothing, for its last convolution begins at zero (all but its bias):

# %%
torch.manual_seed(0)
block = NoiseBlock(16, 8)
nn.init.zeros_(block.second.bias)
assert torch.equal(block(torch.ones(1, 16, 5), torch.ones(1, 8)), torch.ones(1, 16, 5))

# %% [markdown]
# At the lowest level a frame stands for 12 ms, and 256 of them for 3 s. There every frame may look at all others:

# %%
#| export
class GlobalBlock(nn.Module):
    """Every frame looks at all others: attention, added to its input (eq. 8.1).

    channels: a multiple of 8 and of heads. (batch, channels, frame) to the same.
    Source: section 19.8.
    """

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(8, channels)
        self.qkv, self.out = (nn.Conv1d(channels, n * channels, 1) for n in (3, 1))
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).mT.chunk(3, -1)               # (batch, frame, channel)
        return x + self.out(attend(q, k, v, self.heads).mT)

# %% [markdown]
# Read `forward` from top to bottom; `encoder`, `down`, `up` and `decoder` hold a module for each level.

# %%
#| export
class SourceUNet(nn.Module):
    """A small U-Net over the stacked sources: (batch, source, time) to the same.

    sources: how many. patch: samples folded into channels at once. widths: channels of the levels,
    multiples of 8; factor: frames of a level for one of the next; told: numbers that describe the
    noise. forward: x, sigma (batch,). Any length: it is filled up with zeros to a multiple of
    `hop`. ValueError for other shapes. Source: after Mariani et al. 2024, section 4, and Schneider
    et al. 2023; section 19.8.
    """

    def __init__(self, sources: int = 4, patch: int = 8, widths: Sequence[int] = (64, 128, 192),
                 factor: int = 4, told: int = 128):
        super().__init__()
        self.sources, self.patch, self.told = sources, patch, told
        self.hop = patch * factor ** (len(widths) - 1)
        pairs = list(zip(widths, widths[1:]))
        self.describe = nn.Sequential(nn.Linear(told, told), nn.SiLU(), nn.Linear(told, told),
                                      nn.SiLU())
        self.first = nn.Conv1d(sources * patch, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(NoiseBlock(width, told) for width in widths)
        self.down = nn.ModuleList(nn.Conv1d(a, b, factor, factor) for a, b in pairs)
        self.look = GlobalBlock(widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose1d(b, a, factor, factor) for a, b in pairs)
        self.decoder = nn.ModuleList(NoiseBlock(width, told) for width in widths)
        self.last = nn.Conv1d(widths[0], sources * patch, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[1] != self.sources or 0 in x.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (batch, {self.sources}, "
                             "time), not empty")
        time, e = x.shape[-1], self.describe(noise_features(sigma, self.told))
        y = self.first(self.folded(F.pad(x, (0, -time % self.hop))))
        seen = []
        for level, block in enumerate(self.encoder):
            y = block(self.down[level - 1](y) if level else y, e)
            seen.append(y)
        y = self.decoder[-1](self.look(y), e)
        for level in reversed(range(len(self.up))):
            y = self.decoder[level](self.up[level](y) + seen[level], e)
        return self.unfolded(self.last(y))[..., :time]

    def folded(self, x: Tensor) -> Tensor:
        """(batch, source, time) to (batch, source * patch, frame)."""
        return x.unflatten(-1, (-1, self.patch)).mT.flatten(1, 2)

    def unfolded(self, y: Tensor) -> Tensor:
        """The way back of `folded`."""
        return y.unflatten(1, (self.sources, self.patch)).mT.flatten(2)

# %% [markdown]
# Folding is a reshape, and it comes back:

# %%
net = SourceUNet(widths=(16, 16, 16), told=16)
x = torch.randn(2, 4, 256, generator=g)
assert net.folded(x).shape == (2, 32, 32) and torch.equal(net.unfolded(net.folded(x)), x)
assert net(x[..., :100], torch.tensor([0.1, 0.2])).shape == (2, 4, 100)

# %% [markdown]
# With (19.12) around it:

# %%
#| export
class Denoiser(nn.Module):
    """The expected clean sources of noisy ones (eq. 19.12), by a network.

    sources, patch, widths, factor, told: of `SourceUNet`. sigma_data: deviation of the sources.
    forward: x (batch, source, time), sigma a number or (batch,), to the same shape as x.
    Source: Karras et al. 2022, section 5; section 19.7.
    """

    def __init__(self, sigma_data: float = 0.1, **sizes):
        super().__init__()
        self.sigma_data, self.network = sigma_data, SourceUNet(**sizes)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
        skip, into, out = (c[:, None, None] for c in preconditioning(sigma, self.sigma_data))
        return skip * x + out * self.network(into * x, sigma)

# %% [markdown]
# And the step that `course train multi_source_band` takes, with a level drawn for every item:

# %%
#| export
class DenoisingStep:
    """A training step of `course train`: (model, sources (batch, source, time)) to a loss.

    mean, deviation: of ln(sigma), which is drawn anew for every item. generator: of all that is
    drawn; None takes torch's global one. Source: Karras et al. 2022, section 5; section 19.7.
    """

    def __init__(self, mean: float = -3.0, deviation: float = 1.2,
                 generator: torch.Generator | None = None):
        self.mean, self.deviation, self.generator = mean, deviation, generator

    def __call__(self, model: nn.Module, sources: Tensor) -> Tensor:
        draw = lambda shape: torch.randn(shape, generator=self.generator).to(sources)
        sigma = (self.mean + self.deviation * draw(len(sources))).exp()
        noise = draw(sources.shape)
        return denoising_loss(model, sources, sigma, noise, model.sigma_data).mean()

# %% [markdown]
# An untrained denoiser costs nearly what level alone costs. What has ours learnt? Four levels of noise, pieces of the validation songs:

# %%
msdm = load_trained("multi_source_band")
print(f"{sum(p.numel() for p in msdm.parameters()):,} weights, {msdm.card['steps']} steps, "
      f"{msdm.card['minutes']:.0f} minutes on a busy core")
validation = measured("19_prior_separation/multi_source_band_validation")
columns = [name for name in validation[0] if name.startswith("at_")]
show_table([[int(row["step"]), *(float(row[name]) for name in columns)] for row in validation],
           ["step", *(name.replace("at_", "σ = ") for name in columns)], digits=2,
           caption="Loss (19.13) on 24 pieces of validation songs; 1 is the level alone.")
assert all(float(validation[-1][name]) < 1 for name in columns)

# %% [markdown]
# It knows most in the middle, and least at the smallest noise. Denoised by ear: noise of deviation 0.1 is as loud as the sources themselves.

# %%
RATE = experiment.RATE
middle = song.excerpt(8.0, experiment.SEGMENT / RATE).sources(STEMS)[:, 0]
piece = resample(middle, rate, RATE)[None, :, :experiment.SEGMENT]    # (1, source, time)
noisy = piece + 0.1 * torch.randn(piece.shape, generator=g)
with torch.no_grad():
    cleaned = msdm(noisy, 0.1)
listen(noisy[0].sum(0), RATE, "four sources in noise, added")
listen(cleaned[0].sum(0), RATE, "denoised, added")
gained = sdr(cleaned[0], piece[0]) - sdr(noisy[0], piece[0])
print("SDR gained:", {stem: f"{value:.0f} dB" for stem, value in zip(STEMS, gained.tolist())})
assert gained.mean() > 3

# %% [markdown]
# ## 19.9 From nothing, and along with something
#
# Follow (19.10) from noise, and a song of four sources comes out; nothing was given.

# %%
few = karras_sigmas(P.steps, 1e-3, 1.0)
made = sample_sources(free_slope(msdm), piece.shape, few, 20.0, generator=g)
listen(made[0].sum(0), RATE, "drawn from nothing: all sources")
listen(made[0, 0], RATE, "its drums")

# %% [markdown]
# If some sources are given, the rest can be drawn to go with them. Before every step the given ones are put in, with as much noise as the level asks for:
#
# $$ x_{\text{given}} \leftarrow s_{\text{given}} + \sigma\, n. \tag{19.14} $$
#
# The denoiser then sees them at their right place, and lets the others follow. It is what is called inpainting in pictures; here it makes an **accompaniment**.

# %%
#| export
def put_in(known: Tensor, given: Tensor, generator: torch.Generator | None = None) -> Callable:
    """What `sample_sources` calls before a step to fill in the rest of a song (eq. 19.14).

    known: (batch, source, time), the sources that are given; others are not looked at. given: bool
    (source,). The function puts the known sources, with noise of the step's level, into x.
    ValueError for other shapes, and where nothing or everything is given.
    Source: Mariani et al. 2024, section 3; section 19.9.
    """
    if known.ndim != 3 or given.shape != known.shape[1:2] or given.dtype != torch.bool:
        raise ValueError(f"known has shape {tuple(known.shape)}, given {tuple(given.shape)} of "
                         f"{given.dtype}; expected (batch, source, time), and bool (source,)")
    if given.all() or not given.any():
        raise ValueError("all sources are given, or none; expected some of them")

    def before(x: Tensor, sigma: float) -> Tensor:
        noise = torch.randn(known.shape, generator=generator)
        return torch.where(given[:, None], known + sigma * noise, x)
    return before

# %% [markdown]
# On the exact case it can be checked: where sources are independent, giving one must not change the other.

# %%
given = torch.tensor([True, False])
held = put_in(torch.ones(4000, 2, 1), given, g)
filled = sample_sources(free_slope(judge), (4000, 2, 1), levels, before=held, generator=g)
assert torch.equal(filled[:, 0], torch.ones(4000, 1))
assert abs(float(filled[:, 1].std()) - float(wanted[1])) < 0.05

# %% [markdown]
# With the drums and the bass of the test song given:

# %%
given = torch.tensor([True, True, False, False])
with_band = sample_sources(free_slope(msdm), piece.shape, few, 20.0, generator=g,
                           before=put_in(piece, given, g))
listen(with_band[0].sum(0), RATE, "drums and bass of the song, other and vocals drawn")
assert torch.equal(with_band[:, :2], piece[:, :2])

# %% [markdown]
# Three seconds say little. Levels say more: of twelve pieces, how loud is each source, in dB below full scale?

# %%
drawn_rows = measured("19_prior_separation/drawn")
kinds = ("the band", "from nothing", "with drums and bass given")
show_table([[kind, *(np.median([float(row[stem]) for row in drawn_rows if row["method"] == kind])
                     for stem in STEMS)] for kind in kinds], ["pieces", *STEMS], digits=0,
           caption="Median level of a second of sound, in dB; 12 pieces of 3 s, 50 steps.")

# %% [markdown]
# Drawn from nothing, drums and vocals are much softer than the band's, and vocals stay so where drums and bass are given: they have half collapsed towards silence, which is a likely source in a world where sources pause. What is drawn also sounds noisy: the loss at small noise levels above says why.

# %% [markdown]
# ## 19.10 Guidance: the sources must add up
#
# Now a mixture is given, $m = \sum_n x_n$. Put the **constraint** into the score. One source, say the last, is no longer free: the others decide what it is,
#
# $$ y_N = m - \sum_{n < N} x_n, \qquad y_n = x_n \text{ for } n < N. \tag{19.15} $$

# %%
#| export
def constrained(x: Tensor, mixture: Tensor, source: int) -> Tensor:
    """x with one source made what the others leave of the mixture (eq. 19.15).

    x: (batch, source, time). mixture: (batch, time). source: which. ValueError for shapes that
    don't fit and a source that isn't there. Source: Mariani et al. 2024, section 3; section 19.10.
    """
    if x.ndim != 3 or mixture.shape != (x.shape[0], x.shape[2]):
        raise ValueError(f"x has shape {tuple(x.shape)}, mixture {tuple(mixture.shape)}; expected "
                         "(batch, source, time) and (batch, time)")
    if not 0 <= source < x.shape[1]:
        raise ValueError(f"source is {source}; expected 0 to {x.shape[1] - 1}")
    rest = mixture - (x.sum(1) - x[:, source])
    return torch.cat([x[:, :source], rest[:, None], x[:, source + 1:]], 1)

# %% [markdown]
# The density of the free sources is then $p(y_1, \dots, y_N; \sigma)$ with (19.15) put in, and the chain rule gives its gradient. $x_n$ stands in two places, as itself and, with a minus, in $y_N$. With $S_n$ for the score (19.9) of source $n$ at $y$:
#
# $$ \nabla_{x_n} \ln p(x_1, \dots, x_{N-1} \mid m) = S_n(y; \sigma) - S_N(y; \sigma). \tag{19.16} $$
#
# The paper calls this **Dirac guidance**, for the likelihood is infinitely narrow. Source $N$'s own slope is zero; what it would be is put right at the next step.

# %%
#| export
def dirac_slope(denoiser: Callable, mixture: Tensor, source: int = 0) -> Callable:
    """dx/dsigma of sources that add up to the mixture exactly (eq. 19.16).

    mixture: (batch, time). source: the one that the others decide. The slope is that of all
    sources less that of `source`, at x made to add up. Source: Mariani et al. 2024, section 3;
    section 19.10.
    """
    def slope(x: Tensor, sigma: float) -> Tensor:
        y = constrained(x, mixture, source)
        found = score(denoiser(y, sigma), y, sigma)
        return -sigma * (found - found[:, source:source + 1])
    return slope

# %% [markdown]
# The alternative is a likelihood with a width: the sum may be off by a Gaussian of deviation $\gamma \sigma$, which pulls all sources alike,
#
# $$ \nabla_{x_n} \ln p(x \mid m) = S_n(x; \sigma) + \frac{m - \sum_i x_i}{\gamma^2 \sigma^2}. \tag{19.17} $$

# %%
#| export
def gaussian_slope(denoiser: Callable, mixture: Tensor, gamma: float = 1.5) -> Callable:
    """dx/dsigma of sources that are drawn to add up to the mixture (eq. 19.17).

    mixture: (batch, time). gamma: how far the sum may be off, as a multiple of sigma, above 0,
    else ValueError; below the square root of sources / 2 Euler's last step overshoots.
    Source: Mariani et al. 2024, section 3; section 19.10.
    """
    if not gamma > 0:
        raise ValueError(f"gamma is {gamma}; expected a number above 0")

    def slope(x: Tensor, sigma: float) -> Tensor:
        pull = (mixture - x.sum(1))[:, None] / (gamma * sigma) ** 2
        return -sigma * (score(denoiser(x, sigma), x, sigma) + pull)
    return slope

# %% [markdown]
# Either slope goes into the same loop:

# %%
#| export
def separate_with_diffusion(denoiser: Callable, mixture: Tensor, sources: int, sigmas: Tensor,
                            guidance: str = "dirac", source: int = 0, gamma: float = 1.5,
                            churn: float = 0.0, generator: torch.Generator | None = None
                            ) -> Tensor:
    """Sources (batch, source, time) of mixtures (batch, time), drawn with guidance.

    guidance: "dirac" (the results add up to the mixture, `source` takes up the rest) or
    "gaussian" (see `gaussian_slope`); else ValueError. sigmas, churn: see `sample_sources`.
    Source: Mariani et al. 2024, section 3; section 19.10.
    """
    check_audio(mixture=mixture)
    if mixture.ndim != 2 or 0 in mixture.shape or guidance not in ("dirac", "gaussian"):
        raise ValueError(f"mixture has shape {tuple(mixture.shape)}, guidance is {guidance!r}; "
                         "expected (batch, time), not empty, and 'dirac' or 'gaussian'")
    if not torch.isfinite(mixture).all():
        raise ValueError("mixture holds NaN or infinite samples; expected finite ones")
    shape = (len(mixture), sources, mixture.shape[-1])
    if guidance == "gaussian":
        slope = gaussian_slope(denoiser, mixture, gamma)
        return sample_sources(slope, shape, sigmas, churn, generator=generator)
    slope = dirac_slope(denoiser, mixture, source)
    x = sample_sources(slope, shape, sigmas, churn, generator=generator)
    return constrained(x, mixture, source)

# %% [markdown]
# ### Is it the posterior?
#
# Here we can *know*. Two Gaussian sources of deviation 1 and 0.5, whose sum is 1.2: (19.2) gives means and deviations. Four thousand separations by each method:

# %%
sources = GaussianMixtureDenoiser(torch.ones(2, 1), torch.zeros(2, 1), torch.tensor([[1.0], [0.5]]))
mixture = torch.full((4000, 1), 1.2)
levels = levels_10 = karras_sigmas(100, 1e-3, 10.0)
mean, covariance = gaussian_posterior(torch.tensor(1.2), torch.tensor([1.0, 0.25]))
ways = {"Dirac": {}, "Dirac, churn 20": dict(churn=20.0), "Dirac, all the churn": dict(churn=1e9),
        "Gaussian, γ = 1.5": dict(guidance="gaussian", gamma=1.5)}
results = {name: separate_with_diffusion(sources, mixture, 2, levels, generator=g, **options)
           for name, options in ways.items()}
show_table([["exact", *mean.tolist(), float(covariance[0, 0].sqrt())],
            *([name, *x.mean((0, 2)).tolist(), float(x[:, 0].std())]
              for name, x in results.items())],
           ["", "mean of source 1", "mean of source 2", "deviation"], digits=2)

# %% [markdown]
# Dirac guidance has means that are off, and it hardly varies: all four thousand answers are nearly the same. It isn't a sampler of the posterior. Why? Take two equal variances $v$. The free path lets $x$ shrink like $\sqrt{v + \sigma^2}$. Under (19.16) the difference of both sources gets *twice* that pull, and shrinks like
# $v + \sigma^2$ instead. From $\sigma_{\max}$ down to 0 there remains a deviation of $\sigma_{\max}\, v / (v + \sigma_{\max}^2)$, which goes to zero the higher one begins:

# %%
equal = GaussianMixtureDenoiser(torch.ones(2, 1), torch.zeros(2, 1), torch.ones(2, 1))
for highest in (3.0, 10.0):
    x = separate_with_diffusion(equal, mixture, 2, karras_sigmas(600, 1e-3, highest), generator=g)
    expected = highest / (1 + highest ** 2)
    print(f"from {highest:g}: deviation {float(x[:, 0].std()):.1f}, formula {expected:.1f}")
    assert abs(float(x[:, 0].std()) / expected - 1) < 0.15
assert results["Dirac"][:, 0].std() < 0.25 * covariance[0, 0].sqrt()

# %% [markdown]
# The reason is that (19.15) puts the *clean* mixture into noisy sources, whose sum should be noisy, too. Near $\sigma = 0$ that doesn't matter, and there (19.16) is right. So whoever keeps moving about at small levels gets near the posterior: that is what churn does. With much of it, deviation and means come close, for the price of steps.

# %%
churned_result = results["Dirac, all the churn"]
assert abs(float(churned_result[:, 0].std() / covariance[0, 0].sqrt()) - 1) < 0.3
assert (churned_result.mean((0, 2)) - mean).abs().max() < (results["Dirac"].mean((0, 2))
                                                           - mean).abs().max()
assert (churned_result.sum(1) - mixture).abs().max() < 1e-5

# %% [markdown]
# Gaussian guidance has its own trouble: Euler's rule. Along the sum, one step multiplies the error by $1 - \frac{N}{\gamma^2} \frac{\sigma_i - \sigma_{i+1}}{\sigma_i}$. The last step goes to $\sigma = 0$, where the fraction of sigmas is 1: unless $\gamma^2 > N / 2$ the error *grows* there, and for smaller $\gamma$ it explodes at every step.

# %%
for gamma in (0.25, 1.5):
    x = separate_with_diffusion(sources, mixture, 2, levels, "gaussian", gamma=gamma, generator=g)
    off = (x.sum(1) - mixture).abs().mean()
    print(f"γ = {gamma}: sums are {'off by less than 1' if off < 1 else 'useless'}")
    assert bool(off < 1) == (gamma > 1)

# %% [markdown]
# **A quick question.** For which *use* is a path without churn good in spite of all that?
#
# <details><summary>Answer</summary>
#
# For a score such as SDR. The mean of the posterior has the least squared error of all answers; a posterior sample has twice that error. A path that hardly varies is nearer to a mean than to a sample. In the table its mean was off, so it isn't *the* mean.
# </details>
#
# With two bumps a source, what counts is whether the right bumps are found. A sum of 0.6 is most likely $1 - 0.4$:

# %%
x = separate_with_diffusion(judge, torch.full((4000, 1), 0.6), 2, karras_sigmas(100, 1e-3, 5.0),
                            churn=20.0, generator=g)
right = float(((x[:, 0] > 0.5) & (x[:, 1] < 0)).float().mean())
print(f"1 and -0.4: {right:.1f} of all draws")
assert right > 0.6

# %% [markdown]
# ## 19.11 A song
#
# The test song's mixture, all four sources. What the others don't take goes to *other*, which is closest to "the rest" by nature.

# %%
mixture = piece.sum(1)
found = separate_with_diffusion(msdm, mixture, 4, few, source=2, churn=20.0, generator=g)
listen(mixture[0], RATE, "the mixture")
for stem, signal in zip(STEMS, found[0]):
    listen(signal, RATE, f"{stem}, Dirac guidance")
assert (found.sum(1) - mixture).abs().max() < 1e-4

# %% [markdown]
# Levels first: a source may have been left to silence, and its part of the mixture given to another.

# %%
show_table([["true", *decibels_of(piece[0])], ["found", *decibels_of(found[0])]],
           ["level in dB", *STEMS])

# %%
figure, axes = plt.subplots(2, 4, figsize=(11, 4.2), sharex=True, sharey=True)
for column, stem in enumerate(STEMS):
    for line, signal in enumerate((piece[0, column], found[0, column])):
        plot_spectrogram(signal, RATE, f"{stem}, {'true' if line == 0 else 'found'}", n_fft=1024,
                         hop_length=256, ax=axes[line, column])
show(figure, "Four sources of a test song, and what Dirac guidance makes of their sum.",
     "Eight spectrograms; above the true drums, bass, other and vocals, below the separated ones.")

# %% [markdown]
# Drums have kept the bass in their lowest octaves, *other* has its notes, and the voice is lost: what stands in its place is faint noise. Listening agrees.

# %% [markdown]
# ## 19.12 Priors beside networks that learnt to separate
#
# Twenty test songs, a piece of three seconds of each. First the paper's setting, drums and bass alone. Every method hears the sum at its own rate; all are scored at 11,025 Hz.

# %%
songs = measured("19_prior_separation/songs")
runs = measured("19_prior_separation/runs")

def scores_of(which, variant, score="SI-SDRi"):
    """A table (song, stem) of one method's scores."""
    stems = ("drums", "bass") if which == "drums and bass" else STEMS
    rows = [row for row in songs if (row["set"], row["variant"], row["score"])
            == (which, variant, score)]
    return np.array([[float(row[stem]) for stem in stems] for row in rows])

# %%
def seconds_of(which, variant):
    """Seconds of one core for a second of song."""
    method = {"LASS, one draw": "LASS", "LASS, best draw": "LASS", "LASS, as mask": "LASS",
              "particles, as mask": "particles"}.get(variant, variant)
    return next(float(row["seconds_per_second"]) for row in runs
                if (row["set"], row["method"]) == (which, method))

def comparison(which, variants):
    """A row for each method: scores with intervals, the level of the softest stem, seconds."""
    rows = []
    for variant in variants:
        known = scores_of(which, variant)
        each = [mean_interval(x.mean(1)) if np.isfinite(x).all() else "" for x in
                (known, scores_of(which, variant, "SDRi"))]
        softest = np.median(scores_of(which, variant, "level"), 0).min()
        rows.append([variant, *each, float(softest), seconds_of(which, variant)])
    return rows

# %% [markdown]
# "Level" is the median over songs of the estimate's level against the true source's, of the stem where it is least: far below 0 means that a source is lost. "LASS without priors" draws from the counts alone, "without the mixture" from the priors alone.

# %%
pair_variants = ("silence", "mixture", "LASS without the mixture", "LASS without priors",
                 "LASS, one draw", "LASS, best draw", "LASS, as mask", "particles",
                 "particles, as mask", "codes of the true stems", "Dirac, rest to other",
                 "TagBox", "MixIT, oracle",
                 "Open-Unmix", "HT Demucs", "ideal ratio mask")
columns = ["method", "SI-SDRi", "SDRi", "level", "seconds per second"]
places = {"SI-SDRi": 1, "SDRi": 1, "level": 1, "seconds per second": 2}
show_table(comparison("drums and bass", pair_variants), columns, digits=places,
           caption="Drums and bass: dB above the mixture, mean over both stems and 20 songs with a "
           "95% interval; level in dB of the softest stem; seconds of one core.")

# %% [markdown]
# How to read it: `codes of the true stems` is the bound of everything decoded, so LASS is to be read against that row and not against the ideal mask. MixIT's row is an oracle's, which has seen the sources.

# %%
pair_gap = lambda a, b: (scores_of("drums and bass", a) - scores_of("drums and bass", b)).mean(1)
for text, first, second in (
        ("the priors' worth", "LASS, one draw", "LASS without priors"),
        ("the counts' worth", "LASS, one draw", "LASS without the mixture"),
        ("choosing among 8 draws", "LASS, best draw", "LASS, one draw"),
        ("particles instead of plain draws", "particles", "LASS, one draw"),
        ("as masks", "particles, as mask", "particles"),
        ("from particles to the bound", "codes of the true stems", "particles")):
    print(f"{text}: {difference_in_words(pair_gap(first, second))}")

# %% [markdown]
# Now all four sources, where the diffusion model competes. TagBox isn't there, for no tag stands for *other*:

# %%
four_variants = ("silence", "mixture", "Gaussian guidance", *(f"Dirac, rest to {stem}"
                 for stem in STEMS), "Dirac, rest to other, no churn",
                 "MixIT, oracle", "Open-Unmix", "HT Demucs", "ideal ratio mask")
show_table(comparison("four sources", four_variants), columns, digits=places,
           caption="Four sources: as above, mean over four stems; diffusion in 50 steps.")

# %% [markdown]
# And by stem:

# %%
show_table([[variant, *(mean_interval(column) for column in scores_of("four sources", variant).T)]
            for variant in four_variants[2:]], ["SI-SDRi", *STEMS], digits=1,
           caption="dB above the mixture, mean over 20 songs with a 95% interval.")
four_gap = lambda a, b: (scores_of("four sources", a) - scores_of("four sources", b)).mean(1)
for first, second in (("Dirac, rest to other", "Gaussian guidance"),
                      ("Dirac, rest to other, no churn", "Dirac, rest to other"),
                      ("HT Demucs", "Dirac, rest to other"),
                      ("Dirac, rest to other", "MixIT, oracle")):
    print(f"{first}, above {second}: {difference_in_words(four_gap(first, second))}")

# %% [markdown]
# What the tables say, in our small world:
#
# - **Plain LASS loses sources.** Its draws fall silent in many pieces, which is why a mean SI-SDRi is so far below zero. Keeping the best of eight sums raises the SDRi a little and not the SI-SDRi, and the softest stem is *softer* than in a single draw: a sum without drums is often near the mixture. Resampling by the mixture's own probability, a few lines, mends most of that, and masks turn the rest into separation that lies above the mixture, and near MixIT with its oracle.
# - **Both factors are needed.** Without priors the counts alone don't know how to go on; without the mixture the priors make up other music.
# - **The diffusion model separates drums, and little else.** With the rest given to *other*, as we had fixed beforehand, its mean over stems can't be told from the mixture's; drums are well above, *other* somewhat, bass isn't, and vocals are worse than leaving them mixed in. Which source takes up the rest moves the stems' scores by decibels, for that source is never lost. Given to the vocals the mean is above zero; but whoever chooses so has looked at the test songs.
# - **Dirac guidance is ahead of Gaussian guidance**, as in the paper, and churn helps a little, on songs as in the exact case.
# - **The supervised networks are far ahead**, in a fraction of the seconds. They do one thing only; the diffusion model has also played along, and made up songs, with the same weights.
#
# The third answer to "no training for separation", then: a prior needs single sources, TagBox a tagger, MixIT mixtures of mixtures (and, in these tables, an oracle to name its outputs). On drums and bass the particles' masks are ahead of TagBox; on four sources the diffusion model is behind MixIT. Of the three only a prior can *draw* several answers, and say how sure it is.

# %% [markdown]
# ## 19.13 What we built
#
# | name | what | section |
# |---|---|---|
# | `pair_posterior`, `gaussian_posterior` | Bayes' rule, exactly | 19.1, 19.2 |
# | `SumTable`, `count_sums`, `log_likelihood` | a likelihood by counting | 19.4 |
# | `joint_logits`, `sample_pairs`, `sample_factored`, `separate_codes` | pairs of codes | 19.5 |
# | `resampling`, `best_draw`, `masked_parts` | particles, choosing, and masks | 19.5 |
# | `PartPriors`, `count_into`, `PartPriorsStep`, `Stepwise` | two priors over codes | 19.6 |
# | `score`, `GaussianMixtureDenoiser` | scores, and a judge | 19.7 |
# | `karras_sigmas`, `euler_step`, `churned`, `free_slope`, `sample_sources` | from noise to sources | 19.7 |
# | `preconditioning`, `Denoiser`, `denoising_loss`, `DenoisingStep` | learning it | 19.7 |
# | `noise_features`, `NoiseBlock`, `GlobalBlock`, `SourceUNet` | the network | 19.8 |
# | `put_in` | filling in the rest | 19.9 |
# | `constrained`, `dirac_slope`, `gaussian_slope`, `separate_with_diffusion` | guidance | 19.10 |
#
# All of it is in `course_lib.prior_separation`.

# %% [markdown]
# ## 19.14 Paper claims
#
# The papers train large networks on Slakh; ours learnt for less than an hour, on a generated band. So signs, not numbers.

# %%
LASS, MSDM, HERE = "Postolache et al. 2023", "Mariani et al. 2024", "this chapter"
pair = lambda a, b: pair_gap(a, b)
above_mixture = scores_of("drums and bass", "LASS, best draw").mean(1)
claims = [
    Claim("Counted likelihood and two priors separate drums and bass (SI-SDRi above 0)", LASS,
          "19.12", "LQ-VAE: drums 5.83 dB SDR, on Slakh", difference_in_words(above_mixture),
          same_trend(above_mixture)),
    Claim("The same with resampled draws, as masks", HERE, "19.12", None,
          difference_in_words(scores_of("drums and bass", "particles, as mask").mean(1)),
          same_trend(scores_of("drums and bass", "particles, as mask").mean(1))),
    Claim("The priors add to what the counts say", LASS, "19.12", None,
          difference_in_words(pair("LASS, one draw", "LASS without priors")),
          same_trend(pair("LASS, one draw", "LASS without priors"))),
    Claim("Choosing among draws by the sum helps", LASS, "19.12", None,
          difference_in_words(pair("LASS, best draw", "LASS, one draw")),
          same_trend(pair("LASS, best draw", "LASS, one draw"))),
    Claim("Resampling draws by the mixture's probability helps", HERE, "19.12", None,
          difference_in_words(pair("particles", "LASS, one draw")),
          same_trend(pair("particles", "LASS, one draw"))),
    Claim("Masks from the drawn parts are better than the parts", HERE, "19.12", None,
          difference_in_words(pair("particles, as mask", "particles")),
          same_trend(pair("particles, as mask", "particles")))]

# %% [markdown]
# And those of the diffusion model:

# %%
spreads = [float(separate_with_diffusion(
    sources, torch.full((500, 1), 1.2), 2, levels_10,
    generator=torch.Generator().manual_seed(n))[:, 0].std() / covariance[0, 0].sqrt())
    for n in range(6)]
dirac = "Dirac, rest to other"
own = scores_of("four sources", dirac).mean(1)
claims += [
    Claim("One model of all sources separates them, guided (SI-SDRi above 0)", MSDM, "19.12",
          "order only", difference_in_words(own), same_trend(own)),
    Claim("Dirac guidance is better than Gaussian guidance", MSDM, "19.12", "order only",
          difference_in_words(four_gap(dirac, "Gaussian guidance")),
          same_trend(four_gap(dirac, "Gaussian guidance"))),
    Claim("It separates as well as a supervised network", MSDM, "19.12", "order only",
          f"above HT Demucs: {difference_in_words(four_gap(dirac, 'HT Demucs'))}",
          same_trend(four_gap(dirac, "HT Demucs"))),
    Claim("Without churn Dirac guidance keeps less than a quarter of the posterior's spread", HERE,
          "19.10", None, f"{max(spreads):.2f} of it at most, six seeds, exact case",
          same_trend([0.25 - spread for spread in spreads]))]
show_claims(claims)

# %% [markdown]
# ## 19.15 Exercises
#
# Try each before opening its answer. The answers are run by the course's tests. The graded [assignment of this chapter](assignments/19_prior_separation.ipynb) has more tasks, with checks.
#
# **1. Too much smoothing.** What does (19.4) become for $\alpha \to \infty$, and what does LASS do then?
#
# <details><summary>Answer</summary>
#
# $q(k_m)$ for every pair: the mixture says nothing, and the loop draws from the priors alone.
#
# ```python
# import torch
# from course_lib.prior_separation import count_sums, log_likelihood
# table = count_sums(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([1, 0]), bins=2)
# told = log_likelihood(table, 1, smoothing=1e6)
# assert told.max() - told.min() < 1e-4 and log_likelihood(table, 1, 0.1).max() > told.max()
# ```
# </details>
#
# **2. A noisy mixture.** In (19.2), what becomes of the means for $s^2 \to \infty$, and of the covariance?
#
# <details><summary>Answer</summary>
#
# The means go to the prior's, 0, and the covariance to the prior's, a diagonal of $v_j$: such a mixture says nothing.
#
# ```python
# import torch
# from course_lib.prior_separation import gaussian_posterior
# mean, covariance = gaussian_posterior(torch.tensor(1.0), torch.tensor([1.0, 2.0]), noise=1e6)
# assert mean.abs().max() < 1e-4
# assert torch.allclose(covariance, torch.diag(torch.tensor([1.0, 2.0])), atol=1e-4)
# ```
# </details>
#
# **3. The right guidance.** For Gaussian sources one can write the denoiser that knows the mixture: first $D_j = \frac{v_j}{v_j + \sigma^2} x_j$ with variance $c_j = \frac{v_j \sigma^2}{v_j + \sigma^2}$, then (19.2) for what is missing from the sum. Follow (19.10) with it. Has the result the posterior's spread?
#
# <details><summary>Answer</summary>
#
# Yes, without any churn: $D_j + \frac{c_j}{\sum_i c_i} (m - \sum_i D_i)$ is the mean of the clean source given noisy sources *and* mixture, so (19.10) with it is the path of the posterior itself.
#
# ```python
# import torch
# from course_lib.prior_separation import (free_slope, gaussian_posterior, karras_sigmas,
#                                          sample_sources)
# v = torch.tensor([1.0, 0.25])[None, :, None]
# def informed(x, sigma):
#     own, spread = v / (v + sigma ** 2) * x, v * sigma ** 2 / (v + sigma ** 2)
#     return own + spread / spread.sum(1, keepdim=True) * (1.2 - own.sum(1, keepdim=True))
# g = torch.Generator().manual_seed(0)
# x = sample_sources(free_slope(informed), (4000, 2, 1), karras_sigmas(100, 1e-3, 10.0), generator=g)
# mean, covariance = gaussian_posterior(torch.tensor(1.2), v[0, :, 0])
# assert (x.mean((0, 2)) - mean).abs().max() < 0.05
# assert abs(float(x[:, 0].std() / covariance[0, 0].sqrt()) - 1) < 0.1
# ```
# </details>
#
# **4. Priors that never met.** The paper also takes one denoiser *a source*, each trained alone, and calls that weakly supervised. Write the joined denoiser. When is it as good as that of all sources?
#
# <details><summary>Answer</summary>
#
# Side by side. It is the same where sources are independent, as here; in a song it can't know which bass goes with which drums.
#
# ```python
# import torch
# from course_lib.prior_separation import GaussianMixtureDenoiser
# numbers = [torch.rand(2, 3, generator=torch.Generator().manual_seed(n)) + 0.1 for n in range(3)]
# numbers[0] = numbers[0] / numbers[0].sum(1, keepdim=True)
# joint = GaussianMixtureDenoiser(*numbers)
# single = [GaussianMixtureDenoiser(*(one[n:n + 1] for one in numbers)) for n in range(2)]
# x = torch.randn(4, 2, 7, generator=torch.Generator().manual_seed(9))
# apart = torch.cat([denoiser(x[:, n:n + 1], 0.3) for n, denoiser in enumerate(single)], 1)
# assert torch.allclose(apart, joint(x, 0.3), atol=1e-6)
# ```
# </details>
#
# **5. The price of a step.** Heun's rule costs two calls a step. Compare it with Euler's rule at equally many *calls*, on two bumps.
#
# <details><summary>Answer</summary>
#
# It is the better one from a few calls on: its error shrinks with the square of the step.
#
# ```python
# import torch
# from course_lib.prior_separation import (GaussianMixtureDenoiser, free_slope, karras_sigmas,
#                                          sample_sources)
# judge = GaussianMixtureDenoiser(torch.ones(1, 1), torch.zeros(1, 1), torch.ones(1, 1))
# ends = {}
# for heun, steps in ((False, 16), (True, 8)):
#     x = sample_sources(free_slope(judge), (4000, 1, 1), karras_sigmas(steps, 0.01, 10.0), heun=heun,
#                        generator=torch.Generator().manual_seed(0))
#     ends[heun] = abs(float(x.std()) - 1)
# assert ends[True] < ends[False]
# ```
# </details>
#
# **6. Open.** Take the level with hop 32 for LASS. The bound rises; what do counts and priors do, with four times as many codes and as many songs?

# %% [markdown]
# ## 19.16 Sources
#
# - E. Postolache, G. Mariani, M. Mancusi, A. Santilli, L. Cosmo and E. Rodolà, *Latent autoregressive source separation*, AAAI 2023 (LASS): likelihood by counting, drawing pairs, choosing among draws.
# - M. Mancusi, E. Postolache, G. Mariani, M. Fumero, A. Santilli, L. Cosmo and E. Rodolà, *Unsupervised source separation via Bayesian inference in the latent domain*, 2021 (LQ-VAE): codes that are trained to add up.
# - G. Mariani, I. Tallini, E. Postolache, M. Mancusi, L. Cosmo and E. Rodolà, *Multi-source diffusion models for simultaneous music generation and separation*, ICLR 2024 (MSDM), and gladia-research-group/multi-source-diffusion-models, whose pull in (19.17) is half of ours for the same γ.
# - T. Karras, M. Aittala, T. Aila and S. Laine, *Elucidating the design space of diffusion-based generative models*, NeurIPS 2022: levels, preconditioning, loss, churn.
# - Y. Song, J. Sohl-Dickstein, D. Kingma, A. Kumar, S. Ermon and B. Poole, *Score-based generative modeling through stochastic differential equations*, ICLR 2021; F. Schneider, O. Kamal, Z. Jin and B. Schölkopf, *Moûsai*, 2023 (the U-Net that MSDM took over).
# - N. Gordon, D. Salmond and A. Smith, *Novel approach to nonlinear/non-Gaussian Bayesian state estimation*, IEE Proceedings F, 1993: particle filters.
# - V. Jayaram and J. Thickstun, *Source separation with deep generative priors*, ICML 2020: Langevin sampling under a sum.
