"""A classifier whose weights come from a protected hypernetwork, one network a task (paper, section 2)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hnetcl.architectures import target_network
from hnetcl.clock import Clock
from hnetcl.hypernetwork import ChunkedHypernetwork
from hnetcl.layers import cross_entropy_and_gradient
from hnetcl.outputs import OutputUnits
from hnetcl.protection import ProtectedHypernetwork
from hnetcl.spec import TargetSpec
from hnetcl.target import DropoutMasks, Mode
from hnetcl.tasks import Batch, TaskSequence


class HypernetworkClassifier:
    """Learns every task on its own head (CL1 and CL3) or all on one head (CL2), with a network of its own for each.

    Args:
        sequence: the tasks.
        outputs: output units of the target network.
        target: which network that is.
        settings: those of a method; ``hypernetwork``, ``regulariser`` and ``normalisation_statistics`` are read.
    """

    def __init__(
        self,
        sequence: TaskSequence,
        outputs: OutputUnits,
        target: TargetSpec,
        settings: Mapping[str, Any],
    ):
        self.outputs = outputs
        self.target = target_network(target, sequence.num_inputs, outputs.count)
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
            sequence.schedule,
            settings["regulariser"],
            (lambda task: self.target.output_ranges(outputs.head(task))) if own_head else None,
        )

        self._sequence = sequence
        # Running statistics of batch normalisation, for every task its own unless they are to be shared.
        shares = settings.get("normalisation_statistics") == "shared"
        like = self.hypernetwork.shared["output"].detach()
        sets = [
            self.target.initial_statistics(len(sequence.seeds), like)
            for _ in range(1 if shares else sequence.num_tasks)
        ]
        self._statistics = sets * sequence.num_tasks if shares else sets

    def begin_task(self, task: int) -> None:
        """Take the snapshot, start Adam anew."""
        self._trainer.begin_task(task)
        self._start(task)

    def _start(self, task: int) -> None:
        self._task, sequence = task, self._sequence
        samples = sequence.schedule.optimisation.batch_size
        self._masks = DropoutMasks(
            self.target, sequence.seeds, "classifier", task, samples=samples, device=sequence.device
        )

    def step(self, batch: Batch, iteration: int | Clock) -> Tensor:
        """One iteration of section 2.1: the task's gradient, then the protected step. Return the loss, ``[R]``."""
        weights = self._trainer.weights(iteration)
        mode = Mode(True, self._statistics[self._task], self._masks[iteration])
        head, loss_of = self.outputs.head(self._task), partial(cross_entropy_and_gradient, labels=batch.labels)
        loss, by_weights = self.target.derive(weights, batch.x, loss_of, head, mode)
        self._trainer.step(by_weights, iteration)
        return loss

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

    def _test_mode(self, tasks: Sequence[int]) -> Mode:
        """Return the mode that the stacked networks of ``tasks`` are tested in."""
        of_tasks = zip(*(self._statistics[task] for task in tasks), strict=True)
        return Mode(statistics=[torch.stack(part, dim=1).flatten(0, 1) for part in of_tasks])

    def answer_for_given_task(self) -> Callable[[Tensor, int], Tensor]:
        """Return a function from inputs ``[R, B, inputs]`` and their task to labels ``[R, B]``."""
        networks: dict[int, tuple[list[Tensor], Mode]] = {}

        def answer(x: Tensor, task: int) -> Tensor:
            if task not in networks:
                networks.clear()  # one network at a time: they are as large as the target network
                networks[task] = self._task_networks([task]), self._test_mode([task])
            weights, mode = networks[task]
            return self.target.logits(weights, x, mode=mode).argmax(2)

        return answer

    def answer_of_every_task(self, learned: int) -> Callable[[Tensor], Tensor]:
        """Return a function from inputs ``[R, B, inputs]`` to the logits of each learned task's network and head.

        They are ``[R, learned, B, classes]``.
        """
        networks, mode = self._task_networks(range(learned)), self._test_mode(range(learned))

        def answer(x: Tensor) -> Tensor:
            every = x.unsqueeze(1).expand(-1, learned, -1, -1).flatten(0, 1)
            return self.target.logits(networks, every, mode=mode).unflatten(0, (len(x), learned))

        return answer

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs."""
        return {"task": self._task, "trainer": self._trainer.state_dict(), "statistics": self._statistics}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._trainer.load_state_dict(state["trainer"])
        for own, stored in zip(self._statistics, state["statistics"], strict=True):
            for value, before in zip(own, stored, strict=True):
                value.copy_(before)
        self._start(state["task"])
