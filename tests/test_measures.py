"""The measures agree with their published formulas, written out as loops over tasks counted from 1."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hnetcl import measures

PERCENT = st.floats(0, 100, width=32)
MATRICES = st.integers(2, 7).flatmap(lambda tasks: arrays(float, (tasks, tasks), elements=PERCENT))

# Three tasks by hand: the first is forgotten step by step, the second gets better.
ACCURACY = np.array([[90.0, 50.0, 40.0], [80.0, 95.0, 45.0], [60.0, 97.0, 99.0]])
INITIAL = np.array([48.0, 49.0, 51.0])


def one_based(matrix):
    return lambda after, task: float(matrix[after - 1, task - 1])


def test_three_tasks_by_hand():
    assert measures.mean_final(ACCURACY) == pytest.approx((60 + 97 + 99) / 3)
    assert measures.mean_during(ACCURACY) == pytest.approx((90 + 95 + 99) / 3)
    assert measures.forgetting(ACCURACY) == pytest.approx(((90 - 60) + (95 - 97)) / 2)
    assert measures.backward_transfer(ACCURACY) == pytest.approx(((60 - 90) + (97 - 95)) / 2)
    assert measures.forward_transfer(ACCURACY, INITIAL) == pytest.approx(((50 - 49) + (45 - 51)) / 2)


@given(MATRICES)
def test_final_and_during_are_means_of_the_last_row_and_of_the_diagonal(matrix):
    a, tasks = one_based(matrix), range(1, len(matrix) + 1)
    assert measures.mean_final(matrix) == pytest.approx(sum(a(len(matrix), j) for j in tasks) / len(matrix))
    assert measures.mean_during(matrix) == pytest.approx(sum(a(j, j) for j in tasks) / len(matrix))


@given(MATRICES)
def test_forgetting_is_the_mean_drop_from_the_best_since_learning(matrix):
    a, last = one_based(matrix), len(matrix)
    drops = [max(a(i, j) for i in range(j, last)) - a(last, j) for j in range(1, last)]
    assert measures.forgetting(matrix) == pytest.approx(sum(drops) / len(drops))


@given(MATRICES, st.data())
def test_transfers_follow_lopez_paz_and_ranzato(matrix, data):
    initial = data.draw(arrays(float, len(matrix), elements=PERCENT))
    a, last = one_based(matrix), len(matrix)
    backward = [a(last, j) - a(j, j) for j in range(1, last)]
    forward = [a(j - 1, j) - float(initial[j - 1]) for j in range(2, last + 1)]
    assert measures.backward_transfer(matrix) == pytest.approx(sum(backward) / len(backward))
    assert measures.forward_transfer(matrix, initial) == pytest.approx(sum(forward) / len(forward))


@given(MATRICES)
def test_without_accuracies_on_unseen_tasks_only_forward_transfer_is_undefined(matrix):
    seen = np.where(np.tri(len(matrix), dtype=bool), matrix, np.nan)
    assert math.isnan(measures.forward_transfer(seen, np.zeros(len(matrix))))
    for measure in (
        measures.mean_final,
        measures.mean_during,
        measures.forgetting,
        measures.backward_transfer,
    ):
        assert measure(seen) == measure(matrix)


def test_a_missing_entry_makes_a_measure_undefined_instead_of_averaging_over_fewer_tasks():
    only_final = np.full((3, 3), np.nan)
    only_final[-1] = 90
    assert measures.mean_final(only_final) == 90
    for measure in (measures.mean_during, measures.forgetting, measures.backward_transfer):
        assert math.isnan(measure(only_final))


def test_a_single_task_can_neither_be_forgotten_nor_transferred():
    assert measures.mean_final([[98.0]]) == measures.mean_during([[98.0]]) == 98
    assert math.isnan(measures.forgetting([[98.0]]))
    assert math.isnan(measures.backward_transfer([[98.0]]))
    assert math.isnan(measures.forward_transfer([[98.0]], [50.0]))


@pytest.mark.parametrize("matrix", [np.zeros((2, 3)), np.zeros(4), np.zeros((0, 0))])
def test_only_square_matrices_are_measured(matrix):
    with pytest.raises(ValueError, match="shape"):
        measures.mean_final(matrix)
