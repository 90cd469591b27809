"""`course experiment NAME`: repeat an experiment; runs that are in its results already are not repeated."""

import argparse
import importlib

EXPERIMENTS = {"losses": "one separator trained with every loss of chapter 5"}


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course experiment`."""
    parser.add_argument("experiment", choices=sorted(EXPERIMENTS), help="; ".join(f"{k}: {v}" for k, v in EXPERIMENTS.items()))
    parser.add_argument("--only", action="append", metavar="LOSS", help="only this loss (may be given several times)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads for torch (default: 1)")


def main(arguments: argparse.Namespace) -> int:
    experiment = importlib.import_module(f"course_lib.training.experiments.{arguments.experiment}")
    experiment.run(only=arguments.only, threads=arguments.threads)
    return 0
