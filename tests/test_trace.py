"""Every number of a table leads back to its runs, their records and a command that repeats them."""

import os
import re
import secrets
import shlex
import statistics
import subprocess
import sys
from functools import cache

import pytest
import yaml

import trace_cell
from conftest import REPOSITORY, SETTINGS
from hnetcl import data, records
from hnetcl.spec import load_experiment
from test_records import make_record

SCRIPTS = REPOSITORY / "workflow" / "scripts"
REDRAWN = {
    "extends": "tiny",
    "title": "Tiny, redrawn",
    "published_as": "Tiny",
    "methods": ["fine_tune"],
    "changes": {"sequence.assignment": "per_seed"},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A directory with a configuration of its own: an experiment, and one that stands in for its fine-tuning."""
    (tmp_path / "config" / "experiments").mkdir(parents=True)
    (tmp_path / "results" / "cached").mkdir(parents=True)
    collection = {"title": "Mine", "experiments": ["tiny", "redrawn"], "seeds_per_job": 1}
    config = yaml.safe_load((REPOSITORY / "config" / "config.yaml").read_text())
    config["collections"] = {"table1": collection, "alone": collection | {"experiments": ["tiny"]}}
    for path, content in (
        ("config.yaml", config),
        ("experiments/tiny.yaml", SETTINGS),
        ("experiments/redrawn.yaml", REDRAWN),
    ):
        (tmp_path / "config" / path).write_text(yaml.safe_dump(content))
    (tmp_path / "config" / "reference.csv").write_bytes((REPOSITORY / "config" / "reference.csv").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_run(name, method, training, seed, final, code):
    """The record of a run as the training script would write it for the configuration as it is now."""
    spec = load_experiment(f"config/experiments/{name}.yaml").spec(method, training, seed)
    record = make_record(scenarios=spec.scenarios, final=final)
    record |= {"spec": spec.as_dict(), "spec_hash": spec.hash}
    record["provenance"] |= {"code_version": code}
    return record


def write_runs(made, path="results/cached/runs.csv"):
    records.write_table(records.runs_table(made), path)


def trace(capsys, method="None (fine-tune)", scenario="CL2", **options):
    """What the script prints, as the command line would make it."""
    options = {"experiment": "Tiny", "method": method, "scenario": scenario} | options
    sys.argv = ["trace_cell.py", *(part for key, value in options.items() for part in (f"--{key}", str(value)))]
    trace_cell.main()
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def arguments_of_this_process(monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))


def test_a_cell_names_its_runs_with_mean_and_spread(project, capsys):
    finals = {seed: 50 + secrets.randbelow(4000) / 100 for seed in (3, 5, 8)}
    codes = {seed: secrets.token_hex(6) for seed in finals}
    made = [make_run("tiny", "fine_tune", "cl2", seed, final, codes[seed]) for seed, final in finals.items()]
    others = [
        make_run("tiny", "joint", "cl2", 3, 99.0, "of_another_cell"),
        make_run("tiny", "fine_tune", "cl1", 3, 98.0, "of_another_cell"),
    ]
    write_runs(made + others)
    text = trace(capsys)
    sem = statistics.stdev(finals.values()) / len(finals) ** 0.5
    assert f"{statistics.mean(finals.values()):.2f} ± {sem:.2f} (n=3)" in text
    for record in made:
        seed = record["spec"]["seed"]
        (line,) = (line for line in text.splitlines() if codes[seed] in line)
        shown = line.split()
        for value in (
            str(seed),
            f"{finals[seed]:.2f}",
            record["spec_hash"],
            "2.13.0",
            "cpu",
            "2020-04-26T12:00:00+00:00",
        ):
            assert value in shown
    assert "of_another_cell" not in text
    assert "3 of 3 runs have the specification that is configured now" in text
    assert "SHA-256 0012" in text
    assert "results/runs/tiny/fine_tune/cl2/seed-3.json" in text


@pytest.mark.parametrize(
    "device, name, precision",
    [
        ("NVIDIA H200 (TF32)", "cuda", "tf32"),
        ("cpu (bf16)", "cpu", "bf16"),
        ("cpu (bf16 allowed)", "cpu", "bf16"),
    ],
)
def test_a_run_is_repeated_with_the_seeds_and_the_precision_that_it_was_trained_with(
    project, capsys, device, name, precision
):
    made = [make_run("tiny", "fine_tune", "cl2", seed, 60.0, "code") for seed in (3, 5, 8)]
    for record in made[:2]:
        record["timing"] |= {"training_seconds": 12.25, "seeds_in_pack": 2}
        record["provenance"]["device"] = device
    write_runs(made)
    target, command = trace(capsys).splitlines()[-2:]
    assert f"results/packs/tiny/fine_tune/cl2/seeds-3-5.txt --config device={name} " in target
    assert target.endswith(f" matmul_precision={precision}")
    assert " --seeds 3 5 --dataset " in command and command.endswith(f" --matmul-precision {precision}")
    # Where a seed of the pack is not at hand, nobody knows with which others it was trained.
    write_runs([made[0], made[2]])
    target, command = trace(capsys).splitlines()[-2:]
    assert "results/runs/tiny/fine_tune/cl2/seed-3.json" in target and " --seeds 3 --dataset " in command


@pytest.mark.parametrize(("key", "value"), [("device", "NVIDIA H200"), ("threads", 7)])
def test_no_command_is_said_to_repeat_a_run_that_went_on_on_another_device_or_threads(project, capsys, key, value):
    made = [make_run("tiny", "fine_tune", "cl2", seed, 60.0, "code") for seed in (3, 8)]
    for record, repeated in zip(made, ("--seeds 8 --dataset", "no one command repeats that"), strict=True):
        record["provenance"]["earlier"] = [{**record["provenance"], key: value}]
        write_runs(made)
        text = trace(capsys)
        assert f"{value}, then {record['provenance'][key]}" in text
        assert repeated in text.splitlines()[-1]


def test_runs_that_stand_in_for_published_ones_are_named_where_the_table_shows_them(project, capsys):
    write_runs(
        [
            make_run("tiny", "fine_tune", "cl2", 1, 60.0, "fixed"),
            make_run("redrawn", "fine_tune", "cl2", 1, 70.0, "drawn"),
        ]
    )
    text = trace(capsys)
    assert "70.00 (n=1)" in text and "drawn" in text and "results/runs/redrawn/" in text
    assert "fixed" not in text
    text = trace(capsys, collection="alone")
    assert "60.00 (n=1)" in text and "fixed" in text and "results/runs/tiny/" in text
    assert "drawn" not in text


def test_runs_of_other_settings_than_now_are_told_apart(project, capsys):
    write_runs([make_run("tiny", "fine_tune", "cl2", seed, 60.0, f"code{seed}") for seed in (1, 2)])
    path = project / "config" / "experiments" / "tiny.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.01", "learning_rate: 0.02"))
    text = trace(capsys)
    assert "0 of 2 runs have the specification" in text and "need the configuration of their code version" in text
    settings = yaml.safe_load(path.read_text())
    del settings["methods"]["fine_tune"]
    path.write_text(yaml.safe_dump(settings))
    (project / "config" / "experiments" / "redrawn.yaml").write_text(yaml.safe_dump(REDRAWN | {"methods": ["joint"]}))
    text = trace(capsys)
    assert (
        "0 of 2 runs have the specification" in text and "To repeat" not in text
    )  # there is nothing to repeat it with


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"experiment": "Big"}, ["experiment = 'Big'", "'Tiny'"]),
        ({"method": "SI"}, ["method = 'SI'", "'None (fine-tune)'", "'Offline (joint)'"]),
        ({"scenario": "CL3"}, ["scenario = 'CL3'", "Tiny, None (fine-tune)", "Allowed: 'CL2'"]),
        ({"collection": "mine"}, ["collection = 'mine'", "alone, table1"]),
        ({"runs": "nowhere.csv"}, ["nowhere.csv"]),
        ({"config": "nowhere.yaml"}, ["nowhere.yaml"]),
    ],
)
def test_a_cell_that_is_not_there_is_answered_with_those_that_are(project, capsys, options, words):
    write_runs([make_run("tiny", method, "cl2", 1, 60.0, "code") for method in ("fine_tune", "joint")])
    with pytest.raises(SystemExit) as error:
        trace(capsys, **options)
    for word in words:
        assert word in str(error.value)


def test_every_cell_of_table_1_is_traced_to_as_many_runs_as_the_table_says(monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(trace_cell, "read_runs", cache(trace_cell.read_runs))  # once is enough
    table = re.search(
        r"<!-- begin table1 -->(.*)<!-- end table1 -->", (REPOSITORY / "README.md").read_text(), re.DOTALL
    )
    experiment, traced = None, 0
    for line in table[1].splitlines():
        if title := re.fullmatch(r"\*\*(.*)\*\*", line):
            experiment = title[1]
        method, *cells = (cell.strip() for cell in line.strip("| ").split(" | "))
        for scenario, cell in zip(("CL1", "CL2", "CL3"), cells, strict=False):
            if number := re.search(r"\(n=(\d+)\)<br>paper", cell):
                text = trace(capsys, method, scenario, experiment=experiment)
                assert text.splitlines()[1:4] == cell.split("<br>")
                n = number[1]
                assert f"{n} of {n} runs have the specification that is configured now" in text
                traced += 1
    assert traced >= 43


def test_the_printed_command_repeats_the_run_bit_for_bit_and_tracing_needs_no_torch(project, dataset):
    (project / "results" / "datasets").mkdir()
    data.save(dataset, "results/datasets/digits.npz")
    (project / "without").mkdir()
    (project / "without" / "torch.py").write_text("raise ImportError('torch is not to be imported')\n")

    def run(script, *arguments, **environment):
        command = [sys.executable, SCRIPTS / script, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    folder, seed = "results/runs/tiny/fine_tune/cl2", secrets.randbelow(1000)
    run(
        "train_run.py",
        *("--experiment", "config/experiments/tiny.yaml", "--method", "fine_tune", "--training", "cl2"),
        *("--seeds", seed, "--dataset", "results/datasets/digits.npz", "--records", folder, "--checkpoints", "."),
    )
    original = records.read_record(f"{folder}/seed-{seed}.json")
    write_runs([original])
    cell = ("--experiment", "Tiny", "--method", "None (fine-tune)", "--scenario", "CL2")
    text = run("trace_cell.py", *cell, PYTHONPATH="without")
    assert re.search(rf"^ *{seed} .* yes$", text, re.MULTILINE)  # its record is here
    _, script, *arguments = shlex.split(text.splitlines()[-1].split(" && ")[1])
    assert script == "workflow/scripts/train_run.py"
    run("train_run.py", *arguments)
    repeated = records.read_record(f"results/repeated/tiny/fine_tune/cl2/seed-{seed}.json")
    assert repeated["scenarios"] == original["scenarios"]
