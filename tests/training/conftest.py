"""Songs for the training tests."""

import pytest
import torch

from tests.song_folders import write_set


@pytest.fixture(scope="session")
def songs(tmp_path_factory):
    """Five short songs of noise, as a folder."""
    root = tmp_path_factory.mktemp("songs")
    write_set(root, "ABCDE", frames=4000)
    return root


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Weights are compared to the last bit, here and in other processes: sums must be taken in one order everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
