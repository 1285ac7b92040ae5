"""How a method's steps are taken: one after the other by the host, or recorded once a task and replayed by the GPU.

A step of these networks is some two hundred small operations. Asking for each of them from Python takes longer than the
GPU needs to carry it out; a recorded step (a CUDA graph) is asked for once.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from hnetcl.clock import Clock
from hnetcl.methods.interface import Method
from hnetcl.tasks import TrainingStage

# Returns a function that does again what the given one does now, with the same memory.
Recorder = Callable[[Callable[[], None]], Callable[[], None]]

# Steps of a task that the host takes before it records one: they load kernels and make lasting workspaces.
WARM_UP = 3


class Steps(Protocol):
    """Takes the step of an iteration and returns its loss, ``[R]``; iterations of a task come in order."""

    def __call__(self, iteration: int) -> Tensor:
        """Take the step of ``iteration``."""


class HostSteps:
    """The host asks for every operation."""

    def __init__(self, method: Method, stage: TrainingStage):
        self._method, self._stage = method, stage

    def __call__(self, iteration):
        """See ``Steps``."""
        return self._method.step(self._stage[iteration], iteration)


class RecordedSteps:
    """The first steps are taken by the host, then one is recorded, and all that follow are replays of it.

    Args:
        method: in the task of ``stage``.
        stage: its batches.
        record: by which means.
    """

    def __init__(self, method: Method, stage: TrainingStage, record: Recorder):
        self._method, self._stage, self._record = method, stage, record
        self._clock: Clock | None = None
        self._replay: Callable[[], None] | None = None
        self._taken = 0

    def __call__(self, iteration):
        """See ``Steps``."""
        if self._clock is None:  # also where a resumed training goes on in the middle of a task
            self._clock = Clock(iteration, self._method.sequence.device)
        self._clock.prepare(iteration)
        if self._taken < WARM_UP:
            self._step()
            self._taken += 1
        else:
            if self._replay is None:
                self._replay = self._record(self._step)
            self._replay()
        return self._loss.clone()

    def _step(self) -> None:
        self._loss = self._method.step(self._stage[self._clock], self._clock)
        self._clock.tick()


def record_graph(call: Callable[[], None]) -> Callable[[], None]:
    """Record the work that ``call`` asks the GPU for, without having it done."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def are_recorded(device: torch.device, record: bool) -> bool:
    """Whether steps on ``device`` are recorded: on a GPU, unless ``record`` says no."""
    return record and device.type == "cuda"


def steps(method: Method, stage: TrainingStage, *, record: bool = True) -> Steps:
    """Return the steps of ``method`` on ``stage``, see `are_recorded`."""
    if are_recorded(method.sequence.device, record):
        return RecordedSteps(method, stage, record_graph)
    return HostSteps(method, stage)
