"""`course publish OWNER/NAME[@TAG]`: write the repository's public address wherever the course names it.

The address stands in pyproject.toml ([project.urls]); from there it goes into every chapter's Colab badge and install
cell (text and notebook alike, outputs untouched), into the README and into CITATION.cff. Until the course is published
all of them hold the placeholder OWNER/NAME. The command may be run again, with the same address or with another one.
"""

import argparse
import json
import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from course_lib.paths import repository_root

DEFAULT_TAG = "main"
OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?")  # GitHub's rule for the names of accounts
NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")  # no slash: Colab could not tell it from a path
PROJECT_URL = re.compile(r'^(?P<key>Repository|Chapters)(?P<equals>\s*=\s*)"(?P<url>[^"]*)"', re.MULTILINE)
BADGE_IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
COLAB_LINK = re.compile(
    r"https://colab\.research\.google\.com/github/(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)/blob/(?P<tag>[\w.-]*\w)"
    r"/(?P<path>chapters/[\w./-]+\.ipynb)"
)
INSTALL_SOURCE = re.compile(r"git\+https://github\.com/(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)@(?P<tag>[\w.-]*\w)")
UNPUBLISHED_NOTE = re.compile(r"<!-- unpublished -->.*?<!-- /unpublished -->\n*", re.DOTALL)


@dataclass(frozen=True)
class Address:
    """Where the course is published: a GitHub repository and the branch or tag that links lead to."""

    owner: str
    name: str
    tag: str = DEFAULT_TAG

    @property
    def repository(self) -> str:
        """The repository's page."""
        return f"https://github.com/{self.owner}/{self.name}"

    @property
    def chapters(self) -> str:
        """The page of the folder chapters/ at the tag."""
        return f"{self.repository}/tree/{self.tag}/chapters"

    @property
    def install_source(self) -> str:
        """What pip installs the package from."""
        return f"git+{self.repository}@{self.tag}"

    def colab_link(self, path: str) -> str:
        """The address that opens the notebook `path` (relative to the repository) in Colab."""
        return f"https://colab.research.google.com/github/{self.owner}/{self.name}/blob/{self.tag}/{path}"

    def badge(self, path: str) -> str:
        """The Markdown of a badge that opens the notebook `path` in Colab."""
        return f"[![Open in Colab]({BADGE_IMAGE})]({self.colab_link(path)})"

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}@{self.tag}"


PLACEHOLDER = Address("OWNER", "NAME")


def parse_address(text: str) -> Address:
    """The address written OWNER/NAME or OWNER/NAME@TAG; ValueError that says what is wrong with any other text."""
    repository, at, tag = text.partition("@")
    owner, slash, name = repository.partition("/")
    expected = "expected OWNER/NAME or OWNER/NAME@TAG, such as ada/separation-course@v1.0"
    if not slash or (at and not tag):
        raise ValueError(f"{text!r} is no address of a repository; {expected}")
    if not OWNER.fullmatch(owner):
        raise ValueError(f"{owner!r} is no name of a GitHub account (letters, digits and single hyphens); {expected}")
    if not NAME.fullmatch(name) or name in (".", "..") or name.endswith(".git"):
        raise ValueError(f"{name!r} is no name of a GitHub repository (letters, digits, . _ -; no .git); {expected}")
    if at and not TAG.fullmatch(tag):
        raise ValueError(
            f"{tag!r} is no tag or branch that Colab can open (letters, digits, . _ -; no slash); {expected}"
        )
    return Address(owner, name, tag or DEFAULT_TAG)


def current_address(root: Path) -> Address:
    """The address in `root`'s pyproject.toml. ValueError where [project.urls] does not hold one."""
    urls = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf8"))["project"].get("urls", {})
    match = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+)/tree/([\w.-]+)/chapters", urls.get("Chapters", ""))
    address = Address(*match.groups()) if match else None
    if address is None or urls.get("Repository") != address.repository:
        raise ValueError(
            f'pyproject.toml: [project.urls] is {urls}; expected Repository = "{PLACEHOLDER.repository}" and '
            f'Chapters = "{PLACEHOLDER.chapters}" with the owner and the name of one repository'
        )
    return address


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `course publish`."""
    parser.add_argument(
        "address", metavar="OWNER/NAME[@TAG]", help="the GitHub repository; links lead to TAG, else to main"
    )
    parser.add_argument("--dry-run", action="store_true", help="say which files would change, and change none")


def main(arguments: argparse.Namespace) -> int:
    """Run `course publish` on the checkout this package belongs to."""
    root = repository_root()
    if root is None:
        raise FileNotFoundError("the package is installed without a checkout; run `course publish` in a clone")
    address = parse_address(arguments.address)
    changed = publish(root, address, dry_run=arguments.dry_run)
    verb = "would change" if arguments.dry_run else "changed"
    print(
        "\n".join(f"{verb} {path.relative_to(root).as_posix()}" for path in changed)
        or f"everything names {address} already"
    )
    return 0


def publish(root: Path, address: Address, *, dry_run: bool = False) -> list[Path]:
    """Write `address` into the checkout at `root` and return the files that changed (or would, with dry_run)."""
    old = current_address(root)
    new_texts = {path: text for path, text in _rewritten(root, old, address) if text != path.read_text(encoding="utf8")}
    if not dry_run:
        # the notebooks first: their texts stay the newer ones of each pair
        for path in sorted(new_texts, key=lambda path: path.suffix != ".ipynb"):
            path.write_text(new_texts[path], encoding="utf8", newline="\n")
            if path.suffix == ".ipynb" and path.with_suffix(".py").exists():
                os.utime(path.with_suffix(".py"))
    return sorted(new_texts)


def _rewritten(root: Path, old: Address, new: Address) -> Iterator[tuple[Path, str]]:
    """Every file that names the address, with its text as it should be."""
    path = root / "pyproject.toml"
    yield path, readdress_project(path.read_text(encoding="utf8"), new)
    for path in sorted((root / "chapters").rglob("*")):
        if path.suffix == ".ipynb" and ".ipynb_checkpoints" not in path.parts:
            yield path, readdress_notebook(path.read_text(encoding="utf8"), new)
        elif path.suffix == ".py":
            yield path, readdress_text(path.read_text(encoding="utf8"), new)
    for path in (root / "README.md", root / "CITATION.cff"):
        if path.exists():
            text = readdress_text(path.read_text(encoding="utf8"), new)
            # a repository's own page, as far as the whole name: not of a longer one that begins the same way
            text = re.sub(re.escape(old.repository) + r"(?![\w-]|\.(?!git\b)\w)", new.repository, text)
            yield path, text if new == PLACEHOLDER else UNPUBLISHED_NOTE.sub("", text)


def readdress_project(text: str, address: Address) -> str:
    """pyproject.toml's text with the two links of [project.urls] leading to `address`."""
    links = {"Repository": address.repository, "Chapters": address.chapters}
    return PROJECT_URL.sub(lambda match: f'{match["key"]}{match["equals"]}"{links[match["key"]]}"', text)


def readdress_text(text: str, address: Address) -> str:
    """`text` with every Colab link and every pip source of the course leading to `address`."""
    text = COLAB_LINK.sub(lambda match: address.colab_link(match["path"]), text)
    return INSTALL_SOURCE.sub(address.install_source, text)


def readdress_notebook(text: str, address: Address) -> str:
    """A notebook's JSON with the links in its cells leading to `address`; outputs are not looked at."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        source = cell["source"]
        lines = source if isinstance(source, list) else [source]
        lines = [readdress_text(line, address) for line in lines]
        cell["source"] = lines if isinstance(source, list) else lines[0]
    # as nbformat writes it, so that a stored notebook changes nowhere else
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True, separators=(",", ": ")) + "\n"


def addresses_in(text: str) -> Iterator[tuple[str, Address]]:
    """Every Colab link ('badge') and pip source ('install cell') in `text`, with the address it leads to."""
    for what, pattern in (("badge", COLAB_LINK), ("install cell", INSTALL_SOURCE)):
        for match in pattern.finditer(text):
            yield what, Address(match["owner"], match["name"], match["tag"])
