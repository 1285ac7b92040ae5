"""Sequences of tasks: what a task is, in every scenario, for every run of a pack.

Scenarios (van de Ven & Tolias, 2019): CL1, the task is given at test time; CL2, it is not, and the output units are
shared by all tasks; CL3, it is not, and every class of every task has an output unit of its own. A *label* is a class
within its task (0 .. classes_per_task - 1); in CL3 the class c of task t is unit t * classes_per_task + c.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from hnetcl.clock import Clock, at
from hnetcl.data import Dataset
from hnetcl.schedule import Schedule
from hnetcl.spec import RunSpec
from hnetcl.streams import draw_runs, stream

# Mean and standard deviation of a colour channel over ImageNet, on values in [0, 1].
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CROP_PADDING = 4  # zero pixels on each side of an image that a random crop moves over


@dataclass(frozen=True)
class Batch:
    """Inputs ``x [R, B, inputs]`` with the label and the task of each sample, both ``[R, B]``."""

    x: Tensor
    labels: Tensor
    tasks: Tensor


@dataclass(frozen=True)
class _RunTask:
    """One task of one run: sample numbers, its classes in the order of its output units, its pixel order."""

    train: Tensor
    test: Tensor
    classes: Tensor
    pixels: Tensor | None


class TaskSequence:
    """The tasks of a specification for all seeds of a pack, with their data on one device.

    Batches are drawn without replacement and wrap from one epoch into the next. Which samples a seed sees, and in
    which order, depends on the seed and the task alone.
    """

    def __init__(self, spec: RunSpec, seeds: Sequence[int], dataset: Dataset, device: torch.device | str = "cpu"):
        self.seeds = list(seeds)
        self.dataset_sha256 = dataset.sha256
        self.device = torch.device(device)
        self.num_tasks = spec.sequence.tasks
        split = spec.sequence.kind == "split"
        self.classes_per_task = spec.sequence.classes_per_task if split else dataset.num_classes
        self._largest_value = dataset.largest_value

        def pixels(images: np.ndarray) -> Tensor:
            border = (spec.sequence.padding,) * 2
            padded = np.pad(images, ((0, 0), border, border, *((0, 0),) * (images.ndim - 3)))
            coloured = padded.transpose(0, 3, 1, 2) if padded.ndim == 4 else padded[:, None]
            return torch.from_numpy(np.ascontiguousarray(coloured)).to(self.device)

        # Whole numbers, a quarter of the memory of what they become in a batch.
        train, test = pixels(dataset.train_images), pixels(dataset.test_images)
        self.image_shape = tuple(train.shape[1:])  # channels, rows, columns
        self._train, self._test = train.flatten(1), test.flatten(1)
        self.num_inputs = self._train.shape[1]
        self._augmented = spec.sequence.augmentation is not None
        self._normalisation = None
        if spec.sequence.normalisation is not None:
            mean, deviation = (torch.tensor(v, device=self.device).unsqueeze(1) for v in IMAGENET)
            self._normalisation = mean, deviation
        train_labels, test_labels = (
            torch.from_numpy(dataset.train_labels),
            torch.from_numpy(dataset.test_labels),
        )
        self._train_labels, self._test_labels = train_labels.to(self.device), test_labels.to(self.device)
        make = self._split if split else self._permuted
        self._runs = [make(spec, seed, train_labels, test_labels) for seed in self.seeds]
        # With epochs, which go by them, the tasks are the same for every run.
        self.schedule = Schedule(spec.optimisation, [len(task.train) for task in self._runs[0]])
        # [R, tasks, classes of the dataset]: the label of a class within a task (0 where it does not occur).
        labels = torch.zeros(len(self.seeds), self.num_tasks, dataset.num_classes, dtype=torch.int64)
        for r, tasks in enumerate(self._runs):
            for t, task in enumerate(tasks):
                labels[r, t, task.classes] = torch.arange(len(task.classes))
        self._labels = labels.to(self.device)
        self._pixels = None
        if not split:
            self._pixels = torch.stack([torch.stack([task.pixels for task in tasks]) for tasks in self._runs])
            self._pixels = self._pixels.to(self.device)  # [R, tasks, inputs]

    def _split(self, spec: RunSpec, seed: int, train: Tensor, test: Tensor) -> list[_RunTask]:
        count = self.num_tasks * self.classes_per_task
        per_seed = spec.sequence.assignment == "per_seed"
        classes = int(train.max()) + 1
        order = torch.randperm(classes, generator=stream(seed, "class order")) if per_seed else torch.arange(classes)
        return [
            _RunTask(*(torch.isin(y, classes).nonzero().flatten() for y in (train, test)), classes, None)
            for classes in order[:count].split(self.classes_per_task)
        ]

    def _permuted(self, spec: RunSpec, seed: int, train: Tensor, test: Tensor) -> list[_RunTask]:
        if spec.sequence.assignment == "per_seed":
            generator = stream(seed, "permutations")
            orders = [torch.randperm(self.num_inputs, generator=generator) for _ in range(self.num_tasks)]
        else:
            # The published permutations: successive draws of one legacy NumPy stream, the identity before them.
            legacy = np.random.RandomState(spec.sequence.data_seed)
            draws = self.num_tasks - (spec.sequence.first_task == "identity")
            orders = [torch.from_numpy(legacy.permutation(self.num_inputs)) for _ in range(draws)]
        if spec.sequence.first_task == "identity":
            orders = [torch.arange(self.num_inputs), *orders][: self.num_tasks]
        everything = torch.arange(len(train)), torch.arange(len(test)), torch.arange(self.classes_per_task)
        return [_RunTask(*everything, pixels) for pixels in orders]

    def _inputs(self, images: Tensor, samples: Tensor, tasks: Tensor | int, moves: Tensor | None = None) -> Tensor:
        """Return ``images[samples]`` as inputs for ``[R, B]`` samples, in the pixel order of their tasks.

        ``moves [R, B, 3]`` are those of an augmentation, see `crop_and_flip`.
        """
        x = self._pixels_of(images, samples, tasks)
        if moves is not None:
            x = crop_and_flip(x.unflatten(2, self.image_shape).flatten(0, 1), moves.flatten(0, 1)).reshape(x.shape)
        x = x.to(torch.float32) / self._largest_value
        if self._normalisation is not None:
            mean, deviation = self._normalisation
            x = ((x.unflatten(2, (len(mean), -1)) - mean) / deviation).flatten(2)
        return x

    def _pixels_of(self, images: Tensor, samples: Tensor, tasks: Tensor | int) -> Tensor:
        x = images.index_select(0, samples.flatten()).unflatten(0, samples.shape)  # whole rows: faster than indexing
        if self._pixels is None:
            return x
        if isinstance(tasks, int):
            return x.gather(2, self._pixels[:, tasks].unsqueeze(1).expand_as(x))
        runs = torch.arange(len(x), device=x.device).unsqueeze(1)
        return x.gather(2, self._pixels[runs, tasks])

    def training_stage(self, task: int, *, seen: bool, iterations: int, batch_size: int) -> "TrainingStage":
        """Return the batches that are trained on while ``task`` is learned: its own data, or all data seen so far."""
        tasks = range(task + 1) if seen else [task]
        samples, sources, orders = [], [], []
        for seed, run in zip(self.seeds, self._runs, strict=True):
            samples.append(torch.cat([run[t].train for t in tasks]))
            sources.append(torch.cat([torch.full_like(run[t].train, t) for t in tasks]))
            orders.append(endless_shuffle(len(samples[-1]), iterations * batch_size, stream(seed, "batches", task)))
        order = torch.stack(orders)
        chosen = pad_sequence(samples, batch_first=True).gather(1, order)
        origin = pad_sequence(sources, batch_first=True).gather(1, order) if seen else None

        def by_iteration(numbers: Tensor) -> Tensor:
            return numbers.unflatten(1, (iterations, batch_size)).transpose(0, 1).contiguous().to(self.device)

        moves = None
        if self._augmented:
            count = iterations * batch_size
            drawn = draw_runs(self.seeds, lambda g: _draw_moves(count, g), "augmentation", task)
            moves = by_iteration(drawn)
        return TrainingStage(self, task, by_iteration(chosen), None if origin is None else by_iteration(origin), moves)

    def training_set(self, task: int) -> tuple[Tensor, Tensor]:
        """Return the sample numbers of the training set of ``task``, ``[R, N]``, and which are no padding."""
        return self._padded([run[task].train for run in self._runs])

    def test_set(self, task: int) -> tuple[Tensor, Tensor]:
        """Return the sample numbers of the test set of ``task``, ``[R, N]``, and which of them are no padding."""
        return self._padded([run[task].test for run in self._runs])

    def _padded(self, sets: list[Tensor]) -> tuple[Tensor, Tensor]:
        valid = pad_sequence([torch.ones_like(s, dtype=torch.bool) for s in sets], batch_first=True)
        return pad_sequence(sets, batch_first=True).to(self.device), valid.to(self.device)

    def test_batch(self, task: int, samples: Tensor) -> Batch:
        """Return the test samples ``samples [R, B]`` as seen in ``task``."""
        runs = torch.arange(len(samples), device=self.device).unsqueeze(1)
        labels = self._labels[runs, task, self._test_labels[samples]]
        return Batch(self._inputs(self._test, samples, task), labels, torch.full_like(labels, task))

    def train_batch(
        self, task: int, samples: Tensor, origin: Tensor | None = None, moves: Tensor | None = None
    ) -> Batch:
        """Return the training samples ``samples [R, B]``.

        ``origin`` is the task of each where they are mixed, ``moves`` their augmentation where there is one.
        """
        runs = torch.arange(len(samples), device=self.device).unsqueeze(1)
        tasks = torch.full_like(samples, task) if origin is None else origin
        labels = self._labels[runs, tasks, self._train_labels[samples]]
        x = self._inputs(self._train, samples, task if origin is None else origin, moves)
        return Batch(x, labels, tasks)


@dataclass(frozen=True)
class TrainingStage:
    """All batches of one task, drawn beforehand: sample numbers (and their tasks) ``[iterations, R, B]``.

    ``moves [iterations, R, B, 3]`` are those of the augmentation where there is one.
    """

    sequence: TaskSequence
    task: int
    samples: Tensor
    origin: Tensor | None
    moves: Tensor | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, iteration: int | Clock) -> Batch:
        parts = (self.samples, self.origin, self.moves)
        return self.sequence.train_batch(self.task, *(None if p is None else at(p, 0, iteration) for p in parts))


def _draw_moves(count: int, generator: torch.Generator) -> Tensor:
    """Draw for each of ``count`` images whether it is mirrored, and the row and column where its crop begins."""
    mirrored = torch.randint(2, (count, 1), generator=generator)
    corner = torch.randint(2 * CROP_PADDING + 1, (count, 2), generator=generator)
    return torch.cat([mirrored, corner], dim=1).to(torch.uint8)


def crop_and_flip(images: Tensor, moves: Tensor) -> Tensor:
    """Augment ``images [N, C, H, W]``: mirror those with ``moves[:, 0]``, then crop each out of its zero-padded self.

    ``moves[:, 1:]`` are the row and column where the crop begins in the image with `CROP_PADDING` zeros on each side.
    """
    mirrored = torch.where(moves[:, 0, None, None, None].bool(), images.flip(3), images)
    padded = pad(mirrored, (CROP_PADDING,) * 4)
    rows, columns = (
        start.long().unsqueeze(1) + torch.arange(size, device=images.device)
        for start, size in zip(moves[:, 1:].unbind(1), images.shape[2:], strict=True)
    )
    numbers = torch.arange(len(images), device=images.device)[:, None, None]
    # Indices around a slice put their own axes first: [N, H, W, C].
    return padded[numbers, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


def endless_shuffle(size: int, count: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` numbers below ``size``: one shuffled epoch after the other."""
    epochs = -(-count // size)
    return torch.cat([torch.randperm(size, generator=generator) for _ in range(epochs)])[:count]
