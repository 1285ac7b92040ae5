"""Print the runs behind one number of a table, where their records are, and the commands that repeat one of them.

    python workflow/scripts/trace_cell.py --experiment SplitMNIST --method SI --scenario CL3

Titles are those of the tables. What stands in a cell depends on the collection, since experiments can stand in for
published cells of others (see ``published_as``); it is table1 unless said otherwise.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
import yaml

from hnetcl.records import THEN, read_record, read_runs
from hnetcl.spec import ConfigurationError, Experiment, RunSpec, load_experiments, validate
from hnetcl.tables import build_table
from hnetcl.verdicts import as_published, compare, read_reference, summarise


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True, metavar="TITLE", help="title as in the table, e.g. SplitMNIST")
    parser.add_argument("--method", required=True, metavar="LABEL", help="name as in the table, e.g. SI")
    parser.add_argument("--scenario", required=True, help="CL1, CL2 or CL3")
    parser.add_argument("--collection", default="table1", help="the table's name in the configuration: %(default)s")
    parser.add_argument("--config", default="config/config.yaml", type=Path, metavar="YAML", help="%(default)s")
    parser.add_argument("--runs", default="results/cached/runs.csv", type=Path, metavar="CSV", help="%(default)s")
    parser.add_argument("--reference", default="config/reference.csv", type=Path, metavar="CSV", help="%(default)s")
    parser.add_argument("--records", default="results/runs", type=Path, metavar="FOLDER", help="%(default)s")
    arguments = parser.parse_args()
    try:
        config = yaml.safe_load(arguments.config.read_text())
        validate(config, "config", arguments.config)
        title, experiments = collection(config, arguments)
        runs = runs_of_cell(experiments, arguments)
        print(f"{arguments.experiment}, {arguments.method}, {arguments.scenario} in: {title}")
        print(*cell_lines(runs, config["verdict_margin"], arguments), sep="\n", end="\n\n")
        print(account(runs, experiments, arguments.records))
    except (ConfigurationError, OSError, ValueError) as error:
        sys.exit(f"trace_cell: {error}")


def collection(config: dict, arguments: argparse.Namespace) -> tuple[str, dict[str, Experiment]]:
    """Return the title of a collection and its experiments by their own titles."""
    collections, folder = config["collections"], arguments.config.parent / "experiments"
    if arguments.collection not in collections:
        raise ValueError(f"collection = '{arguments.collection}' is not allowed. Allowed: {', '.join(collections)}.")
    chosen = collections[arguments.collection]
    experiments = load_experiments(folder, chosen["experiments"])
    return chosen["title"], {experiment.title: experiment for experiment in experiments.values()}


def runs_of_cell(experiments: dict[str, Experiment], arguments: argparse.Namespace) -> pd.DataFrame:
    """Return the runs of the cell, ``own_title`` the experiment that each was trained as; at least one."""
    runs = read_runs(arguments.runs)
    runs = runs[runs["experiment"].isin(list(experiments))]
    stand_ins = {title: e.published_as for title, e in experiments.items() if e.published_as}
    runs = as_published(runs.assign(own_title=runs["experiment"]), stand_ins)
    found = [f"'{arguments.runs}'", f"'{arguments.collection}'"]
    for key in ("experiment", "method", "scenario"):
        wanted, known = getattr(arguments, key), list(runs[key].unique())
        if wanted not in known:
            raise ValueError(
                f"{key} = '{wanted}' has no run in {', '.join(found)}. "
                f"Allowed: {', '.join(map(repr, known)) or 'nothing, there is no run at all'}."
            )
        runs = runs[runs[key] == wanted]
        found.append(wanted)
    return runs


def cell_lines(runs: pd.DataFrame, margin: float, arguments: argparse.Namespace) -> list[str]:
    """Return the lines of the cell, made as the table makes them."""
    reference = read_reference(arguments.reference)
    reference = reference[reference["experiment"] == arguments.experiment]
    verdicts = compare(runs, reference, margin)
    (grid,) = build_table(summarise(runs), verdicts, reference, [arguments.experiment], "", margin).grids
    return grid.cells.loc[arguments.method, arguments.scenario]


def account(runs: pd.DataFrame, experiments: dict[str, Experiment], records: Path) -> str:
    """Return the runs as a table, then what to know of their settings, records and data, and how to repeat one."""
    specs = [configured_spec(experiments[run.own_title], run) for run in runs.itertuples()]
    paths = [records / spec.folder / spec.record_name if spec else None for spec in specs]
    rows = [
        {
            "seed": run.seed,
            "final %": f"{run.mean_final:.2f}",
            "code": run.code_version,
            "torch": run.torch,
            "device": run.device,
            "threads": run.threads,
            "seeds at once": run.seeds_in_pack,
            "processor": run.processor if pd.notna(run.processor) else "not known",
            "dataset": run.dataset_sha256[:12],
            "specification": run.spec_hash,
            "is that of now": "yes" if spec and spec.hash == run.spec_hash else "no",
            "training": f"{run.training_seconds:.0f} s",
            "finished": run.finished,
            "record here": "yes" if path and is_record_of(path, run) else "no",
        }
        for run, spec, path in zip(runs.itertuples(), specs, paths, strict=True)
    ]
    lines = [pd.DataFrame(rows).to_string(index=False), ""]
    folders = dict.fromkeys(str(path.with_name("seed-SEED.json")) for path in paths if path)
    lines += [f"Record: {folder}" for folder in folders]
    lines += [f"Dataset: SHA-256 {checksum}" for checksum in runs["dataset_sha256"].unique()]
    same = sum(row["is that of now"] == "yes" for row in rows)
    lines.append(f"Settings: {same} of {len(rows)} runs have the specification that is configured now.")
    if same < len(rows):
        lines.append("The others need the configuration of their code version (git checkout) to be repeated.")
    if specs[0]:
        lines.append(
            "On the same processor the same code repeats a run bit for bit, given as many threads and the same seeds "
            "at once; elsewhere, and on a GPU, rounding differs."
        )
        whole = [
            (run, spec)
            for run, spec in zip(runs.itertuples(), specs, strict=True)
            if spec and THEN not in run.device + run.threads
        ]
        if not whole:
            lines.append("After a stop they went on on another device or threads: no one command repeats that.")
        else:
            run, spec = whole[0]
            pack = pack_of(run, runs)
            seeds = " ".join(map(str, pack))
            lines += ["", f"To repeat seed {seeds}, in one way or the other:", *commands(spec, run, pack)]
    return "\n".join(lines)


def configured_spec(experiment: Experiment, run: tuple) -> RunSpec | None:
    """Return the specification that the configuration gives ``run`` now, None where it has no such training."""
    for method, training in experiment.trainings():
        spec = experiment.spec(method, training, run.seed)
        if spec.label == run.method and run.scenario.lower() in spec.scenarios:
            return spec
    return None


def is_record_of(path: Path, run: tuple) -> bool:
    """Whether the file is the record that ``run`` was read from."""
    if not path.exists():
        return False
    record = read_record(path)
    return (record["spec_hash"], record["provenance"]["finished"]) == (run.spec_hash, run.finished)


def pack_of(run: tuple, runs: pd.DataFrame) -> list[int]:
    """Return the seeds that were trained at once with ``run``, itself alone where they are not all in ``runs``.

    They are those with the same time, to the last digit: it is the pack's.
    """
    seeds = runs.loc[runs["training_seconds"] == run.training_seconds, "seed"].tolist()
    return seeds if len(seeds) == run.seeds_in_pack else [run.seed]


def commands(spec: RunSpec, run: tuple, pack: list[int]) -> list[str]:
    """Return a target of Snakemake and the training script's own command, which leaves the workflow's record alone."""
    dataset = f"results/datasets/{spec.dataset}.npz"
    device = "cpu" if run.device.startswith("cpu") else "cuda"
    precision = next((p for name, p in {"(TF32)": "tf32", "(bf16": "bf16"}.items() if name in run.device), None)
    target = f"results/runs/{spec.folder}/{spec.record_name}"
    if len(pack) > 1:
        target = f"results/packs/{spec.folder}/seeds-{'-'.join(map(str, pack))}.txt"
    repeated = f"results/repeated/{spec.folder}"
    return [
        f"  snakemake --cores {run.threads} {target} --config device={device} train_threads={run.threads}"
        + (f" matmul_precision={precision}" if precision else ""),
        f"  snakemake --cores 1 {dataset} && python workflow/scripts/train_run.py"
        f" --experiment config/experiments/{spec.experiment}.yaml --method {spec.method} --training {spec.training}"
        f" --seeds {' '.join(map(str, pack))} --dataset {dataset} --records {repeated} --checkpoints {repeated}"
        f" --device {device} --threads {run.threads}" + (f" --matmul-precision {precision}" if precision else ""),
    ]


if __name__ == "__main__":
    main()
