"""How long a task is trained, and at which learning rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from hnetcl.spec import OptimisationSpec


@dataclass(frozen=True)
class Schedule:
    """Iterations and learning rates of every task; ``samples`` are the sizes of the tasks' training sets."""

    optimisation: OptimisationSpec
    samples: Sequence[int]

    def iterations(self, task: int, *, seen: bool = False) -> int:
        """Return the iterations of ``task``; ``seen`` is training on the data of all tasks so far."""
        if self.optimisation.iterations is not None:
            return self.optimisation.iterations
        return self.optimisation.epochs * self._epoch(task, seen)

    def learning_rate(self, task: int, iteration: int, *, seen: bool = False) -> float:
        """Return the learning rate of an iteration: the last factor whose epoch has begun, 1 before the first."""
        if self.optimisation.schedule is None:
            return self.optimisation.learning_rate
        epoch = iteration // self._epoch(task, seen)
        factors = [factor for start, factor in self.optimisation.schedule if start <= epoch]
        return self.optimisation.learning_rate * (factors[-1] if factors else 1.0)

    def _epoch(self, task: int, seen: bool) -> int:
        """Return the iterations of an epoch; the last one may wrap into the next epoch."""
        size = sum(self.samples[: task + 1]) if seen else self.samples[task]
        return ceil(size / self.optimisation.batch_size)
