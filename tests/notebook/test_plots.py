"""Plots, figures and tables: data and axes are the right ones, outputs are small, named and alike everywhere."""

import io
import math

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.notebook import figures, plots, tables

RATE = 22050
STEMS = ["drums", "bass", "other", "vocals"]


@pytest.fixture(autouse=True)
def closed_figures():
    """Off-screen drawing, and no figure left over from one test to the next."""
    matplotlib.use("agg")
    yield
    plt.close("all")


def tone(frequency: float, seconds: float = 1.0, amplitude: float = 1.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


# Spectrograms ---------------------------------------------------------------------------------------------------------

def drawn_cells(ax) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a plot shows: (values (rows, columns), edges in seconds, edges in Hz)."""
    corners = ax.collections[0].get_coordinates()
    return ax.collections[0].get_array().reshape(len(corners) - 1, -1), corners[0, :, 0], corners[:, 0, 1]


@pytest.mark.parametrize("axis", ["log", "linear", "mel"])
def test_a_tone_is_drawn_at_its_frequency_with_its_level(axis):
    ax = plots.plot_spectrogram(tone(1000, amplitude=0.1), RATE, axis=axis)
    levels, times, frequencies = drawn_cells(ax)
    row = levels[:, levels.shape[1] // 2].argmax()
    assert frequencies[row] <= 1000 + RATE / 2048 and frequencies[row + 1] >= 1000 - RATE / 2048
    assert abs(levels.max() - -20) < 1.5, "0.1 of full scale is -20 dB"
    assert times[0] == 0 and abs(times[-1] - 1.0) < 512 / RATE
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (s)", "frequency (Hz)")
    assert ax.get_ylim()[1] == RATE / 2


def test_a_click_is_drawn_at_its_time():
    x = np.zeros(2 * RATE, np.float32)
    x[RATE // 2] = 1.0
    levels, times, _ = drawn_cells(plots.plot_spectrogram(x, RATE, n_fft=256, hop_length=64, axis="linear"))
    assert abs(times[levels.max(0).argmax()] - 0.5) < 0.01


def test_long_signals_are_drawn_with_about_a_cell_a_pixel_and_keep_what_is_thin():
    x = np.concatenate([tone(1000, 30.0, 0.1), np.zeros(30 * RATE, np.float32)])
    x[45 * RATE] = 1.0
    levels, times, frequencies = drawn_cells(plots.plot_spectrogram(x, RATE, axis="linear"))
    assert levels.shape[0] <= plots.MOST_ROWS and levels.shape[1] <= plots.MOST_COLUMNS
    assert np.allclose(levels[:, times[:-1] < 29].max(0), -20, atol=0.5), "a tone keeps its level"
    loud = levels.max(0) > -70
    assert np.flatnonzero(loud & (times[:-1] > 31)).size in (1, 2, 3), "a click keeps its place and its level"


def test_a_detail_is_drawn_bin_by_bin():
    x = tone(1000, 3.0) + tone(1030, 3.0)
    levels, _, frequencies = drawn_cells(plots.plot_spectrogram(x, RATE, axis="linear", bottom=900, top=1100))
    assert np.allclose(np.diff(frequencies), RATE / 2048) and frequencies[0] <= 900 and frequencies[-1] >= 1100
    assert levels.shape[0] == len(frequencies) - 1 <= 21
    mask = np.eye(1025)[:, :300]
    shown = drawn_cells(plots.plot_masks({"a": mask}, RATE, axis="linear", top=2000).axes[0])[0]
    assert set(np.unique(shown)) == {0.0, 1.0}, "a binary mask stays binary"


def test_shared_axes_are_labelled_once():
    grid = plt.subplots(2, 2, sharex=True, sharey=True)[1]
    for ax in grid.flat:
        plots.plot_spectrogram(tone(440), RATE, colour_bar=False, ax=ax)
    assert [bool(ax.get_ylabel()) for ax in grid.flat] == [True, False, True, False]
    assert [bool(ax.get_xlabel()) for ax in grid.flat] == [False, False, True, True]


def test_methods_are_told_apart_by_more_than_colour():
    colours, markers = plots.LINE_COLOURS, plots.MARKERS
    assert len({(colours[i % len(colours)], markers[i % len(markers)]) for i in range(20)}) == 20


def test_merged_masks_keep_their_mean():
    mask = np.random.default_rng(0).random((1025, 4000))
    shown = drawn_cells(plots.plot_masks({"a": mask}, RATE, axis="linear").axes[0])[0]
    assert shown.size < mask.size / 4 and abs(shown.mean() - mask.mean()) < 1e-3 and shown.std() < mask.std() / 2


def test_a_ready_spectrogram_gives_the_same_picture():
    x = torch.from_numpy(tone(440) + tone(3000))
    spectrum = torch.stft(x, 2048, 512, window=torch.hann_window(2048), return_complex=True)
    pictures = [drawn_cells(plots.plot_spectrogram(given, RATE))[0] for given in (x, spectrum, spectrum.abs())]
    assert np.allclose(pictures[0], pictures[1], atol=1e-3) and np.allclose(pictures[0], pictures[2], atol=1e-3)


def test_the_colours_span_the_range_asked_for():
    ax = plots.plot_spectrogram(tone(440), RATE, db_range=50, loudest=-6)
    assert ax.collections[0].get_clim() == (-56, -6)


def test_silence_and_very_short_signals_are_drawn():
    assert plots.plot_spectrogram(np.zeros(RATE, np.float32), RATE).collections[0].get_clim()[1] <= -100
    for samples in (1, 100, 1025):
        plots.plot_spectrogram(tone(440)[:samples], RATE)


def test_mel_and_hertz_undo_each_other():
    assert abs(plots.mel(1000) - 1000) < 0.1
    assert np.allclose(plots.hertz(plots.mel([0, 50, 440, 20000])), [0, 50, 440, 20000])


@pytest.mark.parametrize("given, message", [
    ({"x": tone(440), "axis": "bark"}, "axis is 'bark'"),
    ({"x": tone(440), "bottom": 0}, "bottom > 0 on a logarithmic axis"),
    ({"x": tone(440), "bottom": 5000, "top": 400}, "bottom is 5000 and top is 400"),
    ({"x": np.full(5000, np.nan)}, "NaN"),
    ({"x": np.zeros((5000, 2), "f4")}, r"pass x\.T"),
    ({"x": np.full((1025, 3), np.nan + 0j)}, "NaN"),
])
def test_bad_spectrogram_input_is_refused_in_words(given, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_spectrogram(given.pop("x"), RATE, **given)


# Masks ----------------------------------------------------------------------------------------------------------------

def test_masks_share_axes_and_one_colour_bar_from_0_to_1():
    mask = np.linspace(0, 1, 513 * 40).reshape(513, 40)
    figure = plots.plot_masks({"a": mask, "b": torch.from_numpy(1 - mask), "c": mask * 1j}, RATE, 256)
    *pictures, bar = figure.axes
    assert [ax.get_title("left") for ax in pictures] == ["a", "b", "c"]
    assert all(ax.collections[0].get_clim() == (0, 1) for ax in pictures) and bar.get_ylabel() == "mask"
    first, second, third = (drawn_cells(ax)[0] for ax in pictures)
    assert np.allclose(first + second, 1, atol=1e-6) and np.allclose(first, third)


@pytest.mark.parametrize("least, most, arrows", [(0, 1, "neither"), (0, 1.5, "max"), (-0.2, 1, "min"),
                                                 (-0.2, 2, "both")])
def test_the_colour_bar_says_where_masks_leave_0_to_1(least, most, arrows):
    figure = plots.plot_masks({"a": np.linspace(least, most, 65 * 10).reshape(65, 10)}, RATE)
    assert figure.axes[0].collections[0].colorbar.extend == arrows


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"'b': \(513, 41\)"):
        plots.plot_masks({"a": np.ones((513, 40)), "b": np.ones((513, 41))}, RATE)


# Waveforms and levels -------------------------------------------------------------------------------------------------

def test_the_envelope_of_a_long_signal_keeps_its_peaks():
    x = np.zeros((2, 10 * RATE), np.float32)
    x[1, 5 * RATE], x[0, 7 * RATE] = 0.9, -0.8
    ax = plots.plot_waveform(x, RATE)
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert math.isclose(heights.max(), 0.9, rel_tol=1e-6) and math.isclose(heights.min(), -0.8, rel_tol=1e-6)
    assert ax.get_xlim() == (0, 10) and ax.get_ylim()[0] < -0.9


def test_a_short_signal_is_drawn_sample_by_sample():
    x = tone(440)[:500]
    [line] = plots.plot_waveform(x, RATE, start=2.0).lines
    assert np.array_equal(line.get_ydata(), x) and math.isclose(line.get_xdata()[-1], 2 + 499 / RATE)


def test_stems_have_the_same_colour_everywhere():
    ax = plots.plot_level({"vocals": tone(440), "drums": tone(100)}, RATE)
    assert [line.get_color() for line in ax.lines] == [plots.STEM_COLOURS["vocals"], plots.STEM_COLOURS["drums"]]
    assert len(set(plots.STEM_COLOURS.values())) == len(plots.STEM_COLOURS)


def test_levels_are_rms_in_decibels():
    times, levels = plots.level(np.stack([tone(1000), tone(1000)]), RATE)
    assert np.allclose(levels, -3.01, atol=0.05) and len(times) == 20 and math.isclose(times[0], 0.025, rel_tol=0.01)
    assert plots.level(np.zeros(100), RATE)[1].max() == -200


def test_signals_without_a_label_each_are_refused():
    with pytest.raises(ValueError, match="one for each of the 2 signals"):
        plots.plot_level([tone(1), tone(2)], RATE, labels=["a"])


# Scores and losses ----------------------------------------------------------------------------------------------------

def test_scores_are_drawn_at_their_median_with_their_interval():
    scores = {name: np.random.default_rng(i).normal(5 + i, 2, (20, 4)) for i, name in enumerate(["ours", "baseline"])}
    scores["ours"][3, 1] = np.nan
    ax = plots.plot_scores(scores, STEMS, {"mixture": np.full((20, 4), -1.0), "ideal mask": [9, 8, 7, 10]})
    dots = [container.lines[0].get_ydata() for container in ax.containers]
    assert np.allclose(dots[0], np.nanmedian(scores["ours"], 0))
    assert np.allclose(dots[1], np.median(scores["baseline"], 0))
    bar = ax.containers[0].lines[2][0].get_segments()[1][:, 1]
    assert np.allclose(bar, tables.median_interval(scores["ours"][:, 1])[1:])
    assert np.allclose([segment[0, 1] for segment in ax.collections[1].get_segments()], [9, 8, 7, 10])
    assert ax.get_ylabel() == "SDR (dB), median of 20 tracks"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mixture", "ideal mask", "ours", "baseline"]


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"'ours' have shape \(20, 3\).*4 stems"):
        plots.plot_scores({"ours": np.zeros((20, 3))}, STEMS)


def test_smoothing_is_a_centred_mean_over_steps():
    steps = np.arange(0.0, 100.0)
    line = plots.smoothed(steps, 3 * steps + 1, 11)
    assert np.allclose(line, 3 * steps + 1), "a straight line stays straight, ends included"
    noise = np.random.default_rng(0).normal(0, 1, 100)
    assert math.isclose(plots.smoothed(steps, noise, 10)[50], noise[45:56].mean())
    assert np.allclose(plots.smoothed(steps * 100, noise, 10), noise), "logged too rarely to be smoothed"
    gap = np.where(steps == 50, np.nan, 1.0)
    assert np.allclose(plots.smoothed(steps, gap, 10), 1.0)


def test_losses_on_logarithmic_axes():
    steps = np.arange(1, 101)
    curves = {"train": (steps, 1 / steps), "valid": (steps[::10], torch.ones(10))}
    ax = plots.plot_losses(curves, log_steps=True, smoothing=5)
    assert (ax.get_xscale(), ax.get_yscale(), len(ax.lines)) == ("log", "log", 4)
    with pytest.raises(ValueError, match="goes down to -12.*log_loss=False"):
        plots.plot_losses({"SI-SDR": (steps, np.linspace(3, -12, 100))})
    with pytest.raises(ValueError, match=r"\(100,\) and values \(99,\)"):
        plots.plot_losses({"train": (steps, steps[:-1])})


# Figures --------------------------------------------------------------------------------------------------------------

@pytest.fixture
def shown(monkeypatch) -> list[tuple[dict, dict]]:
    """What was displayed: (data, options) of every output."""
    outputs = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: outputs.append((data, options)))
    return outputs


def test_a_figure_is_shown_once_with_caption_and_description(shown):
    ax = plots.plot_waveform(tone(440), RATE)
    assert figures.show(ax, "A tone of 440 Hz.", "A waveform <that> swings evenly.") is None
    (image, options), (caption, _) = shown
    assert options["metadata"] == {"image/png": {"alt": "A waveform <that> swings evenly."}}
    assert image["text/plain"] == "figure: A waveform <that> swings evenly."
    assert caption["text/plain"] == "A tone of 440 Hz." and "swings evenly" in caption["text/html"]
    assert "&lt;that&gt;" in caption["text/html"]
    assert plt.get_fignums() == [], "closed, so that the notebook does not show it a second time"


def test_a_picture_has_a_fixed_size_and_few_bytes(shown):
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 5 * RATE)).astype(np.float32)
    for title in (None, "a title that is long enough to move the axes, if it could"):
        figures.show(plots.plot_spectrogram(noise, RATE, title), "Noise.", "Noise everywhere.")
    pictures = [data["image/png"] for data, _ in shown[::2]]
    sizes = [Image.open(io.BytesIO(picture)).size for picture in pictures]
    assert sizes == [(int(plots.WIDTH * 96), int(2.8 * 96))] * 2
    assert all(len(picture) < 130_000 for picture in pictures), "noise is the largest there is"


def test_few_colours_look_like_all_of_them():
    drawn = plots.plot_spectrogram(tone(440) * np.linspace(0, 1, RATE), RATE).get_figure()
    stream = io.BytesIO()
    drawn.savefig(stream, dpi=96, format="png")
    full = np.asarray(Image.open(stream).convert("RGB")).astype(int)
    small = np.asarray(Image.open(io.BytesIO(figures.png_bytes(drawn))).convert("RGB")).astype(int)
    assert np.abs(full - small).max() <= 8, "of 255"


@pytest.mark.parametrize("caption, alt", [("", "a"), ("a", " "), ("a", None)])
def test_a_figure_without_caption_or_description_is_refused(caption, alt):
    with pytest.raises(ValueError, match="every figure has a caption and a description"):
        figures.show(plt.figure(), caption, alt)


def test_show_takes_figures_and_axes_only():
    figure, grid = plt.subplots(2, 2)
    assert figures.figure_of(figure) is figures.figure_of(grid) is figures.figure_of(grid[1, 1]) is figure
    with pytest.raises(TypeError, match="got str"):
        figures.figure_of("plot")


# Tables ---------------------------------------------------------------------------------------------------------------

def test_a_table_is_rounded_and_aligned_in_both_forms(shown):
    rows = [["ideal ratio mask", (9.126, 8.5, 9.94), 20],
            {"method": "silence | nothing", "SDR (dB)": -0.001, "tracks": None}]
    tables.show_table(rows, ["method", "SDR (dB)", "tracks"], "Medians over test songs.")
    [(data, options)] = shown
    assert options == {"raw": True}
    assert data["text/markdown"].splitlines() == [
        "| method | SDR (dB) | tracks |", "|:---|---:|---:|", "| ideal ratio mask | 9.13 [8.50, 9.94] | 20 |",
        r"| silence \| nothing | 0.00 | – |", "", "*Medians over test songs.*"]
    widths = {len(line) for line in data["text/plain"].splitlines()[:-1]}
    assert len(widths) == 1, "columns line up"


@pytest.mark.parametrize("value, text", [(1.005, "1.00"), (2, "2"), (torch.tensor(3.14159), "3.14"), (np.int64(7), "7"),
                                         (math.nan, "–"), (None, "–"), ("as is", "as is"), (-0.0, "0.00"),
                                         (True, "True"),
                                         (math.inf, "inf"), ((1.0, math.nan, math.nan), "1.00")])
def test_numbers_are_formatted_in_one_place(value, text):
    assert tables.format_number(value) == text


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="row 1 has 1 values; expected 2"):
        tables.show_table([[1, 2], [1]], ["a", "b"])
    with pytest.raises(ValueError, match=r"row 0 has \['c'\]"):
        tables.show_table([{"a": 1, "c": 2}], ["a", "b"])
    with pytest.raises(ValueError, match="rows is empty"):
        tables.show_table([], ["a"])


def test_intervals_cover_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    samples = generator.normal(3.0, 2.0, (100, 20))
    intervals = [tables.mean_interval(sample, level=0.9) for sample in samples]
    covered = np.mean([low <= 3.0 <= high for _, low, high in intervals])
    assert 0.80 <= covered <= 0.97
    assert all(low <= centre <= high for centre, low, high in intervals)


def test_intervals_are_seeded_and_leave_undefined_scores_out():
    values = np.append(np.random.default_rng(0).normal(0, 1, 12), np.nan)
    assert tables.median_interval(values, seed=1) == tables.median_interval(values[:-1], seed=1)
    assert tables.mean_interval(values, seed=1) != tables.mean_interval(values, seed=2)
    assert tables.mean_interval([4.0])[0] == 4.0 and math.isnan(tables.mean_interval([4.0])[1])
    assert all(math.isnan(part) for part in tables.mean_interval([math.nan, math.nan]))
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        tables.mean_interval(np.ones((2, 2)))


def test_pairs_are_compared_track_by_track():
    """Tracks differ far more than methods: the difference is sure where the two means' intervals overlap widely."""
    hard = np.random.default_rng(0).normal(0, 5, 20)
    first, second = hard + 0.5 + 0.1 * np.arange(20) % 0.3, hard
    centre, low, high = tables.paired_interval(first, second)
    assert centre == pytest.approx((first - second).mean()) and low > 0.4
    assert tables.mean_interval(first)[1] < tables.mean_interval(second)[2]
    assert tables.paired_interval([1.0, 2.0, 9.0], [0.0, 0.0, np.nan]) == tables.mean_interval([1.0, 2.0])
    with pytest.raises(ValueError, match=r"first has shape \(2,\), second \(3,\)"):
        tables.paired_interval([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="values holds inf"):
        tables.mean_interval([1.0, np.inf])
