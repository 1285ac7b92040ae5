"""The one-dimensional regression of figure 2: three functions, learned one after the other.

Every function here trains all seeds at once and returns what the learner predicts, as a ``Fit``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hnetcl.hypernetwork import ChunkedHypernetwork
from hnetcl.layers import named_gradients
from hnetcl.networks import TrainedNetwork
from hnetcl.protection import ProtectedHypernetwork
from hnetcl.schedule import Schedule
from hnetcl.spec import OptimisationSpec
from hnetcl.streams import stream
from hnetcl.target import TargetMLP
from hnetcl.tasks import endless_shuffle

# Function and domain of each task (von Oswald et al. 2020, section 4 and figure 2).
FUNCTIONS: list[tuple[Callable, tuple[float, float]]] = [
    (lambda x: x + 3, (-4.0, -2.0)),
    (lambda x: 2 * x**2 - 1, (-1.0, 1.0)),
    (lambda x: (x - 3) ** 3, (2.0, 4.0)),
]


class RegressionTask(NamedTuple):
    """Points of one function: inputs and targets, ``[N]`` for training (noisy) and test."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


class Fit(NamedTuple):
    """Predictions ``[R, tasks, test points]`` on every task after learning task ``after_task`` (from 1)."""

    after_task: int
    predictions: Tensor


def make_tasks(seed: int, training_points: int, noise: float, test_points: int) -> list[RegressionTask]:
    """Return the tasks; each draws from the same seed anew, as in the authors' code."""
    tasks = []
    for function, (low, high) in FUNCTIONS:
        random = np.random.RandomState(seed)
        x = random.uniform(low, high, training_points)
        y = function(x) + random.normal(0, noise, training_points)
        test = np.linspace(low, high, test_points)
        tasks.append(RegressionTask(*(torch.from_numpy(v).float() for v in (x, y, test, function(test)))))
    return tasks


def mean_squared_errors(fit: Fit, tasks: Sequence[RegressionTask]) -> Tensor:
    """Return the mean squared test error of each run and task, ``[R, tasks]``."""
    return (fit.predictions - torch.stack([task.test_y for task in tasks])).square().mean(2)


class Trainer:
    """What all ways of learning share: tasks, seeds, networks' sizes, Adam's settings.

    Args:
        settings: as in ``toy.schema.yaml``.
    """

    def __init__(self, settings: Mapping[str, Any]):
        self.settings, self.seeds = settings, settings["seeds"]
        self.tasks = make_tasks(**settings["data"])
        adam = settings["optimisation"]
        self.optimisation = OptimisationSpec(**adam | {"betas": tuple(adam["betas"])})
        self.target = TargetMLP((1, *settings["target"]["hidden"], 1), settings["target"]["activation"])

    def hypernetwork(self, beta: float) -> list[Fit]:
        """A task-conditioned hypernetwork under the output regulariser; fine-tuning where ``beta`` is 0."""
        network, trainer = self._new_hypernetwork("hypernetwork", beta)
        fits = []
        for task in range(len(self.tasks)):
            self._learn_by_hypernetwork(trainer, task, task)
            fits.append(self._fit(task, lambda other: self._generate(network, other)))
        return fits

    def from_scratch(self) -> list[Fit]:
        """A new hypernetwork for every task, which it alone answers for."""
        networks = []
        for task in range(len(self.tasks)):
            network, trainer = self._new_hypernetwork(f"hypernetwork {task}", 0.0)
            self._learn_by_hypernetwork(trainer, 0, task)
            networks.append(network)
        return [self._fit(len(self.tasks) - 1, lambda task: self._generate(networks[task], 0))]

    def joint(self) -> list[Fit]:
        """The target network itself, trained on the points of all tasks at once, as many iterations as all take."""
        rate = self.settings["joint"]["learning_rate"]
        network = self._new_target(rate)
        x, y = (torch.cat([getattr(task, name) for task in self.tasks]) for name in ("train_x", "train_y"))
        for indices in self._batches(len(x), "joint", len(self.tasks)):
            loss = self._loss(network.logits(x[indices].unsqueeze(2)), y[indices])
            network.optimiser.step(named_gradients(loss, network.weights))
        return [self._fit(len(self.tasks) - 1, lambda task: list(network.weights.values()))]

    def ewc(self) -> list[Fit]:
        """The target network itself under elastic weight consolidation (Kirkpatrick et al. 2017), offline.

        One penalty ``1/2 sum F (w - w*)^2`` an earlier task; F is the mean over training points of the squared gradient
        of half the squared error. Adam starts anew with each task.
        """
        strength = self.settings["ewc"]["strength"]
        network = self._new_target(self.optimisation.learning_rate)
        anchors: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        fits = []
        for number, task in enumerate(self.tasks):
            network.restart_optimiser()
            for indices in self._batches(len(task.train_x), number):
                loss = self._loss(network.logits(task.train_x[indices].unsqueeze(2)), task.train_y[indices])
                gradients = named_gradients(loss, network.weights)
                for importance, before in anchors:
                    for name, weight in network.weights.items():
                        gradients[name] += strength * importance[name] * (weight.detach() - before[name])
                network.optimiser.step(gradients)
            before = {name: weight.detach().clone() for name, weight in network.weights.items()}
            anchors.append((self._fisher(network, task), before))
            fits.append(self._fit(number, lambda task: list(network.weights.values())))
        return fits

    def _new_hypernetwork(self, name: str, beta: float) -> tuple[ChunkedHypernetwork, ProtectedHypernetwork]:
        size = self.target.num_weights
        network = ChunkedHypernetwork(
            self.seeds,
            len(self.tasks),
            size,
            **self.settings["hypernetwork"],
            chunk_embedding=0,
            chunk_size=size,
            heads=[int(np.prod(shape)) for shape in self.target.shapes],
            name=name,
        )
        regulariser = {"beta": beta, "form": "auto", "tasks": "all"}
        schedule = Schedule(self.optimisation, [len(task.train_x) for task in self.tasks])
        return network, ProtectedHypernetwork(network, self.seeds, schedule, regulariser)

    def _learn_by_hypernetwork(self, trainer: ProtectedHypernetwork, embedding: int, number: int) -> None:
        task = self.tasks[number]
        trainer.begin_task(embedding)
        for iteration, indices in enumerate(self._batches(len(task.train_x), number)):
            weights = trainer.weights(iteration)
            loss = partial(self._loss_and_gradient, targets=task.train_y[indices])
            _, by_weights = self.target.derive(weights, task.train_x[indices].unsqueeze(2), loss)
            trainer.step(by_weights, iteration)

    def _generate(self, network: ChunkedHypernetwork, task: int) -> list[Tensor]:
        return self.target.unpack(network.weights(network.features(network.embeddings([task]))).flatten(1))

    def _new_target(self, learning_rate: float) -> TrainedNetwork:
        adam = OptimisationSpec(**{**vars(self.optimisation), "learning_rate": learning_rate})
        return TrainedNetwork(self.seeds, self.target, "xavier", adam, "target network")

    def _batches(self, points: int, purpose: str | int, rounds: int = 1) -> Tensor:
        """Return the training points of every iteration, ``[iterations, R, B]``."""
        count, size = rounds * self.optimisation.iterations, self.optimisation.batch_size
        orders = [endless_shuffle(points, count * size, stream(seed, "batches", purpose)) for seed in self.seeds]
        return torch.stack(orders).unflatten(1, (count, size)).transpose(0, 1)

    @staticmethod
    def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(2) - targets).square().mean(1)

    def _loss_and_gradient(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return self._loss(outputs, targets), (outputs - targets.unsqueeze(2)) * (2 / targets.shape[1])

    @torch.no_grad()
    def _fit(self, number: int, weights_for: Callable[[int], list[Tensor]]) -> Fit:
        runs = len(self.seeds)
        predictions = [
            self.target.logits(weights_for(task), points.test_x.expand(runs, -1).unsqueeze(2)).squeeze(2)
            for task, points in enumerate(self.tasks)
        ]
        return Fit(number + 1, torch.stack(predictions, dim=1))

    def _fisher(self, network: TrainedNetwork, task: RegressionTask) -> dict[str, Tensor]:
        x = task.train_x.expand(len(self.seeds), -1).unsqueeze(2)
        inputs, outputs = self.target.layer_by_layer(list(network.weights.values()), x)
        half_errors = (outputs[-1].squeeze(2) - task.train_y).square().sum() / 2
        sums = self.target.squared_gradients(inputs, torch.autograd.grad(half_errors, outputs))
        return {name: total / len(task.train_x) for name, total in zip(network.weights, sums, strict=True)}


# By the name in tables; each returns its fits after every task, or after the last one alone.
LEARNERS: dict[str, Callable[[Trainer], list[Fit]]] = {
    "HNET": lambda trainer: trainer.hypernetwork(trainer.settings["beta"]),
    "HNET, fine-tuning": lambda trainer: trainer.hypernetwork(0.0),
    "HNET, from scratch": Trainer.from_scratch,
    "Joint training": Trainer.joint,
    "EWC": Trainer.ewc,
}
