"""Chapter 8's HT Demucs in miniature: depth, width, context and parts of the transformer, three kinds of Demucs in
equal time, and the bounds.

What differs between two runs of `course experiment htdemucs` is one thing (VARIANTS) and the seed; songs, scores and
augmentation are those of chapters 6 and 7. Runs have equal steps and equally much audio a step, but for those whose
name says "equal time": they get the computing time of the base, counted in seconds of one core; and for the "loud"
ones, whose transformer is not hidden at the start, and which learn faster, or longer; LEARNED ones are loud, too, and
learn eight times as long, their FORERUNNERS in equal time beside them. data/results/08_ht_demucs holds what came of it:
a row a run (runs), its test songs (songs), its loss (logs), its test songs with a part of the network silenced
(silenced), and the bounds on the same songs with what the committed network gives (bounds), on songs played with
another soundfont, too (other_instruments).

`course train htdemucs_band` trains the network that comes with the course: mono at 22,050 Hz, as those of chapters 6
and 7, on chunks of SEGMENT samples, of which six make up a song of 20 s.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.data import STEMS, Remix, Track, open_tracks
from course_lib.data.augmentation import Augmentation
from course_lib.data.band.soundfonts import file_sha256, find_fluid_soundfont
from course_lib.data.mono import mono_tracks
from course_lib.data.resampling import resample
from course_lib.demucs import Demucs, LayerScale, WaveformStep, center_trim, separate
from course_lib.experiments.demucs import RATE, Songs, middle, rows_by_song, songs_of, thinned, valid_songs
from course_lib.experiments.runner import Experiment, Work
from course_lib.experiments.scoreboard import HIGHEST, LOWEST, RULES, ModelSeparator, bounds, estimates_of
from course_lib.hdemucs import HDemucs
from course_lib.htdemucs import HTDemucs, SelfAttentionLayer
from course_lib.paths import data_dir
from course_lib.progress import progress
from course_lib.results import Results, machine, shipped_file
from course_lib.spectral import song_sdr
from course_lib.training import FitSettings, fit, load_trained, process_batches
from course_lib.training.schedules import cosine

SEGMENT = 73_500                              # samples of a chunk: 3 1/3 s, a sixth of a song
TOPIC = "08_ht_demucs"
OURS, UNMIX = "htdemucs_band", "open_unmix_band"                                        # committed checkpoints
WAVEFORM, HYBRID, TRANSFORMER = "Demucs, longer", "Hybrid Demucs, longer", "HT Demucs, longer"
TRAINED = {WAVEFORM: "demucs_band", HYBRID: "hdemucs_band", TRANSFORMER: OURS}


# ------------------------------------------------------------------------------------------- the network of the course


def training_chunks(seed: int, length: int, samples: int = SEGMENT, further: int = 0, remix: float = 0.5) -> Remix:
    """The training data of `course train htdemucs_band`: chunks of the band's train songs and of `further` others.

    samples: of a chunk. remix: share of groups whose stems come from several songs. Kept in data/training/demucs.
    """
    cache = data_dir() / "training" / "demucs"
    tracks = songs_of("train", 60, 20.0, cache)
    if further:
        tracks += mono_tracks(lambda: open_tracks("band", "further", seeds=range(1000, 1000 + further)), RATE, 20.0,
                              cache / f"further_{further}_20s_{RATE}Hz.npy")
    return Remix(tracks, samples / RATE, length, seed, augment=Augmentation(), share=remix)


def in_segments(model: nn.Module, mixture: Tensor, samples: int = SEGMENT) -> Tensor:
    """Sources of a song that is cut into equal pieces, one beside the other: (channel, time) to (source, channel,
    time). The last piece is filled up with zeros. Chapter 9 lets the pieces overlap."""
    time = mixture.shape[-1]
    pieces = nn.functional.pad(mixture, (0, -time % samples)).unfold(-1, samples, samples).transpose(0, 1)
    sources = torch.cat([model(piece[None]) for piece in pieces])                # (piece, source, channel, sample)
    return sources.movedim(0, -2).flatten(-2)[..., :time]


def separation_scores(model: nn.Module, data: Sequence[Track]) -> dict[str, float]:
    """Mean SDR in dB over songs of each source, and their mean (`sdr`, first), in pieces of SEGMENT samples."""
    device, rows = next(model.parameters()).device, []
    with torch.no_grad():
        for track in data:
            estimates = in_segments(model, track.mixture.to(device))
            rows.append(song_sdr(estimates, track.sources(model.sources).to(device)))
    means = torch.stack(rows).nanmean(0)                                         # (song, source) -> (source,)
    return {"sdr": float(means.mean()), **dict(zip(model.sources, means.tolist()))}


# ---------------------------------------------------------------------------------------------------------- miniatures


@dataclass(frozen=True)
class Sizes:
    """What all runs share."""

    channels: int = 8
    nfft: int = 2048
    depth: int = 4
    layers: int = 3                   # of the transformer
    heads: int = 4
    hybrid_channels: int = 12         # of chapter 7's network in the runs of equal time; nfft 1024, depth 5
    time_channels: int = 16           # of chapter 6's, depth 5
    samples: int = 36_864             # of a chunk: 1.7 s
    batch_size: int = 2
    steps: int = 200
    rate: float = 1e-3                # Adam's, by a cosine to a twentieth of it
    warmup: int = 20
    clip: float = 5.0                 # largest norm of the gradient
    remix: float = 0.5                # share of the groups of chunks whose stems come from several songs
    train_songs: int = 60
    valid_songs: int = 12
    test_songs: int = 20
    song_seconds: float = 20.0
    score_seconds: float = 10.0       # from the middle of each test song


@dataclass(frozen=True)
class Variant:
    """What differs from the base: the kind of network ("HTDemucs", "HDemucs", "Demucs"), its arguments, self attention
    in the place of cross attention, the length of a chunk (as a factor; the batch is as many times smaller), equal time
    instead of equal steps; what the transformer's scales begin with (None: as published), the rate (None: that of all)
    and how many times as many steps."""

    kind: str = "HTDemucs"
    model: Mapping[str, object] = field(default_factory=dict)
    cross: bool = True
    longer: float = 1.0
    equal_time: bool = False
    scale: float | None = None
    rate: float | None = None
    times: int = 1


VARIANTS: dict[str, Variant] = {
    "base": Variant(),
    "Hybrid Demucs, equal time": Variant("HDemucs", equal_time=True),
    "Demucs, equal time": Variant("Demucs", equal_time=True),
    "no transformer": Variant(model={"t_layers": 0}),
    "without cross attention": Variant(cross=False),
    "1 layer": Variant(model={"t_layers": 1}),
    "5 layers": Variant(model={"t_layers": 5}),
    "short context": Variant(longer=0.5),
    "long context": Variant(longer=2.0),
    "without positions": Variant(model={"t_weight_pos_embed": 0.0}),
    "twice as wide": Variant(model={"bottom_channels": 128}),
    "no transformer, equal time": Variant(model={"t_layers": 0}, equal_time=True),
    "loud": Variant(scale=0.1, rate=3e-3),
    "loud, 800 steps": Variant(scale=0.1, rate=3e-3, times=4),
}
LEARNED = {                           # with and without a transformer, and with longer chunks, eight times as long
    "learned": "base", "learned, no transformer": "no transformer", "learned, long context": "long context",
}
VARIANTS |= {name: replace(VARIANTS[of], scale=0.1, rate=3e-3, times=8) for name, of in LEARNED.items()}
FORERUNNERS = {"learned, Demucs": "Demucs, equal time"}
VARIANTS |= {name: replace(VARIANTS[of], times=8) for name, of in FORERUNNERS.items()}        # in equal time, too
SEEDS: dict[str, tuple[int, ...]] = dict.fromkeys(("base", *LEARNED, *FORERUNNERS), (0, 1))    # the others: the first


@dataclass(frozen=True)
class Run:
    """One training: the name of a variant and the seed."""

    variant: str
    seed: int


def shared_songs(sizes: Sizes, cache: Path) -> Songs:
    """The songs of the three splits, those of chapter 6's experiment, kept in its place."""
    return Songs(sizes, data_dir() / "training" / "demucs")


def new_model(variant: Variant, sizes: Sizes, seed: int) -> nn.Module:
    """The network of a variant, its first weights drawn by the seed."""
    torch.manual_seed(seed)
    same = {"audio_channels": 1, "samplerate": RATE}
    if variant.kind == "Demucs":
        return Demucs(STEMS, channels=sizes.time_channels, depth=5, resample=False, dconv_init=1e-3, **same)
    if variant.kind == "HDemucs":
        return HDemucs(STEMS, channels=sizes.hybrid_channels, nfft=1024, depth=5, **same)
    model = HTDemucs(STEMS, **{"channels": sizes.channels, "nfft": sizes.nfft, "depth": sizes.depth,
                               "t_layers": sizes.layers, "t_heads": sizes.heads, **same, **variant.model})
    model = model if variant.cross else without_cross_attention(model)
    if variant.scale is not None and model.crosstransformer is not None:
        with torch.no_grad():
            for scale in transformer_scales(model):
                scale.fill_(variant.scale)
    return model


def transformer_scales(model: HTDemucs) -> list[nn.Parameter]:
    """The weights of all `LayerScale` in the transformer: zeros make its layers pass on what came in."""
    return [module.scale for module in model.crosstransformer.modules() if isinstance(module, LayerScale)]


@contextlib.contextmanager
def silenced(model: HTDemucs, part: str) -> Iterator[None]:
    """The network without what its transformer's layers add (part "layers"), or with zeros in the place of all that
    comes out of the transformer, so that its decoders know what the skips tell them ("bottom")."""
    scales = transformer_scales(model)
    kept = [scale.detach().clone() for scale in scales]
    hook = None
    with torch.no_grad():
        if part == "layers":
            for scale in scales:
                scale.zero_()
        else:
            zeros = lambda module, given, out: tuple(torch.zeros_like(one) for one in out)
            hook = model.crosstransformer.register_forward_hook(zeros)
        try:
            yield
        finally:
            for scale, before in zip(scales, kept):
                scale.copy_(before)
            if hook is not None:
                hook.remove()


def without_cross_attention(model: HTDemucs) -> HTDemucs:
    """The same network with self attention in the place of cross attention: the branches hear nothing of each other."""
    transformer = model.crosstransformer
    for layers in (transformer.layers, transformer.layers_t):
        for place, layer in enumerate(layers):
            if not isinstance(layer, SelfAttentionLayer):
                wide, hidden = layer.linear1.in_features, layer.linear1.out_features
                layers[place] = SelfAttentionLayer(wide, layer.cross_attn.num_heads, hidden, 0.0, norm_first=True,
                                                   norm_out=1, layer_scale=True)
    return model


def seconds_a_step(model: nn.Module, samples: int, batch_size: int, steps: int = 3) -> float:
    """Seconds of one core that a training step takes: the quickest of some, after one that warms up."""
    optimizer = torch.optim.Adam(model.parameters(), 0.0)                                # leaves the weights alone
    x, taken = 0.1 * torch.randn(batch_size, 1, samples, generator=torch.Generator().manual_seed(0)), []
    for _ in range(steps + 1):
        began = time.process_time()
        optimizer.zero_grad()
        model(x).abs().mean().backward()
        optimizer.step()
        taken.append(time.process_time() - began)
    optimizer.zero_grad()
    return min(taken[1:])


def steps_in_equal_time(model: nn.Module, sizes: Sizes) -> int:
    """How many steps a network makes in the time of all steps of the base, measured in turn, in seconds of one core."""
    base, samples = new_model(VARIANTS["base"], sizes, 0), chunk_samples(model, sizes.samples)
    turns = [(seconds_a_step(base, sizes.samples, sizes.batch_size), seconds_a_step(model, samples, sizes.batch_size))
             for _ in range(2)]
    return max(1, round(sizes.steps * min(turn[0] for turn in turns) / min(turn[1] for turn in turns)))


def chunk_samples(model: nn.Module, samples: int) -> int:
    """The length of a training chunk: of a waveform network one that it takes without padding."""
    return model.valid_length(samples) if isinstance(model, Demucs) else samples


def train(variant: Variant, songs: Songs, sizes: Sizes, seed: int) -> tuple[nn.Module, list[dict]]:
    """Train a new network; return it in eval mode, and its log."""
    model = new_model(variant, sizes, seed)
    steps = variant.times * (steps_in_equal_time(model, sizes) if variant.equal_time else sizes.steps)
    samples, batch = round(sizes.samples * variant.longer), round(sizes.batch_size / variant.longer)
    chunks = Remix(songs.train, chunk_samples(model, samples) / RATE, steps * batch, seed, augment=Augmentation(),
                   share=sizes.remix)
    history = fit(model, WaveformStep("l1"), process_batches(chunks, batch),
                  torch.optim.Adam(model.parameters(), variant.rate or sizes.rate), FitSettings(steps, clip=sizes.clip),
                  schedule=cosine(steps, min(sizes.warmup, steps), 0.05), progress=False)
    return model.eval(), history.steps


def estimated(model: nn.Module, mixture: Tensor, samples: int) -> Tensor:
    """Sources of a mixture (channel, time): HT Demucs in pieces as long as it was trained on, the others in one."""
    return in_segments(model, mixture, samples) if isinstance(model, HTDemucs) else separate(model, mixture)


@torch.no_grad()
def sdr_table(model: nn.Module, tracks: Sequence[Track], samples: int = SEGMENT) -> Tensor:
    """SDR of every song and source: (song, source)."""
    return torch.stack([song_sdr(estimated(model, track.mixture, samples), track.sources(STEMS)) for track in tracks])


# ------------------------------------------------------------------------------------------------------------ the runs


def all_runs(work: Work) -> list[Run]:
    """Every variant with its seeds."""
    runs = [Run(variant, seed) for variant in VARIANTS for seed in SEEDS.get(variant, (0,))]
    return sorted(runs, key=lambda run: run.seed)


def digests(names: Sequence[str]) -> dict[str, str] | None:
    """The SHA-256 of committed weights by name; None before all of them are there."""
    try:
        return {name: file_sha256(shipped_file(f"checkpoints/{name}.safetensors")) for name in names}
    except FileNotFoundError:
        return None


def references(work: Work) -> list[Run]:
    """No runs: the bounds, and what the committed network gives, anew where its weights are others."""
    digest, sizes = digests([*TRAINED.values(), UNMIX]), work.settings
    if digest is None or (work.results.card("bounds") or {}).get("weights") == digest:
        return []
    known = Results("07_hybrid_demucs").rows("bounds")                      # on the same songs
    ours = rows_by_song(sdr_table(load_trained(OURS), work.given.test), work.given.test, method=TRANSFORMER)
    work.results.write("bounds", [*known, *ours])
    work.results.write("other_instruments", other_instruments(sizes))
    work.results.write_card("bounds", {
        "what": f"The middle {sizes.score_seconds:g} s of the band's test songs, mono at 22,050 Hz: SDR by methods "
                "that no run of runs.csv trained; other_instruments: the same songs played with another soundfont",
        "command": EXPERIMENT.command, "weights": digest, "songs": sizes.test_songs,
        "tables": ["bounds", "other_instruments"]})
    return []


def other_instruments(sizes: Sizes) -> list[dict]:
    """The test songs played with a soundfont that no training heard: rows method, song, stems. Open-Unmix hears them
    in stereo at 44.1 kHz; what it gives is brought to mono and RATE, as the references are."""
    opened = open_tracks("band", split="test", count=sizes.test_songs, soundfont=find_fluid_soundfont())
    known, unmix, rows = bounds(), ModelSeparator(load_trained(UNMIX)), []
    networks = {method: load_trained(name) for method, name in TRAINED.items()}
    for full in progress(opened, "other instruments"):
        full = middle(full, sizes.score_seconds)
        track = mono_tracks(partial(list, [full]), RATE, sizes.score_seconds)[0]
        references = track.sources(STEMS)
        estimates = {name: estimates_of(known[name], references, RATE) for name in (LOWEST, RULES, HIGHEST)}
        heard = unmix(full.mixture, full.rate).mean(1, keepdim=True)
        estimates["Open-Unmix"] = center_trim(resample(heard, full.rate, RATE), track.frames)
        with torch.no_grad():
            estimates |= {method: estimated(model, track.mixture, SEGMENT) for method, model in networks.items()}
        for method, estimate in estimates.items():
            rows += rows_by_song(song_sdr(estimate, references)[None], [track], method=method)
    return rows


def one_run(run: Run, work: Work) -> dict[str, list[dict]]:
    """Train and score: the rows of a run, by table."""
    sizes, songs, variant = work.settings, work.given, VARIANTS[run.variant]
    began, used = time.perf_counter(), time.process_time()
    model, log = train(variant, songs, sizes, run.seed)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
    samples, silent = round(sizes.samples * variant.longer), {}
    test = sdr_table(model, songs.test, samples)
    if getattr(model, "crosstransformer", None) is not None:
        silent["silenced"] = []
        for part in ("layers", "bottom"):
            with silenced(model, part):
                silent["silenced"] += rows_by_song(sdr_table(model, songs.test, samples), songs.test, part=part)
    stems = test.nanmean(0)                                                            # (song, source) -> (source)
    print(f"  test {stems.mean():.3f} dB, {len(log)} steps, {cpu_seconds:.0f} s of one core", flush=True)
    return {"logs": thinned(log), "songs": rows_by_song(test, songs.test), **silent, "runs": [{
        "steps": len(log), "test_sdr": f"{stems.mean():.3f}",
        **{f"test_{stem}": f"{value:.3f}" for stem, value in zip(STEMS, stems)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "last_loss": f"{np.mean([row['loss'] for row in log[-20:]]):.6g}", "seconds": f"{seconds:.1f}",
        "cpu_seconds": f"{cpu_seconds:.1f}", "songs": len(test), "machine": machine(),
        "date": time.strftime("%Y-%m-%d", time.gmtime())}]}


def facts(work: Work) -> Mapping:
    sizes = work.settings
    return {"trained_on": f"{sizes.train_songs} train songs of the band, mono; scores on the middle "
                          f"{sizes.score_seconds:g} s of {sizes.test_songs} test songs", "rate_hz": RATE,
            "variants": {name: asdict(variant) for name, variant in VARIANTS.items()},
            "score": "SDR in dB of these pieces, mean over songs, then over stems; HT Demucs in pieces as long as its "
                     "training chunks"}


EXPERIMENT = Experiment(name="htdemucs", what="a small HT Demucs, its transformer changed, and its forerunners in "
                        "equal time", topic=TOPIC, stages=[all_runs, references], run=one_run, settings=Sizes(),
                        prepare=shared_songs, names=tuple(VARIANTS), facts=facts)

__all__ = ["EXPERIMENT", "FORERUNNERS", "LEARNED", "Run", "SEEDS", "SEGMENT", "Sizes", "TOPIC", "TRAINED", "VARIANTS",
           "Variant", "in_segments", "new_model", "seconds_a_step", "separation_scores", "silenced",
           "steps_in_equal_time", "train", "training_chunks", "transformer_scales", "valid_songs",
           "without_cross_attention"]
