"""A hypernetwork in training: task gradient, look-ahead, output regulariser, one Adam step (paper, section 2)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hnetcl.clock import Clock
from hnetcl.hypernetwork import ChunkedHypernetwork
from hnetcl.optimiser import Adam
from hnetcl.regulariser import FORMS, REFERENCES, ExactRegulariser, OutputRegulariser, choose_form, draw_subsets
from hnetcl.schedule import Schedule
from hnetcl.streams import NormalNoise


class ProtectedHypernetwork:
    """Trains ``hypernetwork`` on one task after the other while it keeps the networks of earlier tasks.

    Adam starts anew with each task, for the shared parameters and the embedding of the task; embeddings of earlier
    tasks are frozen.

    Args:
        hypernetwork: what is trained.
        seeds: of the pack.
        schedule: Adam's settings, iterations and learning rates of every task.
        settings: the regulariser's, as in ``experiment.schema.yaml``.
        counted: ranges of the flat weight vector that are held for an earlier task; all of it where None.
    """

    def __init__(
        self,
        hypernetwork: ChunkedHypernetwork,
        seeds: Sequence[int],
        schedule: Schedule,
        settings: Mapping[str, Any],
        counted: Callable[[int], list[tuple[int, int]]] | None = None,
    ):
        self.hypernetwork = hypernetwork
        self._seeds = seeds
        self._schedule = schedule
        self._settings = settings
        self._counted = counted or (lambda task: [(0, hypernetwork.target_size)])
        self._task = -1
        self._snapshot: dict[str, Tensor] = {}

    @property
    def snapshot(self) -> Mapping[str, Tensor]:
        """The shared parameters before the present task."""
        return self._snapshot

    def begin_task(self, task: int) -> None:
        """Take the snapshot and start Adam anew, and what else the hypernetwork asks for."""
        if task and self.hypernetwork.restart:
            self.hypernetwork.redraw(task)
        if task and self.hypernetwork.embedding_start == "previous":
            with torch.no_grad():
                self.hypernetwork.task_embeddings[task].copy_(self.hypernetwork.task_embeddings[task - 1])
        self._start(task, {name: value.detach().clone() for name, value in self.hypernetwork.shared.items()})

    def _start(self, task: int, snapshot: Mapping[str, Tensor]) -> None:
        self._task, self._snapshot = task, dict(snapshot)
        trained = {**self.hypernetwork.shared, "task_embedding": self.hypernetwork.task_embeddings[task]}
        adam = self._schedule.optimisation
        self._adam = Adam(trained, adam.learning_rate, adam.betas, adam.epsilon)
        self._regulariser = self._make_regulariser(task) if task else None
        embedding = trained["task_embedding"]
        self._noise = None
        if self.hypernetwork.embedding_noise:
            purpose = (self.hypernetwork.name, "embedding noise", task)
            self._noise = NormalNoise(self._seeds, *purpose, shape=embedding.shape[1:], device=embedding.device)

    def _make_regulariser(self, task: int) -> OutputRegulariser | None:
        settings = self._settings
        if settings["beta"] == 0:
            return None
        subsets = None
        if settings["tasks"] != "all":
            subsets = draw_subsets(self._seeds, task, settings["tasks"], self._schedule.iterations(task))
        held = task if subsets is None else settings["tasks"]
        form = REFERENCES.get(settings.get("reference")) or FORMS.get(settings["form"])
        form = form or choose_form(self.hypernetwork, held)
        if subsets is not None:
            subsets = subsets.to(self._snapshot["output"].device)
        counted = [self._counted(earlier) for earlier in range(task)]
        return form(self.hypernetwork, self._snapshot, settings["beta"], counted, subsets)

    @torch.no_grad()
    def weights(self, iteration: int | Clock) -> Tensor:
        """Generate the weights for the present task, surplus included: a leaf to derive the task's loss by.

        ``[R, chunks * chunk_size]``.
        """
        embedding = self.hypernetwork.task_embeddings[self._task]
        if self._noise is not None:
            embedding = embedding + self.hypernetwork.embedding_noise * self._noise[iteration]
        self._trace = self.hypernetwork.trace(embedding.unsqueeze(1))
        return self.hypernetwork.weights(self._trace.features).flatten(1).requires_grad_()

    @torch.no_grad()
    def step(self, by_weights: Tensor, iteration: int | Clock) -> None:
        """Take Adam's step on the gradient of the task's loss and, one step ahead, of the regulariser.

        ``by_weights`` is the gradient of the task's loss by what ``weights`` returned.
        """
        self._adam.follow(partial(self._schedule.learning_rate, self._task), iteration)
        gradients = self.hypernetwork.gradients(self._trace, by_weights)
        gradients["task_embedding"] = gradients.pop("task_embeddings").squeeze(1)
        if self._regulariser is not None:
            self._regulariser.value_and_add_gradient(self._ahead(gradients), gradients, iteration)
        self._adam.step(gradients)

    def _ahead(self, gradients: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the shared parameters one step of the task's ``gradients`` ahead, as they are where that is off."""
        if not self._settings.get("look_ahead", True):
            return {name: value.detach() for name, value in self.hypernetwork.shared.items()}
        exact = isinstance(self._regulariser, ExactRegulariser)
        return self._adam.look_ahead(
            {name: gradients[name] for name in self.hypernetwork.shared},
            {"output": self._regulariser.output_place} if exact else {},
        )

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, in the middle of a task too."""
        return {
            "task": self._task,
            "hypernetwork": self.hypernetwork.state_dict(),
            "snapshot": self._snapshot,
            "adam": self._adam.state_dict(),
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.hypernetwork.load_state_dict(state["hypernetwork"])
        self._start(state["task"], state["snapshot"])
        self._adam.load_state_dict(state["adam"])
