"""Chapter 17's measurements: the studio from end to end, on test songs of the band.

A song is SECONDS of it, stereo at 44.1 kHz. Five questions, a part each:

- "stems": how good are stems, and remixes made of them? SDR against the true stems, and against the remix
  of the true stems, for each of MIXES; beside them a quarter of the song as every stem, and the ideal ratio mask.
- "tags": does a tagger hear more in stems than in the song? Chunks of five seconds; each song as it was mixed, and
  once with sources left out by chance. A tag's probability comes from the song, from the stem that the tag belongs to
  (the separated or the true one), or from the loudest answer of all stems. The area under the ROC curve of a song is
  over its chunks and tags.
- "steer": guitar by TagBox, from the song, from the separated "other" and from the true one; SDR above that of what
  was steered (the song, for all).
- "translate": the voice, separated, played by TARGETS. Of each song the VOICE_SECONDS in which one voice sings most
  and alone; agreement of chroma and share of right pitches (chapter 16) against its notes, played by the target.
  Beside it the true voice, translated; both left as they are; and another song's notes.
- "seconds": processor time of every step per second of song, on one thread.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from course_lib.data import STEMS, Track, open_tracks
from course_lib.data.band import compose
from course_lib.data.band.library import SPLITS
from course_lib.data.band.song import Note, Song
from course_lib.data.loaders import chunk_generator
from course_lib.data.resampling import resample
from course_lib.data.tracks import SIX_STEMS
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.taggers import FRAME, TAGS, activity, sounding
from course_lib.experiments.translation import RATE, chroma_agreement, pitch_agreement, play
from course_lib.results import machine
from course_lib.spectral import apply_mask, ideal_ratio_mask, istft, song_sdr, stft
from course_lib.studio import (
    TRANSLATOR,
    Mix,
    Models,
    Studio,
    remixed,
    split_by_tag,
    stems_of,
    tags_of_sound,
    translated,
)
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
TARGETS, VOICE_SECONDS = ("flute", "cello"), 4.0
PLAYED, LEFT, ANOTHER = "translated", "left as it is", "another song's notes"
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
             "translate": SEPARATORS, "seconds": SEPARATORS[:1]}
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


def lone_voice(song: Song, seconds: float = VOICE_SECONDS, step: float = 0.5) -> tuple[float, list[Note]]:
    """Where the lead voice sings most while no other does: the start in seconds, and its notes from there on.

    ValueError where there is no such place.
    """
    lead = [note for part in song.parts if (part.stem, part.role) == ("vocals", "lead") for note in part.notes]
    others = [note for part in song.parts if part.stem == "vocals" and part.role != "lead" for note in part.notes]
    best = 0.0, 0.0, []
    for k in range(int((song.seconds - seconds) / step) + 1):
        start = k * step
        if within(others, start, seconds):
            continue
        notes = within(lead, start, seconds)
        if sum(note.duration for note in notes) > best[0] + 1e-9:
            best = sum(note.duration for note in notes), start, notes
    if not best[2]:
        raise ValueError(f"song {song.seed} has no {seconds:g} s in which one voice sings alone")
    return best[1:]


def within(notes: list[Note], start: float, seconds: float) -> list[Note]:
    """What of the notes sounds from `start` on for so many seconds, counted from there."""
    found = []
    for note in notes:
        onset, end = max(note.onset - start, 0.0), min(note.onset + note.duration - start, seconds)
        if end > onset:
            found.append(note._replace(onset=onset, duration=end - onset))
    return found


def translate_rows(run: Run, work: Work) -> dict[str, list[dict]]:
    """How near a voice, separated and translated, is to its notes on the target, a row a sound."""
    models, rows, songs = Models(), [], []
    for track, seed in zip(work.given, SPLITS["test"]):
        start, notes = lone_voice(compose(seed, SECONDS))
        piece = track.excerpt(start, VOICE_SECONDS)
        found = stems_of(models.separator(run.method), piece.mixture, piece.rate)["vocals"]
        songs.append((track.name, notes, {"separated voice": found, "true voice": piece["vocals"]}, piece.rate))
    for number, (name, notes, voices, rate) in enumerate(songs):
        for to in TARGETS:
            truth = play(notes, to, VOICE_SECONDS)
            sounds = {("", ANOTHER): play(songs[(number + 1) % len(songs)][1], to, VOICE_SECONDS)}
            for start, voice in voices.items():
                y = translated(models.translator(TRANSLATOR), voice, rate, to, seed=number)
                for way, x in ((PLAYED, y), (LEFT, voice)):
                    sounds[start, way] = resample(x.mean(0), rate, RATE)[:len(truth)]
            rows += [{"song": name, "to": to, "start": start, "way": way,
                      "chroma": f"{chroma_agreement(x, truth):.4f}", "pitch": f"{pitch_agreement(x, truth):.4f}"}
                     for (start, way), x in sounds.items()]
    return {"translated": rows}


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


PARTS = {"stems": stem_rows, "tags": tag_rows, "steer": steer_rows,
         "translate": translate_rows, "seconds": time_rows}


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """The rows of a part by a method, and the run's own."""
    began = time.process_time()
    found = PARTS[run.part](run, work)
    songs = {row["song"] for row in next(iter(found.values()))}
    return {**found, "runs": [{"test_songs": len(songs), "cpu_seconds": f"{time.process_time() - began:.0f}",
                               "machine": machine(), "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def facts(work: Work) -> dict:
    return {"data": f"test songs of the band, {SECONDS:g} s each, stereo 44,100 Hz",
            "score": "SDR in dB, both channels together; roc_auc over a song's chunks and tags; chroma: mean "
            "correlation of frames; pitch: share of frames with the nearest semitone right"}


EXPERIMENT = Experiment(name="studio", what="The studio from end to end: stems, remixes, tags of stems, steering, "
                        "translating, time", topic=TOPIC, stages=[runs], run=one_run, settings=Sizes(), prepare=prepare,
                        names=(*PARTS, *SEPARATORS, IDEAL, QUARTER, FROM_SONG, OWN, LOUDEST, TRUE), facts=facts)

__all__ = ["EXPERIMENT", "MIXES", "Run", "SEPARATORS", "Sizes", "four_of", "heard_by", "lone_voice", "stem_for"]
