"""Adam and its look-ahead against a separate, unfused ``torch.optim.Adam``."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hnetcl import optimiser
from hnetcl.optimiser import Adam, Place

SCRIPTS = Path(optimiser.__file__).parents[1]
SHAPES = {"chunks": (2, 3, 4), "layer": (2, 5, 6), "embedding": (2, 3)}
SETTINGS = [(1e-3, (0.9, 0.999), 1e-8), (1e-4, (0.5, 0.99), 1e-6), (0.1, (0.0, 0.9), 1e-8)]


def make_pair(dtype, learning_rate=1e-3, betas=(0.9, 0.999), epsilon=1e-8):
    """Return our Adam and torch's, on equal parameters."""
    # As small as the steps, so that a comparison of parameters is one of steps.
    parameters = {name: learning_rate * torch.randn(shape, dtype=dtype) for name, shape in SHAPES.items()}
    ours = Adam({n: p.clone().requires_grad_() for n, p in parameters.items()}, learning_rate, betas, epsilon)
    theirs = {n: p.clone().requires_grad_() for n, p in parameters.items()}
    adam = torch.optim.Adam(theirs.values(), lr=learning_rate, betas=betas, eps=epsilon, foreach=False, fused=False)
    return ours, theirs, adam


def random_gradients(dtype):
    """Gradients of very different sizes, some exactly zero."""
    return {
        name: torch.randn(shape, dtype=dtype)
        * 10 ** torch.empty(shape, dtype=dtype).uniform_(-8, 3)
        * (torch.rand(shape) > 0.1)
        for name, shape in SHAPES.items()
    }


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    "dtype, tolerance, at_hand",
    [(torch.float64, 1e-12, True), (torch.float32, 3e-6, True), (torch.float32, 5e-6, False)],
)
def test_look_ahead_is_the_step_torch_then_takes(settings, dtype, tolerance, at_hand, monkeypatch):
    monkeypatch.setattr(optimiser, "_is_at_hand", lambda number: at_hand)  # False: as on a GPU
    torch.manual_seed(0)
    ours, theirs, adam = make_pair(dtype, *settings)
    for _ in range(60):
        gradients = random_gradients(dtype)
        # What is previewed (the gradient of the task alone) need not be what is stepped on.
        previewed = random_gradients(dtype)
        found = ours.look_ahead(previewed)
        saved = copy.deepcopy(adam.state_dict()), {n: p.detach().clone() for n, p in theirs.items()}
        for name, parameter in theirs.items():
            parameter.grad = previewed[name].clone()
        adam.step()
        for name, before in saved[1].items():
            step = theirs[name].detach() - before
            torch.testing.assert_close(found[name] - before, step, rtol=tolerance, atol=tolerance * settings[0])
            with torch.no_grad():
                theirs[name].copy_(before)
            theirs[name].grad = gradients[name].clone()
        adam.load_state_dict(saved[0])
        adam.step()
        ours.step(gradients)
        for name, parameter in theirs.items():
            torch.testing.assert_close(ours.parameters[name], parameter, rtol=tolerance, atol=tolerance * settings[0])


def test_look_ahead_changes_neither_parameters_nor_gradients_nor_later_steps():
    torch.manual_seed(0)
    ours, _, _ = make_pair(torch.float64)
    twin = Adam({n: p.detach().clone().requires_grad_() for n, p in ours.parameters.items()}, 1e-3, (0.9, 0.999), 1e-8)
    for _ in range(10):
        previewed = random_gradients(torch.float64)
        kept = copy.deepcopy(previewed)
        parameters = {n: p.detach().clone() for n, p in ours.parameters.items()}
        ours.look_ahead(previewed)
        for name, gradient in previewed.items():
            assert torch.equal(gradient, kept[name])
            assert torch.equal(ours.parameters[name], parameters[name])
        gradients = random_gradients(torch.float64)
        ours.step(gradients)
        twin.step(gradients)
    for name, parameter in ours.parameters.items():
        assert torch.equal(parameter, twin.parameters[name])


def test_look_ahead_is_bit_for_bit_the_step_that_follows():
    torch.manual_seed(0)
    ours, _, _ = make_pair(torch.float32)
    for _ in range(5):
        gradients = random_gradients(torch.float32)
        found = ours.look_ahead(gradients)
        ours.step(gradients)
        for name, parameter in ours.parameters.items():
            assert torch.equal(found[name], parameter)


@pytest.mark.parametrize("large", [1, optimiser.LARGE])
@pytest.mark.parametrize("shape", [(2, 10, 6), (4, 5, 6)], ids=["strided", "in one piece"])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_look_ahead_writes_itself_and_the_change_to_the_place_it_is_given(
    large, shape, settings, dtype, tolerance, monkeypatch
):
    monkeypatch.setattr(optimiser, "LARGE", large)
    torch.manual_seed(0)
    ours, _, _ = make_pair(dtype, *settings)
    parameter, before = ours.parameters["layer"], torch.randn(2, 5, 6, dtype=dtype)
    for _ in range(30):
        gradients = random_gradients(dtype)
        wide, far = torch.zeros(2, *shape, dtype=dtype)
        place = Place(wide[:2, :5], before, far[:2, :5])
        returned, expected = ours.look_ahead(gradients, {"layer": place}), ours.look_ahead(gradients)
        assert returned["layer"].data_ptr() == place.ahead.data_ptr()
        step, expected_step = (ahead.pop("layer") - parameter.detach() for ahead in (returned, expected))
        torch.testing.assert_close(step, expected_step, rtol=tolerance, atol=tolerance * settings[0])
        assert torch.equal(step, expected_step) or large == 1  # compiled elsewhere than torch's
        assert torch.equal(place.change, place.ahead - before)
        for name, value in expected.items():
            assert torch.equal(returned[name], value)
        for whole, part in ((wide, place.ahead), (far, place.change)):
            assert torch.equal(whole.count_nonzero(), part.count_nonzero())
        ours.step(gradients)


def test_a_large_look_ahead_divides_by_zero_as_torch_does(monkeypatch):
    ours, _, _ = make_pair(torch.float32, epsilon=0.0)
    gradients = {"layer": torch.randn(2, 5, 6)}
    gradients["layer"][0] = 0
    expected = ours.look_ahead(gradients)["layer"]
    monkeypatch.setattr(optimiser, "LARGE", 1)
    found = ours.look_ahead(gradients, {"layer": Place(*torch.zeros(3, 2, 5, 6))})["layer"]
    assert expected[0].isnan().all()
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_a_large_look_ahead_is_the_same_on_one_thread_and_on_several():
    def digest(threads):
        code = """
import hashlib, torch
from hnetcl.optimiser import LARGE, Adam, Place
torch.manual_seed(0)
value, before, ahead, change = torch.randn(4, 1, LARGE + 3)
adam = Adam({"w": value.clone().requires_grad_()}, 1e-3, (0.9, 0.999), 1e-8)
for _ in range(3):
    gradient = {"w": torch.randn(1, LARGE + 3)}
    adam.look_ahead(gradient, {"w": Place(ahead, before, change)})
    adam.step(gradient)
print(hashlib.sha256(torch.stack([ahead, change]).numpy().tobytes()).hexdigest())
"""
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(SCRIPTS)}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True
        ).stdout

    assert digest(1) == digest(2) != ""


@pytest.mark.parametrize(
    "other",
    [
        lambda g: g.transpose(1, 2).contiguous().transpose(1, 2),
        lambda g: torch.stack([g, torch.zeros_like(g)], dim=3)[..., 0],
        lambda g: g.flip(0).clone().flip(0),
    ],
    ids=["transposed", "strided", "flipped"],
)
def test_the_memory_layout_of_a_gradient_does_not_matter(other):
    torch.manual_seed(0)
    value = torch.randn(2, 5, 6)
    plain, laid_out = (Adam({"w": value.clone().requires_grad_()}, 1e-2, (0.9, 0.999), 1e-8) for _ in range(2))
    for _ in range(5):
        gradient = torch.randn(2, 5, 6)
        expected, found = plain.look_ahead({"w": gradient}), laid_out.look_ahead({"w": other(gradient)})
        assert torch.equal(expected["w"], found["w"])
        plain.step({"w": gradient})
        laid_out.step({"w": other(gradient)})
        assert torch.equal(plain.parameters["w"], laid_out.parameters["w"])


def test_an_expanded_gradient_gives_the_step_of_its_copy():
    value = torch.randn(3, 4)
    plain, expanded = (Adam({"w": value.clone().requires_grad_()}, 1e-2, (0.9, 0.999), 1e-8) for _ in range(2))
    for _ in range(5):
        gradient = torch.randn(1, 4).expand(3, 4)
        expected, found = plain.look_ahead({"w": gradient.clone()}), expanded.look_ahead({"w": gradient})
        assert torch.equal(expected["w"], found["w"])
        plain.step({"w": gradient.clone()})
        expanded.step({"w": gradient})
        assert torch.equal(plain.parameters["w"], expanded.parameters["w"])


def test_a_restored_state_goes_on_as_the_original():
    torch.manual_seed(0)
    original, _, _ = make_pair(torch.float32)
    for _ in range(7):
        original.step(random_gradients(torch.float32))
    restored = Adam(
        {n: p.detach().clone().requires_grad_() for n, p in original.parameters.items()}, 1e-3, (0.9, 0.999), 1e-8
    )
    restored.load_state_dict(copy.deepcopy(original.state_dict()))
    for _ in range(7):
        gradients = random_gradients(torch.float32)
        expected, found = original.look_ahead(gradients), restored.look_ahead(gradients)
        for name in SHAPES:
            assert torch.equal(expected[name], found[name])
        original.step(gradients)
        restored.step(gradients)
    for name, parameter in original.parameters.items():
        assert torch.equal(parameter, restored.parameters[name])
