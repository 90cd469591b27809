"""`course band`: render songs of the band, show where they are, or delete them."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from course_lib.data.band import library, writer
from course_lib.data.band.soundfonts import find_fluid_soundfont
from course_lib.data.band.worlds import WORLDS

FLUID = "fluid"      # the value of --soundfont that stands for find_fluid_soundfont()


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `course band`."""
    parser.description = ("Render songs of the band as folders of stems (MUSDB18-HQ layout) and keep them; songs that "
                          "are there already are left alone, so a run that was stopped goes on where it was.")
    which = parser.add_argument_group("which songs")
    which.add_argument("--split", choices=[*library.SPLITS, "all"], default="all", help="the split (default: all)")
    which.add_argument("--count", type=int, metavar="N", help="only the first N songs of each split")
    which.add_argument("--seed", type=seed_range, metavar="A[:B]",
                       help="instead of a split: the songs of the seeds A to B-1; those from "
                            f"{library.FIRST_FREE_SEED} on belong to no split")
    sound = parser.add_argument_group("how they sound")
    sound.add_argument("--seconds", type=float, default=20.0, metavar="S", help="length of a song (default: 20)")
    sound.add_argument("--rate", type=int, default=44100, metavar="HZ", help="samples per second (default: 44100)")
    sound.add_argument("--soundfont", metavar="FILE",
                       help=f"an .sf2 or .sf3 file, or '{FLUID}' for FluidR3_GM.sf2 where the system has it installed "
                            "(default: the one inside pretty_midi)")
    sound.add_argument("--world", metavar="NAME", choices=["band", *WORLDS],
                       help="draw sounds, voices and effects from a world instead: "
                            + "; ".join(f"{world.name} ({world.about})" for world in WORLDS.values()))
    parser.add_argument("--jobs", type=int, metavar="N",
                        help=f"processes that render (default: one per core, at most {library.MOST_JOBS})")
    instead = parser.add_argument_group("instead of rendering").add_mutually_exclusive_group()
    instead.add_argument("--where", action="store_true", help="print the folder that holds all songs")
    instead.add_argument("--list", action="store_true", help="list the rendered songs and the space they take")
    instead.add_argument("--clean", action="store_true", help="delete all rendered songs, and nothing else")
    parser.add_argument("--yes", action="store_true", help="do not ask before deleting")


def main(arguments: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    if arguments.where:
        print(library.band_root())
        return 0
    if arguments.list:
        return list_songs()
    if arguments.clean:
        return clean_songs(ask=not arguments.yes)
    return render(arguments)


def seed_range(text: str) -> range:
    """The seeds of "A" or "A:B"."""
    first, colon, after = text.partition(":")
    try:
        seeds = range(int(first), int(after) if colon else int(first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds or seeds[0] < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of seeds; expected A or A:B with 0 <= A < B, such as "
                                         "1000:1100")
    return seeds


def wanted_songs(arguments: argparse.Namespace) -> dict[str, list[int]]:
    """Folder name of the split -> seeds, as the options ask."""
    if arguments.seed is not None:
        if arguments.split != "all" or arguments.count is not None:
            raise ValueError("--seed says which songs; leave out --split and --count")
        wanted: dict[str, list[int]] = {}
        for seed in arguments.seed:
            wanted.setdefault(library.split_of(seed), []).append(seed)
        return wanted
    splits = list(library.SPLITS) if arguments.split == "all" else [arguments.split]
    counts = {split: arguments.count for split in splits}
    if arguments.count is not None and arguments.split == "all":       # the splits differ in size
        counts = {split: min(arguments.count, len(library.SPLITS[split])) for split in splits}
    return {split: list(library.split_seeds(split, counts[split])) for split in splits}


def render(arguments: argparse.Namespace) -> int:
    """Render what is missing, with an estimate before and the place after."""
    soundfont = find_fluid_soundfont() if arguments.soundfont == FLUID else arguments.soundfont
    wanted = wanted_songs(arguments)
    variant = library.variant_of(arguments.seconds, arguments.rate, soundfont, arguments.world)
    folder = library.band_root() / variant.name
    missing = sum(library.find_song(folder / split, seed) is None for split, seeds in wanted.items() for seed in seeds)
    total = sum(len(seeds) for seeds in wanted.values())
    needed = missing * writer.song_bytes(arguments.seconds, arguments.rate)
    print(f"{total} songs of {arguments.seconds:g} s at {arguments.rate} Hz: {total - missing} are there, {missing} to "
          f"render, {megabytes(needed)} of disk", flush=True)
    if missing:
        library.check_disk_space(folder, needed)
    for split, seeds in wanted.items():
        library.render_songs(seeds, split, arguments.seconds, arguments.rate, soundfont, jobs=arguments.jobs,
                             world=arguments.world)
        print(f"{len(seeds)} songs in {folder / split}")
    return 0


def list_songs() -> int:
    """Print the rendered songs, variant by variant."""
    variants = group_by_variant(library.song_folders())
    if not variants:
        print(f"no songs in {library.band_root()}")
    for variant, songs in variants.items():
        print(f"{variant.name}: {len(songs)} songs, {megabytes(sum(map(library.disk_bytes, songs)))}")
        for song in songs:
            damage = writer.find_damage(song)
            print(f"  {song.parent.name}/{song.name}" + (f"   damaged: {damage}" if damage else ""))
    return 0


def clean_songs(ask: bool) -> int:
    """Delete the rendered songs after asking, and say how much that freed."""
    songs, files = library.song_folders(), library.generated_files()
    if not files:
        print(f"nothing to delete in {library.band_root()}")
        return 0
    size = megabytes(sum(path.stat().st_size for path in files))
    if ask and not confirmed(f"Delete {len(songs)} songs ({size}) in {library.band_root()}? [y/N] "):
        print("nothing was deleted")
        return 1
    print(f"deleted {len(songs)} songs, {megabytes(library.clean())} freed")
    return 0


def confirmed(question: str) -> bool:
    """Whether the user answers yes; no answer (no terminal) is a no."""
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def group_by_variant(songs: Iterable[Path]) -> dict[Path, list[Path]]:
    """Variant folder -> its song folders."""
    groups: dict[Path, list[Path]] = {}
    for song in songs:
        groups.setdefault(song.parent.parent, []).append(song)
    return groups


def megabytes(size: int) -> str:
    """A number of bytes for people: "24.8 MB", "2.28 GB"."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
