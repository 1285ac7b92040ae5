"""One look for every figure: a paper's column, a fixed colour a method, an axis for accuracies near 100 %.

Only fonts that ship with matplotlib are used and no dates are written, so that the same table gives the same
bytes on every machine.
"""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hnetcl.files import written_whole
from hnetcl.records import BASELINES, BOUNDS, HNET_METHODS

TEXT_WIDTH = 5.5  # inches, the text width of an ICLR paper
SMALL, TITLE = 6, 7.5  # points
SMALL_GREY = {"fontsize": SMALL, "color": "0.35"}  # numbers beside a panel, notes below a figure

_PALETTE = sns.color_palette("colorblind")
_METHOD_COLOURS = dict(
    zip((*HNET_METHODS, *BASELINES, *BOUNDS), (_PALETTE[i] for i in (0, 2, 9, 1, 8, 4, 6, 5, 3, 7)), strict=True)
)
_OTHER_COLOUR = (0.2, 0.2, 0.2)

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": TITLE,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "0.3",
    "xtick.labelsize": SMALL,
    "ytick.labelsize": 7,
    "xtick.major.size": 2,
    "ytick.major.size": 0,
    "xtick.major.width": 0.6,
    "grid.linewidth": 0.4,
    "grid.color": "0.88",
    "legend.fontsize": 7,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # letters stay letters in the PDF
    "figure.dpi": 300,  # also as text is measured: letters are rounded to pixels
}

# Labels of an accuracy axis, the most telling first; further ones fill the gaps that remain.
_TICKS = (100, 99, 90, 0, 50, 95, 99.5, 98, 80, 20, 97, 70, 99.8, 96, 60, 30, 10, 85, 40, 99.9)
_TICK_GAP = 0.17  # of the axis: what a label needs beside its neighbour
_SOFTENING = 0.1  # percentage points of error
_SMALLEST_SPAN = np.log10(4)


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw inside this block; matplotlib's own settings are left as they were."""
    with sns.axes_style("whitegrid", rc=_RC), mpl.rc_context(_RC):
        yield


def method_colour(method: str) -> tuple[float, float, float]:
    """Return the colour of ``method`` (its label) in every figure; unknown methods share one."""
    return _METHOD_COLOURS.get(method, _OTHER_COLOUR)


def method_colours(methods: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Return a colour of its own for each of ``methods``: the fixed one, or for others (variants) one that is free."""
    free = iter([colour for colour in _PALETTE if colour not in {_METHOD_COLOURS.get(method) for method in methods}])
    return {method: _METHOD_COLOURS.get(method) or next(free, _OTHER_COLOUR) for method in methods}


def accuracy_scale() -> tuple[Callable, Callable]:
    """Return a scale for accuracies ``a`` in percent, ``-log10(100.1 - a)`` and its inverse.

    It is logarithmic in the error: from 50 to 90 is about as far as from 95 to 99. The added 0.1 keeps an
    accuracy of 100 on the axis.
    """
    full = 100 + _SOFTENING
    return (
        lambda accuracy: -np.log10(np.maximum(full - np.asarray(accuracy, dtype=float), 1e-9)),
        lambda position: full - 10.0 ** -np.asarray(position, dtype=float),
    )


def set_accuracy_axis(ax: Axes, values: np.ndarray, margin: float = 0.08) -> None:
    """Give ``ax`` an accuracy scale around ``values`` (percent) with ``margin`` (a fraction) on each side.

    It spans at least a factor of four in the error: a closer look would make the noise of seeds look large.
    """
    forward, inverse = accuracy_scale()
    low, high = forward(np.min(values)), forward(np.max(values))
    pad = max((high - low) * margin, (_SMALLEST_SPAN - (high - low)) / 2)
    limits = max(float(inverse(low - pad)), -5.0), float(inverse(high + pad))
    ticks = accuracy_ticks(*limits)
    ax.set_xscale("function", functions=(forward, inverse))
    ax.set_xlim(limits)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)


def accuracy_ticks(low: float, high: float) -> list[float]:
    """Return the accuracies in percent to label on an axis from ``low`` to ``high``."""
    forward, _ = accuracy_scale()
    gap = _TICK_GAP * (forward(high) - forward(low))
    ticks: list[float] = []
    for candidate in _TICKS:
        if low <= candidate <= high and all(abs(forward(candidate) - forward(t)) >= gap for t in ticks):
            ticks.append(candidate)
    if len(ticks) < 2:
        ticks = [float(t) for t in MaxNLocator(3).tick_values(low, high) if low <= t <= min(high, 100)]
    return sorted(ticks)


def split_by_run(table: pd.DataFrame, experiments: list[str]) -> tuple[list[str], str]:
    """Return those of ``experiments`` (titles) that ``table`` holds, and a note that names the others.

    ``ValueError`` if it holds none: there would be nothing to draw.
    """
    present = set(table["experiment"])
    run = [title for title in experiments if title in present]
    if not run:
        raise ValueError(f"no run to draw of the experiments {experiments}. Allowed: {sorted(present)}.")
    absent = [title for title in experiments if title not in present]
    return run, f" Not run: {'; '.join(absent)}." if absent else ""


def add_note(figure: Figure, text: str) -> None:
    """Write ``text`` below ``figure``, over its whole width."""
    note = figure.supxlabel(text, x=0.01, ha="left", **SMALL_GREY)
    # As many characters a line as fit: how wide they are depends on which they are.
    columns = len(text)
    while note.get_window_extent().width > 0.98 * figure.bbox.width and columns > 1:
        columns = min(columns - 1, max(map(len, note.get_text().splitlines())) - 1)
        note.set_text(textwrap.fill(text, columns))


def save_figure(figure: Figure, png: str | Path, pdf: str | Path) -> None:
    """Write ``figure`` as PNG (300 dpi) and PDF, without the date and the version of the drawing program."""
    with written_whole(png) as aside:
        figure.savefig(aside, format="png", metadata={"Software": None})
    with written_whole(pdf) as aside:
        figure.savefig(aside, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
