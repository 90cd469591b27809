"""`course ask SONG... --tag guitar -o DIR`, or `--example FILE`: any one sound of songs on disk (chapter 20).

DIR/SONG gets NAME.wav, what was asked for, and with --rest no_NAME.wav, all the rest. Songs, files that are there
already, and what goes wrong are treated as by `course separate`.
"""

import argparse
from pathlib import Path

from course_lib.paths import shown
from course_lib.separation_command import FORMATS, each_song, report, songs_of

MODEL, TAGGER = "query_band", "tagger_band"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options of `course ask`."""
    parser.add_argument("songs", nargs="+", type=Path, metavar="SONG",
                        help="audio files of any rate and number of channels, or folders of them")
    parser.add_argument("--tag", nargs="+", action="extend", default=[], metavar="NAME",
                        help="instruments that the model knows by name: drums, bass, vocals, guitar, piano, strings, "
                             "synth; several are asked for together")
    parser.add_argument("--example", type=Path, metavar="FILE",
                        help="a recording of the sound that is asked for, alone; with --tag: both together")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="files go to DIR/SONG")
    parser.add_argument("--name", metavar="NAME", help="of the files (default: the tags, or the example's name)")
    parser.add_argument("--rest", dest="with_rest", action="store_true", help="also write the song without it")
    parser.add_argument("--model", default=MODEL, metavar="NAME",
                        help=f"a network of chapter 20, or a path to its .safetensors (default: {MODEL})")
    parser.add_argument("--format", choices=FORMATS, default="wav", help="of the files (default: wav)")
    parser.add_argument("--bits", type=int, choices=(16, 24, 32), default=16, help="of a sample (default: 16)")
    parser.add_argument("--overlap", type=float, default=0.25, metavar="X",
                        help="share of a piece that the next one covers (default: 0.25)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads for torch (default: torch's own choice)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    existing.add_argument("--skip", action="store_true", help="pass over songs whose files are all there already")


def main(arguments: argparse.Namespace) -> int:
    """Ask every song; 1 where one of them failed, 0 otherwise."""
    songs, failed = songs_of(arguments.songs)
    for name, reason in failed.items():
        report(name, reason, "ask")
    if not songs:
        return 1
    separator = separator_of(arguments)
    arguments.two_stems = separator.stems[0] if arguments.with_rest else None
    arguments.rest, arguments.sum_to_mix = "minus", False
    return each_song(songs, failed, separator, arguments, "ask", "files")


def separator_of(arguments: argparse.Namespace):
    """The separator that the question describes; ValueError or FileNotFoundError for what there isn't."""
    import torch

    from course_lib.query import Asked, QueryUnmix, condition_of
    from course_lib.separating import SongSeparator, check_format
    from course_lib.training import load_trained

    check_format(arguments.format, arguments.bits, 44100, 2)
    if not arguments.tag and arguments.example is None:
        raise ValueError("nothing is asked for: pass --tag NAME, or --example FILE")
    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"--threads is {arguments.threads}; expected at least 1")
        torch.set_num_threads(arguments.threads)
    model = load_trained(arguments.model)
    if not isinstance(model, QueryUnmix):
        raise ValueError(f"--model is {arguments.model}, a {type(model).__name__}; expected a network that can be "
                         f"asked, such as {MODEL}")
    embedding = None if arguments.example is None else embedding_of(arguments.example)
    c = condition_of(model, arguments.tag, embedding)
    name = arguments.name or "_".join([*dict.fromkeys(arguments.tag),
                                       *([arguments.example.stem] if arguments.example else [])])
    if name != Path(name).name or name in ("", ".", ".."):
        raise ValueError(f"--name is {name!r}; expected the name of a file, without folders and ending")
    return SongSeparator(Asked(model, c, name), overlap=arguments.overlap, standardise=False)


def embedding_of(path: Path):
    """The embedding of a file on disk, mono. FileNotFoundError, and ValueError for what can't be an example."""
    from course_lib.data.audio_files import read_audio, read_header
    from course_lib.data.resampling import resample
    from course_lib.query import embed_example
    from course_lib.training import load_trained

    header, tagger = read_header(path), load_trained(TAGGER)
    try:
        return embed_example(tagger, resample(read_audio(header).mean(0), header.rate, tagger.rate))
    except ValueError as error:
        raise ValueError(f"--example {shown(path)}: {error}") from error


__all__ = ["configure", "embedding_of", "main"]
