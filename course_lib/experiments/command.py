"""`course experiment NAME`: measure what a chapter's tables hold; runs that have a row are not repeated."""

import argparse
import dataclasses
import importlib
from pathlib import Path

import yaml

# name -> (module with an EXPERIMENT, what it measures)
EXPERIMENTS = {
    "classic": ("course_lib.experiments.classic", "chapter 2's methods without learning, on the band's test songs"),
    "classic_constants": (
        "course_lib.experiments.classic_constants",
        "a search for the constants of chapter 2's evidence",
    ),
    "open_unmix": (
        "course_lib.experiments.open_unmix",
        "chapter 4's Open-Unmix and its bounds, on the band's test songs",
    ),
    "losses": ("course_lib.experiments.losses", "one separator trained with every loss of chapter 5"),
    "demucs": ("course_lib.experiments.demucs", "chapter 6's Demucs with one part changed at a time, and its bounds"),
    "hdemucs": ("course_lib.experiments.hdemucs", "chapter 7's Hybrid Demucs, its branches and parts"),
    "htdemucs": (
        "course_lib.experiments.htdemucs",
        "chapter 8's HT Demucs: depth, width, context, and three kinds of Demucs in equal time",
    ),
    "real_songs": (
        "course_lib.experiments.real_songs",
        "chapter 8's networks, rules and bounds on real multitracks and on real voices over real music",
    ),
    "band_split": (
        "course_lib.experiments.band_split",
        "chapter 18's band-split networks: split, positions, masks, and two forerunners in equal time",
    ),
    "prior_separation": (
        "course_lib.experiments.prior_separation",
        "chapter 19's separation with priors, over codes and by diffusion, and other methods on the same pieces",
    ),
    "query": (
        "course_lib.experiments.query",
        "chapter 20's network that is asked: tags, examples, unseen instruments, where the condition comes in",
    ),
    "hdemucs_depth": ("course_lib.experiments.hdemucs_depth", "deeper networks, with and without norm and penalty"),
    "hdemucs_remixed": (
        "course_lib.experiments.hdemucs_remixed",
        "chapter 7's network fine-tuned on songs as they are, by chance and made to fit",
    ),
    "sparse_attention": (
        "course_lib.experiments.sparse_attention",
        "chapter 8b's frames rebuilt by dense and by sparse attention",
    ),
    "priors": (
        "course_lib.experiments.priors",
        "chapter 12's trained priors: bits per code, continuations, upsampled rows",
    ),
    "taggers": ("course_lib.experiments.taggers", "which instruments of the band sound (chapter 13)"),
    "mixit": (
        "course_lib.experiments.mixit",
        "chapter 14b's MixIT: pairings, outputs, few labelled songs, other methods",
    ),
    "studio": ("course_lib.experiments.studio", "chapter 17's studio from end to end: stems, remixes, tags, time"),
    "wavenet": ("course_lib.experiments.wavenet", "chapter 15's autoencoder: what is heard, read and drawn"),
    "translation": ("course_lib.experiments.translation", "chapter 16's translations, their rivals and the truth"),
    "translation_code": ("course_lib.experiments.translation_code", "chapter 16's ablations: what the code knows"),
    "separating": ("course_lib.experiments.separating", "chapter 9's shifts, chunks, bags and other measurements"),
    "vqvae": ("course_lib.experiments.vqvae", "chapter 10's small VQ-VAE, its codebooks, losses and bounds"),
    "small_masks": (
        "course_lib.experiments.small_masks",
        "chapter 9's small mask network: looking ahead, augmentation, averaged weights",
    ),
    "fine_tuning": (
        "course_lib.experiments.fine_tuning",
        "chapter 9's six stems: fine-tuned from four, and from scratch in equal steps",
    ),
    "tagbox": ("course_lib.experiments.tagbox", "chapter 14's TagBox, one thing changed at a time, and its rivals"),
    "jukebox": (
        "course_lib.experiments.jukebox",
        "chapter 11's small codec with one thing changed at a time, and Opus on the same songs",
    ),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course experiment`."""
    parser.add_argument(
        "experiment",
        choices=sorted(EXPERIMENTS),
        metavar="NAME",
        help="; ".join(f"{name}: {what}" for name, (_, what) in sorted(EXPERIMENTS.items())),
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="TEXT",
        help="only the runs with this text, such as a loss or a method (may be given several times)",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads for torch (default: 1)")
    parser.add_argument("--afresh", action="store_true", help="repeat runs that have a row, and replace it")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where the tables go (default: the chapter's in data/results)"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another value for one of the experiment's settings; needs --folder",
    )


def main(arguments: argparse.Namespace) -> int:
    """Run the experiment, print what it came to; 1 where a run failed."""
    from course_lib.experiments.runner import Work, run_experiment
    from course_lib.results import Results

    experiment = importlib.import_module(EXPERIMENTS[arguments.experiment][0]).EXPERIMENT
    settings = changed(experiment.settings, arguments.set) if arguments.set else None
    outcome = run_experiment(
        experiment,
        arguments.only,
        threads=arguments.threads,
        settings=settings,
        folder=arguments.folder,
        afresh=arguments.afresh,
    )
    if experiment.summary and not outcome.failed:
        print(
            experiment.summary(
                Work(experiment, settings or experiment.settings, Results(experiment.topic, arguments.folder), Path())
            )
        )
    print(f"{experiment.name}: {outcome}")
    return 1 if outcome.failed else 0


def changed(settings, assignments: list[str]):
    """Settings with other values, each given as NAME=VALUE; ValueError for an unknown name or another kind."""
    values = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not hasattr(settings, name):
            raise ValueError(
                f"--set {text}: expected NAME=VALUE with a name among "
                f"{', '.join(one.name for one in dataclasses.fields(settings))}"
            )
        values[name] = yaml.safe_load(value)
        old = getattr(settings, name)
        if isinstance(old, float) and type(values[name]) is int:
            values[name] = float(values[name])
        if old is not None and type(values[name]) is not type(old):
            raise ValueError(
                f"--set {text}: {name} is {type(values[name]).__name__}; expected {type(old).__name__}, like {old!r}"
            )
    return dataclasses.replace(settings, **values)
