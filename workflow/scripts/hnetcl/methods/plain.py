"""The target network with weights of its own: the bounds, and what the baselines share with them.

van de Ven & Tolias 2019, "None" and "Offline". In CL1 the softmax runs over the classes of a sample's own task, in
CL2 over the shared head, in CL3 over all classes seen so far; at test time over all units in CL3.
"""

from functools import partial

from torch import Tensor

from hnetcl.architectures import target_network
from hnetcl.layers import cross_entropy, named_gradients
from hnetcl.methods.interface import Method, answer_by_units
from hnetcl.networks import TrainedNetwork
from hnetcl.target import DropoutMasks, Mode


class PlainNetwork(Method):
    """A network that is trained directly; what protects it, if anything, is in the subclasses."""

    def __init__(self, spec, sequence):
        super().__init__(spec, sequence)
        (self.scenario,) = spec.scenarios
        self.outputs = self.output_units(self.scenario)
        self.network = TrainedNetwork(
            sequence.seeds,
            target_network(spec.target, sequence.num_inputs, self.outputs.count),
            "fan_in",
            spec.optimisation,
            "target network",
            sequence.device,
        )

    @property
    def weights(self) -> dict[str, Tensor]:
        """What is trained."""
        return self.network.weights

    def begin_task(self, task):
        """Reset Adam if the settings say so."""
        self._start(task)
        if self.spec.settings["reset_optimiser"]:
            self.network.restart_optimiser()

    def _start(self, task: int) -> None:
        self._task, sequence = task, self.sequence
        samples = self.spec.optimisation.batch_size
        self._masks = DropoutMasks(
            self.network.shape, sequence.seeds, "target network", task, samples=samples, device=sequence.device
        )

    def step(self, batch, iteration):
        """One Adam step on the cross-entropy and what ``add_penalty`` adds to it."""
        rate = partial(self.sequence.schedule.learning_rate, self._task, seen=self.trains_on_seen_tasks)
        self.network.optimiser.follow(rate, iteration)
        logits = self.network.logits(batch.x, mode=Mode(True, self.network.statistics, self._masks[iteration]))
        active = self.outputs.active(logits, batch.tasks, batch.labels, self._task + 1)
        loss = cross_entropy(*active)
        gradients = named_gradients(loss, self.weights)
        self.add_penalty(gradients)
        self.descend(gradients)
        return loss.detach()

    def add_penalty(self, gradients: dict[str, Tensor]) -> None:
        """Add the gradient of a penalty on the weights to ``gradients``; none here."""

    def descend(self, gradients: dict[str, Tensor]) -> None:
        """Take the step."""
        self.network.optimiser.step(gradients)

    def predictor(self, scenario, learned):
        """See ``Method``."""
        return answer_by_units(self.network, self.outputs)

    def parameter_counts(self, scenario):
        """The target network is what is trained."""
        return dict.fromkeys(("trainable", "target"), self.network.shape.num_weights)

    def state_dict(self):
        """See ``Method``."""
        return {"task": self._task, "network": self.network.state_dict()}

    def load_state_dict(self, state):
        """See ``Method``."""
        self.network.load_state_dict(state["network"])
        self._start(state["task"])


class FineTuning(PlainNetwork):
    """Train on one task after the other."""


class JointTraining(PlainNetwork):
    """Train on all tasks seen so far: as many iterations a task again, on growing data."""

    trains_on_seen_tasks = True
