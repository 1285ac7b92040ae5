"""Adam over the run axis, and the step it would make."""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

import torch
from torch import Tensor

from hnetcl.clock import Clock, prepared

# On a CPU a step ahead is taken so many numbers at a time: what it leaves of the moments, which nobody wants, then
# never leaves the caches.
PIECE = 2**18


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
        device = next(iter(self._first.values())).device
        self._count = torch.zeros((), device=device)  # of steps
        self._rate = torch.zeros((), device=device)
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
        gradients = {name: gradient.contiguous() for name, gradient in gradients.items()}
        places = {name: place for name, place in (out or {}).items() if name in gradients}
        # The fused kernel takes a parameter to lie in one piece, whether it does or not.
        ahead = {name: torch.empty_like(self.parameters[name]) for name in gradients}
        ahead.update({name: place for name, place in places.items() if place.is_contiguous()})
        count = self._count + 1
        state = (ahead, self.parameters, self._first, self._second, gradients)
        by_name = (zip(*(_pieces(part[name]) for part in state), strict=True) for name in gradients)
        for pieces in zip_longest(*by_name):
            moved, now, first, second, by = map(list, zip(*filter(None, pieces), strict=True))
            moments = [torch.empty_like(moment) for moment in first + second]
            torch._foreach_copy_(moved + moments, now + first + second)
            self._move(moved, moments[: len(first)], moments[len(first) :], count, by)
        for name, place in places.items():
            if ahead[name] is not place:
                ahead[name] = place.copy_(ahead[name])
        return ahead

    @torch.no_grad()
    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """Take one step on ``gradients``."""
        self._count += 1
        state = (list(part.values()) for part in (self.parameters, self._first, self._second))
        self._move(*state, self._count, [gradients[name].contiguous() for name in self.parameters])

    def _move(
        self,
        parameters: Sequence[Tensor],
        first: Sequence[Tensor],
        second: Sequence[Tensor],
        count: Tensor,
        gradients: Sequence[Tensor],
    ) -> None:
        """Change parameters and moments as Adam's step number ``count`` does.

        Torch's fused kernel reads a gradient in its parameter's memory layout, whatever its own: both lie in one piece.
        """
        torch._fused_adam_(
            parameters,
            gradients,
            first,
            second,
            [],
            [count] * len(parameters),
            lr=self._learning_rate if _is_at_hand(self._rate) else self._rate,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=0.0,
            eps=self._epsilon,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict:
        """Return moments and step count."""
        return {"first": self._first, "second": self._second, "steps": int(self._count)}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        """Restore what ``state_dict`` returned."""
        for name in self.parameters:
            self._first[name].copy_(state["first"][name])
            self._second[name].copy_(state["second"][name])
        self._count.fill_(state["steps"])


def _is_at_hand(number: Tensor) -> bool:
    """Whether the host may read ``number`` in the middle of a step: on a GPU it would have to wait for it."""
    return number.device.type == "cpu"


def _pieces(values: Tensor) -> Sequence[Tensor]:
    """Return ``values`` as they are, or on a CPU, where they are many, in pieces of `PIECE` numbers."""
    few = values.is_cuda or values.numel() <= PIECE
    return (values,) if few else values.view(-1).split(PIECE)
