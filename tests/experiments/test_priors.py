"""Chapter 12's data, measurements and `course generate`, with a codec and priors that are tiny and untrained."""

import argparse
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from course_lib import generation_command
from course_lib.data import Track
from course_lib.data.band import compose, mixer, sung_syllables
from course_lib.data.band import labels as band_labels
from course_lib.data.band.voice import perform
from course_lib.experiments import priors as experiment
from course_lib.priors import SimplePrior
from course_lib.training import FitSettings, fit, process_batches
from course_lib.training.configuration import read_config
from course_lib.training.named import use
from course_lib.training.trained import with_facts

RATE, HOPS, BINS = 22_050, (8, 32, 128), 16
LABELS = dict(y_bins=[len(band_labels.WORDS), len(band_labels.STYLE_NAMES)], t_bins=8, sr=RATE, min_duration=1.0,
              max_duration=60.0, max_bow_genre_size=band_labels.MOST_WORDS)
TOP = dict(n_ctx=64, l_bins=BINS, level=2, y_cond_kwargs=LABELS,
           prior_kwargs=dict(width=16, depth=10, heads=2, attn_order=8, blocks=8),
           prime_kwargs=dict(n_tokens=12, bins=len(band_labels.LETTERS), prime_loss_fraction=0.4, width=8, depth=2,
                             heads=1, attn_order=2, blocks=4))
UP = dict(n_ctx=64, l_bins=BINS, level=1, y_cond_kwargs=LABELS,
          prior_kwargs=dict(width=16, depth=3, heads=2, attn_order=2, blocks=8),
          x_cond_kwargs=dict(width=8, depth=2))


class TinyCodec(nn.Module):
    """Codes are mean levels of pieces of audio, in 16 steps: the interface of chapter 11's VQVAE."""

    def encode(self, x: Tensor) -> list[Tensor]:
        return [((x[:, 0].unflatten(1, (-1, hop)).mean(-1) + 1) * BINS / 2).long().clamp(0, BINS - 1) for hop in HOPS]

    def decode(self, codes: Tensor, level: int) -> Tensor:
        return (codes.float() * 2 / BINS - 1).repeat_interleave(HOPS[level], 1)[:, None]


def networks() -> dict:
    """A codec and two priors by the names that the course gives them."""
    torch.manual_seed(0)
    top, up = SimplePrior(**TOP).eval(), SimplePrior(**UP).eval()
    for p in (*top.parameters(), *up.parameters()):                # else they hear neither lyrics nor what is above
        if p.ndim > 1:
            nn.init.normal_(p, std=0.3)
    return {experiment.CODEC: with_facts(TinyCodec(), rate=RATE), experiment.TOP: top, experiment.UPSAMPLER: up,
            experiment.TAGGER: lambda x: x.abs().mean(-1, keepdim=True).expand(-1, 9).clamp(0, 1)}


def song_track(seed: int, seconds: float = 2.0) -> Track:
    """Noise under the name of a song of the band."""
    song = compose(seed)
    noise = 0.2 * torch.randn(1, round(seconds * RATE), generator=torch.Generator().manual_seed(seed))
    return Track.from_tensors(f"{song.style.title()} {seed} - {song.key}", RATE, {"drums": noise})


@pytest.fixture(scope="module")
def songs():
    return experiment.coded_songs([song_track(seed) for seed in (1000, 1001)], TinyCodec())


# ---------------------------------------------------------------------------------------------------------- the band


def test_syllables_are_those_that_are_sung(monkeypatch):
    """The seed of the words is that of the rendered song, and writing them down draws nothing."""
    song, words = compose(1000, 4.0), {}
    monkeypatch.setattr(mixer.Band, "voice", lambda self, part, notes, singer, seed, index: words.setdefault(
        index, (part, seed)) and np.zeros(round(song.seconds * self.rate), np.float32))
    for index, part in enumerate(song.parts):
        if part.stem == "vocals":
            mixer.render_part(part, song, index=index)
    part, seed = next(pair for pair in words.values() if pair[0].role == "lead")
    sung: list = []
    noted = perform(part.notes, 700, 172.0, np.random.default_rng(seed), sung)
    plain = perform(part.notes, 700, 172.0, np.random.default_rng(seed))
    assert np.array_equal(noted.formants, plain.formants) and np.array_equal(noted.noise_level, plain.noise_level)
    assert sung == sung_syllables(song) and sung[0].onset == part.notes[0].onset
    onsets = [syllable.onset for syllable in sung]
    assert onsets == sorted(onsets) and {syllable.onset for syllable in sung} <= {note.onset for note in part.notes}
    assert max(syllable.onset + syllable.seconds for syllable in sung) <= max(
        note.onset + note.duration for note in part.notes) + 1e-9


def test_songs_have_words_and_letters():
    for seed in range(1000, 1028):
        song = compose(seed)
        words = band_labels.words_of(song)
        numbers = band_labels.label_numbers(song.style, words)
        assert len(numbers) == 1 + band_labels.MOST_WORDS and len(words) <= band_labels.MOST_WORDS
        assert [band_labels.WORDS[n] for n in numbers[1:] if n >= 0] == words
        letters, times = band_labels.lyrics_of(song)
        assert band_labels.text_of(letters).split() == [syllable.text for syllable in sung_syllables(song)]
        assert len(letters) == len(times) and times == sorted(times)
    assert band_labels.letter_numbers(" Sha  mo ") == band_labels.letter_numbers("ʃa mo") and not (
        band_labels.letter_numbers("  "))
    assert len(set(band_labels.WORDS)) == len(band_labels.WORDS) and len(set(band_labels.LETTERS)) == len(
        band_labels.LETTERS)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: band_labels.letter_numbers("sax"), "lyrics hold 'x'; the band's singer knows s"),
    (lambda: band_labels.label_numbers("polka"), "style is 'polka'; expected one of rock, pop"),
    (lambda: band_labels.label_numbers("pop", ["kazoo"]), "'kazoo' is no word for a song"),
    (lambda: band_labels.label_numbers("pop", ["piano"] * 9), "9 words for a song; expected at most 8"),
    (lambda: band_labels.tempo_word(500), "tempo is 500; expected 50 to 190"),
    (lambda: experiment.seed_of("A song"), "'A song' names no seed"),
])
def test_labels_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ----------------------------------------------------------------------------------------------------------- the data


def test_windows_are_pure_and_in_step(songs):
    data = experiment.CodeWindows(songs, 50, 3, 1, 64, 32, ratio=4)
    again = experiment.CodeWindows(songs, 50, 3, 1, 64, 32, ratio=4)
    assert all(torch.equal(data[7][name], again[7][name]) for name in ("z", "y", "above"))
    assert not torch.equal(data[7]["z"], data[8]["z"])
    item = data.window(songs[0], 16)
    assert torch.equal(item["z"], songs[0].codes[1][16:80]) and torch.equal(item["above"], songs[0].codes[2][4:20])
    assert item["y"].tolist()[:3] == [2 * RATE, 16 * 32, 64 * 32] and len(item["y"]) == 4 + band_labels.MOST_WORDS
    with pytest.raises(ValueError, match="has 344 codes of level 2; expected at least 345, a window"):
        experiment.CodeWindows(songs, 1, 0, 2, 345, 128)


def test_letters_are_those_sung_around_the_middle(songs):
    song = songs[0]
    for aligned in (True, False):
        data = experiment.CodeWindows(songs, 1, 0, 2, 64, 128, n_tokens=12, aligned=aligned)
        letters = data.window(song, 200)["y"][-12:].tolist()
        middle = (200 + 32) * 128
        place = (sum(t < middle for t in song.times) if aligned else int(len(song.letters) * middle / song.samples))
        start = min(max(place, 6), len(song.letters) - 6) - 6
        assert letters == list(song.letters[start:start + 12])


def test_coded_songs_are_kept(tmp_path, songs):
    file = tmp_path / "codes" / "songs.pt"
    first = experiment.coded_songs([song_track(1000)], TinyCodec(), file)
    again = experiment.coded_songs([], TinyCodec(), file)
    assert again[0].labels == first[0].labels == songs[0].labels and again[0].letters == first[0].letters
    assert all(torch.equal(a, b) for a, b in zip(again[0].codes, songs[0].codes))
    assert [len(codes) for codes in again[0].codes] == [344 * 16, 344 * 4, 344]
    with pytest.raises(ValueError, match="mixture has 100 samples; expected at least 128"):
        experiment.encoded(TinyCodec(), torch.zeros(1, 100))


@pytest.mark.parametrize("name", ["priors_band_top", "priors_band_up"])
def test_configurations_fit_the_labels(name):
    """The numbers in the files are those of the band's labels, and the network is small enough to be committed."""
    config = read_config(name)
    model = use(config["model"])
    assert config["model"]["y_cond_kwargs"]["y_bins"] == LABELS["y_bins"]
    assert config["model"].get("prime_kwargs", {"bins": len(band_labels.LETTERS)})["bins"] == len(band_labels.LETTERS)
    assert model.raw_to_tokens == config["data"]["hop"] == config["facts"]["hop_length"]
    assert model.n_ctx == config["data"]["n_ctx"] and model.n_tokens == config["data"].get("n_tokens", 0)
    assert 2 * sum(p.numel() for p in model.parameters()) < 9e6


@pytest.mark.parametrize("sizes", [TOP, UP], ids=["top", "upsampler"])
def test_a_prior_trains_on_the_windows(songs, sizes):
    torch.manual_seed(0)
    model = SimplePrior(**sizes)
    data = experiment.windows_for(model, songs)
    chunks = experiment.CodeWindows(songs, 80, 0, data.level, data.n_ctx, data.hop, data.ratio, data.n_tokens)
    history = fit(model, experiment.CodeStep(), process_batches(chunks, 4), torch.optim.Adam(model.parameters(), 1e-2),
                  FitSettings(20, validate_every=20, maximise=False),
                  validate=lambda m: experiment.code_scores(m, data), progress=False)
    assert history.steps[-1]["code_bits"] < history.steps[0]["code_bits"]
    assert 0 < history.validations[-1]["bits"] < 4.5


def test_measurements_have_a_row_for_every_song(songs, monkeypatch):
    networks_by_name = networks()
    monkeypatch.setattr(experiment, "load_trained", networks_by_name.__getitem__)
    sizes = experiment.Sizes(songs=2, prime_seconds=1.0, new_seconds=1.2)
    work = SimpleNamespace(settings=sizes, given={"test": songs, "train": songs})
    rows = experiment.measure_bits(work)
    assert {row["method"] for row in rows if row["prior"] == experiment.TOP} == {
        "unigram", "bigram", "model", "labels of another song", "letters of another song"}
    assert {row["method"] for row in rows if row["prior"] == experiment.UPSAMPLER} == {
        "unigram", "bigram", "model", "labels of another song", "another song above"}
    assert all(0 < float(row["bits"]) < 10 for row in rows) and len(rows) == 20
    continued = experiment.one_run(experiment.Run("continued"), work)["continued"]
    assert [row["beginning"] for row in continued] == ["its own", "another song's"] * 4
    assert [row["continuation"] for row in continued] == ["drawn"] * 4 + ["played"] * 4
    filled = experiment.one_run(experiment.Run("filled in"), work)
    assert [row["pair"] for row in filled["filled_in"]] == ["one top row", "two top rows"] * 2
    assert all(0 <= float(row["tempo_octaves"]) <= 0.5 for row in continued) and len(filled["runs"]) == 1
    asked = experiment.measure_asked(SimpleNamespace(settings=sizes, given={"test": songs, "train": songs}))
    assert [row["audio"] for row in asked] == ["drawn"] * 4 + ["played"] * 4
    assert all(-1 <= float(row["tags"]) <= 1 and 0 <= float(row["tempo_octaves"]) <= 0.5 for row in asked)


def test_what_is_asked_for_is_compared():
    asked = torch.tensor([[True, True, False], [True, False, True], [True, True, False]])
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.9, 0.2, 0.7], [0.9, 0.8, 0.1]])
    assert torch.allclose(experiment.tag_likeness(scores, asked), torch.ones(3))     # drums in every song say nothing
    assert (experiment.tag_likeness(scores, asked.roll(-1, 0))[:2] < 0).all()
    assert torch.equal(experiment.tag_likeness(torch.ones(3, 3), asked), torch.zeros(3))
    assert experiment.octaves_apart(80, 160) == 0 and experiment.octaves_apart(100, 141.42) == pytest.approx(0.5, 1e-3)
    assert experiment.octaves_apart(90, 60) == pytest.approx(experiment.octaves_apart(60, 90))


# ------------------------------------------------------------------------------------------------------ the command


def generated(seed: int = 0, **options):
    """1 s of new audio from tiny networks."""
    known = networks()
    priors = {2: known[experiment.TOP], 1: known[experiment.UPSAMPLER]}
    labels = generation_command.asked_labels("pop", 120, "drums, piano")
    return generation_command.generate(known[experiment.CODEC], priors, options.pop("seconds", 1.0), RATE, labels,
                                       seed=seed, **options)


def test_generated_audio_is_repeatable_and_begins_with_the_prime():
    first = generated()
    assert first.shape == (1, -(-RATE // 128) * 128) and torch.equal(first, generated())
    assert not torch.equal(first, generated(1)) and not torch.equal(first, generated(lyrics="sa mo tu li"))
    prime = 0.3 * torch.ones(1, 1, 5000)
    primed, given = generated(prime=prime), 5000 // 128 * 128
    assert torch.equal(primed[:, :given], TinyCodec().decode(TinyCodec().encode(prime[..., :given])[1], 1)[0])


@pytest.mark.parametrize(("options", "message"), [
    (dict(seconds=0.0), "seconds is 0; expected more than 0 and up to 59"),
    (dict(seconds=61.0), "seconds is 61"),
    (dict(prime=torch.zeros(1, 1, 100)), "the beginning has 0 samples and the whole 22144"),
    (dict(prime=torch.zeros(1, 1, 30000)), "expected it shorter"),
    (dict(lyrics="xyz"), "lyrics hold 'x', 'y', 'z'"),
])
def test_generation_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        generated(**options)


def test_generation_refuses_levels_that_are_no_neighbours():
    known = networks()
    for priors in ({}, {1: known[experiment.UPSAMPLER]}, {0: known[experiment.TOP], 2: known[experiment.TOP]}):
        with pytest.raises(ValueError, match="expected the top level, and those right beneath it"):
            generation_command.generate(known[experiment.CODEC], priors, 1.0, RATE, [0] + [-1] * 8)


def test_the_command_writes_a_file(tmp_path, monkeypatch, capsys):
    known = networks()
    monkeypatch.setattr("course_lib.training.load_trained", known.__getitem__)
    parser = argparse.ArgumentParser()
    generation_command.configure(parser)
    soundfile.write(tmp_path / "song.wav", np.zeros((44100, 2), np.float32), 44100)
    out = tmp_path / "new.wav"
    line = ["-o", str(out), "--seconds", "1", "--tempo", "100", "--instruments", "drums", "--lyrics", "sa sha",
            "--prime", str(tmp_path / "song.wav"), "--prime-seconds", "0.2", "--seed", "4"]
    assert generation_command.main(parser.parse_args(line)) == 0
    assert capsys.readouterr().out == "new.wav: 1.0 s, 22050 Hz, mono, seed 4\n"
    assert soundfile.info(out).frames == 22144 and soundfile.info(out).samplerate == RATE
    with pytest.raises(ValueError, match="new.wav is there already; pass --overwrite"):
        generation_command.main(parser.parse_args(line))
    with pytest.raises(ValueError, match="expected a name that ends in .wav or .flac"):
        generation_command.main(parser.parse_args(["-o", str(tmp_path / "new.mp3")]))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        generation_command.main(parser.parse_args(["-o", str(tmp_path / "none" / "new.wav")]))
