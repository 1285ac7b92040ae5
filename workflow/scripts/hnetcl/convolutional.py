"""Convolutional target networks for 32 x 32 colour images: ResNet-32 and ZenkeNet (paper, CIFAR experiments).

Inside, the channels of all runs stand side by side, ``[B, R * C, H, W]``: a convolution with one group a run, a batch
normalisation over all channels and a pooling then keep the runs apart. With one run these are torch's plain layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from hnetcl.layers import linear
from hnetcl.target import TEST, Mode, Target

IMAGE = (3, 32, 32)
MOMENTUM, EPSILON = 0.1, 1e-5  # of batch normalisation: torch's defaults, which the authors' code has


def side_by_side(x: Tensor) -> Tensor:
    """Turn ``[R, B, C * H * W]`` into ``[B, R * C, H, W]``."""
    return x.unflatten(2, IMAGE).transpose(0, 1).flatten(1, 2)


def by_run(h: Tensor, runs: int) -> Tensor:
    """Turn ``[B, R * C, ...]`` into ``[R, B, C * ...]``, a channel's values one after the other."""
    return h.unflatten(1, (runs, -1)).transpose(0, 1).flatten(2)


def convolve(h: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    """Convolve each run's channels with its own ``weight [R, out, in, 3, 3]`` and ``bias [R, out]``."""
    return functional.conv2d(h, weight.flatten(0, 1), bias.flatten(), stride, padding, groups=len(weight))


@dataclass(frozen=True)
class ResNet(Target):
    """A residual network of 6 ``units`` + 2 layers (He et al. 2016, section 4.2); 5 units a stage are ResNet-32.

    As in the authors' code: convolutions have biases; shortcuts that change the size subsample by two and pad channels
    with zeros, half in front and half behind (option A). Scale and shift of every batch normalisation are weights too
    and come first: gamma1, beta1, ..., then W1, b1, ...
    """

    outputs: int
    units: int = 5

    WIDTHS: ClassVar[tuple[int, ...]] = (16, 32, 64)

    @property
    def channels(self) -> list[int]:
        """Input channels, then the output channels of every convolution."""
        return [IMAGE[0], self.WIDTHS[0], *(width for width in self.WIDTHS for _ in range(2 * self.units))]

    @property
    def normalised(self) -> list[int]:
        """See ``Target``: one batch normalisation after every convolution."""
        return self.channels[1:]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """See ``Target``."""
        channels = self.channels
        convolutions = zip(channels[1:], channels[:-1], strict=True)
        return [
            *((n,) for n in self.normalised for _ in range(2)),
            *(shape for o, i in convolutions for shape in ((o, i, 3, 3), (o,))),
            (self.outputs, self.WIDTHS[-1]),
            (self.outputs,),
        ]

    def logits(self, weights: Sequence[Tensor], x: Tensor, outputs: slice = slice(None), mode: Mode = TEST) -> Tensor:
        """See ``Target``."""
        runs, scales = len(x), 2 * len(self.normalised)
        affine = zip(weights[:scales:2], weights[1:scales:2], strict=True)
        filters = zip(weights[scales:-2:2], weights[scales + 1 : -2 : 2], strict=True)
        statistics = zip(mode.statistics[::2], mode.statistics[1::2], strict=True)

        def layer(h: Tensor, stride: int = 1) -> Tensor:
            h = convolve(h, *next(filters), stride)
            mean, variance = (part.view(-1) for part in next(statistics))
            gamma, beta = (part.flatten() for part in next(affine))
            return functional.batch_norm(h, mean, variance, gamma, beta, mode.training, MOMENTUM, EPSILON)

        h = functional.relu(layer(side_by_side(x)))
        for stage in range(len(self.WIDTHS)):
            for unit in range(self.units):
                narrows = stage > 0 and unit == 0
                inner = layer(functional.relu(layer(h, 2 if narrows else 1)))
                h = functional.relu(inner + (self._narrowed(h, runs) if narrows else h))
        pooled = by_run(h.mean((2, 3)), runs)
        return linear(pooled, weights[-2][:, outputs], weights[-1][:, outputs])

    @staticmethod
    def _narrowed(h: Tensor, runs: int) -> Tensor:
        """Return every second row and column with twice as many channels a run, the new ones zero on both sides."""
        h = h[:, :, ::2, ::2].unflatten(1, (runs, -1))
        half = h.shape[2] // 2
        return functional.pad(h, (0, 0, 0, 0, half, half)).flatten(1, 2)


@dataclass(frozen=True)
class ZenkeNet(Target):
    """The network of Zenke et al. (2017): four convolutions in two blocks and a hidden layer; tensors W1, b1, ...

    Each block ends with pooling and dropout of whole channels (0.25), the hidden layer with dropout (0.5).
    """

    outputs: int

    dropout: ClassVar = ((32, 0.25), (64, 0.25), (512, 0.5))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """See ``Target``."""
        filters = ((32, 3), (32, 32), (64, 32), (64, 64))
        dense = ((512, 64 * 6 * 6), (self.outputs, 512))
        return [shape for o, i in filters for shape in ((o, i, 3, 3), (o,))] + [
            shape for o, i in dense for shape in ((o, i), (o,))
        ]

    def logits(self, weights: Sequence[Tensor], x: Tensor, outputs: slice = slice(None), mode: Mode = TEST) -> Tensor:
        """See ``Target``."""
        runs, masks = len(x), iter(mode.masks)
        filters = iter(zip(weights[:8:2], weights[1:8:2], strict=True))
        h = side_by_side(x)
        for _ in range(2):
            h = functional.relu(convolve(h, *next(filters), padding=1))
            h = functional.relu(convolve(h, *next(filters), padding=0))
            h = functional.max_pool2d(h, 2)
            mask = next(masks, None)
            h = h if mask is None else h * mask.transpose(0, 1).flatten(1)[:, :, None, None]
        hidden = functional.relu(linear(by_run(h, runs), weights[8], weights[9]))
        mask = next(masks, None)
        hidden = hidden if mask is None else hidden * mask
        return linear(hidden, weights[10][:, outputs], weights[11][:, outputs])
