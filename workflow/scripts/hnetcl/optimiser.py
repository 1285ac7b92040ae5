"""Adam over the run axis, and the step it would make."""

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor


class Adam:
    """``torch.optim.Adam`` on named tensors with gradients handed over explicitly, able to look one step ahead.

    Adam is elementwise, so runs stacked along the leading axis do not touch each other.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        learning_rate: float,
        betas: tuple[float, float],
        epsilon: float,
    ):
        self.parameters = dict(parameters)
        self._adam = torch.optim.Adam(self.parameters.values(), lr=learning_rate, betas=betas, eps=epsilon, fused=True)
        self._steps = 0  # counted here too: on a GPU, reading torch's own count would wait for the device

    @torch.no_grad()
    def look_ahead(self, name: str, gradient: Tensor, out: Tensor | None = None) -> Tensor:
        """Return what parameter ``name`` would be after one step on ``gradient``; nothing else changes.

        This is the published preview (Adam with its present moments and bias correction), in torch's own order of
        operations: Kingma & Ba 2015, algorithm 1. ``out`` receives the result where it is given.
        """
        parameter = self.parameters[name]
        group = self._adam.param_groups[0]
        (beta1, beta2), step = group["betas"], self._steps + 1
        state = self._adam.state.get(parameter)
        if state:
            second = state["exp_avg_sq"] * (beta2 / (1 - beta2**step))
            second.addcmul_(gradient, gradient, value=(1 - beta2) / (1 - beta2**step))
            first = state["exp_avg"].lerp(gradient, 1 - beta1)
        else:
            second = gradient.square()
            first = gradient * (1 - beta1)
        denominator = second.sqrt_().add_(group["eps"])
        return torch.addcdiv(parameter, first, denominator, value=-group["lr"] / (1 - beta1**step), out=out)

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """Take one step on ``gradients``."""
        for name, parameter in self.parameters.items():
            # The fused kernel reads a gradient in its parameter's memory layout.
            parameter.grad = gradients[name].contiguous()
        self._adam.step()
        self._steps += 1

    def state_dict(self) -> dict:
        """Return moments and step counts as plain tensors."""
        return {"adam": self._adam.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict) -> None:
        """Restore what ``state_dict`` returned."""
        self._adam.load_state_dict(deepcopy(state["adam"]))  # torch would go on with the very tensors of ``state``
        self._steps = state["steps"]
