"""What training and evaluation ask of a method."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from hnetcl.clock import Clock
from hnetcl.networks import TrainedNetwork
from hnetcl.outputs import OutputUnits
from hnetcl.spec import RunSpec
from hnetcl.tasks import Batch, TaskSequence


class Prediction(NamedTuple):
    """For each sample the label within its task and, where the method must tell the task, that task; ``[R, B]``.

    A method that answers with a unit of one common output layer in CL3 splits the unit's number into the two.
    """

    labels: Tensor
    tasks: Tensor | None = None


# Maps inputs ``[R, B, inputs]`` of the task with the given number to a prediction; only CL1 may use the number.
Predictor = Callable[[Tensor, int], Prediction]


class Method(ABC):
    """A method in training, for all seeds of a pack at once.

    ``begin_task``, then ``step`` once an iteration, then ``end_task``; ``predictor`` at any time in between. All
    tensors carry the run axis R in front. ``state_dict`` must hold all that a resumed run needs to go on exactly.
    """

    #: Whether the training data of a task are its own or those of all tasks so far.
    trains_on_seen_tasks: ClassVar[bool] = False

    def __init__(self, spec: RunSpec, sequence: TaskSequence):
        self.spec = spec
        self.sequence = sequence

    def output_units(self, scenario: str) -> OutputUnits:
        """Return the layout of a classifier's output layer in ``scenario``."""
        return OutputUnits(scenario, self.sequence.num_tasks, self.sequence.classes_per_task)

    @abstractmethod
    def begin_task(self, task: int) -> None:
        """Prepare to learn ``task``."""

    @abstractmethod
    def step(self, batch: Batch, iteration: int | Clock) -> Tensor:
        """Learn from one batch; return the task loss of each run, ``[R]``.

        A step may be recorded and replayed (see ``stepping``): what differs from one iteration of a task to the next is
        read by ``iteration`` alone, what it changes is changed in place, and nothing waits for the device.
        """

    def end_task(self, task: int) -> None:  # noqa: B027 - most methods have nothing to do here
        """Wind up after the last step of ``task``."""

    @abstractmethod
    def predictor(self, scenario: str, learned: int) -> Predictor:
        """Return a function that predicts as the method stands now, after ``learned`` tasks."""

    def answers(self, scenario: str, task: int, learned: int) -> bool:
        """Whether predictions for ``task`` mean anything in ``scenario`` after ``learned`` tasks."""
        return scenario != "cl3" or task < learned

    @abstractmethod
    def parameter_counts(self, scenario: str) -> dict[str, int]:
        """Return how many numbers of one run are ``trainable`` for ``scenario``, and the ``target`` network's size."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain containers."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned, also in the middle of a task."""


def answer_by_units(network: TrainedNetwork, outputs: OutputUnits) -> Predictor:
    """Return a predictor that reads the units of ``network``: the task's head, or all of them in CL3."""
    weights = [value.detach() for value in network.weights.values()]

    def predict(x: Tensor, task: int) -> Prediction:
        if outputs.scenario == "cl3":
            units = network.logits(x, weights).argmax(2)
            return Prediction(units % outputs.classes, units // outputs.classes)
        return Prediction(network.logits(x, weights, outputs.head(task)).argmax(2))

    return predict
