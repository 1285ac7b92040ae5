"""Draw accuracy against a number that the variants of an experiment differ in. A table and a figure.

    python workflow/scripts/compare_values.py --runs results/cached/runs.csv --title "PermutedMNIST-10 (beta)" \\
        --values "PermutedMNIST-10 (beta), 0.1=0.1" "PermutedMNIST-10 (beta), 1=1.0" --name beta \\
        --csv results/tables/beta.csv --markdown results/tables/beta.md \\
        --png results/figures/beta_values.png --pdf results/figures/beta_values.pdf

Without --values the number is what the runs themselves hold: trained numbers over target weights, called ratio.
"""

import argparse
import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from hnetcl import figure_style as style
from hnetcl.files import written_whole
from hnetcl.records import method_rank, read_runs, write_table
from hnetcl.tables import estimate, markdown_rows
from hnetcl.verdicts import titled

MEASURES = {"during": ("right after each task", "--"), "final": ("after the last task", "-")}


def main() -> None:
    """Read the runs, write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, metavar="CSV", help="one row a run and scenario")
    parser.add_argument("--title", required=True, help="title of the file of variants")
    parser.add_argument(
        "--values", nargs="*", type=titled(float, "NUMBER"), default=[], metavar="TITLE=NUMBER", help="of each variant"
    )
    parser.add_argument("--name", default="ratio", help="what the number is called")
    parser.add_argument("--csv", required=True, help="written: one row a run")
    parser.add_argument("--markdown", required=True, help="written: means as a table")
    parser.add_argument("--png", required=True, help="written: the figure, 300 dpi")
    parser.add_argument("--pdf", required=True, help="written: the figure as vectors")
    arguments = parser.parse_args()

    table = by_value(read_runs(arguments.runs), arguments.title, dict(arguments.values), arguments.name)
    write_table(table, arguments.csv)
    with written_whole(arguments.markdown) as aside:
        aside.write_text(markdown(table, arguments.name), encoding="utf-8")
    with style.figure_style():
        style.save_figure(draw(table, arguments.title, arguments.name), arguments.png, arguments.pdf)


def by_value(runs: pd.DataFrame, title: str, values: dict[str, float], name: str) -> pd.DataFrame:
    """Return one row a run of the variants of ``title``: the number (column ``name``), during and final accuracy.

    ``values`` has the number of each variant by its title; without it the number is the runs' compression.
    """
    own = runs[runs["experiment"].isin(values) if values else runs["experiment"].str.startswith(f"{title}, ")]
    if own.empty:
        raise ValueError(f"no run of a variant of '{title}'. Allowed: at least one run.")
    number = own["experiment"].map(values) if values else own["compression"]
    table = own.assign(**{name: number, "during": own["mean_during"], "final": own["mean_final"]})
    columns = [name, "method", "scenario", "seed", "during", "final"]
    return table[columns].sort_values(["method", "scenario", name, "seed"], ignore_index=True)


def markdown(table: pd.DataFrame, name: str) -> str:
    """Return a Markdown table with a row a number, mean ± SEM over seeds."""
    head = [name, "Method", "n", *(f"{measure} accuracy in %" for measure in MEASURES)]
    rows = []
    for (method, scenario, value), own in table.groupby(["method", "scenario", name]):
        cells = [estimate(own[measure].mean(), own[measure].sem()) for measure in MEASURES]
        number = np.format_float_positional(value, precision=4, fractional=False, trim="-")
        rows.append([number, f"{method}, {scenario}", str(len(own)), *cells])
    return markdown_rows(head, rows) + "\n"


def draw(table: pd.DataFrame, title: str, name: str) -> Figure:
    """Return the figure: during and final accuracy against the number, which has a logarithmic axis."""
    figure = Figure(figsize=(0.65 * style.TEXT_WIDTH, 2.4), layout="constrained")
    ax = figure.subplots()
    for (method, scenario), own in sorted(table.groupby(["method", "scenario"]), key=lambda i: method_rank(i[0][0])):
        colour = style.method_colour(method)
        for measure, (when, line) in MEASURES.items():
            seeds = own.groupby(name)[measure]
            ax.errorbar(
                seeds.mean().index,
                seeds.mean(),
                yerr=seeds.sem().fillna(0),
                color=colour,
                linestyle=line,
                marker="o",
                markersize=2.5,
                linewidth=1,
                label=f"{method}, {scenario}, {when}",
            )
    ax.set_xscale("log")
    decades = np.ptp(np.log10(table[name]))
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("")
    label = "Trained numbers / weights of the target network" if name == "ratio" else name
    ax.set(xlabel=label, ylabel="Test accuracy (%)", title=textwrap.fill(title, 50))
    ax.legend(loc="best")
    counts = table.groupby([name, "method", "scenario"])["seed"].nunique()
    n = f"{counts.min()}" if counts.nunique() == 1 else f"{counts.min()} to {counts.max()}"
    style.add_note(figure, f"Mean over all tasks; mean and SEM over seeds, n={n} a point.")
    return figure


if __name__ == "__main__":
    main()
