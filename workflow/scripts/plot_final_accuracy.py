"""Draw the final accuracy by method: one panel an experiment and scenario, every seed a dot.

    python workflow/scripts/plot_final_accuracy.py --runs results/cached/runs.csv \\
        --reference config/reference.csv --experiments SplitMNIST PermutedMNIST-10 \\
        --png results/figures/final_accuracy.png --pdf results/figures/final_accuracy.pdf
"""

import argparse
import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hnetcl import figure_style as style
from hnetcl.records import method_rank, read_runs
from hnetcl.verdicts import add_published_as, as_published, read_reference

ROW_HEIGHT = 0.27  # inches a method
OURS, PUBLISHED = -0.15, 0.24  # heights in a method's row (the axis points down)

SEED = {"linestyle": "none", "marker": "o", "markersize": 3, "alpha": 0.45, "markeredgewidth": 0}
MEAN = {"marker": "|", "markersize": 8, "markeredgewidth": 1.4, "linewidth": 1.2}
PAPER = {"marker": "D", "markersize": 3.2, "markerfacecolor": "white", "color": "0.15", "linewidth": 0.8}


def main() -> None:
    """Read the runs and the published values, write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, metavar="CSV", help="one row a run and scenario")
    parser.add_argument("--reference", required=True, metavar="CSV", help="published values")
    parser.add_argument("--experiments", nargs="+", required=True, metavar="TITLE", help="in the order to show")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    add_published_as(parser)
    arguments = parser.parse_args()

    with style.figure_style():
        figure = draw(
            as_published(read_runs(arguments.runs), dict(arguments.published_as)),
            read_reference(arguments.reference),
            arguments.experiments,
        )
        style.save_figure(figure, arguments.png, arguments.pdf)


def draw(runs: pd.DataFrame, reference: pd.DataFrame, experiments: list[str]) -> Figure:
    """Return the figure: a row for each of ``experiments`` (titles), a column for each scenario run."""
    runs = runs.dropna(subset="mean_final")
    experiments, not_run = style.split_by_run(runs, experiments)
    runs, reference = (frame[frame["experiment"].isin(experiments)] for frame in (runs, reference))
    scenarios = sorted(runs["scenario"].unique())
    methods = {title: sorted(group["method"].unique(), key=method_rank) for title, group in runs.groupby("experiment")}
    heights = [len(methods[title]) for title in experiments]

    figure = Figure(
        figsize=(style.TEXT_WIDTH, 0.9 + 0.45 * len(experiments) + ROW_HEIGHT * sum(heights)),
        layout="constrained",
    )
    axes = figure.subplots(len(experiments), len(scenarios), squeeze=False, gridspec_kw={"height_ratios": heights})
    for title, row in zip(experiments, axes, strict=True):
        for scenario, ax in zip(scenarios, row, strict=True):
            ours, published = (
                frame[(frame["experiment"] == title) & (frame["scenario"] == scenario)] for frame in (runs, reference)
            )
            draw_panel(ax, ours, published, methods[title])
            ax.set_title(textwrap.fill(f"{title}, {scenario}", 24))
            ax.set_yticks(range(len(methods[title])), methods[title] if ax is row[0] else [])
    for ax in axes[-1]:
        ax.set_xlabel("Final accuracy (%)")
    keys = [
        Line2D([], [], color="0.3", label="one seed", **SEED),
        Line2D([], [], color="0.3", label="mean and SEM over seeds", **MEAN),
        Line2D([], [], label="published mean and SEM", **PAPER),
    ]
    figure.legend(handles=keys[: 3 if len(reference) else 2], loc="outside upper center", ncols=3)
    style.add_note(
        figure,
        "Test accuracy after the last task, mean over all tasks; n: number of our seeds"
        + "".join(f", published over {seeds}" for seeds in reference["n"].dropna().unique())
        + ". The axes are logarithmic in the error (100.1% − accuracy)."
        + not_run,
    )
    return figure


def draw_panel(ax: Axes, runs: pd.DataFrame, published: pd.DataFrame, methods: list[str]) -> None:
    """Draw one experiment in one scenario, a row for each of ``methods`` from the top down."""
    ax.set_ylim(len(methods) - 0.5, -0.5)
    ax.grid(False, axis="y")
    for between in range(1, len(methods)):
        ax.axhline(between - 0.5, color="0.88", linewidth=0.6, zorder=0)
    shown = published[published["method"].isin(methods)]
    values = np.concatenate([runs["mean_final"], shown["mean"]])
    if len(values):
        style.set_accuracy_axis(ax, values)
    ax.text(1.03, 1.0, "n", transform=ax.transAxes, va="bottom", **style.SMALL_GREY)
    for row, method in enumerate(methods):
        accuracy = runs.loc[runs["method"] == method, "mean_final"]
        ax.text(1.03, row, len(accuracy), transform=ax.get_yaxis_transform(), va="center", **style.SMALL_GREY)
        for value in shown[shown["method"] == method].itertuples():
            ax.errorbar(value.mean, row + PUBLISHED, xerr=value.sem, **PAPER)
        if accuracy.empty:
            continue
        colour = style.method_colour(method)
        spread = np.linspace(-0.12, 0.12, len(accuracy)) if len(accuracy) > 1 else np.zeros(1)
        ax.plot(accuracy, row + OURS + spread, color=colour, **SEED)
        ax.errorbar(accuracy.mean(), row + OURS, xerr=accuracy.sem(), color=colour, **MEAN)


if __name__ == "__main__":
    main()
