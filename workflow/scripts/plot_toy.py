"""Draw figure 2: three functions learned one after the other, and the errors beside the published ones.

    python workflow/scripts/plot_toy.py --errors results/cached/toy.csv --curves results/cached/toy_curves.csv \\
        --reference config/reference.csv --png results/figures/toy.png --pdf results/figures/toy.pdf
"""

import argparse

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hnetcl import figure_style as style
from hnetcl.toy_table import FINAL, FUNCTION, METHODS, TRAINING_POINTS, read_errors, read_published

TITLES = {"HNET": "HNET", "HNET, fine-tuning": "Fine-tuning", "EWC": "EWC"}
LAST_ONLY = {"HNET, from scratch": "From scratch", "Joint training": "Joint"}
TASKS = (1, 2, 3)
COLOURS = dict(zip(TASKS, sns.color_palette("colorblind"), strict=False))
LIMITS = (-3.3, 3.3)
PUBLISHED = {"marker": "D", "markersize": 2.6, "markerfacecolor": "w", "color": "0.15"}


def main() -> None:
    """Read errors, curves and published values, write the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", required=True, metavar="CSV", help="written by train_toy.py")
    parser.add_argument("--curves", required=True, metavar="CSV", help="written by train_toy.py")
    parser.add_argument("--reference", required=True, metavar="CSV", help="published values")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    arguments = parser.parse_args()
    with style.figure_style():
        figure = draw(pd.read_csv(arguments.curves), read_errors(arguments.errors), read_published(arguments.reference))
        style.save_figure(figure, arguments.png, arguments.pdf)


def draw(curves: pd.DataFrame, errors: pd.DataFrame, published: pd.DataFrame) -> Figure:
    """Return the figure: a row a task learned, a column a method, and a panel with the final errors."""
    figure = Figure(figsize=(style.TEXT_WIDTH, 3.9), layout="constrained")
    grid = figure.add_gridspec(len(TASKS), len(TITLES) + len(LAST_ONLY))
    for column, (method, title) in enumerate({**TITLES, **LAST_ONLY}.items()):
        for after in TASKS if method in TITLES else TASKS[-1:]:
            ax = figure.add_subplot(grid[after - 1, column])
            draw_fits(ax, curves, method, after)
            if after == TASKS[0] or method in LAST_ONLY:
                ax.set_title(title)
            if column == 0:
                ax.set_ylabel(f"After task {after}")
            else:
                ax.set_yticklabels([])
            if after != TASKS[-1]:
                ax.set_xticklabels([])
    draw_errors(figure.add_subplot(grid[:2, len(TITLES) :]), errors, published)
    keys = [Line2D([], [], color=COLOURS[task], label=f"task {task}") for task in TASKS]
    keys += [
        Line2D([], [], color="0.25", linestyle="--", linewidth=0.8, label="function"),
        Line2D([], [], color="0.6", linestyle="none", marker=".", markersize=3, label="training points"),
        Line2D([], [], label="published", linestyle="none", **PUBLISHED),
    ]
    figure.legend(handles=keys, loc="outside upper center", ncols=len(keys), handlelength=1.6, columnspacing=1.4)
    seeds = errors["seed"].nunique()
    style.add_note(
        figure,
        f"Three functions learned one after the other; fits of the seed with the median final error of n={seeds}. "
        "Upper right: mean squared test error after the last task, every seed a dot, line at the median. Fine-tuning: "
        "the hypernetwork without its regulariser; joint: the target network alone, on all tasks at once.",
    )
    return figure


def draw_fits(ax: Axes, curves: pd.DataFrame, method: str, after: int) -> None:
    """Draw the fits of the tasks learned so far, over the training points and the functions."""
    for task in TASKS:
        of_task = curves[curves["task"] == task]
        points, function = (of_task[of_task["method"] == name] for name in (TRAINING_POINTS, FUNCTION))
        ax.plot(function["x"], function["y"], color="0.25", linestyle="--", linewidth=0.8)
        if task <= after:
            fit = of_task[(of_task["method"] == method) & (of_task["after_task"] == after)]
            ax.plot(points["x"], points["y"], color="0.7", linestyle="none", marker=".", markersize=1.2, zorder=1)
            ax.plot(fit["x"], fit["y"], color=COLOURS[task], linewidth=1.2)
    ax.set(ylim=LIMITS, xlim=(-4.3, 4.3), xticks=[-4, 0, 4], yticks=[-2, 0, 2])
    ax.tick_params(labelsize=style.SMALL)


def draw_errors(ax: Axes, errors: pd.DataFrame, published: pd.DataFrame) -> None:
    """Draw every seed's final error by method and task, with median and published value."""
    final, final_ones = errors[errors["after_task"] == max(TASKS)], published[published["when"] == FINAL]
    for row, method in enumerate(METHODS):
        for task in TASKS:
            height = row + 0.22 * (task - 2)
            values = final[(final["method"] == method) & (final["task"] == task)]["mse"]
            look = {"color": COLOURS[task], "linestyle": "none"}
            ax.plot(values, [height] * len(values), marker="o", markersize=2, alpha=0.35, markeredgewidth=0, **look)
            ax.plot(values.median(), height, marker="|", markersize=6, markeredgewidth=1.3, **look)
            known = final_ones[(final_ones["method"] == method) & (final_ones["task"] == task)]
            ax.plot(known["mse"], [height] * len(known), linestyle="none", **PUBLISHED)
    ax.set(xscale="log", ylim=(len(METHODS) - 0.5, -0.5), xlabel="Mean squared error")
    ax.set_yticks(range(len(METHODS)), [{**TITLES, **LAST_ONLY}[method] for method in METHODS])
    ax.yaxis.tick_right()
    ax.grid(False, axis="y")


if __name__ == "__main__":
    main()
