"""Limits of time and memory: they hold what trainings were measured to need, and grow where a job was cut off."""

import pandas as pd
import pytest

from conftest import PERMUTED, REPOSITORY
from hnetcl.catalogue import METHODS
from hnetcl.cost import LONGEST_MINUTES, NANOSECONDS, memory_limit_mb, time_limit_minutes
from hnetcl.spec import experiment_names, load_experiment

FOLDER = REPOSITORY / "config" / "experiments"
RUNS = pd.read_csv(REPOSITORY / "results" / "cached" / "runs.csv")


def load(name):
    return load_experiment(FOLDER / f"{name}.yaml")


def measured_trainings():
    """Yield (specifications of a pack, seconds, MB) for each kind of training in runs.csv, the median over seeds."""
    experiments = {e.title: e for file in FOLDER.glob("*.yaml") for e in map(load, experiment_names(file))}
    methods = {entry.label: name for name, entry in METHODS.items()}
    runs = RUNS.assign(seconds=RUNS.training_seconds + RUNS.evaluation_seconds)
    for (title, label, scenario, pack), rows in runs.groupby(["experiment", "method", "scenario", "seeds_in_pack"]):
        experiment, method = experiments[title], methods[label]
        served = next(t for m, t in experiment.trainings() if m == method and scenario.lower() in t.split("-"))
        specs = [experiment.spec(method, served, seed) for seed in range(1, pack + 1)]
        yield specs, rows.seconds.median(), rows.peak_memory_mb.median()


def test_every_training_that_was_measured_fits_its_limits():
    for specs, seconds, megabytes in measured_trainings():
        limit = time_limit_minutes(specs)
        assert seconds < 60 * limit or limit == LONGEST_MINUTES, (specs[0].title, specs[0].label)
        assert megabytes < memory_limit_mb(specs) - 800, (specs[0].title, specs[0].label)  # which Snakemake takes


def test_every_method_has_a_cost():
    assert NANOSECONDS.keys() == METHODS.keys()


def test_limits_grow_with_the_work_and_with_the_attempt(make_spec):
    changes = {"optimisation.iterations": 1_000_000}
    spec = make_spec(changes=changes)
    limit = time_limit_minutes([spec])
    assert limit < time_limit_minutes([spec, spec])
    assert limit < time_limit_minutes([make_spec("hnet_tir", "cl1-cl2-cl3", changes=changes)])
    assert limit < time_limit_minutes([make_spec(changes=changes | {"target.hidden": [1000, 1000]})])
    plain, padded = (
        time_limit_minutes([make_spec(changes=changes | {"sequence": PERMUTED | {"padding": padding}})])
        for padding in (0, 20)
    )
    assert plain < padded
    assert time_limit_minutes([spec], 2) == 2 * limit
    assert memory_limit_mb([spec], 2) == 2 * memory_limit_mb([spec]) < 2 * memory_limit_mb([spec, spec])


@pytest.mark.parametrize("attempt", [1, 4])
@pytest.mark.parametrize("name", ["permuted_mnist_100", "split_cifar_resnet"])
def test_no_job_asks_for_more_time_than_clusters_give(name, attempt):
    experiment = load(name)
    specs = [experiment.spec("hnet_ent", "cl1", seed) for seed in experiment.seeds]
    assert time_limit_minutes(specs, attempt) == LONGEST_MINUTES
