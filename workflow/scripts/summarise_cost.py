"""Say what tables and figures cost: time on a CPU core and on a GPU, from what the cached runs were measured to take.

    python workflow/scripts/summarise_cost.py --config config/config.yaml --runs results/cached/runs.csv \\
        --csv results/tables/cost.csv --markdown results/tables/cost.md

A training counts with the least time that any seed of its kind took, its share of a pack's: other work on the machine
lengthens the rest. A collection counts with all of its trainings and seeds, whatever of them has been run.
"""

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import yaml

from hnetcl.catalogue import METHODS
from hnetcl.files import written_whole
from hnetcl.records import read_runs, write_table
from hnetcl.spec import Experiment, load_experiments, trainings_of, validate
from hnetcl.tables import markdown_rows

PROCESSORS = {"cpu": "CPU, one core", "gpu": "GPU"}
COLUMNS = [
    "collection",
    "title",
    "least_seeds",
    "most_seeds",
    "trainings",
    *(f"{p}_{what}" for p in PROCESSORS for what in ("measured", "hours")),
]


def main() -> None:
    """Read configuration and runs, write the table twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, metavar="YAML", help="configuration that names the collections")
    parser.add_argument("--experiments", default="config/experiments", metavar="DIR", help="folder of their files")
    parser.add_argument("--runs", required=True, metavar="CSV", help="one row a run and scenario")
    parser.add_argument("--csv", required=True, help="written: one row a collection")
    parser.add_argument("--markdown", required=True, help="written: one seed of each method, then every collection")
    arguments = parser.parse_args()
    with open(arguments.config) as file:
        config = yaml.safe_load(file)
    validate(config, "config", arguments.config)
    runs = read_runs(arguments.runs)
    measured = seconds_of_seeds(runs)
    collections = {
        name: list(load_experiments(arguments.experiments, collection["experiments"]).values())
        for name, collection in config["collections"].items()
        if name != "demo"  # whose results are never cached
    }
    titles = {name: collection["title"] for name, collection in config["collections"].items()}
    table = cost_of_collections(collections, titles, runs, measured)
    write_table(table, arguments.csv)
    with written_whole(arguments.markdown) as aside:
        aside.write_text(markdown(cost_of_seeds(collections["table1"], measured), table), encoding="utf-8")


def seconds_of_seeds(runs: pd.DataFrame) -> pd.Series:
    """Return the least seconds that training and testing one seed took, by experiment, method, scenario, processor.

    Runs on a CPU at a reduced precision, or on one device or number of threads after another, are nobody's time.
    """
    times = (runs["training_seconds"] + runs["evaluation_seconds"]) / runs["seeds_in_pack"]
    # A core's time: a training on two threads took two cores.
    on_cpu = runs["device"] == "cpu"
    times = times.where(~on_cpu, times * pd.to_numeric(runs["threads"], errors="coerce"))
    processor = runs["device"].map(lambda device: None if "cpu" in device else "gpu").mask(on_cpu, "cpu")
    return times.groupby([runs["experiment"], runs["method"], runs["scenario"], processor.rename("processor")]).min()


def seconds_of(experiment: Experiment, method: str, training: str, measured: pd.Series, processor: str) -> float:
    """Return what one seed of a training took; NaN where it was never measured.

    The same training on other digit pairs or permutations, for which ``experiment`` stands in, takes as long.
    """
    scenario = training.split("-")[0].upper()
    keys = [(t, METHODS[method].label, scenario, processor) for t in (experiment.title, experiment.published_as)]
    return measured.reindex(keys).min()


def cost_of_seeds(experiments: Iterable[Experiment], measured: pd.Series) -> pd.DataFrame:
    """Return the hours on a CPU core of one seed in all scenarios, a row a method and a column a sequence."""
    rows = [
        (METHODS[method].label, e.published_as or e.title, seconds_of(e, method, training, measured, "cpu") / 3600)
        for e, method, training in trainings_of(experiments)
    ]
    hours = pd.DataFrame(rows, columns=["method", "experiment", "hours"])
    summed = hours.groupby(["method", "experiment"], sort=False)["hours"].agg(lambda part: part.sum(skipna=False))
    return summed.unstack("experiment")


def cost_of_collections(
    collections: Mapping[str, Iterable[Experiment]], titles: Mapping[str, str], runs: pd.DataFrame, measured: pd.Series
) -> pd.DataFrame:
    """Return one row a collection: seeds run, trainings of one seed in full, how many were measured, hours of those.

    Of the seeds the least and the most that any training of the collection was run with.
    """
    run = runs.groupby(["experiment", "method", "scenario"])["seed"].nunique()
    rows = []
    for name, experiments in collections.items():
        row: dict[str, Any] = {"collection": name, "title": titles[name], "trainings": 0}
        row |= {f"{processor}_{what}": 0 for processor in PROCESSORS for what in ("measured", "hours")}
        seeds_run = []
        for experiment, method, training in trainings_of(experiments):
            scenario = training.split("-")[0].upper()
            seeds_run.append(run.get((experiment.title, METHODS[method].label, scenario), 0))
            seeds = len(experiment.seeds)
            row["trainings"] += seeds
            for processor in PROCESSORS:
                seconds = seconds_of(experiment, method, training, measured, processor)
                if pd.notna(seconds):
                    row[f"{processor}_measured"] += seeds
                    row[f"{processor}_hours"] += seeds * seconds / 3600
        rows.append(row | {"least_seeds": min(seeds_run), "most_seeds": max(seeds_run)})
    return pd.DataFrame(rows, columns=COLUMNS)


def markdown(seeds: pd.DataFrame, collections: pd.DataFrame) -> str:
    """Return both tables as Markdown."""
    processors = ["cpu", *(["gpu"] if collections["gpu_measured"].any() else [])]
    of_seeds = markdown_rows(
        ["One seed of Table 1, all scenarios", *seeds.columns],
        [[method, *map(duration, hours)] for method, *hours in seeds.itertuples()],
    )
    rows = [
        [
            f"`{row.collection}`",
            row.title,
            _seeds(row),
            str(row.trainings),
            *(_cell(row, processor) for processor in processors),
        ]
        for row in collections.itertuples()
    ]
    head = [
        "Collection",
        "Table or figure",
        "Seeds run",
        "Trainings in full",
        *(PROCESSORS[processor] for processor in processors),
    ]
    return f"{of_seeds}\n\n{markdown_rows(head, rows)}\n"


def _seeds(row: Any) -> str:
    if not row.most_seeds:
        return "–"
    return f"{row.least_seeds} to {row.most_seeds}" if row.least_seeds < row.most_seeds else f"{row.most_seeds}"


def _cell(row: Any, processor: str) -> str:
    measured, hours = getattr(row, f"{processor}_measured"), getattr(row, f"{processor}_hours")
    if not measured:
        return "not measured"
    return duration(hours) if measured == row.trainings else f"{duration(hours)} for {measured} of them"


def duration(hours: float) -> str:
    """Return a time in minutes or hours; not measured where it is NaN."""
    if pd.isna(hours):
        return "not measured"
    return f"{hours:.0f} h" if hours >= 10 else f"{hours:.1f} h" if hours >= 1.5 else f"{60 * hours:.1f} min"


if __name__ == "__main__":
    main()
