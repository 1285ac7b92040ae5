"""Accuracy on every task's test set, for all runs of a pack at once."""

import torch
from torch import Tensor

from hnetcl.methods.interface import Method
from hnetcl.tasks import TaskSequence

TEST_BATCH = 1000


@torch.no_grad()
def evaluate(
    method: Method, sequence: TaskSequence, scenario: str, learned: int
) -> tuple[list[list[float | None]], list[list[float | None]]]:
    """Return accuracy and task-inference accuracy in percent, ``[R][tasks]``, after ``learned`` tasks.

    None stands where nothing was measured: tasks that the method cannot be asked about, and task inference where the
    method infers no task.
    """
    asked = [method.answers(scenario, task, learned) for task in range(sequence.num_tasks)]
    predict = method.predictor(scenario, learned) if any(asked) else None
    accuracy: list[Tensor | None] = []
    inference: list[Tensor | None] = []
    for task in range(sequence.num_tasks):
        if not asked[task]:
            accuracy.append(None)
            inference.append(None)
            continue
        samples, valid = sequence.test_set(task)
        right, inferred = [], []
        for part, counts in zip(samples.split(TEST_BATCH, 1), valid.split(TEST_BATCH, 1), strict=True):
            batch = sequence.test_batch(task, part)
            labels, tasks = predict(batch.x, task)
            correct = labels == batch.labels
            if tasks is not None:
                found = tasks == task
                inferred.append((found & counts).sum(1))
                if scenario == "cl3":
                    correct = correct & found
            right.append((correct & counts).sum(1))
        total = valid.sum(1).double()
        accuracy.append(100 * sum(right) / total)
        inference.append(100 * sum(inferred) / total if inferred else None)
    return _by_run(accuracy, len(sequence.seeds)), _by_run(inference, len(sequence.seeds))


def _by_run(by_task: list[Tensor | None], runs: int) -> list[list[float | None]]:
    values = [[None] * runs if value is None else value.tolist() for value in by_task]
    return [list(run) for run in zip(*values, strict=True)]
