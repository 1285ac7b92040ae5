"""The number of an iteration where the host does not say it: in a step that was recorded once and is then replayed.

What a step reads by its iteration (batches, noise, learning rates) it reads through `at`, or has laid in place by
`prepared`. Both work for a plain number too, as on a CPU, where every step is taken by the host.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor


class Clock:
    """An iteration's number on the device, ``now [1]``, and what the host has to do before each replay."""

    def __init__(self, iteration: int, device: torch.device | str):
        self.iteration = iteration  # as the host knows it
        self.now = torch.full((1,), iteration, device=device)
        self._before: dict[Hashable, Callable[[int], None]] = {}

    def before_each(self, owner: Hashable, prepare: Callable[[int], None]) -> None:
        """Have ``prepare`` called before each iteration, this one included; once for each ``owner``."""
        if owner not in self._before:
            self._before[owner] = prepare
            prepare(self.iteration)

    def prepare(self, iteration: int) -> None:
        """Get all ready for ``iteration``; the number on the device is raised by the step itself."""
        self.iteration = iteration
        for prepare in self._before.values():
            prepare(iteration)

    def tick(self) -> None:
        """Raise the number on the device; the last act of a recorded step."""
        self.now += 1


def prepared(iteration: int | Clock, owner: Hashable, prepare: Callable[[int], None]) -> None:
    """Have ``prepare`` called for ``iteration``; of a recorded step before every later one, too."""
    if isinstance(iteration, Clock):
        iteration.before_each(owner, prepare)
    else:
        prepare(iteration)


def at(values: Tensor, dim: int, iteration: int | Clock, period: int | None = None) -> Tensor:
    """Return the slice of ``values`` along ``dim`` that belongs to ``iteration``, modulo ``period`` if given."""
    if isinstance(iteration, Clock):
        place = iteration.now if period is None else iteration.now % period
        return values.index_select(dim, place).squeeze(dim)
    return values.select(dim, iteration if period is None else iteration % period)
