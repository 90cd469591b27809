"""Chapter 14's measurements: TagBox on excerpts of songs, one thing changed at a time, and beside other methods.

An excerpt is the SECONDS of a song in which most of its sources sound, mono at the codec's rate. A run is a method for
one instrument on all songs in which it sounds there; `data/results/14_tagbox/runs.csv` has a row a run, `songs.csv` one
a song and reading of the output (masked, residual, steered: what the decoder makes). SDRi and SI-SDRi are dB above the
mixture itself; `l1` is the L1 distance of magnitudes over the target's own L1 norm, `l1_mixture` that of the mixture;
SAR is BSSEval's of the whole excerpt. "silence" and "mixture" are there because improvements reward them.

Test songs have guitar and piano only here and there: part "more" has them in further songs of the band, which nobody
learnt from, so that there are twenty excerpts of each. Part "tags" asks for strings, brass, winds and synth, tags that
are no stems: in songs, of the test and further, whose source "other" (what is left without guitar and piano) is
nothing but that tag's parts, so that the source is the truth. Part "style" steers without a mask: `heard.csv` has what
the tagger hears in each song and in what the decoder made of it, the wanted tag and the likeliest other one.

The songs are the band's by default; `course experiment tagbox --set data=musdb18hq --folder DIR` takes those of another
data set in its usual place (musdb18hq, musdb18, slakh2100, folder), and measures the instruments that its songs have
(whatever else is in a song is in the mixture, but nobody is asked for it). `course steer` does the same for one song.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from course_lib.classic import separate_unsupervised
from course_lib.data import STEMS, Track, open_tracks
from course_lib.data.band import compose
from course_lib.data.band.library import SPLITS
from course_lib.data.resampling import resample
from course_lib.data.tracks import PARTS_OF_OTHER, SIX_STEMS
from course_lib.experiments.mixit import by_oracle, separate_sources
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.scoreboard import separate_song
from course_lib.experiments.taggers import SONG_SECONDS
from course_lib.experiments.taggers import tags_of as tags_of_part
from course_lib.metrics import bss_eval, sdr, si_sdr
from course_lib.results import machine
from course_lib.spectral import apply_mask, ideal_ratio_mask, istft, stft
from course_lib.tagbox import steer, tagger_rate, tags_of, target_of
from course_lib.taggers import load_tagger, tag
from course_lib.training import load_trained
from course_lib.training.trained import shipped_models

TOPIC, CODEC, RATE, SECONDS = "14_tagbox", "jukebox_band", 22_050, 3.0
INSTRUMENTS = ("vocals", "drums", "guitar", "bass", "piano")
FOUR = ("drums", "bass", "vocals", "guitar")                     # the mixtures of four sources
TAGBOX, SILENCE, MIXTURE, IDEAL = "TagBox", "silence", "mixture", "ideal ratio mask"
RULES = {"HPSS": "hpss_rules", "REPET-SIM": "repet_sim_rules", "NMF": "nmf_clusters"}
SUPERVISED = ("open_unmix_band", "demucs_band", "hdemucs_band", "htdemucs_band", "band_split_band")
HARMONIC = "harmonic_band"                                       # joins the taggers where its weights are there
MIXIT = "mixit_band"                                             # joins the table where its weights are there
LEAST = 0.01                                                     # RMS of a source that counts as sounding
TAGS = ("strings", "brass", "winds", "synth")                    # of the tagger, but no stems
FURTHER, EACH = range(2000, 2100), 8                             # seeds that no training took; songs of them a tag


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    data: str = "band"                # a data set as `open_tracks` names it
    songs: int = 20
    more_songs: int = 9               # with guitar, and with piano, besides
    steps: int = 20
    lr: float = 2.0
    ablation_songs: int = 6
    real_songs: int = 6
    real_steps: int = 8
    batch: int = 4


@dataclass(frozen=True)
class Run:
    """What is measured: in a part of the songs and questions ("main", "more", "tags", "style", "ablation", "taggers"),
    of the sources in the mixture ("six", "four"), one instrument or tag, by a method; change: what is other than in the
    main run, "NAME=VALUE", "" for nothing."""

    part: str
    sources: str
    instrument: str
    method: str
    change: str = ""


CHANGES = {
    "of=mixture": dict(of="mixture"), "mask=off": dict(mask=False), "codes=drifting": dict(codes="drifting"),
    "codes=drifting, seed=1": dict(codes="drifting", seed=1),
    "taggers=random": dict(taggers="random"), "level=2": dict(level=2), "start=mixture": dict(start="mixture"),
    "codes=free": dict(codes="free"), "n_fft=512": dict(n_fft=[512]), "n_fft=2048": dict(n_fft=[2048]),
    "n_fft=512, 1024, 2048": dict(n_fft=[512, 1024, 2048]),
    "steps=5": dict(steps=5), "steps=60": dict(steps=60),
    "steps=100": dict(steps=100), "lr=0.5": dict(lr=0.5), "lr=5": dict(lr=5.0),
}
HEARD = ("before", "others_before", "after", "others_after", "level")   # probabilities, and dB above the mixture
BY_HARMONIC = {f"taggers={names}": dict(taggers=names) for names in (HARMONIC, f"tagger_band+{HARMONIC}")}
REAL = ("mtat_fcn", "mtat_musicnn", "mtat_fcn+mtat_musicnn", "jamendo_fcn", "jamendo_musicnn")


def methods() -> list[str]:
    """All methods whose weights are there."""
    nets = [name for name in (*SUPERVISED, MIXIT) if name in shipped_models()]
    return [TAGBOX, SILENCE, MIXTURE, *RULES, *nets, IDEAL]


def changes() -> dict[str, dict]:
    """The changes of the ablation whose taggers are there."""
    return CHANGES | (BY_HARMONIC if HARMONIC in shipped_models() else {})


def main_runs(work: Work) -> list[Run]:
    """Every method for every instrument, in the full mixtures and in those of four sources."""
    return [Run("main", sources, instrument, method)
            for sources, instruments in (("six", INSTRUMENTS), ("four", FOUR)) for instrument in instruments
            if heard_in(work.given, instrument, sources) for method in methods()]


def more_runs(work: Work) -> list[Run]:
    """The same for guitar and piano in further songs of the band."""
    pairs = (("six", "guitar"), ("six", "piano"), ("four", "guitar")) if work.settings.data == "band" else ()
    return [Run("more", *pair, method) for pair in pairs for method in methods()]


def tag_runs(work: Work) -> list[Run]:
    """Tags that are no stems, by methods that have no stems either, or none but "other"."""
    asked = [TAGBOX, SILENCE, MIXTURE, *RULES, IDEAL] if work.settings.data == "band" else []
    return [Run("tags", "six", tag, method) for tag in TAGS for method in asked]


def style_runs(work: Work) -> list[Run]:
    """Without a mask, for every instrument: what the decoder makes of the song when the tagger hears nothing else."""
    return [Run("style", "six", instrument, TAGBOX, "mask=off") for instrument in INSTRUMENTS
            if heard_in(work.given, instrument, "six")]


def ablations(work: Work) -> list[Run]:
    """One thing changed at a time, for vocals and drums."""
    return [Run("ablation", "six", instrument, TAGBOX, change) for instrument in ("vocals", "drums")
            if heard_in(work.given, instrument, "six") for change in ("", *changes())]


def real_taggers(work: Work) -> list[Run]:
    """The published taggers instead of the band's, for vocals."""
    return [Run("taggers", "six", "vocals", TAGBOX, f"taggers={names}") for names in ("tagger_band", *REAL)
            if heard_in(work.given, "vocals", "six")]


# ------------------------------------------------------------------------------------------------------------ the data


def excerpt_of(track: Track, seconds: float = SECONDS) -> Track:
    """The piece of a song, on a grid of its length, in which most of its sources sound, mono at RATE.

    A source is one of the six stems that the song has; of two pieces in which as many sound, the first.
    """
    names = [stem for stem in SIX_STEMS if stem in track.stems]
    starts = [start * seconds for start in range(max(1, int(track.seconds // seconds)))]
    busy = lambda start: int((track.excerpt(start, min(seconds, track.seconds)).sources(names)        # noqa: E731
                              .square().mean((1, 2)).sqrt() > LEAST).sum())
    best = max(starts, key=busy)
    found = track.excerpt(best, min(seconds, track.seconds)).sources(names).mean(1)                 # (source, time)
    found = dict(zip(names, resample(found, track.rate, RATE).unsqueeze(1)))
    if "other" in found:                                                 # as everywhere, with guitar and piano in it
        found["other"] = sum(found[name] for name in names if name in ("other", *PARTS_OF_OTHER))
    return Track.from_tensors(track.name, RATE, found)


def prepare(sizes: Sizes, cache) -> list[Track]:
    return [excerpt_of(track) for track in open_tracks(sizes.data, "test", count=sizes.songs)]


def lone_tag(seed: int) -> str:
    """The one tag that plays in source "other" of the band's song of a seed (without guitar and piano), or ""."""
    parts = [part for part in compose(seed, SONG_SECONDS).parts if part.six_stem == "other"]
    tags = {tag for part in parts for tag in tags_of_part(part) or [""]}
    return tags.pop() if len(tags) == 1 else ""


@cache
def further_seeds() -> list[int]:
    """Of FURTHER, for each of TAGS the first EACH songs in which it plays alone in its source, by seed."""
    tags = {seed: lone_tag(seed) for seed in FURTHER}
    return sorted(seed for tag in TAGS for seed in [seed for seed, one in tags.items() if one == tag][:EACH])


@cache
def further_songs() -> list[Track]:
    """Their excerpts."""
    return [excerpt_of(track) for track in open_tracks("band", "further", seeds=further_seeds())]


def pairs_for(run: Run, work: Work) -> list[tuple[str, tuple[Tensor, Tensor]]]:
    """The songs of a run by name, with target and all the rest of each; those without the instrument are left out."""
    sizes, source = work.settings, run.instrument
    tracks = further_songs() if run.part == "more" else work.given
    if run.part == "tags":
        seeds = [*SPLITS["test"][:len(work.given)], *further_seeds()]
        tracks = [track for seed, track in zip(seeds, [*work.given, *further_songs()])
                  if lone_tag(seed) == run.instrument]
        source = "other"
    count = {"main": sizes.songs, "more": sizes.more_songs, "ablation": sizes.ablation_songs,
             "style": sizes.ablation_songs, "taggers": sizes.real_songs}.get(run.part)
    return [(track.name, both) for track in tracks if (both := split_up(track, source, run.sources))][:count]


def split_up(track: Track, instrument: str, sources: str) -> tuple[Tensor, Tensor] | None:
    """Target and all the rest, (time,) each; None where the instrument is silent, or one of four isn't in the song."""
    names = FOUR if sources == "four" else [name for name in SIX_STEMS if name in track.stems]
    if not {instrument, *names} <= set(track.stems):
        return None
    audio = dict(zip(names, track.sources(names)[:, 0]))
    target = audio.pop(instrument)
    if float(target.square().mean().sqrt()) < LEAST:
        return None
    return target, sum(audio.values())


def heard_in(tracks: Sequence[Track], instrument: str, sources: str) -> bool:
    """Whether an instrument sounds in any of the excerpts."""
    return any(split_up(track, instrument, sources) is not None for track in tracks)


# ---------------------------------------------------------------------------------------------------------- the methods


def taggers_named(names: str) -> list[torch.nn.Module]:
    """Taggers from names joined by "+": published ("mtat_fcn"), of the course ("tagger_band"), or "random", the band's
    with weights that were never trained."""
    found = []
    for name in names.split("+"):
        if name.startswith(("mtat", "jamendo")):
            found.append(load_tagger(name))
            continue
        tagger = load_trained("tagger_band" if name == "random" else name)
        if name == "random":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                for module in tagger.modules():
                    if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                        module.reset_parameters()
        found.append(tagger.requires_grad_(False))
    return found


def tagbox(x: Tensor, instrument: str, sizes: Sizes, **changes) -> list[dict[str, Tensor]]:
    """TagBox on mixtures (song, time): for each its readings, (time,)."""
    options = dict(steps=sizes.steps, lr=sizes.lr, n_fft=[1024], fill="repeat", text=instrument) | changes
    taggers = taggers_named(options.pop("taggers", "tagger_band"))
    targets = [target_of(instrument, tags_of(tagger)) for tagger in taggers]
    codec, found = load_trained(CODEC).requires_grad_(False), []
    for part in x.split(sizes.batch):
        given = steer(codec, taggers, part, targets, **options)
        found += [dict(masked=given.masked[n], residual=given.residual[n], steered=given.steered[n])
                  for n in range(len(part))]
    return found


def heard_as(x: Tensor, instrument: str) -> tuple[float, float]:
    """What the band's tagger hears in audio (time,): the probability of an instrument, and the largest other one."""
    tagger = load_trained("tagger_band").requires_grad_(False)
    given = tag(tagger, resample(x[None], RATE, tagger_rate(tagger)), fill="repeat")[0]
    wanted = target_of(instrument, tags_of(tagger)) == 1
    return float(given[wanted].max()), float(given[~wanted].max())


def stem_for(instrument: str, stems: Sequence[str]) -> int:
    """The stem of a four-stem separator in which an instrument is: guitar and piano are in "other"."""
    return list(stems).index(instrument if instrument in stems else "other")


def estimate(method: str, x: Tensor, target: Tensor, rest: Tensor, instrument: str) -> Tensor:
    """What a method without steering makes of a mixture (time,)."""
    if method == SILENCE:
        return torch.zeros_like(x)
    if method == MIXTURE:
        return x
    if method == IDEAL:
        S = stft(torch.stack([target, rest])[:, None], 2048)            # (source, 1, bin, frame)
        return istft(apply_mask(ideal_ratio_mask(S, 2.0), S.sum(0)), 2048, length=len(x))[0, 0]
    if method in RULES:
        return separate_unsupervised(x[None], RATE, RULES[method])[stem_for(instrument, STEMS), 0]
    if method == MIXIT:                                                 # its outputs have no names: by the oracle
        return by_oracle(separate_sources(x[None], RATE)[:, 0], torch.stack([target, rest]))[0]
    separator = separator_named(method)
    with torch.no_grad():
        return separate_song(separator, x[None], RATE)[stem_for(instrument, separator.stems), 0]


def separator_named(name: str):
    """A trained separator as the scoreboard takes it."""
    from course_lib.separating import load_separator
    return load_separator(name)


# ----------------------------------------------------------------------------------------------------------- the scores


def scores(estimate: Tensor, target: Tensor, x: Tensor) -> dict[str, float]:
    """SDRi, SI-SDRi, and L1 of magnitudes over the target's, of one excerpt (time,) each."""
    magnitude = lambda signal: stft(signal, 2048).abs()                                     # noqa: E731
    S = magnitude(target)
    l1 = lambda signal: float((magnitude(signal) - S).abs().sum() / S.sum())                # noqa: E731
    return {"sdr": float(sdr(estimate, target)), "sdri": float(sdr(estimate, target) - sdr(x, target)),
            "si_sdri": float(si_sdr(estimate, target) - si_sdr(x, target)), "l1": l1(estimate), "l1_mixture": l1(x)}


def level_of(x: Tensor) -> float:
    """Root mean square in dB."""
    return 10 * math.log10(float(x.square().mean()) + 1e-12)


def sar_of(estimate: Tensor, target: Tensor, rest: Tensor) -> float:
    """BSSEval's SAR of one estimate, the whole excerpt a frame; NaN for silence."""
    found = bss_eval(torch.stack([target, rest])[:, None], torch.stack([estimate, rest])[:, None], RATE,
                     len(target) / RATE)
    return float(found.sar[0, 0])


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """A method for an instrument on all songs in which it sounds."""
    sizes, began = work.settings, time.process_time()
    pairs = pairs_for(run, work)
    x = torch.stack([target + rest for _, (target, rest) in pairs])                         # (song, time)
    if run.method == TAGBOX:
        options = (CHANGES | BY_HARMONIC).get(run.change, {})
        if run.part == "taggers":
            options = dict(taggers=run.change.removeprefix("taggers="), steps=sizes.real_steps)
        found = tagbox(x, run.instrument, sizes, **options)
    else:
        found = [{"masked": estimate(run.method, x[n], *pair, run.instrument)} for n, (_, pair) in enumerate(pairs)]
    rows, heard = [], []
    for (name, (target, rest)), mixture, readings in zip(pairs, x, found):
        if run.part == "style":
            before, after = (heard_as(signal, run.instrument) for signal in (mixture, readings["steered"]))
            heard.append({"song": name, **{
                key: f"{value:.3f}" for key, value in zip(HEARD, (*before, *after, level_of(readings["steered"]) -
                                                                  level_of(mixture)))}})
        for reading, signal in readings.items():
            given = scores(signal, target, mixture)
            given["sar"] = sar_of(signal, target, rest)
            rows.append({"song": name, "reading": reading, **{key: f"{value:.3f}" for key, value in given.items()}})
    masked = [float(row["sdri"]) for row in rows if row["reading"] == "masked"]
    return {"songs": rows, **({"heard": heard} if heard else {}), "runs": [{
        "test_songs": len(pairs), "sdri": f"{sum(masked) / len(masked):.3f}",
        "cpu_seconds": f"{time.process_time() - began:.0f}", "machine": machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def facts(work: Work) -> dict:
    return {"songs": f"{work.settings.songs} test songs ({work.settings.data}), {SECONDS:g} s each, mono {RATE} Hz",
            **({"further_songs": f"seeds {', '.join(map(str, further_seeds()))} of the band, for parts more and tags"}
               if work.settings.data == "band" else {}),
            "left_out": [name for name in (*SUPERVISED, MIXIT, HARMONIC) if name not in shipped_models()],
            "score": "SDRi, SI-SDRi: dB above the mixture; l1: L1 of magnitudes over the target's"}


EXPERIMENT = Experiment(name="tagbox", what="TagBox with one thing changed at a time, and beside other methods",
                        topic=TOPIC, stages=[main_runs, more_runs, tag_runs, style_runs, ablations, real_taggers],
                        run=one_run, settings=Sizes(), prepare=prepare, facts=facts,
                        names=("main", "more", "tags", "style", "ablation", "taggers", *INSTRUMENTS, *TAGS,
                               *BY_HARMONIC, TAGBOX, *RULES, SILENCE, MIXTURE, IDEAL, *SUPERVISED, MIXIT, "six",
                               "four"))

__all__ = ["BY_HARMONIC", "CHANGES", "EXPERIMENT", "INSTRUMENTS", "Run", "Sizes", "TAGS", "excerpt_of", "further_songs",
           "lone_tag", "scores", "split_up", "tagbox", "taggers_named"]
