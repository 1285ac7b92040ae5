"""Turn the records of many runs into two tidy tables: one row a run and scenario, one row an accuracy.

    python workflow/scripts/collect_runs.py --records results/runs/split_mnist/*/*/seed-*.json \\
        --runs results/tables/runs.csv --accuracy results/tables/accuracy.csv
"""

import argparse

from hnetcl.records import accuracy_table, read_record, runs_table, write_table


def main() -> None:
    """Read the records, write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--records", nargs="+", required=True, metavar="JSON", help="records of training runs"
    )
    parser.add_argument("--runs", required=True, metavar="CSV", help="written: one row a run and scenario")
    parser.add_argument("--accuracy", required=True, metavar="CSV", help="written: one row an accuracy")
    arguments = parser.parse_args()

    records = [read_record(path) for path in arguments.records]
    write_table(runs_table(records), arguments.runs)
    write_table(accuracy_table(records), arguments.accuracy)


if __name__ == "__main__":
    main()
