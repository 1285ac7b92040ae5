"""HNET+R, HNET+TIR and DGR: their losses sample by sample, their output units, their answers, their packs."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

import measure_confidence
import sample_replay
from conftest import PERMUTED, tensors_of
from hnetcl.catalogue import METHODS
from hnetcl.evaluation import evaluate
from hnetcl.streams import NormalNoise
from hnetcl.tasks import TaskSequence
from test_replay import ordinary

ALL = "cl1-cl2-cl3"
SCENARIOS = ["cl1", "cl2", "cl3"]
REPLAYING = ["hnet_r", "dgr", "dgr_distill"]
T = 2.0  # temperature of distillation


@pytest.fixture
def build(make_spec, dataset):
    """Return a method, with the replay model named after it if there is one, and its sequence for a pack of seeds."""

    def make(name, changes=None, seeds=(1, 2), training=ALL):
        name, _, model = name.partition(" ")
        changes = {f"methods.{name}.replay.model": model} | (changes or {}) if model else changes or {}
        spec = make_spec(name, training, {"optimisation.epsilon": 1.0e-3} | changes)
        sequence = TaskSequence(spec, list(seeds), dataset)
        return METHODS[name].load()(spec, sequence), sequence

    return make


def learn(method, sequence, tasks, iterations=10):
    for task in tasks:
        method.begin_task(task)
        stage = sequence.training_stage(task, seen=False, iterations=iterations, batch_size=8)
        for iteration in range(iterations):
            method.step(stage[iteration], iteration)
        method.end_task(task)


def restrict(build, name, scenario, **changes):
    """A method that trains in one scenario only, so that the loss it returns is that scenario's."""
    return build(name, {f"methods.{name}.scenarios": [scenario], **changes}, training=scenario)


def softened_loss(logits, targets):
    """The distillation loss of one sample, targets being logits too."""
    p, log_q = (targets / T).softmax(0), (logits / T).log_softmax(0)
    return -(T**2) * sum(p[k] * log_q[k] for k in range(len(p)))


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("name", "mean_over_classes"), [*((name, False) for name in REPLAYING), ("dgr_distill", True)])
def test_the_loss_is_the_published_one_sample_by_sample(build, name, mean_over_classes, scenario):
    changes = {f"methods.{name}.mean_over_classes": True} if mean_over_classes else {}
    method, sequence = restrict(build, name, scenario, **changes)
    task, run, classes = 2, 1, sequence.classes_per_task
    learn(method, sequence, [0, 1])
    before = ordinary([value[run] for value in method.classifiers[scenario].weights.values()])
    method.begin_task(task)
    stage = sequence.training_stage(task, seen=False, iterations=6, batch_size=8)
    for iteration in range(5):
        method.step(stage[iteration], iteration)
    network = ordinary([value[run] for value in method.classifiers[scenario].weights.values()])
    batch, replayed = stage[5], method.generator.replay(5)
    with torch.no_grad():
        real = []
        for x, label in zip(batch.x[run], batch.labels[run], strict=True):
            logits = network(x)
            active = {
                "cl1": logits[task * classes : (task + 1) * classes],
                "cl2": logits,
                "cl3": logits[: (task + 1) * classes],
            }
            target = label + task * classes if scenario == "cl3" else label
            real.append(-active[scenario].log_softmax(0)[target])
        old = []
        for number, x in enumerate(replayed.x[run]):
            logits, targets = network(x), before(x)
            heads = [slice(s * classes, (s + 1) * classes) for s in range(task + 1)]
            if name == "hnet_r":
                head = heads[replayed.tasks[run, number]]
                if scenario == "cl1":
                    old.append(softened_loss(logits[head], targets[head]))
                elif scenario == "cl2":
                    old.append(softened_loss(logits, targets))
                else:
                    padded = torch.cat([targets[: task * classes], torch.zeros(classes)])
                    old.append(softened_loss(logits[: (task + 1) * classes], padded))
                continue
            pairs = {
                "cl1": [(logits[head], targets[head]) for head in heads[:-1]],
                "cl2": [(logits, targets)],
                "cl3": [(logits[: (task + 1) * classes], targets[: task * classes])],
            }[scenario]
            for own, teacher in pairs:
                if name == "dgr":
                    old.append(-own.log_softmax(0)[teacher.argmax()])
                else:
                    p, log_q = (teacher / T).softmax(0), (own / T).log_softmax(0)
                    loss = -(T**2) * (p * log_q[: len(p)]).sum()
                    old.append(loss / len(own) if mean_over_classes else loss)
        share = 0.5 if name == "hnet_r" else 1 - 1 / (task + 1)
        expected = (1 - share) * sum(real) / len(real) + share * sum(old) / len(old)
    assert len(replayed.x[run]) == 8
    torch.testing.assert_close(method.step(batch, 5)[run], expected, rtol=1e-4, atol=1e-5)


ONE_CLASS = {
    "sequence": {"kind": "split", "tasks": 6, "classes_per_task": 1, "assignment": "fixed"},
    **{f"methods.{name}": None for name in ("hnet_ent", "hnet_tir")},
}


def test_a_single_class_is_replayed_with_its_label_since_nothing_was_learned_from_it(build):
    method, sequence = restrict(build, "hnet_r", "cl3", **ONE_CLASS)
    learn(method, sequence, [0])
    for task, known in ((1, True), (2, False)):
        method.begin_task(task)
        before = ordinary([value[1] for value in method.classifiers["cl3"].weights.values()])
        batch = sequence.training_stage(task, seen=False, iterations=1, batch_size=8)[0]
        replayed = method.generator.replay(0)
        with torch.no_grad():
            real, old = (before(x)[:, : task + 1] for x in (batch.x[1], replayed.x[1]))
            if known:
                loss = functional.cross_entropy(old, torch.zeros(len(old), dtype=torch.int64))
            else:
                targets = torch.cat([before(replayed.x[1])[:, :task], torch.zeros(len(old), 1)], dim=1)
                loss = torch.stack([softened_loss(*pair) for pair in zip(old, targets, strict=True)]).mean()
            expected = 0.5 * functional.cross_entropy(real, torch.full((8,), task)) + 0.5 * loss
        torch.testing.assert_close(method.step(batch, 0)[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", REPLAYING)
def test_the_first_task_is_learned_from_its_own_data_alone(build, name):
    method, sequence = restrict(build, name, "cl1")
    method.begin_task(0)
    assert method.generator.replay(0) is None
    batch = sequence.training_stage(0, seen=False, iterations=1, batch_size=8)[0]
    network = ordinary([value[0] for value in method.classifiers["cl1"].weights.values()])
    expected = functional.cross_entropy(network(batch.x[0])[:, :2], batch.labels[0])
    torch.testing.assert_close(method.step(batch, 0)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*REPLAYING, "hnet_tir", "hnet_r gan", "hnet_tir gan"])
def test_a_single_task_needs_no_replay(build, name):
    method, sequence = build(name, {"sequence.tasks": 1})
    learn(method, sequence, [0])
    other, _ = build(name, {"sequence.tasks": 1})
    other.load_state_dict(method.state_dict())
    for scenario in SCENARIOS:
        assert evaluate(method, sequence, scenario, 1) == evaluate(other, sequence, scenario, 1)


@pytest.mark.parametrize("name", REPLAYING)
def test_each_scenario_trains_the_output_units_that_it_should(build, name):
    method, sequence = build(name)
    learn(method, sequence, [0])
    moved = {}
    method.begin_task(1)
    before = {scenario: network.copy_weights()[-1] for scenario, network in method.classifiers.items()}
    stage = sequence.training_stage(1, seen=False, iterations=3, batch_size=8)
    for iteration in range(3):
        method.step(stage[iteration], iteration)
    for scenario, network in method.classifiers.items():
        changed = (list(network.weights.values())[-1].detach() - before[scenario]).abs()[0] > 0
        moved[scenario] = changed.tolist()
    assert moved["cl1"] == [True] * 4 + [False] * 2  # the new head, and the old one by replay
    assert moved["cl2"] == [True] * 2
    assert moved["cl3"] == [True] * 4 + [False] * 2


def test_scenarios_trained_side_by_side_do_not_touch_each_other(build):
    together, sequence = build("hnet_r")
    learn(together, sequence, [0, 1])
    for scenario in SCENARIOS:
        alone, own_sequence = restrict(build, "hnet_r", scenario)
        learn(alone, own_sequence, [0, 1])
        for name, value in alone.classifiers[scenario].weights.items():
            assert torch.equal(together.classifiers[scenario].weights[name], value)


@pytest.mark.parametrize("name", [*REPLAYING, "hnet_tir", "hnet_r gan", "hnet_tir gan"])
@pytest.mark.parametrize("sequence_kind", ["split", "permuted"])
def test_a_seed_in_a_pack_ends_as_it_does_alone(build, name, sequence_kind):
    changes = {"sequence": PERMUTED} if sequence_kind == "permuted" else {}
    pack, sequence = build(name, changes, seeds=(3, 5, 8))
    learn(pack, sequence, [0, 1, 2], iterations=6)
    alone, own_sequence = build(name, changes, seeds=(5,))
    learn(alone, own_sequence, [0, 1, 2], iterations=6)
    expected, found = tensors_of(alone.state_dict()), tensors_of(pack.state_dict())
    compared = 0
    for path, value in expected.items():
        if found[path].dim() == value.dim() and value.dim() and len(value) == 1 and len(found[path]) == 3:
            torch.testing.assert_close(found[path][1], value[0], rtol=1e-2, atol=1e-4)
            compared += 1
    assert compared > 10


# ---- HNET+TIR -----------------------------------------------------------------------------------------------------


def test_the_classifiers_of_tir_are_those_of_ent(build):
    tir, sequence = build("hnet_tir")
    learn(tir, sequence, [0, 1])
    for training, layout in (("cl1-cl3", "cl1"), ("cl2", "cl2")):
        ent, own_sequence = build("hnet_ent", training=training)
        learn(ent, own_sequence, [0, 1])
        for path, value in tensors_of(ent.classifier.state_dict()).items():
            assert torch.equal(tensors_of(tir.classifiers[layout].state_dict())[path], value), path


def test_the_inference_network_learns_task_numbers_from_real_and_replayed_images(build):
    method, sequence = build("hnet_tir")
    learn(method, sequence, [0])
    start = method.inference.copy_weights()
    learn(method, sequence, [0])
    assert all(
        torch.equal(a, b) for a, b in zip(start, method.inference.copy_weights(), strict=True)
    )  # nothing to tell
    learn(method, sequence, [1])
    method.begin_task(2)
    batch = sequence.training_stage(2, seen=False, iterations=1, batch_size=8)[0]
    run, replayed = 1, method.generator.replay(0)
    network = ordinary([value[run] for value in method.inference.weights.values()])
    real = functional.cross_entropy(network(batch.x[run]), torch.full((8,), 2))
    old = functional.cross_entropy(network(replayed.x[run]), replayed.tasks[run])
    gradients = torch.autograd.grad(0.5 * real + 0.5 * old, list(network.parameters()))
    before = method.inference.copy_weights()
    method.step(batch, 0)
    # Adam's first step is -lr g / (|g| + epsilon), its moments having been forgotten.
    for then, now, g in zip(before, method.inference.weights.values(), gradients, strict=True):
        torch.testing.assert_close((now - then)[run], -0.01 * g / (g.abs() + 1e-3), rtol=1e-2, atol=1e-4)


def test_outputs_of_tasks_that_are_not_learned_are_not_inferred(build):
    method, sequence = build("hnet_tir")
    learn(method, sequence, [0, 1])
    with torch.no_grad():
        list(method.inference.weights.values())[-1][:, 2] += 1000
    x = sequence.test_batch(0, sequence.test_set(0)[0]).x
    for scenario in ("cl2", "cl3"):
        assert (method.predictor(scenario, 2)(x, 0).tasks < 2).all()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_inferred_tasks_network_answers_sample_by_sample(build, scenario):
    method, sequence = build("hnet_tir")
    learn(method, sequence, [0, 1, 2], iterations=30)
    accuracy, inference = evaluate(method, sequence, scenario, 3)
    classifier = method.classifiers["cl2" if scenario == "cl2" else "cl1"]
    run, classes = 1, sequence.classes_per_task
    infer = ordinary([value[run] for value in method.inference.weights.values()])
    networks = []
    for task in range(3):
        hypernetwork = classifier.hypernetwork
        flat = hypernetwork.weights(hypernetwork.features(hypernetwork.embeddings([task])))[run, 0]
        tensors = []
        for shape in classifier.target.shapes:
            tensors.append(flat[: math.prod(shape)].view(shape))
            flat = flat[math.prod(shape) :]
        networks.append(ordinary(tensors))
    for task in range(3):
        samples, valid = sequence.test_set(task)
        batch = sequence.test_batch(task, samples)
        right = found = 0
        for x, label in zip(batch.x[run][valid[run]], batch.labels[run][valid[run]], strict=True):
            chosen = task if scenario == "cl1" else infer(x).argmax().item()
            logits = networks[chosen](x)
            if scenario != "cl2":
                logits = logits[chosen * classes : (chosen + 1) * classes]
            found += chosen == task
            right += logits.argmax() == label and (scenario == "cl2" or chosen == task)
        total = int(valid[run].sum())
        assert accuracy[run][task] == pytest.approx(100 * float(right) / total, abs=1e-4)
        if scenario == "cl1":
            assert inference[run][task] is None
        else:
            assert inference[run][task] == pytest.approx(100 * found / total, abs=1e-4)


# ---- sizes --------------------------------------------------------------------------------------------------------


def test_parameters_are_counted_by_hand(build):
    # 16 inputs; classifier 16-7-6-6; hypernetworks: inputs, hidden layers and chunks by their sizes.
    target = 16 * 7 + 7 + 7 * 6 + 6 + 6 * 6 + 6
    encoder = 16 * 6 + 6 + 6 * 8 + 8
    decoder = (9 * 8 + 8) + (8 * 7 + 7) + (7 * 16 + 16)
    chunks = math.ceil(decoder / 70)
    replay = encoder + (7 * 5 + 5) + (5 * 70 + 70) + 4 * chunks + 3 * 2
    classifier = (9 * 6 + 6) + (6 * 5 + 5) + (5 * 60 + 60) + 4 * math.ceil(target / 60) + 5 * 3
    inference = 16 * 7 + 7 + 7 * 6 + 6 + 6 * 3 + 3
    generator = (16 * 8 + 8 + 8 * 7 + 7 + 7 * 8 + 4) + (4 * 7 + 7 + 7 * 8 + 8 + 8 * 16 + 16)
    for name, trainable in (
        ("hnet_r", target + replay),
        ("hnet_tir", classifier + inference + replay),
        ("dgr", target + generator),
    ):
        method, _ = build(name)
        for scenario in ("cl1", "cl3"):
            assert method.parameter_counts(scenario) == {"trainable": trainable, "target": target}
        # In CL2 two outputs serve all tasks, not six.
        fewer = (6 + 1) * 4
        assert method.parameter_counts("cl2")["target"] == target - fewer
        of_classifier = 4 * (math.ceil(target / 60) - math.ceil((target - fewer) / 60)) if name == "hnet_tir" else fewer
        assert method.parameter_counts("cl2")["trainable"] == trainable - of_classifier


# ---- what is measured beside the table ----------------------------------------------------------------------------


def test_the_samples_shown_are_those_of_the_replay_model_that_hnet_r_trains(build, make_spec, dataset):
    changes = {"optimisation.epsilon": 1.0e-3, "optimisation.iterations": 12}
    spec = make_spec("hnet_r", ALL, changes)
    images = sample_replay.draw_samples(spec, TaskSequence(spec, [1], dataset))
    assert images.shape == (2, 2, sample_replay.IMAGES, 4, 4) and images.dtype == np.uint8
    method, sequence = build("hnet_r", changes, seeds=(1,))
    noise = NormalNoise([1], "samples", shape=(2, sample_replay.IMAGES, 4), device="cpu")[0]

    def drawn(tasks):
        x = method.generator.draw(method.generator.decoders(range(tasks)), noise[:, :tasks])[0]
        return (255 * x).round().to(torch.uint8).view(tasks, -1, 4, 4).numpy()

    learn(method, sequence, [0], iterations=12)
    np.testing.assert_array_equal(images[0, 0], drawn(1)[0])
    learn(method, sequence, [1], iterations=12)
    np.testing.assert_array_equal(images[0, 1], drawn(2)[1])
    learn(method, sequence, [2], iterations=12)
    np.testing.assert_array_equal(images[1], drawn(2))


def test_confidence_is_measured_as_the_method_infers(build):
    method, sequence = build("hnet_ent", seeds=(1,), training="cl1-cl3")
    learn(method, sequence, [0, 1, 2], iterations=30)
    rows = pd.DataFrame(measure_confidence.measure(method, sequence, seed=1))
    assert len(rows) == 9
    np.testing.assert_allclose(rows.groupby("task")[["chosen", "chosen_calibrated"]].sum(), 100)
    _, inference = evaluate(method, sequence, "cl3", 3)
    np.testing.assert_allclose(rows.loc[rows["task"] == rows["network"], "chosen"], inference[0])
    # Two classes: the least entropy is the largest margin, at any temperature that all networks share.
    answers = method.classifier.answer_of_every_task(3)
    batch = sequence.test_batch(2, sequence.test_set(2)[0])
    margin = answers(batch.x)[0].diff(dim=2).abs().squeeze(2)
    scale = []
    for task in range(3):
        x = sequence.train_batch(task, sequence.training_set(task)[0], None).x
        scale.append(answers(x)[0, task].diff(dim=1).abs().median())
    of_task = rows[rows["task"] == 3].set_index("network")
    for network in range(3):
        assert of_task.loc[network + 1, "median_margin"] == pytest.approx(margin[network].median().item(), rel=1e-4)
        for column, values in (("chosen", margin), ("chosen_calibrated", margin / torch.stack(scale).unsqueeze(1))):
            share = 100 * (values.argmax(0) == network).double().mean().item()
            assert of_task.loc[network + 1, column] == pytest.approx(share, abs=1e-3), column


@pytest.mark.parametrize("model", ["vae", "gan"])
def test_a_replay_model_learns_by_an_adam_of_its_own_where_it_has_settings_of_one(build, model):
    def first_task(section):
        adam = {f"{section}.{key}": value for key, value in (("learning_rate", 0.03), ("betas", [0.5, 0.8])) if section}
        method, sequence = build("hnet_r", {"methods.hnet_r.replay.model": model} | adam)
        learn(method, sequence, [0])
        state = tensors_of(method.state_dict())
        return [{name: state[name] for name in state if part in name} for part in ("generator", "classifiers")]

    def same(first, second):
        assert first and first.keys() == second.keys()
        return all(torch.equal(value, second[name]) for name, value in first.items())

    (generator, classifier), own, everywhere = map(first_task, ("", "methods.hnet_r.replay", "optimisation"))
    assert same(own[0], everywhere[0]) and not same(own[0], generator)
    assert same(own[1], classifier) and not same(everywhere[1], classifier)


def test_perfect_replay_shows_each_earlier_tasks_own_training_images_equally_often(build):
    method, sequence = build("hnet_r", changes={"methods.hnet_r.perfect_replay": True})
    images = {
        (run, task): {tuple(x) for x in sequence.train_batch(task, *own_samples(sequence, task, run)).x[0].tolist()}
        for run in range(2)
        for task in range(3)
    }
    for task in range(3):
        method.begin_task(task)
        replayed = method.generator.replay(3)
        if task == 0:
            assert replayed is None
            continue
        assert not torch.equal(replayed.x, method.generator.replay(4).x)
        for run in range(2):
            for earlier in range(task):
                shown = replayed.x[run][replayed.tasks[run] == earlier]
                assert len(shown) == math.ceil(8 / task)
                assert {tuple(x) for x in shown.tolist()} <= images[run, earlier]
    counts = method.parameter_counts("cl1")
    assert counts["trainable"] == counts["target"]


def own_samples(sequence, task, run):
    numbers, valid = sequence.training_set(task)
    own = numbers[run][valid[run]]
    return own.expand(len(sequence.seeds), -1), None


def test_one_class_a_task_is_learned_class_by_class(build):
    changes = ONE_CLASS | {"methods.hnet_r.perfect_replay": True, "optimisation.iterations": 200}
    method, sequence = restrict(build, "hnet_r", "cl3", **changes)
    learn(method, sequence, range(6), iterations=200)
    accuracy, _ = evaluate(method, sequence, "cl3", 6)
    assert all(sum(run) / 6 > 95 for run in accuracy), accuracy
