"""Synaptic intelligence and elastic weight consolidation, against closed forms and brute force."""

import pytest
import torch
from torch.nn import functional

from hnetcl.catalogue import METHODS
from hnetcl.tasks import TaskSequence

SCENARIOS = ["cl1", "cl2", "cl3"]


def build(make_spec, dataset, name, scenario, seeds=(1, 2), **settings):
    """A baseline with its sequence and specification on the tiny dataset."""
    settings = {"reset_optimiser": False, **settings}
    spec = make_spec(name, scenario, {"methods": {name: {"scenarios": SCENARIOS, **settings}}})
    sequence = TaskSequence(spec, seeds, dataset)
    return METHODS[name].load()(spec, sequence), sequence


def learn(method, sequence, task, iterations=20, end=True):
    """Train ``method`` on ``task``."""
    stage = sequence.training_stage(task, seen=False, iterations=iterations, batch_size=8)
    method.begin_task(task)
    for iteration in range(iterations):
        method.step(stage[iteration], iteration)
    if end:
        method.end_task(task)


def every(value):
    """The same value in every scenario."""
    return dict.fromkeys(SCENARIOS, value)


EWC = {"strength": every(100.0), "decay": every(0.9)}
SI = {"strength": every(1.0), "damping": 0.1}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_fisher_information_is_the_sum_of_squared_gradients_of_single_samples(make_spec, dataset, scenario):
    method, sequence = build(make_spec, dataset, "online_ewc", scenario, **EWC)
    learn(method, sequence, 0)
    learn(method, sequence, 1, end=False)
    found = method.fisher_information(1)
    classes, run = sequence.classes_per_task, 1
    samples, valid = sequence.training_set(1)
    numbers = samples[run][valid[run]]
    sums = {name: torch.zeros_like(value[run]) for name, value in method.weights.items()}
    for number in numbers:
        weights = [value[run].detach().clone().requires_grad_() for value in method.weights.values()]
        x = sequence.train_batch(1, number.expand(2, 1), None).x[run, 0]
        for w, b in zip(weights[:-2:2], weights[1:-2:2], strict=True):
            x = functional.relu(w @ x + b)
        logits = weights[-2] @ x + weights[-1]
        active = {"cl1": slice(classes, 2 * classes), "cl2": slice(None), "cl3": slice(0, 2 * classes)}[scenario]
        logits = logits[active]
        loss = functional.cross_entropy(logits.unsqueeze(0), logits.argmax().unsqueeze(0))
        for name, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
            sums[name] += gradient.square()
    for name, value in sums.items():
        expected = value / (len(numbers) - 1)
        torch.testing.assert_close(found[name][run], expected, rtol=1e-3, atol=1e-8 + 1e-4 * expected.max().item())


def test_the_fisher_information_of_logistic_regression_has_its_closed_form(make_spec, dataset):
    # Two classes, no hidden layer: the gradient at the predicted label k is (1 - p_k) x for k and its negative for
    # the other, so both rows of the information are the mean of (1 - p_k)^2 x^2.
    spec = make_spec(
        "online_ewc",
        "cl2",
        {
            "target.hidden": [],
            "methods": {"online_ewc": {"scenarios": SCENARIOS, "reset_optimiser": False, **EWC}},
        },
    )
    sequence = TaskSequence(spec, [3], dataset)
    method = METHODS["online_ewc"].load()(spec, sequence)
    learn(method, sequence, 0, end=False)
    samples, _ = sequence.training_set(0)
    x = sequence.train_batch(0, samples, None).x[0].double()
    weight, bias = (value[0].detach().double() for value in method.weights.values())
    p = torch.softmax(x @ weight.T + bias, dim=1).max(1).values
    closed = ((1 - p) ** 2) @ x.square() / (len(x) - 1)
    found = next(iter(method.fisher_information(0).values()))[0].double()
    torch.testing.assert_close(found, closed.expand(2, -1), rtol=1e-4, atol=1e-9)


def test_the_accumulated_information_decays_with_gamma(make_spec, dataset):
    method, sequence = build(make_spec, dataset, "online_ewc", "cl1", **EWC)
    learn(method, sequence, 0)
    first = {name: value.clone() for name, value in method.state_dict()["fisher"].items()}
    learn(method, sequence, 1, end=False)
    second = method.fisher_information(1)
    method.end_task(1)
    for name, value in method.state_dict()["fisher"].items():
        torch.testing.assert_close(value, second[name] + 0.9 * first[name])


def assert_penalty_is_derived_from(total, weights, method):
    """``total`` is the penalty at ``weights``, those of ``method`` as leaves."""
    expected = dict(zip(weights, torch.autograd.grad(total, weights.values()), strict=True))
    found = {key: torch.zeros_like(value) for key, value in weights.items()}
    method.add_penalty(found)
    assert any(value.abs().max() > 0 for value in found.values())
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("name", "settings"), [("online_ewc", EWC), ("si", SI)])
def test_the_penalty_is_the_gradient_of_its_closed_form(make_spec, dataset, name, settings):
    method, sequence = build(make_spec, dataset, name, "cl1", **settings)
    learn(method, sequence, 0)
    learn(method, sequence, 1, end=False)
    state = method.state_dict()
    weights = {key: value.detach().clone().requires_grad_() for key, value in method.weights.items()}
    total = 0
    for key, value in weights.items():
        squares = (value - state["anchor"][key]).square()
        if name == "si":
            total = total + 1.0 * (state["importance"][key] * squares).sum()
        else:
            total = total + 100.0 / 2 * (0.9 * state["fisher"][key] * squares).sum()
    assert_penalty_is_derived_from(total, weights, method)


def test_the_penalty_of_offline_ewc_has_a_term_for_every_earlier_task(make_spec, dataset):
    method, sequence = build(make_spec, dataset, "ewc", "cl1", strength=every(100.0))
    terms = []
    for task in range(2):
        learn(method, sequence, task, end=False)
        anchors = {key: value.detach().clone() for key, value in method.weights.items()}
        terms.append((method.fisher_information(task), anchors))
        method.end_task(task)
    learn(method, sequence, 2, end=False)
    weights = {key: value.detach().clone().requires_grad_() for key, value in method.weights.items()}
    total = sum(
        100.0 / 2 * (fisher[key] * (value - anchors[key]).square()).sum()
        for fisher, anchors in terms
        for key, value in weights.items()
    )
    assert_penalty_is_derived_from(total, weights, method)


def test_the_path_integral_of_synaptic_intelligence_is_the_fall_of_a_quadratic_loss(make_spec, dataset):
    # For a quadratic loss the trapezoid rule is exact and the left rule converges to it: with ever smaller steps the
    # sum of the path integral over all weights is the fall of the loss.
    method, _ = build(make_spec, dataset, "si", "cl1", seeds=(1,), **SI)
    method.begin_task(0)
    generator = torch.Generator().manual_seed(5)
    curvature = {k: torch.rand(v.shape, generator=generator) for k, v in method.weights.items()}

    def loss():
        return sum((curvature[k] * v.detach() ** 2).sum().item() / 2 for k, v in method.weights.items())

    before, method.network.optimiser.learning_rate = loss(), 1e-4
    for _ in range(400):
        method.descend({k: curvature[k] * v.detach() for k, v in method.weights.items()})
    integral = sum(value.sum().item() for value in method.state_dict()["path"].values())
    fall = before - loss()
    assert fall > 0.1 * before
    assert integral == pytest.approx(fall, rel=0.02)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("name", "settings"), [("online_ewc", EWC), ("si", SI)])
def test_without_strength_a_baseline_is_fine_tuning(make_spec, dataset, name, settings, scenario):
    method, sequence = build(make_spec, dataset, name, scenario, **(settings | {"strength": every(0.0)}))
    spec = make_spec("fine_tune", scenario)
    plain = METHODS["fine_tune"].load()(spec, sequence)
    for task in range(3):
        learn(method, sequence, task)
        learn(plain, sequence, task)
    for key, value in plain.weights.items():
        torch.testing.assert_close(method.weights[key], value)


@pytest.mark.parametrize(("name", "settings"), [("online_ewc", EWC), ("si", SI)])
def test_a_baseline_of_a_seed_does_not_depend_on_its_pack(make_spec, dataset, name, settings):
    alone, sequence = build(make_spec, dataset, name, "cl1", seeds=(7,), **settings)
    packed, pack = build(make_spec, dataset, name, "cl1", seeds=(3, 7, 9), **settings)
    for task in range(2):
        learn(alone, sequence, task)
        learn(packed, pack, task)
    for key, value in alone.weights.items():
        torch.testing.assert_close(packed.weights[key][1], value[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "settings"), [("online_ewc", EWC), ("si", SI)])
def test_a_baseline_goes_on_from_its_state_as_if_nothing_had_happened(make_spec, dataset, name, settings):
    first, sequence = build(make_spec, dataset, name, "cl3", **settings)
    learn(first, sequence, 0)
    second, _ = build(make_spec, dataset, name, "cl3", **settings)
    second.load_state_dict(first.state_dict())
    for method in (first, second):
        learn(method, sequence, 1)
    for key, value in first.weights.items():
        assert torch.equal(second.weights[key], value)
