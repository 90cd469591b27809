"""The band on disk: exact sums, whole folders only, rendered once whoever asks, and deleted without harm to others."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from course_lib import cli
from course_lib.data.band import compose, library, mixer, read_song, soundfonts, timbre, translate, writer
from course_lib.data.band.library import band_song, band_songs
from course_lib.data.without_ffmpeg import import_musdb

SECONDS, RATE = 2.0, 16000      # small songs: what is tested here does not depend on their size
SMALL = {"seconds": SECONDS, "rate": RATE, "progress": False}


@pytest.fixture(scope="module")
def library_root(tmp_path_factory) -> Path:
    """A folder with the first three test songs; tests that change songs copy or render their own."""
    root = tmp_path_factory.mktemp("band")
    band_songs("test", 3, root=root, jobs=1, **SMALL)
    return root


@pytest.fixture
def songs(library_root) -> list[Path]:
    return band_songs("test", 3, root=library_root, jobs=1, **SMALL)


def read_steps(folder: Path, name: str) -> np.ndarray:
    """A file's samples in steps of 16 bits: int64 (time, channels)."""
    return soundfile.read(folder / f"{name}.wav", dtype="int16")[0].astype(np.int64)


# The tests of locks and of killing ask who writes which song and when, not how it sounds: noise spares them a mixer.
NOISE_FOR_A_MIXER = """
import sys, types
import numpy as np
import course_lib.data.band
def mix(song, rate, soundfont, world=None):
    rng = np.random.default_rng(song.seed)
    return {name: rng.uniform(-0.1, 0.1, (2, round(song.seconds * rate)))
            for name in ("drums", "bass", "guitar", "piano", "rest", "vocals")}
course_lib.data.band.mixer = sys.modules["course_lib.data.band.mixer"] = types.SimpleNamespace(mix=mix)
"""


def in_python(code: str, *arguments: str) -> subprocess.Popen:
    """Another Python process that runs `code`, with noise instead of music."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", NOISE_FOR_A_MIXER + code, *arguments], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# ---- what a folder holds -------------------------------------------------------------------------------------------


def test_files_are_16_bit_stereo_of_the_asked_length(songs):
    for song in songs:
        assert sorted(path.name for path in song.iterdir()) == sorted(writer.SONG_FILES)
        for name in writer.FILES:
            info = soundfile.info(song / f"{name}.wav")
            assert (info.samplerate, info.channels, info.subtype) == (RATE, 2, "PCM_16")
            assert info.frames == round(SECONDS * RATE)


def test_stems_add_up_to_the_last_bit(songs):
    for song in songs:
        steps = {name: read_steps(song, name) for name in writer.FILES}
        assert np.array_equal(steps["mixture"], sum(steps[stem] for stem in ("drums", "bass", "other", "vocals")))
        floats = {name: soundfile.read(song / f"{name}.wav", dtype="float32")[0] for name in writer.FILES}
        stems = floats["drums"] + floats["bass"] + floats["other"] + floats["vocals"]
        assert np.array_equal(floats["mixture"], stems)
        assert all(np.abs(steps[stem]).max() > 100 for stem in ("drums", "bass", "other", "vocals"))


def test_guitar_and_piano_are_parts_of_other(songs):
    """What is left of `other` is silent exactly where the song has no further instrument."""
    for song in songs:
        rest = read_steps(song, "other") - read_steps(song, "guitar") - read_steps(song, "piano")
        names = {part.six_stem for part in read_song(song).parts}
        assert {name for name in ("guitar", "piano") if read_steps(song, name).any()} == names & {"guitar", "piano"}
        assert rest.any() == ("other" in names)


def test_quantising_keeps_sums_exact_for_any_signal():
    rng = np.random.default_rng(0)
    groups = {name: rng.uniform(-0.15, 0.15, (2, 1000)).astype(np.float32) for name in writer.GROUPS}
    steps = {name: values.astype(int) for name, values in writer.quantise(groups).items()}
    assert np.array_equal(steps["mixture"], steps["drums"] + steps["bass"] + steps["other"] + steps["vocals"])
    assert np.abs(steps["mixture"] / 32768 - sum(groups.values())).max() <= 6 * 0.5 / 32768 + 1e-6
    rest = steps["other"] - steps["guitar"] - steps["piano"]
    assert np.array_equal(rest, np.rint(groups["rest"].astype(float) * 32768))


@pytest.mark.parametrize(("change", "message"), [
    ({"rest": np.full((2, 10), 0.6, np.float32), "piano": np.full((2, 10), 0.6, np.float32)}, "other reaches 1.200"),
    ({"bass": np.full((2, 10), np.nan, np.float32)}, "NaN or infinite samples in bass"),
    ({"vocals": None}, "lacks vocals"),
])
def test_quantising_refuses_what_16_bits_cannot_hold(change, message):
    groups = {**{name: np.zeros((2, 10), np.float32) for name in writer.GROUPS}, **change}
    with pytest.raises(ValueError, match=message):
        writer.quantise({name: values for name, values in groups.items() if values is not None})


def test_song_json_gives_the_song_back(songs):
    for song in songs:
        facts = json.loads((song / "song.json").read_text())
        assert read_song(song) == compose(facts["seed"], SECONDS)
        assert facts["tags"] == read_song(song).tags() and facts["rate"] == RATE
        assert facts["soundfont"]["name"] == "TimGM6mb.sf2" and len(facts["soundfont"]["sha256"]) == 64
        assert facts["bytes"] == {path.name: path.stat().st_size for path in song.glob("*.wav")}
        assert facts["levels_db"]["mixture"] == pytest.approx(
            10 * np.log10(np.mean(np.square(read_steps(song, "mixture") / 32768))), abs=0.01)


def test_the_same_seed_gives_the_same_bytes(songs, tmp_path):
    again = writer.write_song(compose(200, SECONDS), tmp_path / "again", RATE)
    for name in writer.SONG_FILES:
        assert (again / name).read_bytes() == (songs[0] / name).read_bytes()


def test_musdb_reads_the_layout(library_root, songs):
    """musdb's own reader finds every song and stem, and nothing else, in a variant's folder."""
    musdb = import_musdb()
    tracks = musdb.DB(root=str(songs[0].parent.parent), is_wav=True, subsets="test").tracks
    assert [track.name for track in tracks] == sorted(song.name for song in songs)
    for track in tracks:
        stems = sum(track.targets[stem].audio for stem in ("drums", "bass", "other", "vocals"))
        assert track.audio.shape == (round(SECONDS * RATE), 2) and np.abs(track.audio - stems).max() < 1e-6


def test_write_song_leaves_foreign_folders_alone(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "mixture.wav").write_bytes(b"my own recording")
    with pytest.raises(ValueError, match="is there already and is no song of the band"):
        writer.write_song(compose(1, SECONDS), mine, RATE)
    assert (mine / "mixture.wav").read_bytes() == b"my own recording"


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    written = []

    def disk_full(path, *arguments, **options):
        written.append(path)
        if len(written) == 3:
            raise OSError("No space left on device")

    monkeypatch.setattr(mixer, "mix", lambda *_: {name: np.zeros((2, 100)) for name in writer.GROUPS})
    monkeypatch.setattr(writer.soundfile, "write", disk_full)
    with pytest.raises(OSError, match="No space left"):
        writer.write_song(compose(1, SECONDS), tmp_path / "song", RATE)
    assert len(written) == 3 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [soundfile.LibsndfileError(2), AssertionError()])
def test_a_full_disk_is_an_error_of_one_line_that_names_the_song(tmp_path, monkeypatch, failure):
    def disk_full(*arguments, **options):
        raise failure

    monkeypatch.setattr(mixer, "mix", lambda *_: {name: np.zeros((2, 100)) for name in writer.GROUPS})
    monkeypatch.setattr(writer.soundfile, "write", disk_full)
    with pytest.raises(OSError, match=r"my song: the song can't be written \(mixture\.wav .*\); free some space"):
        writer.write_song(compose(1, SECONDS), tmp_path / "my song", RATE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("content", "error", "message"), [
    (None, FileNotFoundError, "song.json does not exist"), ("{\"generator\": ", ValueError, "is damaged"),
    ("{}", ValueError, "was not written by the band's generator"), ("[1]", ValueError, "was not written by"),
])
def test_read_song_says_what_is_wrong(tmp_path, content, error, message):
    if content is not None:
        (tmp_path / "song.json").write_text(content)
    with pytest.raises(error, match=message):
        read_song(tmp_path)


# ---- the data set --------------------------------------------------------------------------------------------------


def test_splits_have_their_sizes_and_share_no_seed():
    assert {split: len(seeds) for split, seeds in library.SPLITS.items()} == {"train": 60, "valid": 12, "test": 20}
    seeds = [seed for split in library.SPLITS.values() for seed in split]
    assert len(set(seeds)) == 92 and max(seeds) < library.FIRST_FREE_SEED
    assert [library.split_of(seed) for seed in (0, 59, 100, 200, 60, 1000)] == [
        "train", "train", "valid", "test", "further", "further"]


def test_no_two_songs_of_the_default_set_are_the_same():
    songs = [compose(seed) for seeds in library.SPLITS.values() for seed in seeds]
    assert len({str([part.notes for part in song.parts]) for song in songs}) == 92
    names = [library.song_name(song) for song in songs]
    assert len(set(names)) == 92
    assert all(re.fullmatch(r"[A-Za-z]+ \d{3} - [A-Za-z -]+[a-z]", name) for name in names)      # safe on Windows too


def test_songs_are_rendered_once_and_kept(library_root, songs):
    before = {path: path.stat().st_mtime_ns for song in songs for path in song.iterdir()}
    assert [path.name.split()[1] for path in songs] == ["200", "201", "202"]
    assert band_songs("test", 3, root=library_root, **SMALL) == songs
    assert {path: path.stat().st_mtime_ns for song in songs for path in song.iterdir()} == before
    assert band_song(201, SECONDS, RATE, root=library_root) == songs[1]


def test_songs_by_seed_come_in_the_order_asked_for(library_root, songs):
    """Those of a split are the split's own; others lie in a folder of their own."""
    found = library.songs_by_seed([1000, 202, 1000, 200], root=library_root, jobs=1, **SMALL)
    assert [path.name.split()[1] for path in found] == ["1000", "202", "1000", "200"]
    assert [found[1], found[3]] == [songs[2], songs[0]]
    assert found[0].parent == songs[0].parent.parent / "further"


def test_a_variant_has_a_folder_of_its_own(tmp_path, monkeypatch):
    font = tmp_path / "My font!.sf2"
    font.write_bytes(b"x")
    settings = ((20.0, 44100), (2.5, 44100), (20.0, 16000), (20.0, 44100, font))
    names = [library.variant_of(*arguments).name for arguments in settings]
    monkeypatch.setattr(library, "GENERATOR_VERSION", 999)
    names.append(library.variant_of().name)
    assert len(set(names)) == 5 and names[4].endswith("_v999")
    assert names[1].startswith("2.5s_44100Hz_TimGM6mb-") and names[3].startswith("20s_44100Hz_My-font-2d711642_")


@pytest.mark.parametrize("damage", ["truncated", "missing", "json cut", "json gone", "no sizes", "old version"])
def test_damaged_songs_are_rendered_again(tmp_path, damage):
    song = band_song(1000, SECONDS, RATE, root=tmp_path)
    whole = {path.name: path.read_bytes() for path in song.iterdir()}
    text = (song / "song.json").read_text()
    if damage == "truncated":
        (song / "vocals.wav").write_bytes(whole["vocals.wav"][:-1000])
    elif damage == "missing":
        (song / "piano.wav").unlink()
    elif damage == "json cut":
        (song / "song.json").write_text(text[: len(text) // 2])
    elif damage == "no sizes":
        (song / "song.json").write_text(text.replace('"bytes"', '"sizes"'))
    elif damage == "json gone":
        (song / "song.json").unlink()
    else:
        (song / "song.json").write_text(text.replace('"generator_version": ', '"generator_version": 99'))
    assert writer.find_damage(song) is not None
    assert band_song(1000, SECONDS, RATE, root=tmp_path) == song
    assert {path.name: path.read_bytes() for path in song.iterdir()} == whole


KILLED_WHILE_WRITING = """
import os, signal, sys
from course_lib.data.band import library, writer
write, count = writer.soundfile.write, 0
def write_then_stop(*arguments, **options):
    global count
    write(*arguments, **options)
    count += 1
    if count == 10:                  # in the middle of the second song
        print("here", flush=True)
        signal.pause()
writer.soundfile.write = write_then_stop
library.band_songs("valid", 3, 2.0, 16000, progress=False, jobs=1, root=sys.argv[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 and signal.pause exist on POSIX systems only")
def test_a_killed_run_leaves_no_half_song_and_goes_on(tmp_path):
    with in_python(KILLED_WHILE_WRITING, str(tmp_path)) as process:
        assert process.stdout.readline() == "here\n", process.stderr.read()
        process.send_signal(signal.SIGKILL)
    variant = next(tmp_path.iterdir())
    first, *others = (variant / "valid").iterdir()
    assert others == [] and writer.find_damage(first) is None
    assert len(list((variant / library.SCRATCH).iterdir())) == 1
    modified = (first / "mixture.wav").stat().st_mtime_ns
    songs = band_songs("valid", 3, root=tmp_path, jobs=1, **SMALL)
    assert songs[0] == first and (first / "mixture.wav").stat().st_mtime_ns == modified
    assert all(writer.find_damage(song) is None for song in songs)
    assert list((variant / library.SCRATCH).iterdir()) == []


def test_two_processes_ask_for_the_same_songs(tmp_path):
    """Both get the same whole songs, and each song is rendered by one of them only."""
    code = """
import sys
from course_lib.data.band import library
render, rendered = library.write_song, []
def counted(song, *arguments, **options):
    rendered.append(song.seed)
    return render(song, *arguments, **options)
library.write_song = counted
songs = library.band_songs("train", 4, 2.0, 16000, progress=False, jobs=1, root=sys.argv[1])
print(rendered, [song.name for song in songs], sep="|")
"""
    processes = [in_python(code, str(tmp_path)) for _ in range(2)]
    answers = []
    for process in processes:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        answers.append(out.strip().split("|"))
    assert answers[0][1] == answers[1][1]
    assert sorted(seed for answer in answers for seed in json.loads(answer[0])) == [0, 1, 2, 3]


def test_a_song_that_is_being_written_is_waited_for(tmp_path):
    """While another process holds a song's lock, asking for it blocks; then the other's song is taken."""
    variant = library.variant_of(SECONDS, RATE)
    folder = tmp_path / variant.name
    library.prepare_variant_folder(folder, variant)
    name = library.song_name(compose(1001, SECONDS))
    code = """
import sys
from course_lib.data.band.library import band_song
print(band_song(1001, 2.0, 16000, root=sys.argv[1]).name)
"""
    with library._song_lock(folder, name):
        with pytest.raises(library.Timeout), library._song_lock(folder, name, timeout=0.05):
            pass
        process = in_python(code, str(tmp_path))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=3)
        target, scratch = folder / library.FURTHER / name, folder / library.SCRATCH
        song = writer.write_song(compose(1001, SECONDS), target, RATE, scratch=scratch)
        modified = (song / "mixture.wav").stat().st_mtime_ns
    out, errors = process.communicate(timeout=60)
    assert out.strip() == name, errors
    assert (song / "mixture.wav").stat().st_mtime_ns == modified


def test_several_processes_render_side_by_side(tmp_path):
    """From a script without a __main__ guard, as a reader would write it; the songs are those of one process."""
    script = tmp_path / "script.py"
    script.write_text("import sys\nfrom course_lib.data.band import band_songs\n"
                      "band_songs('test', 2, 2.0, 16000, progress=False, jobs=2, root=sys.argv[1])\n")
    subprocess.run([sys.executable, script, tmp_path / "two"], check=True, timeout=120)
    two = band_songs("test", 2, root=tmp_path / "two", jobs=1, **SMALL)
    one = band_songs("test", 2, root=tmp_path / "one", jobs=1, **SMALL)
    assert [[(song / name).read_bytes() for name in writer.SONG_FILES] for song in two] == [
        [(song / name).read_bytes() for name in writer.SONG_FILES] for song in one]


def test_disk_space_is_checked_before(tmp_path, monkeypatch):
    monkeypatch.setattr(library.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 300_000_000})())
    with pytest.raises(OSError, match=r"need 1.49 GB, and .* has 0.10 GB to spare"):
        band_songs("train", 60, progress=False, root=tmp_path / "not" / "there")
    assert list(tmp_path.iterdir()) == []


def test_estimate_of_the_disk_needed(songs):
    for song in songs:
        assert library.disk_bytes(song) <= writer.song_bytes(SECONDS, RATE) <= library.disk_bytes(song) + 100_000
    assert writer.song_bytes(20.0, 44100) == pytest.approx(24.8e6, rel=0.01)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"split": "dev"}, "split is 'dev'; the band has train, valid, test"),
    ({"split": "test", "count": 21}, "count is 21"), ({"split": "test", "count": 0}, "count is 0"),
    ({"seconds": 1.0}, "seconds is 1.0"), ({"rate": 0}, "rate is 0"), ({"rate": 44100.0}, "rate is 44100.0"),
    ({"jobs": 0}, "jobs is 0"),
])
def test_bad_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        band_songs(**arguments, root=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_soundfont_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no_font.sf2 does not exist"):
        band_songs("test", 1, soundfont=tmp_path / "no_font.sf2", root=tmp_path)


# ---- course band ---------------------------------------------------------------------------------------------------


@pytest.fixture
def data_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path))
    return tmp_path


def course_band(*options: str) -> int:
    return cli.main(["band", *options])


def small_render(*options: str) -> int:
    return course_band("--seconds", "2", "--rate", "16000", "--jobs", "1", *options)


def test_command_renders_lists_and_goes_on(data_folder, capsys):
    assert small_render("--split", "test", "--count", "1") == 0
    out = capsys.readouterr().out
    assert "1 songs of 2 s at 16000 Hz: 0 are there, 1 to render, 1.0 MB of disk" in out
    folder = data_folder / "band" / library.variant_of(2.0, 16000).name
    assert f"1 songs in {folder / 'test'}" in out
    assert small_render("--seed", "200") == 0
    assert "1 are there, 0 to render, 0.0 MB" in capsys.readouterr().out
    assert course_band("--list") == 0
    assert f"{folder.name}: 1 songs, 0.9 MB\n  test/" in capsys.readouterr().out
    assert course_band("--where") == 0
    assert capsys.readouterr().out.strip() == str(data_folder / "band")


def test_clean_deletes_only_what_the_generator_wrote(data_folder, capsys, monkeypatch):
    small_render("--seed", "1000:1002")
    band = data_folder / "band"
    folder = band / library.variant_of(2.0, 16000).name
    song = library.song_folders()[0]
    (library.song_folders()[1] / "song.json").write_text("damaged")
    mine = [song / "vocals_estimate.wav", folder / "notes.txt", band / "my takes" / "Rock 001 - A minor" / "vocals.wav",
            folder / "test" / "mixture.wav", data_folder / "results.csv"]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    generated = set(library.generated_files())
    capsys.readouterr()

    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert course_band("--clean") == 1
    assert capsys.readouterr().out == "nothing was deleted\n" and set(library.generated_files()) == generated

    size = sum(path.stat().st_size for path in generated)
    assert course_band("--clean", "--yes") == 0
    assert capsys.readouterr().out == f"deleted 2 songs, {size / 1e6:.1f} MB freed\n"
    assert {path for path in data_folder.rglob("*") if path.is_file()} == set(mine)
    assert course_band("--clean") == 0 and "nothing to delete" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "message"), [
    (("--split", "test", "--count", "99"), "count is 99"), (("--seed", "1", "--split", "test"), "leave out --split"),
    (("--seconds", "0.5"), "seconds is 0.5"), (("--soundfont", "no.sf2"), "no.sf2 does not exist"),
    (("--seconds", "1e7"), "free some space"),
])
def test_command_says_what_is_wrong_in_one_line(data_folder, capsys, options, message):
    assert course_band(*options) == 2
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1 and errors.startswith("course band: ")


@pytest.mark.parametrize("seeds", ["5:3", "-1", "a", "1:b", "3:3"])
def test_command_refuses_what_is_no_range_of_seeds(capsys, seeds):
    with pytest.raises(SystemExit):
        course_band(f"--seed={seeds}")
    assert "no range of seeds" in capsys.readouterr().err


def test_interrupted_command_ends_with_130(data_folder, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "render_song", stop)
    assert small_render("--seed", "1000") == 130
    assert "interrupted" in capsys.readouterr().err


# ---- other timbres -------------------------------------------------------------------------------------------------


def test_translation_changes_the_instrument_and_no_note():
    song = compose(200, SECONDS)
    place = next(i for i, part in enumerate(song.parts) if part.stem == "other")
    translated = translate(song, place, 73)
    assert translated.parts[place].program == 73 and translated.parts[place].name == "flute"
    assert translated.parts[place].notes == song.parts[place].notes
    same = [old == new for old, new in zip(song.parts, translated.parts)]
    assert same == [each != place for each in range(len(song.parts))]
    assert all(part.program == 32 for part in translate(song, "bass", 32).parts if part.stem == "bass")
    assert {part.program for part in translate(song, "other", 0).parts if part.stem == "other"} == {0}


def test_translation_pairs_are_aligned_to_the_sample():
    """The notes begin at the same time: the level curves of both renderings rise together."""
    song = compose(1, 4.0)
    place = next(i for i, part in enumerate(song.parts) if part.role == "comp")
    source, target = timbre.translation_pair(song, place, 0 if song.parts[place].program else 25, RATE)
    assert source.shape == target.shape == (1, 4 * RATE) and source.dtype == np.float32
    assert np.abs(np.stack([source, target])).max() == pytest.approx(0.9) and not np.allclose(source, target, atol=0.05)
    power = [np.square(take[0]).reshape(-1, 160).mean(1) for take in (source, target)]      # in frames of 10 ms
    rises = [np.maximum(0, np.diff(np.log(curve + 1e-4))) for curve in power]
    lags = range(-20, 21)                  # frames
    correlation = [float(rises[0] @ np.roll(rises[1], lag)) for lag in lags]
    assert abs(lags[int(np.argmax(correlation))]) <= 1


@pytest.mark.parametrize(("part", "program", "message"), [
    ("vocals", 0, "drums and vocals have no instrument"), (0, 0, "drums and vocals"), ("bass", 9, "program is 9"),
    ("bass", 120, "program is 120"), ("horns", 0, "the song has no 'horns'; its stems are bass"), (99, 0, "part is 99"),
])
def test_translation_refuses_what_has_no_true_answer(part, program, message):
    with pytest.raises(ValueError, match=message):
        translate(compose(200, SECONDS), part, program)


def test_another_soundfont_is_another_variant_with_other_sounds(tmp_path):
    try:
        font = soundfonts.find_fluid_soundfont()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    default = band_song(1000, SECONDS, RATE, root=tmp_path)
    other = band_song(1000, SECONDS, RATE, soundfont=font, root=tmp_path)
    assert other.parent.parent.name.startswith("2s_16000Hz_FluidR3-GM-74594e8f_") and other.name == default.name
    assert read_song(other) == read_song(default)
    assert not np.array_equal(read_steps(other, "other"), read_steps(default, "other"))


def test_the_held_out_soundfont_is_found_by_its_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_SOUNDFONT", str(tmp_path / "font.sf2"))
    with pytest.raises(FileNotFoundError, match="COURSE_SOUNDFONT is .*font.sf2.*fluid-soundfont-gm"):
        soundfonts.find_fluid_soundfont()
    (tmp_path / "font.sf2").write_bytes(b"another font")
    with pytest.raises(ValueError, match="has SHA-256 .*expected FluidR3_GM.sf2"):
        soundfonts.find_fluid_soundfont()
    monkeypatch.delenv("COURSE_SOUNDFONT")
    monkeypatch.setattr(soundfonts, "FLUID_PLACES", (str(tmp_path / "nowhere.sf2"),))
    with pytest.raises(FileNotFoundError, match="looked for .*nowhere.sf2"):
        soundfonts.find_fluid_soundfont()
