"""Adam over the run axis, and the step it would make."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam


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
        self.learning_rate, self._betas, self._epsilon = learning_rate, betas, epsilon
        self._first, self._second = (
            {name: torch.zeros_like(value.detach()) for name, value in self.parameters.items()} for _ in range(2)
        )
        # Torch's kernel reads and raises these; on a GPU, reading them here would wait for the device.
        self._counts = [torch.zeros((), device=value.device) for value in self.parameters.values()]
        self._steps = 0

    @torch.no_grad()
    def look_ahead(self, name: str, gradient: Tensor, out: Tensor | None = None) -> Tensor:
        """Return what parameter ``name`` would be after one step on ``gradient``; nothing else changes.

        This is the published preview: Adam with its present moments and bias correction (Kingma & Ba 2015, algorithm
        1). ``out`` receives the result where it is given.
        """
        parameter = self.parameters[name]
        (beta1, beta2), step = self._betas, self._steps + 1
        first = self._first[name].lerp(gradient, 1 - beta1)
        # Every pass over memory counts: the second moment stays without its factors, which go into the step's length.
        scale = math.sqrt(beta2 / (1 - beta2**step))
        second = torch.addcmul(self._second[name], gradient, gradient, value=(1 - beta2) / beta2)
        denominator = second.sqrt_().add_(self._epsilon / scale)
        length = self.learning_rate / (1 - beta1**step) / scale
        return torch.addcdiv(parameter, first, denominator, value=-length, out=out)

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """Take one step on ``gradients``."""
        adam(
            list(self.parameters.values()),
            # The fused kernel reads a gradient in its parameter's memory layout.
            [gradients[name].contiguous() for name in self.parameters],
            list(self._first.values()),
            list(self._second.values()),
            [],
            self._counts,
            fused=True,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=self.learning_rate,
            weight_decay=0,
            eps=self._epsilon,
            maximize=False,
        )
        self._steps += 1

    def state_dict(self) -> dict:
        """Return moments and step count."""
        return {"first": self._first, "second": self._second, "steps": self._steps}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """Restore what ``state_dict`` returned."""
        for name in self.parameters:
            self._first[name].copy_(state["first"][name])
            self._second[name].copy_(state["second"][name])
        self._steps = state["steps"]
        for count in self._counts:
            count.fill_(self._steps)
