"""What may be computed with: tensors of floats, and a message that says how to come by them."""

import numpy as np
import pytest
import torch

from course_lib import classic, spectral
from course_lib.audio import check_audio, check_tensors


def test_tensors_of_floats_pass_whatever_their_precision():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        check_audio(x=torch.zeros(2, 3, dtype=dtype), y=torch.nn.Parameter(torch.zeros(1)))
    check_tensors(X=torch.zeros(2, dtype=torch.complex64), labels=torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("given, said", [
    (np.zeros((400, 2)), r"references is a numpy\.ndarray of float64 \(400, 2\); .* torch\.from_numpy\(references\)"),
    ([0.0, 1.0], r"references is a list; expected a torch tensor"),
    (None, r"references is a NoneType; expected a torch tensor"),
])
def test_anything_else_is_refused_by_name(given, said):
    with pytest.raises(ValueError, match=said):
        check_audio(estimates=torch.zeros(2), references=given)


@pytest.mark.parametrize("dtype, hint", [(torch.int16, r" \(16-bit integers: x / 32768\)"), (torch.int64, ""),
                                         (torch.bool, ""), (torch.complex64, "")])
def test_tensors_that_are_no_audio_are_refused(dtype, hint):
    with pytest.raises(ValueError, match=rf"x is {dtype}; expected real floats in \[-1, 1\]" + hint):
        check_audio(x=torch.zeros(2, dtype=dtype))


# ---- the rule where the library computes

ARRAY = np.zeros((2, 4096), np.float32)
REFUSALS = {
    "frame": lambda: spectral.frame(ARRAY, 512, 128), "stft": lambda: spectral.stft(ARRAY),
    "istft": lambda: spectral.istft(ARRAY + 0j), "amplitude_to_db": lambda: spectral.amplitude_to_db(ARRAY),
    "mel_spectrogram": lambda: spectral.mel_spectrogram(ARRAY, 44100),
    "apply_mask": lambda: spectral.apply_mask(ARRAY[None, None], ARRAY[None]),
    "ideal_ratio_mask": lambda: spectral.ideal_ratio_mask(ARRAY[None, None]),
    "framewise_sdr": lambda: spectral.framewise_sdr(ARRAY[None], ARRAY[None], 44100, 0.05),
    "median_filter": lambda: classic.median_filter(ARRAY, 3), "hpss": lambda: classic.hpss(ARRAY),
    "soft_mask": lambda: classic.soft_mask(ARRAY, ARRAY), "nmf": lambda: classic.nmf(ARRAY, 2),
    "separate_unsupervised": lambda: classic.separate_unsupervised(ARRAY, 44100),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_arrays_are_refused_with_the_line_that_converts_them(name):
    with pytest.raises(ValueError, match=r"is a numpy\.ndarray of .*pass torch\.from_numpy"):
        REFUSALS[name]()
