"""Sliders over a cell's result, which shows its first setting also where no kernel is running."""

from collections.abc import Callable

from course_lib.progress import executing

Range = tuple[float, float, float, float]        # lowest, highest, step, first value
NOTE = "Run this cell to get the sliders."


def slider(name: str, lowest: float, highest: float, step: float, value: float):
    """An ipywidgets slider for whole numbers or for floats, by the type of its four numbers.

    ValueError unless lowest <= value <= highest and step > 0. It reports only when it is let go, as each report
    recomputes.
    """
    import ipywidgets

    if not (lowest <= value <= highest and step > 0):
        raise ValueError(
            f"{name} is ({lowest}, {highest}, {step}, {value}); expected (lowest, highest, step > 0, first value "
            f"between them)"
        )
    whole = all(isinstance(number, int) for number in (lowest, highest, step, value))
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    return kind(value=value, min=lowest, max=highest, step=step, description=name, continuous_update=False,
                layout=ipywidgets.Layout(width="32em"), style={"description_width": "8em"})


def explore(draw: Callable, **ranges: Range) -> None:
    """Show draw(**values) with a slider for each argument, redrawn when one is moved.

    draw: displays something (a figure, a player, a print) and returns None. ranges: for each argument of draw a tuple
    (lowest, highest, step, first value). Where a notebook is executed to be stored, the first setting alone is shown,
    as sliders are dead without a kernel. ValueError for a range that holds no first value.
    """
    from IPython.display import display

    sliders = {name: slider(name, *four) for name, four in ranges.items()}
    if executing():
        draw(**{name: control.value for name, control in sliders.items()})
        display({"text/markdown": f"*{NOTE}*", "text/plain": NOTE}, raw=True)
        return
    import ipywidgets

    output = ipywidgets.interactive_output(draw, sliders)
    display(ipywidgets.VBox([*sliders.values(), output]))
