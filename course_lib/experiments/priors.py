"""Chapter 12's priors of the band: the codes they learn from, how they are scored, and what they can do.

    course train priors_band_top        the top level (hop 128): style, tempo, instruments and sung syllables as labels
    course train priors_band_up         the level beneath (hop 32), given the top level's codes
    course experiment priors            what the trained ones cost in bits, and whether they do what they are asked

Codes come from chapter 11's small codec, CODEC, and are kept in data/training/priors: a song of 20 s has 3445 codes at
the top. Training windows begin anywhere; their letters are those sung around the window's middle.
"""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from course_lib.data import Track, open_tracks
from course_lib.data.band import compose
from course_lib.data.band.labels import label_numbers, lyrics_of, words_of
from course_lib.data.mono import mono_tracks
from course_lib.data.resampling import resample
from course_lib.experiments.demucs import RATE, songs_of
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.taggers import RATE as TAGGER_RATE
from course_lib.experiments.taggers import activity
from course_lib.paths import data_dir
from course_lib.priors import (
    SimplePrior,
    get_relevant_lyric_tokens,
    prior_loss,
    sample_levels,
)
from course_lib.progress import progress
from course_lib.results import machine
from course_lib.training import load_trained

TOPIC = "12_priors_and_sampling"
CODEC, TOP, UPSAMPLER, TAGGER = "jukebox_band", "priors_band_top", "priors_band_up", "tagger_band"     # checkpoints
SONG_SECONDS = 20.0


@dataclass(frozen=True)
class CodedSong:
    """A song as a prior sees it: codes by level, finest first, (time,) each; its labels; letters and their times.

    samples: of its audio; times: in samples.
    """

    name: str
    codes: tuple[Tensor, ...]
    samples: int
    labels: tuple[int, ...]
    letters: tuple[int, ...]
    times: tuple[float, ...]

    def labels_from(self, offset: int = 0, length: int = 0) -> Tensor:
        """Total length, offset and length in samples, style, words: (4 + words,)."""
        return torch.tensor([self.samples, offset, length, *self.labels])


# ------------------------------------------------------------------------------------------------------------ the data


@torch.no_grad()
def encoded(codec: torch.nn.Module, mixture: Tensor) -> tuple[Tensor, ...]:
    """Codes of a mono mixture (1, time) by level, finest first; what is left of the last top code is cut off."""
    hop = top_hop(codec)
    whole = mixture[:, :mixture.shape[-1] // hop * hop]
    if not whole.shape[-1]:
        raise ValueError(f"mixture has {mixture.shape[-1]} samples; expected at least {hop}, one code of the top level")
    return tuple(codes[0].long() for codes in codec.encode(whole[None]))


def top_hop(codec: torch.nn.Module) -> int:
    """Samples of a code of the top level, from what the codec gives for a second of silence."""
    probe = 8192
    return probe // codec.encode(torch.zeros(1, 1, probe))[-1].shape[-1]


def coded_song(track: Track, codec: torch.nn.Module) -> CodedSong:
    """A song of the band, encoded. Its labels and lyrics are composed again from the seed in its name."""
    seed = seed_of(track.name)
    song = compose(seed, SONG_SECONDS)
    letters, times = lyrics_of(song)
    codes = encoded(codec, track.mixture)
    return CodedSong(track.name, codes, track.frames, tuple(label_numbers(song.style, words_of(song))), tuple(letters),
                     tuple(t * track.rate for t in times))


def seed_of(name: str) -> int:
    """The seed of a song of the band from its name, such as "Rock 210 - A minor"; ValueError for another name."""
    numbers = [word for word in name.split(" - ")[0].split() if word.isdigit()]
    if len(numbers) != 1:
        raise ValueError(f"{name!r} names no seed; expected a song of the band, such as 'Rock 210 - A minor'")
    return int(numbers[0])


def coded_songs(tracks: Sequence[Track], codec: torch.nn.Module, file: Path | None = None) -> list[CodedSong]:
    """Songs of the band, encoded. file: a .pt that keeps them; where it is there nothing is encoded."""
    if file is not None and file.is_file():
        return [CodedSong(**song) for song in torch.load(file, weights_only=True)]
    songs = [coded_song(track, codec) for track in progress(tracks, "encoding songs")]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        torch.save([vars(song) for song in songs], unfinished)
        unfinished.replace(file)
    return songs


def band_codes(split: str, count: int, codec: str = CODEC) -> list[CodedSong]:
    """The first songs of a split of the band, or of its `further` songs, encoded by a trained codec and kept."""
    network = load_trained(codec)
    digest = hashlib.sha256(str(network.card["sha256"]).encode()).hexdigest()[:8]
    file = data_dir() / "training" / "priors" / f"{split}_{count}_{codec}-{digest}.pt"
    if file.is_file():
        return coded_songs([], network, file)
    audio = data_dir() / "training" / "demucs"                        # the mono songs of chapters 6 to 8
    if split == "further":
        seeds = range(1000, 1000 + count)
        tracks = mono_tracks(lambda: open_tracks("band", "further", seeds=seeds), RATE, SONG_SECONDS,
                             audio / f"further_{count}_20s_{RATE}Hz.npy")
    else:
        tracks = songs_of(split, count, SONG_SECONDS, audio)
    return coded_songs(tracks, network, file)


class CodeWindows(Dataset):
    """Random windows of coded songs, item i a pure function of (seed, i).

    level: of the codes, 0 the finest; ratio: codes for one of the level above (None at the top); n_ctx: codes of a
    window, hop: samples of one. n_tokens: letters (0: none), those sung around the window's middle, or, with aligned
    False, those that would be if letters passed evenly. An item: z (n_ctx,), y (4 + words + n_tokens,), and above
    (n_ctx / ratio,) where there is a level above. ValueError where a song is shorter than a window.
    """

    def __init__(self, songs: Sequence[CodedSong], length: int, seed: int, level: int, n_ctx: int, hop: int,
                 ratio: int | None = None, n_tokens: int = 0, aligned: bool = True):
        for song in songs:
            if len(song.codes[level]) < n_ctx:
                raise ValueError(f"{song.name} has {len(song.codes[level])} codes of level {level}; expected at least "
                                 f"{n_ctx}, a window")
        self.songs, self.length, self.seed, self.level = list(songs), length, seed, level
        self.n_ctx, self.hop, self.ratio = n_ctx, hop, ratio
        self.n_tokens, self.aligned = n_tokens, aligned

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, index])
        song = self.songs[rng.integers(len(self.songs))]
        step = self.ratio or 1
        start = step * int(rng.integers((len(song.codes[self.level]) - self.n_ctx) // step + 1))
        return self.window(song, start)

    def window(self, song: CodedSong, start: int) -> dict[str, Tensor]:
        """The window of a song that begins at code `start`."""
        offset, length = start * self.hop, self.n_ctx * self.hop
        y = song.labels_from(offset, length)
        if self.n_tokens:
            letters, _ = get_relevant_lyric_tokens(song.letters, self.n_tokens, song.samples, offset, length,
                                                   song.times if self.aligned else None)
            y = torch.cat([y, torch.tensor(letters)])
        item = {"z": song.codes[self.level][start:start + self.n_ctx], "y": y}
        if self.ratio:
            item["above"] = song.codes[self.level + 1][start // self.ratio:(start + self.n_ctx) // self.ratio]
        return item


def training_codes(seed: int, length: int, level: int, n_ctx: int, hop: int, ratio: int | None = None,
                   n_tokens: int = 0, aligned: bool = True, songs: int = 60, further: int = 240,
                   codec: str = CODEC) -> CodeWindows:
    """The training data of `course train priors_band_top` and `priors_band_up`: windows of the band's train songs and
    of further ones."""
    known = band_codes("train", songs, codec) + (band_codes("further", further, codec) if further else [])
    return CodeWindows(known, length, seed, level, n_ctx, hop, ratio, n_tokens, aligned)


def valid_codes(level: int, n_ctx: int, hop: int, ratio: int | None = None, n_tokens: int = 0, aligned: bool = True,
                songs: int = 12, codec: str = CODEC) -> CodeWindows:
    """Windows of the band's validation songs, for `code_scores`."""
    return CodeWindows(band_codes("valid", songs, codec), 1, 0, level, n_ctx, hop, ratio, n_tokens, aligned)


class CodeStep:
    """What a batch of `CodeWindows` costs: loss (eq. 12.4), and bits per code and per letter (chapter 12)."""

    def __call__(self, model: torch.nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = model(batch["z"], [batch["above"]] if "above" in batch else [], batch["y"])
        return {"loss": found["loss"], "code_bits": found["gen_loss"], "letter_bits": found["prime_loss"]}


def code_scores(model: SimplePrior, data: CodeWindows) -> dict[str, float]:
    """Bits per code of all whole windows of each song, one after the other; the mean over songs."""
    return {"bits": float(np.mean([song_bits(model, data, song) for song in data.songs]))}


@torch.no_grad()
def song_bits(model: SimplePrior, data: CodeWindows, song: CodedSong, change=lambda item: item) -> float:
    """Bits per code of a song in windows side by side. change: of an item, before the model gets it."""
    device, costs = next(model.parameters()).device, []
    for start in range(0, len(song.codes[data.level]) - data.n_ctx + 1, data.n_ctx):
        item = {name: value[None].to(device) for name, value in change(data.window(song, start)).items()}
        above = [item["above"]] if "above" in item else []
        costs.append(float(prior_loss(model, item["z"], above, item["y"])["gen_loss"]))
    return float(np.mean(costs))


# ---------------------------------------------------------------------------------------------------- what is measured


@dataclass(frozen=True)
class Sizes:
    """What the measurements share."""

    songs: int = 20                   # of the test split
    train_songs: int = 60             # for counting codes, and further ones: those that the priors learned from
    further_songs: int = 240
    prime_seconds: float = 6.0        # of a song that is continued, or whose codes are given
    new_seconds: float = 5.0
    temperature: float = 1.0
    top_p: float = 0.0                # a nucleus sinks into silence: section 12.13
    codec: str = CODEC
    top: str = TOP
    upsampler: str = UPSAMPLER
    tagger: str = TAGGER


@dataclass(frozen=True)
class Run:
    """One measurement."""

    measure: str


MEASURES = ("bits", "continued", "filled in", "asked")


def windows_for(model: SimplePrior, songs: Sequence[CodedSong]) -> CodeWindows:
    """Windows of songs as a prior takes them."""
    return CodeWindows(songs, 1, 0, model.level, model.n_ctx, model.raw_to_tokens, model.cond_downsample,
                       model.n_tokens)


def counted_bits(train: Sequence[CodedSong], song: CodedSong, level: int, bins: int) -> tuple[float, float]:
    """Bits per code of a song by the frequencies of codes and of pairs, 1 added to each count (of pairs: mixed with
    those of single codes, for most pairs are never seen)."""
    single = torch.ones(bins, dtype=torch.float64)
    pairs = torch.zeros(bins, bins, dtype=torch.float64)
    for one in train:
        z = one.codes[level]
        single += torch.bincount(z, minlength=bins)
        pairs += torch.bincount(z[:-1] * bins + z[1:], minlength=bins * bins).view(bins, bins)
    single = single / single.sum()
    seen, mass = pairs.sum(1, keepdim=True), 50.0                 # as much as 50 pairs for the single frequencies
    pairs = (pairs + mass * single) / (seen + mass)
    z = song.codes[level]
    return float(-single[z].log2().mean()), float(-pairs[z[:-1], z[1:]].log2().mean())


def measure_bits(work: Work) -> list[dict]:
    """Bits per code of every test song by each model, with the right labels and with others'."""
    sizes, test = work.settings, work.given["test"]
    rows = []
    for name in (sizes.top, sizes.upsampler):
        model = load_trained(name)
        data, others = windows_for(model, test), [*test[1:], test[0]]
        kept = 4 + len(test[0].labels) - 1
        for song, other in zip(progress(test, name), others):
            one, two = counted_bits(work.given["train"], song, model.level, model.l_bins)
            wrong = torch.tensor(other.labels)
            changes = {"model": lambda item: item, "labels of another song": lambda item: {
                **item, "y": torch.cat([item["y"][:3], wrong, item["y"][kept:]])}}
            if model.n_tokens:
                changes["letters of another song"] = lambda item: {**item, "y": torch.cat([
                    item["y"][:kept], other_letters(other, item["y"], model)])}
            if model.x_cond:
                top = other.codes[model.level + 1]
                changes["another song above"] = lambda item: {**item, "above": top[:len(item["above"])]}
            for method, value in {"unigram": one, "bigram": two, **{
                    method: song_bits(model, data, song, change) for method, change in changes.items()}}.items():
                rows.append({"prior": name, "song": song.name, "method": method, "bits": f"{value:.4f}"})
    return rows


def other_letters(song: CodedSong, y: Tensor, model: SimplePrior) -> Tensor:
    """The letters that another song has at the time of a window."""
    total, offset, length = map(int, y[:3])
    return torch.tensor(get_relevant_lyric_tokens(song.letters, model.n_tokens, total, offset, length, song.times)[0])


def chroma(audio: Tensor) -> np.ndarray:
    """The mean strength of the twelve pitch classes of audio (1, time), of norm 1."""
    import librosa

    mean = librosa.feature.chroma_cqt(y=audio[0].numpy(), sr=RATE).mean(1)
    return mean / max(np.linalg.norm(mean), 1e-8)


def timbre(audio: Tensor) -> np.ndarray:
    """The mean mel cepstrum of audio (1, time) without its level, 13 numbers."""
    import librosa

    return librosa.feature.mfcc(y=audio[0].numpy(), sr=RATE, n_mfcc=14).mean(1)[1:]


def tempo(audio: Tensor) -> float:
    """The tempo of audio (1, time) in beats per minute, by its onsets."""
    import librosa

    return float(librosa.feature.tempo(y=audio[0].numpy(), sr=RATE)[0])


def octaves_apart(one: float, two: float) -> float:
    """How far two tempi are apart, in octaves, halves and doubles counting as equal: 0 to 0.5."""
    distance = abs(math.log2(one / two)) % 1
    return min(distance, 1 - distance)


def tempo_distance(first: Tensor, second: Tensor) -> float:
    """How far the tempi of two pieces of audio are apart, in octaves: 0 to 0.5."""
    return octaves_apart(tempo(first), tempo(second))


def song_labels(songs: Sequence[CodedSong]) -> dict:
    """Labels of songs for `sample_level`."""
    return {"y": torch.stack([song.labels_from() for song in songs]), "letters": [list(song.letters) for song in songs],
            "times": [list(song.times) for song in songs]}


def drawn_levels(models: Sequence[SimplePrior], zs: Sequence[Tensor], seconds: float, labels: Mapping, sizes: Sizes,
                 seed: int) -> list[Tensor]:
    """Codes of a batch of songs up to `seconds`, drawn from the top down by `models`; zs as in `sample_levels`."""
    hop, generator = models[0].raw_to_tokens, torch.Generator().manual_seed(seed)
    ratio = max(model.cond_downsample or 1 for model in models)
    samples = round(seconds * RATE / hop) // ratio * ratio * hop
    return sample_levels({model.level: model for model in models}, zs, samples, labels, temp=sizes.temperature,
                         top_p=sizes.top_p, generator=generator, progress="drawing codes")


@torch.no_grad()
def heard(codec: torch.nn.Module, zs: Sequence[Tensor], level: int) -> Tensor:
    """Codes of a level as audio, (song, 1, time)."""
    return torch.cat([codec.decode(row[None], level=level) for row in zs[level]])


def with_next(rows: Sequence) -> list[tuple]:
    """Each item with the next one, the last with the first."""
    return list(zip(rows, [*rows[1:], rows[0]]))


def measure_continued(work: Work) -> list[dict]:
    """The beginning of each test song continued: does it keep key and tempo, compared with another song's? Beside it
    the true continuation, through the same codec."""
    sizes, test, codec = work.settings, work.given["test"], load_trained(work.settings.codec)
    model = load_trained(sizes.top)
    level, first = model.level, round(sizes.prime_seconds * RATE / model.raw_to_tokens)
    given = [torch.zeros(len(test), 0, dtype=torch.long) for _ in test[0].codes]
    given[level] = torch.stack([song.codes[level][:first] for song in test])
    drawn = drawn_levels([model], given, sizes.prime_seconds + sizes.new_seconds, song_labels(test), sizes, 0)
    played = [*given]
    played[level] = torch.stack([song.codes[level][:drawn[level].shape[1]] for song in test])
    rows, samples = [], first * model.raw_to_tokens
    for which, zs in (("drawn", drawn), ("played", played)):
        pieces = [(song, audio[:, :samples], audio[:, samples:]) for song, audio in zip(test, heard(codec, zs, level))]
        for (song, begin, after), (_, other, _) in with_next(pieces):
            rows += [{"song": song.name, "continuation": which, "beginning": name,
                      "chroma": f"{float(chroma(one) @ chroma(after)):.4f}",
                      "tempo_octaves": f"{tempo_distance(one, after):.4f}"}
                     for name, one in (("its own", begin), ("another song's", other))]
    return rows


def measure_filled_in(work: Work) -> list[dict]:
    """One top row, two draws of the upsampler, and draws for other top rows: likeness of chroma and of timbre."""
    sizes, test, codec = work.settings, work.given["test"], load_trained(work.settings.codec)
    model = load_trained(sizes.upsampler)
    draws = []
    for seed in range(2):
        zs = [torch.zeros(len(test), 0, dtype=torch.long) for _ in test[0].codes]
        zs[model.level + 1] = torch.stack([song.codes[model.level + 1] for song in test])
        draws.append(heard(codec, drawn_levels([model], zs, sizes.new_seconds, song_labels(test), sizes, seed),
                           model.level))
    rows = []
    for number, song in enumerate(test):
        for which, other in (("one top row", number), ("two top rows", (number + 1) % len(test))):
            one, two = draws[0][number], draws[1][other]
            rows.append({"song": song.name, "pair": which, "chroma": f"{float(chroma(one) @ chroma(two)):.4f}",
                         "timbre_distance": f"{float(np.linalg.norm(timbre(one) - timbre(two))):.3f}"})
    return rows


def tag_likeness(scores: Tensor, asked: Tensor) -> Tensor:
    """How alike scores and labels are, both (song, tag), each less its mean over songs: cosines, (song,), -1 to 1.

    Without the means, an instrument that nearly every song has would decide. 0 for a song that is like the mean.
    """
    one, two = (table.float() - table.float().mean(0) for table in (scores, asked))
    return torch.nn.functional.cosine_similarity(one, two, dim=1, eps=1e-6)


def measure_asked(work: Work) -> list[dict]:
    """New music with the labels of each test song: does a tagger hear the instruments, and has it the tempo? Compared
    with another song's labels, and with the songs themselves through the same codec."""
    sizes, test, codec = work.settings, work.given["test"], load_trained(work.settings.codec)
    models, tagger = [load_trained(name) for name in (sizes.top, sizes.upsampler)], load_trained(sizes.tagger)
    level, labels = models[-1].level, song_labels(test)
    middle = test[0].samples // 2 // models[0].raw_to_tokens * models[0].raw_to_tokens
    labels["y"][:, 1] = middle                                    # neither the beginning of a song nor its end
    empty = [torch.zeros(len(test), 0, dtype=torch.long) for _ in test[0].codes]
    drawn = heard(codec, drawn_levels(models, empty, sizes.new_seconds, labels, sizes, 0), level)
    first, count = middle // models[-1].raw_to_tokens, drawn.shape[-1] // models[-1].raw_to_tokens
    empty[level] = torch.stack([song.codes[level][first:first + count] for song in test])
    composed = [compose(seed_of(song.name), SONG_SECONDS) for song in test]
    asked, bpm = torch.stack([activity(song).any(-1).any(0) for song in composed]), [song.bpm for song in composed]
    rows = []
    for which, audio in (("drawn", drawn), ("played", heard(codec, empty, level))):
        with torch.no_grad():
            scores = tagger(resample(audio[:, 0], RATE, TAGGER_RATE))                         # (song, tag)
        for number, (song, sound) in enumerate(zip(test, audio)):
            for name, step in (("its own", 0), ("another song's", 1)):
                other = (number + step) % len(test)
                rows.append({"song": song.name, "audio": which, "labels": name,
                             "tags": f"{float(tag_likeness(scores, asked.roll(-step, 0))[number]):.4f}",
                             "tempo_octaves": f"{octaves_apart(tempo(sound), bpm[other]):.4f}"})
    return rows


KINDS = {"bits": measure_bits, "continued": measure_continued, "filled in": measure_filled_in, "asked": measure_asked}


def all_runs(work: Work) -> list[Run]:
    """Every measurement."""
    return [Run(measure) for measure in MEASURES]


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """The rows of a measurement, by table."""
    began = time.process_time()
    rows = KINDS[run.measure](work)
    return {run.measure.replace(" ", "_"): rows, "runs": [{
        "songs": work.settings.songs, "processor_minutes": f"{(time.process_time() - began) / 60:.1f}",
        "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def shared_songs(sizes: Sizes, cache: Path) -> dict[str, list[CodedSong]]:
    """Coded songs of the test split, and those that the priors learned from, for counting."""
    return {"test": band_codes("test", sizes.songs, sizes.codec),
            "train": (band_codes("train", sizes.train_songs, sizes.codec)
                      + band_codes("further", sizes.further_songs, sizes.codec))}


EXPERIMENT = Experiment(
    name="priors", what="chapter 12's trained priors: bits per code, continuations, upsampled rows", topic=TOPIC,
    stages=[all_runs], run=one_run, settings=Sizes(), prepare=shared_songs, names=MEASURES)

__all__ = ["EXPERIMENT", "CodeStep", "CodeWindows", "CodedSong", "Run", "Sizes", "band_codes", "code_scores",
           "coded_songs", "training_codes", "valid_codes"]
