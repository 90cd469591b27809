"""The graders of assignment 15 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import torch
import torch.nn.functional as F

from course_lib.wavenet import (
    CausalConv1d,
    WaveNet,
    WaveNetLayer,
    WaveNetStep,
    draw,
    generate_naive,
    mu_law_decode,
    receptive_field,
)
from tests.classroom.assignment_checks import AssignmentChecks


class TestAssignment(AssignmentChecks):
    """See AssignmentChecks; the cases are those of cases.py beside this file."""

    def names(self, task: int, answer: str) -> dict:
        """What a student's cell of this task defines."""
        names = {"torch": torch, "F": F, "math": math}
        exec(self.cases[task]["right"][answer], names)
        return names

    def test_what_is_taken_would_be_right(self):
        """The answer that doesn't count is caught for where it comes from, not for what it gives."""
        names, right = {}, self.names(3, "bits")
        exec(self.taken[1], names)
        for sizes in ((4094, 10, 2), (4095, 10, 2), (1, 3, 3), (10**20, 14, 2)):
            assert names["blocks_needed"](*sizes) == right["blocks_needed"](*sizes)

    def test_mu_law_is_finer_than_the_chapters(self):
        """Task 1's values have no slant, the chapter's have one."""
        names = self.names(1, "borders")
        ramp = torch.linspace(-1, 1, 2001)
        values = names["values_of"](256, 255)
        nearest = values[names["nearest_symbols"](ramp, 256, 255)]
        assert abs(float((nearest - ramp).mean())) < 1e-4
        theirs = mu_law_decode(torch.arange(256)).double()
        assert float((theirs + theirs.flip(0)).abs().max()) > 0.01

    def test_convolution_is_the_chapters(self):
        """Task 2 in pieces gives what the chapter's layer gives for the whole."""
        torch.manual_seed(0)
        conv, x = CausalConv1d(3, 4, 3, 2), torch.randn(2, 3, 20)
        with torch.no_grad():
            go_on, past, parts = self.names(2, "tap by tap")["go_on"], None, []
            for piece in x.split(3, -1):
                y, past = go_on(piece, conv.weight, conv.bias, 2, past)
                parts.append(y)
            assert torch.allclose(torch.cat(parts, -1), conv(x), atol=1e-5)

    def test_views_are_the_chapters(self):
        """Task 3's width is (15.5)."""
        for blocks, layers, taps in ((2, 9, 2), (3, 4, 3)):
            stack = [(taps, 1)] + [(taps, 2**i) for _ in range(blocks) for i in range(layers)]
            assert self.names(3, "sets")["what_it_hears"](stack)[0] == receptive_field(blocks, layers, taps)

    def test_gated_layer_is_the_chapters(self):
        """Task 4 with weights of the chapter's layer, from the beginning of the code."""
        torch.manual_seed(0)
        layer, x, z = WaveNetLayer(3, 5, 4, dilation=2), torch.randn(2, 3, 24), torch.randn(2, 4, 3)
        for parameter in layer.parameters():
            parameter.data.mul_(parameter.ndim > 1)  # no biases
        weights = {name: getattr(layer, name).weight[..., 0].detach() for name in ("condition", "residual", "skip")}
        weights["causal"] = layer.causal.weight.detach()
        found = self.names(4, "frames by their numbers")["gated_layer"](x, z, weights, 2, 8, 0)
        with torch.no_grad():
            assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, layer(x, z)))

    def test_drawing_is_the_chapters(self):
        """Task 5 with the chapter's network without a code draws what its naive generator draws."""
        torch.manual_seed(0)
        net = WaveNet(latent_d=2, blocks=1, layers=3, residual_channels=4, skip_channels=5).double()
        for parameter in net.condition.parameters():
            parameter.data.zero_()
        for layer in net.layers:
            for parameter in layer.condition.parameters():
                parameter.data.zero_()
        once = lambda conv, x: x @ conv.weight[..., 0].T + conv.bias

        def embed(symbols):  # 255 stands for the zero before the beginning
            return torch.cat([(symbols.double() / 255 - 0.5)[:, None] * (symbols >= 0)[:, None]], 1)

        def first(now, old):
            h = now @ net.first_conv.weight[..., 1].T + old @ net.first_conv.weight[..., 0].T + net.first_conv.bias
            return torch.cat([h, once(net.skip_conv, h)], 1)

        def gated(layer):
            def f(now, old):
                x, skips = now[:, :4], now[:, 4:]
                a = x @ layer.causal.weight[..., 1].T + old[:, :4] @ layer.causal.weight[..., 0].T + layer.causal.bias
                h = torch.sigmoid(a[:, :4]) * torch.tanh(a[:, 4:])
                return torch.cat([x + once(layer.residual, h), skips + once(layer.skip, h)], 1)

            return f

        logits = lambda h: once(net.logits, once(net.fc, h[:, 4:].relu()).relu())
        layers = [(1, first)] + [(layer.causal.dilation[0], gated(layer)) for layer in net.layers]
        uniforms = torch.rand(2, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        with torch.no_grad():
            found, bits = self.names(5, "rings")["draw_sound"](embed, layers, logits, uniforms, -1)
            codes = generate_naive(net, torch.zeros(2, 2, 1, dtype=torch.float64), uniforms, 24)
            assert torch.equal(found, codes)
            expected = [float(WaveNetStep.bits(net(one[None]), one[None])) for one in codes]
        assert torch.allclose(bits, torch.tensor(expected, dtype=torch.float64), atol=1e-6)
        rows = torch.randn(5, 256, generator=torch.Generator().manual_seed(2))
        u = torch.rand(5, generator=torch.Generator().manual_seed(3))
        mine, _ = self.names(5, "queues")["draw_sound"](lambda s: s[:, None], [], lambda h: rows, u[:, None], 0, 0.7)
        assert torch.equal(mine[:, 0], draw(rows, u, 0.7))

    def test_experiment_measures_decibels_and_bits(self):
        """The experiment cell's SNR, entropy, and mu-law there and back are right."""
        names = {"torch": torch, "math": math}
        exec(self.given_cell("# EXPERIMENT"), names)
        x = 2 * torch.rand(20_000, generator=torch.Generator().manual_seed(0)).double() - 1
        assert abs(names["snr"](x, 0.9 * x) - 20) < 1e-6
        assert names["bits"](torch.arange(256)) == 8 and names["bits"](torch.zeros(9).long()) == 0
        symbols = names["symbols_by"](x, 0)
        assert abs(names["snr"](x, names["back_by"](symbols, 0)) - 20 * math.log10(256)) < 0.1
        assert torch.equal(names["symbols_by"](names["back_by"](symbols, 255), 255), symbols)
