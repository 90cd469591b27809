"""MUSDB18's free excerpts of 7 s are fetched over HTTP: from a server on loopback that serves the same layout."""

import http.server
import threading
import urllib.request
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from course_lib.data import open_tracks
from course_lib.data.without_ffmpeg import ffmpeg_is_there, import_musdb

SONG = next(Path(metadata.distribution("stempeg").locate_file("stempeg/data")).glob("*.stem.mp4"))    # a real one


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Stands in for the host that musdb downloads from; gives (its zip file, the requests it has answered)."""
    folder, seen = tmp_path / "server", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, form, *values):
            seen.append(self.path)

    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{host.server_port}/excerpts.zip"
    monkeypatch.setattr(import_musdb(), "Request", lambda url, **options: urllib.request.Request(address, **options))
    monkeypatch.setattr("course_lib.data.musdb18._require_ffmpeg", lambda: None)    # reading needs it, fetching doesn't
    yield folder / "excerpts.zip", seen
    host.shutdown()
    host.server_close()


def write_excerpts(path: Path) -> None:
    """A zip file in the layout of the excerpts: train/ and test/ with a stem file for each song."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(SONG, f"train/{SONG.name}")
        archive.write(SONG, f"test/{SONG.name}")


def open_excerpts(root: Path):
    """The tracks, or None where there is no ffmpeg to read what was fetched (an error then says so)."""
    if ffmpeg_is_there():
        return open_tracks("musdb18-7s", "test", root=root, download=True)
    with pytest.raises(ValueError, match="needs ffmpeg and ffprobe"):
        open_tracks("musdb18-7s", "test", root=root, download=True)


def test_excerpts_are_fetched_once(tmp_path, server):
    archive, seen = server
    write_excerpts(archive)
    for _ in range(2):
        tracks = open_excerpts(tmp_path / "musdb18-7s")
        assert (tmp_path / "musdb18-7s" / "test" / SONG.name).read_bytes() == SONG.read_bytes()
        assert tracks is None or [track.name for track in tracks] == [SONG.name.removesuffix(".stem.mp4")]
    assert seen == ["/excerpts.zip"]


@pytest.mark.parametrize("content", [None, b"not a zip file"], ids=["not found", "damaged"])
def test_a_failed_download_is_named_and_can_be_repeated(tmp_path, server, content):
    archive, _ = server
    if content is not None:
        archive.write_bytes(content)
    with pytest.raises(FileNotFoundError, match="could not be downloaded"):
        open_tracks("musdb18-7s", "test", root=tmp_path / "musdb18-7s", download=True)
    write_excerpts(archive)
    open_excerpts(tmp_path / "musdb18-7s")
    assert (tmp_path / "musdb18-7s" / "train" / SONG.name).is_file()
