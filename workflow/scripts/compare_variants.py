"""Rank the variants of an experiment: a table, best first, and a figure in the order of the file.

    python workflow/scripts/compare_variants.py --runs results/tables/entropy_runs.csv \\
        --title "SplitMNIST (validation)" --variants "as released" "500 iterations" \\
        --published config/reference.csv --published-title SplitMNIST \\
        --csv results/tables/entropy.csv --markdown results/tables/entropy.md \\
        --png results/figures/entropy.png --pdf results/figures/entropy.pdf

A variant is an experiment called "TITLE, VARIANT"; where one experiment runs several methods, each is ranked by itself.
"""

import argparse

import pandas as pd
from matplotlib.figure import Figure

import plot_final_accuracy as final
from hnetcl import figure_style as style
from hnetcl.files import written_whole
from hnetcl.records import read_runs, write_table
from hnetcl.tables import estimate, markdown_rows
from hnetcl.verdicts import read_reference


def main() -> None:
    """Read the runs, write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, metavar="CSV", help="one row a run and scenario")
    parser.add_argument("--title", required=True, help="title of the file of variants")
    parser.add_argument("--variants", required=True, nargs="+", help="titles of the variants, in the order to show")
    parser.add_argument("--published", required=True, metavar="CSV", help="published values")
    parser.add_argument("--published-title", required=True, help="experiment whose published values are drawn")
    parser.add_argument("--csv", required=True, help="written: one row a variant, scenario and method")
    parser.add_argument("--markdown", required=True, help="written: the same as a table")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    arguments = parser.parse_args()

    runs = read_runs(arguments.runs)
    runs = runs.assign(variant=runs["experiment"].str.removeprefix(f"{arguments.title}, "))
    runs = runs[(runs["experiment"] != runs["variant"]) & runs["variant"].isin(arguments.variants)]
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
    """Return a Markdown table with a column a scenario, variants in the order of the last scenario."""
    cells = ranked.assign(
        text=[f"{estimate(row.mean_final_mean, row.mean_final_sem)} (n={row.n})" for row in ranked.itertuples()]
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
    """Return the figure: a panel a method and scenario, a row a variant, the published mean as a line."""
    panels = sorted(set(zip(runs["method"], runs["scenario"], strict=True)))
    variants = [name for name in arguments.variants if name in set(runs["variant"])]
    figure = Figure(figsize=(style.TEXT_WIDTH, 0.9 + final.ROW_HEIGHT * len(variants)), layout="constrained")
    for (method, scenario), ax in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        own = runs[(runs["method"] == method) & (runs["scenario"] == scenario)]
        paper = published[(published["method"] == method) & (published["scenario"] == scenario)]
        final.draw_panel(ax, own.assign(method=own["variant"]), paper.assign(method=variants[0]), variants)
        for value in paper["mean"]:
            ax.axvline(value, color="0.15", linewidth=0.8, linestyle=":", zorder=1)
        ax.set_title(f"{method}, {scenario}")
        ax.set_yticks(range(len(variants)), variants if (method, scenario) == panels[0] else [])
        ax.set_xlabel("Final accuracy (%)")
    style.add_note(
        figure,
        f"{arguments.title}; n: number of seeds. Dots: seeds; bars: mean and SEM; dotted line and diamond: published.",
    )
    return figure


if __name__ == "__main__":
    main()
