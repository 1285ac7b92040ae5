"""Adam over the run axis, and the step it would make."""

from collections.abc import Callable, Mapping, Sequence

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

        This is the published preview, Adam with its present moments and bias correction (Kingma & Ba 2015, algorithm
        1): a step taken on copies. ``out`` holds where the result is to be written, for those parameters that it names.
        """
        copies = [{name: torch.empty_like(part[name]) for name in gradients} for part in self._state]
        places = {name: out[name] for name in gradients if name in (out or {})}
        # The fused kernel takes a parameter to lie in one piece, whether it does or not.
        copies[0].update({name: place for name, place in places.items() if place.is_contiguous()})
        for copy, part in zip(copies, self._state, strict=True):
            torch._foreach_copy_(list(copy.values()), [part[name] for name in copy])
        self._take_step(copies, gradients)
        for name, place in places.items():
            if copies[0][name] is not place:
                copies[0][name] = place.copy_(copies[0][name])
        return copies[0]

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """Take one step on ``gradients``."""
        self._take_step(self._state, gradients)

    @property
    def _state(self) -> Sequence[Mapping[str, Tensor]]:
        """What a step changes."""
        return self.parameters, self._first, self._second, self._counts

    def _take_step(self, state: Sequence[Mapping[str, Tensor]], gradients: Mapping[str, Tensor]) -> None:
        """Change parameters, moments and counts as Adam does; all of them are named in the same order."""
        parameters, first, second, counts = state
        adam(
            list(parameters.values()),
            # The fused kernel reads a gradient in its parameter's memory layout.
            [gradients[name].contiguous() for name in parameters],
            list(first.values()),
            list(second.values()),
            [],
            list(counts.values()),
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
