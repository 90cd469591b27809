"""Training: one loop for every chapter, resumable to the same weights; trained models that come back whole.

    from course_lib.training import FitSettings, Part, fit, load_trained, process_batches

The loop is in `loop`, how it goes in `settings`, what moves beside the model in `parts`, several processes in
`processes`, what a run leaves on disk in `checkpoints`, learning-rate schedules in `schedules`. Weight files with cards
are in `weights`, whole models in `trained`, other people's weights in `official` and (Demucs' packages)
`official_packages`, what `course train CONFIG` does in `command`, and what a CONFIG may say in `configuration`.
"""

from course_lib.training.loop import History, fit, process_batches
from course_lib.training.parts import Part
from course_lib.training.processes import end_processes, gathered, over_processes
from course_lib.training.settings import FitSettings
from course_lib.training.trained import Facts, load_trained, with_facts
from course_lib.training.weights import load_weights, read_card, save_weights

__all__ = ["Facts", "FitSettings", "History", "Part", "end_processes", "fit", "gathered", "load_trained",
           "load_weights", "over_processes", "process_batches", "read_card", "save_weights", "with_facts"]
