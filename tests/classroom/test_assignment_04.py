"""The graders of assignment 4 are graded: every right answer gets full marks, every wrong one less.

What is checked, and how the stored table is written anew, stands in assignment_checks.py.
"""

import copy

import torch
from assignment_checks import AssignmentChecks
from cases_04 import CASES

TAKEN = """# TASK 3 (4 points): three layers in one
from course_lib.open_unmix import SpectrogramEncoder

def folded(shift, scale, V, norm):
    bins, channels = len(shift), V.shape[1] // len(shift)
    encoder = SpectrogramEncoder(bins, channels, len(V), nb_layers=1, unidirectional=True)
    encoder.set_input_statistics(-shift, 1 / scale)
    encoder.fc1.weight.data, encoder.bn1 = V.clone(), copy.deepcopy(norm).eval()
    def layers(x):
        x = (x.unflatten(-1, (channels, bins)) + encoder.input_mean) * encoder.input_scale
        return encoder.bn1(encoder.fc1(x.flatten(-2))).detach()
    b = layers(torch.zeros(1, V.shape[1]))[0]
    return (layers(torch.eye(V.shape[1])) - b).T, b
"""


class TestAssignment04(AssignmentChecks):
    source, cases, points = "04_open_unmix", CASES, 30
    rubric_words = "comes from sharing"
    taken = 3, TAKEN

    def test_what_is_taken_would_be_right(self):
        """The answer that doesn't count is caught for where it comes from, not for what it gives."""
        names = {"torch": torch, "copy": copy}
        exec(TAKEN, names)
        norm = torch.nn.BatchNorm1d(3)
        V = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
        W, b = names["folded"](torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0]), V, norm)
        assert torch.allclose(W, V * torch.tensor([0.5, 3.0, 0.5, 3.0]), rtol=1e-3, atol=1e-4)
        assert torch.allclose(b, V @ torch.tensor([0.5, 6.0, 0.5, 6.0]), rtol=1e-3, atol=1e-4)

    def test_experiment_shows_that_sharing_mends_what_wrong_magnitudes_break(self):
        """Task 6 can be answered with its cell: one note a source, and magnitudes that are off."""
        names = {"torch": torch}
        exec(self.given_cell("# EXPERIMENT"), names)
        sources = torch.randn(2, 2, 30000, generator=torch.Generator().manual_seed(0))
        sources[0, 1], sources[1, 0] = 0.1 * sources[0, 0], 0.1 * sources[1, 1]            # one on the left, one on the right
        scores = {setting: names["sdr_of_stand_in"](sources, 6.0, *setting) for setting in ((0, False), (0, True), (1, False))}
        assert scores[0, True] > scores[0, False] + 3
        assert scores[1, False] > scores[0, True] + 2
        sources[1] = 0                                                                     # silence has no score
        assert names["sdr_of_stand_in"](sources, 0.0, 0) > 60
