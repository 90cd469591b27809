"""The course's plots: one quiet style, axes in seconds, Hz and dB, colours that colour-blind readers can tell apart.

Every function draws into `ax` or makes a figure of its own, and returns the Axes (`plot_masks`: the Figure). Give
what it returns to `course_lib.notebook.show` with a caption and a description.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from course_lib.notebook.players import as_channels, checked_rate
from course_lib.notebook.tables import mean_interval, median_interval

# Okabe & Ito, Color Universal Design, 2008. A stem has one colour in the whole course.
OKABE_ITO = {"black": "#000000", "orange": "#E69F00", "sky blue": "#56B4E9", "bluish green": "#009E73",
             "yellow": "#F0E442", "blue": "#0072B2", "vermilion": "#D55E00", "reddish purple": "#CC79A7"}
STEM_COLOURS = {"drums": OKABE_ITO["vermilion"], "bass": OKABE_ITO["blue"], "other": OKABE_ITO["bluish green"],
                "vocals": OKABE_ITO["reddish purple"], "guitar": OKABE_ITO["orange"], "piano": OKABE_ITO["sky blue"],
                "accompaniment": "#7F7F7F", "mixture": "#404040"}
LINE_COLOURS = [OKABE_ITO[name] for name in
                ("blue", "vermilion", "bluish green", "reddish purple", "orange", "sky blue", "black")]
# Beside the colour, for who cannot tell them apart. One more than colours, so that the pairs repeat late.
MARKERS = ["o", "s", "D", "^", "v", "P", "X", "p"]
BOUND_COLOUR = "#606060"
BOUND_DASHES = ["solid", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5))]

SPECTROGRAM_MAP = "magma"             # perceptually uniform; levels in dB
MASK_MAP = "cividis"                  # perceptually uniform and another one, so that a mask is not taken for a level
WIDTH = 7.6                           # inches
LOWEST_FREQUENCY = 30.0               # Hz, the lower end of a logarithmic axis
QUIETEST = 1e-10                      # amplitude that stands for silence: -200 dB
MOST_COLUMNS, MOST_ROWS = 900, 320    # cells of a drawn spectrogram: about one a pixel,
MOST_CELLS = 250_000                  # more rows where there are few columns, so that one can zoom in

HOUSE_STYLE = {
    "figure.dpi": 96, "savefig.dpi": 96, "figure.figsize": (WIDTH, 3.0), "figure.constrained_layout.use": True,
    "figure.facecolor": "white", "savefig.facecolor": "white", "axes.facecolor": "white",
    "font.family": "DejaVu Sans", "font.size": 9.5, "axes.titlesize": 10, "axes.titlelocation": "left",
    "axes.titleweight": "normal", "axes.labelsize": 9.5, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.edgecolor": "#404040",
    "axes.grid": False, "grid.color": "#D9D9D9", "grid.linewidth": 0.6, "axes.axisbelow": True,
    "lines.linewidth": 1.3, "legend.frameon": False, "legend.fontsize": 8.5, "image.cmap": SPECTROGRAM_MAP,
    "axes.prop_cycle": "cycler('color', [" + ", ".join(repr(colour) for colour in LINE_COLOURS) + "])",
    "svg.hashsalt": "course",
}


@contextmanager
def house_style():
    """The course's matplotlib settings within a `with` block; `setup` applies them to a whole notebook."""
    import matplotlib.pyplot as plt

    with plt.rc_context(HOUSE_STYLE):
        yield


def _new_axes(ax, height: float):
    import matplotlib.pyplot as plt

    return ax if ax is not None else plt.subplots(figsize=(WIDTH, height))[1]


def _array(values) -> np.ndarray:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def decibels(amplitude) -> np.ndarray:
    """20 log10 of an amplitude >= 0; silence gives -200 dB instead of minus infinity."""
    return 20 * np.log10(np.maximum(amplitude, QUIETEST))


# Signals over time ----------------------------------------------------------------------------------------------------

def _envelope(channels: np.ndarray, columns: int = MOST_COLUMNS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    starts = np.linspace(0, channels.shape[1], min(columns, channels.shape[1]), endpoint=False).astype(int)
    low = np.minimum.reduceat(channels.min(0), starts)
    high = np.maximum.reduceat(channels.max(0), starts)
    return starts, low, high


def _named_signals(x, labels: Sequence[str] | None) -> dict[str | None, object]:
    if isinstance(x, Mapping):
        return dict(x)
    if not isinstance(x, (list, tuple)):
        return {labels[0] if labels else None: x}
    if labels is None or len(labels) != len(x):
        raise ValueError(f"labels is {labels!r}; expected one for each of the {len(x)} signals")
    return dict(zip(labels, x))


def plot_waveform(x, rate: int, title: str | None = None, *, labels: Sequence[str] | None = None, start: float = 0.0,
                  ax=None):
    """Amplitude over time. Returns the Axes.

    x: (time,) or (channels, time), floats; or several of them in a mapping by name or a list with `labels`, drawn over
    each other in their order. Up to 2000 samples are drawn as a line a channel; of more, each column of the picture
    shows the range from the smallest to the largest sample of all channels. rate: Hz. start: seconds at the first
    sample.
    """
    rate = checked_rate(rate)
    with house_style():
        ax = _new_axes(ax, 1.8)
        peak = 0.0
        for number, (name, signal) in enumerate(_named_signals(x, labels).items()):
            channels = as_channels(signal, name or "x")
            colour = STEM_COLOURS.get(name, LINE_COLOURS[number % len(LINE_COLOURS)])
            if channels.shape[1] <= 2000:
                ax.plot(start + np.arange(channels.shape[1]) / rate, channels.T, color=colour, linewidth=1.0,
                        label=[name] + [None] * (len(channels) - 1) if name else None)
            else:
                begins, low, high = _envelope(channels)
                ax.fill_between(start + begins / rate, low, high, color=colour, linewidth=0.3, label=name,
                                alpha=0.8 if number else 1.0)
            ax.set_xlim(start, start + channels.shape[1] / rate)
            peak = max(peak, float(np.abs(channels).max()))
        peak = peak or 1.0                                                 # silence: a line in the middle
        ax.set(xlabel="time (s)", ylabel="amplitude", title=title or "", ylim=(-1.05 * peak, 1.05 * peak))
        if name is not None:
            ax.legend(loc="upper right", ncols=4)
    return ax


def level(x, rate: int, window_length: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Times in seconds and the level in dB of consecutive pieces of a signal.

    x: (time,) or (channels, time). window_length: seconds a piece. The level is the RMS over the piece and all
    channels, 0 dB for a constant of 1, so -3 dB for a full-scale sine; silence is -200 dB.
    """
    channels, rate = as_channels(x), checked_rate(rate)
    samples = max(1, round(window_length * rate))
    pieces = max(1, channels.shape[1] // samples)
    samples = min(samples, channels.shape[1])
    squares = channels[:, : pieces * samples].astype(np.float64) ** 2
    power = squares.reshape(len(channels), pieces, samples).mean((0, 2))   # (channels, pieces, samples) -> (pieces,)
    return (np.arange(pieces) + 0.5) * samples / rate, decibels(np.sqrt(power))


def plot_level(x, rate: int, title: str | None = None, *, labels: Sequence[str] | None = None,
               window_length: float = 0.05, db_range: float = 60.0, ax=None):
    """Level in dB over time, for one signal, a list with `labels` or a mapping by name. Returns the Axes.

    Arguments as in `level`; the axis shows db_range dB below the loudest piece.
    """
    with house_style():
        ax = _new_axes(ax, 2.2)
        loudest = -math.inf
        for number, (name, signal) in enumerate(_named_signals(x, labels).items()):
            times, levels = level(signal, rate, window_length)
            colour = STEM_COLOURS.get(name, LINE_COLOURS[number % len(LINE_COLOURS)])
            ax.plot(times, levels, color=colour, label=name)
            loudest = max(loudest, levels.max())
        ax.set(xlabel="time (s)", ylabel="level (dB)", title=title or "", ylim=(loudest - db_range, loudest + 3))
        ax.margins(x=0)
        ax.grid(axis="y")
        if name is not None:
            ax.legend(loc="lower right", ncols=4)
    return ax


# Time and frequency ---------------------------------------------------------------------------------------------------

def mel(frequency):
    """Frequency in Hz as mel: 2595 log10(1 + f / 700) (O'Shaughnessy 1987, as in HTK)."""
    return 2595.0 * np.log10(1.0 + np.asarray(frequency, dtype=np.float64) / 700.0)


def hertz(pitch):
    """Mel as frequency in Hz, the inverse of `mel`."""
    return 700.0 * (10.0 ** (np.asarray(pitch, dtype=np.float64) / 2595.0) - 1.0)


AXIS_SCALES = {"linear": lambda frequency: frequency, "log": np.log, "mel": mel}


def _merged_edges(edges: np.ndarray, positions: np.ndarray, most: int) -> np.ndarray:
    """Indices of the cell edges to keep so that at most `most` cells remain, each wider than 1/most of the axis."""
    share = (positions - positions[0]) / (positions[-1] - positions[0])
    keep = np.unique(np.floor(share * most + 1e-9).astype(int), return_index=True)[1]
    return np.unique(np.append(keep, len(edges) - 1))


def _merge_cells(values: np.ndarray, edges: np.ndarray, scale, most: int, axis: int, merge: str):
    """Merge neighbouring cells that would be narrower than a pixel: (values, edges) with at most about `most` cells.

    merge: "strongest" keeps the largest value, so that a thin line keeps its level; "mean" averages.
    """
    keep = _merged_edges(edges, scale(edges), most)
    if merge == "strongest":
        return np.maximum.reduceat(values, keep[:-1], axis=axis), edges[keep]
    counts = np.diff(keep).reshape([-1 if axis == i else 1 for i in range(values.ndim)])
    return np.add.reduceat(values, keep[:-1], axis=axis) / counts, edges[keep]


def _frequency_range(axis: str, rate: int, bottom: float | None, top: float | None) -> tuple[float, float]:
    """The frequencies in Hz that a picture shows; None is as low or as high as the axis and the rate allow."""
    if axis not in AXIS_SCALES:
        raise ValueError(f"axis is {axis!r}; expected one of {sorted(AXIS_SCALES)}")
    lowest = (LOWEST_FREQUENCY if axis == "log" else 0.0) if bottom is None else bottom
    highest = min(top or rate / 2, rate / 2)
    if not (0 <= lowest < highest and (lowest > 0 or axis != "log")):
        raise ValueError(f"bottom is {bottom} and top is {top}; expected 0 <= bottom < top <= {rate / 2:g} Hz, "
                         "and bottom > 0 on a logarithmic axis")
    return lowest, highest


def _draw_cells(ax, values: np.ndarray, rate: int, hop_length: int, axis: str, shown: tuple[float, float], limits,
                colour_map: str, merge: str):
    """Draw (freq, frames) as coloured cells on true axes in seconds and Hz. Returns matplotlib's QuadMesh.

    shown: lowest and highest frequency in Hz. limits: values of the darkest and brightest colour.
    """
    bins, frames = values.shape
    width = rate / (2 * (bins - 1))                                       # Hz between bins
    frequencies = np.clip((np.arange(bins + 1) - 0.5) * width, 0, rate / 2)
    times = np.clip((np.arange(frames + 1) - 0.5) * hop_length / rate, 0, max(1, frames - 1) * hop_length / rate)
    first = int(np.searchsorted(frequencies, shown[0], side="right")) - 1  # the bins shown; for log none at 0 Hz
    first = max(first, 1) if axis == "log" else max(first, 0)
    last = int(np.searchsorted(frequencies, shown[1], side="left"))
    values, frequencies = values[first:last], frequencies[first : last + 1]
    rows = max(MOST_ROWS, MOST_CELLS // min(frames, MOST_COLUMNS))
    values, frequencies = _merge_cells(values, frequencies, AXIS_SCALES[axis], rows, 0, merge)
    values, times = _merge_cells(values, times, AXIS_SCALES["linear"], MOST_COLUMNS, 1, merge)
    mesh = ax.pcolormesh(times, frequencies, values, cmap=colour_map, vmin=limits[0], vmax=limits[1],
                         rasterized=True)
    _set_frequency_axis(ax, axis, max(shown[0], frequencies[0]), shown[1])
    ax.set(xlim=(times[0], times[-1]), xlabel="time (s)")
    place = ax.get_subplotspec()                                          # in a grid with shared axes: label them once
    if place and not place.is_first_col() and len(ax.get_shared_y_axes().get_siblings(ax)) > 1:
        ax.set_ylabel("")
    if place and not place.is_last_row() and len(ax.get_shared_x_axes().get_siblings(ax)) > 1:
        ax.set_xlabel("")
    return mesh


def _set_frequency_axis(ax, axis: str, lowest: float, highest: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if axis == "log":
        ax.set_yscale("log")
        ticks = [50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000]
    elif axis == "mel":
        ax.set_yscale("function", functions=(mel, hertz))
        ticks = [250, 500, 1000, 2000, 4000, 8000, 16000]
    if axis != "linear":
        ax.yaxis.set_major_locator(FixedLocator([tick for tick in ticks if lowest <= tick <= highest]))
        ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda f, _: f"{f / 1000:g}k" if f >= 1000 else f"{f:g}"))
    ax.set_ylim(lowest, highest)
    ax.set_ylabel("frequency (Hz)")


def spectrogram_amplitude(x, n_fft: int = 2048, hop_length: int = 512) -> np.ndarray:
    """Amplitude of a signal's STFT, (n_fft/2 + 1, frames), 1 for a full-scale sine; the RMS over channels.

    Periodic Hann window, centred frames, reflected edges.
    x: (time,) or (channels, time); a ready complex STFT (..., n_fft/2 + 1, frames) or its magnitude, of the unscaled
    kind that chapter 1 and torch.stft give, keeps its frames. A magnitude must have n_fft/2 + 1 rows, or it is taken
    as audio.
    """
    import torch

    ready = _array(x)
    if np.iscomplexobj(ready) or (ready.ndim >= 2 and ready.shape[-2] == n_fft // 2 + 1):
        magnitude = np.abs(ready)
        if magnitude.ndim < 2 or magnitude.shape[-2] < 2 or magnitude.shape[-1] < 1:
            raise ValueError(f"the spectrogram has shape {ready.shape}; expected (..., freq, frames)")
        if not np.isfinite(magnitude).all():
            raise ValueError("the spectrogram holds NaN or infinite values; expected finite ones")
        n_fft = 2 * (magnitude.shape[-2] - 1)
    else:
        signal = torch.from_numpy(as_channels(ready))
        if signal.shape[1] <= n_fft // 2:                                  # too short to reflect at its edges
            signal = torch.nn.functional.pad(signal, (0, n_fft // 2 + 1 - signal.shape[1]))
        window = torch.hann_window(n_fft)
        magnitude = torch.stft(signal, n_fft, hop_length, window=window, return_complex=True).abs().numpy()
    power = (magnitude.reshape(-1, *magnitude.shape[-2:]).astype(np.float64) ** 2).mean(0)
    return np.sqrt(power) / (n_fft / 4)                                    # a Hann window sums to n_fft / 2


def plot_spectrogram(x, rate: int, title: str | None = None, *, n_fft: int = 2048, hop_length: int = 512,
                     axis: str = "log", db_range: float = 80.0, loudest: float | None = None,
                     bottom: float | None = None, top: float | None = None, colour_bar: bool = True, ax=None):
    """Level in dB over time and frequency. Returns the Axes.

    x: (time,) or (channels, time), or a ready spectrogram (see `spectrogram_amplitude`) with its hop_length. rate: Hz.
    axis: how frequency is spaced: "log", "linear" or "mel"; the ticks are Hz each time. bottom, top: Hz shown,
    by default from 0 (log: 30 Hz) to half the rate.
    loudest: dB of the brightest colour (default: the loudest cell); give the same to pictures that are to be compared.
    db_range: dB from the brightest colour to the darkest. 0 dB is a full-scale sine. Where bins or frames are finer
    than the picture, a cell shows the strongest of them.
    """
    rate = checked_rate(rate)
    shown = _frequency_range(axis, rate, bottom, top)
    amplitude = spectrogram_amplitude(x, n_fft, hop_length)
    if loudest is None:
        loudest = max(float(decibels(amplitude.max())), -120.0)           # silence is dark, not its noise bright
    with house_style():
        ax = _new_axes(ax, 2.8)
        mesh = _draw_cells(ax, decibels(amplitude), rate, hop_length, axis, shown, (loudest - db_range, loudest),
                           SPECTROGRAM_MAP, "strongest")
        ax.set_title(title or "")
        if colour_bar:
            ax.get_figure().colorbar(mesh, ax=ax, label="level (dB)", pad=0.01, fraction=0.05)
    return ax


def plot_masks(masks: Mapping[str, object], rate: int, hop_length: int = 512, *, axis: str = "log",
               bottom: float | None = None, top: float | None = None, columns: int = 4):
    """Masks side by side, on shared axes and with one colour bar from 0 to 1. Returns the Figure.

    masks: name -> (freq, frames), real values or complex ones (their magnitude is shown), of one shape. rate: Hz.
    Values outside 0..1 take the colour of the nearer end, and the bar then ends in an arrow. axis, bottom, top: as in
    `plot_spectrogram`. columns: pictures in a row. Where bins or frames are finer than the picture, a cell shows their
    mean.
    """
    import matplotlib.pyplot as plt

    arrays = {name: _array(mask) for name, mask in masks.items()}
    values = {name: (np.abs(mask) if np.iscomplexobj(mask) else mask).astype(float) for name, mask in arrays.items()}
    if not values:
        raise ValueError("masks is empty; expected at least one mask by name")
    shapes = {name: value.shape for name, value in values.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 or shape[0] < 2 for shape in shapes.values()):
        raise ValueError(f"the masks have the shapes {shapes}; expected one and the same (freq, frames)")
    if broken := [name for name, value in values.items() if not np.isfinite(value).all()]:
        raise ValueError(f"the masks {broken} hold NaN or infinite values; expected finite ones")
    rate = checked_rate(rate)
    shown = _frequency_range(axis, rate, bottom, top)
    columns = min(columns, len(values))
    rows = -(-len(values) // columns)
    with house_style():
        figure, grid = plt.subplots(rows, columns, figsize=(WIDTH, 0.5 + 2.1 * rows), sharex=True, sharey=True,
                                    squeeze=False)
        for ax, (name, value) in zip(grid.flat, values.items()):
            mesh = _draw_cells(ax, value, rate, hop_length, axis, shown, (0, 1), MASK_MAP, "mean")
            ax.set_title(name)
        for ax in grid.flat[len(values):]:
            ax.set_axis_off()
        above = any(value.max() > 1 + 1e-6 for value in values.values())
        below = any(value.min() < -1e-6 for value in values.values())
        arrows = {(False, False): "neither", (True, False): "max", (False, True): "min", (True, True): "both"}
        figure.colorbar(mesh, ax=grid, label="mask", pad=0.01, fraction=0.04, extend=arrows[above, below])
    return figure


# Scores and losses ----------------------------------------------------------------------------------------------------

def _stem_scores(name: str, values, stems: Sequence[str]) -> np.ndarray:
    """Scores as (tracks, stems) with a check of the shape; (stems,) counts as one track."""
    array = np.atleast_2d(_array(values).astype(np.float64))
    if array.ndim != 2 or array.shape[1] != len(stems):
        raise ValueError(f"the scores of {name!r} have shape {_array(values).shape}; "
                         f"expected (tracks, stems) or (stems,) with {len(stems)} stems {list(stems)}")
    return array


def plot_scores(scores: Mapping[str, object], stems: Sequence[str], bounds: Mapping[str, object] | None = None,
                title: str | None = None, *, unit: str = "SDR (dB)", centre: str = "median", seed: int = 0, ax=None):
    """Scores per stem: a dot a method with its 95% interval over tracks, beside bounds as grey lines. Returns the Axes.

    scores: method -> (tracks, stems); NaN where a score is undefined. bounds: name -> (tracks, stems) or (stems,),
    such as the mixture as estimate and the ideal mask: their centre only. stems: names, in the order of the columns.
    centre: "median" or "mean" over tracks; the interval is the bootstrap of `course_lib.notebook.tables`, seeded by
    seed.
    """
    intervals = {"median": median_interval, "mean": mean_interval}
    if centre not in intervals:
        raise ValueError(f"centre is {centre!r}; expected 'median' or 'mean'")
    if not scores:
        raise ValueError("scores is empty; expected at least one method with (tracks, stems)")
    summarise = intervals[centre]
    positions = np.arange(len(stems))
    offsets = (np.arange(len(scores)) - (len(scores) - 1) / 2) * min(0.16, 0.7 / len(scores))
    with house_style():
        ax = _new_axes(ax, 3.2)
        for number, (name, values) in enumerate((bounds or {}).items()):
            lines = [summarise(column, seed)[0] for column in _stem_scores(name, values, stems).T]
            ax.hlines(lines, positions - 0.42, positions + 0.42, color=BOUND_COLOUR, linewidth=1.2,
                      linestyle=BOUND_DASHES[number % len(BOUND_DASHES)], label=name)
        tables = {name: _stem_scores(name, values, stems) for name, values in scores.items()}
        tracks = {name: len(table) for name, table in tables.items()}
        for number, (name, table) in enumerate(tables.items()):
            middle, low, high = np.array([summarise(column, seed) for column in table.T]).T
            errors = np.nan_to_num(np.stack([middle - low, high - middle]))
            ax.errorbar(positions + offsets[number], middle, yerr=errors, fmt=MARKERS[number % len(MARKERS)],
                        markersize=5, capsize=0, elinewidth=1.6, color=LINE_COLOURS[number % len(LINE_COLOURS)],
                        label=name if len(set(tracks.values())) == 1 else f"{name} ({tracks[name]} tracks)")
        resting_on = f", {centre} of {max(tracks.values())} tracks" if len(set(tracks.values())) == 1 else f", {centre}"
        ax.set(xticks=positions, xticklabels=list(stems), ylabel=unit + resting_on, title=title or "",
               xlim=(-0.5, len(stems) - 0.5))
        ax.tick_params(axis="x", length=0)
        ax.grid(axis="y")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def smoothed(steps: np.ndarray, values: np.ndarray, width: float) -> np.ndarray:
    """The centred mean of values (n,) over `width` steps, narrower at the ends so that it stays centred there.

    steps: (n,), ascending. NaN is left out of the mean. A curve logged less often than every `width` steps stays as
    it is.
    """
    known = ~np.isnan(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    half = np.minimum(width / 2, np.minimum(steps - steps[0], steps[-1] - steps))
    first, last = np.searchsorted(steps, steps - half, "left"), np.searchsorted(steps, steps + half, "right")
    number = counts[last] - counts[first]
    return np.divide(sums[last] - sums[first], number, out=np.full(len(values), np.nan), where=number > 0)


def plot_losses(losses: Mapping[str, tuple], title: str | None = None, *, smoothing: float = 0, log_steps: bool = False,
                log_loss: bool = True, unit: str = "loss", ax=None):
    """Loss over training steps, a line a curve. Returns the Axes.

    losses: name -> (steps, values), both (n,), steps ascending. smoothing: width of the running mean in steps; the
    raw values stay visible behind it, pale. log_steps, log_loss: logarithmic axes. unit: label of the vertical axis.
    Raises ValueError for lengths that differ, steps that go back, and values <= 0 (a negative SI-SDR) on a
    logarithmic axis.
    """
    if not losses:
        raise ValueError("losses is empty; expected at least one curve as (steps, values)")
    with house_style():
        ax = _new_axes(ax, 2.8)
        for number, (name, (steps, values)) in enumerate(losses.items()):
            steps, values = _array(steps).astype(np.float64), _array(values).astype(np.float64)
            if steps.shape != values.shape or steps.ndim != 1 or not len(steps):
                raise ValueError(f"{name!r} has steps {steps.shape} and values {values.shape}; expected two of (n,)")
            if (np.diff(steps) < 0).any():
                raise ValueError(f"the steps of {name!r} go back; expected them in ascending order")
            for wanted, axis, numbers in [(log_loss, "log_loss", values), (log_steps, "log_steps", steps)]:
                if wanted and np.nanmin(numbers) <= 0:
                    raise ValueError(f"{name!r} goes down to {np.nanmin(numbers):g}, which a logarithmic axis cannot "
                                     f"show: pass {axis}=False")
            colour = LINE_COLOURS[number % len(LINE_COLOURS)]
            if smoothing > 0:
                ax.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
            ax.plot(steps, smoothed(steps, values, smoothing), color=colour, label=name)
        ax.set(xlabel="step", ylabel=unit, title=title or "")
        ax.set_xscale("log" if log_steps else "linear")
        ax.set_yscale("log" if log_loss else "linear")
        ax.grid(axis="y")
        ax.legend(loc="upper right")
    return ax
