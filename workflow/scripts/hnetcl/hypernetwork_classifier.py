"""A classifier whose weights come from a protected hypernetwork, one network a task (paper, section 2)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hnetcl.hypernetwork import ChunkedHypernetwork
from hnetcl.layers import cross_entropy
from hnetcl.outputs import OutputUnits
from hnetcl.protection import ProtectedHypernetwork
from hnetcl.spec import OptimisationSpec, TargetSpec
from hnetcl.target import TargetMLP
from hnetcl.tasks import Batch, TaskSequence


class HypernetworkClassifier:
    """Learns every task on its own head (CL1 and CL3) or all on one head (CL2), with a network of its own for each.

    Args:
        sequence: the tasks.
        outputs: output units of the target network.
        target: its hidden layers.
        optimisation: Adam's settings and the iterations a task.
        settings: those of a method; ``hypernetwork`` and ``regulariser`` are read.
    """

    def __init__(
        self,
        sequence: TaskSequence,
        outputs: OutputUnits,
        target: TargetSpec,
        optimisation: OptimisationSpec,
        settings: Mapping[str, Any],
    ):
        self.outputs = outputs
        self.target = TargetMLP((sequence.num_inputs, *target.hidden, outputs.count), target.activation)
        self.hypernetwork = ChunkedHypernetwork(
            sequence.seeds,
            sequence.num_tasks,
            self.target.num_weights,
            **settings["hypernetwork"],
            device=sequence.device,
        )
        own_head = settings["regulariser"]["outputs"] == "own_head"
        self._trainer = ProtectedHypernetwork(
            self.hypernetwork,
            sequence.seeds,
            optimisation,
            settings["regulariser"],
            (lambda task: self.target.output_ranges(outputs.head(task))) if own_head else None,
        )

    def begin_task(self, task: int) -> None:
        """Take the snapshot, start Adam anew."""
        self._task = task
        self._trainer.begin_task(task)

    def step(self, batch: Batch, iteration: int) -> Tensor:
        """One iteration of section 2.1: the task's gradient, then the protected step. Return the loss, ``[R]``."""
        weights = self._trainer.weights(iteration)
        logits = self.target.logits(self.target.unpack(weights), batch.x, self.outputs.head(self._task))
        loss = cross_entropy(logits, batch.labels)
        self._trainer.step(*torch.autograd.grad(loss.sum(), weights), iteration)
        return loss.detach()

    def _task_networks(self, tasks: Sequence[int]) -> list[Tensor]:
        """Return the networks of ``tasks``, each with its own head only, stacked: ``[R * tasks, *shape]``."""
        return self.networks_at(self.hypernetwork.embeddings(tasks), tasks)

    @torch.no_grad()
    def networks_at(self, embeddings: Tensor, tasks: Sequence[int]) -> list[Tensor]:
        """Return the networks at ``embeddings [R, n, e]``, each with the head of its one of ``tasks`` (n), stacked."""
        flat = self.hypernetwork.weights(self.hypernetwork.features(embeddings))
        *hidden, weight, bias = self.target.unpack(flat.flatten(0, 1))
        units = self.outputs.units(tasks).to(weight.device).repeat(len(flat), 1)  # [R * tasks, classes of a task]
        rows = torch.arange(len(units), device=weight.device).unsqueeze(1)
        return [*hidden, weight[rows, units], bias[rows, units]]

    def answer_for_given_task(self) -> Callable[[Tensor, int], Tensor]:
        """Return a function from inputs ``[R, B, inputs]`` and their task to labels ``[R, B]``."""
        networks: dict[int, list[Tensor]] = {}

        def answer(x: Tensor, task: int) -> Tensor:
            if task not in networks:
                networks.clear()  # one network at a time: they are as large as the target network
                networks[task] = self._task_networks([task])
            return self.target.logits(networks[task], x).argmax(2)

        return answer

    def answer_of_every_task(self, learned: int) -> Callable[[Tensor], Tensor]:
        """Return a function from inputs ``[R, B, inputs]`` to the logits of each learned task's network and head.

        They are ``[R, learned, B, classes]``.
        """
        networks = self._task_networks(range(learned))

        def answer(x: Tensor) -> Tensor:
            every = x.unsqueeze(1).expand(-1, learned, -1, -1).flatten(0, 1)
            return self.target.logits(networks, every).unflatten(0, (len(x), learned))

        return answer

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs."""
        return {"task": self._task, "trainer": self._trainer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._task = state["task"]
        self._trainer.load_state_dict(state["trainer"])


def labels_of_tasks(logits: Tensor, tasks: Tensor) -> Tensor:
    """Return the label that the network of each sample's task gives, ``[R, B]``.

    ``logits [R, learned, B, classes]`` are those of every task, ``tasks [R, B]`` says which one answers.
    """
    return logits.argmax(3).gather(1, tasks.unsqueeze(1)).squeeze(1)
