"""Training: one loop for every chapter, resumable to the same weights; weight files with cards; official weights.

    from course_lib.training import fit, load_weights, save_weights

The loop is in `loop`, what it leaves on disk in `checkpoints`, learning-rate schedules in `schedules`, weight files
and their cards in `weights`, what `course train CONFIG` does in `command`.
"""

from course_lib.training.loop import History, end_processes, fit, process_batches
from course_lib.training.weights import load_weights, read_card, save_weights

__all__ = ["History", "end_processes", "fit", "load_weights", "process_batches", "read_card", "save_weights"]
