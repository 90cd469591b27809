"""How hard the band is to separate, beside MUSDB18: oracle masks and a simple baseline on the songs of the test split.

    uv run python tests/data/band/test_realism.py        # all 20 songs; writes the table in data/results/01_stft_and_masks

The mixer's ranges were set by these scores: a first round looked at 12 songs of the test split, the later ones at
songs 0-39 of the train split and at further songs; so the table shows a calibration, not a blind test. All methods
use an STFT with a Hann window of n_fft 2048 and a hop of 1024, as the oracles of SiSEC 2018 do (SciPy's defaults for
nperseg=2048), and the score is the SDR of 1 s frames, 10 log10 |s|^2 / |s - estimate|^2 over both channels: the
median over the frames, then over the songs. museval's SDR of such frames is the same number.
"""

import datetime

import numpy as np
import pytest
import scipy.fft
from scipy.ndimage import median_filter

from course_lib.data.band.composer import compose
from course_lib.data.band.library import split_seeds
from course_lib.data.band.mixer import mix
from course_lib.results import Results, as_csv, measured, published

TABLE = "band_realism"
# Hz -> least and most dB re the whole. Two records that librosa ships have -22 and -35 dB at 7 kHz, -20 and -38 at
# 9.5 kHz, -23 and -42 at 12.6 kHz (bands of half an octave and less).
BANDS = {(40, 180): (-9, -2), (2840, 5680): (-25, -13), (5680, 8000): (-30, -18), (8000, 11300): (-33, -18),
         (11300, 14000): (-40, -22), (16000, 20000): (-60, -35)}
COLUMNS = ("method", "stem", "ours_db", "musdb18_db", "difference_db", "tracks", "seconds", "command", "date")
COMMAND = "uv run python tests/data/band/test_realism.py"
RATE, SECONDS = 44100, 20.0
N_FFT, HOP = 2048, 1024
STEMS = ("drums", "bass", "other", "vocals")
TOLERANCE_DB = 1.5
SONGS_TESTED = 10
METHODS = {"ideal ratio mask (power)": "IRM", "ideal binary mask (power)": "IBM", "multichannel Wiener oracle": "MWF",
           "mixture / 4": "MIX"}        # here -> there
BASELINE = "HPSS and rules"
_rows = {row["method"]: tuple(float(row[stem]) for stem in STEMS) for row in published("sisec2018_oracles")}     # with their source
MUSDB18_DB = {method: _rows[name] for method, name in METHODS.items()}         # in the order of STEMS
WINDOW = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


def stft(x: np.ndarray) -> np.ndarray:
    """(..., time) -> (..., frames, bins)."""
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(N_FFT // 2, N_FFT + N_FFT // 2)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT, axis=-1)[..., ::HOP, :]
    return scipy.fft.rfft(frames * WINDOW)


def istft(spectrum: np.ndarray, length: int) -> np.ndarray:
    """(..., frames, bins) -> (..., length), by overlap-add divided by the summed squared window."""
    frames = scipy.fft.irfft(spectrum, N_FFT) * WINDOW
    out = np.zeros((*frames.shape[:-2], frames.shape[-2] + 1, HOP), np.float32)
    out[..., :-1, :] += frames[..., :HOP]
    out[..., 1:, :] += frames[..., HOP:]
    out /= WINDOW[:HOP] ** 2 + WINDOW[HOP:] ** 2
    return out.reshape(*out.shape[:-2], -1)[..., N_FFT // 2:N_FFT // 2 + length]


def sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Median over 1 s frames of a stem's SDR in dB, (channels, time) each; frames without the stem are left out."""
    frames = reference.shape[1] // RATE

    def energy(y):
        return np.square(y[:, :frames * RATE], dtype=np.float64).reshape(len(y), frames, RATE).sum((0, 2))

    signal, error = energy(reference), energy(reference - estimate)
    return float(np.median(10 * np.log10(signal[signal > 0] / error[signal > 0])))


def song_stems(seed: int) -> np.ndarray:
    """(4, 2, time) in the order of STEMS."""
    stems = mix(compose(seed, SECONDS), RATE)
    return np.stack([stems["drums"], stems["bass"], stems["guitar"] + stems["piano"] + stems["rest"], stems["vocals"]])


def estimates(stems: np.ndarray) -> dict[str, np.ndarray]:
    """What each oracle makes of the mixture of `stems`: {method: (4, 2, time)}."""
    mixture, length = stems.sum(0), stems.shape[-1]
    sources, observed = stft(stems), stft(mixture)
    power = np.abs(sources) ** 2
    ratio = power / (power.sum(0) + 1e-12)
    binary = power >= 0.5 * np.abs(observed) ** 2
    return {"ideal ratio mask (power)": istft(ratio * observed, length),
            "ideal binary mask (power)": istft(binary * observed, length),
            "multichannel Wiener oracle": istft(wiener(sources, observed), length),
            "mixture / 4": np.broadcast_to(mixture / 4, stems.shape)}


def wiener(sources: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """v_j R_j (sum_k v_k R_k)^-1 x: true power spectra v (frames, bins), true mean spatial covariances R (bins, 2, 2).

    sources: (4, 2, frames, bins). observed: (2, frames, bins).
    """
    v = (np.abs(sources) ** 2).mean(1)
    covariance = np.einsum("jctf,jdtf->jcdf", sources, sources.conj()) / (v.sum(1)[:, None, None] + 1e-12)
    (a, b), (c, d) = np.einsum("jtf,jcdf->cdtf", v, covariance)
    loading = 1e-5 * (a + d).real + 1e-9                    # keeps the inverse finite where only one stem sounds
    a, d = a + loading, d + loading
    left = (d * observed[0] - b * observed[1]) / (a * d - b * c)
    right = (a * observed[1] - c * observed[0]) / (a * d - b * c)
    return np.stack([v[j] * (covariance[j, :, 0, None] * left + covariance[j, :, 1, None] * right) for j in range(4)])


def baseline(mixture: np.ndarray) -> np.ndarray:
    """No oracle: percussive sound is drums; of the harmonic, below 180 Hz is bass, the middle of 250-5000 Hz vocals."""
    observed = stft(mixture)
    level = np.abs(observed).sum(0)                                             # (frames, bins)
    harmonic, percussive = median_filter(level, (17, 1)) ** 2, median_filter(level, (1, 17)) ** 2
    drums = percussive / (harmonic + percussive + 1e-12)
    frequency = np.fft.rfftfreq(N_FFT, 1 / RATE)
    bass = (1 - drums) * (frequency < 180)
    middle, side = np.abs(observed[0] + observed[1]) ** 2, np.abs(observed[0] - observed[1]) ** 2
    vocals = (1 - drums) * ((frequency >= 250) & (frequency < 5000)) * 0.5 * middle / (middle + side + 1e-12)
    masks = np.stack([drums, bass, 1 - drums - bass - vocals, vocals])
    return istft(masks[:, None] * observed, mixture.shape[1])


def spectrum_levels(mixture: np.ndarray) -> np.ndarray:
    """dB of every band in BANDS re the whole mixture (2, time)."""
    power = np.abs(scipy.fft.rfft(mixture.mean(0))) ** 2
    frequency = scipy.fft.rfftfreq(mixture.shape[1], 1 / RATE)
    return 10 * np.log10([power[(frequency >= low) & (frequency < high)].sum() / power.sum() for low, high in BANDS])


def measure(seeds, with_baseline: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """{method: (songs, 4) dB} and the spectra (songs, bands) dB; the slow baseline only for the first songs."""
    rows: dict[str, list] = {}
    spectra = []
    for i, seed in enumerate(seeds):
        stems = song_stems(seed)
        spectra.append(spectrum_levels(stems.sum(0)))
        made = estimates(stems)
        if i < with_baseline:
            made[BASELINE] = baseline(stems.sum(0))
        for method, estimate in made.items():
            rows.setdefault(method, []).append([sdr(stem, guess) for stem, guess in zip(stems, estimate)])
    return {method: np.array(values) for method, values in rows.items()}, np.array(spectra)


def write_table() -> None:
    """Measure the whole test split and write the table."""
    seeds = split_seeds("test")
    rows = []
    for method, values in measure(seeds, with_baseline=len(seeds))[0].items():
        for j, (stem, ours) in enumerate(zip(STEMS, np.median(values, axis=0))):
            real = MUSDB18_DB[method][j] if method in MUSDB18_DB else None
            beside = ("", "") if real is None else (real, f"{ours - real:.1f}")
            rows.append(dict(zip(COLUMNS, (method, stem, f"{ours:.1f}", *beside, len(seeds), f"{SECONDS:g}", COMMAND,
                                           datetime.date.today().isoformat()), strict=True)))
    Results("01_stft_and_masks").write(TABLE, rows)
    print(as_csv(rows))


@pytest.fixture(scope="module")
def scores():
    return measure(split_seeds("test")[:SONGS_TESTED], with_baseline=3)


def test_oracles_find_the_band_as_hard_as_musdb18(scores):
    for method, real in MUSDB18_DB.items():
        difference = np.median(scores[0][method], axis=0) - real
        assert (np.abs(difference) <= TOLERANCE_DB).all(), (method, dict(zip(STEMS, difference.round(1))))


def test_simple_baseline_scores_low(scores):
    values = np.median(scores[0][BASELINE], axis=0)
    assert (values < 5).all() and (values > -4).all() and values.mean() < 3, values


def test_spectrum_falls_as_a_record_does(scores):
    for (band, (least, most)), level in zip(BANDS.items(), np.median(scores[1], axis=0)):
        assert least < level < most, (band, level)


def test_table_holds_the_whole_test_split_within_the_tolerance():
    rows = measured(f"01_stft_and_masks/{TABLE}")
    assert {(row["method"], row["stem"]) for row in rows} == {(m, s) for m in (*MUSDB18_DB, BASELINE) for s in STEMS}
    assert {row["tracks"] for row in rows} == {str(len(split_seeds("test")))}
    for row in rows:
        if row["musdb18_db"]:
            assert float(row["musdb18_db"]) == MUSDB18_DB[row["method"]][STEMS.index(row["stem"])]
            assert float(row["difference_db"]) == round(float(row["ours_db"]) - float(row["musdb18_db"]), 1)
            assert abs(float(row["difference_db"])) <= TOLERANCE_DB


def test_score_and_masks_by_hand():
    rng = np.random.default_rng(0)
    stems = rng.standard_normal((4, 2, 2 * RATE)).astype(np.float32)
    assert np.abs(istft(stft(stems), 2 * RATE) - stems).max() < 1e-4
    assert abs(sdr(stems[0], 0.9 * stems[0]) - 20) < 1e-3 and abs(sdr(stems[0], 0 * stems[0])) < 1e-6
    made = estimates(stems)
    assert np.abs(made["ideal ratio mask (power)"].sum(0) - stems.sum(0)).max() < 1e-3        # its masks sum to one
    assert np.abs(made["multichannel Wiener oracle"].sum(0) - stems.sum(0)).max() < 1e-2


if __name__ == "__main__":
    write_table()
