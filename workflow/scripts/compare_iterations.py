"""Make a table of what an iteration costs by the number of seeds that are trained at once, or by task.

    python workflow/scripts/compare_iterations.py --measured results/cached/benchmark/gpu_packs.csv \\
        --by seeds_in_pack --ratio 20 1 --csv results/tables/gpu_packs.csv --markdown results/tables/gpu_packs.md

A row is a method on a device, its steps recorded or asked for by the host; the tables --measured are those of
measure_iteration_cost.py. A last column has the ratio of two of the others, those that --ratio names.
"""

import argparse

import pandas as pd

from hnetcl.files import written_whole
from hnetcl.records import method_rank, write_table
from hnetcl.tables import markdown_rows

ROW = ["experiment", "method", "device", "steps"]
COUNTED = {"seeds_in_pack": "seeds: {}", "task": "task {}"}


def main() -> None:
    """Read the measurements, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", required=True, nargs="+", metavar="CSV", help="measurements")
    parser.add_argument("--by", required=True, choices=COUNTED, help="what the columns differ in")
    parser.add_argument("--ratio", required=True, nargs=2, type=int, metavar="N", help="columns whose ratio is shown")
    parser.add_argument("--csv", required=True, help="written: one row a method, device and column")
    parser.add_argument("--markdown", required=True, help="written: the same as a table")
    arguments = parser.parse_args()
    table = average(pd.concat(map(pd.read_csv, arguments.measured)), arguments.by)
    write_table(table, arguments.csv)
    with written_whole(arguments.markdown) as aside:
        aside.write_text(markdown(table, arguments.by, *arguments.ratio), encoding="utf-8")


def average(measured: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return milliseconds an iteration for every method, device and value of ``by``, mean over what else differs."""
    table = measured.groupby([*ROW, by], as_index=False)["milliseconds"].mean()
    order = table.assign(rank=table["method"].map(method_rank))
    return order.sort_values(["rank", *ROW, by], ignore_index=True).drop(columns="rank")


def markdown(table: pd.DataFrame, by: str, over: int, under: int) -> str:
    """Return a Markdown table with a column for every value of ``by`` and one for the ratio of two of them."""
    values = sorted(table[by].unique())
    rows = []
    for row, own in table.groupby(ROW, sort=False):
        experiment, method, device, steps = row
        times = own.set_index(by)["milliseconds"]
        cells = [f"{times[value]:.2f}" if value in times else "–" for value in values]
        ratio = f"{times[over] / times[under]:.1f}" if over in times and under in times else "–"
        rows.append([f"{method}, {experiment}", device, steps, *cells, ratio])
    head = ["milliseconds an iteration", "device", "steps", *(COUNTED[by].format(value) for value in values)]
    return markdown_rows([*head, f"{over} over {under}"], rows) + "\n"


if __name__ == "__main__":
    main()
