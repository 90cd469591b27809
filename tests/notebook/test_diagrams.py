"""Diagrams: blocks stand where they were put and are large enough for their text, arrows lead from edge to edge."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from course_lib.notebook.diagrams import GAP, KINDS, MARGIN, PLACES, ROUTES, Diagram, draw_frames, text_size


@pytest.fixture(autouse=True)
def closed_figures():
    """Off-screen drawing, and no figure left over from one test to the next."""
    matplotlib.use("agg")
    yield
    plt.close("all")


def texts(figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts if text.get_text()]


def test_a_chain_is_drawn_from_left_to_right_with_its_arrows():
    d = Diagram()
    x = d.block("mixture", "(channel, time)", kind="data")
    X = d.block("STFT", "(channel, bin, frame)", after=x)
    assert X.left == pytest.approx(x.right + GAP) and X.y == x.y
    assert d.arrows[0].path == [(x.right, x.y), (X.left, X.y)]
    assert set(texts(d.draw())) == {"mixture", "(channel, time)", "STFT", "(channel, bin, frame)"}


@pytest.mark.parametrize("place", PLACES)
def test_every_place_leaves_the_gap_and_points_from_edge_to_edge(place):
    d = Diagram()
    a = d.block("first block", "(2, 3)")
    b = d.block("second", after=a, place=place, gap=0.5)
    edges = {"right": (a.right, b.left), "left": (b.right, a.left), "below": (b.top, a.bottom),
             "above": (a.top, b.bottom)}
    low, high = edges[place]
    assert high - low == pytest.approx(0.5)
    ends = [point[0 if place in ("right", "left") else 1] for point in d.arrows[0].path]
    assert sorted(ends) == pytest.approx([low, high])


@pytest.mark.parametrize("name, shape", [("a long name of a block", ""), ("$|X|^2$", "(source, channel, bin, frame)"),
                                         ("two\nlines", "(1,)")])
def test_text_fits_into_its_block(name, shape):
    d = Diagram()
    node = d.block(name, shape)
    figure = d.draw()
    figure.canvas.draw()
    for text in figure.axes[0].texts:
        box = text.get_window_extent().transformed(figure.axes[0].transData.inverted())
        assert node.left <= box.x0 and box.x1 <= node.right and node.bottom <= box.y0 and box.y1 <= node.top


def test_the_gap_has_room_for_the_label_of_the_arrow():
    d = Diagram()
    a = d.block("a")
    b = d.block("b", after=a, label="(batch, source, channel, time)")
    assert b.left - a.right > text_size("(batch, source, channel, time)", 7.5)[0]


def test_branches_meet_in_a_sum_from_above_and_below():
    d = Diagram()
    x = d.block("x", kind="data")
    up, down = d.block("harmonic", after=x, shift=0.5), d.block("percussive", after=x, shift=-0.5)
    total = d.join("+", after=[up, down])
    assert total.y == pytest.approx(x.y) and total.left > max(up.right, down.right)
    assert d.arrows[-2].path[-1] == pytest.approx((total.x, total.top))
    assert d.arrows[-1].path[-1] == pytest.approx((total.x, total.bottom))


@pytest.mark.parametrize("route", ["over", "under", "left", "right"])
def test_a_skip_connection_goes_round_the_blocks_between(route):
    d = Diagram()
    chain = [d.block("a")]
    for name in "bcd":
        chain.append(d.block(name, after=chain[-1], place="right" if route in ("over", "under") else "below"))
    d.arrow(chain[0], chain[3], "skip", route=route, reach=0.3)
    side = {"over": (1, max), "under": (1, min), "left": (0, min), "right": (0, max)}
    axis, farthest = side[route]
    around = farthest(point[axis] for point in d.arrows[-1].path)
    assert all(around > node.top + 0.2 if route == "over" else around < node.bottom - 0.2 if route == "under" else
               around < node.left - 0.2 if route == "left" else around > node.right + 0.2 for node in chain)
    figure = d.draw()
    low, high = figure.axes[0].get_ylim() if axis else figure.axes[0].get_xlim()
    assert low < around < high, "the picture is large enough for the way round"


def test_a_figure_is_as_large_as_its_blocks_in_inches():
    d = Diagram()
    d.block("V", "(bin, frame)", kind="data", size=(2.0, 1.0))
    assert d.draw().get_size_inches() == pytest.approx([2.0 + 2 * MARGIN, 1.0 + 2 * MARGIN])


def test_a_repeated_block_says_how_often_and_keeps_its_neighbour_away():
    d = Diagram()
    a = d.block("layer", repeat=8)
    b = d.block("out", after=a)
    assert "layer  × 8" in texts(d.draw()) and b.left - a.right > GAP


def test_a_group_frames_its_blocks():
    d = Diagram()
    a = d.block("a")
    b = d.block("b", after=a)
    d.group([a, b], "only in training")
    left, bottom, right, top = d.groups[0].box
    assert left < a.left and right > b.right and bottom < a.bottom and top > b.top
    assert "only in training" in texts(d.draw())


def test_the_words_name_every_block_its_shape_and_where_it_leads():
    d = Diagram()
    x = d.block("mixture $x$", "(2, time)", kind="data")
    network = d.block("net\nwork", after=x, kind="trained", repeat=3)
    total = d.join("+", after=network)
    d.arrow(x, total, "skip", route="over")
    assert d.in_words() == ("Block diagram. mixture x, shape (2, time), leads to net work and junction + (skip). "
                            "net work, 3 times, leads to junction +. junction +.")


def test_blocks_on_each_other_are_refused_by_name():
    d = Diagram()
    a = d.block("encoder")
    d.block("decoder", after=a)
    d.block("critic", after=a)
    with pytest.raises(ValueError, match="'decoder' and 'critic' lie on each other"):
        d.draw()


@pytest.mark.parametrize("change, message", [
    (dict(kind="weights"), "kind is 'weights'; expected one of data"),
    (dict(place="behind"), "place is 'behind'; expected one of right"),
    (dict(name=" "), "name is ' '"),
    (dict(repeat=0), "repeat 0"),
])
def test_unknown_words_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Diagram().block(**{"name": "a"} | change)


def test_other_refusals_say_what_is_wrong():
    d, other = Diagram(), Diagram()
    a, foreign = d.block("a"), other.block("b")
    with pytest.raises(ValueError, match="'b' is no block of this diagram"):
        d.arrow(a, foreign)
    with pytest.raises(ValueError, match="route is 'round'; expected one of " + ", ".join(ROUTES)):
        d.arrow(a, a, route="round")
    with pytest.raises(ValueError, match="no block yet"):
        Diagram().draw()
    with pytest.raises(ValueError, match="11.2 inches wide"):
        other.block("c", size=(9.9, 1.0), at=(0.5 + 5.4, 0.0)), other.draw()


def test_kinds_differ_by_their_edge_as_well_as_by_colour():
    assert len({(edge, width, str(dashes)) for _, edge, width, dashes in KINDS.values()}) == len(KINDS)


# Frames ---------------------------------------------------------------------------------------------------------------

def test_few_samples_are_drawn_as_numbers_at_their_place():
    x = torch.arange(10.0)
    ax = draw_frames(x.unfold(0, 4, 2), 2, signal=x, total=2 * x)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["signal", *(f"frame {m}" for m in range(4)), "sum"]
    places = {text: (round(text.get_position()[0] - 0.5), round(-text.get_position()[1])) for text in ax.texts}
    found = {place: text.get_text() for text, place in places.items()}
    assert found[3, 0] == "3" and found[5, 3] == "5" and found[9, 5] == "18"
    assert (3, 3) not in found, "frame 2 starts at sample 4"


def test_many_samples_are_drawn_as_curves_on_one_scale():
    frames = torch.stack([torch.ones(64), 0.5 * torch.ones(64)])
    ax = draw_frames(frames, 32)
    first, second = ax.lines
    height = [line.get_ydata()[0] - (-row - 0.42) for row, line in enumerate((first, second))]
    assert height[1] == pytest.approx(height[0] / 2) and second.get_xdata()[0] == 32


def test_frames_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(4,\)"):
        draw_frames(torch.ones(4), 2)
