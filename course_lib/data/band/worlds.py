"""Worlds: which sounds, voices and effects songs are made of, as data.

    "band"      one soundfont, one formant singer, one studio: what the chapters play (the default)
    "wide"      for training: several soundfonts, random synthesisers, real drum kits, voices that sing and speak
                words, and much wider equalisers, dynamics, widths and levels
    "unheard"   for evaluation: another soundfont's recordings, other drum kits, other voices and other effects, none of
                which "wide" or "band" holds

A song of a world is a pure function of its seed and the world; the notes are the band's. Sounds are read where the
system's packages put them, and compared with the hashes below, so that everyone hears the same.
"""

import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course_lib.data.band.soundfonts import default_soundfont, file_sha256
from course_lib.data.band.speech import Speaker, check_engine

SOUNDS_VARIABLE = "COURSE_SOUNDS"           # a folder in which sounds are looked for by their file name first
KITS = ("/usr/share/hydrogen/data/drumkits",)
FONTS = ("/usr/share/sounds/sf2", "/usr/share/soundfonts")
PATCHES = ("/usr/share/midi",)


@dataclass(frozen=True)
class Sound:
    """A source of sounds outside this repository."""

    file: str                       # name of the file or folder
    places: tuple[str, ...]         # folders where packages put it
    package: str                    # Debian's name
    licence: str
    sha256: str                     # of the file, or of a folder's files (see `sound_sha256`)
    left_out: tuple[int, ...] = ()  # programs of a set of patches that hold recordings of another world's sounds


SOUNDS = {
    "timgm6mb": Sound(
        "TimGM6mb.sf2", (), "(in the Python package pretty_midi)", "GPL-2",
        "82475b91a76de15cb28a104707d3247ba932e228bada3f47bba63c6b31aaf7a1"),
    "gmbank": Sound(
        "sf_GMbank.sf2", FONTS, "csound-soundfont", "public domain",
        "9f39fc53bd3a1a69f13cb486838944eded358b3b6e8afbd6c1c2c33675b2034b"),
    "opl3": Sound(
        "OPL-3_FM_128M.sf2", FONTS, "opl3-soundfont", "CC-BY-SA-4.0",
        "39bff96eee3dcfbce9665e3968701b894ca2136c7d0bd580281b2bbf59e80392"),
    "freepats": Sound(
        "freepats", PATCHES, "freepats", "GPL-2+ with an exception for compositions",
        "55abc13ffed2275348ad0af1f537c254f7169c221dc60b4d2b1ead0bd4d281fd",
        left_out=(64, 69, 75, 79)),         # soprano saxophone, English horn, pan flute, ocarina: in TimGM6mb too
    "GMRockKit": Sound(
        "GMRockKit", KITS, "hydrogen-data", "GPL",
        "4f7bf3a3bd197328e363ae62167dff3616b2180399405b846dcdde4c7ebebe4c"),
    "TR808EmulationKit": Sound(
        "TR808EmulationKit", KITS, "hydrogen-data", "GPL",
        "31d8b039b3f34d32d331a5f8973d095a0ea958ea3c4c4d3446ef42f258f926ab"),
    "The Black Pearl 1.0": Sound(
        "The Black Pearl 1.0", KITS, "hydrogen-drumkits", "GPL-2",
        "273024aaffc89dfaef29718cc45575ef6d1375b83f0e7c25e9c52f29d8c7443a"),
    "ForzeeStereo": Sound(
        "ForzeeStereo", KITS, "hydrogen-drumkits", "GPL-2",
        "54f46e881b47e6ff46feb8b6e419cba57951af9606237634e5860eee3fde07bd"),
    "ColomboAcousticDrumkit": Sound(
        "ColomboAcousticDrumkit", KITS, "hydrogen-drumkits", "GPL-2+ with an exception for compositions",
        "e45c282d154e25b57e6367a994e2c039758dd39c9c73c1fea17be256b6ad0c8b"),
    "Millo-Drums_v.1": Sound(
        "Millo-Drums_v.1", KITS, "hydrogen-drumkits", "GPL-2",
        "58b323229c51e9d4e65c3dc2ffd0db289d6f738726fbae30c1888bb156c5ac4e"),
    "Millo_MultiLayered2": Sound(
        "Millo_MultiLayered2", KITS, "hydrogen-drumkits", "GPL-2",
        "bc8a8d65ceeab1ada96a431ffe1df2f52b081973da950cb1fe99bc1c08df27a0"),
    "Millo_MultiLayered3": Sound(
        "Millo_MultiLayered3", KITS, "hydrogen-drumkits", "GPL-2",
        "baac45754a7ed414f4408cd170448d948c8356aeb137e102c8f7e0b78d74d048"),
    "Audiophob": Sound(
        "Audiophob", KITS, "hydrogen-drumkits", "CC0",
        "3d01779a7c4119dc79144032f7a92981fd3d0e282ddc92947f08c2151ddcebe7"),
    "ElectricEmpireKit": Sound(
        "ElectricEmpireKit", KITS, "hydrogen-drumkits", "GPL-2+",
        "1cc110ae34a64b48ffde81f1cb3b4bc844fb37aa37fffc09a692813676f71e16"),
    "HardElectro1": Sound(
        "HardElectro1", KITS, "hydrogen-drumkits", "GPL-2+",
        "15cbe93b8c3f5b980b2ad1f5cfed993315c0f45778a77476e481b65f5aa27965"),
    "BJA_Pacific": Sound(
        "BJA_Pacific", KITS, "hydrogen-drumkits", "CC-BY-SA-3.0",
        "1d8e921360959cd9d91103a91ffb93fd31e0223db692ba620b867bf44333d9f1"),
    "rumpf_kit_z01_h2": Sound(
        "rumpf_kit_z01_h2", KITS, "hydrogen-drumkits", "CC-BY-3.0",
        "50ff172ab1808fc227a98ca004c8cb9f53b2e761b5e954c27c5172a1de019d10"),
    "VariBreaks": Sound(
        "VariBreaks", KITS, "hydrogen-drumkits", "GPL-2+",
        "ec4edb579d4edd31cf4b7e8d23dcbbc3c9b26d68b832e6cc360463620e1a2ee6"),
}


@dataclass(frozen=True)
class Studio:
    """Ranges of the mix; the defaults are the band's."""

    level_spread: float = 1.8                           # dB, standard deviation of a stem's level between songs
    threshold: tuple[float, float] = (-16.0, -10.0)     # dB, of the bus compressor
    ratio: tuple[float, float] = (1.5, 3.0)
    loudness: tuple[float, float] = (-16.0, -11.5)      # dB re full scale of the mixture while it plays
    reverb: float = 1.0                                 # factor of what is sent to the rooms


@dataclass(frozen=True)
class World:
    """What a world's songs are drawn from."""

    name: str
    about: str
    fonts: tuple[tuple[str, float], ...]                # sound, weight
    synthesiser: float = 0.0                            # share of melodic parts that a random synthesiser plays
    kits: tuple[str, ...] = ()
    kit_share: float = 0.0                              # share of songs with one of the kits; else a font's drums
    voices: tuple[tuple[str, float], ...] = (("formant", 1.0),)         # "formant", "sung", "spoken"; weight
    speakers: tuple[Speaker, ...] = ()
    effects: str = "none"                               # a name in course_lib.data.band.casting.EFFECTS
    studio: Studio = field(default_factory=Studio)
    version: int = 1                                    # raise it with every change of the code that these songs hear

    def sounds(self) -> list[str]:
        """The names of all its sounds in SOUNDS."""
        return [name for name, _ in self.fonts] + list(self.kits)

    def engines(self) -> list[str]:
        """The speech synthesisers that it needs."""
        return sorted({speaker.engine for speaker in self.speakers})

    def digest(self) -> str:
        """Eight digits that change with anything that decides its sound."""
        facts = {**asdict(self), "sha256": {name: SOUNDS[name].sha256 for name in self.sounds()}}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]


def _espeak(*voices: str) -> tuple[Speaker, ...]:
    return tuple(Speaker("espeak-ng", voice) for voice in voices)


WORLDS = {
    "wide": World(
        "wide", "many timbres for training",
        fonts=(("timgm6mb", 0.6), ("gmbank", 0.25), ("opl3", 0.15)),
        synthesiser=0.3,
        kits=("GMRockKit", "The Black Pearl 1.0", "ForzeeStereo", "ColomboAcousticDrumkit", "Millo-Drums_v.1",
              "Millo_MultiLayered2", "Millo_MultiLayered3", "Audiophob", "ElectricEmpireKit", "HardElectro1",
              "TR808EmulationKit"),
        kit_share=0.7,
        voices=(("formant", 0.3), ("sung", 0.58), ("spoken", 0.12)),
        speakers=_espeak("en-us+f1", "en-us+f2", "en+f3", "en-us+f4", "en+f5", "en-us+m1", "en-us+m2", "en+m3",
                         "en-us+m4", "en-us+m5", "en-us+m6", "en-us+m7", "en-us+klatt2", "en-us+klatt4", "en-us+Annie",
                         "en-us+belinda", "en-us+linda", "en-us+edward", "en-us+michel", "en-us+steph", "en-us+zac",
                         "en-us+victor", "de+f2", "de+m3", "fr+f3", "fr+m2", "es+f4", "es+m4", "it+f1", "it+m1",
                         "pt+f5", "sv+f2", "pl+m6", "fi+f1", "el+m2", "tr+f4"),
        effects="studio",
        studio=Studio(level_spread=3.5, threshold=(-22.0, -8.0), ratio=(1.2, 6.0), loudness=(-22.0, -8.5), reverb=1.3)),
    "unheard": World(
        "unheard", "sounds that no training saw, for evaluation",
        fonts=(("freepats", 1.0),),
        kits=("BJA_Pacific", "rumpf_kit_z01_h2", "VariBreaks"), kit_share=0.75,
        voices=(("sung", 0.8), ("spoken", 0.2)),
        speakers=tuple(Speaker("flite", voice) for voice in ("slt", "rms", "awb", "kal16")),
        effects="other",
        studio=Studio(level_spread=2.5, threshold=(-18.0, -9.0), ratio=(1.3, 4.0), loudness=(-18.0, -10.0))),
}


def world_named(world: "str | World | None") -> World | None:
    """The world of a name; None for "band" and None, whose songs need no world. ValueError for unknown names."""
    if world is None or isinstance(world, World) or world == "band":
        return None if world == "band" else world
    if world not in WORLDS:
        raise ValueError(f"world is {world!r}; expected band, {', '.join(WORLDS)}")
    return WORLDS[world]


def find_sound(name: str) -> Path:
    """Where a sound of SOUNDS lies on this machine, its hash checked.

    Looks in the folder COURSE_SOUNDS, then where the packages put it. FileNotFoundError where there is none, with what
    to install; ValueError where the files are others than those the course was made with.
    """
    return _found(name, os.environ.get(SOUNDS_VARIABLE))


@functools.lru_cache(maxsize=64)
def _found(name: str, chosen: str | None) -> Path:
    sound = SOUNDS[name]
    if name == "timgm6mb":
        path = default_soundfont()
    else:
        places = [*([chosen] if chosen else []), *sound.places]
        candidates = [Path(place).expanduser() / sound.file for place in places]
        path = next((path for path in candidates if path.exists()), None)
        if path is None:
            raise FileNotFoundError(f"{sound.file} was not found (looked in {', '.join(places)}); install it (Debian, "
                                    f"Ubuntu: `apt install {sound.package}`) or put it into a folder and set "
                                    f"{SOUNDS_VARIABLE} to that folder")
    if sound.sha256 and (found := sound_sha256(path)) != sound.sha256:
        raise ValueError(f"{path} has SHA-256 {found}; expected {sound.sha256}, as in Debian's package "
                         f"{sound.package}. Songs made of other files would be other songs: install that package")
    return path


def sound_sha256(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of the lines "SHA-256  name" of its files, sorted by name."""
    if path.is_file():
        return file_sha256(path)
    lines = [f"{file_sha256(file)}  {file.relative_to(path).as_posix()}\n"
             for file in sorted(path.rglob("*")) if file.is_file()]
    return hashlib.sha256("".join(sorted(lines, key=lambda line: line[66:])).encode()).hexdigest()


def check_world(world: World) -> None:
    """All that a world needs is on this machine: else FileNotFoundError or ValueError, naming every missing package."""
    problems, packages = [], []
    for name in world.sounds():
        try:
            find_sound(name)
        except FileNotFoundError:
            problems.append(SOUNDS[name].file)
            packages.append(SOUNDS[name].package)
    for engine in world.engines():
        try:
            check_engine(engine)
        except FileNotFoundError:
            problems.append(engine)
            packages.append(engine)
    if problems:
        raise FileNotFoundError(f"the world {world.name!r} needs {', '.join(problems)}, which this machine does not "
                                f"have; install them (Debian, Ubuntu: `apt install {' '.join(dict.fromkeys(packages))}`"
                                f"), or put sounds into a folder and set {SOUNDS_VARIABLE} to it")


def packages(worlds: Sequence[World] = tuple(WORLDS.values())) -> list[str]:
    """The Debian packages that bring all sounds and voices of some worlds."""
    names = [SOUNDS[name].package for world in worlds for name in world.sounds() if name != "timgm6mb"]
    return list(dict.fromkeys([*names, *(engine for world in worlds for engine in world.engines())]))
