"""Rank the variants of experiments: a table, best first, and a figure in the order of their files.

    python workflow/scripts/compare_variants.py --runs results/tables/entropy_runs.csv \\
        --titles "SplitMNIST (validation)" --variants "as released" "500 iterations" \\
        --published config/reference.csv --published-title SplitMNIST \\
        --csv results/tables/entropy.csv --markdown results/tables/entropy.md \\
        --png results/figures/entropy.png --pdf results/figures/entropy.pdf

A variant is an experiment called "TITLE, VARIANT"; where several methods are run, each is ranked by itself.
"""

import argparse

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import plot_final_accuracy as final
from hnetcl import figure_style as style
from hnetcl.files import written_whole
from hnetcl.records import of_variants, read_runs, write_table
from hnetcl.tables import estimate, markdown_rows
from hnetcl.verdicts import read_reference


def main() -> None:
    """Read the runs, write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, metavar="CSV", help="one row a run and scenario")
    parser.add_argument("--titles", required=True, nargs="+", metavar="TITLE", help="titles of the files of variants")
    parser.add_argument("--variants", required=True, nargs="+", help="titles of the variants, in the order to show")
    parser.add_argument("--published", required=True, metavar="CSV", help="published values")
    parser.add_argument("--published-title", required=True, help="experiment whose published values are drawn")
    parser.add_argument("--csv", required=True, help="written: one row a method, scenario and variant")
    parser.add_argument("--markdown", required=True, help="written: the same as a table")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    arguments = parser.parse_args()

    runs = of_variants(read_runs(arguments.runs), arguments.titles, arguments.variants)
    published = read_reference(arguments.published)
    published = published[published["experiment"] == arguments.published_title]
    ranked = rank(runs)
    write_table(ranked, arguments.csv)
    with written_whole(arguments.markdown) as aside:
        aside.write_text(markdown(ranked, published), encoding="utf-8")
    with style.figure_style():
        style.save_figure(draw(runs, published, arguments), arguments.png, arguments.pdf)


def rank(runs: pd.DataFrame) -> pd.DataFrame:
    """Return mean and SEM of the accuracies of every variant, the best final accuracy of a scenario first."""
    groups = runs.groupby(["method", "scenario", "variant"])
    table = groups[["mean_final", "mean_during", "task_inference_final"]].agg(["mean", "sem"]).round(4)
    table.columns = [f"{measure}_{statistic}" for measure, statistic in table.columns]
    table.insert(0, "n", groups.size())
    table = table.reset_index()
    return table.sort_values(
        ["method", "scenario", "mean_final_mean"], ascending=[True, True, False], ignore_index=True
    )


def markdown(ranked: pd.DataFrame, published: pd.DataFrame) -> str:
    """Return a Markdown table a method, with a column a scenario and variants in the order of the last scenario."""
    cells = ranked.assign(
        text=[estimate(row.mean_final_mean, row.mean_final_sem, row.n) for row in ranked.itertuples()]
    )
    blocks = []
    for method, own in cells.groupby("method"):
        grid = own.pivot(index="variant", columns="scenario", values="text").fillna("–")
        order = own[own["scenario"] == grid.columns[-1]]["variant"]
        grid = grid.reindex([*order, *grid.index.difference(order)])
        paper = published[published["method"] == method].set_index("scenario")["mean"]
        rows = [list(row) for row in grid.itertuples()]
        rows.append(["published", *(f"{paper[s]:.2f}" if s in paper.index else "–" for s in grid.columns)])
        blocks.append(markdown_rows([f"{method}, final accuracy in %", *grid.columns], rows))
    return "\n\n".join(blocks) + "\n"


def draw(runs: pd.DataFrame, published: pd.DataFrame, arguments: argparse.Namespace) -> Figure:
    """Return the figure: a row of panels a method, one a scenario; a row in it a variant, published means as lines."""
    variants = {
        method: [name for name in arguments.variants if name in set(own["variant"])]
        for method, own in runs.groupby("method")
    }
    columns = [sorted(own["scenario"].unique()) for _, own in runs.groupby("method")]
    heights = [len(names) for names in variants.values()]
    figure = Figure(
        figsize=(style.TEXT_WIDTH, 0.5 + 0.4 * len(variants) + final.ROW_HEIGHT * sum(heights)), layout="constrained"
    )
    rows = figure.subfigures(
        len(variants), 1, squeeze=False, height_ratios=[0.4 + final.ROW_HEIGHT * n for n in heights]
    )
    for (method, names), scenarios, row in zip(variants.items(), columns, rows[:, 0], strict=True):
        for scenario, ax in zip(scenarios, row.subplots(1, len(scenarios), squeeze=False)[0], strict=True):
            own = runs[(runs["method"] == method) & (runs["scenario"] == scenario)]
            paper = published[(published["method"] == method) & (published["scenario"] == scenario)]
            final.draw_panel(ax, own.assign(method=own["variant"]), paper.assign(method="published"), names)
            style.set_accuracy_axis(ax, np.concatenate([own["mean_final"], paper["mean"]]))
            for value in paper["mean"]:
                ax.axvline(value, color="0.15", linewidth=0.8, linestyle=":", zorder=1)
            ax.set_title(f"{method}, {scenario}")
            ax.set_yticks(range(len(names)), names if scenario == scenarios[0] else [])
            ax.set_xlabel("Final accuracy (%)")
    style.add_note(
        figure,
        f"{', '.join(arguments.titles)}; n: number of seeds. Dots: seeds; bars: mean and SEM; dotted line: published.",
    )
    return figure


if __name__ == "__main__":
    main()
