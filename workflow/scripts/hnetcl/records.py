"""Records of training runs (one JSON file each) and the two tidy tables made of many of them.

``config/schemas/record.schema.yaml`` describes every key of a record. A training may serve several scenarios:
a record gives one row of the ``runs`` table for each of them, and one row of the ``accuracy`` table for each
measured entry of their accuracy matrices. All accuracies are percentages.
"""

import json
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import yaml

from hnetcl import measures
from hnetcl.catalogue import labels
from hnetcl.files import written_whole
from hnetcl.spec import SCHEMAS, StrictValidator, specification_hash

Record = Mapping[str, Any]

SCHEMA_FILE = SCHEMAS / "record.schema.yaml"

RUN_KEY = ["experiment", "method", "scenario", "seed"]
_KEY_TYPES = {"experiment": "str", "method": "str", "scenario": "str", "seed": "int64"}

# Types are stated because a CSV has none: a digest such as 12e5 must not come back as a number.
RUN_COLUMNS = _KEY_TYPES | {
    "mean_final": "float64",
    "mean_during": "float64",
    "forgetting": "float64",
    "forward_transfer": "float64",
    "backward_transfer": "float64",
    "task_inference_final": "float64",
    "task_inference_during": "float64",
    "trainable_parameters": "int64",
    "target_parameters": "int64",
    "compression": "float64",
    "iterations_per_second": "float64",
    "training_seconds": "float64",
    "evaluation_seconds": "float64",
    "peak_memory_mb": "float64",
    "seeds_in_pack": "int64",
    "threads": "str",
    "settings_hash": "str",
    "spec_hash": "str",
    "code_version": "str",
    "torch": "str",
    "device": "str",
    "processor": "str",  # empty for runs older than this column
    "dataset_sha256": "str",
    "finished": "str",
}
ACCURACY_COLUMNS = _KEY_TYPES | {
    "after_task": "int64",
    "task": "int64",
    "accuracy": "float64",
    "task_inference": "float64",
}

# Stands between what a run was trained with before a stop and after it.
THEN = ", then "

# In a file a row holds all tasks, from the first on, separated by blanks: a third of the size.
_PACKED_COLUMNS = _KEY_TYPES | {"after_task": "int64", "accuracy": "str", "task_inference": "str"}

HNET_METHODS, BASELINES, BOUNDS = map(labels, ("hypernetwork", "baseline", "bound"))


def write_record(path: str | Path, record: Record) -> None:
    """Write ``record`` to ``path`` as JSON, one line a section, after the checks of `read_record`."""
    _check(path, record)
    sections = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in record.items()]
    with written_whole(path) as aside:
        aside.write_text("{\n" + ",\n".join(sections) + "\n}\n", encoding="utf-8")


def read_record(path: str | Path) -> dict[str, Any]:
    """Read a record; ``ValueError`` names the file, the key, its value and what is allowed."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # malformed JSON or bytes that are no text
        raise ValueError(
            f"{path}: truncated or not JSON ({error}). Allowed: a whole record as the training script "
            "writes it; delete the file and train the run again."
        ) from error
    _check(path, record)
    return record


def runs_table(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row for each run and scenario, with the columns `RUN_COLUMNS`.

    Two records of one experiment, method, scenario and seed are a ``ValueError``: the seed would count twice.
    """
    rows = [
        _run_row(record, scenario, result) for record in records for scenario, result in record["scenarios"].items()
    ]
    twice = [key for key, count in Counter(tuple(row[k] for k in RUN_KEY) for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"more than one record of {twice}. Allowed: one for each {', '.join(RUN_KEY)}.")
    runs = in_paper_order(_typed(rows, RUN_COLUMNS))
    _require_one_setting(runs)
    return runs


def _require_one_setting(runs: pd.DataFrame) -> None:
    """Raise ``ValueError`` where seeds trained with different settings or on different data would be averaged."""
    for column, what in (("settings_hash", "settings"), ("dataset_sha256", "data")):
        for key, group in runs.groupby(RUN_KEY[:-1]):
            if group[column].nunique() > 1:
                found = "; ".join(f"{h}: seeds {sorted(g['seed'])}" for h, g in group.groupby(column))
                raise ValueError(
                    f"{' '.join(key)} mixes runs of different {what} ({found}). Allowed: the same in a cell; retrain "
                    "or remove the others, or give the changed experiment a name and a title of its own."
                )


def accuracy_table(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row for each measured entry of the accuracy matrices, with the columns `ACCURACY_COLUMNS`.

    Tasks are counted from 1 here; ``after_task`` 0 is the accuracy before any training.
    """
    rows = [
        row
        for record in records
        for scenario, result in record["scenarios"].items()
        for row in _accuracy_rows(record, scenario, result)
    ]
    return in_paper_order(_typed(rows, ACCURACY_COLUMNS))


def read_runs(path: str | Path) -> pd.DataFrame:
    """Read a table that was made by `runs_table`."""
    return _read_table(path, RUN_COLUMNS)


def read_accuracy(path: str | Path) -> pd.DataFrame:
    """Read a table that was made by `accuracy_table` and written by `write_accuracy`."""
    packed = _read_table(path, _PACKED_COLUMNS)
    accuracy, inferred = (packed[name].str.split() for name in ("accuracy", "task_inference"))
    inferred = [part if isinstance(part, list) else ["nan"] * len(accuracy[row]) for row, part in inferred.items()]
    rows = packed.assign(accuracy=accuracy, task_inference=inferred).explode(["accuracy", "task_inference"])
    rows["task"] = rows.groupby(level=0).cumcount() + 1
    return _typed(rows, ACCURACY_COLUMNS).dropna(subset="accuracy").reset_index(drop=True)


def write_accuracy(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table of `accuracy_table` as CSV, one row for each run, scenario and ``after_task``."""
    rows: dict[tuple, dict[int, tuple[float, float]]] = {}
    for *key, task, accuracy, inferred in table[list(ACCURACY_COLUMNS)].itertuples(index=False, name=None):
        rows.setdefault(tuple(key), {})[task] = accuracy, inferred
    packed = []
    for key, by_task in rows.items():
        every = zip(*(by_task.get(task, (np.nan, np.nan)) for task in range(1, max(by_task) + 1)), strict=True)
        packed.append([*key, *(None if np.isnan(part).all() else " ".join(map(str, part)) for part in every)])
    write_table(pd.DataFrame(packed, columns=list(_PACKED_COLUMNS)), path)


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write ``frame`` to ``path`` as CSV; what is missing is empty."""
    with written_whole(path) as aside:
        frame.to_csv(aside, index=False, lineterminator="\n")


def replace_runs(cached: pd.DataFrame, fresh: pd.DataFrame) -> pd.DataFrame:
    """Return ``fresh`` and those rows of ``cached`` that belong to none of its runs (see `RUN_KEY`)."""
    fresh_keys = pd.MultiIndex.from_frame(fresh[RUN_KEY])
    kept = cached[~pd.MultiIndex.from_frame(cached[RUN_KEY]).isin(fresh_keys)]
    # An empty table has no types of its own to give.
    merged = in_paper_order(pd.concat([part for part in (kept, fresh) if len(part)] or [fresh]))
    if "settings_hash" in merged:
        _require_one_setting(merged)
    return merged


def of_variants(frame: pd.DataFrame, titles: Iterable[str], variants: Iterable[str]) -> pd.DataFrame:
    """Return the rows of the experiments "TITLE, VARIANT", with their parts as columns ``family`` and ``variant``."""
    parts = {f"{title}, {variant}": (title, variant) for title, variant in product(titles, variants)}
    own = frame[frame["experiment"].isin(parts)]
    found = own["experiment"].map(parts)
    return own.assign(family=found.str[0], variant=found.str[1])


def in_paper_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``frame`` sorted by experiment, method (see `method_rank`) and its further keys, renumbered."""
    keys = [key for key in ("experiment", "method", "scenario", "seed", "after_task", "task") if key in frame.columns]
    return frame.sort_values(
        keys, key=lambda column: column.map(method_rank) if column.name == "method" else column
    ).reset_index(drop=True)


def method_rank(method: str) -> tuple[int, str]:
    """Return a sort key: hypernetworks, then baselines, then unknown methods by name, and last the bounds."""
    known = (*HNET_METHODS, *BASELINES)
    if method in BOUNDS:
        return len(known) + 1 + BOUNDS.index(method), method
    return (known.index(method) if method in known else len(known)), method


@cache
def _validator() -> jsonschema.protocols.Validator:
    return StrictValidator(yaml.safe_load(SCHEMA_FILE.read_text(encoding="utf-8")))


def _check(path: str | Path, record: Record) -> None:
    error = jsonschema.exceptions.best_match(_validator().iter_errors(record))
    if error is not None:
        raise ValueError(
            f"{path}: key '{error.json_path.removeprefix('$').lstrip('.') or 'record'}' has the value "
            f"{reprlib.repr(error.instance)}: {_shortened(error.message)}. "
            f"Allowed: {error.schema['description'].rstrip('.')}."
        )
    for scenario, result in record["scenarios"].items():
        tasks = len(result["accuracy"])
        if "parameters" not in {**record, **result}:
            raise ValueError(
                f"{path}: key 'scenarios.{scenario}.parameters' is missing. Allowed: sizes of the networks."
            )
        for name, part in result.items():
            if name == "parameters":
                continue
            lengths = [len(part or [])] + [len(row) for row in part or [] if isinstance(row, list)]
            if part is not None and set(lengths) != {tasks}:
                raise ValueError(
                    f"{path}: key 'scenarios.{scenario}.{name}' has lengths {reprlib.repr(lengths)}. "
                    f"Allowed: {tasks} in every direction, as many as the accuracy matrix has rows."
                )


def _shortened(text: str, length: int = 200) -> str:
    return text if len(text) <= length else f"{text[: length // 2]} ... {text[-length // 2 :]}"


def _run_key(record: Record, scenario: str) -> dict[str, Any]:
    spec = record["spec"]
    return {
        "experiment": spec["title"],
        "method": spec["label"],
        "scenario": scenario.upper(),
        "seed": spec["seed"],
    }


def _run_row(record: Record, scenario: str, result: Mapping[str, Any]) -> dict[str, Any]:
    accuracy, initial, inference = (_matrix(result, key) for key in ("accuracy", "initial", "task_inference"))
    accuracies = {
        "mean_final": measures.mean_final(accuracy),
        "mean_during": measures.mean_during(accuracy),
        "forgetting": measures.forgetting(accuracy),
        "forward_transfer": measures.forward_transfer(accuracy, initial),
        "backward_transfer": measures.backward_transfer(accuracy),
        "task_inference_final": measures.mean_final(inference),
        "task_inference_during": measures.mean_during(inference),
    }
    timing, provenance = record["timing"], record["provenance"]
    parameters = result.get("parameters") or record["parameters"]
    return (
        _run_key(record, scenario)
        | {name: round(value, 4) for name, value in accuracies.items()}
        | {
            "trainable_parameters": parameters["trainable"],
            "target_parameters": parameters["target"],
            "compression": round(parameters["compression"], 4),
            **{
                key: timing[key]
                for key in ("iterations_per_second", "training_seconds", "evaluation_seconds", "peak_memory_mb")
            },
            "seeds_in_pack": timing.get("seeds_in_pack", 1),
            # Runs of one table cell must agree in all but the seed.
            "settings_hash": specification_hash(record["spec"], without=("seed",)),
            "spec_hash": record["spec_hash"],
            **{key: _in_order(provenance, key) for key in ("code_version", "torch", "device", "processor", "threads")},
            "finished": provenance["finished"],
            "dataset_sha256": provenance["dataset"]["sha256"],
        }
    )


def _in_order(provenance: Mapping[str, Any], key: str) -> str | None:
    """Return what a run was trained with, one after the other where a stop came between; None where it is not known."""
    values = [process.get(key) for process in (*provenance.get("earlier", []), provenance)]
    return THEN.join(dict.fromkeys(map(str, filter(None, values)))) or None


def _accuracy_rows(record: Record, scenario: str, result: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    accuracy = np.vstack([_matrix(result, "initial"), _matrix(result, "accuracy")])
    inference = np.vstack([np.full(accuracy.shape[1], np.nan), _matrix(result, "task_inference")])
    for after_task, task in np.argwhere(~np.isnan(accuracy)):
        yield _run_key(record, scenario) | {
            "after_task": after_task,
            "task": task + 1,
            "accuracy": round(accuracy[after_task, task], 4),
            "task_inference": round(inference[after_task, task], 4),
        }


def _matrix(result: Mapping[str, Any], key: str) -> np.ndarray:
    """Return a part of a scenario's result as numbers, NaN for null; a missing matrix is all NaN."""
    if result[key] is None:
        return np.full_like(_matrix(result, "accuracy"), np.nan)
    return np.array(result[key], dtype=float)


def _typed(rows: list[dict[str, Any]] | pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).astype(dict(columns))


def _read_table(path: str | Path, columns: Mapping[str, str]) -> pd.DataFrame:
    # Only an empty field is missing: pandas would also read a method called "None" as missing. Its fast way of reading
    # numbers may change the last digit.
    frame = pd.read_csv(path, dtype=dict(columns), keep_default_na=False, na_values=[""], float_precision="round_trip")
    if list(frame.columns) != list(columns):
        raise ValueError(f"{path}: the columns are {list(frame.columns)}. Allowed: {list(columns)}.")
    return frame
