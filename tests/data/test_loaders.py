"""Training chunks: the same whatever prepares them, from where they should come, augmented as they should be."""

import pickle

import pytest
import torch
from torch import Generator

from course_lib.data import SIX_STEMS, STEMS, RandomChunks, Remix, Track, batches, open_tracks
from course_lib.data.augmentation import Augmentation, Repitch, flip_polarity, random_gain, remix, swap_channels
from course_lib.data.loaders import chunk_generator
from course_lib.demucs import repitch
from tests.song_folders import write_set, write_song


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Six songs of one second on disk, 8 kHz, of different lengths."""
    root = tmp_path_factory.mktemp("songs")
    for number in range(6):
        write_song(root / f"song {number}", seed=number, frames=8000 + 100 * number)
    return open_tracks("folder", root=root)


def labelled_tracks(count: int = 5, seconds: int = 4, rate: int = 100) -> list[Track]:
    """Tracks whose samples say where they come from: 1000 * track + 100 * stem + time in seconds."""
    time = torch.arange(seconds * rate).expand(2, -1) / rate
    return [Track.from_tensors(f"track {t}", rate, {stem: 1000. * t + 100 * s + time for s, stem in enumerate(STEMS)})
            for t in range(count)]


# ---- one chunk

def test_a_chunk_holds_the_stems_of_one_place(songs):
    chunks = RandomChunks(songs, seconds=0.25, length=50, seed=3)
    assert len(chunks) == 50 and chunks[0].shape == (4, 2, 2000)
    for index in (0, 7, 49):
        place, = set(chunks.places(index))
        assert torch.equal(chunks[index], songs[place.track].sources(STEMS, place.start, 2000))
    two = RandomChunks(songs, seconds=0.25, length=50, seed=3, stems=("vocals", "drums"))
    assert torch.equal(two[7], chunks[7][[3, 0]])


def test_a_chunk_is_a_function_of_seed_and_number_alone(songs):
    for make in (RandomChunks, Remix):
        chunks = make(songs, 0.1, 100, seed=5)
        forwards = [chunks[i] for i in range(20)]
        torch.rand(3)                                                # the global generator has no part in it
        longer = make(songs, 0.1, 1000, seed=5)
        assert all(torch.equal(longer[i], forwards[i]) for i in reversed(range(20)))
        assert not any(torch.equal(make(songs, 0.1, 100, seed=6)[i], forwards[i]) for i in range(20))
        assert len({tuple(chunks.places(i)) for i in range(100)}) == 100


def test_generators_of_neighbouring_numbers_share_nothing():
    def draw(*numbers: int) -> torch.Tensor:
        return torch.rand(50, generator=chunk_generator(*numbers))

    draws = torch.stack([draw(seed, number) for seed in range(4) for number in range(50)])
    assert torch.equal(draws[0], draw(0, 0)) and not torch.equal(draw(1, 2), draw(2, 1))
    correlation = torch.corrcoef(draws).fill_diagonal_(0)
    assert correlation.abs().max() < 0.65 and abs(float(draws.mean()) - 0.5) < 0.02


def test_all_tracks_and_all_places_are_drawn():
    chunks = RandomChunks(labelled_tracks(), seconds=1, length=4000, seed=0)
    places = [chunks.places(i)[0] for i in range(4000)]
    counts = torch.bincount(torch.tensor([place.track for place in places]))
    assert len(counts) == 5 and counts.min() > 700 and counts.max() < 900         # 800 each, sd 25
    starts = torch.bincount(torch.tensor([place.start for place in places]))
    assert len(starts) == 301 and starts.min() >= 1                               # the last place is 4 s - 1 s


def test_a_track_as_long_as_a_chunk_has_one_place():
    assert RandomChunks(labelled_tracks(), seconds=4, length=9, seed=0).places(3)[0].start == 0


def test_silence_is_a_chunk_like_any_other():
    quiet = Track.from_tensors("quiet", 100, {stem: torch.zeros(2, 200) for stem in STEMS})
    assert not RandomChunks([quiet], 1, 5, 0, augment=Augmentation())[2].any()


@pytest.mark.parametrize("make", [RandomChunks, Remix])
def test_six_stems_count_no_sound_twice(tmp_path, make):
    write_set(tmp_path, "abcdefg", frames=400, six_stems=True)
    (tracks := open_tracks("folder", root=tmp_path))
    options = {"group": 7, "augment": None} if make is Remix else {}
    chunks = make(tracks, 0.01, 10, 1, stems=SIX_STEMS, **options)
    for place, stem, source in zip(chunks.places(4), SIX_STEMS, chunks[4]):
        whole = tracks[place.track].sources(SIX_STEMS, place.start, 80)
        assert torch.equal(source, whole[SIX_STEMS.index(stem)])


# ---- remix

def test_every_source_of_a_remix_comes_from_another_song_and_is_used_once():
    chunks = Remix(labelled_tracks(), seconds=1, length=40, seed=2, group=4, augment=None)
    for first in range(0, 40, 4):
        group = torch.stack([chunks[i] for i in range(first, first + 4)])[:, :, 0, 0]     # (chunk, source)
        tracks = (group // 1000).int()
        assert (group // 100 % 10 == torch.arange(4)).all()                               # each stem in its place
        assert all(len(set(row.tolist())) == 4 for row in tracks)                         # four songs in each chunk
        places = [len(set(column.tolist())) for column in (group - 100 * torch.arange(4)).T]
        assert places == [4, 4, 4, 4]                                                     # each place used once a stem
        assert len({frozenset(column.tolist()) for column in tracks.T}) == 1
    pairs = {tuple(p.track for p in chunks.places(i))[:2] for i in range(40)}
    assert len(pairs) > 12                                                                # of 20 possible


def test_a_remix_is_augmented_within_its_bounds():
    ones = [Track.from_tensors(str(t), 100, {stem: torch.tensor([[1.], [2.]]).expand(2, 100) for stem in STEMS})
            for t in range(4)]
    chunks = Remix(ones, seconds=1, length=800, seed=0)
    values = torch.stack([chunks[i][:, :, 0] for i in range(800)])                        # (chunk, source, channel)
    swapped = values[..., 0].abs() > values[..., 1].abs()
    gain = values.abs().amin(-1)
    assert torch.allclose(values.abs().amax(-1), 2 * gain)
    assert 0.25 <= gain.min() < 0.26 and 1.24 < gain.max() <= 1.25 and abs(float(gain.mean()) - 0.75) < 0.03
    assert all(abs(float(drawn.float().mean()) - 0.5) < 0.05 for drawn in (swapped, values[..., 0] < 0))
    assert abs(float(torch.corrcoef(torch.stack([gain[:, 0], gain[:, 1]]))[0, 1])) < 0.15   # each source on its own


# ---- another pitch and tempo

RATE = 8000


def tones(seconds: float = 3.0, count: int = 4, stems=STEMS) -> list[Track]:
    """Tracks whose stems are a tone of 440 Hz at different levels."""
    tone = torch.sin(2 * torch.pi * 440 / RATE * torch.arange(round(seconds * RATE)))
    return [Track.from_tensors(f"tone {t}", RATE, {stem: tone.expand(2, -1) * (s + 1) / 8
                                                   for s, stem in enumerate(stems)}) for t in range(count)]


def hertz(y: torch.Tensor) -> float:
    """The strongest frequency of y (channels, time), to a hertz."""
    spectrum = torch.fft.rfft(y[0] * torch.hann_window(y.shape[-1]), 16 * RATE).abs()
    return float(spectrum.argmax()) / 16


def test_a_tone_comes_out_within_two_semitones_and_every_chunk_is_full():
    found = set()
    for make in (RandomChunks, Remix):
        chunks = make(tones(), 1, 20, seed=1, augment=None, repitch=Repitch(repitch, share=1.0))
        for index in range(8):
            chunk, places = chunks[index], chunks.places(index)
            assert chunk.shape == (4, 2, RATE) and chunk.isfinite().all()
            for source, (level, place) in zip(chunk, enumerate(places)):
                assert abs(12 * torch.log2(torch.tensor(hertz(source) / 440)) - place.semitones) < 0.25
                assert source[:, -400:].square().mean().sqrt() > 0.5 * (level + 1) / 8 * 0.5 ** 0.5    # to its end
                found.add(place.semitones)
            if make is RandomChunks:                                # one place: all sources alike, only their levels
                assert len(set(places)) == 1
                assert torch.allclose(chunk[0] * 4, chunk[3], atol=1e-5)
            else:
                assert len({place.track for place in places}) == 4
    assert found == {-2, -1, 0, 1, 2}


def test_faster_places_read_more_and_lie_inside_their_track():
    chunks = RandomChunks(tones(1.3), 1, 3000, seed=0, repitch=Repitch(repitch))
    places = [chunks.places(i)[0] for i in range(3000)]
    moved = [place for place in places if (place.semitones, place.tempo) != (0, 1.0)]
    assert 0.17 < len(moved) / 3000 < 0.23                                        # a fifth, sd 0.007
    tempi = torch.tensor([place.tempo for place in moved])
    assert 0.88 <= tempi.min() < 0.9 and 1.1 < tempi.max() <= 1.12 and 0.04 < tempi.std() < 0.06
    assert all(place.start + chunks._frames_read(place) <= round(1.3 * RATE) for place in places)
    assert all(chunks._frames_read(place) >= RATE * place.tempo for place in moved)


def test_moved_chunks_are_a_function_of_seed_and_number():
    make = lambda seed, length=20: Remix(tones(), 0.5, length, seed, repitch=Repitch(repitch, 0.5))
    chunks = make(5)
    forwards = [chunks[i] for i in range(5)]
    assert all(torch.equal(make(5, 100)[i], forwards[i]) for i in reversed(range(5)))
    assert not any(torch.equal(make(6)[i], forwards[i]) for i in range(5))
    parallel = [batch for batch in batches(chunks, 5, workers=2, context="thread")]
    assert torch.equal(parallel[0], torch.stack(forwards))


def test_without_its_share_nothing_is_moved(songs):
    still = RandomChunks(songs, 0.25, 9, 0, repitch=Repitch(repitch, share=0.0))
    assert all(place[2:] == (0, 1.0) for i in range(9) for place in still.places(i))
    (place,) = set(still.places(3))
    assert torch.equal(still[3], songs[place.track].sources(STEMS, place.start, 2000))


def test_a_song_as_long_as_a_chunk_is_moved_too_and_silence_stays_silent():
    short = RandomChunks(tones(1.0), 1, 20, seed=2, repitch=Repitch(repitch, share=1.0))
    assert all(place.tempo < 1 and place.start + short._frames_read(place) <= RATE
               for i in range(20) for place in short.places(i))
    assert all(short[i][3, :, -400:].square().mean() > 0.05 for i in range(4))
    quiet = Track.from_tensors("quiet", RATE, {stem: torch.zeros(2, 9000) for stem in STEMS})
    assert not RandomChunks([quiet], 1, 5, 0, repitch=Repitch(repitch, 1.0))[2].any()


def test_other_is_without_guitar_and_piano_before_it_is_moved():
    parts = dict(zip(SIX_STEMS, torch.eye(6).repeat_interleave(2, 0).view(6, 2, 6).repeat(1, 1, 2000)))
    parts["other"] = parts["other"] + parts["guitar"] + parts["piano"]
    seen = []
    def kept(pieces, semitones, tempo):
        seen.append(pieces.clone())
        return repitch(pieces, semitones, tempo)
    track = Track.from_tensors("six", RATE, parts)
    assert RandomChunks([track], 1, 3, 0, stems=SIX_STEMS, repitch=Repitch(kept, 1.0))[0].shape == (6, 2, RATE)
    assert seen[0].shape[0] == 6 and torch.equal(seen[0].sum(0), torch.ones_like(seen[0][0]))


@pytest.mark.parametrize(("options", "message"), [
    (dict(move=None), "move is None"), (dict(share=1.5), "share is 1.5"), (dict(tempo=-0.1), "tempo -0.1"),
    (dict(limit=1.0), "limit 1.0"), (dict(semitones=0.5), "semitones is 0.5"), (dict(semitones=-1), "semitones is -1")])
def test_a_repitch_out_of_bounds_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Repitch(**{"move": repitch, **options})


# ---- batches

def collect(loader) -> list[torch.Tensor]:
    return [batch.clone() for batch in loader]


@pytest.mark.parametrize("workers, context", [(1, "fork"), (2, "fork"), (1, "spawn"), (2, "thread")])
def test_workers_change_nothing(songs, workers, context):
    import multiprocessing
    if context not in ("thread", *multiprocessing.get_all_start_methods()):
        pytest.skip(f"this platform cannot start processes by {context}")
    chunks = Remix(songs, 0.1, 26, seed=1)
    alone = collect(batches(chunks, 4))
    assert len(alone) == 6 and alone[0].shape == (4, 4, 2, 800)
    assert all(torch.equal(batch[k], chunks[4 * b + k]) for b, batch in enumerate(alone) for k in range(4))
    shared = collect(batches(chunks, 4, workers=workers, context=context))
    assert len(shared) == 6 and all(map(torch.equal, alone, shared))


def test_torch_loads_the_chunks_as_any_data_set(songs):
    chunks = RandomChunks(songs, 0.1, 9, seed=1)
    loader = torch.utils.data.DataLoader(chunks, batch_size=4)
    assert torch.equal(next(iter(loader)), next(iter(batches(chunks, 4)))) and len(loader) == 3


def test_threads_stop_when_no_more_batches_are_taken(songs):
    made = []

    class Counted(RandomChunks):
        def batch(self, indices):
            made.append(indices)
            return super().batch(indices)

    loader = batches(Counted(songs, 0.1, 400, seed=1), 4, workers=2, context="thread")
    first = next(iter(loader))
    assert len(loader) == 100 and first.shape == (4, 4, 2, 800) and len(made) <= 5


def test_an_interrupted_epoch_goes_on_with_the_same_batches(songs):
    chunks = RandomChunks(songs, 0.1, 24, seed=1, augment=Augmentation())
    whole = collect(batches(chunks, 4))
    rest = batches(chunks, 4, start=4)
    assert len(rest) == 2 and all(map(torch.equal, whole[4:], collect(rest)))


def test_loading_leaves_the_global_generator_alone(songs):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    collect(batches(Remix(songs, 0.1, 8, seed=1), 4))
    assert torch.equal(torch.rand(3), expected)


def test_a_data_set_can_be_sent_to_another_process(songs):
    chunks = Remix([track.resampled(4000) for track in songs], 0.1, 8, seed=1)
    assert torch.equal(pickle.loads(pickle.dumps(chunks))[5], chunks[5])


@pytest.mark.parametrize("arguments, message", [
    ({"tracks": []}, "0 tracks and 4 stems"), ({"stems": ()}, "5 tracks and 0 stems"),
    ({"seconds": 0}, "seconds is 0"), ({"seconds": 5}, "'track 0' lasts 4.00 s, less than a chunk of 5 s"),
    ({"length": 0}, "length is 0"), ({"seed": -1}, "seed -1"),
    ({"stems": ("drums", "choir")}, "has no choir; it has drums"),
])
def test_chunks_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomChunks(**{"tracks": labelled_tracks(), "seconds": 1, "length": 10, "seed": 0, **arguments})


def test_tracks_that_do_not_fit_together_are_refused():
    odd = labelled_tracks(1, rate=200)
    with pytest.raises(ValueError, match="'track 0' has 200 Hz and 2 channels, 'track 0' 100 Hz and 2; open"):
        RandomChunks(labelled_tracks() + odd, 1, 10, 0)
    with pytest.raises(ValueError, match="group is 4; for 4 stems, each from another song, and 3 tracks it must"):
        Remix(labelled_tracks(3), 1, 10, 0)
    with pytest.raises(ValueError, match="group is 3; for 4 stems"):
        Remix(labelled_tracks(5), 1, 10, 0, group=3)


def test_batches_and_chunks_that_are_not_there_are_refused(songs):
    chunks = RandomChunks(songs, 0.1, 10, 0)
    for batch_size, start in ((0, 0), (11, 0), (5, 2), (5, -1)):
        with pytest.raises(ValueError, match="expected at least one batch"):
            batches(chunks, batch_size, start=start)
    with pytest.raises(IndexError, match="chunk 10 asked; there are 10"):
        chunks[10]
    with pytest.raises(ValueError, match="workers is 1 and context .threads.; expected"):
        batches(chunks, 2, workers=1, context="threads")


# ---- augmentation

@pytest.fixture
def sources():
    """(batch, sources, channels, time)"""
    return torch.randn(8, 4, 2, 50, generator=Generator().manual_seed(0))


def test_gain_is_one_factor_a_source(sources):
    ratio = random_gain(sources, 0.5, 2.0, Generator().manual_seed(1)) / sources
    factors = ratio[..., :1, :1]
    torch.testing.assert_close(ratio, factors.expand_as(ratio))
    assert 0.5 <= factors.min() and factors.max() <= 2.0 and len(factors.unique()) > 30


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_polarity_and_channels_change_with_their_probability(sources, probability):
    flipped = flip_polarity(sources, probability, Generator().manual_seed(1))
    signs = (flipped / sources)[..., 0, 0]
    assert torch.equal(flipped, sources * signs[..., None, None])
    swapped = swap_channels(sources, probability, Generator().manual_seed(1))
    drawn = (swapped != sources).flatten(2).any(2)
    assert torch.equal(swapped, torch.where(drawn[..., None, None], sources.flip(-2), sources))
    for share in ((signs < 0).float().mean(), drawn.float().mean()):
        assert share == probability if probability in (0, 1) else 0.2 < share < 0.8


def test_a_mono_source_has_no_channels_to_swap(sources):
    assert torch.equal(swap_channels(sources[:, :, :1], 1.0, Generator()), sources[:, :, :1])


def test_augmentation_is_its_three_parts_in_place(sources):
    generator, together = Generator().manual_seed(3), sources.clone()
    result = Augmentation((0.5, 1.5), flip=0.4, swap=0.6)(together, Generator().manual_seed(3))
    by_parts = random_gain(sources, 0.5, 1.5, generator)
    by_parts = swap_channels(flip_polarity(by_parts, 0.4, generator), 0.6, generator)
    assert result is together and torch.equal(result, by_parts)


@pytest.mark.parametrize("options, message", [
    ({"gain": (1.0, 0.5)}, "gain is"), ({"gain": (-1.0, 0.5)}, "gain is"), ({"flip": 1.5}, "flip is 1.5"),
    ({"swap": -1}, "swap is -1"),
])
def test_an_augmentation_out_of_bounds_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


def test_remix_shuffles_each_source_within_its_group():
    songs = torch.arange(8.).repeat_interleave(4).view(8, 4, 1, 1) * 10 + torch.arange(4.).view(4, 1, 1)
    mixed = remix(songs, 4, Generator().manual_seed(0)).squeeze()
    assert (mixed % 10 == torch.arange(4)).all()                                          # each stem stays in its place
    for first in (0, 4):
        assert torch.equal(mixed[first:first + 4].sort(0).values, songs[first:first + 4].squeeze())
    assert not torch.equal(mixed, songs.squeeze()) and torch.equal(remix(songs, 1, Generator()), songs)
    with pytest.raises(ValueError, match="group is 3; expected a divisor of the batch, which holds 8"):
        remix(songs, 3, Generator())


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_chunks_of_no_finite_length_are_refused(seconds):
    with pytest.raises(ValueError, match="seconds is (nan|inf); expected a positive length"):
        RandomChunks([Track.from_tensors("t", 8000, {"drums": torch.zeros(1, 10)})], seconds, 1, 0, ("drums",))
