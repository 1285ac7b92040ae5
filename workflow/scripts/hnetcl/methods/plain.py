"""The bounds: the target network with weights of its own, protected by nothing, or trained on everything seen.

van de Ven & Tolias 2019, "None" and "Offline". In CL1 the softmax runs over the classes of a sample's own task, in
CL2 over the shared head, in CL3 over all classes seen so far; at test time over all units in CL3.
"""

import torch
from torch import Tensor

from hnetcl.layers import cross_entropy, fan_in_uniform
from hnetcl.methods.interface import Method, Prediction
from hnetcl.optimiser import Adam
from hnetcl.streams import draw_runs
from hnetcl.target import TargetMLP


class FineTuning(Method):
    """Train on one task after the other."""

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

    def _active_units(self, batch) -> tuple[Tensor, Tensor]:
        """Return the logits the softmax runs over, ``[R, B, K]``, and the labels among them."""
        weights, classes = list(self.weights.values()), self.sequence.classes_per_task
        if self.scenario == "cl3":
            logits = self.target.logits(weights, batch.x, slice(0, (self._task + 1) * classes))
            return logits, batch.tasks * classes + batch.labels
        logits = self.target.logits(weights, batch.x)
        if self.scenario == "cl1":
            heads = logits.unflatten(2, (-1, classes))  # [R, B, tasks, classes]
            own = batch.tasks[:, :, None, None].expand(-1, -1, 1, classes)
            logits = heads.gather(2, own).squeeze(2)
        return logits, batch.labels

    def step(self, batch, iteration):
        """One Adam step on the cross-entropy."""
        loss = cross_entropy(*self._active_units(batch))
        gradients = torch.autograd.grad(loss.sum(), self.weights.values())
        self._adam.step(dict(zip(self.weights, gradients, strict=True)))
        return loss.detach()

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


class JointTraining(FineTuning):
    """Train on all tasks seen so far: as many iterations a task again, on growing data."""

    trains_on_seen_tasks = True
