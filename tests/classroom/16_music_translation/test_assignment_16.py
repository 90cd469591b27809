"""The graders of assignment 16 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in ../assignment_checks.py.
"""

import math

import librosa
import torch
import torch.nn.functional as F

from course_lib.experiments.translation import chroma_agreement
from course_lib.translation import ZDiscriminator, concatenate_nearest, domain_loss
from tests.classroom.assignment_checks import AssignmentChecks

RATE = 8_000


class Descent:
    """Steps along the gradients there are."""

    def __init__(self, module: torch.nn.Module, rate: float):
        self.parameters, self.rate = list(module.parameters()), rate

    @torch.no_grad()
    def step(self):
        for p in self.parameters:
            if p.grad is not None:
                p -= self.rate * p.grad


class TestAssignment(AssignmentChecks):
    """See AssignmentChecks; the cases are those of cases.py beside this file."""

    def names(self, task: int, answer: str) -> dict:
        """What a student's cell of this task defines."""
        names = {"torch": torch, "F": F, "math": math}
        exec(self.cases[task]["right"][answer], names)
        return names

    def test_what_is_taken_would_be_right(self):
        """The answer that doesn't count is caught for where it comes from, not for what it gives."""
        names = {"torch": torch, "math": math}
        exec(self.taken[1], names)
        x = torch.randn(50, generator=torch.Generator().manual_seed(0))
        right = self.names(1, "sample by sample")["detuned"](x, 10, 20, 4)
        assert torch.allclose(names["detuned"](x, 10, 20, 4), right, atol=1e-5)

    def test_a_tone_goes_out_of_tune_and_comes_back(self):
        """Task 1's pitch is what its text says: right at both ends, half a semitone sharp a quarter into the piece."""
        tone = torch.sin(2 * math.pi * 440 * torch.arange(RATE) / RATE)
        bent = self.names(1, "written into a copy")["detuned"](tone, 1000, 6000, 0.5)
        X = torch.fft.fft(bent.double())
        X[RATE // 2:] = 0
        z = torch.fft.ifft(X)  # its angle goes on by the frequency
        hertz = (z[1:] * z[:-1].conj()).angle() * RATE / (2 * math.pi)
        semitones = lambda sample: 12 * math.log2(float(hertz[sample - 50:sample + 50].mean()) / 440)
        assert abs(semitones(2500) - 0.5) < 0.1 and abs(semitones(5500) + 0.5) < 0.1
        assert abs(semitones(4000)) < 0.1 and abs(semitones(600)) < 0.05 and abs(semitones(7500)) < 0.05
        assert float(bent.diff().abs().max()) < 1.05 * 2 * math.pi * 440 / RATE  # no jump

    def test_surprise_is_the_chapters_where_all_is_alike(self):
        """Task 2 with one sound of each domain, equally long, is (16.3)."""
        torch.manual_seed(0)
        critic, z = ZDiscriminator(4, 2, 8, 3), torch.randn(1, 3, 4, 7)
        with torch.no_grad():
            logits = critic.convs(z[0])
            loss, _ = self.names(2, "weights")["surprise"](logits, torch.full((3,), 7), torch.arange(3))
            assert abs(float(loss) - float(domain_loss(critic, z))) < 1e-5

    def test_rounds_confuse(self):
        """Task 3: a critic that knows two domains is played against until it knows nothing, log 2."""
        torch.manual_seed(0)
        encoder, critic = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)
        labels = torch.arange(64) % 2
        x = torch.randn(64, 3) + 2 * labels[:, None]
        loss_of = lambda y: F.cross_entropy(y, labels)
        play = self.names(3, "gradients asked for")["play_round"]
        for rate, expected in ((0.0, 0.217), (0.05, math.log(2))):
            parts = {"encoder": Descent(encoder, rate), "critic": Descent(critic, 0.2)}
            for _ in range(300):
                of_critic, _ = play(encoder, critic, parts, x, loss_of, 1.0)
            assert abs(of_critic - expected) < 0.05

    def test_agreement_in_key_is_the_chapters(self):
        """Task 4's first number on librosa's chroma is the chapter's score, for a sound without silence."""
        time = torch.arange(2 * RATE) / RATE
        tones = [sum(torch.sin(2 * math.pi * f * n * time) / n for n in (1, 2, 3)) * 0.2 for f in (262.0, 330.0, 392.0)]
        truth, y = torch.cat(tones), torch.cat([tones[0], tones[2], tones[1]])
        chroma = lambda x: torch.from_numpy(
            librosa.feature.chroma_stft(y=x.numpy(), sr=RATE, n_fft=2048, hop_length=512, tuning=0.0)
        )
        found = self.names(4, "shift by shift")["agreements"](chroma(y), chroma(truth))
        assert abs(float(found[0]) - chroma_agreement(y, truth)) < 1e-3

    def test_free_jumps_are_the_chapters_neighbours(self):
        """Task 5 with jumps for nothing takes the grains that (16.9) takes."""
        generator = torch.Generator().manual_seed(0)
        features, corpus = torch.randn(9, 2, generator=generator), torch.randn(30, 2, generator=generator)
        grains = torch.randn(30, 8, generator=generator)
        choose = self.names(5, "all pairs")["choose_grains"]
        choice, _ = choose(torch.cdist(features, corpus), 0.0, torch.zeros(30, dtype=torch.bool))
        ours = concatenate_nearest(torch.arange(9.0)[:, None], torch.arange(9.0)[:, None], grains[choice], 4)
        assert torch.allclose(ours, concatenate_nearest(features, corpus, grains, 4), atol=1e-6)

    def test_dearer_jumps_are_fewer(self):
        generator = torch.Generator().manual_seed(1)
        costs, begins = torch.rand(40, 60, generator=generator), torch.zeros(60, dtype=torch.bool)
        choose = self.names(5, "ways in lists")["choose_grains"]
        jumps = []
        for jump in (0.0, 0.1, 0.5, 5.0):
            choice, _ = choose(costs, jump, begins)
            jumps.append(int((choice[1:] != choice[:-1] + 1).sum()))
        assert jumps == sorted(jumps, reverse=True) and jumps[0] > 35 and jumps[-1] == 0
