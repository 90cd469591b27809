"""The ways to set the course up agree: pyproject's ranges and pins, requirements.txt, environment.yml, CITATION.cff."""

import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from course_lib import __version__
from course_lib.authoring import pins
from course_lib.authoring.publish import current_address

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf8")
PROJECT = tomllib.loads(PYPROJECT)
PINS = [Requirement(line) for lines in PROJECT["dependency-groups"].values() for line in lines]
RANGES = [Requirement(line) for line in PROJECT["project"]["dependencies"]]


def version_of(requirement):
    """The version that a pin names, None for anything but a single ==."""
    specifiers = list(requirement.specifier)
    exact = len(specifiers) == 1 and specifiers[0].operator == "==" and "*" not in specifiers[0].version
    return Version(specifiers[0].version) if exact else None


def pinned_versions():
    return {canonicalize_name(pin.name): version_of(pin) for pin in PINS}


def colab_versions():
    found = pins.read_requirements((ROOT / "tests" / "colab" / "constraints.txt").read_text(encoding="utf8"))
    return {canonicalize_name(pin.name): version_of(pin) for pin in found}


def test_groups_pin_exactly():
    assert [str(pin) for pin in PINS if version_of(pin) is None] == []


def test_every_dependency_is_pinned_within_its_range():
    pinned = pinned_versions()
    assert [str(one) for one in RANGES if pinned.get(canonicalize_name(one.name)) not in one.specifier] == []


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
    pinned = pinned_versions()
    assert pinned["numpy"] in SpecifierSet("<2.5")
    assert pinned["torch"] == pinned["torchaudio"] == Version("2.11.0")


def test_no_version_depends_on_the_day():
    """Everything that uv installs is a constraint, and no date of an index decides: those are changed afterwards."""
    settings = PROJECT["tool"]["uv"]
    assert "exclude-newer" not in settings
    build = [Requirement(line) for line in settings["build-constraint-dependencies"]]
    assert [str(pin) for pin in build if version_of(pin) is None] == []
    asked = [Requirement(line) for line in PROJECT["build-system"]["requires"]]
    assert {(pin.name, version_of(pin)) for pin in asked} <= {(pin.name, version_of(pin)) for pin in build}
    assert (ROOT / ".gitignore").read_text(encoding="utf8").splitlines().count("uv.lock") == 1


def test_constraints_are_the_lines_of_requirements():
    stored = pins.read_requirements((ROOT / "requirements.txt").read_text(encoding="utf8"))
    assert list(map(str, pins.shortened(stored))) == list(map(str, pins.constraints(PYPROJECT)))


def test_requirements_name_the_pins():
    named = {}
    for pin in pins.read_requirements((ROOT / "requirements.txt").read_text(encoding="utf8")):
        named.setdefault(canonicalize_name(pin.name), set()).add(version_of(pin))
    assert {name: named.get(name) for name in pinned_versions()} == {name: {v} for name, v in pinned_versions().items()}
    assert None not in set().union(*named.values())


def test_the_committed_pins_resolve_together():
    """Asked today, whatever else the index holds by now, uv finds exactly the committed versions."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not on the search path")
    try:
        found = pins.resolve(ROOT, PYPROJECT)
    except ValueError as error:
        if "failed to fetch" in str(error).lower():
            pytest.skip("no network to the package index")
        raise
    stored = pins.read_requirements((ROOT / "requirements.txt").read_text(encoding="utf8"))
    assert versions(found) == versions(stored), "requirements.txt is out of date: uv run course pins"


def versions(requirements):
    return {(canonicalize_name(pin.name), version_of(pin)) for pin in requirements}


def test_this_environment_holds_the_pins():
    stored = pins.read_requirements((ROOT / "requirements.txt").read_text(encoding="utf8"))
    here = [pin for pin in stored if pin.marker is None or pin.marker.evaluate()]
    other = {pin.name: (version_of(pin), found) for pin in here
             if (found := installed_version(pin.name)) != version_of(pin)}
    assert other == {}


def installed_version(name):
    try:
        return Version(metadata.version(name))
    except metadata.PackageNotFoundError:
        return None


def test_pins_written_into_a_project(tmp_path):
    """One package of several versions keeps its conditions, any other loses them; a second writing changes nothing."""
    text = '[tool.uv]\nconstraint-dependencies = [\n    "old==1",\n]\n'
    found = [Requirement("a==1.0; sys_platform == 'linux'"), Requirement("b==2; python_version < '3.12'"),
             Requirement("b==3; python_version >= '3.12'")]
    written = pins.with_constraints(text, found)
    assert tomllib.loads(written)["tool"]["uv"]["constraint-dependencies"] == [
        "a==1.0", "b==2; python_version < '3.12'", "b==3; python_version >= '3.12'"]
    assert pins.with_constraints(written, pins.constraints(written)) == written
    with pytest.raises(ValueError, match="has no list `constraint-dependencies"):
        pins.with_constraints("[tool.uv]\n", found)


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
