"""Measures of continual learning, all derived from the accuracy matrix of one run.

``accuracy[i, j]`` is the test accuracy in percent on task ``j`` after learning task ``i`` (shape ``[T, T]``,
tasks counted from 0, NaN where not measured). Every measure is in percentage points, and NaN as soon as one
of the entries it needs was not measured: a mean over fewer tasks would be another measure of the same name.
"""

import numpy as np
from numpy.typing import ArrayLike


def mean_final(accuracy: ArrayLike) -> float:
    """Mean over all tasks after the last one, ``1/T sum_j A[T-1, j]``.

    The number of the paper's Table 1; the average accuracy ACC of Lopez-Paz & Ranzato (2017), section 2.
    """
    return _mean(_square(accuracy)[-1])


def mean_during(accuracy: ArrayLike) -> float:
    """Mean over all tasks, each right after it was learned, ``1/T sum_j A[j, j]`` (the paper's "during")."""
    return _mean(np.diagonal(_square(accuracy)))


def forgetting(accuracy: ArrayLike) -> float:
    """How far the tasks before the last fell below their own best, averaged; NaN for a single task.

    ``1/(T-1) sum_{j<T-1} (max_{j<=i<T-1} A[i, j] - A[T-1, j])``: the forgetting measure of Chaudhry et al.
    (2018, "Riemannian walk for incremental learning") after the last task. Their maximum also runs over the
    ``i < j``, where task ``j`` has not been seen; what was not learned cannot be forgotten, and those entries
    need not be measured here. Negative where later tasks helped.
    """
    matrix = _square(accuracy)
    best = [matrix[task:-1, task].max() for task in range(len(matrix) - 1)]
    return _mean(best - matrix[-1, :-1])


def backward_transfer(accuracy: ArrayLike) -> float:
    """What learning later tasks did to earlier ones, ``1/(T-1) sum_{j<T-1} (A[T-1, j] - A[j, j])``.

    BWT of Lopez-Paz & Ranzato (2017), equation 3. Negative where tasks were forgotten; NaN for a single task.
    """
    matrix = _square(accuracy)
    return _mean(matrix[-1, :-1] - np.diagonal(matrix)[:-1])


def forward_transfer(accuracy: ArrayLike, initial: ArrayLike) -> float:
    """What earlier tasks did to a task not yet seen, ``1/(T-1) sum_{j>0} (A[j-1, j] - initial[j])``.

    FWT of Lopez-Paz & Ranzato (2017), equation 4. ``initial`` has shape ``[T]``: the accuracy in percent
    before any training. NaN for a single task and where the accuracy on unseen tasks has no meaning.
    """
    matrix = _square(accuracy)
    return _mean(np.diagonal(matrix, offset=1) - np.asarray(initial, dtype=float)[1:])


def _square(accuracy: ArrayLike) -> np.ndarray:
    matrix = np.asarray(accuracy, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise ValueError(f"the accuracy matrix has shape {matrix.shape}; allowed: [T, T] with T > 0")
    return matrix


def _mean(values: ArrayLike) -> float:
    return float(np.mean(values)) if np.size(values) else float("nan")
