"""The recipe of the published HT Demucs, as chapter 9 gives it: the same file and command, with a small network."""

import os
import re
import subprocess
import sys

import torch
import yaml

from course_lib.data import STEMS, Remix, Track
from course_lib.data.augmentation import Augmentation, Repitch
from course_lib.data.musdb18 import VALIDATION_SONGS
from course_lib.demucs import repitch
from course_lib.paths import repository_root
from course_lib.training.configuration import chunks_of, read_config
from tests.song_folders import write_set

SMALL = {"channels": 8, "nfft": 256, "depth": 2, "t_layers": 2, "t_heads": 2, "bottom_channels": 16, "segment": 0.2}


def command_in(*place: str) -> str:
    """What `accelerate launch` is told in a file of the course, on one line."""
    text = repository_root().joinpath(*place).read_text(encoding="utf8").replace("\\\n#", " ")
    return " ".join(re.search(r"accelerate launch (.*?train htdemucs_musdb18hq)\n", text, re.DOTALL)[1].split())


def recipe() -> list[str]:
    """The arguments of `accelerate launch` in the configuration's own comment."""
    return command_in("course_lib", "training", "configs", "htdemucs_musdb18hq.yaml").split()


def test_the_recipe_is_the_papers():
    assert " ".join(recipe()) == command_in("chapters", "09_separating_songs.py"), "the chapter gives the same command"
    config = read_config("htdemucs_musdb18hq")
    processes = int(recipe()[recipe().index("--num_processes") + 1])
    assert config["training"]["steps"] == 1200 * 800 and config["training"]["batch_size"] * processes == 32
    assert config["model"]["bottom_channels"] == 512 and config["model"]["segment"] == config["data"]["seconds"] == 7.8
    chunks = chunks_of(config["data"], [Track.from_tensors(str(i), 100, {stem: torch.zeros(2, 1200) for stem in STEMS})
                                        for i in range(4)], 8, config["seed"])
    assert isinstance(chunks, Remix) and chunks.share == 1 and chunks.group == 4
    assert chunks.repitch == Repitch(repitch, share=0.2, semitones=2, tempo=0.05, limit=0.12)
    assert chunks.augment == Augmentation(gain=(0.25, 1.25), flip=0.5, swap=0.5)


def test_the_command_runs_with_a_small_network(tmp_path):
    """Two steps on one CPU process, in bf16 and captured by torch.compile, whose kernels are left to PyTorch."""
    write_set(tmp_path / "train", [sorted(VALIDATION_SONGS)[0], *"ABCD"], frames=22_050, rate=44_100)
    config = read_config("htdemucs_musdb18hq")
    config["name"] = "small"
    config["model"] |= SMALL
    config["facts"]["segment"] = config["data"]["seconds"] = SMALL["segment"]
    for songs in (config["data"]["tracks"][0], config["validation"]["tracks"]):
        songs["root"] = str(tmp_path)
    config["training"] |= {"steps": 2, "workers": 0}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config), encoding="utf8")
    changed = {"8": "1", "inductor": "eager", "htdemucs_musdb18hq": str(tmp_path / "small.yaml"),
               "--multi_gpu": "--cpu"}
    arguments = [changed.get(one, one) for one in recipe()]
    done = subprocess.run([sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1",
                           "--num_cpu_threads_per_process", "1", *arguments, "--folder", str(tmp_path / "run"),
                           "--no-keep"], cwd=repository_root(), env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "small: 2 steps, loss" in done.stdout
    settings = (tmp_path / "run" / "settings.json").read_text()
    assert '"bf16"' in settings
    assert (tmp_path / "run" / "validation.csv").read_text().count("\n") == 2
