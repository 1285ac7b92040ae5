"""Follow every method over a sequence: the accuracy on each task before it, right after it and at the end.

And so far: right after a task, the mean over it and all earlier ones. Written are a table of all of them and a figure,
which leaves out the accuracy before.

    python workflow/scripts/compare_tasks.py --accuracy results/cached/accuracy.csv \\
        --experiments "PermutedMNIST-100, first 20 tasks" --csv results/tables/long.csv \\
        --markdown results/tables/long.md --png results/figures/long_tasks.png --pdf results/figures/long_tasks.pdf

With --variants the experiments are files of variants, "TITLE, VARIANT", and a variant is what a method is otherwise.
"""

import argparse
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hnetcl import figure_style as style
from hnetcl.files import written_whole
from hnetcl.records import RUN_KEY, method_rank, of_variants, read_accuracy, write_table
from hnetcl.tables import estimate, markdown_rows
from hnetcl.verdicts import add_published_as, as_published

MEASURES = ["final", "during", "before"]
SO_FAR = "so_far"
DRAWN = {"final": "after the last task", "during": "right after the task", SO_FAR: "mean over the tasks so far"}
PANEL_HEIGHT = 1.7  # inches
MOST_MARKED = 20  # tasks; the points of more would touch
TITLE_WIDTH, LEGEND_WIDTH = 76, 112  # as many characters as fit


def main() -> None:
    """Read the accuracies, write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", required=True, metavar="CSV", help="written by collect_runs.py")
    parser.add_argument("--experiments", nargs="+", required=True, metavar="TITLE", help="in the order to show")
    parser.add_argument("--csv", required=True, help="written: one row a run and task")
    parser.add_argument("--markdown", required=True, help="written: means over the tasks as a table")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    parser.add_argument("--variants", nargs="*", default=[], metavar="VARIANT", help="titles of variants")
    add_published_as(parser)
    arguments = parser.parse_args()

    accuracy = as_published(read_accuracy(arguments.accuracy), dict(arguments.published_as))
    if arguments.variants:
        accuracy = variants_as_methods(accuracy, arguments.experiments, arguments.variants)
    table = by_task(accuracy[accuracy["experiment"].isin(arguments.experiments)])
    write_table(table, arguments.csv)
    with written_whole(arguments.markdown) as aside:
        aside.write_text(markdown(table), encoding="utf-8")
    with style.figure_style():
        style.save_figure(draw(table, arguments.experiments), arguments.png, arguments.pdf)


def variants_as_methods(accuracy: pd.DataFrame, titles: list[str], variants: list[str]) -> pd.DataFrame:
    """Return the rows of "TITLE, VARIANT" with TITLE as their experiment and VARIANT as their method."""
    own = of_variants(accuracy, titles, variants)
    return own.assign(experiment=own["family"], method=own["variant"])


def by_task(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Return one row a run and task: the sequence's length and the accuracies on the task.

    They are those at the end, right after and before the task, and the mean over the tasks up to it right after it.
    What was not measured is missing.
    """
    learned = accuracy[accuracy["after_task"] > 0]
    tasks = learned.groupby(RUN_KEY)["after_task"].transform("max")
    key = [*RUN_KEY, "task"]
    final = learned[learned["after_task"] == tasks]
    during = learned[learned["after_task"] == learned["task"]]
    before = accuracy[accuracy["after_task"] == accuracy["task"] - 1]
    measures = dict(zip(MEASURES, (rows.set_index(key)["accuracy"] for rows in (final, during, before)), strict=True))
    seen = learned[learned["task"] <= learned["after_task"]].groupby([*RUN_KEY, "after_task"])["accuracy"]
    so_far = seen.agg(["mean", "count"]).rename_axis(key)
    whole = so_far["count"] == so_far.index.get_level_values("task")
    measures[SO_FAR] = so_far["mean"].round(4).where(whole)
    lengths = learned.assign(tasks=tasks).groupby(key)["tasks"].first()
    table = pd.DataFrame({"tasks": lengths, **measures}).reset_index()
    return table[["experiment", "method", "scenario", "tasks", "task", "seed", *MEASURES, SO_FAR]]


def markdown(table: pd.DataFrame) -> str:
    """Return mean accuracies over the tasks as Markdown, mean ± STD over seeds."""
    runs = table.groupby(RUN_KEY)[MEASURES].agg(lambda tasks: tasks.mean(skipna=False)).reset_index()
    head = ["Experiment", "Method", "n", *(f"{name} accuracy in %, ± STD" for name in MEASURES)]
    rows = []
    for (experiment, scenario, method), own in sorted(
        runs.groupby(["experiment", "scenario", "method"]), key=lambda item: (item[0][:2], method_rank(item[0][2]))
    ):
        cells = [_estimate(own[name]) for name in MEASURES]
        rows.append([f"{experiment}, {scenario}", method, str(len(own)), *cells])
    return markdown_rows(head, rows) + "\n"


def _estimate(values: pd.Series) -> str:
    if values.isna().any():
        return "–"  # the mean over some tasks would be another number of the same name
    return estimate(values.mean(), values.std())


def draw(table: pd.DataFrame, experiments: list[str]) -> Figure:
    """Return the figure: a row for each of ``experiments`` (titles) and scenario, what is ``DRAWN`` side by side."""
    experiments, not_run = style.split_by_run(table, experiments)
    rows = [
        (title, scenario)
        for title in experiments
        for scenario in sorted(table.loc[table["experiment"] == title, "scenario"].unique())
    ]
    figure = Figure(figsize=(style.TEXT_WIDTH, 0.8 + PANEL_HEIGHT * len(rows)), layout="constrained")
    run = table.loc[table["experiment"].isin(experiments), "method"].unique()
    colours = style.method_colours(sorted(run, key=method_rank))
    for (title, scenario), row in zip(rows, figure.subfigures(len(rows), squeeze=False)[:, 0], strict=True):
        own = table[(table["experiment"] == title) & (table["scenario"] == scenario)]
        name = textwrap.fill(f"{title}, {scenario} ({seeds_of(own)})", TITLE_WIDTH)
        row.suptitle(name, size=style.TITLE, weight="bold")
        axes = row.subplots(1, len(DRAWN))
        for (measure, when), ax in zip(DRAWN.items(), axes, strict=True):
            draw_panel(ax, own, measure, colours)
            ax.set_title(when, size="medium")
            ax.set(xlabel="Tasks so far" if measure == SO_FAR else "Task", xlim=(0.5, own["tasks"].max() + 0.5))
        axes[0].set_ylabel("Test accuracy (%)")
    columns = min(len(colours), LEGEND_WIDTH // (max(map(len, colours)) + 6))
    lines = [Line2D([], [], color=colour, linewidth=1) for colour in colours.values()]
    figure.legend(lines, list(colours), loc="outside upper center", ncols=columns)
    lengths = table.groupby("tasks", sort=False)["experiment"].unique()
    names = [f"{tasks} tasks" + f" ({'; '.join(own)})" * (len(lengths) > 1) for tasks, own in lengths.items()]
    style.add_note(
        figure,
        f"Mean over n seeds, band: standard deviation over seeds. Length of the sequence: {', '.join(names)}."
        + not_run,
    )
    return figure


def seeds_of(table: pd.DataFrame) -> str:
    """Say how many seeds each method of one experiment was run with."""
    counts = table.groupby("method")["seed"].nunique()
    if counts.nunique() == 1:
        return f"n={counts.iloc[0]}"
    by_count = {n: sorted(counts.index[counts == n], key=method_rank) for n in sorted(counts.unique())}
    return "; ".join(f"n={n}: {', '.join(methods)}" for n, methods in by_count.items())


def draw_panel(ax: Axes, table: pd.DataFrame, measure: str, colours: Mapping[str, Any]) -> None:
    """Draw one measure of one experiment over the tasks, a line a method."""
    for method in sorted(table["method"].unique(), key=method_rank):
        own = table[table["method"] == method].pivot(index="task", columns="seed", values=measure)
        mean, deviation = own.mean(axis=1), own.std(axis=1).fillna(0)
        colour, top = colours[method], np.minimum(mean + deviation, 100)
        marker = "." if len(own) <= MOST_MARKED else ""
        ax.plot(own.index, mean, color=colour, marker=marker, markersize=3, linewidth=1, label=method)
        ax.fill_between(own.index, mean - deviation, top, color=colour, alpha=0.25, lw=0)


if __name__ == "__main__":
    main()
