"""Random streams: one generator a seed and purpose.

What a seed draws for one purpose (its initial weights, say) depends on that seed and that purpose alone: not on
the other seeds of its pack, on the device, on the methods run before, or on how often another stream was used.
"""

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hnetcl.clock import Clock, at, prepared


def stream(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a fresh CPU generator for ``purpose``, e.g. ``stream(7, "batches", 3)``."""
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def draw_runs(seeds: Sequence[int], draw: Callable[[torch.Generator], Tensor], *purpose: str | int) -> Tensor:
    """Draw one tensor a seed and stack them along the leading run axis: ``[R, ...]``."""
    return torch.stack([draw(stream(seed, *purpose)) for seed in seeds])


class NormalNoise:
    """Standard normal numbers for every iteration of a task: ``noise[iteration]`` is ``[R, *shape]``.

    What an iteration gets depends on seed, purpose and iteration alone, so that a resumed run sees the same. It is
    drawn on the CPU in blocks: one transfer to the device serves a few iterations.
    """

    BLOCK = 32
    draw = staticmethod(torch.randn)

    def __init__(self, seeds: Sequence[int], *purpose: str | int, shape: Sequence[int], device: torch.device | str):
        self._seeds, self._purpose, self._shape, self._device = seeds, purpose, shape, device
        self._number: int | None = None

    def __getitem__(self, iteration: int | Clock) -> Tensor:
        prepared(iteration, self, self._load)
        return at(self._block, 1, iteration, self.BLOCK)

    def _load(self, iteration: int) -> None:
        number = iteration // self.BLOCK
        if number == self._number:
            return
        size = (self.BLOCK, *self._shape)
        drawn = draw_runs(self._seeds, lambda g: self.draw(size, generator=g), *self._purpose, number)
        if self._number is None:
            self._block = drawn.to(self._device)
        else:
            self._block.copy_(drawn)  # where a recorded step looks for it
        self._number = number


class UniformNoise(NormalNoise):
    """Numbers uniform in [0, 1), drawn likewise."""

    draw = staticmethod(torch.rand)
