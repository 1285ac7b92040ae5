"""Adam over the run axis, and the step it would make."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam

from hnetcl.clock import Clock, prepared


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
        self._betas, self._epsilon = betas, epsilon
        self._first, self._second = (
            {name: torch.zeros_like(value.detach()) for name, value in self.parameters.items()} for _ in range(2)
        )
        # Torch's kernel reads and raises these.
        self._counts = {name: torch.zeros((), device=value.device) for name, value in self.parameters.items()}
        self._rate = torch.zeros((), device=next(iter(self._counts.values())).device)
        self.learning_rate = learning_rate

    @property
    def learning_rate(self) -> float:
        """The present one."""
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._learning_rate = value
        self._rate.copy_(torch.tensor(value, dtype=torch.float64))  # too large a one becomes infinite

    def follow(self, rate: Callable[[int], float], iteration: int | Clock) -> None:
        """Take the learning rate of ``iteration`` from ``rate``; of every later one, too, if a step is recorded."""

        def change(number: int) -> None:
            if (value := rate(number)) != self._learning_rate:
                self.learning_rate = value

        prepared(iteration, self, change)

    @torch.no_grad()
    def look_ahead(self, gradients: Mapping[str, Tensor], out: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return what the parameters of ``gradients`` would be after one step on them; nothing else changes.

        This is the published preview: Adam with its present moments and bias correction (Kingma & Ba 2015, algorithm
        1). ``out`` holds where the result is to be written, for those parameters that it names.
        """
        out, (beta1, beta2) = out or {}, self._betas
        floor, length = self._corrections(self._counts[next(iter(gradients))])
        on_host = isinstance(length, float)
        if not on_host:  # both at once is one pass
            floor, stretch = (value.to(self._rate.dtype) for value in (floor / length, 1 / length))
        ahead = {}
        for name, gradient in gradients.items():
            first = self._first[name].lerp(gradient, 1 - beta1)
            # Every pass over memory counts: the second moment stays without its factors, which go into the step's
            # length.
            second = torch.addcmul(self._second[name], gradient, gradient, value=(1 - beta2) / beta2)
            root, value = second.sqrt_(), -length if on_host else -1
            denominator = root.add_(floor) if on_host else torch.addcmul(floor, root, stretch)
            ahead[name] = torch.addcdiv(self.parameters[name], first, denominator, value=value, out=out.get(name))
        return ahead

    def _corrections(self, count: Tensor) -> tuple[float, float] | tuple[Tensor, Tensor]:
        """Return what bias correction makes of epsilon, and of the step's length."""
        beta1, beta2 = self._betas
        if _is_at_hand(count):
            step = int(count) + 1
            scale = math.sqrt(beta2 / (1 - beta2**step))
            return self._epsilon / scale, self._learning_rate / (1 - beta1**step) / scale
        step = count.double() + 1
        scale = (beta2 / (1 - beta2**step)).sqrt()
        return self._epsilon / scale, self._rate.double() / (1 - beta1**step) / scale

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
            list(self._counts.values()),
            fused=True,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=self._learning_rate if _is_at_hand(self._rate) else self._rate,
            weight_decay=0,
            eps=self._epsilon,
            maximize=False,
        )

    def state_dict(self) -> dict:
        """Return moments and step count."""
        steps = int(next(iter(self._counts.values())))
        return {"first": self._first, "second": self._second, "steps": steps}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """Restore what ``state_dict`` returned."""
        for name in self.parameters:
            self._first[name].copy_(state["first"][name])
            self._second[name].copy_(state["second"][name])
            self._counts[name].fill_(state["steps"])


def _is_at_hand(number: Tensor) -> bool:
    """Whether the host may read ``number`` in the middle of a step: on a GPU it would have to wait for it."""
    return number.device.type == "cpu"
