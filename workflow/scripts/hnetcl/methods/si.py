"""Synaptic intelligence (Zenke, Poole & Ganguli 2017), as van de Ven & Tolias (2019) ran it.

Every weight's importance is its share in the fall of the loss along the path of training. The gradient in the path
integral is that of the total loss, penalty included, as in their code.
"""

import torch

from hnetcl.methods.plain import PlainNetwork


class SynapticIntelligence(PlainNetwork):
    """Adds c sum_k Omega_k (theta_k - theta*_k)^2, theta* the weights after the previous task."""

    def __init__(self, spec, sequence):
        super().__init__(spec, sequence)
        self._strength = spec.settings["strength"][self.scenario]
        self._damping = spec.settings["damping"]
        self._anchor = {name: value.detach().clone() for name, value in self.weights.items()}
        self._path = {name: torch.zeros_like(value) for name, value in self._anchor.items()}
        self._importance = {name: torch.zeros_like(value) for name, value in self._anchor.items()}
        self._change = {name: torch.empty_like(value) for name, value in self._anchor.items()}  # scratch

    @torch.no_grad()
    def add_penalty(self, gradients):
        """See ``PlainNetwork``."""
        for name, value in self.weights.items() if self._task else ():
            change = torch.sub(value, self._anchor[name], out=self._change[name])
            gradients[name].addcmul_(self._importance[name], change, value=2 * self._strength)

    @torch.no_grad()
    def descend(self, gradients):
        """Take the step and add -g (theta_after - theta_before) to the path integral."""
        for name, value in self.weights.items():
            self._change[name].copy_(value)
        super().descend(gradients)
        for name, value in self.weights.items():
            self._path[name].addcmul_(gradients[name], self._change[name].sub_(value))

    @torch.no_grad()
    def end_task(self, task):
        """Omega += path integral / (change over the task^2 + damping); negative shares are kept."""
        for name, value in self.weights.items():
            change = value - self._anchor[name]
            self._importance[name] += self._path[name] / (change.square() + self._damping)
            self._path[name].zero_()
            self._anchor[name].copy_(value)

    def state_dict(self):
        """See ``Method``."""
        return super().state_dict() | {
            "anchor": self._anchor,
            "path": self._path,
            "importance": self._importance,
        }

    def load_state_dict(self, state):
        """See ``Method``."""
        super().load_state_dict(state)
        for name in self.weights:
            self._anchor[name].copy_(state["anchor"][name])
            self._path[name].copy_(state["path"][name])
            self._importance[name].copy_(state["importance"][name])
