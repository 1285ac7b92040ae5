"""Make a table of what an iteration costs by the number of seeds that are trained at once.

    python workflow/scripts/compare_packs.py --packs results/cached/benchmark/gpu_packs.csv \\
        --csv results/tables/gpu_packs.csv --markdown results/tables/gpu_packs.md

A row is a method on a device, its steps recorded or asked for by the host; --packs are tables of
measure_iteration_cost.py.
"""

import argparse

import pandas as pd

from hnetcl.files import written_whole
from hnetcl.records import method_rank, write_table
from hnetcl.tables import markdown_rows

ROW = ["experiment", "method", "device", "steps"]


def main() -> None:
    """Read the measurements, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", required=True, nargs="+", metavar="CSV", help="measurements")
    parser.add_argument("--csv", required=True, help="written: one row a method, device and size of pack")
    parser.add_argument("--markdown", required=True, help="written: the same as a table, sizes side by side")
    arguments = parser.parse_args()
    table = by_pack(pd.concat(map(pd.read_csv, arguments.packs)))
    write_table(table, arguments.csv)
    with written_whole(arguments.markdown) as aside:
        aside.write_text(markdown(table), encoding="utf-8")


def by_pack(measured: pd.DataFrame) -> pd.DataFrame:
    """Return milliseconds an iteration, mean over the tasks measured, and how much that is of one seed's alone."""
    table = measured.groupby([*ROW, "seeds_in_pack"], as_index=False)["milliseconds"].mean()
    alone = table[table["seeds_in_pack"] == 1].set_index(ROW)["milliseconds"]
    over = table["milliseconds"] / alone.reindex(pd.MultiIndex.from_frame(table[ROW])).to_numpy()
    table = table.assign(over_one_seed=over.round(2), rank=table["method"].map(method_rank))
    return table.sort_values(["experiment", "rank", "device", "steps", "seeds_in_pack"], ignore_index=True).drop(
        columns="rank"
    )


def markdown(table: pd.DataFrame) -> str:
    """Return a Markdown table with a column a size of pack; a last one says how much most seeds are of one."""
    sizes = sorted(table["seeds_in_pack"].unique())
    rows = []
    for (experiment, method, device, steps), own in table.groupby(ROW, sort=False):
        by_size = own.set_index("seeds_in_pack")
        cells = [f"{by_size['milliseconds'][size]:.2f}" if size in by_size.index else "–" for size in sizes]
        ratio = by_size["over_one_seed"].get(sizes[-1], float("nan"))
        rows.append([f"{method}, {experiment}", device, steps, *cells, "–" if pd.isna(ratio) else f"{ratio:.1f}"])
    head = ["milliseconds an iteration", "device", "steps"]
    counted = [f"{size} seed{'s' if size > 1 else ''}" for size in sizes]
    return markdown_rows([*head, *counted, f"{sizes[-1]} over 1"], rows) + "\n"


if __name__ == "__main__":
    main()
