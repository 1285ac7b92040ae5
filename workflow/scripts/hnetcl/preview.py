"""Adam's step ahead on a CPU in one pass over memory, compiled when a process first needs it.

Torch changes parameters and moments in place; a step on copies of them moves each number of a large layer through the
caches three times as often.
"""

import os
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

# Before Numba is imported, which would otherwise start a thread for each core of the machine.
os.environ.setdefault("NUMBA_NUM_THREADS", str(torch.get_num_threads()))

import numba


def _compiled(function: Callable) -> Callable:
    """Compile for the array types it is called with, and keep that for other processes where files can be written."""
    compiled = partial(numba.njit, parallel=True, error_model="numpy")  # a division by zero is infinite, as in torch
    try:
        return compiled(cache=True)(function)
    except RuntimeError:
        return compiled()(function)


@_compiled
def _step_ahead(now, first, second, gradient, before, ahead, change, new, keep_square, new_square, rate, root, epsilon):
    for i in numba.prange(now.size):  # elementwise: no number depends on how they are shared out
        moment = first[i] + new * (gradient[i] - first[i])
        square = keep_square * second[i] + new_square * gradient[i] * gradient[i]
        ahead[i] = now[i] - rate * moment / (np.sqrt(square) * root + epsilon)
        change[i] = ahead[i] - before[i]


def step_ahead(
    now: Tensor,
    first: Tensor,
    second: Tensor,
    gradient: Tensor,
    before: Tensor,
    ahead: Tensor,
    change: Tensor,
    *,
    count: int,
    learning_rate: float,
    betas: tuple[float, float],
    epsilon: float,
) -> None:
    """Write to ``ahead`` where Adam's step number ``count`` leads from ``now``, and how far that is from ``before``.

    All tensors are ``[R, ...]`` of the same shape, those of a run in one piece; ``first`` and ``second`` are the
    moments before the step. As in Kingma & Ba (2015), algorithm 1, with epsilon beside the corrected root.
    """
    keep, keep_square = betas
    rate = learning_rate / (1 - keep**count)
    root = (1 - keep_square**count) ** -0.5
    for arrays in zip(now, first, second, gradient, before, ahead, change, strict=True):
        flat = [array.detach().view(-1).numpy() for array in arrays]
        numbers = (1 - keep, keep_square, 1 - keep_square, rate, root, epsilon)
        _step_ahead(*flat, *map(flat[0].dtype.type, numbers))
