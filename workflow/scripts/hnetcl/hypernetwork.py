"""The chunked hypernetwork: from a task embedding to all weights of a target network."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from hnetcl.layers import ACTIVATIONS, BACKWARD, affine, affine_gradient, long_product, with_ones, xavier_affine
from hnetcl.streams import draw_runs


class Trace(NamedTuple):
    """A pass through the hidden layers: what it started from, what each returned, and the output layer's input."""

    embeddings: Tensor
    chunk_embeddings: Tensor
    hidden: list[Tensor]
    outputs: list[Tensor]
    features: Tensor


class ChunkedHypernetwork:
    """An MLP that maps [task embedding; chunk embedding] to one chunk of the target's weights, for R runs at once.

    All chunks of a task are generated as one batch and laid end to end; what the last chunk holds beyond
    ``target_size`` is surplus and never used. ``shared`` holds the parameters that all tasks share (theta_h of the
    paper): the chunk embeddings ``[R, chunks, c]``, the hidden layers ``[R, in + 1, out]`` and the output layer
    ``[R, h + 1, chunk_size]``, the last two homogeneous (see ``layers``). ``task_embeddings`` holds one tensor
    ``[R, e]`` a task.

    One chunk as large as the target network and chunk embeddings of width 0 make the full hypernetwork of the paper's
    regression; ``heads`` are the sizes of its parts, each initialised as an output layer of its own.

    ``embedding_start`` and ``embedding_noise`` are kept for whoever trains the network: whether a task's embedding
    starts from its "own" draw or from the "previous" task's, and the standard deviation of noise on it in training.
    ``restart`` asks for new shared parameters with every task (``redraw``), which makes each task one learned from
    scratch.

    Initialisation as published: Xavier-uniform weights, zero biases, N(0, 1) embeddings, all drawn at once; networks of
    different ``name`` draw from different random streams.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        num_tasks: int,
        target_size: int,
        *,
        task_embedding: int,
        chunk_embedding: int,
        hidden: Sequence[int],
        activation: str,
        chunk_size: int,
        heads: Sequence[int] | None = None,
        embedding_start: str = "own",
        embedding_noise: float = 0.0,
        restart: bool = False,
        name: str = "hypernetwork",
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self.name, self.embedding_start, self.embedding_noise = name, embedding_start, embedding_noise
        self.restart, self._seeds = restart, list(seeds)
        self.target_size = target_size
        self.chunk_size = chunk_size
        self.num_chunks = ceil(target_size / chunk_size)
        self._activation, self._backward = ACTIVATIONS[activation], BACKWARD[activation]

        self._widths = [task_embedding + chunk_embedding, *hidden]
        self._chunk_embedding, self._heads = chunk_embedding, list(heads or [chunk_size])

        def leaf(value: Tensor) -> Tensor:
            return value.to(device, dtype).requires_grad_()

        self.shared: dict[str, Tensor] = {part: leaf(value) for part, value in self._draw_shared(name).items()}
        self.task_embeddings = [
            leaf(draw_runs(seeds, lambda g: torch.randn(task_embedding, generator=g), name, f"task embedding {task}"))
            for task in range(num_tasks)
        ]

    def _draw_shared(self, name: str) -> dict[str, Tensor]:
        """Draw the shared parameters of every run from the random streams of ``name``."""

        def draw(part: str, draw_one: Callable[[torch.Generator], Tensor]) -> Tensor:
            return draw_runs(self._seeds, draw_one, name, part)

        chunks = (self.num_chunks, self._chunk_embedding)
        shared = {"chunk_embeddings": draw("chunk embeddings", lambda g: torch.randn(chunks, generator=g))}
        for layer, (fan_in, fan_out) in enumerate(pairwise(self._widths)):
            shared[f"hidden_{layer}"] = draw(
                f"hidden layer {layer}", lambda g, i=fan_in, o=fan_out: xavier_affine(g, i, o)
            )
        shared["output"] = draw(
            "output layer",
            lambda g: torch.cat([xavier_affine(g, self._widths[-1], size) for size in self._heads], dim=1),
        )
        return shared

    @torch.no_grad()
    def redraw(self, task: int) -> None:
        """Replace the shared parameters by new ones, drawn for ``task``."""
        for part, value in self._draw_shared(f"{self.name} {task}").items():
            self.shared[part].copy_(value)

    @property
    def num_parameters(self) -> int:
        """Trainable numbers of one run: shared parameters and all task embeddings."""
        return sum(p[0].numel() for p in [*self.shared.values(), *self.task_embeddings])

    def embeddings(self, tasks: Sequence[int]) -> Tensor:
        """Return the embeddings of ``tasks`` as constants, ``[R, tasks, e]``."""
        return torch.stack([self.task_embeddings[task].detach() for task in tasks], dim=1)

    def features(self, embeddings: Tensor, shared: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the input of the output layer for each task and chunk, with its constant 1.

        ``embeddings [R, T, e]`` gives ``[R, T * chunks, h + 1]``, task by task. ``shared`` replaces the network's own
        parameters, e.g. by those of a snapshot or a look-ahead step.
        """
        return self.trace(embeddings, shared).features

    def trace(self, embeddings: Tensor, shared: Mapping[str, Tensor] | None = None) -> Trace:
        """Compute ``features`` and keep what their gradients need."""
        shared = self.shared if shared is None else shared
        chunks = shared["chunk_embeddings"]
        runs, tasks, width = embeddings.shape
        hidden = [shared[name] for name in shared if name.startswith("hidden_")]
        if not hidden:
            pairs = (runs, tasks, self.num_chunks, -1)
            x = torch.cat([embeddings.unsqueeze(2).expand(pairs), chunks.unsqueeze(1).expand(pairs)], dim=3)
            return Trace(embeddings, chunks, hidden, [], with_ones(x.flatten(1, 2)))
        # The first layer sees every pair of a task and a chunk: what each contributes is computed once and added.
        by_task = torch.bmm(embeddings, hidden[0][:, :width])
        by_chunk = affine(chunks, hidden[0][:, width:])
        outputs = [self._activation(by_task.unsqueeze(2) + by_chunk.unsqueeze(1)).flatten(1, 2)]
        for layer in hidden[1:]:
            outputs.append(self._activation(affine(outputs[-1], layer)))
        return Trace(embeddings, chunks, hidden, outputs, with_ones(outputs[-1]))

    def derive(self, trace: Trace, by_features: Tensor) -> dict[str, Tensor]:
        """Return a loss's gradients by all parameters of ``trace`` but the output layer, from that by its features.

        By hand: autograd's bookkeeping takes longer than these small products. "task_embeddings" are ``[R, T, e]``.
        """
        width = trace.embeddings.shape[2]
        gradients = {}
        by_output = by_features[:, :, :-1]
        for number in range(len(trace.hidden) - 1, 0, -1):
            by_sum = self._backward(by_output, trace.outputs[number])
            gradients[f"hidden_{number}"] = affine_gradient(trace.outputs[number - 1], by_sum)
            by_output = torch.bmm(by_sum, trace.hidden[number][:, :-1].transpose(1, 2))
        if trace.hidden:
            by_output = self._backward(by_output, trace.outputs[0])
        by_pair = by_output.unflatten(1, (-1, self.num_chunks))
        by_task, by_chunk = by_pair.sum(2), by_pair.sum(1)
        if not trace.hidden:
            return {"chunk_embeddings": by_chunk[:, :, width:], "task_embeddings": by_task[:, :, :width]}
        first = trace.hidden[0]
        by_first = torch.bmm(trace.embeddings.transpose(1, 2), by_task)
        gradients["hidden_0"] = torch.cat([by_first, affine_gradient(trace.chunk_embeddings, by_chunk)], dim=1)
        gradients["chunk_embeddings"] = torch.bmm(by_chunk, first[:, width:-1].transpose(1, 2))
        gradients["task_embeddings"] = torch.bmm(by_task, first[:, :width].transpose(1, 2))
        return gradients

    def weights(self, features: Tensor, output: Tensor | None = None) -> Tensor:
        """Apply the output layer: ``[R, T * chunks, h + 1]`` to ``[R, T, chunks * chunk_size]``, surplus included."""
        chunks = torch.bmm(features, self.shared["output"] if output is None else output)
        return chunks.view(len(chunks), -1, self.num_chunks * self.chunk_size)

    def gradients(self, trace: Trace, by_weights: Tensor) -> dict[str, Tensor]:
        """Return a loss's gradients by all parameters of ``trace``, from that by the ``weights`` of its features."""
        chunks = by_weights.view(len(by_weights), -1, self.chunk_size)
        by_features = long_product(chunks, self.shared["output"].detach())
        by_output = torch.bmm(trace.features.transpose(1, 2), chunks)
        return {"output": by_output, **self.derive(trace, by_features)}

    def state_dict(self) -> dict[str, Tensor]:
        """Return all parameters by name."""
        return {
            name: value.detach()
            for name, value in [
                *self.shared.items(),
                *((f"task_{t}", e) for t, e in enumerate(self.task_embeddings)),
            ]
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state_dict`` returned."""
        for name, value in self.state_dict().items():
            value.copy_(state[name])
