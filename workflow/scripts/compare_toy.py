"""Set the errors of the one-dimensional regression beside the published ones.

    python workflow/scripts/compare_toy.py --errors results/cached/toy.csv --reference config/reference.csv \\
        --csv results/tables/toy_verdicts.csv --markdown results/tables/toy.md
"""

import argparse

import pandas as pd

from hnetcl.files import written_whole
from hnetcl.records import write_table
from hnetcl.toy_table import compare, read_errors, read_published


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--errors", required=True, metavar="CSV", help="written by train_toy.py")
    parser.add_argument("--reference", required=True, metavar="CSV", help="published values")
    parser.add_argument("--csv", required=True, help="written: one row a method, time and task")
    parser.add_argument("--markdown", required=True, help="written: the same as a table")
    arguments = parser.parse_args()
    table = compare(read_errors(arguments.errors), read_published(arguments.reference))
    write_table(table, arguments.csv)
    with written_whole(arguments.markdown) as aside:
        aside.write_text(markdown(table))


def markdown(table: pd.DataFrame) -> str:
    """Return a row a method and time, a column a task: median, the authors' value, verdict."""

    def cell(row: pd.Series) -> str:
        published = "" if pd.isna(row["published"]) else f"<br>authors' code {row['published']:.2g}<br>{row['verdict']}"
        return f"{row['median']:.2g} ({row['lower_quartile']:.2g} to {row['upper_quartile']:.2g}){published}"

    cells = table.assign(cell=table.apply(cell, axis=1)).pivot_table(
        "cell", ["method", "when"], "task", aggfunc="first", sort=False
    )
    cells.columns = [f"task {task}" for task in cells.columns]
    n = "/".join(map(str, sorted(table["n"].unique())))
    return (
        cells.reset_index().rename(columns={"method": "Mean squared error", "when": ""}).to_markdown(index=False)
        + f"\n\nMedian over n={n} seeds and quartiles. During: right after the task. Authors' code: the error of one "
        "seed, as their repository states it. Reproduced: within a factor of two of that; lower is better.\n"
    )


if __name__ == "__main__":
    main()
