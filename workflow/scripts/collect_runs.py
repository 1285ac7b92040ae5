"""Turn the records of many runs into two tidy tables: one of runs, one of accuracies.

    python workflow/scripts/collect_runs.py --experiments config/experiments/split_mnist.yaml \\
        --records results/runs --runs results/tables/runs.csv --accuracy results/tables/accuracy.csv

Of a folder, the records that belong to the experiments as they are configured now are taken, the others are named and
left aside. A file that is named itself must belong to them.
"""

import argparse
import sys
from pathlib import Path

from hnetcl.records import accuracy_table, read_record, runs_table, write_accuracy, write_table
from hnetcl.spec import RunSpec, load_experiment


def main() -> None:
    """Read the records, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", nargs="+", metavar="YAML", help="take only runs of these, as they are now")
    parser.add_argument("--records", nargs="+", required=True, help="records of training runs, or folders of them")
    parser.add_argument("--runs", required=True, metavar="CSV", help="written: one row a run and scenario")
    parser.add_argument("--accuracy", required=True, metavar="CSV", help="written: one line a row of their matrices")
    arguments = parser.parse_args()

    specs = expected_specs(arguments.experiments) if arguments.experiments else None
    records = []
    for path in map(Path, arguments.records):
        for file in [path] if path.suffix == ".json" else sorted(path.rglob("seed-*.json")):
            if not file.exists():
                sys.exit(f"collect_runs: record '{file}' is missing: delete results/packs and train again.")
            record = read_record(file)
            if specs is not None:
                spec = specs.get(record["spec_hash"])
                if spec is None and file == path:
                    sys.exit(
                        f"collect_runs: '{file}' is of other settings than configured now: delete it, train again."
                    )
                if spec is None and record["spec"]["experiment"] in {known.experiment for known in specs.values()}:
                    print(f"left aside: {file}, whose settings are not those configured now")
                if spec is None:
                    continue
                record["spec"] |= {"title": spec.title, "label": spec.label}  # names may have changed since
            records.append(record)
    if not records:
        sys.exit(f"collect_runs: no record of a finished run in {', '.join(arguments.records)}.")
    write_table(runs_table(records), arguments.runs)
    write_accuracy(accuracy_table(records), arguments.accuracy)


def expected_specs(files: list[str]) -> dict[str, RunSpec]:
    """Return the specifications of every configured run by their hash."""
    specs = [
        experiment.spec(method, training, seed)
        for experiment in map(load_experiment, files)
        for method, training in experiment.trainings()
        for seed in experiment.seeds
    ]
    return {spec.hash: spec for spec in specs}


if __name__ == "__main__":
    main()
