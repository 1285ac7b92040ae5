"""Set what the authors' own code reaches here beside our runs and the published values.

    python workflow/scripts/compare_peers.py --peers results/cached/hypercl_accuracy.csv \\
        --runs results/cached/runs.csv --reference config/reference.csv --experiment SplitMNIST \\
        --csv results/tables/peers.csv --markdown results/tables/peers.md

--peers is written by peers/hypercl_accuracy.py. Verdicts are by the rule of Table 1, with the mean of the authors' code
in the place of the published one.
"""

import argparse

import pandas as pd

from hnetcl.catalogue import METHODS
from hnetcl.files import written_whole
from hnetcl.records import in_paper_order, read_runs, write_table
from hnetcl.tables import estimate, judged, markdown_rows
from hnetcl.verdicts import CELL, DEFAULT_MARGIN, FINAL_ACCURACY, compare, read_reference


def main() -> None:
    """Read runs and published values, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", required=True, metavar="CSV", help="accuracies of the authors' code, a row a task")
    parser.add_argument("--runs", required=True, metavar="CSV", help="our runs, a row a run and scenario")
    parser.add_argument("--reference", required=True, metavar="CSV", help="published values")
    parser.add_argument("--experiment", required=True, metavar="TITLE", help="which of ours is the same experiment")
    parser.add_argument("--margin", type=float, default=DEFAULT_MARGIN, help="percentage points that never count")
    parser.add_argument("--csv", required=True, help="written: a row a method and scenario")
    parser.add_argument("--markdown", required=True, help="written: the same as a table")
    arguments = parser.parse_args()
    peers = as_reference(pd.read_csv(arguments.peers), arguments.experiment)
    published = read_reference(arguments.reference).rename(columns={"mean": "published_mean", "sem": "published_sem"})
    table = compare(read_runs(arguments.runs), peers, arguments.margin).merge(
        published[[*CELL, "published_mean", "published_sem"]], on=CELL, how="left"
    )
    names = {"paper_mean": "theirs_mean", "paper_sem": "theirs_sem", "paper_n": "theirs_n"}
    table = in_paper_order(table.rename(columns=names)).drop(columns=["artefact", "tasks"])
    write_table(table, arguments.csv)
    with written_whole(arguments.markdown) as aside:
        aside.write_text(markdown(table, arguments.experiment), encoding="utf-8")


def as_reference(peers: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """Return mean, SEM and n of the seeds' final accuracies, a row a method and scenario, as `read_reference` does."""
    seeds = peers.groupby(["method", "scenario", "seed"], as_index=False)["final"].mean()
    cells = seeds.groupby(["method", "scenario"])["final"].agg(["mean", "sem", "count"]).round(4).reset_index()
    return cells.rename(columns={"count": "n"}).assign(
        method=cells["method"].map({name: entry.label for name, entry in METHODS.items()}),
        experiment=experiment,
        artefact="authors' code",
        metric=FINAL_ACCURACY,
    )


def markdown(table: pd.DataFrame, experiment: str) -> str:
    """Return a row a method and scenario: theirs run here, ours with the verdict, what was published."""
    rows = []
    for cell in table.itertuples():
        theirs = estimate(cell.theirs_mean, cell.theirs_sem, cell.theirs_n)
        ours = "not run"
        if cell.ours_n:
            own = estimate(cell.ours_mean, cell.ours_sem, cell.ours_n)
            ours = f"{own}<br>{judged(cell.verdict, cell.difference)}"
        published = "–" if pd.isna(cell.published_mean) else estimate(cell.published_mean, cell.published_sem)
        rows.append([f"{cell.method}, {cell.scenario}", theirs, ours, published])
    head = [f"{experiment}, final accuracy in %", "authors' code, run here", "ours", "published"]
    return markdown_rows(head, rows) + "\n"


if __name__ == "__main__":
    main()
