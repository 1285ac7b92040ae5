"""Task sequences: what a task is, and which samples a seed sees in which order."""

import numpy as np
import pytest
import torch

from conftest import PERMUTED, make_dataset
from hnetcl.data import load_mnist
from hnetcl.methods.interface import Method, Prediction
from hnetcl.spec import ConfigurationError
from hnetcl.tasks import TaskSequence

PER_SEED_SPLIT = {"kind": "split", "tasks": 3, "classes_per_task": 2, "assignment": "per_seed"}
SPLIT_MNIST = {"kind": "split", "tasks": 5, "classes_per_task": 2, "assignment": "fixed"}


@pytest.fixture
def make_sequence(make_spec, dataset):
    def make(sequence=None, seeds=(1,), data=dataset):
        changes = {} if sequence is None else {"sequence": sequence}
        return TaskSequence(make_spec("fine_tune", "cl1", changes), list(seeds), data)

    return make


def pixels_of(images, largest):
    return torch.from_numpy(images).flatten(1).float() / largest


def find(rows, images):
    """Number of the image that each row is."""
    equal = (rows.unsqueeze(1) == images.unsqueeze(0)).all(2)
    assert equal.any(1).all()
    return equal.int().argmax(1)


def whole_test_set(sequence, task, run=0):
    samples, valid = sequence.test_set(task)
    batch = sequence.test_batch(task, samples)
    return batch.x[run][valid[run]], batch.labels[run][valid[run]]


# ---- split --------------------------------------------------------------------------------------------------------


@pytest.mark.mnist
def test_split_mnist_has_the_published_sizes(make_sequence, mnist_dir):
    mnist = load_mnist(mnist_dir, download=False)
    sequence = make_sequence(SPLIT_MNIST, data=mnist)
    assert sequence.num_inputs == 784
    tests = [int(sequence.test_set(task)[1].sum()) for task in range(5)]
    assert tests == [2115, 2042, 1874, 1986, 1983]
    for task, size in enumerate([12665, 12089, 11263, 12183, 11800]):
        # One epoch in one batch: the samples come back to the first after exactly `size` draws.
        samples = sequence.training_stage(task, seen=False, iterations=1, batch_size=size + 1).samples[0, 0]
        assert len(samples[:size].unique()) == size
        assert samples[-1] in samples[:size]
        assert set(mnist.train_labels[samples.numpy()]) == {2 * task, 2 * task + 1}
    x, labels = whole_test_set(sequence, 3)
    assert x.min() == 0 and x.max() == 1
    assert labels.bincount().tolist() == [958, 1028]  # sixes and sevens of the test set


def test_split_tasks_are_the_classes_in_order_with_labels_counted_from_zero(make_sequence, dataset):
    sequence = make_sequence(seeds=[1, 2])
    images = pixels_of(dataset.test_images, 16)
    for run in range(2):
        for task in range(3):
            x, labels = whole_test_set(sequence, task, run)
            digits = dataset.test_labels[find(x, images).numpy()]
            assert (digits == 2 * task + labels.numpy()).all()
            assert len(x) == np.isin(dataset.test_labels, [2 * task, 2 * task + 1]).sum()


def test_split_classes_drawn_per_seed_differ_between_seeds_and_cover_every_class_once(make_sequence, dataset):
    seeds = [1, 2, 3, 4]
    sequence = make_sequence(PER_SEED_SPLIT, seeds)
    images = pixels_of(dataset.test_images, 16)
    orders = []
    for run in range(len(seeds)):
        classes = []
        for task in range(3):
            x, labels = whole_test_set(sequence, task, run)
            digits = dataset.test_labels[find(x, images).numpy()]
            of_label = [set(digits[labels.numpy() == label]) for label in (0, 1)]
            assert [len(found) for found in of_label] == [1, 1]
            classes += [found.pop() for found in of_label]
        assert sorted(classes) == list(range(6))
        orders.append(classes)
    assert len({tuple(order) for order in orders}) > 1


def test_padding_of_unequal_test_sets_is_marked_and_never_counted(make_sequence, dataset, make_spec):
    from hnetcl.evaluation import evaluate

    seeds = [1, 2, 3, 4]
    sequence = make_sequence(PER_SEED_SPLIT, seeds)
    for task in range(3):
        _, valid = sequence.test_set(task)
        assert len({int(v.sum()) for v in valid}) > 1  # the case this test is about

    class SaysZero(Method):
        begin_task = step = parameter_counts = state_dict = load_state_dict = None

        def predictor(self, scenario, learned):
            return lambda x, task: Prediction(torch.zeros(x.shape[:2], dtype=torch.int64))

    SaysZero.__abstractmethods__ = frozenset()
    accuracy, _ = evaluate(SaysZero(make_spec("fine_tune", "cl1"), sequence), sequence, "cl1", 1)
    for run in range(len(seeds)):
        for task in range(3):
            _, labels = whole_test_set(sequence, task, run)
            assert accuracy[run][task] == pytest.approx(100 * (labels == 0).double().mean().item(), rel=1e-6)


@pytest.mark.parametrize("tasks, classes", [(6, 2), (2, 6)])
def test_more_classes_than_the_dataset_has_are_refused_by_the_name_of_their_key(make_sequence, tasks, classes):
    spec = {"kind": "split", "tasks": tasks, "classes_per_task": classes, "assignment": "fixed"}
    with pytest.raises(ConfigurationError, match=r"sequence\.(tasks|classes_per_task)"):
        make_sequence(spec, data=make_dataset(classes=10))


# ---- permuted -----------------------------------------------------------------------------------------------------


def distinct_pixels():
    """A dataset whose first test image holds every value 1..255 once."""
    data = make_dataset(classes=3, side=15, train=3, test=2)
    data.test_images[0] = np.arange(1, 226).reshape(15, 15)
    return type(data)("digits", data.train_images, data.train_labels, data.test_images, data.test_labels, 255)


@pytest.mark.parametrize("first", ["identity", "permuted"])
@pytest.mark.parametrize("padding", [0, 2])
def test_fixed_permutations_are_successive_draws_of_the_legacy_numpy_stream(make_sequence, first, padding):
    data = distinct_pixels()
    sequence = make_sequence(PERMUTED | {"tasks": 4, "first_task": first, "padding": padding}, [1, 2], data)
    size = (15 + 2 * padding) ** 2
    assert sequence.num_inputs == size
    random = np.random.RandomState(42)
    draws = [random.permutation(size) for _ in range(4)]
    orders = [np.arange(size), *draws[:3]] if first == "identity" else draws
    padded = np.pad(data.test_images, ((0, 0), (padding, padding), (padding, padding))).reshape(-1, size)
    for run in range(2):
        for task, order in enumerate(orders):
            x, labels = whole_test_set(sequence, task, run)
            np.testing.assert_array_equal(x.numpy(), np.float32(padded[:, order]) / np.float32(255))
            np.testing.assert_array_equal(labels.numpy(), data.test_labels)


def test_permutations_drawn_per_seed_are_permutations_and_differ_between_seeds_and_tasks(make_sequence):
    data = distinct_pixels()
    spec = PERMUTED | {"assignment": "per_seed", "first_task": "permuted"}
    sequence = make_sequence(spec, [1, 2], data)
    image = torch.arange(1, 226) / 255
    seen = []
    for run in range(2):
        for task in range(3):
            x, _ = whole_test_set(sequence, task, run)
            assert torch.equal(x[0].sort().values, image)
            seen.append(tuple(x[0].tolist()))
    assert len(set(seen)) == 6
    alone = make_sequence(spec, [2], data)
    assert torch.equal(whole_test_set(alone, 1)[0], whole_test_set(sequence, 1, 1)[0])


def test_the_first_task_keeps_its_pixel_order_where_that_is_asked_for(make_sequence):
    data = distinct_pixels()
    for assignment in ("fixed", "per_seed"):
        sequence = make_sequence(PERMUTED | {"assignment": assignment}, [1, 2], data)
        for run in range(2):
            assert torch.equal(whole_test_set(sequence, 0, run)[0], pixels_of(data.test_images, 255))
            assert not torch.equal(whole_test_set(sequence, 1, run)[0], pixels_of(data.test_images, 255))


def test_shorter_sequences_use_the_first_permutations_of_longer_ones(make_sequence):
    data = distinct_pixels()
    short, long = (make_sequence(PERMUTED | {"tasks": tasks}, [1], data) for tasks in (3, 6))
    assert torch.equal(whole_test_set(short, 2)[0], whole_test_set(long, 2)[0])


# ---- batches ------------------------------------------------------------------------------------------------------


def drawn(sequence, task, iterations=30, batch_size=7, seen=False):
    """Sample numbers in the order in which they are trained on, ``[R, iterations * batch_size]``."""
    stage = sequence.training_stage(task, seen=seen, iterations=iterations, batch_size=batch_size)
    return stage.samples.transpose(0, 1).flatten(1)


@pytest.mark.parametrize("kind", ["split", "permuted"])
def test_every_epoch_draws_each_sample_once_and_batches_wrap(make_sequence, dataset, kind):
    sequence = make_sequence(None if kind == "split" else PERMUTED, [1, 2])
    own = np.flatnonzero(np.isin(dataset.train_labels, [2, 3])) if kind == "split" else range(len(dataset.train_labels))
    size = len(own)
    for order in drawn(sequence, 1, iterations=60):
        epochs = order[: len(order) // size * size].view(-1, size)
        assert len(epochs) >= 3
        for epoch in epochs:
            assert sorted(epoch.tolist()) == list(own)
        assert not torch.equal(epochs[0], epochs[1])


def test_batches_hold_the_images_and_labels_of_their_samples(make_sequence, dataset):
    images = pixels_of(dataset.train_images, 16)
    order = torch.from_numpy(np.random.RandomState(42).permutation(16))  # of the second task
    for kind in ("split", "permuted"):
        sequence = make_sequence(None if kind == "split" else PERMUTED, [1, 2])
        stage = sequence.training_stage(1, seen=False, iterations=4, batch_size=7)
        assert len(stage) == 4
        for iteration in range(4):
            batch = stage[iteration]
            samples = stage.samples[iteration]
            expected = images[samples] if kind == "split" else images[samples][:, :, order]
            assert torch.equal(batch.x, expected)
            digits = torch.from_numpy(dataset.train_labels)[samples]
            assert torch.equal(batch.labels, digits - 2 if kind == "split" else digits)
            assert (batch.tasks == 1).all()


@pytest.mark.parametrize("sequence", [None, PER_SEED_SPLIT, PERMUTED, PERMUTED | {"assignment": "per_seed"}])
@pytest.mark.parametrize("seen", [False, True])
def test_a_seeds_batches_are_the_same_bit_for_bit_in_any_pack(make_sequence, sequence, seen):
    stages = [
        make_sequence(sequence, seeds).training_stage(2, seen=seen, iterations=6, batch_size=9)
        for seeds in ([7], [3, 7, 9], [7, 1])
    ]
    for iteration in range(6):
        alone, middle, first = (stage[iteration] for stage in stages)
        for pack, run in ((middle, 1), (first, 0)):
            assert torch.equal(pack.x[run], alone.x[0])
            assert torch.equal(pack.labels[run], alone.labels[0])
            assert torch.equal(pack.tasks[run], alone.tasks[0])
    assert not torch.equal(stages[1].samples[:, 0], stages[1].samples[:, 1])


def test_the_order_of_a_task_does_not_depend_on_other_tasks_or_on_how_long_it_is_trained(make_sequence):
    first, second = make_sequence(seeds=[5]), make_sequence(seeds=[5])
    drawn(first, 0), drawn(first, 1, iterations=100)
    assert torch.equal(drawn(first, 2), drawn(second, 2))
    assert torch.equal(drawn(second, 2, iterations=90)[:, : 30 * 7], drawn(first, 2))
    permuted = make_sequence(PERMUTED, [5])
    assert not torch.equal(drawn(permuted, 1), drawn(permuted, 2))


# ---- joint stages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequence", [None, PER_SEED_SPLIT])
def test_a_joint_split_stage_draws_every_seen_sample_with_its_task_and_label(make_sequence, dataset, sequence):
    made = make_sequence(sequence, [1, 2])
    images = pixels_of(dataset.train_images, 16)
    # What each task's class and label is, from the test sets, which other tests check.
    meaning = [{}, {}]
    test_images = pixels_of(dataset.test_images, 16)
    for run in range(2):
        for task in range(3):
            x, labels = whole_test_set(made, task, run)
            for digit, label in zip(dataset.test_labels[find(x, test_images).numpy()], labels.tolist(), strict=True):
                meaning[run][int(digit)] = (task, label)
    stage = made.training_stage(1, seen=True, iterations=40, batch_size=9)
    for run in range(2):
        of_seen = [d for d, (task, _) in meaning[run].items() if task <= 1]
        size = int(np.isin(dataset.train_labels, of_seen).sum())
        batches = [stage[iteration] for iteration in range(40)]
        x = torch.cat([b.x[run] for b in batches])
        digits = dataset.train_labels[stage.samples[:, run].flatten().numpy()]
        assert torch.equal(x, images[stage.samples[:, run].flatten()])
        tasks = torch.cat([b.tasks[run] for b in batches]).tolist()
        labels = torch.cat([b.labels[run] for b in batches]).tolist()
        assert [meaning[run][int(d)] for d in digits] == list(zip(tasks, labels, strict=True))
        epoch = stage.samples[:, run].flatten()[:size].tolist()
        assert sorted(epoch) == np.flatnonzero(np.isin(dataset.train_labels, of_seen)).tolist()


def test_a_joint_permuted_stage_draws_every_image_once_a_task_in_that_tasks_pixel_order(make_sequence, dataset):
    sequence = make_sequence(PERMUTED, [1, 2])
    random = np.random.RandomState(42)
    orders = [np.arange(16), random.permutation(16)]
    images = pixels_of(dataset.train_images, 16)
    size = 2 * len(images)
    stage = sequence.training_stage(1, seen=True, iterations=size // 3, batch_size=3)
    for run in range(2):
        pairs = []
        for iteration in range(len(stage)):
            batch, samples = stage[iteration], stage.samples[iteration, run]
            for x, label, task, sample in zip(batch.x[run], batch.labels[run], batch.tasks[run], samples, strict=True):
                assert torch.equal(x, images[sample][orders[task]])
                assert label == dataset.train_labels[sample]
                pairs.append((int(task), int(sample)))
        assert len(set(pairs)) == len(pairs) == size // 3 * 3
