"""Draw how the accuracy on every task changes while further tasks are learned: a heat map a method.

    python workflow/scripts/plot_accuracy_matrix.py --accuracy results/cached/accuracy.csv \\
        --experiments SplitMNIST PermutedMNIST-10 --scenario CL1 \\
        --png results/figures/accuracy_matrix.png --pdf results/figures/accuracy_matrix.pdf
"""

import argparse

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure

from hnetcl import figure_style as style
from hnetcl.records import method_rank, read_accuracy
from hnetcl.verdicts import add_published_as, as_published

MAPS_A_ROW = 4
COLOURS = "viridis"
LABELLED = [0, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 100]  # percent, on the colour bar
LARGEST_MAP = 2.0  # inches
SMALLEST_CELL = 0.25  # inches that a number such as 99.8 needs


def main() -> None:
    """Read the accuracies, write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", required=True, metavar="CSV", help="written by collect_runs.py")
    parser.add_argument("--experiments", nargs="+", required=True, metavar="TITLE", help="in the order to show")
    parser.add_argument("--scenario", required=True, help="CL1, CL2 or CL3")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    add_published_as(parser)
    arguments = parser.parse_args()

    with style.figure_style():
        accuracy = as_published(read_accuracy(arguments.accuracy), dict(arguments.published_as))
        figure = draw(accuracy, arguments.experiments, arguments.scenario)
        style.save_figure(figure, arguments.png, arguments.pdf)


def draw(accuracy: pd.DataFrame, experiments: list[str], scenario: str) -> Figure:
    """Return the figure: a row of heat maps for each of ``experiments`` (titles), one for each method run."""
    accuracy = accuracy[(accuracy["scenario"] == scenario) & (accuracy["after_task"] > 0)]
    experiments, not_run = style.split_by_run(accuracy, experiments)
    maps = [
        [
            (title, method, accuracy[(accuracy["experiment"] == title) & (accuracy["method"] == method)])
            for method in line
        ]
        for title in experiments
        for line in _lines(accuracy.loc[accuracy["experiment"] == title, "method"].unique())
    ]
    columns = max(map(len, maps))
    side = min((style.TEXT_WIDTH - 1.3) / columns, LARGEST_MAP)  # beside the labels and the colour bar
    figure = Figure(figsize=(style.TEXT_WIDTH, 0.3 + (side + 0.6) * len(maps)), layout="constrained")
    axes = figure.subplots(len(maps), columns, squeeze=False)
    norm = FuncNorm(style.accuracy_scale(), vmin=0, vmax=100)
    for line, row in zip(maps, axes, strict=True):
        for ax, (title, method, entries) in zip(row, line, strict=False):
            draw_map(ax, entries, norm, side)
            ax.set_title(f"{method}\nn={entries['seed'].nunique()}")
            ax.set(xlabel="Task tested", ylabel=f"{title}, {scenario}\nTask just learned" if ax is row[0] else "")
        for ax in row[len(line) :]:
            ax.set_axis_off()
    bar = figure.colorbar(
        ScalarMappable(norm, COLOURS),
        ax=axes,
        ticks=LABELLED,
        shrink=min(1, 2 / len(maps)),
        aspect=25,
        pad=0.02,
    )
    bar.ax.set_yticklabels([f"{value:g}" for value in LABELLED])
    bar.set_label("Test accuracy (%)")
    style.add_note(
        figure,
        "Mean over n seeds; grey: not measured. The colours are logarithmic in the error (100.1% − accuracy)."
        + not_run,
    )
    return figure


def draw_map(ax: Axes, entries: pd.DataFrame, norm: FuncNorm, side: float) -> None:
    """Draw the mean over seeds of the accuracies of one method; the map is ``side`` inches wide."""
    matrix = entries.pivot_table("accuracy", index="after_task", columns="task", aggfunc="mean")
    tasks = np.arange(1, matrix.columns.max() + 1)
    matrix = matrix.reindex(index=tasks, columns=tasks)
    sns.heatmap(
        matrix,
        ax=ax,
        norm=norm,
        cmap=COLOURS,
        square=True,
        cbar=False,
        annot=side / len(tasks) >= SMALLEST_CELL,
        fmt=".1f",
        annot_kws={"fontsize": style.SMALL - 0.5},
        rasterized=len(tasks) > 20,  # thousands of small vector squares make a slow PDF
    )
    ax.set_facecolor("0.9")
    ax.grid(False)
    step = -(-len(tasks) // 10)  # at most ten labels
    labelled = tasks[step - 1 :: step]
    ax.set_xticks(labelled - 0.5, labelled)
    ax.set_yticks(labelled - 0.5, labelled)
    ax.tick_params(labelsize=style.SMALL, rotation=0, length=0)


def _lines(methods: np.ndarray) -> list[list[str]]:
    ordered = sorted(methods, key=method_rank)
    return [ordered[start : start + MAPS_A_ROW] for start in range(0, len(ordered), MAPS_A_ROW)]


if __name__ == "__main__":
    main()
