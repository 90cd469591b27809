"""Chapter 17's measurements: the studio from end to end, on test songs of the band.

A song is SECONDS of it, stereo at 44.1 kHz. Four questions, a part each:

- "stems": how good are stems, and remixes made of them? SDR against the true stems, and against the remix
  of the true stems, for each of MIXES; beside them a quarter of the song as every stem, and the ideal ratio mask.
- "tags": does a tagger hear more in stems than in the song? Chunks of five seconds; each song as it was mixed, and
  once with sources left out by chance. A tag's probability comes from the song, from the stem that the tag belongs to
  (the separated or the true one), or from the loudest answer of all stems. The area under the ROC curve of a song is
  over its chunks and tags.
- "steer": guitar by TagBox, from the song, from the separated "other" and from the true one; SDR above that of what
  was steered (the song, for all).
- "seconds": processor time of every step per second of song, on one thread.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.data import STEMS, Track, open_tracks
from course_lib.data.band import compose
from course_lib.data.band.library import SPLITS
from course_lib.data.loaders import chunk_generator
from course_lib.data.tracks import SIX_STEMS
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.taggers import FRAME, TAGS, activity, sounding
from course_lib.results import machine
from course_lib.spectral import apply_mask, ideal_ratio_mask, istft, song_sdr, stft
from course_lib.studio import Mix, Models, Studio, remixed, split_by_tag, stems_of, tags_of_sound
from course_lib.taggers import roc_auc

TOPIC, SECONDS, CHUNK = "17_studio", 20.0, 5.0
IDEAL, QUARTER = "ideal ratio mask", "song / 4"
SEPARATORS = ("open_unmix_band", "htdemucs_band")
MIXES = {
    "voice +3 dB": Mix(gains={"vocals": 3.0}), "voice +6 dB": Mix(gains={"vocals": 6.0}),
    "voice -6 dB": Mix(gains={"vocals": -6.0}), "without voice": Mix(mutes=("vocals",)),
    "drums -6, bass +3 dB": Mix(gains={"drums": -6.0, "bass": 3.0}), "drums alone": Mix(solos=("drums",)),
}
FROM_SONG, OWN, LOUDEST, TRUE = "song", "own stem", "loudest stem", "true own stem"
LEAST = 0.01                             # RMS from which a guitar, and the rest of "other", count as sounding


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    songs: int = 12
    steer_songs: int = 6
    steer_seconds: float = 3.0
    steer_steps: int = 10
    timed_songs: int = 6
    timed_seconds: float = 3.0
    timed_steps: int = 10


@dataclass(frozen=True)
class Run:
    """What is measured: a part, and in it a method."""

    part: str
    method: str


def runs(work: Work) -> list[Run]:
    """All of them."""
    parts = {"tags": SEPARATORS[:1], "stems": (*SEPARATORS, IDEAL, QUARTER), "steer": SEPARATORS[:1],
             "seconds": SEPARATORS[:1]}
    return [Run(part, method) for part, methods in parts.items() for method in methods]


def prepare(sizes: Sizes, cache) -> list[Track]:
    return [track.excerpt(0, min(SECONDS, track.seconds)) for track in open_tracks("band", "test", count=sizes.songs)]


# -------------------------------------------------------------------------------------------------------------- stems


def estimated(method: str, track: Track, models: Models) -> dict[str, Tensor]:
    """A song's stems by a method, (channel, time) each; those of a separator or a bound sum to the song."""
    x, true = track.mixture, track.sources(STEMS)
    if method == QUARTER:
        return {name: x / 4 for name in STEMS}
    if method == IDEAL:
        S = stft(true, 4096)
        return dict(zip(STEMS, istft(apply_mask(ideal_ratio_mask(S, 2.0), S.sum(0)), 4096, length=x.shape[-1])))
    return stems_of(models.separator(method), x, track.rate)


def stem_rows(run: Run, work: Work) -> dict[str, list[dict]]:
    """SDR of stems and remixes, a row a song; the song itself as a remix stands beside them."""
    models, rows = Models(), []
    for track in work.given:
        found, true = estimated(run.method, track, models), dict(zip(STEMS, track.sources(STEMS)))
        row = {"song": track.name}
        for name in STEMS:
            row[name] = f"{float(song_sdr(found[name], true[name])):.3f}"
        for name, mix in MIXES.items():
            wanted = remixed(true, track.rate, mix)
            made = sum(mix.factor(stem) * x for stem, x in found.items()) * wanted[1]
            row[name] = f"{float(song_sdr(made, wanted[0])):.3f}"
            row[f"{name}, song"] = f"{float(song_sdr(track.mixture * wanted[1], wanted[0])):.3f}"
        rows.append(row)
    return {"stems": rows}


# --------------------------------------------------------------------------------------------------------------- tags


def stem_for(tag: str) -> str:
    """The stem in which an instrument is."""
    return tag if tag in STEMS else "other"


def four_of(six: Tensor) -> dict[str, Tensor]:
    """The four stems, from the six sources in the order of SIX_STEMS: guitar and piano are in other."""
    drums, bass, other, vocals, guitar, piano = six
    return {"drums": drums, "bass": bass, "other": other + guitar + piano, "vocals": vocals}


def heard_by(song: Tensor, stems: dict[str, Tensor], true: dict[str, Tensor], tagger, rate: int) -> dict[str, list]:
    """The probabilities of TAGS, by each of the ways to ask; a silent sound has none of them."""
    asked = lambda sounds: {name: tags_of_sound(tagger, x, rate) for name, x in sounds.items()}    # noqa: E731
    own = lambda found: [found[stem_for(name)].get(name, 0.0) for name in TAGS]                    # noqa: E731
    whole, each = tags_of_sound(tagger, song, rate), asked(stems)
    return {FROM_SONG: [whole.get(name, 0.0) for name in TAGS], OWN: own(each), TRUE: own(asked(true)),
            LOUDEST: [max(found.get(name, 0.0) for found in each.values()) for name in TAGS]}


def tag_rows(run: Run, work: Work) -> dict[str, list[dict]]:
    """Probabilities and labels of all chunks, a row a chunk and way; the area of every song, a row a song and way."""
    models, chunks, areas = Models(), [], []
    tagger, frames = models.tagger("tagger_band"), round(CHUNK / FRAME)
    for number, (track, seed) in enumerate(zip(work.given, SPLITS["test"])):
        playing, six = activity(compose(seed, SECONDS)), track.sources(SIX_STEMS)
        labels, given = [], []
        for take in range(2):
            kept = torch.ones(len(SIX_STEMS), dtype=torch.bool)
            if take:
                kept = torch.rand(len(SIX_STEMS), generator=chunk_generator(17, number)) < 0.5
            heard = six * kept[:, None, None]
            song, true = heard.sum(0), four_of(heard)
            stems = stems_of(models.separator(run.method), song, track.rate)
            for n in range(int(track.seconds // CHUNK)):
                piece = slice(round(n * CHUNK * track.rate), round((n + 1) * CHUNK * track.rate))
                cut = lambda sounds, piece=piece: {name: x[:, piece] for name, x in sounds.items()}    # noqa: E731
                labels.append(sounding(playing[:, :, n * frames:(n + 1) * frames], kept))
                given.append(heard_by(song[:, piece], cut(stems), cut(true), tagger, track.rate))
                chunks += [{"way": way, "song": track.name, "take": take, "chunk": n,
                            **{name: f"{value:.4f}" for name, value in zip(TAGS, values)},
                            **{f"{name} sounds": int(value) for name, value in zip(TAGS, labels[-1])}}
                           for way, values in given[-1].items()]
        areas += [{"way": way, "song": track.name, "roc_auc": f"{float(roc_auc(*pair)):.4f}"} for way in given[0]
                  for pair in [(torch.stack(labels).flatten(), torch.tensor([one[way] for one in given]).flatten())]]
    return {"chunks": chunks, "areas": areas}


# -------------------------------------------------------------------------------------------------- steering and time


def steer_rows(run: Run, work: Work) -> dict[str, list[dict]]:
    """SDR of the guitar above that of the song as its estimate, a row a song and start; of songs in which it sounds,
    and not alone in "other"."""
    models, sizes, rows, songs = Models(), work.settings, [], 0
    codec, codec_rate = models.codec("jukebox_band")
    for track in work.given:
        piece = track.excerpt(6.0, sizes.steer_seconds)
        guitar, song = piece["guitar"], piece.mixture
        softest = min(float(x.square().mean().sqrt()) for x in (guitar, piece["other"] - guitar))
        if songs == sizes.steer_songs or softest < LEAST:
            continue
        songs += 1
        before = float(song_sdr(song, guitar))
        starts = {"song": song, "true other": piece["other"],
                  "separated other": stems_of(models.separator(run.method), song, track.rate)["other"]}
        for start, x in starts.items():
            found, _ = split_by_tag(codec, codec_rate, [models.tagger("tagger_band")], x, track.rate, "guitar",
                                    steps=sizes.steer_steps, lr=2.0)
            rows.append({"start": start, "song": track.name, "sdri": f"{float(song_sdr(found, guitar)) - before:.3f}",
                         "start_sdri": f"{float(song_sdr(x, guitar)) - before:.3f}"})
    return {"steered": rows}


def time_rows(run: Run, work: Work) -> dict[str, list[dict]]:
    """Processor seconds of each step per second of song."""
    models, rows, seconds = Models(), [], work.settings.timed_seconds
    for track in work.given[:work.settings.timed_songs]:
        studio, row = Studio(track.excerpt(6.0, seconds).mixture, track.rate, models=models), {"song": track.name}
        for step, settings in (("separate", {}), ("tag", {}), ("steer", {"name": "guitar",
                                                                         "steps": work.settings.timed_steps}),
                               ("remix", {"gains": {"vocals": 3.0}})):
            began = time.process_time()
            studio.do(step, **settings)
            if step == "remix":
                studio.audio()
            row[step] = f"{(time.process_time() - began) / seconds:.4f}"
        rows.append(row)
    return {"seconds": rows}


PARTS = {"stems": stem_rows, "tags": tag_rows, "steer": steer_rows, "seconds": time_rows}


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """The rows of a part by a method, and the run's own."""
    began = time.process_time()
    found = PARTS[run.part](run, work)
    songs = {row["song"] for row in next(iter(found.values()))}
    return {**found, "runs": [{"test_songs": len(songs), "cpu_seconds": f"{time.process_time() - began:.0f}",
                               "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def facts(work: Work) -> dict:
    return {"data": f"test songs of the band, {SECONDS:g} s each, stereo 44,100 Hz",
            "score": "SDR in dB, both channels together; roc_auc over a song's chunks and tags"}


EXPERIMENT = Experiment(name="studio", what="The studio from end to end: stems, remixes, tags of stems, steering, time",
                        topic=TOPIC, stages=[runs], run=one_run, settings=Sizes(), prepare=prepare,
                        names=(*PARTS, *SEPARATORS, IDEAL, QUARTER, FROM_SONG, OWN, LOUDEST, TRUE), facts=facts)

__all__ = ["EXPERIMENT", "MIXES", "Run", "SEPARATORS", "Sizes", "four_of", "heard_by", "stem_for"]
