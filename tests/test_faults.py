"""Faults put in on purpose: the numbers stay the same or a message says what to do. docs/faults.md has the list.

Other faults are where their subject is: kills, stops, damaged checkpoints and divergence in `test_training`, damaged
data in `test_data`, two Snakemakes in `test_workflow`.
"""

import errno
import itertools
import logging
import multiprocessing
import os
import random
import re
import subprocess
import sys
import time

import pytest
import torch
import yaml

import train_run
from conftest import REPOSITORY, SETTINGS, make_dataset, tensors_of
from hnetcl import data, files, records
from hnetcl.catalogue import METHODS
from hnetcl.tasks import TaskSequence
from hnetcl.training import CHECK_EVERY, train

ITERATIONS = 3 * CHECK_EVERY


class Command:
    """The training script with the arguments of a small job, in processes that need not import torch again."""

    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["torch", "pandas", "jsonschema", "pytest", "tqdm"])

    def __init__(self, folder, method="hnet_ent", training="cl1-cl3", **changes):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        settings = SETTINGS | {"optimisation": SETTINGS["optimisation"] | {"iterations": ITERATIONS}} | changes
        (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
        data.save(make_dataset(), folder / "digits.npz")
        self.records = folder / "records"
        options = {
            "experiment": folder / "tiny.yaml",
            "method": method,
            "training": training,
            "seeds": 7,
            "dataset": folder / "digits.npz",
            "records": self.records,
            "checkpoints": self.records,
            "checkpoint-seconds": 0,
        }
        self.arguments = [str(part) for key, value in options.items() for part in (f"--{key}", value)]
        self.record = self.records / "seed-7.json"

    def start(self):
        process = self.processes.Process(target=run_script, args=(self.arguments, self.folder / "output.txt"))
        process.start()
        return process

    def run(self):
        """Run it to its end; return what it printed."""
        process = self.start()
        process.join()
        output = (self.folder / "output.txt").read_text()
        assert process.exitcode == 0, output
        return output


def run_script(arguments, output):
    """Run the training script in this process, which has been made for it."""
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    sys.argv = ["train_run.py", *arguments]
    train_run.main()


def results_of(path):
    """What of a record must not depend on any fault."""
    record = records.read_record(path)
    return [record[part] for part in ("schema", "spec", "spec_hash", "scenarios")]


def test_twenty_kills_at_random_moments_leave_the_record_of_an_undisturbed_run(tmp_path):
    calm, job = Command(tmp_path / "calm"), Command(tmp_path / "killed")
    calm.run()
    calm.record.unlink()
    began = time.monotonic()
    calm.run()  # now with everything imported
    duration = time.monotonic() - began
    moments = []

    def require_same_end():
        assert results_of(job.record) == results_of(calm.record), moments
        assert [p.name for p in job.records.rglob("*") if p.is_file()] == ["seed-7.json"], moments  # no part of a file
        job.record.unlink()

    while len(moments) < 20:
        process, moment = job.start(), random.uniform(0, duration)
        process.join(moment)
        if process.exitcode is None:
            process.kill()
            process.join()
            moments.append(moment)
        else:  # it was quicker: the next kills are those of a new training
            assert process.exitcode == 0, moments
            require_same_end()
    job.run()
    require_same_end()


# ---- the disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def make_job(make_spec, dataset, tmp_path):
    """Return a function that trains a small job, from its checkpoint where there is one."""

    def make(name, dataset=dataset, **options):
        spec = make_spec("fine_tune", "cl1", {"optimisation.iterations": CHECK_EVERY + 10})

        def job(**more):
            sequence = TaskSequence(spec, [1, 2], dataset)
            method = METHODS["fine_tune"].load()(spec, sequence)
            settings = {"checkpoint": tmp_path / name, "identity": ["a", "b"], "checkpoint_seconds": 0}
            progress = train(method, sequence, **settings | options | more)
            return progress.accuracy, tensors_of(method.state_dict())

        return job

    return make


def assert_same(found, expected):
    assert found[0] == expected[0]
    for name, value in expected[1].items():
        assert torch.equal(found[1][name], value), name


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=errno.errorcode.get)
def test_whichever_checkpoint_cannot_be_written_the_last_one_stays_and_the_end_is_the_same(
    make_job, tmp_path, monkeypatch, code
):
    expected = make_job("calm.pt")()
    job, checkpoint, fsync = make_job("job.pt"), tmp_path / "job.pt", os.fsync
    for failing in itertools.count():
        writes, before = itertools.count(), []

        def failing_fsync(descriptor, writes=writes, failing=failing, before=before):
            if next(writes) == failing:
                before.append(checkpoint.read_bytes() if checkpoint.exists() else None)
                raise OSError(code, os.strerror(code))
            fsync(descriptor)

        checkpoint.unlink(missing_ok=True)
        with monkeypatch.context() as patched:
            patched.setattr(files.os, "fsync", failing_fsync)
            try:
                job()
                break
            except OSError as error:
                assert error.errno == code and str(checkpoint) in str(error)
        assert before == [checkpoint.read_bytes() if checkpoint.exists() else None]
        assert {path.name for path in tmp_path.glob("*.pt")} <= {"calm.pt", "job.pt"}  # no part of a file
        assert_same(job(), expected)
    assert failing == 3 * 2  # in the middle of every task and at its end


def mounted(script, command, folder):
    """Run a shell script that mounts file systems for itself, ``"$@"`` the training script; return what it prints."""
    disk = folder / "records"
    disk.mkdir()
    train_script = [sys.executable, REPOSITORY / "workflow" / "scripts" / "train_run.py", *command.arguments]
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", *train_script],
        env=os.environ | {"DISK": str(disk)},
        capture_output=True,
        text=True,
    )
    if done.returncode == 99 or "unshare failed" in done.stderr:
        pytest.skip(f"this user may not mount file systems: {done.stderr}")
    return done.stdout + done.stderr


FULL = """
mount -t tmpfs -o size=240k tmpfs "$DISK" || exit 99
"$@"; echo "status $?"; find "$DISK" -type f
mount -o remount,size=10m "$DISK"; echo "room again"
"$@"; echo "status $?"
cp "$DISK"/*.json "$DISK"/..
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system as Linux does")
def test_a_full_disk_stops_the_script_with_a_message_and_it_goes_on_once_there_is_room(tmp_path):
    large = {"method": "fine_tune", "training": "cl3", "target": {"hidden": [100, 100], "activation": "relu"}}
    calm, job = Command(tmp_path / "calm", **large), Command(tmp_path / "full", **large)
    calm.run()
    text = mounted(FULL, job, job.folder)
    full, room = text.split("room again")
    assert "status 1" in full and "No space left on device" in full + room and "Traceback" not in text
    assert "Nothing that was written is lost: the same command goes on." in text
    assert re.findall(r"records/\S+", full) == ["records/tiny/fine_tune/cl3/seed-7.pt"]  # the one before, and no part
    assert "status 0" in room and "going on from" in text
    assert results_of(job.folder / "seed-7.json") == results_of(calm.record)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system as Linux does")
def test_a_read_only_results_folder_is_named_before_any_training(tmp_path):
    job = Command(tmp_path / "job")
    text = mounted('mount -t tmpfs -o ro tmpfs "$DISK" || exit 99; "$@"; echo "status $?"', job, job.folder)
    assert "status 1" in text and f"cannot write to the directory '{job.records}'" in text
    assert "Read-only file system" in text and "Traceback" not in text


@pytest.mark.parametrize("left", [0, 1, 0.5, -2], ids=["empty", "one byte", "half", "all but the end"])
def test_a_truncated_record_is_trained_again(tmp_path, left):
    job = Command(tmp_path, method="fine_tune", training="cl2")
    job.run()
    expected, content = results_of(job.record), job.record.read_bytes()
    job.record.write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    job.run()
    assert results_of(job.record) == expected


# ---- data and clock -----------------------------------------------------------------------------------------------


class KilledError(Exception):
    pass


def kill_in_the_second_task(progress, loss):
    if (progress.task, progress.iteration) == (1, CHECK_EVERY + 10):
        raise KilledError


@pytest.mark.parametrize("replaced", ["training images", "test labels"])
def test_a_training_does_not_go_on_with_other_data_than_it_began_with(make_job, dataset, tmp_path, caplog, replaced):
    other = make_dataset(train=21) if replaced == "training images" else make_dataset()
    if replaced == "test labels":
        other.test_labels[:] = other.test_labels[::-1].copy()
    expected = make_job("calm.pt", other)()
    with pytest.raises(KilledError):
        make_job("job.pt")(report=kill_in_the_second_task)
    with caplog.at_level(logging.WARNING):
        found = make_job("job.pt", other)()
    for part in ("job.pt", "on other data", dataset.sha256, other.sha256, "is not used"):
        assert part in caplog.text
    assert_same(found, expected)


def test_a_checkpoint_that_does_not_say_its_data_is_used(make_job, tmp_path, caplog):
    # As those are that were written before checkpoints said so, by trainings that may still be under way.
    expected = make_job("calm.pt")()
    with pytest.raises(KilledError):
        make_job("job.pt")(report=kill_in_the_second_task)
    content = torch.load(tmp_path / "job.pt", weights_only=True)
    del content["dataset"]
    torch.save(content, tmp_path / "job.pt")
    with caplog.at_level(logging.INFO):
        assert_same(make_job("job.pt")(), expected)
    assert "going on from" in caplog.text


def test_jumps_of_the_clock_change_no_number_no_budget_and_no_checkpoint(make_job, tmp_path, monkeypatch, caplog):
    expected = make_job("calm.pt")()
    year = 365 * 24 * 3600.0
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + random.choice([-1, 1]) * random.uniform(1, 9) * year)
    monkeypatch.setattr(train_run.signal, "signal", lambda number, handler: None)
    spoken = train_run.ProgressReport("Tiny", [CHECK_EVERY + 10] * 3, "none")
    seen = []

    def report(progress, loss):
        spoken(progress, loss)
        seen.append(
            (progress.task, (tmp_path / "job.pt").exists(), progress.training_seconds, progress.evaluation_seconds)
        )

    with caplog.at_level(logging.INFO):
        found = make_job("job.pt")(report=report, checkpoint_seconds=year, stop=train_run.StopRequest(year))
    assert_same(found, expected)
    assert [exists for task, exists, *_ in seen] == [task > 0 for task, *_ in seen]  # at the ends of tasks alone
    assert all(0 <= seconds < year for *_, training, evaluation in seen for seconds in (training, evaluation))
    left = [float(seconds) for seconds in re.findall(r"about (\S+) s left", caplog.text)]
    assert left and all(0 <= seconds < year for seconds in left)


def test_the_page_of_faults_names_a_test_for_every_one():
    section = (REPOSITORY / "docs" / "faults.md").read_text()
    named = re.findall(r"\| `(\w+)` `(\w+)` \|$", section, re.MULTILINE)
    assert len(named) == sum(line.startswith("| ") for line in section.splitlines()) - 2  # but for the head
    for file, words in named:
        assert re.search(rf"^def test_\w*{words}", (REPOSITORY / "tests" / f"test_{file}.py").read_text(), re.MULTILINE)
