"""Audio players that need no kernel, no trust and no script: one `<audio>` tag that carries its own sound.

JupyterLab drops scripts and widgets from a notebook that was never run on this machine, and with them IPython's own
player. What its sanitizer keeps is a plain `<audio controls src="data:...">`; Colab, VS Code and static HTML play it
too.

Sound is stored as MP3 (soundfile writes it through libsndfile, ffmpeg is not needed). MP3 has an *encoder delay*: the
decoder puts about 0.03-0.05 s of silence before the sound. The files carry the tag by which browsers and soundfile
cut it off again, so length and start agree with the input; but the samples are not the input's. Measure on tensors,
listen to MP3.
"""

import base64
import html
import io
import math
import numbers

import numpy as np

from course_lib.paths import shown

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)   # Hz; what the MP3 standard knows
HIGHEST_RATE = 1_000_000              # Hz; no audio has more, and the filter for another rate grows with it
MP3_COMPRESSION = 0.6                 # variable bit rate, 0 best .. 1 smallest: 12-15 kB/s for stereo music at 44.1 kHz
CHANNEL_NAMES = {1: "mono", 2: "stereo"}
FIGURE_STYLE = "margin: 0.3em 0 0.8em 0; max-width: 40em;"


def as_channels(x, name: str = "x", max_channels: int = 2) -> np.ndarray:
    """A signal as a float32 array (channels, time), after a check that it is audio at all.

    x: torch tensor or array of floats, (time,) or (channels, time) with 1 <= channels <= max_channels.
    name: what the error messages call it. Raises ValueError for other shapes, integers, NaN, infinity and no samples.
    """
    if hasattr(x, "detach"):                       # a tensor; NumPy has no bfloat16
        x = x.detach().cpu()
        x = (x.float() if x.is_floating_point() else x).numpy()
    x = np.asarray(x)
    if x.dtype.kind != "f":
        raise ValueError(f"{name} has dtype {x.dtype}; expected floats in [-1, 1] (16-bit integers: divide by 32768)")
    if x.ndim not in (1, 2):
        raise ValueError(f"{name} has shape {x.shape}; expected (time,) or (channels, time): take one item of a batch")
    if x.size == 0:
        raise ValueError(f"{name} is empty, shape {x.shape}; expected at least one sample")
    channels = np.atleast_2d(x)
    if len(channels) > max_channels:
        turned = " It looks like (time, channels): pass x.T" if channels.shape[1] <= max_channels else ""
        raise ValueError(f"{name} has shape {x.shape}; expected (time,) or (channels, time) "
                         f"with at most {max_channels} channels.{turned}")
    with np.errstate(over="ignore"):
        channels = channels.astype(np.float32)
    if not np.isfinite(channels).all():
        bad = int((~np.isfinite(channels)).sum())
        raise ValueError(f"{name} holds {bad} samples that are NaN or infinite; expected finite samples in [-1, 1]")
    return channels


def checked_rate(rate) -> int:
    """The sample rate in Hz as an int; ValueError unless it is a positive whole number that audio has."""
    number = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
    if not number or not 0 < rate <= HIGHEST_RATE or int(rate) != rate:
        raise ValueError(f"rate is {rate!r}; expected the sample rate in Hz, a positive whole number such as 44100")
    return int(rate)


def mp3_rate(rate: int) -> int:
    """The sample rate in Hz an MP3 of audio at `rate` has: the next one the format knows, at most 48 kHz."""
    return next((known for known in MP3_RATES if known >= rate), MP3_RATES[-1])


def encode_audio(x, rate: int, *, lossless: bool = False, compression: float = MP3_COMPRESSION) -> tuple[bytes, str]:
    """Audio as the bytes of a small file, and that file's media type.

    x: (time,) or (channels, time), floats in [-1, 1]; what lies outside is clipped. rate: Hz.
    lossless: FLAC of 16 bits at the same rate; otherwise MP3 with variable bit rate, resampled to `mp3_rate(rate)`.
    compression: of the MP3, 0 (best) to 1 (smallest).
    """
    import soundfile

    channels, rate = as_channels(x), checked_rate(rate)
    stream = io.BytesIO()
    if lossless:
        soundfile.write(stream, channels.clip(-1, 1).T, rate, format="FLAC", subtype="PCM_16")
        return stream.getvalue(), "audio/flac"
    if (target := mp3_rate(rate)) != rate:
        from scipy.signal import resample_poly

        common = math.gcd(target, rate)
        channels = resample_poly(channels, target // common, rate // common, axis=1)
    soundfile.write(stream, channels.clip(-1, 1).T, target, format="MP3", subtype="MPEG_LAYER_III",
                    bitrate_mode="VARIABLE", compression_level=compression)
    return stream.getvalue(), "audio/mpeg"


def audio_source(x, rate: int, *, lossless: bool = False, compression: float = MP3_COMPRESSION) -> str:
    """The `data:` address of audio, for the src of an `<audio>` tag. Arguments as in `encode_audio`."""
    data, media_type = encode_audio(x, rate, lossless=lossless, compression=compression)
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def playback_scale(peak: float, normalize: bool) -> float:
    """The factor that makes a signal with this peak fit into [-1, 1]: 1 if it fits, else rounded down to two figures.

    normalize: bring the peak to 0.98 also where it is smaller. Silence keeps the factor 1.
    """
    if peak == 0:
        return 1.0
    wanted = 0.98 / peak if normalize else min(1.0, 1.0 / peak)
    if wanted == 1:
        return 1.0
    step = 10.0 ** (math.floor(math.log10(wanted)) - 1)
    return math.floor(wanted / step + 1e-9) * step


def describe(channels: np.ndarray, rate: int) -> str:
    """Length, rate and channels in words: '8.0 s, 44.1 kHz, stereo'."""
    seconds = channels.shape[1] / rate
    return f"{seconds:.1f} s, {rate / 1000:g} kHz, {CHANNEL_NAMES[len(channels)]}"


def player_html(x, rate: int, title: str | None = None, *, lossless: bool = False, normalize: bool = False) -> str:
    """The HTML of one player with its caption: a `<figure class="course-player">` around an `<audio>` tag.

    Arguments, errors and the caption as in `listen`.
    """
    channels, rate = as_channels(x), checked_rate(rate)
    scale = playback_scale(float(np.abs(channels).max()), normalize)
    remark = f" (scaled by {scale:g})" if scale != 1 else ""
    caption = html.escape(shown(title or "") + remark).strip()
    name = html.escape(shown(title or "sound"))
    source = audio_source(channels * scale, rate, lossless=lossless)
    return (f'<figure class="course-player" style="{FIGURE_STYLE}">'
            + (f'<figcaption class="course-player-title">{caption}</figcaption>' if caption else "")
            + f'<audio controls preload="metadata" title="{name}" aria-label="{name}" style="width: 100%;" '
            + f'src="{source}"></audio></figure>')


def listen(x, rate: int, title: str | None = None, *, lossless: bool = False, normalize: bool = False) -> None:
    """Show a player for a sound, here and in every later reading of the stored notebook.

    x: torch tensor or array, (time,) or (channels, time) with one or two channels, floats in [-1, 1].
    rate: sample rate in Hz. Rates that MP3 does not know are resampled for the player (above 48 kHz: to 48 kHz).
    title: the caption. lossless: FLAC instead of MP3, about six times the size.
    normalize: play at the highest level that does not clip. Where |x| > 1 would clip, the sound is turned down. Either
    way the caption names the factor, so that a player never hides a wrong level.
    Raises ValueError for NaN, infinity, an empty signal, integers, a wrong shape or a rate that is not a whole number.
    """
    from IPython.display import display

    channels, rate = as_channels(x), checked_rate(rate)
    text = f"player: {shown(title or 'sound')} ({describe(channels, rate)})"
    page = player_html(channels, rate, title, lossless=lossless, normalize=normalize)
    display({"text/html": page, "text/plain": text}, raw=True)
