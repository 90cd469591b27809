"""Pictures of the machine: blocks with shapes, arrows, sums, skip connections, repeated blocks, frames of a signal.

A `Diagram` places each block beside the one it comes after and draws the arrow; a block is as large as its text, so
that nothing has to be measured by hand. Give what `draw` returns to `course_lib.notebook.show`.

    d = Diagram()
    x = d.block("mixture", "(channel, time)", kind="data")
    X = d.block("STFT", "(channel, bin, frame)", after=x)
    show(d.draw(), "From sound to picture.", d.in_words())
"""

from dataclasses import dataclass

import numpy as np

from course_lib.notebook.plots import OKABE_ITO, WIDTH, house_style

# kind -> (fill, edge, width of the edge, dashes): told apart by the edge too, for who cannot see the colours.
KINDS = {
    "data": ("#FFFFFF", "#707070", 0.9, "solid"),  # a signal, a picture, a code: square corners
    "step": ("#E3EEF6", OKABE_ITO["blue"], 1.0, "solid"),  # a computation without weights
    "trained": ("#FBEBD2", OKABE_ITO["orange"], 2.0, "solid"),  # a computation with weights that are learned
    "frozen": ("#F0F0F0", OKABE_ITO["black"], 1.2, "dashed"),  # weights that are not learned here
    "loss": ("#F6E4EE", OKABE_ITO["reddish purple"], 1.2, (0, (1.5, 1.5))),  # what is minimised or scored
    "text": ("none", "none", 0.0, "solid"),  # words or a sign between blocks
    "join": ("#FFFFFF", "#303030", 1.0, "solid"),  # a small circle: +, ×, −
}
PLACES = {"right": (1, 0), "left": (-1, 0), "below": (0, -1), "above": (0, 1)}
ROUTES = ("straight", "over", "under", "corner", "left", "right")
NAME_SIZE, SHAPE_SIZE, LINE = 9.0, 7.5, 1.35  # points, points, line height as a multiple of the size
PADDING, MARGIN, GAP = 0.09, 0.08, 0.38  # inches
STACK = 0.055  # inches by which a repeated block's copies stand out
MOST_WIDTH = 10.0  # inches, as wide as the widest figure of a chapter
INK, PALE = "#303030", "#606060"


@dataclass(frozen=True, eq=False)
class Node:
    """A block of a `Diagram`: centre (x, y), width and height in inches, y upwards; name, shape, kind, copies."""

    name: str
    shape: str
    kind: str
    x: float
    y: float
    width: float
    height: float
    repeat: int = 1

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2

    @property
    def top(self) -> float:
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        return self.y - self.height / 2


@dataclass(frozen=True)
class _Arrow:
    start: Node
    end: Node
    path: list[tuple[float, float]]
    label: str
    label_at: tuple[float, float, str, str]  # x, y, horizontal and vertical alignment
    dashed: bool
    colour: str
    head: bool


@dataclass(frozen=True)
class _Group:
    label: str
    box: tuple[float, float, float, float]  # left, bottom, right, top


def text_size(text: str, points: float) -> tuple[float, float]:
    """(width, height) in inches of a text of one or more lines, $mathematics$ included, in the house's type."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    lines = text.split("\n") if text else []
    font = FontProperties(family="DejaVu Sans")
    widths = [TextPath((0, 0), line, size=points, prop=font).get_extents().width if line.strip() else 0.0
              for line in lines]
    return max(widths, default=0.0) / 72, len(lines) * points * LINE / 72


class Diagram:
    """A block diagram with shapes, in inches; blocks are placed beside each other and are as large as their text."""

    def __init__(self):
        self.nodes: list[Node] = []
        self.arrows: list[_Arrow] = []
        self.groups: list[_Group] = []

    def block(self, name: str, shape: str = "", *, after: Node | list[Node] | None = None, place: str = "right",
              kind: str = "step", label: str = "", gap: float | None = None, shift: float = 0.0,
              size: tuple[float, float] | None = None, at: tuple[float, float] | None = None, repeat: int = 1,
              arrow: bool = True) -> Node:
        """Add a block and, where it comes after others, an arrow from each of them.

        name: a word or two, \\n for a second line, $X$ for symbols. shape: of what leaves the block, small, beneath
        the name. after: the block(s) it follows; of several it stands beyond the farthest, in the middle. place:
        "right", "left", "below" or "above" of them. kind: a key of KINDS ("data", "step", "trained", "frozen",
        "loss", "text"). label: on the arrow. gap: inches to the neighbour, by default enough for the label. shift:
        inches up (place right, left) or to the right (above, below), for branches. size: (width, height) in inches
        where it means something, such as a matrix drawn to scale. at: the centre instead of a place. repeat: drawn as
        a stack of that many, with "× n". arrow: False leaves the arrows out. ValueError for unknown words.
        """
        _one_of("kind", kind, KINDS)
        _one_of("place", place, PLACES)
        if not name.strip() or repeat < 1:
            raise ValueError(f"name is {name!r}, repeat {repeat}; expected a word and a number of copies >= 1")
        before = [] if after is None else list(after) if isinstance(after, (list, tuple)) else [after]
        self._check_own(before)
        width, height = size or self._size(name, shape, kind, repeat)
        x, y = at or self._beside(before, place, width, height, label, gap, shift)
        node = Node(name, shape, kind, x, y, width, height, repeat)
        self.nodes.append(node)
        for other in before if arrow else []:
            self.arrow(other, node, label)
        return node

    def join(self, sign: str = "+", *, after: list[Node] | Node, place: str = "right", gap: float | None = None,
             shift: float = 0.0, at: tuple[float, float] | None = None) -> Node:
        """Add a small circle in which several paths meet: "+", "×", "−". Arguments as in `block`; a path that comes
        from another height turns a corner into its top or bottom."""
        return self.block(sign, after=after, place=place, kind="join", gap=gap, shift=shift, at=at)

    def arrow(self, start: Node, end: Node, label: str = "", *, route: str = "straight", reach: float = 0.28,
              dashed: bool = False, colour: str = INK, head: bool = True) -> None:
        """Add an arrow between two blocks.

        route: "straight" leaves and enters by the sides that face each other, with a step where the blocks are not in
        line; "corner" leaves sideways and enters from above or below; "over", "under", "left", "right" go round that
        side, `reach` inches beyond both blocks: skip connections, feedback. dashed: for gradients, stopped or not.
        head: False for a plain line. ValueError for a block of another diagram or an unknown route.
        """
        _one_of("route", route, ROUTES)
        self._check_own([start, end])
        if route == "straight" and end.kind == "join" and abs(start.y - end.y) > 0.02 and start.right < end.x:
            route = "corner"
        path = _path(start, end, route, reach)
        self.arrows.append(_Arrow(start, end, path, label, _label_place(path), dashed, colour, head))

    def group(self, nodes: list[Node], label: str, padding: float = 0.13) -> None:
        """Draw a dashed frame round blocks, its label on the top edge: "× 8", "encoder", "only in training"."""
        self._check_own(nodes)
        if not nodes:
            raise ValueError("nodes is empty; expected the blocks that the frame goes round")
        self.groups.append(_Group(label, (
            min(node.left for node in nodes) - padding, min(node.bottom for node in nodes) - padding,
            max(node.right for node in nodes) + padding + (STACK * 2 if any(n.repeat > 1 for n in nodes) else 0),
            max(node.top for node in nodes) + padding + 0.06)))

    def in_words(self) -> str:
        """The diagram as sentences, for the alternative text: what each block is, and where its arrows lead."""
        plain = {node: " ".join(node.name.replace("$", "").split()) for node in self.nodes}
        plain |= {node: f"junction {plain[node]}" for node in self.nodes if node.kind == "join"}
        sentences = []
        for node in self.nodes:
            follows = [plain[arrow.end] + (f" ({arrow.label})" if arrow.label else "")
                       for arrow in self.arrows if arrow.start is node and arrow.head]
            what = plain[node] + (f", shape {node.shape}" if node.shape else "")
            what += f", {node.repeat} times" if node.repeat > 1 else ""
            if follows or node.kind != "text":
                sentences.append(what + (f", leads to {' and '.join(follows)}" if follows else ""))
        return "Block diagram. " + ". ".join(sentences).replace("\n", " ") + "."

    def draw(self):
        """Draw everything. Returns a matplotlib Figure as large as the diagram.

        ValueError where two blocks lie on each other, and where it is wider than a page (10 inches).
        """
        import matplotlib.pyplot as plt

        left, bottom, right, top = self._extent()
        if right - left > MOST_WIDTH:
            raise ValueError(f"the diagram is {right - left:.1f} inches wide, a page {MOST_WIDTH:g}: go on in a second "
                             'row (place="below"), or write longer names in two lines')
        self._check_apart()
        with house_style():
            figure = plt.figure(figsize=(right - left, top - bottom), layout="none")
            ax = figure.add_axes((0, 0, 1, 1))
            ax.set(xlim=(left, right), ylim=(bottom, top))
            ax.set_axis_off()
            for group in self.groups:
                _draw_group(ax, group)
            for arrow in self.arrows:
                _draw_arrow(ax, arrow)
            for node in self.nodes:
                _draw_node(ax, node)
        return figure

    def _size(self, name: str, shape: str, kind: str, repeat: int) -> tuple[float, float]:
        if kind == "join":
            return 0.26, 0.26
        name += f"  × {repeat}" if repeat > 1 else ""
        (wide, high), (wide_shape, high_shape) = text_size(name, NAME_SIZE), text_size(shape, SHAPE_SIZE)
        padding = PADDING * (0.4 if kind == "text" else 1)
        return max(wide, wide_shape, 0.2) + 2 * padding, high + high_shape + 1.2 * padding

    def _beside(self, before, place, width, height, label, gap, shift) -> tuple[float, float]:
        if not before:
            return shift if place in ("above", "below") else 0.0, 0.0
        x_step, y_step = PLACES[place]
        gap = (max(GAP, text_size(label, SHAPE_SIZE)[0] + 0.26) if x_step else GAP) if gap is None else gap
        x = sum(node.x for node in before) / len(before)
        y = sum(node.y for node in before) / len(before)
        if x_step:
            edges = [node.right + STACK * (node.repeat > 1) * 2 if x_step > 0 else node.left for node in before]
            x = x_step * (max(x_step * edge for edge in edges) + gap + width / 2)
            return x, y + shift
        edges = [node.top if y_step > 0 else node.bottom for node in before]
        return x + shift, y_step * (max(y_step * edge for edge in edges) + gap + height / 2)

    def _check_own(self, nodes) -> None:
        if foreign := [node for node in nodes if not any(node is own for own in self.nodes)]:
            raise ValueError(f"{getattr(foreign[0], 'name', foreign[0])!r} is no block of this diagram")

    def _check_apart(self) -> None:
        for i, a in enumerate(self.nodes):
            for b in self.nodes[i + 1:]:
                apart = max(abs(a.x - b.x) - (a.width + b.width) / 2, abs(a.y - b.y) - (a.height + b.height) / 2)
                if apart < -0.01:
                    raise ValueError(f"the blocks {a.name!r} and {b.name!r} lie on each other: give one a shift, a "
                                     "larger gap or another place")

    def _extent(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of everything drawn, with a margin. ValueError for a diagram without blocks."""
        if not self.nodes:
            raise ValueError("the diagram has no block yet; add one with `block`")
        boxes = [(n.left, n.bottom, n.right + 2 * STACK * (n.repeat > 1), n.top + 2 * STACK * (n.repeat > 1))
                 for n in self.nodes]
        for group in self.groups:
            wide, high = text_size(group.label, SHAPE_SIZE)
            left, bottom, right, top = group.box
            boxes.append((left, bottom, max(right, left + wide + 0.2), top + high / 2))
        for arrow in self.arrows:
            boxes += [(x, y, x, y) for x, y in arrow.path]
            if arrow.label:
                wide, high = text_size(arrow.label, SHAPE_SIZE)
                x, y, across, up = arrow.label_at
                left = x - wide / 2 if across == "center" else x
                boxes.append((left, y - high / 2, left + wide, y + high))
        lefts, bottoms, rights, tops = zip(*boxes)
        return min(lefts) - MARGIN, min(bottoms) - MARGIN, max(rights) + MARGIN, max(tops) + MARGIN


def _one_of(argument: str, value: str, known) -> None:
    if value not in known:
        raise ValueError(f"{argument} is {value!r}; expected one of {', '.join(known)}")


def _path(a: Node, b: Node, route: str, reach: float) -> list[tuple[float, float]]:
    """The corners of an arrow from a to b."""
    if route == "corner":
        side = a.right if b.x >= a.x else a.left
        return [(side, a.y), (b.x, a.y), (b.x, b.top if a.y > b.y else b.bottom)]
    if route == "over":
        height = max(a.top, b.top) + reach
        return [(a.x, a.top), (a.x, height), (b.x, height), (b.x, b.top)]
    if route == "under":
        height = min(a.bottom, b.bottom) - reach
        return [(a.x, a.bottom), (a.x, height), (b.x, height), (b.x, b.bottom)]
    if route == "left":
        across = min(a.left, b.left) - reach
        return [(a.left, a.y), (across, a.y), (across, b.y), (b.left, b.y)]
    if route == "right":
        across = max(a.right, b.right) + reach
        return [(a.right, a.y), (across, a.y), (across, b.y), (b.right, b.y)]
    if b.left > a.right or b.right < a.left:  # beside each other
        start, end = (a.right + 2 * STACK * (a.repeat > 1), b.left) if b.left > a.right else (a.left, b.right)
        middle = (start + end) / 2
        return [(start, a.y), (middle, a.y), (middle, b.y), (end, b.y)] if a.y != b.y else [(start, a.y), (end, b.y)]
    start, end = (a.bottom, b.top) if b.y < a.y else (a.top + 2 * STACK * (a.repeat > 1), b.bottom)
    middle = (start + end) / 2
    return [(a.x, start), (a.x, middle), (b.x, middle), (b.x, end)] if a.x != b.x else [(a.x, start), (b.x, end)]


def _label_place(path) -> tuple[float, float, str, str]:
    """Where the label of an arrow goes: above its longest level piece, or to the right of an upright arrow."""
    level = [(abs(x1 - x0), (x0 + x1) / 2, y0) for (x0, y0), (x1, y1) in zip(path, path[1:]) if y0 == y1]
    if level and max(level)[0] > 0.05:
        _, x, y = max(level)
        return x, y + 0.03, "center", "bottom"
    (x0, y0), (_, y1) = path[0], path[-1]
    return x0 + 0.06, (y0 + y1) / 2, "left", "center"


def _draw_node(ax, node: Node) -> None:
    from matplotlib.patches import Circle, FancyBboxPatch

    fill, edge, width, dashes = KINDS[node.kind]
    style = dict(facecolor=fill, edgecolor=edge, linewidth=width, linestyle=dashes, zorder=3)
    corner = "square,pad=0" if node.kind == "data" else "round,pad=0,rounding_size=0.06"
    if node.kind == "join":
        ax.add_patch(Circle((node.x, node.y), node.width / 2, **style))
    elif node.kind != "text":
        for copy in reversed(range(min(node.repeat, 3))):
            place = (node.left + copy * STACK, node.bottom + copy * STACK)
            ax.add_patch(FancyBboxPatch(place, node.width, node.height, boxstyle=corner, **style))
    name = node.name + (f"  × {node.repeat}" if node.repeat > 1 else "")
    high, high_shape = text_size(name, NAME_SIZE)[1], text_size(node.shape, SHAPE_SIZE)[1]
    words = dict(ha="center", va="center", zorder=4, linespacing=LINE - 0.15)
    ax.text(node.x, node.y + high_shape / 2, name, fontsize=NAME_SIZE, color=INK, **words)
    if node.shape:
        ax.text(node.x, node.y - high / 2, node.shape, fontsize=SHAPE_SIZE, color=PALE, **words)


def _draw_arrow(ax, arrow: _Arrow) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    ax.add_patch(FancyArrowPatch(path=Path(arrow.path), arrowstyle="-|>" if arrow.head else "-", mutation_scale=8,
                                 linewidth=1.0, linestyle=(0, (4, 2)) if arrow.dashed else "solid", color=arrow.colour,
                                 fill=arrow.head, joinstyle="round", shrinkA=0, shrinkB=0, zorder=2))
    if arrow.label:
        x, y, across, up = arrow.label_at
        ax.text(x, y, arrow.label, fontsize=SHAPE_SIZE, color=PALE, ha=across, va=up, zorder=4)


def _draw_group(ax, group: _Group) -> None:
    from matplotlib.patches import FancyBboxPatch

    left, bottom, right, top = group.box
    ax.add_patch(FancyBboxPatch((left, bottom), right - left, top - bottom, facecolor="none", edgecolor="#909090",
                                boxstyle="round,pad=0,rounding_size=0.08", linewidth=0.9, linestyle=(0, (3, 2)),
                                zorder=1))
    ax.text(left + 0.1, top, group.label, fontsize=SHAPE_SIZE, color=PALE, ha="left", va="center", zorder=4,
            backgroundcolor="white", bbox=dict(facecolor="white", edgecolor="none", pad=1.5))


# Frames of a signal ---------------------------------------------------------------------------------------------------

def _numbers(values: np.ndarray) -> list[str]:
    return [f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".") for value in values]


def draw_frames(frames, hop_length: int, *, signal=None, total=None, names: tuple[str, str] = ("signal", "sum"),
                title: str | None = None, ax=None):
    """Frames in rows, each at its place in time, with the signal above them and their sum beneath. Returns the Axes.

    frames: (frames, n_fft), real. hop_length: samples. signal, total: (time,) each, or None to leave the row out.
    names: of those two rows. Up to 16 samples in all are drawn as cells with their numbers, more as curves on one
    scale for all rows. ValueError for wrong shapes.
    """
    import matplotlib.pyplot as plt

    as_array = lambda x: None if x is None else np.asarray(x.detach().cpu() if hasattr(x, "detach") else x, float)
    frames, signal, total = as_array(frames), as_array(signal), as_array(total)
    if frames.ndim != 2 or not frames.size or hop_length < 1:
        raise ValueError(f"frames have shape {frames.shape}, hop_length is {hop_length}; expected (frames, n_fft), "
                         "a hop of 1 or more")
    rows = [(f"frame {m}", m * hop_length, frame) for m, frame in enumerate(frames)]
    rows = ([(names[0], 0, signal)] if signal is not None else []) + rows
    rows += [(names[1], 0, total)] if total is not None else []
    end = max(start + len(values) for _, start, values in rows)
    with house_style():
        if ax is None:
            ax = plt.subplots(figsize=(WIDTH, 0.35 + (0.3 if end <= 16 else 0.42) * len(rows)))[1]
        for row, (name, start, values) in enumerate(rows):
            edge = OKABE_ITO["blue"] if name.startswith("frame ") else "#404040"
            (_draw_cells if end <= 16 else _draw_curve)(ax, -row, start, values, edge, max(
                float(np.abs(v).max()) for _, _, v in rows))
        ax.set(xlim=(-0.1, end + 0.1) if end <= 16 else (0, end), ylim=(0.6 - len(rows), 0.6),
               yticks=[-row for row in range(len(rows))], yticklabels=[name for name, _, _ in rows],
               xlabel="sample", title=title or "")
        if end <= 16:
            ax.set_xticks(np.arange(end) + 0.5, np.arange(end))
        ax.tick_params(axis="both", length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
    return ax


def _draw_cells(ax, y: float, start: int, values: np.ndarray, edge: str, largest: float) -> None:
    from matplotlib.patches import Rectangle

    for n, text in enumerate(_numbers(values)):
        ax.add_patch(Rectangle((start + n, y - 0.38), 1, 0.76, facecolor="#E3EEF6" if edge != "#404040" else "white",
                               edgecolor=edge, linewidth=0.9))
        ax.text(start + n + 0.5, y, text, ha="center", va="center", fontsize=8.5, color=INK)


def _draw_curve(ax, y: float, start: int, values: np.ndarray, edge: str, largest: float) -> None:
    from matplotlib.patches import Rectangle

    inside = edge != "#404040"
    if inside:
        ax.add_patch(Rectangle((start, y - 0.45), len(values), 0.9, facecolor="#F2F7FB", edgecolor="none"))
    scale = 0.42 / (largest or 1.0)
    below = 0.0 if values.min() < 0 else -0.42                           # windows stand on the row's floor
    scale *= 1 if values.min() < 0 else 2
    ax.plot(start + np.arange(len(values)), y + below + scale * values, color=edge, linewidth=1.1)
