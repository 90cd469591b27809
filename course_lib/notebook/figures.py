"""Figures as a reader meets them: a small PNG of fixed size, a caption beneath it, a description for who cannot see it.

Where the description goes: into `metadata["image/png"]["alt"]` of the output, which nbconvert's classic template and
several publishing tools read. JupyterLab 4 and nbconvert's default template write no alt text for image outputs, so
the caption's output repeats it as text that only a screen reader meets. The text/plain alternative of the image is the
description too, which is what a terminal shows and what the notebook tests compare.
"""

import html
import io

FIGURE_DPI = 96
CAPTION_STYLE = "margin: 0 0 0.8em 0; max-width: 52em; font-size: 0.92em; line-height: 1.35;"
# Takes no room on the screen and is still read aloud; made of properties that JupyterLab's sanitizer keeps.
SPOKEN_ONLY_STYLE = ("position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; "
                     "clip: rect(0 0 0 0); white-space: nowrap;")


def figure_of(drawn):
    """The matplotlib Figure of a Figure, an Axes, or a list or array of Axes; TypeError for anything else."""
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    if isinstance(drawn, (list, tuple, np.ndarray)) and len(drawn):
        drawn = np.asarray(drawn, dtype=object).flat[0]
    if isinstance(drawn, Axes):
        drawn = drawn.get_figure(root=True)
    if not isinstance(drawn, Figure):
        raise TypeError(f"expected a matplotlib Figure or Axes, got {type(drawn).__name__}")
    return drawn


def png_bytes(figure, dpi: int = FIGURE_DPI, colours: int = 256) -> bytes:
    """A figure as a PNG with at most `colours` colours, which takes a third of the bytes of a full-colour one.

    Its size in pixels is the figure's size in inches times dpi, never cut to the drawing, so that it is the same
    everywhere.
    """
    from PIL import Image

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, bbox_inches=None, metadata={"Software": None})
    picture = Image.open(stream).convert("RGB")
    picture = picture.quantize(colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    picture.save(stream, format="png", optimize=True)
    return stream.getvalue()


def caption_html(caption: str, alt: str) -> str:
    """The caption as HTML, with the description for screen readers inside."""
    return (f'<div class="course-caption" style="{CAPTION_STYLE}">{html.escape(caption)}'
            f'<span class="course-alt" style="{SPOKEN_ONLY_STYLE}"> Image description: {html.escape(alt)}</span></div>')


def show(figure, caption: str, alt: str, *, dpi: int = FIGURE_DPI) -> None:
    """Show a figure with its caption and alternative text, and close it so that it is not shown a second time.

    figure: a matplotlib Figure or any of its Axes. caption: what the reader should see in it, one or two sentences.
    alt: what is drawn, for who cannot see it: kind of plot, axes, the shape of the result.
    Raises ValueError where caption or alt is empty, TypeError where `figure` is none.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    for name, text in {"caption": caption, "alt": alt}.items():
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} is {text!r}; expected a sentence: every figure has a caption and a description")
    drawn = figure_of(figure)
    picture = png_bytes(drawn, dpi)
    plt.close(drawn)
    display({"image/png": picture, "text/plain": f"figure: {alt}"}, raw=True, metadata={"image/png": {"alt": alt}})
    display({"text/html": caption_html(caption, alt), "text/plain": caption}, raw=True)
