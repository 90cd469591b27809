"""The one list of the course's chapters: name, module, part, what one builds. Numbers, files and tables follow from it.

A chapter `NN_topic` is chapters/NN_topic.ipynb with its text .py, exports course_lib/MODULE.py, and has its assignment
in chapters/assignments/ and its results in data/results/ under the same name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from course_lib.paths import repository_root


@dataclass(frozen=True)
class Chapter:
    """A chapter of the plan, written or not.

    name: 'NN_topic', the stem of all its files. module: what it exports to, without `course_lib.`. title: of its first
    heading. builds: what the reader builds, in a line.
    """

    name: str
    module: str
    title: str
    builds: str

    @property
    def number(self) -> str:
        """'01', '08b', ..."""
        return self.name.partition("_")[0]


PARTS: dict[str, tuple[Chapter, ...]] = {
    "I Signals and scores": (
        Chapter(
            "01_stft_and_masks",
            "spectral",
            "The STFT and masks",
            "frames, STFT and its inverse, mel, ideal masks, multichannel Wiener filter, the oracle table",
        ),
        Chapter(
            "02_classic_separation",
            "classic",
            "Separation without learning",
            "median-filter HPSS, REPET and REPET-SIM, NMF with three divergences, and what rules can make of them",
        ),
        Chapter(
            "03_metrics",
            "metrics",
            "Measuring separation",
            "SNR to SI-SDR, BSSEval v4 with its 512-tap projections, the traps, a listening test",
        ),
        Chapter(
            "04_open_unmix",
            "open_unmix",
            "Open-Unmix",
            "input scaling, BLSTM, masks, four heads, Wiener filter by EM, the training loop; reads the official "
            "checkpoints",
        ),
        Chapter(
            "05_losses",
            "losses",
            "Loss functions",
            "every loss of Guso et al., in time, frequency, on masks, adversarial and through a tagger; one model "
            "trained with each",
        ),
    ),
    "II Demucs": (
        Chapter(
            "06_demucs",
            "demucs",
            "Demucs",
            "the U-Net on waveforms, v1 to v3, resampling, the shift trick, quantised weights",
        ),
        Chapter(
            "07_hybrid_demucs",
            "hdemucs",
            "Hybrid Demucs",
            "two U-Nets side by side, residual branches, the singular-value penalty",
        ),
        Chapter(
            "08_ht_demucs",
            "htdemucs",
            "Hybrid Transformer Demucs",
            "the cross-domain transformer, positions, layer scale",
        ),
        Chapter(
            "08b_sparse_attention", "sparse_attention", "Sparse attention", "attention by hashing, and where it pays"
        ),
        Chapter(
            "09_separating_songs",
            "separating",
            "Separating songs",
            "whole songs: chunks, bags of models, shifts, memory",
        ),
    ),
    "III Codes": (
        Chapter(
            "10_vq_vae", "vqvae", "VQ-VAE", "vector quantisation, the straight-through gradient, codebooks that live"
        ),
        Chapter(
            "11_music_vq_vae",
            "jukebox",
            "Jukebox's codes",
            "three levels of codes, spectral losses, residual quantisation",
        ),
        Chapter(
            "12_priors_and_sampling",
            "priors",
            "Priors and sampling",
            "sparse transformers over codes, upsamplers, lyrics",
        ),
    ),
    "IV Steering and translating": (
        Chapter(
            "13_music_tagging",
            "taggers",
            "Music tagging",
            "FCN, Musicnn, CRNN, harmonic filters; reads the real weights",
        ),
        Chapter("14_tagbox", "tagbox", "TagBox", "separation by steering a codec with a tagger"),
        Chapter("14b_mixit", "mixit", "MixIT", "separation from mixtures of mixtures"),
        Chapter(
            "15_wavenet_autoencoder",
            "wavenet",
            "The WaveNet autoencoder",
            "dilated convolutions, mu-law, fast generation",
        ),
        Chapter(
            "16_music_translation",
            "translation",
            "Universal music translation",
            "one encoder, a decoder a domain, confusion",
        ),
        Chapter("17_studio", "studio", "The studio", "everything built so far, in one place, on songs of your own"),
    ),
    "V What came after": (
        Chapter(
            "18_band_split",
            "band_split",
            "Splitting the bands",
            "band-split networks, rotary positions, sparse compression",
        ),
        Chapter(
            "19_prior_separation",
            "prior_separation",
            "Separating with a prior",
            "codes, diffusion over sources, guidance",
        ),
        Chapter("20_query", "query", "Ask for any sound", "separation conditioned on a tag or on an example"),
    ),
}
CHAPTERS = tuple(chapter for part in PARTS.values() for chapter in part)


def chapter_named(name: str) -> Chapter:
    """The chapter of the plan with this name, 'NN_topic'; ValueError for one that is not in it."""
    found = {chapter.name: chapter for chapter in CHAPTERS}
    if name not in found:
        raise ValueError(
            f"{name!r} is not a chapter of the course's plan (course_lib/catalogue.py); there: {', '.join(found)}"
        )
    return found[name]


def needs_of(text: str) -> list[str]:
    """Numbers of the chapters that a chapter's line "**You need**" names: "chapters 1 to 3, 8b" -> 01, 02, 03, 08b.

    text: of the chapter (.py). What begins with "Chapter", behind the needs, says where it goes on, and isn't one of
    them. An empty list where the line or a chapter in it is missing.
    """
    found = re.search(r"\*\*You need\*\*(.*?)\n# *\n", text, re.DOTALL)
    line = re.sub(r"\s*\n# *", " ", found[1]) if found else ""
    line = re.split(r"[.;] +Chapters? \d", line)[0]
    numbers = []
    for several in re.findall(r"\bchapters? (\d+b?(?:(?:, | and | to )\d+b?)*)", line):
        words = re.findall(r"\d+b?|to", several)
        for place, word in enumerate(words):
            if word == "to":
                numbers += [str(n) for n in range(int(words[place - 1]) + 1, int(words[place + 1]))]
            else:
                numbers.append(word)
    padded = ((digits := number.rstrip("b")).zfill(2) + number[len(digits):] for number in numbers)
    return sorted(set(padded))


def direct_needs(needs: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Of each chapter's needs those that no other of its needs has already: the arrows of a map that can be read.

    needs: numbers of chapters by number. Each must come before what needs it, else ValueError.
    """
    before: dict[str, set[str]] = {}
    for number in sorted(needs):
        late = sorted(need for need in needs[number] if need not in before)
        if late:
            raise ValueError(f"chapter {number} needs {', '.join(late)}, which doesn't come before it")
        before[number] = set(needs[number]).union(*(before[need] for need in needs[number]))
    return {number: sorted(need for need in before[number] if need in set(needs[number])
                           and not any(need in before[other] for other in needs[number])) for number in needs}


def match(word: str, names: Iterable[str], what: str = "chapters") -> str:
    """The one of `names` (each 'NN_topic') that a reader means: a number ('01', '1', '08b'), a name or a file.

    ValueError, with what there is, unless it is exactly one.
    """
    stem, names = Path(word).stem, sorted(names)
    matches = [name for name in names if name == stem] or [
        name for name in names if name.partition("_")[0].lstrip("0") == stem.lstrip("0").lower()]
    if len(matches) != 1:
        raise ValueError(f"{word!r} names {len(matches)} {what}; there: {', '.join(matches or names) or 'none'}")
    return matches[0]


def written(root: Path, folder: str = "chapters") -> list[Path]:
    """The chapters that are there, or (folder 'chapters/assignments') the assignments, in their order.

    Each by its .ipynb, or by its .py where there is no notebook yet.
    """
    stems = sorted({path.stem for pattern in ("[0-9]*.ipynb", "[0-9]*.py") for path in (root / folder).glob(pattern)})
    notebooks = [root / folder / f"{stem}.ipynb" for stem in stems]
    return [path if path.exists() else path.with_suffix(".py") for path in notebooks]


def checkout() -> Path:
    """The course's checkout; FileNotFoundError where the package was installed without one."""
    root = repository_root()
    if root is None:
        raise FileNotFoundError("no chapters beside the installed package; run this in a clone of the repository")
    return root
