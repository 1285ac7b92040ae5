"""Draw what the output regulariser costs against the number of earlier tasks, in its explicit and its exact form.

    python workflow/scripts/plot_benchmark.py --regulariser results/cached/benchmark/regulariser.csv \\
        --summary results/cached/benchmark/summary.json \\
        --png results/figures/benchmark.png --pdf results/figures/benchmark.pdf
"""

import argparse
import json
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hnetcl import figure_style as style

PANELS = {"milliseconds": "Time (ms)", "peak_mb": "Memory (MiB)"}
LINES = {"explicit": {"linestyle": "--", "marker": "o"}, "exact": {"linestyle": "-", "marker": "s"}}


def main() -> None:
    """Read the measurements, write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regulariser", required=True, metavar="CSV", help="written by measure_regulariser.py")
    parser.add_argument("--summary", required=True, metavar="JSON", help="written by summarise_benchmark.py")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    arguments = parser.parse_args()
    machine = json.loads(Path(arguments.summary).read_text())["machine"]
    with style.figure_style():
        figure = draw(pd.read_csv(arguments.regulariser), machine)
        style.save_figure(figure, arguments.png, arguments.pdf)


def draw(measured: pd.DataFrame, machine: dict) -> Figure:
    """Return the figure: a panel for time and one for memory, a colour an experiment, a line a form."""
    figure = Figure(figsize=(style.TEXT_WIDTH, 2.6), layout="constrained")
    experiments = list(dict.fromkeys(measured["experiment"]))
    colours = dict(zip(experiments, sns.color_palette("colorblind"), strict=False))
    for ax, (column, label) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        draw_panel(ax, measured.dropna(subset=column), column, colours)
        ax.set_ylabel(label)
    keys = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    keys += [Line2D([], [], color="0.3", markersize=3, label=f"{form} form", **look) for form, look in LINES.items()]
    figure.legend(handles=keys, loc="outside upper center", ncols=len(keys), handlelength=2.2, columnspacing=1.2)
    style.add_note(
        figure,
        "Gradient of the output regulariser over all earlier tasks, at each experiment's own sizes; "
        f"medians; {machine['processor']}, {machine['threads']} threads, {machine['date']}. Where the explicit form "
        "ends, it would need more than half of the free memory.",
    )
    return figure


def draw_panel(ax: Axes, measured: pd.DataFrame, column: str, colours: dict) -> None:
    """Draw ``column`` against the number of earlier tasks, both axes logarithmic."""
    for (experiment, form), rows in measured.groupby(["experiment", "form"], sort=False):
        ax.plot(rows["tasks"], rows[column], color=colours[experiment], markersize=3, linewidth=1, **LINES[form])
    ax.set(xscale="log", yscale="log", xlabel="Earlier tasks")
    ticks = sorted(measured["tasks"].unique())
    shown = [tick for place, tick in enumerate(ticks) if place == 0 or tick >= 1.5 * ticks[place - 1]]
    ax.set_xticks(shown, [f"{tick:d}" for tick in shown])
    ax.set_xticks([], minor=True)
    ax.tick_params(axis="y", labelsize=style.SMALL)


if __name__ == "__main__":
    main()
