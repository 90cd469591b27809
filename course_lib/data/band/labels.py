"""A song of the band as whole numbers, for models that are told what to play: style, tempo, instruments, and lyrics.

The style is one label out of STYLE_NAMES. Tempo and instruments are a bag of up to MOST_WORDS out of WORDS, for example
"tempo 110", "drums", "piano". Lyrics are letters: those of the syllables that the lead singer sings, a space after
each. Models are trained on these numbers, so an entry is never moved, only added at the end.
"""

import math
from collections.abc import Iterable, Sequence

from course_lib.data.band.mixer import sung_syllables
from course_lib.data.band.song import Song
from course_lib.data.band.styles import STYLES
from course_lib.data.band.voice import CONSONANTS, VOWELS

STYLE_NAMES = tuple(STYLES)
SLOWEST, FASTEST, TEMPO_STEP = 50, 190, 10                     # beats per minute: from, to below, width of a word
TEMPI = tuple(f"tempo {bpm}" for bpm in range(SLOWEST, FASTEST, TEMPO_STEP))
INSTRUMENTS = (
    "accordion", "acoustic bass", "acoustic guitar", "banjo", "bass", "brass", "choir", "clavinet", "distorted guitar",
    "drums", "electric bass", "electric guitar", "electric piano", "electronic drums", "flute", "harmonica", "harp",
    "harpsichord", "mallets", "orchestra hit", "organ", "percussion", "piano", "plucked folk", "reeds", "strings",
    "synth bass", "synth effects", "synth lead", "synth pad", "timpani", "vocals",
)
WORDS = (*TEMPI, *INSTRUMENTS)
MOST_WORDS = 8                                                 # a tempo and seven instruments: no song has more
FILLER = 0                                                     # the letter that stands in front of a short text
LETTERS = ("", " ", *(name for name in CONSONANTS if name), *VOWELS)
SPELLED = {"sh": "ʃ"}                                          # for those whose keyboard has no ʃ


def tempo_word(bpm: float) -> str:
    """The word for a tempo; ValueError outside SLOWEST to FASTEST."""
    if not (math.isfinite(bpm) and SLOWEST <= bpm < FASTEST):
        raise ValueError(f"tempo is {bpm}; expected {SLOWEST} to {FASTEST} beats per minute")
    return TEMPI[int((bpm - SLOWEST) // TEMPO_STEP)]


def words_of(song: Song) -> list[str]:
    """The words for a song: its tempo and its instruments."""
    return [tempo_word(song.bpm), *song.tags()]


def label_numbers(style: str, words: Iterable[str] = ()) -> list[int]:
    """Style and words as numbers, 1 + MOST_WORDS of them, -1 where there is no word.

    ValueError for a style or word that isn't known, and for too many words.
    """
    words = list(words)
    if style not in STYLE_NAMES:
        raise ValueError(f"style is {style!r}; expected one of {', '.join(STYLE_NAMES)}")
    if unknown := [word for word in words if word not in WORDS]:
        raise ValueError(f"{unknown[0]!r} is no word for a song; expected a tempo such as {TEMPI[7]!r}, or one of "
                         f"{', '.join(INSTRUMENTS)}")
    if len(words) > MOST_WORDS:
        raise ValueError(f"{len(words)} words for a song; expected at most {MOST_WORDS}")
    numbers = [WORDS.index(word) for word in words]
    return [STYLE_NAMES.index(style), *numbers, *[-1] * (MOST_WORDS - len(words))]


def letter_numbers(text: str) -> list[int]:
    """Syllables such as "sa mo tu", separated by spaces, as numbers of LETTERS; ValueError for other letters."""
    text = " ".join(text.lower().split())
    for spelled, letter in SPELLED.items():
        text = text.replace(spelled, letter)
    if unknown := sorted(set(text) - set(LETTERS)):
        raise ValueError(f"lyrics hold {', '.join(map(repr, unknown))}; the band's singer knows "
                         f"{''.join(LETTERS[2:])} (sh for ʃ) and spaces")
    return [LETTERS.index(letter) for letter in text + " "] if text else []


def lyrics_of(song: Song) -> tuple[list[int], list[float]]:
    """What the lead singer sings: letters as numbers, and when each one's syllable begins, in seconds."""
    letters, times = [], []
    for syllable in sung_syllables(song):
        numbers = letter_numbers(syllable.text)
        letters += numbers
        times += [syllable.onset] * len(numbers)
    return letters, times


def text_of(letters: Sequence[int]) -> str:
    """Letters as text; fillers are left out."""
    return "".join(LETTERS[letter] for letter in letters if letter != FILLER)


__all__ = ["FILLER", "INSTRUMENTS", "LETTERS", "MOST_WORDS", "STYLE_NAMES", "TEMPI", "WORDS", "label_numbers",
           "letter_numbers", "lyrics_of", "tempo_word", "text_of", "words_of"]
