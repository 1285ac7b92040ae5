"""The target network with weights of its own: the bounds, and what the baselines share with them.

van de Ven & Tolias 2019, "None" and "Offline". In CL1 the softmax runs over the classes of a sample's own task, in
CL2 over the shared head, in CL3 over all classes seen so far; at test time over all units in CL3.
"""

import torch
from torch import Tensor

from hnetcl.layers import cross_entropy, fan_in_uniform, named_gradients
from hnetcl.methods.interface import Method, Prediction
from hnetcl.optimiser import Adam
from hnetcl.streams import draw_runs
from hnetcl.target import TargetMLP


class PlainNetwork(Method):
    """A network that is trained directly; what protects it, if anything, is in the subclasses."""

    def __init__(self, spec, sequence):
        super().__init__(spec, sequence)
        (self.scenario,) = spec.scenarios
        sizes = (sequence.num_inputs, *spec.target.hidden, self.num_outputs)
        self.target = TargetMLP(sizes, spec.target.activation)
        self.weights: dict[str, Tensor] = {}
        for number, shape in enumerate(self.target.shapes):
            fan_in = self.target.shapes[number - number % 2][1]  # a bias goes by the fan-in of its weight
            drawn = draw_runs(
                sequence.seeds,
                lambda g, s=shape, f=fan_in: fan_in_uniform(g, s, f),
                "target network",
                number,
            )
            self.weights[f"tensor_{number}"] = drawn.to(sequence.device).requires_grad_()
        self._new_adam()

    def _new_adam(self) -> None:
        adam = self.spec.optimisation
        self._adam = Adam(self.weights, adam.learning_rate, adam.betas, adam.epsilon)

    def begin_task(self, task):
        """Reset Adam if the settings say so."""
        self._task = task
        if self.spec.settings["reset_optimiser"]:
            self._new_adam()

    def active_units(self, logits: Tensor, tasks: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return those of all ``logits [R, B, units]`` that the softmax runs over, and the labels among them."""
        classes = self.sequence.classes_per_task
        if self.scenario == "cl3":
            return logits[:, :, : (self._task + 1) * classes], tasks * classes + labels
        if self.scenario == "cl1":
            heads = logits.unflatten(2, (-1, classes))  # [R, B, tasks, classes]
            own = tasks[:, :, None, None].expand(-1, -1, 1, classes)
            logits = heads.gather(2, own).squeeze(2)
        return logits, labels

    def step(self, batch, iteration):
        """One Adam step on the cross-entropy and what ``add_penalty`` adds to it."""
        logits = self.target.logits(list(self.weights.values()), batch.x)
        loss = cross_entropy(*self.active_units(logits, batch.tasks, batch.labels))
        gradients = named_gradients(loss, self.weights)
        self.add_penalty(gradients)
        self.descend(gradients)
        return loss.detach()

    def add_penalty(self, gradients: dict[str, Tensor]) -> None:
        """Add the gradient of a penalty on the weights to ``gradients``; none here."""

    def descend(self, gradients: dict[str, Tensor]) -> None:
        """Take the step."""
        self._adam.step(gradients)

    def predictor(self, scenario, learned):
        """See ``Method``."""
        classes = self.sequence.classes_per_task
        weights = [value.detach() for value in self.weights.values()]

        def predict(x: Tensor, task: int) -> Prediction:
            if scenario == "cl3":
                units = self.target.logits(weights, x).argmax(2)
                return Prediction(units % classes, units // classes)
            return Prediction(self.target.logits(weights, x, self.head(task)).argmax(2))

        return predict

    def parameter_counts(self):
        """The target network is what is trained."""
        return {"trainable": self.target.num_weights, "target": self.target.num_weights}

    def state_dict(self):
        """See ``Method``."""
        weights = {name: value.detach() for name, value in self.weights.items()}
        return {"task": self._task, "weights": weights, "adam": self._adam.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state):
        """See ``Method``."""
        self._task = state["task"]
        for name, value in self.weights.items():
            value.copy_(state["weights"][name])
        self._adam.load_state_dict(state["adam"])


class FineTuning(PlainNetwork):
    """Train on one task after the other."""


class JointTraining(PlainNetwork):
    """Train on all tasks seen so far: as many iterations a task again, on growing data."""

    trains_on_seen_tasks = True
