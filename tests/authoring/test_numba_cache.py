"""numba's cache is filled before two processes fill it at once."""

import inspect
import re
import subprocess
import sys

import librosa.beat
import librosa.core.audio
import librosa.core.pitch
import librosa.util.utils
import pytest

from course_lib.authoring.numba_cache import fill_numba_cache

LOOPS = (librosa.beat, librosa.core.audio, librosa.core.pitch, librosa.util.utils)
PYIN = """
import librosa, numpy
librosa.pyin(numpy.sin(0.1 * numpy.arange(8192)), fmin=200, fmax=800, sr=22050)
librosa.beat.beat_track(y=numpy.random.default_rng(0).normal(size=22050), sr=22050)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numba")
    fill_numba_cache(folder)
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*.nb[ic]")}


def test_every_compiled_ufunc_is_in_the_cache(cache):
    cached = [module for module in LOOPS
              for decorator in re.findall(r"@(?:numba\.)?guvectorize\(.*?\n\s*def ", inspect.getsource(module), re.S)
              if "cache=True" in decorator]
    assert len(cached) > 5
    assert len(list(cache.rglob("guf-*.nbi"))) == len(cached)


def test_two_processes_read_it_and_write_no_ufunc(cache, monkeypatch):
    before = {path: data for path, data in contents(cache).items() if path.name.startswith("guf-")}
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache))
    readers = [subprocess.Popen([sys.executable, "-c", PYIN]) for _ in range(2)]
    assert [reader.wait(timeout=300) for reader in readers] == [0, 0]
    after = contents(cache)
    assert before and all(after[path] == data for path, data in before.items())


def test_a_filled_cache_is_left_as_it_is(cache):
    before = contents(cache)
    fill_numba_cache(cache)
    assert contents(cache) == before
