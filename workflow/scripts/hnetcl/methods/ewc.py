"""Elastic weight consolidation (Kirkpatrick et al. 2017), online (Schwarz et al. 2018) and with a term for every task.

As van de Ven & Tolias (2019) ran them. Their published numbers come with settings that move them and are kept here:
gamma acts twice (on the old Fisher information when the new is added, and on their sum in the loss), the Fisher
information is taken at the predicted label, and its sum over N samples is divided by N - 1.
"""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from hnetcl.methods.plain import PlainNetwork

FISHER_BATCH = 1000


class ElasticWeightConsolidation(PlainNetwork):
    """Adds ``strength`` / 2 sum_k F_k (theta_k - anchor_k)^2; subclasses say how F and the anchor go on."""

    strength: float

    def __init__(self, spec, sequence):
        super().__init__(spec, sequence)
        self.strength = spec.settings["strength"][self.scenario]
        self._anchor = {name: value.detach().clone() for name, value in self.weights.items()}
        self._fisher = {name: torch.zeros_like(value) for name, value in self._anchor.items()}

    @torch.no_grad()
    def add_penalty(self, gradients):
        """See ``PlainNetwork``."""
        for name, value in self.weights.items() if self._task else ():
            gradients[name] += self.strength * self._fisher[name] * (value - self._anchor[name])

    def end_task(self, task):
        """Take in the Fisher information of the task."""
        for name, new in self.fisher_information(task).items():
            self.consolidate(self._fisher[name], self._anchor[name], new, self.weights[name].detach())

    @abstractmethod
    def consolidate(self, fisher: Tensor, anchor: Tensor, new: Tensor, weights: Tensor) -> None:
        """Change ``fisher`` and ``anchor`` in place by the information ``new`` that was found at ``weights``."""

    def fisher_information(self, task: int) -> dict[str, Tensor]:
        """Return the diagonal Fisher information at the predicted labels over the training set of ``task``."""
        weights = list(self.weights.values())
        sums = [torch.zeros_like(value) for value in weights]
        samples, valid = self.sequence.training_set(task)
        for part, counts in zip(samples.split(FISHER_BATCH, 1), valid.split(FISHER_BATCH, 1), strict=True):
            batch = self.sequence.train_batch(task, part, None)
            inputs, outputs = self.network.shape.layer_by_layer(weights, batch.x)
            logits, _ = self.outputs.active(outputs[-1], batch.tasks, batch.labels, self._task + 1)
            log_p = functional.log_softmax(logits, dim=2)
            likelihood = (log_p.max(2).values * counts).sum()
            at_outputs = torch.autograd.grad(likelihood, outputs)
            for total, part_of_it in zip(sums, self.network.shape.squared_gradients(inputs, at_outputs), strict=True):
                total += part_of_it
        divisors = valid.sum(1) - 1
        return {
            name: (value / divisors.view(-1, *[1] * (value.dim() - 1))).detach()
            for name, value in zip(self.weights, sums, strict=True)
        }

    def state_dict(self):
        """See ``Method``."""
        return super().state_dict() | {"anchor": self._anchor, "fisher": self._fisher}

    def load_state_dict(self, state):
        """See ``Method``."""
        super().load_state_dict(state)
        for name in self.weights:
            self._anchor[name].copy_(state["anchor"][name])
            self._fisher[name].copy_(state["fisher"][name])


class OnlineEWC(ElasticWeightConsolidation):
    """lambda / 2 sum_k gamma F_k (theta_k - theta*_k)^2, theta* the weights after the previous task."""

    def __init__(self, spec, sequence):
        super().__init__(spec, sequence)
        self._decay = spec.settings["decay"][self.scenario]
        self.strength *= self._decay

    def consolidate(self, fisher, anchor, new, weights):
        """F <- F of this task + gamma F."""
        fisher.mul_(self._decay).add_(new)
        anchor.copy_(weights)


class OfflineEWC(ElasticWeightConsolidation):
    """lambda / 2 sum_t sum_k F_tk (theta_k - theta_tk)^2, with a term for every earlier task t.

    The sum of the quadratics of one weight is, up to a constant, one quadratic with the sum of their information around
    its weighted mean of the anchors: nothing is stored for a task.
    """

    def consolidate(self, fisher, anchor, new, weights):
        """Move the mean by the new information's share."""
        fisher.add_(new)
        share = torch.where(fisher > 0, new / fisher, 0.0)
        anchor.lerp_(weights, share)
