"""Adam over the run axis, and the step it would make."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hnetcl.clock import Clock, prepared

# On a CPU, Numba is worth its loading for a parameter of so many numbers.
LARGE = 2**16


class Place(NamedTuple):
    """Where a parameter one step ahead is to be written, and how far it then is from ``before``; all ``[R, ...]``."""

    ahead: Tensor
    before: Tensor
    change: Tensor

    def put(self, value: Tensor) -> None:
        """Write ``value``, and how far it is from ``before``."""
        self.ahead.copy_(value)
        torch.sub(value, self.before, out=self.change)


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
    def look_ahead(self, gradients: Mapping[str, Tensor], out: Mapping[str, Place] | None = None) -> dict[str, Tensor]:
        """Return what the parameters of ``gradients`` would be after one step on them; nothing else changes.

        This is the published preview, Adam with its present moments and bias correction (Kingma & Ba 2015, algorithm
        1): a step taken on copies. ``out`` holds where the result is to be written, for those parameters that it names.
        """
        # The fused kernel takes a gradient and a parameter to lie in one piece, whether they do or not.
        gradients = {name: gradient.contiguous() for name, gradient in gradients.items()}
        places = {name: place for name, place in (out or {}).items() if name in gradients}
        large = {n for n, p in places.items() if not p.ahead.is_cuda and p.ahead.numel() >= LARGE}
        ahead = {name: torch.empty_like(self.parameters[name]) for name in gradients if name not in large}
        if ahead:
            moments = [torch.empty_like(part[name]) for part in (self._first, self._second) for name in ahead]
            now = [part[name] for part in (self.parameters, self._first, self._second) for name in ahead]
            torch._foreach_copy_([*ahead.values(), *moments], now)
            first, second = moments[: len(ahead)], moments[len(ahead) :]
            self._move(list(ahead.values()), first, second, self._count + 1, [gradients[name] for name in ahead])
        for name, place in places.items():
            if name in large:
                self._step_ahead(name, gradients[name], place)
            else:
                place.put(ahead[name])
            ahead[name] = place.ahead
        return ahead

    def _step_ahead(self, name: str, gradient: Tensor, place: Place) -> None:
        """Look ahead for one large parameter on a CPU, in one pass over memory."""
        from hnetcl.preview import step_ahead  # Numba, which takes a second to load

        step_ahead(
            self.parameters[name],
            self._first[name],
            self._second[name],
            gradient,
            place.before,
            place.ahead,
            place.change,
            count=int(self._count) + 1,
            learning_rate=self._learning_rate,
            betas=self._betas,
            epsilon=self._epsilon,
        )

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
