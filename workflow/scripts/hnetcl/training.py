"""The task loop: train a method on a sequence, evaluate after every task, survive being killed."""

import io
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hnetcl.evaluation import evaluate
from hnetcl.files import written_whole
from hnetcl.methods.interface import Method
from hnetcl.stepping import steps
from hnetcl.tasks import TaskSequence

log = logging.getLogger(__name__)

# How often the losses are looked at: rarely enough not to make a GPU wait.
CHECK_EVERY = 100

# To be raised when the contents of a checkpoint change, so that older ones are left aside.
CHECKPOINT_FORMAT = "6"


class TrainingDivergedError(RuntimeError):
    """A loss that is no finite number; the message says where, and what the last finite one was."""


class TrainingStoppedError(RuntimeError):
    """A training that was asked to stop and can go on from its checkpoint; the message says where it stands."""


@dataclass
class Progress:
    """Where a training stands; all that a checkpoint holds beside the method's own state.

    ``accuracy[scenario][r]`` and ``inference[scenario][r]`` hold one row of tasks for each evaluation: row 0 before
    any training, row i after i tasks.
    """

    task: int = 0
    iteration: int = 0
    accuracy: dict[str, list[list[list[float | None]]]] = field(default_factory=dict)
    inference: dict[str, list[list[list[float | None]]]] = field(default_factory=dict)
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    processes: list[dict[str, Any]] = field(default_factory=list)  # what trained, in order, where that changed


def train(
    method: Method,
    sequence: TaskSequence,
    *,
    checkpoint: Path,
    identity: list[str],
    checkpoint_seconds: float = 180.0,
    report: Callable[[Progress, Tensor | None], None] = lambda progress, loss: None,
    stop: Callable[[], bool] = lambda: False,
    record: bool = True,
    process: Mapping[str, Any] | None = None,
) -> Progress:
    """Train ``method`` on all tasks and return its accuracies; go on from ``checkpoint`` where that belongs to it.

    Args:
        method: the method, freshly built.
        sequence: its tasks.
        checkpoint: written after every task and every ``checkpoint_seconds``; the caller removes it in the end.
        identity: hashes of the specifications in the pack; a checkpoint of another identity, or of a training on
            another dataset, is not used.
        checkpoint_seconds: longest time that a kill can lose.
        report: called after every ``CHECK_EVERY`` iterations with the latest loss ``[R]``, and after every task.
        stop: asked after every iteration, and before a task, whether to stop here with a checkpoint.
        record: whether steps on a GPU may be recorded and replayed; if not, the host asks for every operation.
        process: what trains now (code, device, ...), kept in ``Progress.processes``.

    Raises:
        TrainingDivergedError: a loss became infinite or no number.
        TrainingStoppedError: ``stop`` said so.
        OSError: a checkpoint could not be written; the last one is as it was.
    """
    progress = _resume(checkpoint, identity, method) or Progress()
    if process is not None and (not progress.processes or progress.processes[-1] != process):
        progress.processes.append(dict(process))
    if not progress.accuracy:
        _evaluate(method, sequence, progress)
    saved = time.monotonic()
    last: Tensor | None = None
    while progress.task < sequence.num_tasks:
        if stop():  # the last checkpoint is of this very moment
            raise TrainingStoppedError(f"stopped after iteration {progress.iteration} of task {progress.task + 1}")
        if progress.iteration == 0:
            method.begin_task(progress.task)
        stage = sequence.training_stage(
            progress.task,
            seen=method.trains_on_seen_tasks,
            iterations=sequence.schedule.iterations(progress.task, seen=method.trains_on_seen_tasks),
            batch_size=method.spec.optimisation.batch_size,
        )
        step = steps(method, stage, record=record)
        losses: list[Tensor] = []
        started = time.monotonic()
        while progress.iteration < len(stage):
            losses.append(step(progress.iteration))
            progress.iteration += 1
            stopping = progress.iteration < len(stage) and stop()  # a task that is through is evaluated first
            if stopping or len(losses) == CHECK_EVERY or progress.iteration == len(stage):
                _require_finite(torch.stack(losses), last, progress, sequence.seeds)
                last = losses[-1]
                now = time.monotonic()
                progress.training_seconds += now - started
                started = now
                report(progress, last)
                losses = []
                if stopping or (now - saved > checkpoint_seconds and progress.iteration < len(stage)):
                    _save(checkpoint, identity, progress, method)
                    saved = started = time.monotonic()
                if stopping:
                    raise TrainingStoppedError(
                        f"stopped after iteration {progress.iteration} of task {progress.task + 1}"
                    )
        method.end_task(progress.task)
        _require_finite_state(method, last, progress)
        progress.task, progress.iteration = progress.task + 1, 0
        _evaluate(method, sequence, progress)
        _save(checkpoint, identity, progress, method)
        saved = time.monotonic()
        report(progress, None)
    return progress


def _require_finite(losses: Tensor, before: Tensor | None, progress: Progress, seeds: list[int]) -> None:
    """Raise unless all ``losses [n, R]``, the last n ones, are finite; ``before [R]`` came just before them."""
    finite = losses.isfinite()
    if finite.all():
        return
    index, run = (~finite).nonzero()[0].tolist()
    last = losses[index - 1] if index else before
    known = "there was none before it" if last is None else f"the last finite loss was {last[run]:.6g}"
    raise TrainingDivergedError(
        f"seed {seeds[run]} diverged: loss {losses[index, run]} in task {progress.task + 1}, iteration "
        f"{progress.iteration - len(losses) + index + 1}; {known}. Try a smaller optimisation.learning_rate."
    )


def _require_finite_state(method: Method, last: Tensor | None, progress: Progress) -> None:
    """Raise where the very last step of a task ruined the parameters, which its loss could not show."""
    tensors, waiting = [], [method.state_dict()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, Mapping | list | tuple):
            waiting.extend(value.values() if isinstance(value, Mapping) else value)
    if all(tensor.isfinite().all() for tensor in tensors):
        return
    seeds = method.sequence.seeds
    by_run = [t.isfinite().reshape(len(t), -1).all(1).tolist() for t in tensors if t.dim() and len(t) == len(seeds)]
    ruined = [seed for seed, *finite in zip(seeds, *by_run, strict=True) if not all(finite)] or seeds
    losses = "unknown" if last is None else ", ".join(f"{loss:.6g}" for loss in last.tolist())
    raise TrainingDivergedError(
        f"{' and '.join(f'seed {seed}' for seed in ruined)} diverged: a parameter is no finite number after task "
        f"{progress.task + 1}, iteration {progress.iteration}; the last finite losses were {losses}. Try a smaller "
        "optimisation.learning_rate."
    )


def _evaluate(method: Method, sequence: TaskSequence, progress: Progress) -> None:
    started = time.monotonic()
    for scenario in method.spec.scenarios:
        accuracy, inference = evaluate(method, sequence, scenario, progress.task)
        for store, rows in ((progress.accuracy, accuracy), (progress.inference, inference)):
            runs = store.setdefault(scenario, [[] for _ in sequence.seeds])
            for run, row in zip(runs, rows, strict=True):
                run.append(row)
    progress.evaluation_seconds += time.monotonic() - started


def _save(path: Path, identity: list[str], progress: Progress, method: Method) -> None:
    content = {
        "identity": [CHECKPOINT_FORMAT, *identity],
        "dataset": method.sequence.dataset_sha256,
        "progress": asdict(progress),
        "method": method.state_dict(),
    }
    # By way of memory: when torch itself writes to a full disk, its error is about positions in a file.
    packed = io.BytesIO()
    torch.save(content, packed)
    with written_whole(path) as aside:
        aside.write_bytes(packed.getbuffer())


def _resume(path: Path, identity: list[str], method: Method) -> Progress | None:
    """Load ``path`` into ``method`` if it is a checkpoint of this very pack; return where it stood."""
    if not path.exists():
        return None
    try:
        # weights_only: tensors and plain containers, nothing that could run code.
        content: dict[str, Any] = torch.load(path, weights_only=True, map_location=method.sequence.device)
    except Exception as error:  # torch raises many kinds for a damaged file; none of them may stop the run
        log.warning("checkpoint '%s' cannot be read (%s) and is not used", path, error)
        return None
    if not isinstance(content, dict) or content.get("identity") != [CHECKPOINT_FORMAT, *identity]:
        log.warning("checkpoint '%s' belongs to another specification and is not used", path)
        return None
    expected = method.sequence.dataset_sha256
    found = content.get("dataset", expected)  # checkpoints did not always say so
    if found != expected:
        log.warning(
            "checkpoint '%s' is of a training on other data (SHA-256 %s, now %s) and is not used", path, found, expected
        )
        return None
    progress = Progress(**content["progress"])
    method.load_state_dict(content["method"])
    log.info("going on from '%s': task %d, iteration %d", path, progress.task + 1, progress.iteration)
    return progress
