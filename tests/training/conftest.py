"""Songs for the training tests."""

import pytest
from song_folders import write_set


@pytest.fixture(scope="session")
def songs(tmp_path_factory):
    """Five short songs of noise, as a folder."""
    root = tmp_path_factory.mktemp("songs")
    write_set(root, "ABCDE", frames=4000)
    return root
