"""Records survive a round trip, bad ones are named, and the tidy tables hold what the records say."""

import copy
import json
import math
import random
from itertools import product

import numpy as np
import pandas as pd
import pytest

from hnetcl import records

NAN = math.nan


def make_record(title="SplitMNIST", label="HNET+ENT", seed=0, scenarios=("cl1", "cl3"), tasks=3, final=None):
    """Return a valid record of random accuracies; with ``final``, every task ends at that many percent."""
    draw = random.Random(f"{title} {label} {seed} {scenarios} {tasks}")

    def matrix(above_diagonal):
        rows = [
            [draw.uniform(20, 100) if above_diagonal or j <= i else None for j in range(tasks)] for i in range(tasks)
        ]
        return rows if final is None else [*rows[:-1], [final] * tasks]

    return {
        "schema": 1,
        "spec": {
            "experiment": title.lower(),
            "title": title,
            "method": label.lower(),
            "label": label,
            "training": "-".join(scenarios),
            "seed": seed,
            "beta": 0.05,
        },
        "spec_hash": "12e5",
        "scenarios": {
            name: {
                "accuracy": matrix(above_diagonal=name == "cl1"),
                "initial": [50.0 if name == "cl1" else None] * tasks,
                "task_inference": None if name == "cl1" else matrix(above_diagonal=False),
                "parameters": {"trainable": 469_000, "target": 478_410, "compression": 469_000 / 478_410},
            }
            for name in scenarios
        },
        "timing": {
            "training_seconds": 100.5,
            "evaluation_seconds": 3.2,
            "iterations_per_second": 80.1,
            "peak_memory_mb": None,
        },
        "provenance": {
            "code_version": "1234567",
            "python": "3.11.4",
            "torch": "2.13.0",
            "numpy": "2.4.0",
            "device": "cpu",
            "processor": "AMD EPYC",
            "threads": 2,
            "dataset": {"name": "mnist", "sha256": "0012"},
            "finished": "2020-04-26T12:00:00+00:00",
        },
    }


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = make_record()
    records.write_record(tmp_path / "seed-0.json", record)
    assert records.read_record(tmp_path / "seed-0.json") == record


def test_no_byte_of_a_record_may_be_missing(tmp_path):
    whole, part = tmp_path / "seed-0.json", tmp_path / "part.json"
    records.write_record(whole, make_record())
    content = whole.read_bytes().rstrip()
    for length in random.Random(0).sample(range(len(content)), 30):
        part.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"part\.json.*truncated.*Allowed"):
            records.read_record(part)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("scenarios.cl1.accuracy.0.1", 101.5, ["scenarios.cl1.accuracy[0][1]", "101.5", "0 to 100"]),
        ("scenarios.cl1.accuracy.0.1", "high", ["scenarios.cl1.accuracy[0][1]", "high", "percentage"]),
        ("scenarios.cl3.task_inference.2.2", -1, ["scenarios.cl3.task_inference[2][2]", "-1", "0 to 100"]),
        ("scenarios.cl3.initial", [50.0], ["scenarios.cl3.initial", "1", "3 in every direction"]),
        ("scenarios.cl1.accuracy.1", [1.0, 2.0], ["scenarios.cl1.accuracy", "2", "3 in every direction"]),
        ("scenarios.cl4", {}, ["scenarios", "cl4", "cl1, cl2, cl3"]),
        ("scenarios", {}, ["scenarios", "{}", "at least one"]),
        ("spec.seed", -3, ["spec.seed", "-3", "from 0 up"]),
        ("spec.seed", 1.5, ["spec.seed", "1.5", "whole number"]),
        ("timing.training_seconds", NAN, ["timing.training_seconds", "nan", "from 0 up"]),
        ("timing.training_seconds", math.inf, ["timing.training_seconds", "inf", "from 0 up"]),
        ("scenarios.cl3.parameters.trainble", 3, ["scenarios.cl3.parameters", "trainble", "sizes of the networks"]),
        ("provenance.finished", "yesterday", ["provenance.finished", "yesterday", "ISO 8601"]),
        ("schema", 2, ["schema", "2", "number 1"]),
        ("spec_hash", "xyz", ["spec_hash", "xyz", "hexadecimal"]),
    ],
)
def test_a_bad_value_is_named_with_file_key_value_and_what_is_allowed(tmp_path, key, value, named):
    record = make_record()
    *parents, last = (int(part) if part.isdigit() else part for part in key.split("."))
    place = record
    for parent in parents:
        place = place[parent]
    place[last] = value
    path = tmp_path / "seed-0.json"

    with pytest.raises(ValueError, match=r"seed-0\.json") as on_writing:
        records.write_record(path, record)
    assert not path.exists()
    path.write_text(json.dumps(record))  # NaN and infinity become the tokens that Python's reader accepts
    with pytest.raises(ValueError, match=r"seed-0\.json") as on_reading:
        records.read_record(path)

    for error, what in product((on_writing, on_reading), [*named, "Allowed"]):
        assert what in str(error.value)


@pytest.mark.parametrize("key", ["spec_hash", "scenarios", "timing", "provenance", "spec"])
def test_a_missing_section_is_named(tmp_path, key):
    record = make_record()
    del record[key]
    with pytest.raises(ValueError, match=f"seed-0.json.*'{key}' is a required property"):
        records.write_record(tmp_path / "seed-0.json", record)


def test_sizes_are_those_of_the_scenario_and_in_older_records_of_the_training(tmp_path):
    record = make_record(scenarios=("cl1", "cl2"))
    record["scenarios"]["cl2"]["parameters"] = {"trainable": 30, "target": 20, "compression": 1.5}
    table = records.runs_table([record]).set_index("scenario")
    assert table["target_parameters"].to_dict() == {"CL1": 478_410, "CL2": 20}
    assert table["trainable_parameters"].to_dict() == {"CL1": 469_000, "CL2": 30}
    assert table["compression"].to_dict() == {"CL1": 0.9803, "CL2": 1.5}
    older = make_record()
    for result in older["scenarios"].values():
        older["parameters"] = result.pop("parameters")
    records.write_record(tmp_path / "seed-0.json", older)
    assert records.runs_table([older])["target_parameters"].tolist() == [478_410, 478_410]
    del older["parameters"]
    with pytest.raises(ValueError, match=r"seed-0.json.*'scenarios.cl1.parameters' is missing"):
        records.write_record(tmp_path / "seed-0.json", older)


def test_a_runs_row_holds_the_measures_of_its_scenario():
    record = make_record(scenarios=("cl1",), tasks=2)
    record["scenarios"]["cl1"] |= {
        "accuracy": [[98.0, 51.0], [70.0, 97.123456]],
        "initial": [48.0, 49.5],
        "task_inference": [[100.0, None], [80.0, 60.0]],
    }
    (row,) = records.runs_table([record]).to_dict("records")
    expected = {
        "experiment": "SplitMNIST",
        "method": "HNET+ENT",
        "scenario": "CL1",
        "seed": 0,
        "mean_final": 83.5617,
        "mean_during": 97.5617,
        "forgetting": 28.0,
        "forward_transfer": 1.5,
        "backward_transfer": -28.0,
        "task_inference_final": 70.0,
        "task_inference_during": 80.0,
        "compression": 0.9803,
        "spec_hash": "12e5",
        "code_version": "1234567",
        "device": "cpu",
        "processor": "AMD EPYC",
        "dataset_sha256": "0012",
    }
    assert {key: row[key] for key in expected} == expected
    assert math.isnan(row["peak_memory_mb"])


def test_a_run_that_was_stopped_and_finished_elsewhere_names_all_that_trained_it(tmp_path):
    record = make_record()
    last = record["provenance"]
    earlier = {key: last[key] for key in ("code_version", "torch", "device", "processor", "threads")}
    record["provenance"] |= {"earlier": [earlier | {"code_version": "abc"}], "device": "some GPU", "threads": 4}
    records.write_record(tmp_path / "seed-0.json", record)
    row = records.runs_table([records.read_record(tmp_path / "seed-0.json")]).iloc[0]
    assert row["code_version"] == f"abc, then {last['code_version']}"
    assert row["device"] == f"{earlier['device']}, then some GPU"
    assert row["threads"] == "2, then 4"
    assert row["torch"] == last["torch"]


def test_a_record_older_than_the_name_of_the_processor_has_an_empty_field(tmp_path):
    named, older = make_record(seed=1), make_record(seed=2)
    del older["provenance"]["processor"]
    for record in (named, older):
        records.write_record(tmp_path / "record.json", record)
        assert records.read_record(tmp_path / "record.json") == record
    records.write_table(records.runs_table([named, older]), tmp_path / "runs.csv")
    found = records.read_runs(tmp_path / "runs.csv").groupby("seed")["processor"].first()
    assert found[1] == "AMD EPYC"
    assert math.isnan(found[2])


def test_the_accuracy_table_holds_every_measured_entry_and_no_other():
    everything = [make_record(seed=seed, label=label) for seed in (3, 1) for label in ("SI", "HNET+ENT")]
    expected = {}
    for record in everything:
        for name, result in record["scenarios"].items():
            for after, row in enumerate([result["initial"], *result["accuracy"]]):
                for task, accuracy in enumerate(row, start=1):
                    if accuracy is not None:
                        inferred = result["task_inference"] if after else None
                        key = (record["spec"]["label"], name.upper(), record["spec"]["seed"], after, task)
                        expected[key] = accuracy, inferred[after - 1][task - 1] if inferred else NAN

    table = records.accuracy_table(everything)
    found = {
        (r.method, r.scenario, r.seed, r.after_task, r.task): (r.accuracy, r.task_inference) for r in table.itertuples()
    }
    assert len(table) == len(found)
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(found[key], values, atol=5.1e-5)


def test_the_order_of_the_records_does_not_matter():
    everything = [
        make_record(title, label, seed)
        for title in ("SplitMNIST", "PermutedMNIST-10")
        for label in ("Offline (joint)", "my method", "HNET+ENT", "None (fine-tune)", "SI", "HNET+R")
        for seed in (10, 9)
    ]
    shuffled = random.Random(1).sample(everything, len(everything))
    for table in (records.runs_table, records.accuracy_table):
        pd.testing.assert_frame_equal(table(everything), table(shuffled))
    runs = records.runs_table(shuffled).query("experiment == 'SplitMNIST' and scenario == 'CL1'")
    assert list(runs["seed"]) == [9, 10] * 6
    assert list(runs["method"].unique()) == [
        "HNET+ENT",
        "HNET+R",
        "SI",
        "my method",
        "None (fine-tune)",
        "Offline (joint)",
    ]


def test_a_seed_cannot_count_twice():
    with pytest.raises(ValueError, match=r"SplitMNIST.*HNET\+ENT.*CL1.*7"):
        records.runs_table([make_record(seed=7), make_record(seed=7)])


@pytest.mark.parametrize("count", [0, 1, 4])
def test_tables_survive_a_csv(tmp_path, count):
    # pandas would read this label as missing and the digest of make_record as a number.
    everything = [make_record(label="None", seed=seed) for seed in range(count)]
    for make, write, read in (
        (records.runs_table, records.write_table, records.read_runs),
        (records.accuracy_table, records.write_accuracy, records.read_accuracy),
    ):
        table = make(everything)
        write(table, tmp_path / "table.csv")
        pd.testing.assert_frame_equal(read(tmp_path / "table.csv"), table)


def test_gaps_in_accuracy_matrices_survive_a_csv_of_a_row_for_each_task_learned(tmp_path):
    record = make_record(tasks=4)
    record["scenarios"]["cl1"]["accuracy"][2] = [None, 55.5, None, 60.25]
    record["scenarios"]["cl3"]["task_inference"][3][1] = None
    table = records.accuracy_table([record])
    records.write_accuracy(table, tmp_path / "table.csv")
    pd.testing.assert_frame_equal(records.read_accuracy(tmp_path / "table.csv"), table)
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert len(lines) == 1 + 5 + 4  # of CL1 from before any task on, of CL3, which has nothing there
    assert "nan 55.5 nan 60.25" in lines[4]


def test_a_table_of_something_else_is_refused(tmp_path):
    records.write_accuracy(records.accuracy_table([make_record()]), tmp_path / "table.csv")
    with pytest.raises(ValueError, match=r"table\.csv.*Allowed.*mean_final"):
        records.read_runs(tmp_path / "table.csv")


def test_fresh_runs_replace_their_like_and_keep_the_others():
    def tables(seeds, final):
        everything = [make_record(seed=seed, final=final) for seed in seeds]
        return records.runs_table(everything), records.accuracy_table(everything)

    for cached, fresh in zip(tables([0, 1, 2], 90.0), tables([2, 3], 80.0), strict=True):
        merged = records.replace_runs(cached, fresh)
        expected = pd.concat([cached[cached["seed"] < 2], fresh])
        pd.testing.assert_frame_equal(merged, records.in_paper_order(expected))
        pd.testing.assert_frame_equal(records.replace_runs(cached[:0], fresh), fresh)
        pd.testing.assert_frame_equal(records.replace_runs(cached, fresh[:0]), cached)


def test_a_record_is_left_as_it_was():
    record = make_record()
    before = copy.deepcopy(record)
    records.runs_table([record])
    records.accuracy_table([record])
    assert record == before


@pytest.mark.parametrize(
    ("what", "section", "key", "value"),
    [("settings", "spec", "beta", 0.5), ("data", "provenance", "dataset", {"sha256": "1"})],
)
def test_runs_of_different_settings_or_data_are_not_averaged(what, section, key, value):
    one, other = make_record(seed=1), make_record(seed=2)
    other[section][key] = value
    with pytest.raises(ValueError, match=rf"SplitMNIST HNET\+ENT CL1 mixes runs of different {what}"):
        records.runs_table([one, other])
    with pytest.raises(ValueError, match="mixes runs"):
        records.replace_runs(records.runs_table([one]), records.runs_table([other]))
