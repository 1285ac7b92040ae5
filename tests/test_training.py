"""The task loop: killed at any moment it ends with the same numbers; what goes wrong is said."""

import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import REPOSITORY, tensors_of
from hnetcl import records, training
from hnetcl.catalogue import METHODS
from hnetcl.methods.interface import Method, Prediction
from hnetcl.stepping import steps
from hnetcl.tasks import TaskSequence
from hnetcl.training import CHECK_EVERY, TrainingDivergedError, TrainingStoppedError, train

HNET = "methods.hnet_ent"
# One look at the losses, and one checkpoint, inside every task.
ITERATIONS = {"optimisation.iterations": CHECK_EVERY + 10}
VARIANTS = {
    "hnet_ent exact": ("hnet_ent", "cl1-cl3", {f"{HNET}.regulariser.form": "exact"}),
    "hnet_ent explicit": ("hnet_ent", "cl2", {f"{HNET}.regulariser.form": "explicit"}),
    "hnet_ent subset": ("hnet_ent", "cl1-cl3", {f"{HNET}.regulariser.tasks": 1}),
    "fine_tune": ("fine_tune", "cl3", {}),
    "fine_tune reset": ("fine_tune", "cl1", {"methods.fine_tune.reset_optimiser": True}),
    "joint": ("joint", "cl1", {}),
    "separate": ("separate", "cl1-cl2-cl3", {}),
    "online_ewc": ("online_ewc", "cl3", {}),
    "ewc": ("ewc", "cl2", {}),
    "si": ("si", "cl1", {}),
    "hnet_r": ("hnet_r", "cl1-cl2-cl3", {}),
    "hnet_r gan": ("hnet_r", "cl1-cl2-cl3", {"methods.hnet_r.replay.model": "gan"}),
    "hnet_tir": ("hnet_tir", "cl1-cl2-cl3", {}),
    "dgr": ("dgr", "cl1-cl2-cl3", {}),
    "dgr_distill": ("dgr_distill", "cl1-cl2-cl3", {}),
}


class KilledError(Exception):
    pass


class Job:
    """One training of a pack that can be started again and again, as a batch system would."""

    def __init__(self, build, checkpoint, identity=("a", "b")):
        self.build, self.checkpoint, self.identity = build, checkpoint, list(identity)

    def run(self, kill_at=None, **options):
        """Train; ``kill_at`` is the (task, iteration) whose report does not return."""
        self.method, sequence = self.build()
        self.reports = []

        def report(progress, loss):
            self.reports.append((progress.task, progress.iteration))
            if self.reports[-1] == kill_at:
                raise KilledError

        return train(
            self.method,
            sequence,
            checkpoint=self.checkpoint,
            identity=self.identity,
            checkpoint_seconds=0,
            report=report,
            **options,
        )

    def weights(self):
        return tensors_of(self.method.state_dict())


@pytest.fixture
def make_job(make_spec, dataset, tmp_path):
    def make(variant="hnet_ent exact", changes=None, checkpoint="job.pt", seeds=(1, 2)):
        name, training, own = VARIANTS[variant]

        def build():
            spec = make_spec(name, training, ITERATIONS | own | (changes or {}))
            sequence = TaskSequence(spec, list(seeds), dataset)
            return METHODS[name].load()(spec, sequence), sequence

        return Job(build, tmp_path / checkpoint)

    return make


def assert_same_end(progress, job, expected, undisturbed):
    assert progress.accuracy == expected.accuracy
    assert progress.inference == expected.inference
    for name, value in undisturbed.weights().items():
        assert torch.equal(job.weights()[name], value), name


# ---- resuming -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_killed_in_the_middle_of_a_task_ends_with_the_same_numbers(make_job, variant):
    undisturbed = make_job(variant, checkpoint="undisturbed.pt")
    expected = undisturbed.run()
    job = make_job(variant)
    with pytest.raises(KilledError):
        job.run(kill_at=(2, CHECK_EVERY + 10))
    stored = torch.load(job.checkpoint, weights_only=True)["progress"]
    assert (stored["task"], stored["iteration"]) == (2, CHECK_EVERY)  # in the middle of the last task
    progress = job.run()
    assert job.reports[0] == (2, CHECK_EVERY + 10)  # nothing before it was done again
    assert_same_end(progress, job, expected, undisturbed)


def test_a_run_killed_at_every_report_in_turn_ends_with_the_same_numbers(make_job):
    undisturbed = make_job(checkpoint="undisturbed.pt")
    expected = undisturbed.run()
    job = make_job()
    moments = undisturbed.reports
    assert len(moments) == 3 * 3
    for moment in moments:
        with pytest.raises(KilledError):
            job.run(kill_at=moment)
    assert_same_end(job.run(), job, expected, undisturbed)
    assert job.reports == []  # the last kill came after all was done


@given(stops=st.lists(st.integers(1, 200), max_size=6))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_run_that_is_asked_to_stop_any_number_of_times_ends_with_the_same_numbers(make_job, stops):
    undisturbed = make_job(checkpoint="undisturbed.pt")
    expected = undisturbed.run()
    job = make_job()
    job.checkpoint.unlink(missing_ok=True)
    for asked in stops:
        questions = iter(range(1, 10**6))
        try:
            job.run(stop=lambda questions=questions, asked=asked: next(questions) >= asked)
        except TrainingStoppedError as stopped:
            where = list(map(int, re.findall(r"\d+", str(stopped))))
        else:
            break  # it was through before it was asked often enough
        stored = torch.load(job.checkpoint, weights_only=True)["progress"] if job.checkpoint.exists() else {}
        assert where == [stored.get("iteration", 0), stored.get("task", 0) + 1]
        assert stored or asked == 1
    assert_same_end(job.run(), job, expected, undisturbed)
    job.checkpoint.unlink()


def test_accuracies_have_a_row_for_the_untrained_state_and_one_for_every_task(make_job):
    progress = make_job("hnet_ent exact").run()
    for scenario, unmeasured in (("cl1", 0), ("cl3", 3)):
        for rows in progress.accuracy[scenario]:
            assert len(rows) == 4 and all(len(row) == 3 for row in rows)
            assert sum(value is None for value in rows[0]) == unmeasured
            assert rows[3][2] is not None
    assert progress.training_seconds > 0 and progress.evaluation_seconds > 0


def test_a_checkpoint_remembers_what_trained_before_it(make_job):
    job = make_job("fine_tune")
    first, second = {"code_version": "a", "device": "cpu"}, {"code_version": "b", "device": "cpu"}
    for _ in range(2):  # the same process twice counts once
        with pytest.raises(KilledError):
            job.run(kill_at=(1, CHECK_EVERY + 10), process=first)
    assert job.run(process=second).processes == [first, second]


def test_no_time_is_counted_twice_or_lost_at_a_kill(make_job, monkeypatch):
    now = 0

    def ticking(*arguments, **options):
        step = steps(*arguments, **options)

        def second(iteration):
            nonlocal now
            now += 1
            return step(iteration)

        return second

    monkeypatch.setattr(training, "steps", ticking)
    monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now))
    job = make_job("fine_tune")
    undisturbed = job.run().training_seconds
    job.checkpoint.unlink()
    with pytest.raises(KilledError):
        job.run(kill_at=(1, CHECK_EVERY + 10))
    # What was trained after the last checkpoint is trained again, and counts once.
    assert job.run().training_seconds == undisturbed == 3 * (CHECK_EVERY + 10)
    assert now > 2 * undisturbed


@pytest.mark.parametrize("left", [0, 10, 0.5, -1], ids=["empty", "header", "half", "all but one byte"])
def test_a_truncated_checkpoint_is_left_aside_with_a_warning(make_job, caplog, left):
    undisturbed = make_job("fine_tune", checkpoint="undisturbed.pt")
    expected = undisturbed.run()
    job = make_job("fine_tune")
    with pytest.raises(KilledError):
        job.run(kill_at=(1, CHECK_EVERY + 10))
    content = job.checkpoint.read_bytes()
    job.checkpoint.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    with caplog.at_level(logging.WARNING):
        progress = job.run()
    assert str(job.checkpoint) in caplog.text and "not used" in caplog.text
    assert_same_end(progress, job, expected, undisturbed)


def test_a_file_of_something_else_in_the_checkpoints_place_does_not_stop_the_run(make_job, caplog):
    job = make_job("fine_tune", {"optimisation.iterations": 1})
    torch.save([torch.zeros(3)], job.checkpoint)
    job.run()
    assert str(job.checkpoint) in caplog.text


def test_a_checkpoint_of_another_specification_is_not_used(make_job, caplog):
    changes = {"optimisation.learning_rate": 0.02}
    undisturbed = make_job("fine_tune", changes, "undisturbed.pt")
    expected = undisturbed.run()
    job = make_job("fine_tune")
    with pytest.raises(KilledError):
        job.run(kill_at=(1, CHECK_EVERY + 10))
    job.build, job.identity = make_job("fine_tune", changes).build, ["c", "d"]
    with caplog.at_level(logging.WARNING):
        progress = job.run()
    assert "another specification" in caplog.text and str(job.checkpoint) in caplog.text
    assert_same_end(progress, job, expected, undisturbed)


@pytest.mark.parametrize("other", [["b", "a"], ["a"], ["a", "b", "c"], []])
def test_a_checkpoint_of_another_pack_is_not_used(make_job, other):
    job = make_job("fine_tune", {"optimisation.iterations": 1})
    job.run()
    job.identity = other
    job.run()
    assert job.reports[0] == (0, 1)  # from the start


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_checkpoint_cannot_run_code(make_job, tmp_path):
    job = make_job("fine_tune", {"optimisation.iterations": 1})
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()  # the trap works
    (tmp_path / "sprung").unlink()
    torch.save({"identity": job.identity, "progress": Trap(tmp_path / "sprung")}, job.checkpoint)
    job.run()
    assert not (tmp_path / "sprung").exists()


# ---- diverging ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["hnet_ent exact", "fine_tune"])
def test_a_huge_learning_rate_stops_with_a_message_that_names_it(make_job, variant):
    # Adam's first step has the size of the learning rate: weights of 1e30 overflow in the second iteration.
    job = make_job(variant, {"optimisation.learning_rate": 1.0e30})
    with pytest.raises(TrainingDivergedError) as error:
        job.run()
    for part in ("seed 1", "task 1", "iteration 2", "last finite loss was", "learning_rate"):
        assert part in str(error.value)


class Scripted(Method):
    """Losses are read from a list."""

    losses = None

    def begin_task(self, task):
        self.task = task

    def step(self, batch, iteration):
        return self.losses[self.task][iteration]

    def predictor(self, scenario, learned):
        return lambda x, task: Prediction(torch.zeros(x.shape[:2], dtype=torch.int64))

    def parameter_counts(self, scenario):
        return {"trainable": 1, "target": 1}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "task, iteration, run",
    [(0, 5, 1), (1, CHECK_EVERY + 10, 0), (2, CHECK_EVERY, 1), (1, CHECK_EVERY + 1, 1), (1, 1, 0)],
)
def test_the_first_bad_loss_is_named_with_the_last_finite_one(make_spec, dataset, tmp_path, bad, task, iteration, run):
    spec = make_spec("fine_tune", "cl1", ITERATIONS)
    sequence = TaskSequence(spec, [4, 9], dataset)
    method = Scripted(spec, sequence)
    total = 3 * (CHECK_EVERY + 10)
    method.losses = torch.arange(2 * total).view(3, CHECK_EVERY + 10, 2) + 0.5  # each loss is another number
    last = method.losses[:, :, run].flatten()[task * (CHECK_EVERY + 10) + iteration - 2].item()
    method.losses[task, iteration - 1 :, run] = bad
    with pytest.raises(TrainingDivergedError) as error:
        train(method, sequence, checkpoint=tmp_path / "job.pt", identity=["a", "b"])
    for part in (f"seed {[4, 9][run]} ", f"task {task + 1}, ", f"iteration {iteration};", f"loss was {last}"):
        assert part in str(error.value)


def test_weights_that_overflow_in_the_very_last_step_do_not_pass_as_a_result(make_job):
    # The loss before that step is finite; only the network it leaves behind is not.
    changes = {"optimisation.iterations": 1, "sequence.tasks": 1, "optimisation.learning_rate": 1.0e39}
    job = make_job("fine_tune", changes)
    with pytest.raises(TrainingDivergedError, match=r"seed 1 and seed 2 diverged"):
        job.run()
    assert not all(value.isfinite().all() for value in job.weights().values())


def test_the_seed_whose_weights_overflow_in_the_last_step_is_named(make_spec, dataset, tmp_path):
    spec = make_spec("fine_tune", "cl1", {"optimisation.iterations": 1})
    sequence = TaskSequence(spec, [4, 9], dataset)
    method = Scripted(spec, sequence)
    method.losses = torch.ones(3, 1, 2)
    method.state_dict = lambda: {"count": torch.tensor(1.0), "weights": [torch.tensor([[1.0, 2.0], [3.0, torch.inf]])]}
    with pytest.raises(TrainingDivergedError, match=r"^seed 9 diverged: .* after task 1, iteration 1"):
        train(method, sequence, checkpoint=tmp_path / "job.pt", identity=["a", "b"])


# ---- the script ---------------------------------------------------------------------------------------------------

SCRIPTS = REPOSITORY / "workflow" / "scripts"


def start(script, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, SCRIPTS / f"{script}.py", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("datasets") / "digits.npz"
    code, output = finish(start("prepare_dataset", "--dataset", "digits", "--output", path))
    assert code == 0, output
    return path


@pytest.fixture
def command(write_experiment, tmp_path, digits):
    """Arguments of train_run.py; keywords replace single ones."""
    experiment = write_experiment({"optimisation.iterations": 500})

    def arguments(**changes):
        options = {
            "experiment": experiment,
            "method": "hnet_ent",
            "training": "cl1-cl3",
            "seeds": "7",
            "dataset": digits,
            "records": tmp_path / "records",
            "checkpoints": tmp_path / "checkpoints",
            "checkpoint-seconds": 0,
        } | changes
        return [part for key, value in options.items() for part in (f"--{key}", *str(value).split("|"))]

    return arguments


def wait_for(condition, process):
    while not (found := condition()):
        assert process.poll() is None, f"ended too early: {process.communicate()[0]}"
        time.sleep(0.005)
    return found


def where_it_stands(checkpoint):
    return torch.load(checkpoint, weights_only=True)["progress"] if checkpoint.exists() else None


def test_a_killed_job_started_again_writes_the_record_of_an_undisturbed_one(command, tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    undisturbed = start("train_run", *command(records=calm, checkpoints=calm))
    victim = start("train_run", *command(records=killed, checkpoints=killed))

    def in_the_middle():
        checkpoints = list(killed.rglob("seed-7.pt"))
        stands = where_it_stands(checkpoints[0]) if checkpoints else None
        return stands is not None and stands["task"] >= 1 and stands["iteration"] > 0

    wait_for(in_the_middle, victim)
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    (checkpoint,) = killed.rglob("seed-7.pt")
    assert where_it_stands(checkpoint)["task"] < 3
    assert not (killed / "seed-7.json").exists()
    code, output = finish(start("train_run", *command(records=killed, checkpoints=killed)))
    assert code == 0, output
    assert "going on from" in output
    code, output = finish(undisturbed)
    assert code == 0, output
    expected, found = (records.read_record(folder / "seed-7.json") for folder in (calm, killed))
    for part in ("schema", "spec", "spec_hash", "scenarios"):
        assert found[part] == expected[part]
    assert found["provenance"]["dataset"] == expected["provenance"]["dataset"]
    # It learned: a comparison of two untrained networks would mean nothing.
    assert expected["scenarios"]["cl1"]["accuracy"][2][2] > 80
    # Nothing is left but the records.
    assert [p.name for p in killed.rglob("*") if p.is_file()] == ["seed-7.json"]

    # A record that is there is not trained again: this command could not train, its dataset is missing.
    before = (killed / "seed-7.json").read_bytes()
    again = command(records=killed, dataset=tmp_path / "nowhere.npz")
    assert finish(start("train_run", *again)) == (0, "")
    assert (killed / "seed-7.json").read_bytes() == before
    # That of another specification is.
    other = json.loads((killed / "seed-7.json").read_text()) | {"spec_hash": "0"}
    (killed / "seed-7.json").write_text(json.dumps(other))
    code, output = finish(start("train_run", *again))
    assert code != 0 and "nowhere.npz" in output


def below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "folder"


REFUSED = {
    "records that cannot be written": (lambda t: {"records": below_a_file(t)}, ["file/folder", "cannot write"]),
    "checkpoints that cannot be written": (lambda t: {"checkpoints": below_a_file(t)}, ["file/folder"]),
    "log that cannot be written": (lambda t: {"log": below_a_file(t) / "x.log"}, ["file/folder"]),
    "unknown method": (lambda t: {"method": "magic"}, ["magic", "hnet_ent/cl1-cl3", "joint/cl2"]),
    "unknown training": (lambda t: {"training": "cl1"}, ["hnet_ent/cl1", "hnet_ent/cl1-cl3"]),
    "negative seed": (lambda t: {"seeds": "-1"}, ["seed = -1", "integer >= 0"]),
    "seed that is no number": (lambda t: {"seeds": "seven"}, ["seven", "seeds"]),
    "missing experiment": (lambda t: {"experiment": t / "typo.yaml"}, ["typo.yaml", "tiny"]),
    "unknown device": (lambda t: {"device": "abacus"}, ["abacus", "cuda"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_run_stops_the_script_before_any_training_with_a_message(command, tmp_path, case):
    changes, named = REFUSED[case]
    # The dataset does not exist: whoever got as far as to load it would say so.
    code, output = finish(start("train_run", *command(**{"dataset": tmp_path / "none.npz"} | changes(tmp_path))))
    assert code != 0
    for part in named:
        assert part in output
    assert "none.npz" not in output and "Traceback" not in output
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("change", ["other", "truncated"])
def test_a_dataset_that_cannot_be_used_stops_the_script_with_a_message(command, tmp_path, digits, change):
    path = tmp_path / "data.npz"
    if change == "truncated":
        path.write_bytes(digits.read_bytes()[:-1000])
    changes = {"dataset": path}
    if change == "other":
        path.write_bytes(digits.read_bytes())
        settings = Path(command()[1]).read_text().replace("dataset: digits", "dataset: mnist")
        (tmp_path / "for_mnist.yaml").write_text(settings)
        changes["experiment"] = tmp_path / "for_mnist.yaml"
    code, output = finish(start("train_run", *command(**changes)))
    assert code != 0
    assert "data.npz" in output and "Traceback" not in output


@pytest.mark.parametrize("way", ["SIGTERM", "SIGINT", "a budget"])
def test_a_job_that_is_told_to_stop_leaves_a_checkpoint_and_goes_on_from_it(command, tmp_path, way):
    calm, stopped = tmp_path / "calm", tmp_path / "stopped"
    rarely = {"checkpoint-seconds": 1000}  # a checkpoint within a task can only come from the stop
    budget = {"time-budget": 0.01} if way == "a budget" else {}
    process = start("train_run", *command(records=stopped, checkpoints=stopped, **rarely, **budget))
    if not budget:
        wait_for(lambda: list(stopped.rglob("seed-7.pt")), process)  # the first task is through
        process.send_signal(getattr(signal, way))
    code, output = finish(process)
    assert code == os.EX_TEMPFAIL, output
    assert "Tiny HNET+ENT cl1-cl3 seed 7: stopped" in output and "The same command goes on from there." in output
    assert ("the time budget of 0.01 s" if budget else way) in output
    assert "Traceback" not in output
    assert not list(stopped.rglob("seed-7.json"))
    code, output = finish(start("train_run", *command(records=stopped, checkpoints=stopped)))
    assert code == 0, output
    assert ("going on from" in output) == (not budget)  # so small a budget ends before there is anything to keep
    code, output = finish(start("train_run", *command(records=calm, checkpoints=calm)))
    assert code == 0, output
    expected, found = (records.read_record(folder / "seed-7.json") for folder in (calm, stopped))
    assert found["scenarios"] == expected["scenarios"]


def test_the_resolved_specification_can_be_shown_without_training(command, tmp_path, make_spec):
    code, output = finish(start("train_run", *command(seeds="7|8"), "--show-spec"))
    assert code == 0
    changes = {"optimisation.iterations": 500}
    expected = [make_spec(changes=changes, seed=seed) for seed in (7, 8)]
    assert json.loads(output) == [spec.as_dict() | {"hash": spec.hash} for spec in expected]
    assert not (tmp_path / "records").exists()


def test_a_pack_writes_a_record_for_each_of_its_seeds_and_only_for_those_that_lack_one(command, tmp_path, make_spec):
    folder = tmp_path / "records"
    experiment = Path(command()[1])
    experiment.write_text(experiment.read_text().replace("iterations: 500", "iterations: 5"))
    options = {"method": "joint", "training": "cl3"}
    code, output = finish(start("train_run", *command(**options, seeds="3")))
    assert code == 0, output
    before = (folder / "seed-3.json").read_bytes()
    code, output = finish(start("train_run", *command(**options, seeds="3|7|9")))
    assert code == 0, output
    assert (folder / "seed-3.json").read_bytes() == before
    written = {path.name: records.read_record(path) for path in folder.glob("*.json")}
    assert set(written) == {"seed-3.json", "seed-7.json", "seed-9.json"}
    for record in written.values():
        assert record["spec"]["method"] == "joint"
        assert set(record["scenarios"]) == {"cl3"}
        matrix = record["scenarios"]["cl3"]["accuracy"]
        assert [len(row) for row in matrix] == [3] * 3
        assert [[value is not None for value in row] for row in matrix] == [
            [j <= i for j in range(3)] for i in range(3)
        ]
    assert written["seed-7.json"]["timing"]["seeds_in_pack"] == 2
