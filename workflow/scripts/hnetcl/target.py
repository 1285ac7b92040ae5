"""Target networks: functions without weights of their own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from hnetcl.clock import Clock
from hnetcl.layers import ACTIVATIONS, BACKWARD, linear
from hnetcl.streams import UniformNoise


class Mode(NamedTuple):
    """How a pass is made, for networks that differ between training and test time.

    ``statistics`` are the running means and variances of batch normalisation (see ``Target.initial_statistics``): used
    at test time, moved in place while ``training``. ``masks`` are the factors of dropout, one tensor ``[R, B, width]``
    a layer of ``Target.dropout``; none at test time.
    """

    training: bool = False
    statistics: Sequence[Tensor] = ()
    masks: Sequence[Tensor] = ()


TEST = Mode()


class Target(ABC):
    """A network whose weights are handed to it, for R runs at once.

    A flat weight vector is the concatenation of its tensors in the order of ``shapes``, row-major, as in the published
    code, because chunk boundaries depend on it. The last two tensors are weight and bias of a linear output layer.
    """

    #: Channels of each batch normalisation.
    normalised: ClassVar[Sequence[int]] = ()
    #: Width and probability of each dropout.
    dropout: ClassVar[Sequence[tuple[int, float]]] = ()

    @property
    @abstractmethod
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the weight tensors, without the run axis."""

    @property
    def fan_ins(self) -> list[int]:
        """Inputs of a unit of the layer of each tensor; 0 for scale and shift of batch normalisation."""
        scales = 2 * len(self.normalised)
        weights = self.shapes[scales::2]
        return [0] * scales + [prod(shape[1:]) for shape in weights for _ in range(2)]

    @abstractmethod
    def logits(self, weights: Sequence[Tensor], x: Tensor, outputs: slice = slice(None), mode: Mode = TEST) -> Tensor:
        """Apply the network to ``x [R, B, inputs]``; only the units ``outputs`` of the last layer are computed."""

    def derive(
        self,
        flat: Tensor,
        x: Tensor,
        loss: Callable[[Tensor], tuple[Tensor, Tensor]],
        outputs: slice = slice(None),
        mode: Mode = TEST,
    ) -> tuple[Tensor, Tensor]:
        """Return a loss of the ``logits`` of each run, ``[R]``, and its gradient by the flat weights ``[R, n]``.

        ``loss`` returns it from the logits, with its gradient by them. ``flat`` is as for ``unpack``, and what is left
        over there has a gradient of 0.
        """
        leaf = flat.detach().requires_grad_()
        logits = self.logits(self.unpack(leaf), x, outputs, mode)
        value, by_logits = loss(logits.detach())
        (gradient,) = torch.autograd.grad(logits, leaf, by_logits)
        return value, gradient

    def initial_statistics(self, runs: int, like: Tensor) -> list[Tensor]:
        """Return means 0 and variances 1 of every batch normalisation in turn, each ``[R, channels]``."""
        return [like.new_full((runs, n), value) for n in self.normalised for value in (0.0, 1.0)]

    @property
    def num_weights(self) -> int:
        """Length of the flat weight vector."""
        return sum(map(prod, self.shapes))

    def unpack(self, flat: Tensor) -> list[Tensor]:
        """Cut ``[R, n]`` with n >= num_weights into the weight tensors ``[R, *shape]``; what is left over is unused."""
        sizes = [prod(shape) for shape in self.shapes]
        # One split, not a slice a tensor: its backward pass is one concatenation instead of a padded copy for each.
        parts = flat.split([*sizes, flat.shape[1] - sum(sizes)], dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.shapes, strict=False)]

    def output_ranges(self, outputs: slice) -> list[tuple[int, int]]:
        """Where the flat vector holds the weights of all hidden layers and of the output units ``outputs``.

        Half-open, sorted and disjoint; this is what remains of the network when the other heads are masked out.
        """
        units, inputs = self.shapes[-2]
        first, last, _ = outputs.indices(units)
        weight = self.num_weights - units * (inputs + 1)
        bias = self.num_weights - units
        return [
            (0, weight + last * inputs) if first == 0 else (0, weight),
            *([] if first == 0 else [(weight + first * inputs, weight + last * inputs)]),
            (bias + first, bias + last),
        ]


class DropoutMasks:
    """The masks of a target network's dropout in every iteration of a task: 0, or 1 / (1 - p) for what is kept.

    What an iteration gets depends on seed, ``purpose`` and iteration alone.
    """

    def __init__(
        self, target: Target, seeds: Sequence[int], *purpose: str | int, samples: int, device: torch.device | str
    ):
        self._layers = [
            (p, UniformNoise(seeds, *purpose, "dropout", layer, shape=(samples, width), device=device))
            for layer, (width, p) in enumerate(target.dropout)
        ]

    def __getitem__(self, iteration: int | Clock) -> list[Tensor]:
        return [(noise[iteration] >= p).float() / (1 - p) for p, noise in self._layers]


@dataclass(frozen=True)
class TargetMLP(Target):
    """A multi-layer perceptron: ``sizes`` units a layer, inputs first; tensors W1, b1, W2, b2, ..., W ``[out, in]``."""

    sizes: tuple[int, ...]
    activation: str = "relu"

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """See ``Target``."""
        return [shape for fan_in, fan_out in pairwise(self.sizes) for shape in ((fan_out, fan_in), (fan_out,))]

    def logits(self, weights: Sequence[Tensor], x: Tensor, outputs: slice = slice(None), mode: Mode = TEST) -> Tensor:
        """See ``Target``; training and test time are the same."""
        *hidden, (weight, bias) = zip(weights[::2], weights[1::2], strict=True)
        _, sums = self._columns([*hidden, (weight[:, outputs], bias[:, outputs])], x)
        return sums.transpose(1, 2).contiguous()

    def _columns(self, layers: Sequence[tuple[Tensor, Tensor]], x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return each layer's input and the last one's output, ``[R, width, B]``.

        Samples are columns inside, so that the gradient of a weight comes out in the weight's own memory layout.
        """
        activation = ACTIVATIONS[self.activation]
        columns, sums = [], x.transpose(1, 2)
        for number, (weight, bias) in enumerate(layers):
            columns.append(activation(sums) if number else sums)
            sums = torch.baddbmm(bias.unsqueeze(2), weight, columns[-1])
        return columns, sums

    @torch.no_grad()
    def derive(self, flat, x, loss, outputs=slice(None), mode=TEST):
        """See ``Target``: by hand, each layer's gradient straight into its place in the flat vector."""
        backward, gradient = BACKWARD[self.activation], torch.empty_like(flat)
        gradient[:, self.num_weights :].zero_()
        layers, by_layers = (list(zip(f[::2], f[1::2], strict=True)) for f in map(self.unpack, (flat, gradient)))
        if outputs != slice(None):
            for by_all_units in by_layers[-1]:
                by_all_units.zero_()
            layers[-1], by_layers[-1] = ([part[:, outputs] for part in pair] for pair in (layers[-1], by_layers[-1]))

        columns, sums = self._columns(layers, x)
        value, by_logits = loss(sums.transpose(1, 2).contiguous())

        by_sums = by_logits.transpose(1, 2)
        for number in range(len(layers) - 1, -1, -1):
            by_weight, by_bias = by_layers[number]
            torch.bmm(by_sums, columns[number].transpose(1, 2), out=by_weight)
            torch.sum(by_sums, 2, out=by_bias)
            if number:
                by_sums = backward(torch.bmm(layers[number][0].transpose(1, 2), by_sums), columns[number])
        return value, gradient

    def layer_by_layer(self, weights: Sequence[Tensor], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return each layer's input ``[R, B, in]`` and pre-activation ``[R, B, out]``; the last one is the logits."""
        inputs, outputs = [], []
        for w, b in zip(weights[::2], weights[1::2], strict=True):
            inputs.append(x)
            outputs.append(linear(x, w, b))
            x = ACTIVATIONS[self.activation](outputs[-1])
        return inputs, outputs

    @staticmethod
    def squared_gradients(inputs: Sequence[Tensor], by_outputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the sum over samples of each weight tensor's squared gradient, ``[R, *shape]``.

        ``inputs`` are the layers' as ``layer_by_layer`` returns them, ``by_outputs`` a loss's gradients by its
        pre-activations. A sample's gradient of a layer's weight is the outer product d a' of its gradient d and its
        input a, so that the sum is (d * d)'(a * a): one product a layer, exact.
        """
        sums = []
        for a, d in zip(inputs, by_outputs, strict=True):
            squares = d.detach().square()
            sums += [squares.transpose(1, 2) @ a.detach().square(), squares.sum(1)]
        return sums
