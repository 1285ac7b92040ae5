"""Accuracy on every task's test set."""

from types import SimpleNamespace

import pytest
import torch

from hnetcl.evaluation import TEST_BATCH, evaluate
from hnetcl.methods.interface import Prediction
from hnetcl.tasks import Batch


class Sequence:
    """Tasks of given sizes a run, with random labels; the only input is the sample's number."""

    def __init__(self, sizes):
        self.sizes = sizes  # [tasks][R]
        self.num_tasks, self.seeds = len(sizes), list(range(len(sizes[0])))
        self.labels = torch.randint(0, 3, (self.num_tasks, len(self.seeds), max(map(max, sizes))))

    def test_set(self, task):
        longest = max(self.sizes[task])
        valid = torch.stack([torch.arange(longest) < size for size in self.sizes[task]])
        return torch.where(valid, torch.arange(longest), 0), valid

    def test_batch(self, task, samples):
        labels = self.labels[task].gather(1, samples)
        return Batch(samples.unsqueeze(2), labels, torch.full_like(labels, task))


def method_that(predict, ahead=True):
    return SimpleNamespace(
        answers=lambda scenario, task, learned: ahead or task < learned, predictor=lambda scenario, learned: predict
    )


def test_all_right_is_exactly_a_hundred_percent_for_any_number_of_samples():
    sequence = Sequence([[size] for size in range(1, 300)])

    def predict(x, task):
        return Prediction(sequence.labels[task].gather(1, x[:, :, 0]), torch.full(x.shape[:2], task))

    for values in evaluate(method_that(predict), sequence, "cl3", 1):
        assert values == [[100.0] * 299]


@pytest.mark.parametrize("scenario", ["cl1", "cl2", "cl3"])
def test_accuracies_are_the_counted_ones_over_several_test_batches(scenario):
    torch.manual_seed(0)
    sequence = Sequence([[2 * TEST_BATCH + 7, 1201], [3, 900], [TEST_BATCH, TEST_BATCH + 1]])
    guesses = torch.randint(0, 3, sequence.labels.shape)
    found = torch.randint(0, 3, sequence.labels.shape)
    # Sample 0, which stands where a shorter test set is padded, is always right: padding that counts would show.
    guesses[:, :, 0], found[:, :, 0] = sequence.labels[:, :, 0], torch.arange(3).unsqueeze(1)
    inferring = scenario != "cl1"

    def predict(x, task):
        samples = x[:, :, 0]
        return Prediction(guesses[task].gather(1, samples), found[task].gather(1, samples) if inferring else None)

    accuracy, inference = evaluate(method_that(predict), sequence, scenario, 2)
    for run in range(2):
        for task, sizes in enumerate(sequence.sizes):
            right = told = 0
            for sample in range(sizes[run]):
                same = guesses[task, run, sample] == sequence.labels[task, run, sample]
                own = found[task, run, sample] == task
                # Only where the unit names class and task must the task be right too.
                right += bool(same and own) if scenario == "cl3" else bool(same)
                told += bool(own)
            assert accuracy[run][task] == pytest.approx(100 * right / sizes[run], rel=1e-12)
            expected = pytest.approx(100 * told / sizes[run], rel=1e-12) if inferring else None
            assert inference[run][task] == expected


@pytest.mark.parametrize("learned, measured", [(0, 0), (2, 2), (3, 3)])
def test_tasks_to_come_are_not_measured_where_the_method_cannot_be_asked(learned, measured):
    sequence = Sequence([[5, 6]] * 3)

    def predict(x, task):
        assert task < learned
        return Prediction(torch.zeros(x.shape[:2]), torch.zeros(x.shape[:2]))

    for values in evaluate(method_that(predict, ahead=False), sequence, "cl3", learned):
        for row in values:
            assert [value is not None for value in row] == [True] * measured + [False] * (3 - measured)
