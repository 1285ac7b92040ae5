"""Target networks against torch's own linear layers."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from hnetcl.target import Target, TargetMLP

ACTIVATIONS = {"relu": torch.relu, "elu": functional.elu, "sigmoid": torch.sigmoid}


@st.composite
def targets(draw):
    sizes = draw(st.lists(st.integers(1, 6), min_size=2, max_size=4))
    return TargetMLP(tuple(sizes), draw(st.sampled_from(sorted(ACTIVATIONS))))


def random_weights(target, runs, surplus=0):
    return torch.randn(runs, target.num_weights + surplus, dtype=torch.float64)


def plain_network(target, flat, x):
    """One run's network, its weights cut from the flat vector by hand."""
    used = 0
    for layer, (fan_in, fan_out) in enumerate(pairwise(target.sizes)):
        if layer:
            x = ACTIVATIONS[target.activation](x)
        weight = flat[used : used + fan_in * fan_out].view(fan_out, fan_in)
        used += fan_in * fan_out
        x = functional.linear(x, weight, flat[used : used + fan_out])
        used += fan_out
    return x


@settings(max_examples=30, deadline=None)
@given(targets(), st.integers(1, 3), st.integers(1, 5), st.integers(0, 3))
def test_logits_are_those_of_plain_linear_layers(target, runs, samples, surplus):
    flat = random_weights(target, runs, surplus)
    x = torch.randn(runs, samples, target.sizes[0], dtype=torch.float64)
    expected = torch.stack([plain_network(target, f, xs) for f, xs in zip(flat, x, strict=True)])
    torch.testing.assert_close(target.logits(target.unpack(flat), x), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(targets(), st.integers(0, 3), st.data())
def test_gradients_are_those_of_plain_linear_layers_and_zero_for_surplus(target, surplus, data):
    runs, first = 2, data.draw(st.integers(0, target.sizes[-1] - 1))
    outputs = slice(first, data.draw(st.integers(first + 1, target.sizes[-1])))
    flat = random_weights(target, runs, surplus).requires_grad_()
    x = torch.randn(runs, 4, target.sizes[0], dtype=torch.float64)
    (found,) = torch.autograd.grad(target.logits(target.unpack(flat), x, outputs).square().sum(), flat)
    plain = torch.stack([plain_network(target, f, xs)[:, outputs] for f, xs in zip(flat, x, strict=True)])
    (expected,) = torch.autograd.grad(plain.square().sum(), flat)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    assert not found[:, target.num_weights :].any()
    for derive in (target.derive, partial(Target.derive, target)):  # by hand, and by autograd
        value, found = derive(flat.detach(), x, lambda y: (y.square().sum((1, 2)), 2 * y), outputs)
        torch.testing.assert_close(value, plain.detach().square().sum((1, 2)), rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
        assert not found[:, target.num_weights :].any()


@settings(max_examples=30, deadline=None)
@given(targets(), st.data())
def test_a_slice_of_outputs_is_that_slice_of_all_logits(target, data):
    first = data.draw(st.integers(0, target.sizes[-1] - 1))
    outputs = slice(first, data.draw(st.integers(first + 1, target.sizes[-1])))
    weights = target.unpack(random_weights(target, 2))
    x = torch.randn(2, 3, target.sizes[0], dtype=torch.float64)
    torch.testing.assert_close(
        target.logits(weights, x, outputs), target.logits(weights, x)[:, :, outputs], rtol=1e-12, atol=1e-12
    )


@settings(max_examples=30, deadline=None)
@given(targets(), st.integers(1, 3), st.integers(0, 3))
def test_unpacked_tensors_laid_end_to_end_are_the_flat_vector(target, runs, surplus):
    flat = random_weights(target, runs, surplus)
    parts = target.unpack(flat)
    assert [tuple(part.shape) for part in parts] == [(runs, *shape) for shape in target.shapes]
    assert torch.equal(torch.cat([part.flatten(1) for part in parts], 1), flat[:, : target.num_weights])


@settings(max_examples=40, deadline=None)
@given(targets(), st.data())
def test_output_ranges_hold_every_hidden_weight_and_the_chosen_units_and_nothing_else(target, data):
    first = data.draw(st.integers(0, target.sizes[-1] - 1))
    outputs = slice(first, data.draw(st.integers(first + 1, target.sizes[-1])))
    *hidden, weight, bias = target.unpack(torch.arange(target.num_weights).unsqueeze(0))
    expected = torch.cat([t.flatten() for t in [*hidden, weight[:, outputs], bias[:, outputs]]]).tolist()
    ranges = target.output_ranges(outputs)
    found = [position for a, b in ranges for position in range(a, b)]
    assert found == sorted(expected)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    "sizes, count",
    [
        ((784, 400, 400, 10), 478_410),  # paper.md section 5: split CL1
        ((784, 400, 400, 2), 475_202),  # split CL2
        ((1024, 1000, 1000, 100), 2_126_100),  # permuted-10 CL1
        ((1024, 1000, 1000, 10), 2_036_010),  # permuted-10 CL2
    ],
)
def test_the_papers_target_networks_have_the_published_size(sizes, count):
    assert TargetMLP(sizes).num_weights == count
