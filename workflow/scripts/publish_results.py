"""Merge freshly computed tidy tables into the cached ones that ship with the repository.

A fresh run replaces the cached run of the same experiment, method, scenario and seed; all others are kept.
The verdicts are then made anew from the merged runs.

    python workflow/scripts/publish_results.py --runs results/tables/runs.csv \\
        --accuracy results/tables/accuracy.csv --cached results/cached \\
        --reference config/reference.csv --margin 0.5
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from hnetcl import records
from hnetcl.verdicts import DEFAULT_MARGIN, add_published_as, as_published, compare, read_reference


def main() -> None:
    """Merge the tables, write them and the verdicts, and say what has changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", required=True, metavar="CSV", help="fresh tables of runs")
    parser.add_argument("--accuracy", nargs="+", required=True, metavar="CSV", help="fresh tables of accuracies")
    parser.add_argument("--cached", required=True, type=Path, metavar="DIR", help="folder of the cached tables")
    parser.add_argument("--reference", required=True, metavar="CSV", help="published values")
    parser.add_argument("--margin", type=float, default=DEFAULT_MARGIN, help="percentage points that never count")
    add_published_as(parser)
    arguments = parser.parse_args()

    fresh_runs = pd.concat(map(records.read_runs, arguments.runs))
    fresh_accuracy = pd.concat(map(records.read_accuracy, arguments.accuracy))
    fresh = keys(fresh_runs)
    if fresh_runs.duplicated(records.RUN_KEY).any() or fresh != keys(fresh_accuracy):
        parser.error("every run must stand once in the tables of --runs, and the same runs in those of --accuracy")

    runs_file, accuracy_file = arguments.cached / "runs.csv", arguments.cached / "accuracy.csv"
    cached_runs = records.read_runs(runs_file) if runs_file.exists() else fresh_runs[:0]
    cached_accuracy = records.read_accuracy(accuracy_file) if accuracy_file.exists() else fresh_accuracy[:0]
    runs = records.replace_runs(cached_runs, fresh_runs)
    records.write_table(runs, runs_file)
    records.write_accuracy(records.replace_runs(cached_accuracy, fresh_accuracy), accuracy_file)
    published = as_published(runs, dict(arguments.published_as))
    verdicts = compare(published, read_reference(arguments.reference), arguments.margin)
    records.write_table(verdicts, arguments.cached / "verdicts.csv")

    cached = keys(cached_runs)
    for change, those in (("added", fresh - cached), ("replaced", fresh & cached), ("kept", cached - fresh)):
        print(f"{change}: {len(those)} runs")
        print(*by_cell(those), sep="\n", end="\n" if those else "")
    print("verdicts:", ", ".join(f"{n} {v}" for v, n in sorted(verdicts["verdict"].value_counts().items())))


def keys(table: pd.DataFrame) -> set[tuple]:
    """Return the runs that a tidy table holds."""
    return set(table[records.RUN_KEY].itertuples(index=False, name=None))


def by_cell(runs: Iterable[tuple]) -> list[str]:
    """Return one line for each cell of ``runs``, with its seeds."""
    seeds = defaultdict(list)
    for *cell, seed in sorted(runs):
        seeds[" ".join(cell)].append(str(seed))
    return [f"  {cell}: seeds {', '.join(numbers)}" for cell, numbers in seeds.items()]


if __name__ == "__main__":
    main()
