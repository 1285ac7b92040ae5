"""The output regulariser: keep the networks generated for earlier tasks where they were.

For task T it adds  beta / (T - 1) * sum_{t < T} || f(e_t, theta*) - f(e_t, theta + delta) ||^2  (paper, eq. 2), where
theta* is the hypernetwork before task T, delta the step the optimiser would take on the task loss alone (a constant),
and the square is summed over all weights that count. Both forms below give its gradient at theta + delta.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hnetcl.clock import Clock, at
from hnetcl.hypernetwork import ChunkedHypernetwork
from hnetcl.layers import long_product
from hnetcl.optimiser import Place
from hnetcl.streams import draw_runs

# One pass over a large array in memory takes about as long as this many floating-point operations an element do
# inside a matrix product; only the choice between the two forms depends on it.
OPERATIONS_PER_PASS = 32

# On a CPU, earlier tasks are held a block at a time: as many as have features of this many bytes, which stay in its
# caches from one product to the next. Where there are several blocks, so that the products are what costs, the features
# fill whole cache lines.
BLOCK_BYTES = 5 * 2**19
CACHE_LINE = 64
EVERY = slice(None)


class Segment(NamedTuple):
    """Columns ``start:stop`` of the chunks, and which rows count there: bool ``[tasks, chunks]``, None for all."""

    start: int
    stop: int
    counted: Tensor | None


def column_segments(num_chunks: int, chunk_size: int, counted: Sequence[Sequence[tuple[int, int]]]) -> list[Segment]:
    """Cut the columns of a chunk so that inside a segment each (task, chunk) counts wholly or not at all.

    ``counted[t]`` lists the half-open ranges of the flat weight vector that count for task t. The surplus of the last
    chunk and masked heads are both just positions outside these ranges. A segment where nothing counts is left out.
    """
    edges = {0, chunk_size} | {edge % chunk_size for ranges in counted for pair in ranges for edge in pair}
    starts = torch.arange(num_chunks) * chunk_size
    segments: list[Segment] = []
    for start, stop in pairwise(sorted(edges)):
        position = starts + start
        rows = torch.stack([sum((position >= a) & (position < b) for a, b in ranges).bool() for ranges in counted])
        if segments and segments[-1].stop == start and torch.equal(segments[-1].counted, rows):
            segments[-1] = segments[-1]._replace(stop=stop)
        elif rows.any():
            segments.append(Segment(start, stop, rows))
    return [s._replace(counted=None) if s.counted.all() else s for s in segments]


class OutputRegulariser(ABC):
    """The regulariser during one task: a snapshot of the hypernetwork taken before it, and the earlier tasks.

    Args:
        hypernetwork: the network to protect, in the state it had before the task.
        snapshot: its shared parameters in that state; read, never changed.
        beta: strength; the published code sums over weights and divides by the number of regularised tasks.
        counted: for each earlier task, the ranges of the flat weight vector that are held.
        subsets: ``[R, iterations, k]``, the k earlier tasks held in each iteration; None holds all in each.
    """

    def __init__(
        self,
        hypernetwork: ChunkedHypernetwork,
        snapshot: Mapping[str, Tensor],
        beta: float,
        counted: Sequence[Sequence[tuple[int, int]]],
        subsets: Tensor | None = None,
    ):
        self.hypernetwork = hypernetwork
        self.snapshot = snapshot
        self.num_tasks = len(counted)
        self.subsets = subsets
        self.scale = beta / (self.num_tasks if subsets is None else subsets.shape[2])
        self._embeddings = hypernetwork.embeddings(range(self.num_tasks))
        device = self._embeddings.device
        segments = column_segments(hypernetwork.num_chunks, hypernetwork.chunk_size, counted)
        self._segments = [s if s.counted is None else s._replace(counted=s.counted.to(device)) for s in segments]

    @abstractmethod
    def value_and_add_gradient(
        self, shifted: Mapping[str, Tensor], gradients: dict[str, Tensor], iteration: int | Clock, value: bool = False
    ) -> Tensor | None:
        """Add the gradient at the parameters ``shifted`` to ``gradients``; return the value ``[R]`` if asked for."""

    def _chosen(self, per_task: Tensor, iteration: int | Clock, block: slice = EVERY) -> Tensor:
        """Pick this iteration's tasks, or a block of them, from ``[R, tasks, ...]``."""
        if self.subsets is None:
            return per_task[:, block]
        return _pick(per_task, at(self.subsets, 1, iteration)[:, block])

    def _counted_rows(
        self, segment: Segment, iteration: int | Clock, features: Tensor, block: slice = EVERY
    ) -> Tensor | None:
        """Return 1 for rows that count in ``segment``, else 0, shaped to scale ``[R, tasks * chunks, ...]``."""
        if segment.counted is None:
            return None
        counted = self._chosen(segment.counted.expand(len(features), -1, -1), iteration, block)
        return counted.flatten(1).unsqueeze(2).to(features)


class ExplicitRegulariser(OutputRegulariser):
    """The published form: store every earlier task's weights, generate them anew in every iteration, compare."""

    @torch.enable_grad()
    def value_and_add_gradient(self, shifted, gradients, iteration, value=False):
        """See ``OutputRegulariser``."""
        leaves, change = self._leaves_and_change(shifted, iteration)
        total = change.new_zeros(len(change))
        for segment in self._segments:
            part = change[:, :, segment.start : segment.stop]
            rows = self._counted_rows(segment, iteration, change)
            total = total + (part if rows is None else part * rows).square().sum((1, 2))
        total = self.scale * total
        for name, extra in zip(leaves, torch.autograd.grad(total.sum(), leaves.values()), strict=True):
            gradients[name] = gradients[name] + extra
        return total.detach() if value else None

    @cached_property
    def _targets(self) -> Tensor:
        """What the snapshot generates, ``[R, tasks, chunks, chunk_size]``."""
        with torch.no_grad():
            chunks = self._generate(self._embeddings, self.snapshot)
        return chunks.unflatten(1, (self.num_tasks, -1))

    def _generate(self, embeddings: Tensor, shared: Mapping[str, Tensor]) -> Tensor:
        return torch.bmm(self.hypernetwork.features(embeddings, shared), shared["output"])

    def _leaves_and_change(
        self, shifted: Mapping[str, Tensor], iteration: int | Clock
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the parameters to derive by and the change of every chunk, ``[R, tasks * chunks, chunk_size]``."""
        leaves = _as_leaves(shifted)
        after = self._generate(self._chosen(self._embeddings, iteration), leaves)
        return leaves, after - self._chosen(self._targets, iteration).flatten(1, 2)


class PresentReferenceRegulariser(ExplicitRegulariser):
    """Not the paper's: earlier networks are held where the present parameters have them, not the snapshot.

    || f(e_t, theta) - f(e_t, theta + delta) ||^2, derived by both theta; "reg = 1" of the authors' toy example. What
    has drifted away since the task began is not brought back.
    """

    def _leaves_and_change(self, shifted, iteration):
        leaves, step = self._leaves_and_step(shifted)
        embeddings = self._chosen(self._embeddings, iteration)
        after = {name: leaf + step[name] for name, leaf in leaves.items()}
        return leaves, self._generate(embeddings, after) - self._generate(embeddings, leaves)

    def _leaves_and_step(self, shifted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        leaves = _as_leaves(self.hypernetwork.shared)
        return leaves, {name: value.detach() - leaves[name].detach() for name, value in shifted.items()}


class FirstOrderRegulariser(PresentReferenceRegulariser):
    """Not the paper's: the change to first order in the step, || J_f(theta) delta ||^2; "reg = 2" of the same."""

    def _leaves_and_change(self, shifted, iteration):
        leaves, step = self._leaves_and_step(shifted)
        embeddings = self._chosen(self._embeddings, iteration)
        _, change = torch.func.jvp(lambda shared: self._generate(embeddings, shared), (leaves,), (step,))
        return leaves, change


def _as_leaves(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().requires_grad_() for name, value in parameters.items()}


class ExactRegulariser(OutputRegulariser):
    """The same sum without generating, or storing, any earlier task's weights.

    With the output layer in homogeneous form, W = A'z, let A*, z* be the snapshot. A chunk changes by
    A'z - A*'z* = A'(z - z*) + (A - A*)'z* = P'c with P = [A; A - A*] and c = [z - z*; z*]. With one row c a task and
    chunk collected in C, the sum of squares over a segment of columns is

        sum ||P'c||^2 = <P P', C'C>,   d/dA = 2 z'C P,   d/dC = 2 C P P',

    two products with a matrix of the size of the output layer, whatever the number of tasks. The differences stand
    explicitly in P and C, so nothing cancels. Columns where some rows do not count (surplus of the last chunk, masked
    heads) form segments of their own: from the products with all rows, those with the few that do not count are taken.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        with torch.no_grad():
            features = self.hypernetwork.features(self._embeddings, self.snapshot)
        runs, self._width, chunk_size = self.snapshot["output"].shape
        held = self.num_tasks if self.subsets is None else self.subsets.shape[2]
        bytes_a_task = features.nbytes // self.num_tasks
        together = held if features.is_cuda else max(1, BLOCK_BYTES // bytes_a_task)
        self._blocks = [slice(first, first + together) for first in range(0, held, together)]
        line = CACHE_LINE // features.element_size() if len(self._blocks) > 1 else 1
        padded = -(-self._width // line) * line
        self._features = _widened(features, padded).unflatten(1, (self.num_tasks, -1))  # [R, tasks, chunks, padded]
        self._stacked = features.new_zeros(runs, 2 * padded, chunk_size)  # P, reused by every iteration
        self._apart = [_rows_apart(segment) for segment in self._segments]

    @property
    def output_place(self) -> Place:
        """Where the shifted output layer and its change may be written to save a copy, ``[R, h + 1, chunk_size]``."""
        halves = self._stacked.chunk(2, dim=1)
        return Place(halves[0][:, : self._width], self.snapshot["output"], halves[1][:, : self._width])

    @torch.no_grad()
    def value_and_add_gradient(self, shifted, gradients, iteration, value=False):
        """See ``OutputRegulariser``."""
        P, padded = self._stacked, self._features.shape[3]
        if shifted["output"].data_ptr() != P.data_ptr():
            self.output_place.put(shifted["output"])
        columns = [P[:, :, segment.start : segment.stop] for segment in self._segments]
        # A stands in both halves of P: of the gradient by c, the upper half is that by z.
        grams = [long_product(part, part[:, : 2 * padded if value else padded]) for part in columns]
        held_by_every = [gram for gram, apart in zip(grams, self._apart, strict=True) if apart.sign <= 0]
        of_every = sum(held_by_every[1:], start=held_by_every[0]) if held_by_every else None
        products = P.new_zeros(len(P), padded, 2 * padded)
        products_apart = [torch.zeros_like(products) if apart.sign else None for apart in self._apart]
        total = P.new_zeros(len(P)) if value else None
        for block in self._blocks:
            trace = self.hypernetwork.trace(self._chosen(self._embeddings, iteration, block), shifted)
            z = _widened(trace.features, padded)
            before = self._chosen(self._features, iteration, block).flatten(1, 2)
            every = _Rows(z, torch.cat([z - before, before], dim=2))
            every.add_products(products)
            by_features = torch.zeros_like(z)
            for segment, apart, gram, sums in zip(self._segments, self._apart, grams, products_apart, strict=True):
                if not apart.sign:
                    continue
                if apart.chunks is None:
                    some = every.scaled(self._counted_rows(segment, iteration, z, block))
                else:
                    some = every.of_chunks(apart.chunks, self.hypernetwork.num_chunks)
                some.add_products(sums)
                some.add(by_features, gram, apart.sign)
                if value:
                    total += apart.sign * some.value(gram)
            if of_every is not None:
                every.add(by_features, of_every, 1)
                if value:
                    total += every.value(of_every)
            extras = self.hypernetwork.derive(trace, by_features[:, :, : self._width].mul_(2 * self.scale))
            del extras["task_embeddings"]  # those of earlier tasks stay as they are
            for name, extra in extras.items():
                gradients[name] = gradients[name] + extra
        for segment, apart, part, sums in zip(self._segments, self._apart, columns, products_apart, strict=True):
            counted = products if not apart.sign else sums if apart.sign > 0 else products - sums
            by_output = gradients["output"][:, :, segment.start : segment.stop]
            by_output.baddbmm_(counted[:, : self._width], part, alpha=2 * self.scale)
        return self.scale * total if value else None


class _RowsApart(NamedTuple):
    """How the sum over the rows that count in a segment is made.

    It is that over all rows where ``sign`` is 0, without those apart where it is -1, of those alone where it is 1. They
    are the rows of ``chunks``, or where None, any.
    """

    sign: int
    chunks: Tensor | None = None


def _rows_apart(segment: Segment) -> _RowsApart:
    """Choose what counts or what does not to be apart, whichever is fewer; what counts where the tasks differ in it."""
    if segment.counted is None:
        return _RowsApart(0)
    counted = segment.counted[0]
    if not (segment.counted == counted).all():
        return _RowsApart(1)
    few = bool(counted.sum() <= len(counted) / 2)
    return _RowsApart(1 if few else -1, (counted if few else ~counted).nonzero().flatten())


class _Rows(NamedTuple):
    """One row an earlier task and chunk: z ``[R, rows, h + 1]`` and C, z - z* beside z*; ``chunks`` if not all."""

    features: Tensor
    C: Tensor
    chunks: Tensor | None = None
    num_chunks: int = 0

    def of_chunks(self, chunks: Tensor, num_chunks: int) -> "_Rows":
        """Return the rows of some chunks of every task."""
        parts = (x.unflatten(1, (-1, num_chunks)).index_select(2, chunks).flatten(1, 2) for x in self[:2])
        return _Rows(*parts, chunks, num_chunks)

    def scaled(self, factor: Tensor) -> "_Rows":
        """Return all rows times ``factor [R, rows, 1]``."""
        return _Rows(self.features * factor, self.C * factor)

    def add_products(self, sums: Tensor) -> None:
        """Add z'C, which with P gives the gradient by A, to ``sums [R, h + 1, 2 (h + 1)]``."""
        sums.baddbmm_(self.features.transpose(1, 2), self.C)

    def add(self, by_features: Tensor, gram: Tensor, sign: int) -> None:
        """Add C P P', the part by z, to ``by_features``, that of all rows."""
        gram = gram[:, :, : by_features.shape[2]]
        if self.chunks is None:
            by_features.baddbmm_(self.C, gram, alpha=sign)
            return
        part = torch.bmm(self.C, gram).unflatten(1, (-1, len(self.chunks)))
        by_features.unflatten(1, (-1, self.num_chunks)).index_add_(2, self.chunks, part, alpha=sign)

    def value(self, gram: Tensor) -> Tensor:
        """Return <P P', C'C> of each run, ``[R]``."""
        return (torch.bmm(self.C, gram) * self.C).sum((1, 2))


def _widened(features: Tensor, width: int) -> Tensor:
    """Append zeros: ``[..., n]`` to ``[..., width]``."""
    return functional.pad(features, (0, width - features.shape[-1])) if width > features.shape[-1] else features


def choose_form(hypernetwork: ChunkedHypernetwork, num_tasks: int) -> type[OutputRegulariser]:
    """Return the form that counts fewer operations for ``num_tasks`` earlier tasks an iteration."""
    width = hypernetwork.shared["output"].shape[1]
    rows, columns = num_tasks * hypernetwork.num_chunks, hypernetwork.chunk_size
    # Explicit: generate (a product) and derive (two), and about four passes over what was generated.
    explicit = rows * columns * (3 * 2 * width + 4 * OPERATIONS_PER_PASS)
    # Exact: P P' and z'C P over the columns, z'C and C P P' over the rows, one pass to form each half of P.
    exact = columns * (8 * width**2 + 2 * width * OPERATIONS_PER_PASS) + rows * 8 * width**2
    return ExactRegulariser if exact < explicit else ExplicitRegulariser


FORMS = {"exact": ExactRegulariser, "explicit": ExplicitRegulariser}
# Where earlier networks are held, other than where the snapshot has them.
REFERENCES = {"present": PresentReferenceRegulariser, "first_order": FirstOrderRegulariser}


def draw_subsets(seeds: Sequence[int], task: int, size: int, iterations: int) -> Tensor | None:
    """Draw ``size`` distinct earlier tasks for each iteration of ``task``, ``[R, iterations, size]``.

    All hypernetworks of a seed hold the same ones.

    None where there are no more earlier tasks than that: all of them are then held in every iteration.
    """
    if task <= size:
        return None
    return draw_runs(
        seeds,
        lambda g: torch.rand(iterations, task, generator=g).topk(size, dim=1).indices,
        "regularised tasks",
        task,
    )


def _pick(per_task: Tensor, tasks: Tensor) -> Tensor:
    """Index ``[R, tasks, ...]`` by ``[R, k]`` to ``[R, k, ...]``."""
    return per_task[torch.arange(len(per_task), device=per_task.device).unsqueeze(1), tasks]
