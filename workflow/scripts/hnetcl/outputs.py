"""Which output units a network has in a scenario, and which of them are whose."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class OutputUnits:
    """The output units of a network over ``num_tasks`` tasks of ``classes`` classes each, in one scenario.

    CL1 and CL3 have a head for every task, unit ``task * classes + label``; in CL2 all tasks share one head.
    """

    scenario: str
    num_tasks: int
    classes: int

    @property
    def count(self) -> int:
        """Number of output units."""
        return self.classes * (1 if self.scenario == "cl2" else self.num_tasks)

    def head(self, task: int) -> slice:
        """Units of ``task``."""
        first = 0 if self.scenario == "cl2" else task * self.classes
        return slice(first, first + self.classes)

    def by_head(self, logits: Tensor) -> Tensor:
        """Reshape ``[..., units]`` to ``[..., heads, classes]``."""
        return logits.unflatten(-1, (-1, self.classes))

    def of_first(self, logits: Tensor, tasks: int) -> Tensor:
        """Return of ``logits [..., units]`` those of the first ``tasks`` tasks."""
        return logits[..., : tasks * self.classes]

    def own_head(self, logits: Tensor, tasks: Tensor) -> Tensor:
        """Return of ``logits [R, B, units]`` those of the head of each sample's task, ``[R, B, classes]``."""
        if self.scenario == "cl2":
            return logits
        own = tasks[:, :, None, None].expand(-1, -1, 1, self.classes)
        return self.by_head(logits).gather(2, own).squeeze(2)

    def active(self, logits: Tensor, tasks: Tensor, labels: Tensor, learned: int) -> tuple[Tensor, Tensor]:
        """Return those of ``logits [R, B, units]`` that a plain network's softmax runs over, and the labels in them.

        In CL1 and CL2 the head of each sample's task, in CL3 all units of the first ``learned`` tasks (van de Ven &
        Tolias 2019).
        """
        if self.scenario == "cl3":
            return self.of_first(logits, learned), tasks * self.classes + labels
        return self.own_head(logits, tasks), labels

    def units(self, tasks: list[int]) -> Tensor:
        """Return the units of each task's head, ``[tasks, classes]``."""
        return torch.stack([torch.arange(self.count)[self.head(task)] for task in tasks])
