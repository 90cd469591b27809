"""The band's songs as a data set: three fixed splits, rendered when they are first asked for and kept on disk.

    data/band/20s_44100Hz_TimGM6mb-82475b91_v1/test/Rock 210 - A minor/mixture.wav ...

The name of the first folder (the variant) says everything that shapes the audio besides the seed, so songs of another
length, rate, soundfont or generator version lie elsewhere. Several processes may ask for the same songs at once: each
song is written under its own lock, whole or not at all, and one that was damaged later is rendered again.
"""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import joblib
from filelock import FileLock, Timeout

from course_lib.data.band.composer import check_seconds, compose
from course_lib.data.band.song import GENERATOR_VERSION, Song
from course_lib.data.band.soundfonts import default_soundfont, file_sha256
from course_lib.data.band.worlds import World, check_world, world_named
from course_lib.data.band.writer import (
    PARTIAL,
    SONG_FILES,
    check_rate,
    find_damage,
    song_bytes,
    write_song,
)
from course_lib.paths import data_dir
from course_lib.progress import progress as progress_bar

# split -> the seeds of its songs; they never overlap, and seeds from FIRST_FREE_SEED on belong to no split
SPLITS = {"train": range(0, 60), "valid": range(100, 112), "test": range(200, 220)}
FIRST_FREE_SEED = 1000
FURTHER = "further"              # the folder of songs that were asked for by seed
MARKER = "LICENSE.txt"           # lies in every variant's folder and shows that the generator made it
LOCKS, SCRATCH = ".locks", ".partial"
MOST_JOBS = 8                    # each takes up to 0.7 GB of memory
SPARE_BYTES = 200_000_000        # left free on the disk
MARKER_TEXT = """Songs of the band, made by course_lib.data.band (generator version {version}).
They may be deleted at any time; they are rendered again when they are asked for.

The compositions and the singing voice are made by the course's own code. The instruments are samples of
{sounds}. They have licences of their own: TimGM6mb.sf2, the default soundfont, comes inside the Python package
pretty_midi and is under the GNU General Public License, version 2. See course_lib/data/band/README.md before you
publish these files.
"""


class Variant(NamedTuple):
    """What shapes the audio of a song besides its seed."""

    seconds: float
    rate: int
    soundfont: Path
    world: World | None = None       # instead of the soundfont

    @property
    def sounds(self) -> str:
        """Where the instruments come from, in words."""
        return f"the soundfont {self.soundfont.name}" if self.world is None else ", ".join(self.world.sounds())

    @property
    def name(self) -> str:
        """The name of its folder, for example "20s_44100Hz_TimGM6mb-82475b91_v1" or "20s_44100Hz_wide-0b5b1a0c_v1"."""
        if self.world is not None:
            return (f"{self.seconds:.10g}s_{self.rate}Hz_{self.world.name}-{self.world.digest()}"
                    f"_v{GENERATOR_VERSION}")
        font = re.sub(r"[^A-Za-z0-9]+", "-", self.soundfont.stem).strip("-") or "soundfont"
        return f"{self.seconds:.10g}s_{self.rate}Hz_{font}-{file_sha256(self.soundfont)[:8]}_v{GENERATOR_VERSION}"


def band_songs(split: str = "train", count: int | None = None, seconds: float = 20.0, rate: int = 44100,
               soundfont: Path | str | None = None, progress: bool = True, jobs: int | None = None,
               root: Path | str | None = None, world: World | str | None = None) -> list[Path]:
    """The folders of a split's songs in the order of their seeds; what is missing or damaged is rendered first.

    split: "train" (60 songs), "valid" (12) or "test" (20). count: only the first so many. seconds, rate (Hz) and
    soundfont: of the songs, see `write_song`. progress: show a bar while rendering. jobs: processes that render,
    by default one per core, at most 8. root: where all songs lie, by default the folder band/ of the data folder.
    world: the name of a world (see `worlds`) whose sounds the songs are drawn from, instead of a soundfont.
    Raises ValueError for a split or number outside these, OSError where the disk lacks the space.
    """
    return render_songs(split_seeds(split, count), split, seconds, rate, soundfont, progress, jobs, root, world)


def band_song(seed: int, seconds: float = 20.0, rate: int = 44100, soundfont: Path | str | None = None,
              root: Path | str | None = None, world: World | str | None = None) -> Path:
    """The folder of the song of one seed, rendered if it is not there; see `songs_by_seed`."""
    return songs_by_seed([seed], seconds, rate, soundfont, progress=False, jobs=1, root=root, world=world)[0]


def songs_by_seed(seeds: Iterable[int], seconds: float = 20.0, rate: int = 44100, soundfont: Path | str | None = None,
                  progress: bool = True, jobs: int | None = None, root: Path | str | None = None,
                  world: World | str | None = None) -> list[Path]:
    """The folders of any number of songs by their seeds, for training at length: take seeds from 1000 on.

    Seeds of a split lead to that split's songs, so that nothing is rendered twice. The rest is as for `band_songs`.
    """
    seeds, songs = list(seeds), {}
    for split in (*SPLITS, FURTHER):
        if chosen := [seed for seed in dict.fromkeys(seeds) if split_of(seed) == split]:
            folders = render_songs(chosen, split, seconds, rate, soundfont, progress, jobs, root, world)
            songs |= dict(zip(chosen, folders))
    return [songs[seed] for seed in seeds]


def split_seeds(split: str, count: int | None = None) -> range:
    """The seeds of a split's first `count` songs; ValueError for an unknown split or a count outside it."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; the band has {', '.join(SPLITS)}")
    seeds = SPLITS[split]
    if count is not None and not 1 <= count <= len(seeds):
        raise ValueError(f"count is {count}; {split} has 1 to {len(seeds)} songs (songs_by_seed "
                         f"renders any number of others: seeds from {FIRST_FREE_SEED} on)")
    return seeds[:count]


def split_of(seed: int) -> str:
    """The split that a seed belongs to, "further" where it belongs to none."""
    return next((split for split, seeds in SPLITS.items() if seed in seeds), FURTHER)


def song_name(song: Song) -> str:
    """The name of a song's folder, the same on every file system: for example "Rock 210 - F-sharp minor"."""
    return f"{song.style.title()} {song.seed:03d} - {song.key.replace('#', '-sharp')}"


def band_root(root: Path | str | None = None) -> Path:
    """Where the songs of all variants lie."""
    return (Path(root).expanduser() if root else data_dir() / "band").absolute()


def variant_of(seconds: float = 20.0, rate: int = 44100, soundfont: Path | str | None = None,
               world: World | str | None = None) -> Variant:
    """The variant of these settings; ValueError or FileNotFoundError where one of them cannot be."""
    check_seconds(seconds)
    check_rate(rate)
    world = world_named(world)
    if world is not None and soundfont is not None:
        raise ValueError(f"world is {world.name!r} and soundfont {str(soundfont)!r}; expected one of them: a world has "
                         "soundfonts of its own")
    path = Path(soundfont).expanduser() if soundfont else default_soundfont()
    if not path.is_file():
        raise FileNotFoundError(f"soundfont {path} does not exist; expected an .sf2 or .sf3 file")
    return Variant(float(seconds), int(rate), path.resolve(), world)


# ---- rendering -----------------------------------------------------------------------------------------------------


def render_songs(seeds: Sequence[int], split: str, seconds: float = 20.0, rate: int = 44100,
                 soundfont: Path | str | None = None, progress: bool = True, jobs: int | None = None,
                 root: Path | str | None = None, world: World | str | None = None) -> list[Path]:
    """The folders of the songs of these seeds, under the split's name; what is missing or damaged is rendered first."""
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs is {jobs}; expected 1 or more processes, or None for one per core")
    variant = variant_of(seconds, rate, soundfont, world)
    folder = band_root(root) / variant.name
    missing = [seed for seed in seeds if find_song(folder / split, seed) is None]
    if missing:
        if variant.world is not None:
            check_world(variant.world)
        check_disk_space(folder, len(missing) * song_bytes(seconds, rate))
        prepare_variant_folder(folder, variant)
        _render_all(missing, split, variant, folder, progress, jobs)
    songs = {seed: find_song(folder / split, seed) for seed in seeds}
    if lost := [seed for seed, song in songs.items() if song is None]:
        raise OSError(f"the songs of the seeds {lost} were rendered into {folder / split}, but are not whole "
                      "there now: is the disk full, or does another program change that folder?")
    return [songs[seed] for seed in seeds]


def find_song(folder: Path, seed: int) -> Path | None:
    """The whole, undamaged song of this seed in a split's folder, or None."""
    songs = [path for path in folder.glob(f"* {seed:03d} - *") if find_damage(path) is None]
    return songs[0] if songs else None


def render_song(seed: int, split: str, variant: Variant, folder: Path) -> Path:
    """Render one song into a variant's folder unless another process has just done so; runs under the song's lock."""
    song = compose(seed, variant.seconds)
    target = folder / split / song_name(song)
    with _song_lock(folder, song_name(song)):
        if find_damage(target) is None:
            return target
        _remove_leftovers(folder, song_name(song))
        _remove_damaged(target)
        return write_song(song, target, variant.rate, variant.soundfont, folder / SCRATCH, variant.world)


def check_disk_space(folder: Path, needed: int) -> None:
    """OSError where the disk of a folder (which need not exist yet) has less room than `needed` bytes and a reserve."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + SPARE_BYTES:
        spare = max(0, free - SPARE_BYTES)
        raise OSError(f"the songs need {needed / 1e9:.2f} GB, and {existing} has {spare / 1e9:.2f} GB to spare; free "
                      "some space, ask for fewer songs, or set COURSE_DATA_DIR to a folder on another disk")


def prepare_variant_folder(folder: Path, variant: Variant) -> None:
    """Make a variant's folder, with the note on licences that also marks it as the generator's."""
    for name in (LOCKS, SCRATCH):
        (folder / name).mkdir(parents=True, exist_ok=True)
    note = folder / MARKER
    if not note.exists():
        partial = folder / SCRATCH / f"{MARKER}.{os.getpid()}"
        text = MARKER_TEXT.format(version=GENERATOR_VERSION, sounds=variant.sounds)
        partial.write_text(text, encoding="utf-8")
        partial.replace(note)


def _render_all(seeds: list[int], split: str, variant: Variant, folder: Path, progress: bool, jobs: int | None) -> None:
    """Render songs in this process or, where several are missing, in processes of their own."""
    jobs = min(jobs or min(joblib.cpu_count(), MOST_JOBS), len(seeds))
    rendered = _rendered(seeds, split, variant, folder, jobs)
    for _ in progress_bar(rendered, f"rendering {split} songs", len(seeds)) if progress else rendered:
        pass


def _rendered(seeds: list[int], split: str, variant: Variant, folder: Path, jobs: int) -> Iterable[Path]:
    """The rendered songs as they become ready."""
    if jobs == 1:
        return (render_song(seed, split, variant, folder) for seed in seeds)
    # loky starts fresh processes on every system, also from a script without an `if __name__ == "__main__"`.
    workers = joblib.Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered")
    return workers(joblib.delayed(render_song)(seed, split, variant, folder) for seed in seeds)


def _song_lock(folder: Path, name: str, timeout: float = -1) -> FileLock:
    """The lock that a process holds while it writes a song; released by the system when the process dies."""
    return FileLock(folder / LOCKS / f"{name}.lock", timeout=timeout)


def _remove_leftovers(folder: Path, name: str) -> None:
    """Delete what runs that were stopped left of this song (hold its lock), and of others that nobody writes now."""
    for path in (folder / SCRATCH).glob(f".*{PARTIAL}"):
        owner = path.name[1:].split(f"{PARTIAL}")[0].rsplit(".", 1)[0]
        if owner == name:
            shutil.rmtree(path, ignore_errors=True)
            continue
        try:
            with _song_lock(folder, owner, timeout=0):
                shutil.rmtree(path, ignore_errors=True)
        except Timeout:
            pass                     # another process is writing that song


def _remove_damaged(folder: Path) -> None:
    """Make room for a song where a damaged one lies; files that others put there stay."""
    for path in song_files(folder):
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


# ---- deleting ------------------------------------------------------------------------------------------------------


def song_folders(root: Path | str | None = None) -> list[Path]:
    """The rendered songs of all variants, damaged ones included, in folders that the generator marked as its own."""
    variants = sorted(path for path in band_root(root).glob("*") if (path / MARKER).is_file())
    return [folder for variant in variants for split in (*SPLITS, FURTHER)
            for folder in sorted((variant / split).glob("* - *")) if song_files(folder)]


def song_files(folder: Path) -> list[Path]:
    """The files in a song's folder that the generator wrote, by their names."""
    return [path for name in SONG_FILES if (path := folder / name).is_file()]


def generated_files(root: Path | str | None = None) -> list[Path]:
    """Every file that the generator wrote, of all variants: songs, leftovers of stopped runs, locks, notes."""
    files = [path for folder in song_folders(root) for path in song_files(folder)]
    for marker in sorted(band_root(root).glob(f"*/{MARKER}")):
        leftovers = [path for name in (SCRATCH, LOCKS) for path in (marker.parent / name).rglob("*") if path.is_file()]
        files += [*sorted(leftovers), marker]
    return files


def clean(root: Path | str | None = None) -> int:
    """Delete what the generator wrote and nothing else; returns the bytes freed."""
    files = generated_files(root)
    freed = sum(path.stat().st_size for path in files)
    for path in files:
        path.unlink(missing_ok=True)
    folders = [band_root(root), *(path for path in band_root(root).rglob("*") if path.is_dir())]
    for folder in sorted(folders, reverse=True):      # the innermost first
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return freed


def disk_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
