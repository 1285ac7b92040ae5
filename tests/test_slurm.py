"""SLURM: what jobs ask for with either profile, and a collection that runs through a real cluster of one node."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from conftest import REPOSITORY, SETTINGS, copy_repository, snakemake
from hnetcl.records import read_record

ONE_NODE = REPOSITORY / "tests" / "slurm" / "one_node.sh"
BELONGS_TO_A_CLUSTER = 77  # exit status of one_node.sh
PROGRAMS = ["slurmctld", "slurmd", "sbatch", "munged"]
GPU_REQUESTS = {"slurm": {"gpu": "1"}, "slurm-gres": {"gpu": "0", "gres": "gpu:1"}}


# ---- what jobs ask for; no SLURM is needed ------------------------------------------------------------------------


def profile_settings(profile):
    return yaml.safe_load((REPOSITORY / "profiles" / profile / "config.yaml").read_text())


def rules_for_gpus():
    """Rules that use a GPU where device is cuda."""
    rules = "".join(path.read_text() for path in (REPOSITORY / "workflow" / "rules").glob("*.smk"))
    return {
        re.match(r"\w+", rule)[0] for rule in re.split(r"^rule ", rules, flags=re.MULTILINE) if "\n        gpu=" in rule
    }


@pytest.mark.parametrize("profile", GPU_REQUESTS)
def test_every_rule_that_can_use_a_gpu_asks_for_one(profile):
    requests = profile_settings(profile)["set-resources"]
    assert requests.keys() == rules_for_gpus()
    for rule, request in requests.items():
        assert {name: str(value) for name, value in request.items()} == GPU_REQUESTS[profile], rule


def test_the_profiles_differ_in_how_they_ask_for_gpus_and_in_nothing_else():
    gpus, gres = (profile_settings(profile) for profile in GPU_REQUESTS)
    assert gpus | {"set-resources": gres["set-resources"]} == gres


@pytest.mark.workflow
@pytest.mark.parametrize("profile", GPU_REQUESTS)
def test_planned_jobs_ask_for_time_and_memory_and_trainings_for_a_gpu(clone, profile):
    for path in (clone / "workflow" / "rules").glob(
        "*.smk"
    ):  # Snakemake shows a message instead of what a job asks for
        path.write_text(re.sub(r"\n    message:\n        .*", "", path.read_text()))
    code, output = snakemake(clone, "-n", "--workflow-profile", f"profiles/{profile}", "demo")
    assert code == 0, output
    jobs = re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)\n", output, flags=re.MULTILINE)
    assert {"train_pack", "sample_replay", "measure_landscape", "make_table"} < {rule for rule, _ in jobs}
    for rule, resources in jobs:
        asked = dict(resource.split("=") for resource in resources.split(", "))
        if rule != "demo":
            assert int(asked["runtime"]) >= 15  # whole minutes
            assert int(asked["mem_mb"]) >= 2000
        if rule in rules_for_gpus():
            assert GPU_REQUESTS[profile].items() <= asked.items()
        else:
            assert not {"gpu", "gres"} & asked.keys()


# ---- a cluster of one node -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    """The folder of a running cluster with two pretended GPUs; nothing of it is left in the end."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if os.geteuid() != 0 or missing:
        why = f"{', '.join(missing)} not found" if missing else "this is not root"
        pytest.skip(
            f"{why}: a SLURM cluster of one node needs root and Debian's packages slurmctld, slurmd, slurm-client and "
            "munge (.ci/run installs them)"
        )
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # not tmp_path, which is too long for a socket
    try:
        started = subprocess.run([ONE_NODE, "start", folder], stderr=subprocess.PIPE, text=True)
        if started.returncode == BELONGS_TO_A_CLUSTER:
            pytest.skip(started.stderr.strip())
        assert started.returncode == 0, started.stderr
        yield folder
    finally:
        subprocess.run([ONE_NODE, "stop", folder], check=True)
        shutil.rmtree(folder)


def write_experiment(folder, name, method, seeds=(1,), **optimisation):
    settings = SETTINGS | {
        "title": name,
        "seeds": list(seeds),
        "optimisation": SETTINGS["optimisation"] | optimisation,
        "methods": {method: SETTINGS["methods"][method] | {"scenarios": ["cl1"]}},
    }
    (folder / "config" / "experiments" / f"{name}.yaml").write_text(yaml.safe_dump(settings))


def configure(folder):
    """Make the demo a collection of a quick experiment and a slow one; a third experiment diverges."""
    write_experiment(folder, "quick", "fine_tune", seeds=[1, 2])
    write_experiment(folder, "slow", "hnet_ent", iterations=4000)
    write_experiment(folder, "diverging", "fine_tune", learning_rate=1e30)
    path = folder / "config" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["collections"]["demo"] |= {"experiments": ["quick", "slow"], "seeds_per_job": 1}
    del config["collections"]["demo"]["samples_of"]  # no replay
    config["collections"]["other"] = config["collections"]["demo"] | {"experiments": ["diverging"]}
    path.write_text(yaml.safe_dump(config | {"checkpoint_seconds": 0.5}))
    path = folder / "profiles" / "slurm" / "config.yaml"
    profile = yaml.safe_load(path.read_text())
    # SLURM's shortest limit for the slow one, then twice that.
    profile["set-resources"]["train_run"]["runtime"] = "attempt if wildcards.experiment == 'slow' else 15"
    profile |= {"latency-wait": 5, "slurm-init-seconds-before-status-checks": 3}  # this file system answers at once
    path.write_text(yaml.safe_dump(profile))


def slurm_jobs():
    """Every job of the cluster, finished ones included, as scontrol describes it."""
    listed = subprocess.run(["scontrol", "show", "jobs", "--oneliner"], capture_output=True, text=True, check=True)
    jobs = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in listed.stdout.splitlines()]
    return [job for job in jobs if "JobId" in job]


@pytest.fixture(scope="module")
def submitted(cluster, tmp_path_factory):
    """What a collection left that was submitted to the cluster, one of its trainings cut off by its time limit."""
    folder = copy_repository(tmp_path_factory.mktemp("slurm") / "clone")
    configure(folder)
    targets = ["results/tables/demo.md", "results/runs/diverging/fine_tune/cl1/seed-1.json"]
    checkpoint = folder / "results" / "checkpoints" / "slow" / "hnet_ent" / "cl1" / "seed-1.pt"
    with ThreadPoolExecutor(1) as background:
        run = background.submit(snakemake, folder, "--workflow-profile", "profiles/slurm", *targets)
        while not (checkpoint.exists() or run.done()):
            time.sleep(0.1)
        # Its processes are stopped, so that a fast machine exceeds the limit too; SLURM wakes what it ends. On a very
        # slow one the limit is there already, and there may be nothing left to stop.
        for job in slurm_jobs():
            if "_slow_" in job["Comment"] and job["JobState"] == "RUNNING":
                subprocess.run(["scancel", "--signal=STOP", job["JobId"]])
        undisturbed = train_undisturbed(folder)
        code, output = run.result()
    return {"folder": folder, "code": code, "output": output, "undisturbed": undisturbed}


def train_undisturbed(folder):
    """Train the slow experiment in one go, without SLURM and Snakemake; return its record."""
    arguments = "--experiment config/experiments/slow.yaml --method hnet_ent --training cl1 --seeds 1 --device cpu"
    files = "--dataset results/datasets/digits.npz --records undisturbed --checkpoints undisturbed"
    command = [sys.executable, "workflow/scripts/train_run.py", *arguments.split(), *files.split()]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return read_record(folder / "undisturbed" / "seed-1.json")


@pytest.mark.slurm
def test_a_submitted_collection_ends_in_its_table(submitted):
    folder, output = submitted["folder"], submitted["output"]
    table = (folder / "results" / "tables" / "demo.md").read_text()
    assert "quick" in table and "slow" in table, output
    for record in ("slow/hnet_ent/cl1/seed-1", *(f"quick/fine_tune/cl1/seed-{seed}" for seed in (1, 2))):
        assert (folder / "results" / "runs" / f"{record}.json").exists(), output
    states = {job["Comment"]: job["JobState"] for job in slurm_jobs() if "diverging" not in job["Comment"]}
    assert set(states.values()) == {"COMPLETED"}  # of the last job with that comment
    assert {"rule_collect_runs_wildcards_demo", "rule_make_table_wildcards_demo"} < states.keys()


@pytest.mark.slurm
def test_a_job_over_its_time_limit_is_submitted_again_and_ends_as_if_undisturbed(submitted):
    folder = submitted["folder"]
    slow = [job for job in slurm_jobs() if "_slow_" in job["Comment"]]
    first, second = slow[0], slow[1]
    assert first["JobState"] == "TIMEOUT"
    assert (first["TimeLimit"], second["TimeLimit"]) == ("00:01:00", "00:02:00")
    log = (folder / "results" / "logs" / "train" / "slow" / "hnet_ent" / "cl1" / "seed-1.log").read_text()
    (task, iteration), *_ = re.findall(r"going on from '.*': task (\d+), iteration (\d+)", log)
    assert (int(task), int(iteration)) > (1, 0)
    assert len(re.findall(r"after task 1/3", log)) == 1  # not trained twice
    found, expected = read_record(folder / "results/runs/slow/hnet_ent/cl1/seed-1.json"), submitted["undisturbed"]
    for part in ("schema", "spec", "spec_hash", "scenarios"):
        assert found[part] == expected[part]
    assert expected["scenarios"]["cl1"]["accuracy"][2][2] > 80  # two untrained networks would be equal too


@pytest.mark.slurm
def test_a_failing_job_is_reported_with_its_logs(submitted):
    output = submitted["output"]
    assert submitted["code"] != 0
    assert "results/logs/train/diverging/fine_tune/cl1/seed-1.log" in output
    assert "Try a smaller optimisation.learning_rate" in output  # the log itself
    attempts = [job["JobId"] for job in slurm_jobs() if "_diverging_" in job["Comment"]]
    assert attempts
    for job in attempts:
        (named,) = set(re.findall(rf"/\S+/slurm_logs/rule_train_run/diverging_fine_tune_cl1_1/{job}\.log", output))
        assert Path(named).exists()


@pytest.mark.slurm
def test_no_gpu_is_given_to_two_jobs_at_a_time(cluster, submitted):
    given = dict(line.split() for line in (cluster / "devices.log").read_text().splitlines())
    jobs = slurm_jobs()
    assert {job["JobId"] for job in jobs} == given.keys()
    for job in jobs:
        assert (given[job["JobId"]] in ("0", "1")) == job["Comment"].startswith("rule_train_run"), job
    assert set(given.values()) == {"0", "1", "none"}
    for gpu in ("0", "1"):
        times = sorted((job["StartTime"], job["EndTime"]) for job in jobs if given[job["JobId"]] == gpu)
        assert len(times) > 1  # they had to wait for each other
        for (_, end), (start, _) in pairwise(times):
            assert end <= start
