"""Installing the course on Google Colab changes none of what Colab comes with, and adds little.

That chapter 1 runs there is checked by tests/colab/run.py, which makes such an environment and takes minutes.
"""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "tests" / "colab" / "constraints.txt"
# What a resolution may want beside Colab's packages and what they need themselves: small, without compiled numerics.
MAY_BE_INSTALLED = {
    "anywidget",
    "pretty-midi",
    "pooch",
    "pyyaml",
    "tqdm",
    "filelock",
    "platformdirs",
    "mido",
    "psygnal",
    "importlib-resources",
    # Colab has these with its transformers, in versions that constraints.txt does not fix
    "accelerate",
    "safetensors",
    "huggingface-hub",
    "hf-xet",
    "click",
    "httpcore2",
    "httpx2",
    "truststore",
}


def resolve(requirements, *options, timeout=60):
    """What uv resolves the requirements to for Colab's Python and system: the finished process."""
    # this Python only serves to build what has no wheel; naming it spares uv the search for one of version 3.13
    command = [
        "uv",
        "pip",
        "compile",
        "-",
        "--quiet",
        "--no-header",
        "--no-annotate",
        "--no-config",
        "--python",
        sys.executable,
        "--python-version",
        "3.13",
        "--python-platform",
        "x86_64-manylinux_2_28",
        *options,
    ]
    return subprocess.run(command, input="\n".join(requirements), capture_output=True, text=True, timeout=timeout)


def versions(text):
    """Package -> version, of a resolution or a constraints file."""
    pins = [Requirement(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


@pytest.fixture(scope="module")
def dependencies():
    """The package's own dependencies; skips where uv or the package index is out of reach."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not on the search path")
    try:
        reached = resolve(["pooch"], "--no-deps", timeout=15).returncode == 0
    except subprocess.TimeoutExpired:
        reached = False
    if not reached:
        pytest.skip("no network to the package index")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]["dependencies"]


def test_colabs_versions_stay(dependencies):
    process = resolve(dependencies, "--constraints", str(CONSTRAINTS))
    assert process.returncode == 0, process.stderr
    resolved, colab = versions(process.stdout), versions(CONSTRAINTS.read_text(encoding="utf8"))
    assert {name: resolved[name] for name in colab if name in resolved} == {
        n: v for n, v in colab.items() if n in resolved
    }
    assert {"torch", "torchaudio", "numpy", "scipy", "librosa", "ipywidgets"} <= set(resolved)
    assert not {"museval", "musdb", "stempeg"} & set(resolved)


def test_little_is_added(dependencies):
    colab = versions(CONSTRAINTS.read_text(encoding="utf8"))
    there = versions(resolve([f"{name}=={version}" for name, version in colab.items()]).stdout)
    wanted = versions(resolve(dependencies, "--constraints", str(CONSTRAINTS)).stdout)
    added = set(wanted) - set(there)
    assert added <= MAY_BE_INSTALLED, f"Colab would also install {sorted(added - MAY_BE_INSTALLED)}"


def test_a_range_that_colab_does_not_meet_is_noticed(dependencies):
    process = resolve([*dependencies, "numpy>=2.3"], "--constraints", str(CONSTRAINTS))
    assert process.returncode != 0 and "numpy" in process.stderr
