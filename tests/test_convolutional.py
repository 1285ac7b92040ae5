"""Convolutional target networks against plain torch modules, and the CIFAR tasks from archives to accuracies."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from hnetcl import data
from hnetcl.convolutional import ResNet, ZenkeNet
from hnetcl.data import Dataset
from hnetcl.hypernetwork_classifier import HypernetworkClassifier
from hnetcl.measures import forgetting, mean_during, mean_final
from hnetcl.methods.hnet_ent import HypernetworkEntropy
from hnetcl.methods.plain import FineTuning
from hnetcl.outputs import OutputUnits
from hnetcl.schedule import Schedule
from hnetcl.spec import ConfigurationError, OptimisationSpec, load_experiment
from hnetcl.target import DropoutMasks, Mode
from hnetcl.tasks import IMAGENET, TaskSequence, crop_and_flip
from hnetcl.training import TrainingStoppedError, train
from pictures import write_archives

EXPERIMENTS = Path(__file__).parents[1] / "config" / "experiments"
CIFAR_TASKS = {"kind": "split", "tasks": 3, "classes_per_task": 2, "assignment": "fixed"}
COLOUR = {
    "dataset": "cifar10_jpeg",
    "sequence": CIFAR_TASKS | {"augmentation": "crop_and_flip", "normalisation": "imagenet"},
    "target": {"kind": "resnet", "units": 1},
    "methods.hnet_ent.hypernetwork": {
        "task_embedding": 6,
        "chunk_embedding": 6,
        "hidden": [],
        "activation": "relu",
        "chunk_size": 3000,
    },
    "methods.hnet_ent.regulariser.outputs": "own_head",
    "methods.hnet_ent.scenarios": ["cl1"],
    "optimisation.batch_size": 4,
    "optimisation.iterations": 6,
}
OTHER_METHODS = ("separate", "hnet_tir", "hnet_r", "ewc", "online_ewc", "dgr", "dgr_distill")
COLOUR |= {f"methods.{name}": None for name in OTHER_METHODS}
ZENKE = COLOUR | {"target": {"kind": "zenke"}, "sequence": CIFAR_TASKS}


# ---- the same functions as plain modules ---------------------------------------------------------------------------


class PlainUnit(nn.Module):
    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.narrows = fan_out != fan_in
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(fan_in, fan_out, 3, 2 if self.narrows else 1, 1), nn.Conv2d(fan_out, fan_out, 3, 1, 1)]
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(fan_out) for _ in range(2)])

    def forward(self, x):
        y = self.norms[0](self.convolutions[0](x)).relu()
        y = self.norms[1](self.convolutions[1](y))
        if self.narrows:
            x = functional.avg_pool2d(x, 1, 2)
            zeros = torch.zeros_like(x)[:, : x.shape[1] // 2]
            x = torch.cat([zeros, x, zeros], dim=1)
        return (x + y).relu()


class PlainResNet(nn.Module):
    def __init__(self, outputs, units):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16)
        widths = [16, *(width for width in (16, 32, 64) for _ in range(units))]
        self.units = nn.Sequential(*(PlainUnit(i, o) for i, o in pairwise(widths)))
        self.head = nn.Linear(64, outputs)

    def forward(self, x):
        return self.head(self.units(self.norm(self.stem(x)).relu()).mean((2, 3)))

    def norms(self):
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]

    def take(self, weights):
        """Load the tensors of one run: scales and shifts, then weights and biases."""
        layers = [module for module in self.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        tensors = iter(weights)
        with torch.no_grad():
            for module in [*self.norms(), *layers]:
                module.weight.copy_(next(tensors))
                module.bias.copy_(next(tensors))
        assert next(tensors, None) is None


def random_case(target, runs, samples):
    flat = 0.1 * torch.randn(runs, target.num_weights + 3, dtype=torch.float64)
    return flat, torch.rand(runs, samples, 3 * 32 * 32, dtype=torch.float64)


@pytest.mark.parametrize(("units", "runs"), [(5, 1), (1, 3)])
def test_a_resnet_with_generated_weights_is_the_plain_module(units, runs):
    target = ResNet(7, units)
    flat, x = random_case(target, runs, 4)
    weights, statistics = target.unpack(flat), target.initial_statistics(runs, flat)
    plain = [PlainResNet(7, units).double() for _ in range(runs)]
    for run, module in enumerate(plain):
        module.take([part[run] for part in weights])
    images = x.unflatten(2, (3, 32, 32))
    for training in (True, True, False):
        found = target.logits(weights, x, mode=Mode(training, statistics))
        expected = torch.stack([module.train(training)(part) for module, part in zip(plain, images, strict=True)])
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for run, module in enumerate(plain):
        running = [part for norm in module.norms() for part in (norm.running_mean, norm.running_var)]
        for ours, theirs in zip(statistics, running, strict=True):
            torch.testing.assert_close(ours[run], theirs, rtol=1e-10, atol=1e-12)


def test_gradients_of_a_resnet_are_those_of_the_plain_module():
    target = ResNet(5, 1)
    flat, x = random_case(target, 2, 3)
    flat.requires_grad_()
    mode = Mode(True, target.initial_statistics(2, flat.detach()))
    (found,) = torch.autograd.grad(target.logits(target.unpack(flat), x, slice(1, 4), mode).square().sum(), flat)
    for run in range(2):
        module = PlainResNet(5, 1).double()
        module.take([part[run].detach() for part in target.unpack(flat)])
        module(x[run].unflatten(1, (3, 32, 32)))[:, 1:4].square().sum().backward()
        layers = [*module.norms(), *(m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear))]
        expected = torch.cat([part.grad.flatten() for layer in layers for part in (layer.weight, layer.bias)])
        torch.testing.assert_close(found[run, : target.num_weights], expected, rtol=1e-9, atol=1e-11)
        assert not found[run, target.num_weights :].any()


def plain_zenke(weights, x, masks=None):
    """One run's network with torch's functions; ``masks`` are those of its three dropouts."""
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    h = functional.relu(functional.conv2d(x, *layers[0], padding=1))
    h = functional.max_pool2d(functional.relu(functional.conv2d(h, *layers[1])), 2)
    h = h if masks is None else h * masks[0][:, :, None, None]
    h = functional.relu(functional.conv2d(h, *layers[2], padding=1))
    h = functional.max_pool2d(functional.relu(functional.conv2d(h, *layers[3])), 2)
    h = h if masks is None else h * masks[1][:, :, None, None]
    h = functional.relu(functional.linear(h.flatten(1), *layers[4]))
    return functional.linear(h if masks is None else h * masks[2], *layers[5])


@pytest.mark.parametrize("runs", [1, 2])
def test_a_zenkenet_with_generated_weights_is_the_plain_network(runs):
    target = ZenkeNet(6)
    flat, x = random_case(target, runs, 4)
    weights = target.unpack(flat)
    masks = [mask.double() for mask in DropoutMasks(target, range(runs), "test", samples=4, device="cpu")[3]]
    for training in (True, False):
        found = target.logits(weights, x, mode=Mode(training, (), masks if training else ()))
        expected = torch.stack(
            [
                plain_zenke(
                    [part[run] for part in weights],
                    x[run].unflatten(1, (3, 32, 32)),
                    [mask[run] for mask in masks] if training else None,
                )
                for run in range(runs)
            ]
        )
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        part = target.logits(weights, x, slice(2, 5), Mode(training, (), masks if training else ()))
        torch.testing.assert_close(part, expected[:, :, 2:5], rtol=1e-10, atol=1e-10)


def test_dropout_keeps_the_share_it_should_and_scales_it():
    masks = DropoutMasks(ZenkeNet(6), [1, 2], "test", samples=200, device="cpu")
    for mask, (width, p) in zip(masks[0], ZenkeNet.dropout, strict=True):
        assert mask.shape == (2, 200, width)
        assert mask.unique().tolist() == [0.0, pytest.approx(1 / (1 - p))]
        assert (mask == 0).float().mean() == pytest.approx(p, abs=0.03)
    assert not torch.equal(masks[0][0], masks[1][0])
    assert torch.equal(masks[40][1][1], DropoutMasks(ZenkeNet(6), [2], "test", samples=200, device="cpu")[40][1][0])


@pytest.mark.parametrize(
    ("name", "target", "trainable"), [("resnet", 468_540, 457_336), ("zenke", 1_276_508, 1_182_678)]
)
def test_networks_have_the_published_sizes(name, target, trainable):
    spec = load_experiment(EXPERIMENTS / f"split_cifar_{name}.yaml").spec("hnet_ent", "cl1", 1)
    images = np.zeros((60, 32, 32, 3), np.uint8)
    dataset = Dataset("cifar", images, np.arange(60), images, np.arange(60), 255)
    classifier = HypernetworkClassifier(
        TaskSequence(spec, [1], dataset), OutputUnits("cl1", 6, 10), spec.target, spec.settings
    )
    assert classifier.target.num_weights == target  # paper.md section 5
    assert classifier.hypernetwork.num_parameters == trainable


# ---- images -------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=4))
def test_crops_and_mirrors_are_those_of_a_loop_over_images(moves):
    images = torch.randint(1, 256, (len(moves), 3, 6, 5), dtype=torch.uint8)
    found = crop_and_flip(images, torch.tensor(moves, dtype=torch.uint8))
    for image, (mirrored, row, column), result in zip(images.numpy(), moves, found, strict=True):
        padded = np.zeros((3, 14, 13), np.uint8)
        padded[:, 4:10, 4:9] = image[:, :, ::-1] if mirrored else image
        assert np.array_equal(result.numpy(), padded[:, row : row + 6, column : column + 5])


def coloured(train=12, test=4, classes=6):
    generator = np.random.default_rng(3)
    centres = generator.integers(0, 256, (classes, 32, 32, 3))

    def part(count):
        labels = np.arange(count * classes) % classes
        images = centres[labels] + generator.integers(-60, 61, (len(labels), 32, 32, 3))
        return images.clip(0, 255).astype(np.uint8), labels.astype(np.int64)

    return Dataset("cifar10_jpeg", *part(train), *part(test), largest_value=255)


@pytest.fixture(scope="module")
def pictures():
    return coloured()


def test_test_images_are_normalised_and_training_images_are_augmented_before(make_spec, pictures):
    sequence = TaskSequence(make_spec("fine_tune", "cl1", COLOUR), [1, 2], pictures)
    assert sequence.image_shape == (3, 32, 32)
    mean, deviation = (np.array(value)[:, None, None] for value in IMAGENET)

    def normalised(image):
        return (image / 255 - mean) / deviation

    samples, _ = sequence.test_set(1)
    batch = sequence.test_batch(1, samples)
    expected = np.stack([normalised(pictures.test_images[i].transpose(2, 0, 1)) for i in samples[0]])
    assert np.allclose(batch.x[0].view(-1, 3, 32, 32), expected, atol=1e-5)

    stage = sequence.training_stage(2, seen=False, iterations=5, batch_size=4)
    alone = TaskSequence(make_spec("fine_tune", "cl1", COLOUR), [2], pictures)
    for iteration in range(5):
        batch = stage[iteration]
        for place in range(4):
            image = pictures.train_images[stage.samples[iteration, 1, place]].transpose(2, 0, 1)
            mirrored, row, column = stage.moves[iteration, 1, place].tolist()
            padded = np.pad(image[:, :, ::-1] if mirrored else image, ((0, 0), (4, 4), (4, 4)))
            crop = normalised(padded[:, row : row + 32, column : column + 32])
            assert np.allclose(batch.x[1, place].view(3, 32, 32), crop, atol=1e-5)
    # A seed sees the same images in a pack and alone.
    other = alone.training_stage(2, seen=False, iterations=5, batch_size=4)
    assert torch.equal(other[3].x[0], stage[3].x[1])
    moves = sequence.training_stage(2, seen=False, iterations=500, batch_size=4).moves
    assert set(moves[..., 0].unique().tolist()) == {0, 1} and set(moves[..., 1].unique().tolist()) == set(range(9))


def test_the_learning_rate_falls_at_the_published_epochs_of_every_task():
    adam = {"batch_size": 32, "learning_rate": 1e-3, "betas": (0.9, 0.999), "epsilon": 1e-8}
    steps = ((81, 0.1), (121, 0.01), (161, 0.001), (181, 0.0005))
    schedule = Schedule(OptimisationSpec(**adam, epochs=200, schedule=steps), [50_000, 5_000])
    assert schedule.iterations(0) == 312_600 and schedule.iterations(1) == 31_400  # paper.md section 2.13
    for task, epoch in ((0, 1563), (1, 157)):
        rates = {
            number: schedule.learning_rate(task, number * epoch) for number in (0, 80, 81, 120, 121, 161, 181, 199)
        }
        assert rates == pytest.approx(
            {0: 1e-3, 80: 1e-3, 81: 1e-4, 120: 1e-4, 121: 1e-5, 161: 1e-6, 181: 5e-7, 199: 5e-7}
        )
        assert schedule.learning_rate(task, 81 * epoch - 1) == 1e-3
    constant = Schedule(OptimisationSpec(**adam, iterations=7), [50_000, 5_000])
    assert constant.iterations(1) == 7 and constant.learning_rate(1, 6) == 1e-3


# ---- methods ------------------------------------------------------------------------------------------------------


def learn(spec, sequence, method, tasks, tmp_path, stop=lambda: False, name="checkpoint"):
    path = tmp_path / f"{name}.pt"
    return train(method, sequence, checkpoint=path, identity=["x"], checkpoint_seconds=1000, stop=stop)


@pytest.mark.parametrize("changes", [COLOUR, ZENKE], ids=["resnet", "zenke"])
@pytest.mark.parametrize(("name", "kind"), [("hnet_ent", HypernetworkEntropy), ("fine_tune", FineTuning)])
def test_a_stopped_training_of_a_convolutional_network_ends_with_the_same_numbers(
    make_spec, pictures, tmp_path, changes, name, kind
):
    spec = make_spec(name, "cl1", changes)

    def fresh():
        sequence = TaskSequence(spec, [1, 2], pictures)
        return sequence, kind(spec, sequence)

    sequence, undisturbed = fresh()
    expected = learn(spec, sequence, undisturbed, 3, tmp_path, name="calm")
    questions = iter(range(1000))
    sequence, method = fresh()
    with pytest.raises(TrainingStoppedError, match="iteration 3 of task 2"):
        learn(spec, sequence, method, 3, tmp_path, stop=lambda: next(questions) == 6 + 3)
    sequence, method = fresh()
    found = learn(spec, sequence, method, 3, tmp_path)
    assert found.accuracy == expected.accuracy
    x = torch.rand(2, 5, 3 * 32 * 32)
    assert torch.equal(method.predictor("cl1", 3)(x, 0).labels, undisturbed.predictor("cl1", 3)(x, 0).labels)


@pytest.mark.parametrize("changes", [COLOUR, ZENKE], ids=["resnet", "zenke"])
def test_a_seed_learns_the_same_in_a_pack_and_alone(make_spec, pictures, changes):
    spec = make_spec("hnet_ent", "cl1", changes)
    losses = {}
    for seeds in ([1, 2], [2]):
        sequence = TaskSequence(spec, seeds, pictures)
        method = HypernetworkEntropy(spec, sequence)
        method.begin_task(0)
        stage = sequence.training_stage(0, seen=False, iterations=4, batch_size=4)
        losses[len(seeds)] = torch.stack([method.step(stage[i], i)[-1] for i in range(4)])
    torch.testing.assert_close(losses[1], losses[2], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("statistics", "moved"), [("per_task", False), ("shared", True)])
def test_a_task_moves_its_own_running_statistics_alone_unless_they_are_shared(make_spec, pictures, statistics, moved):
    changes = COLOUR | {"methods.hnet_ent.normalisation_statistics": statistics}
    spec = make_spec("hnet_ent", "cl1", changes)
    sequence = TaskSequence(spec, [1], pictures)
    method = HypernetworkEntropy(spec, sequence)
    for task in range(2):
        method.begin_task(task)
        stage = sequence.training_stage(task, seen=False, iterations=3, batch_size=4)
        for iteration in range(3):
            method.step(stage[iteration], iteration)
        now = [part.clone() for part in method.classifier._statistics[0]]
        if task == 0:
            before = now
    assert any(not torch.equal(a, b) for a, b in zip(before, now, strict=True)) == moved
    assert len(before) == 2 * 7 and not torch.equal(before[0], torch.zeros_like(before[0]))


def test_from_scratch_means_new_shared_parameters_for_every_task(make_spec, pictures):
    changes = COLOUR | {
        "methods.hnet_ent.hypernetwork": COLOUR["methods.hnet_ent.hypernetwork"] | {"restart": True},
        "methods.hnet_ent.regulariser.beta": 0.0,
    }
    spec = make_spec("hnet_ent", "cl1", changes)
    networks = {}
    for seeds in ([1, 2], [2]):
        method = HypernetworkEntropy(spec, TaskSequence(spec, seeds, pictures))
        drawn = []
        for task in range(3):
            method.begin_task(task)
            drawn.append(method.classifier.hypernetwork.shared["output"].detach()[-1, :-1].clone())
        networks[len(seeds)] = drawn
    for first, second in zip(*networks.values(), strict=True):
        assert torch.equal(first, second)
    assert method.answers("cl1", 2, 3) and method.answers("cl1", 2, 1)
    assert not method.answers("cl1", 1, 3)  # that network is gone
    first, *others = networks[1]
    assert all(not torch.equal(first, other) for other in others)
    assert all(other.std().item() == pytest.approx(first.std().item(), rel=0.2) for other in others)  # the same law


STRENGTHS = dict.fromkeys(("cl1", "cl2", "cl3"), 1.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "digits"}, ["dataset = 'digits' does not go with target.kind", "cifar"]),
        (
            {"methods.ewc": {"scenarios": ["cl1"], "reset_optimiser": False, "strength": STRENGTHS}},
            ["methods.ewc does not go with target.kind", "hnet_ent, si, fine_tune, joint"],
        ),
        ({"optimisation.epochs": 3}, ["one key of iterations or epochs is needed"]),
        ({"target": {"kind": "zenke", "units": 5}}, ["target: the value 5 does not go with the other keys"]),
        ({"target": {"kind": "resnet"}}, ["missing key 'units'"]),
        ({"optimisation.schedule": [[3, 0.0]]}, ["optimisation.schedule.0.1 = 0.0", "more than 0"]),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(make_spec, changes, words):
    with pytest.raises(ConfigurationError) as refused:
        make_spec("hnet_ent", "cl1", COLOUR | changes)
    for word in words:
        assert word in str(refused.value)


# ---- archives -----------------------------------------------------------------------------------------------------


@pytest.fixture
def archives(tmp_path, monkeypatch):
    write_archives(tmp_path, monkeypatch)
    return tmp_path


def test_the_archives_give_six_times_ten_classes(archives):
    dataset = data.load_cifar(archives, download=False)
    assert dataset.train_images.shape == (60 * 16, 32, 32, 3) and dataset.train_images.dtype == np.uint8
    assert np.array_equal(np.bincount(dataset.train_labels), [16] * 60)
    assert np.array_equal(np.bincount(dataset.test_labels), [8] * 60)
    # Channels last, as pictures: a white digit has three equal channels, those of the first kind are reddish.
    white, red = (dataset.train_images[dataset.train_labels // 10 == group].mean((0, 1, 2)) for group in (0, 1))
    assert white[0] == white[1] == white[2] and red[0] > 2 * red[1]


@pytest.fixture
def miniature(archives, write_experiment):
    """Learn the six tasks of the archives with a small ResNet; the settings are otherwise those of the experiment."""

    def learn(changes):
        settings = yaml.safe_load((EXPERIMENTS / "split_cifar_resnet.yaml").read_text())
        adam = {"batch_size": 16, "learning_rate": 1e-3, "betas": [0.9, 0.999], "epsilon": 1e-8}
        settings |= {"target": {"kind": "resnet", "units": 1}, "optimisation": adam | {"epochs": 20}}
        del settings["sequence"]["augmentation"]  # a mirrored digit is no digit
        hnet = settings["methods"]["hnet_ent"]
        hnet["regulariser"] |= changes.get("regulariser", {})
        hnet |= {key: value for key, value in changes.items() if key != "regulariser"}
        path = archives / "miniature.yaml"
        path.write_text(yaml.safe_dump(settings))
        spec = load_experiment(path).spec("hnet_ent", "cl1", 1)
        sequence = TaskSequence(spec, [1], data.load_cifar(archives, download=False))
        progress = train(
            HypernetworkEntropy(spec, sequence), sequence, checkpoint=archives / "job.pt", identity=[spec.hash]
        )
        (accuracy,) = progress.accuracy["cl1"]
        return np.array(accuracy[1:])

    return learn


def test_a_hypernetwork_keeps_six_tasks_that_fine_tuning_forgets(miniature):
    kept = miniature({})
    assert mean_final(kept) > 70 and forgetting(kept) < 15
    forgotten = miniature({"regulariser": {"beta": 0.0}, "normalisation_statistics": "shared"})
    assert mean_during(forgotten) > 70 and forgetting(forgotten) > 50


def test_held_out_images_are_a_tenth_of_every_class(archives):
    dataset = data.load_cifar(archives, download=False)
    held = data.hold_out_of_every_class(dataset, "cifar_validation", 0.125)
    assert held.name == "cifar_validation"
    assert np.array_equal(np.bincount(held.train_labels), [14] * 60)
    assert np.array_equal(np.bincount(held.test_labels), [2] * 60)
    for images, labels in ((held.train_images, held.train_labels), (held.test_images, held.test_labels)):
        everything = {
            (row.tobytes(), label) for row, label in zip(dataset.train_images, dataset.train_labels, strict=True)
        }
        assert all((row.tobytes(), label) in everything for row, label in zip(images, labels, strict=True))


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_damaged_archive_is_named_with_the_file_and_both_checksums(archives, damage):
    path = archives / "cifar-10-batches-py" / "data_batch_3"
    if damage == "altered":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    else:
        path.unlink()
    with pytest.raises(data.DatasetError, match="data_batch_3' should have the MD5") as refused:
        data.load_cifar(archives, download=False)
    assert ("is missing" if damage == "missing" else "and has ") in str(refused.value)
    assert "data_batch_2" not in str(refused.value) and "data_dir" in str(refused.value)


def test_jpeg_pictures_are_read_in_a_fixed_mixed_order(tmp_path):
    from torchvision.io import encode_jpeg

    for split, count in (("train", 30), ("test", 10)):
        content = []
        for label in np.sort(np.arange(count) % 10):
            content.append(encode_jpeg(torch.full((3, 32, 32), 20 * label, dtype=torch.uint8)).numpy().tobytes())
        np.savez(
            tmp_path / f"cifar10_jpeg_{split}.npz",
            jpeg=np.frombuffer(b"".join(content), np.uint8),
            offsets=np.cumsum([0, *map(len, content)]),
            labels=np.sort(np.arange(count) % 10),
        )
    dataset = data.load_cifar10_jpeg(tmp_path)
    assert dataset.train_images.shape == (30, 32, 32, 3) and list(np.bincount(dataset.train_labels)) == [3] * 10
    assert np.abs(dataset.train_images.mean((1, 2, 3)) - 20 * dataset.train_labels).max() < 3
    assert not np.array_equal(dataset.train_labels, np.sort(dataset.train_labels))
    assert dataset.sha256 == data.load_cifar10_jpeg(tmp_path).sha256
    with pytest.raises(data.DatasetError, match=r"cifar10_jpeg_train\.npz' cannot be read"):
        data.load_cifar10_jpeg(tmp_path / "elsewhere")
