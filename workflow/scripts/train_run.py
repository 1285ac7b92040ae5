"""Train one method on one sequence of tasks, for one seed or a pack of seeds, and write one record a seed.

python workflow/scripts/train_run.py --experiment config/experiments/split_mnist.yaml --method hnet_ent \
    --training cl1-cl3 --seeds 7 --dataset results/datasets/mnist.npz \
    --records results/runs/split_mnist/hnet_ent/cl1-cl3 --checkpoints results/checkpoints

A run that was killed goes on from its last checkpoint and ends with the same numbers. SIGTERM, Ctrl-C and an exhausted
--time-budget make it write a checkpoint and stop with exit status 75. A seed whose record is there already, for the
same specification, is not trained again.
"""

import argparse
import json
import logging
import os
import signal
import sys
import time
from pathlib import Path

from hnetcl.arguments import add_device_arguments
from hnetcl.files import remove_leftovers, require_writable, written_whole
from hnetcl.spec import ConfigurationError, RunSpec, load_experiment

log = logging.getLogger("train_run")

STOPPED = os.EX_TEMPFAIL  # exit status of a training that stopped cleanly and can go on


class RunError(Exception):
    """A training that cannot start or go on, with a message for the user."""


class RunStoppedError(Exception):
    """A training that was asked to stop; the message says how it goes on."""


class StopRequest:
    """Whether a training is to stop: SIGTERM (a cluster's time limit, say) or Ctrl-C came, or its time is up."""

    def __init__(self, budget: float):
        self.reason = ""
        self._end = time.monotonic() + budget if budget > 0 else float("inf")
        self._budget = budget
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: object) -> None:
        self.reason = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL)  # the second one does not wait

    def __call__(self) -> bool:
        """Return whether to stop; ``reason`` then says why."""
        if not self.reason and time.monotonic() > self._end:
            self.reason = f"the time budget of {self._budget:g} s"
        return bool(self.reason)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True, help="file of config/experiments")
    parser.add_argument("--method", required=True)
    parser.add_argument("--training", required=True, help="the scenarios that one training serves, e.g. cl1-cl3")
    parser.add_argument("--seeds", required=True, nargs="+", type=int, help="trained together, as one pack")
    parser.add_argument("--dataset", required=True, help="file written by prepare_dataset.py")
    parser.add_argument("--records", required=True, type=Path, help="folder for seed-<seed>.json")
    parser.add_argument("--checkpoints", required=True, type=Path, help="folder for checkpoints")
    parser.add_argument("--checkpoint-seconds", type=float, default=180.0, help="longest time a kill can lose")
    parser.add_argument("--time-budget", type=float, default=0.0, metavar="SECONDS", help="stop after these; 0: never")
    add_device_arguments(parser, precision=True)
    parser.add_argument("--host-steps", action="store_true", help="have no step recorded and replayed on a GPU")
    parser.add_argument("--log", type=Path, help="file for plain progress lines")
    parser.add_argument("--manifest", type=Path, help="file for a list of the records, once all of them are there")
    parser.add_argument("--progress", default="bar", choices=["bar", "lines"], help="what a terminal shows")
    parser.add_argument("--show-spec", action="store_true", help="print the resolved specifications and stop")
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    arguments = parse_arguments()
    stop = StopRequest(arguments.time_budget)
    try:
        experiment = load_experiment(arguments.experiment)
        specs = [experiment.spec(arguments.method, arguments.training, seed) for seed in arguments.seeds]
        if arguments.show_spec:
            print(json.dumps([spec.as_dict() | {"hash": spec.hash} for spec in specs], indent=2))
            return
        logs = [arguments.log.parent] if arguments.log else []
        for folder in (arguments.records, arguments.checkpoints, *logs):
            require_writable(folder)
    except (ConfigurationError, PermissionError) as error:
        sys.exit(f"train_run: {error}")
    configure_logging(arguments.log)
    missing = [spec for spec in specs if not has_record(arguments.records, spec)]
    try:
        if missing:
            train_pack(missing, arguments, stop)
        for spec in specs:
            (arguments.records / spec.record_name).touch()  # a record that was kept counts as made anew
        if arguments.manifest:
            with written_whole(arguments.manifest) as aside:
                aside.write_text("".join(f"{arguments.records / spec.record_name}\n" for spec in specs))
    except RunStoppedError as stopped:
        log.info("%s", stopped)
        print(f"train_run: {stopped}", file=sys.stderr)
        sys.exit(STOPPED)
    except (RunError, OSError) as error:
        hint = ". Nothing that was written is lost: the same command goes on." if isinstance(error, OSError) else ""
        log.error("%s%s", error, hint)  # for the log file; what sys.exit says goes to the terminal
        sys.exit(f"train_run: {error}{hint}")
    except Exception:
        log.exception("unexpected error")
        raise


def configure_logging(path: Path | None) -> None:
    """Send the library's messages to ``path``, or to standard error where there is none."""
    handler = logging.FileHandler(path) if path else logging.StreamHandler()
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(asctime)s %(message)s", datefmt="%F %T")


def has_record(folder: Path, spec: RunSpec) -> bool:
    """Whether the record of just this specification is there already."""
    try:
        return json.loads((folder / spec.record_name).read_text())["spec_hash"] == spec.hash
    except (OSError, ValueError, KeyError):
        return False


def train_pack(specs: list[RunSpec], arguments: argparse.Namespace, stop: StopRequest) -> None:
    """Train the seeds of ``specs`` together and write their records."""
    # torch takes seconds to import: all that can be wrong with the configuration has been said by now.
    from hnetcl import data, device, provenance, records, training
    from hnetcl.catalogue import METHODS
    from hnetcl.tasks import TaskSequence

    first, seeds = specs[0], [spec.seed for spec in specs]
    try:
        dataset = data.load(arguments.dataset)
        if dataset.name != first.dataset:
            raise data.DatasetError(f"'{arguments.dataset}' holds {dataset.name}, not {first.dataset}.")
        where = device.choose_device(arguments.device, arguments.matmul_precision)
    except (data.DatasetError, ValueError) as error:
        raise RunError(str(error)) from error
    device.prepare_process(arguments.threads)
    # Its code is that which runs, whatever is committed while it does.
    process = provenance.describe_process(device.describe_device(where), arguments.threads)
    sequence = TaskSequence(first, seeds, dataset, where)
    method = METHODS[first.method].load()(first, sequence)
    name = f"{first.title} {first.label} {first.training} seed {'+'.join(map(str, seeds))}"
    checkpoint = arguments.checkpoints / first.folder / f"seed-{'-'.join(map(str, seeds))}.pt"
    lengths = [sequence.schedule.iterations(t, seen=method.trains_on_seen_tasks) for t in range(sequence.num_tasks)]
    with ProgressReport(name, lengths, arguments.progress) as report:
        try:
            progress = training.train(
                method,
                sequence,
                checkpoint=checkpoint,
                identity=[spec.hash for spec in specs],
                checkpoint_seconds=arguments.checkpoint_seconds,
                report=report,
                stop=stop,
                record=not arguments.host_steps,
                process=process,
            )
        except training.TrainingStoppedError as stopped:
            raise RunStoppedError(f"{name}: {stopped} by {stop.reason}. The same command goes on from there.") from None
        except training.TrainingDivergedError as error:
            others = " The other seeds of the pack can be trained without it." if len(seeds) > 1 else ""
            raise RunError(f"{name}: {error}{others}") from error
    for run, spec in enumerate(specs):
        scenarios = {}
        for scenario in spec.scenarios:
            initial, *accuracy = progress.accuracy[scenario][run]
            inference = progress.inference[scenario][run][1:]
            inferred = any(value is not None for row in inference for value in row)
            scenarios[scenario] = {
                "accuracy": accuracy,
                "initial": initial,
                "task_inference": inference if inferred else None,
                "parameters": sizes(method.parameter_counts(scenario)),
            }
        record = {
            "schema": 1,
            "spec": spec.as_dict(),
            "spec_hash": spec.hash,
            "scenarios": scenarios,
            "timing": {
                "training_seconds": progress.training_seconds,
                "evaluation_seconds": progress.evaluation_seconds,
                "iterations_per_second": sum(lengths) / progress.training_seconds,
                "peak_memory_mb": device.peak_memory_mb(where),
                "seeds_in_pack": len(seeds),
            },
            "provenance": provenance.describe(progress.processes, dataset.name, sequence.dataset_sha256),
        }
        records.write_record(arguments.records / spec.record_name, record)
        remove_leftovers(arguments.records / spec.record_name)
    checkpoint.unlink(missing_ok=True)
    remove_leftovers(checkpoint)


def sizes(counts: dict[str, int]) -> dict[str, float]:
    """Return ``counts`` of parameters and the compression ratio."""
    return counts | {"compression": counts["trainable"] / counts["target"]}


class ProgressReport:
    """Progress on a terminal (a bar, or a line a task) and plain lines in the log."""

    LINE_SECONDS = 30.0

    def __init__(self, name: str, iterations: list[int], style: str):
        self.name, self.iterations = name, iterations  # of every task
        self.style = style if sys.stderr.isatty() else "none"
        self.started: tuple[float, int] | None = None
        self.spoken = time.monotonic()

    def __enter__(self):
        if self.style == "bar":
            from tqdm import tqdm

            self.bar = tqdm(total=sum(self.iterations), desc=self.name, unit="it", dynamic_ncols=True)
        return self

    def __exit__(self, *exception):
        if self.style == "bar":
            self.bar.close()

    def __call__(self, progress, loss) -> None:
        """Report where ``progress`` stands; ``loss`` is None at the end of a task."""
        now, done = time.monotonic(), sum(self.iterations[: progress.task]) + progress.iteration
        if self.started is None:
            self.started = (now, done)  # a resumed run must not count what it did not do itself
        if self.style == "bar":
            self.bar.update(done - self.bar.n)
        if loss is not None and now - self.spoken < self.LINE_SECONDS:
            return
        self.spoken = now
        seconds, iterations = now - self.started[0], done - self.started[1]
        left = f"{seconds / iterations * (sum(self.iterations) - done):.0f} s" if iterations else "?"
        task, tasks = progress.task, len(self.iterations)
        what = (
            f"after task {task}/{tasks}: " + self._accuracies(progress)
            if loss is None
            else f"task {task + 1}/{tasks}, iteration {progress.iteration}/{self.iterations[task]}, "
            f"loss {loss.mean().item():.4f}"
        )
        line = f"{self.name}: {what}, about {left} left"
        log.info(line)
        if self.style == "lines" and loss is None:
            print(line, file=sys.stderr, flush=True)

    @staticmethod
    def _accuracies(progress) -> str:
        """Return the mean accuracy on the tasks so far, over seeds, by scenario."""
        parts = []
        for scenario, runs in progress.accuracy.items():
            rows = [run[-1][: progress.task] for run in runs]
            values = [value for row in rows for value in row if value is not None]
            parts.append(f"{scenario} {sum(values) / len(values):.2f} %")
        return ", ".join(parts)


if __name__ == "__main__":
    main()
