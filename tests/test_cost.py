"""Limits of time and memory hold what trainings were measured to need; the table of costs adds up what they took."""

from dataclasses import replace

import pandas as pd
import pytest

import summarise_cost
from conftest import PERMUTED, REPOSITORY
from hnetcl.catalogue import METHODS
from hnetcl.cost import LONGEST_MINUTES, NANOSECONDS, START_MINUTES, memory_limit_mb, time_limit_minutes
from hnetcl.spec import load_experiment, load_experiments

FOLDER = REPOSITORY / "config" / "experiments"
RUNS = pd.read_csv(REPOSITORY / "results" / "cached" / "runs.csv")


def load(name):
    return load_experiment(FOLDER / f"{name}.yaml")


def measured_trainings():
    """Yield (specifications of a pack, seconds, MB) for each kind of training in runs.csv, the median over seeds."""
    files = [path.stem for path in FOLDER.glob("*.yaml")]
    experiments = {e.title: e for e in load_experiments(FOLDER, files).values()}
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


def test_every_method_that_ships_has_a_cost():
    assert NANOSECONDS.keys() == METHODS.keys()


def test_a_method_that_nobody_measured_gets_the_longest_limit(make_spec):
    assert time_limit_minutes([replace(make_spec(), method="mine")]) == LONGEST_MINUTES


def test_limits_of_time_grow_with_the_work_and_with_the_attempt(make_spec):
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


@pytest.mark.parametrize(("method", "grows"), [("hnet_ent", True), ("online_ewc", False)])
def test_a_limit_grows_faster_than_the_tasks_where_earlier_ones_are_held(method, grows):
    experiment = load("permuted_mnist_100_small")
    spec = experiment.spec(method, "cl1", 1)
    half = replace(spec, sequence=replace(spec.sequence, tasks=50))
    ratio = (time_limit_minutes([spec]) - START_MINUTES) / (time_limit_minutes([half]) - START_MINUTES)
    assert ratio > 3 if grows else ratio == pytest.approx(2, abs=0.05)
    if grows:
        subset = load("permuted_mnist_100_small_subset").spec(method, "cl1", 1)
        assert time_limit_minutes([subset]) < time_limit_minutes([spec]) / 1.5


def test_memory_grows_with_the_attempt_and_less_than_the_pack(make_spec):
    spec = make_spec()
    assert memory_limit_mb([spec], 2) == 2 * memory_limit_mb([spec]) < 2 * memory_limit_mb([spec, spec])


@pytest.mark.parametrize("attempt", [1, 4])
@pytest.mark.parametrize("name", ["permuted_mnist_100", "split_cifar_resnet"])
def test_no_job_asks_for_more_time_than_clusters_give(name, attempt):
    experiment = load(name)
    specs = [experiment.spec("hnet_ent", "cl1", seed) for seed in experiment.seeds]
    assert time_limit_minutes(specs, attempt) == LONGEST_MINUTES


def make_runs(*rows):
    columns = ["experiment", "method", "scenario", "seed", "training_seconds", "evaluation_seconds"]
    return pd.DataFrame(rows, columns=[*columns, "seeds_in_pack", "threads", "device"])


def costs(runs, *names):
    measured = summarise_cost.seconds_of_seeds(runs)
    experiments = {"mine": [load(name) for name in names]}
    (row,) = summarise_cost.cost_of_collections(experiments, {"mine": "Mine"}, runs, measured).itertuples()
    return row, summarise_cost.cost_of_seeds(experiments["mine"], measured)


def test_a_collection_costs_the_least_time_of_each_kind_of_training_times_its_seeds():
    every = ["CL1", "CL2", "CL3"]
    runs = make_runs(
        ("SplitMNIST", "HNET+R", "CL1", 1, 3500.0, 100.0, 1, 1, "cpu"),
        ("SplitMNIST", "HNET+R", "CL1", 2, 9500.0, 100.0, 1, 1, "cpu"),  # beside other work
        *(("SplitMNIST", "SI", s, 1, 700.0, 20.0, 4, 2, "cpu") for s in every),  # 360 s of a core a seed
        ("SplitMNIST", "SI", "CL1", 2, 36.0, 0.0, 1, 1, "NVIDIA H200"),
        ("SplitMNIST", "SI", "CL2", 2, 1.0, 0.0, 1, 1, "cpu (bf16)"),
        ("SplitMNIST", "SI", "CL3", 2, 1.0, 0.0, 1, 2, "cpu, then NVIDIA H200"),
        ("SplitMNIST", "SI", "CL1", 2, 1.0, 0.0, 1, "1, then 2", "cpu"),
    )
    row, seeds = costs(runs, "split_mnist")
    trainings = len(list(load("split_mnist").trainings()))
    assert row.trainings == 20 * trainings
    assert (row.cpu_measured, row.gpu_measured) == (20 * 4, 20)
    assert (row.least_seeds, row.most_seeds) == (0, 2)
    assert row.cpu_hours == pytest.approx(20 * (1.0 + 3 * 0.1))
    assert row.gpu_hours == pytest.approx(20 * 0.01)
    assert seeds.loc["HNET+R", "SplitMNIST"] == pytest.approx(1.0)
    assert seeds.loc["SI", "SplitMNIST"] == pytest.approx(0.3)
    assert seeds.loc["online EWC"].isna().all()
    text = summarise_cost.markdown(seeds, pd.DataFrame([row]))
    assert "| SI | 18.0 min |" in text and "| online EWC | not measured |" in text
    assert "| 0 to 2 |" in text
    assert "26 h for 80 of them | 12.0 min for 20 of them |" in text


def test_a_baseline_on_tasks_as_published_costs_what_it_does_on_others_and_is_counted_once():
    runs = make_runs(*(("SplitMNIST", "SI", s, 1, 3600.0, 0.0, 1, 1, "cpu") for s in ("CL1", "CL2", "CL3")))
    row, seeds = costs(runs, "split_mnist", "split_mnist_per_seed")
    assert row.trainings == 20 * len(list(load("split_mnist").trainings()))
    assert row.cpu_hours == pytest.approx(20 * 3)
    assert list(seeds.columns) == ["SplitMNIST"]


@pytest.mark.parametrize(
    ("hours", "words"), [(0.01, "0.6 min"), (1.4, "84.0 min"), (1.6, "1.6 h"), (283.2, "283 h"), (None, "not measured")]
)
def test_durations_are_written_in_minutes_or_hours(hours, words):
    assert summarise_cost.duration(float("nan") if hours is None else hours) == words
