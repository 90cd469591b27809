"""A cache of stems: the same audio, within its limit, each stem read once."""

import pickle

import pytest
import torch

from course_lib.data import Track
from course_lib.data.stem_readers import FromTensor, StemCache


def test_a_cache_gives_the_same_audio_within_its_limit_and_reads_once(tmp_path):
    reads = []                                                       # samples asked from the stems, one entry a time

    class Counted(FromTensor):
        def read_into(self, start, out):
            reads.append(out.shape[1])
            super().read_into(start, out)

    exact = torch.randint(-32768, 32768, (1, 1000), generator=torch.Generator().manual_seed(0)) / 32768
    finer = torch.rand(1, 1000, generator=torch.Generator().manual_seed(1))
    cache = StemCache(7e-3)                                 # 7000 bytes: 2000 go to 16-bit values, 4000 to others
    stems = {"drums": Counted(exact), "bass": Counted(finer), "other": Counted(finer)}
    track = Track("t", 8000, 1000, 1, stems).cached(cache)
    for _ in range(2):
        assert torch.equal(track["drums"], exact) and torch.equal(track.read("bass", 10, 20), finer[:, 10:30])
    assert reads == [1000, 1000] and cache.bytes_held == 6000
    for _ in range(2):
        assert torch.equal(track.read("other", 5, 6), finer[:, 5:11])
    assert reads == [1000, 1000, 1000, 6] and cache.bytes_held == 6000   # did not fit: from then on only the piece
    assert pickle.loads(pickle.dumps(cache)).bytes_held == 0             # another process fills its own
    with pytest.raises(ValueError, match="cache's limit is 0 MB"):
        StemCache(0)
