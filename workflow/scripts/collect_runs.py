"""Turn the records of many runs into two tidy tables: one row a run and scenario, one row an accuracy.

    python workflow/scripts/collect_runs.py --records results/runs/split_mnist \\
        --runs results/tables/runs.csv --accuracy results/tables/accuracy.csv
"""

import argparse
from pathlib import Path

from hnetcl.records import accuracy_table, read_record, runs_table, write_table


def main() -> None:
    """Read the records, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", nargs="+", required=True, help="records of training runs, or folders of them")
    parser.add_argument("--runs", required=True, metavar="CSV", help="written: one row a run and scenario")
    parser.add_argument("--accuracy", required=True, metavar="CSV", help="written: one row an accuracy")
    arguments = parser.parse_args()

    files = [
        file
        for path in map(Path, arguments.records)
        for file in (sorted(path.rglob("seed-*.json")) if path.is_dir() else [path])
    ]
    records = [read_record(file) for file in files]
    write_table(runs_table(records), arguments.runs)
    write_table(accuracy_table(records), arguments.accuracy)


if __name__ == "__main__":
    main()
