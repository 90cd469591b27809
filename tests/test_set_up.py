"""The ways to set the course up agree: pyproject's ranges and pins, requirements.txt, environment.yml, CITATION.cff."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from course_lib import __version__
from course_lib.notebook.publish import current_address

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))
PINS = [Requirement(line) for lines in PROJECT["dependency-groups"].values() for line in lines]
RANGES = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
EXPORT = ["uv", "export", "--quiet", "--no-hashes", "--no-emit-project", "--no-annotate", "--all-groups", "--no-header"]


def requirement_lines(text):
    """The lines of a requirements file that name packages."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def version_of(requirement):
    """The version that a pin names, None for anything but a single ==."""
    specifiers = list(requirement.specifier)
    exact = len(specifiers) == 1 and specifiers[0].operator == "==" and "*" not in specifiers[0].version
    return Version(specifiers[0].version) if exact else None


def pinned_versions():
    return {canonicalize_name(pin.name): version_of(pin) for pin in PINS}


def colab_versions():
    lines = requirement_lines((ROOT / "tests" / "colab" / "constraints.txt").read_text(encoding="utf8"))
    return {canonicalize_name(pin.name): version_of(pin) for pin in map(Requirement, lines)}


def test_groups_pin_exactly():
    assert [str(pin) for pin in PINS if version_of(pin) is None] == []


def test_every_dependency_is_pinned_within_its_range():
    pins = pinned_versions()
    assert [str(one) for one in RANGES if pins.get(canonicalize_name(one.name)) not in one.specifier] == []


def test_every_range_holds_colabs_version():
    colab = colab_versions()
    assert None not in colab.values() and "torch" in colab
    assert [
        str(one)
        for one in RANGES
        if (name := canonicalize_name(one.name)) in colab and colab[name] not in one.specifier
    ] == []
    assert not {"museval", "musdb"} & {canonicalize_name(one.name) for one in RANGES}


def test_numpy_and_torch_fit_their_peers():
    pins = pinned_versions()
    assert pins["numpy"] in SpecifierSet("<2.5")
    assert pins["torch"] == pins["torchaudio"] == Version("2.11.0")


def test_what_lies_below_the_pins_is_fixed_to_a_date():
    assert PROJECT["tool"]["uv"]["exclude-newer"].startswith("20")
    assert (ROOT / ".gitignore").read_text(encoding="utf8").splitlines().count("uv.lock") == 1


def test_requirements_name_the_pins():
    named = {}
    for line in requirement_lines((ROOT / "requirements.txt").read_text(encoding="utf8")):
        pin = Requirement(line)
        named.setdefault(canonicalize_name(pin.name), set()).add(version_of(pin))
    assert {name: named.get(name) for name in pinned_versions()} == {name: {v} for name, v in pinned_versions().items()}
    assert None not in set().union(*named.values())


def test_requirements_are_what_uv_exports(tmp_path):
    if shutil.which("uv") is None:
        pytest.skip("uv is not on the search path")
    for name in ("pyproject.toml", "README.md", "LICENSE", "uv.lock"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, tmp_path)
    try:
        exported = subprocess.run(EXPORT, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("uv could not resolve the pins within two minutes: no network to the package index?")
    if exported.returncode and "failed to fetch" in exported.stderr.lower():
        pytest.skip("no network to the package index")
    assert exported.returncode == 0, exported.stderr
    stored = requirement_lines((ROOT / "requirements.txt").read_text(encoding="utf8"))
    command = "uv export --no-hashes --no-emit-project --no-annotate --all-groups -o requirements.txt"
    assert stored == requirement_lines(exported.stdout), f"requirements.txt is out of date: {command}"


def test_conda_environment_takes_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf8"))
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    packages = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert packages == ["-r requirements.txt", "-e ."]
    python = next(entry.partition("=")[2] for entry in plain if entry.startswith("python="))
    assert Version(python) in SpecifierSet(PROJECT["project"]["requires-python"]) and "pip" in plain
    assert f"conda activate {environment['name']}" in (ROOT / "README.md").read_text(encoding="utf8")


def test_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf8"))
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert citation["message"] and citation["title"] and all(author.get("name") for author in citation["authors"])
    assert str(citation["version"]) == __version__ == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"] == "MIT"
    assert citation["repository-code"] == current_address(ROOT).repository


def test_course_lists_its_commands():
    said = subprocess.run(
        [sys.executable, "-m", "course_lib.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(f"\n    {name} " in said for name in ("lab", "band", "run", "publish")), said
