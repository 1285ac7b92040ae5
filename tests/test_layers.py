"""Batched layers against the plain products they stand for."""

import pytest
import torch

from hnetcl.layers import _product_in_parts, cross_entropy, cross_entropy_and_gradient, long_product


@pytest.mark.parametrize("length", [1, 63, 64, 640, 1003, 4099])
@pytest.mark.parametrize("rows", [(3, 2), (1, 10), (10, 1)])
@pytest.mark.parametrize("runs", [1, 2])
def test_a_long_product_is_the_product(length, rows, runs):
    torch.manual_seed(0)
    # Columns of a wider array, as the segments of a chunk are.
    a, b = (torch.randn(runs, count, length + 5, dtype=torch.float64)[:, :, 2 : length + 2] for count in rows)
    torch.testing.assert_close(long_product(a, b), torch.einsum("rml,rkl->rmk", a, b), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("length, part", [(64, 64), (64, 32), (100, 32), (1003, 7), (5, 5)])
def test_a_product_in_parts_counts_every_column_once(length, part):
    torch.manual_seed(0)
    a, b = torch.randn(3, length, dtype=torch.float64), torch.randn(2, length, dtype=torch.float64)
    torch.testing.assert_close(_product_in_parts(a, b, part), a @ b.T, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("runs, samples, classes", [(1, 1, 2), (3, 7, 10), (2, 5, 1)])
def test_the_gradient_of_cross_entropy_is_softmax_less_the_label_over_the_samples(runs, samples, classes):
    torch.manual_seed(0)
    logits = 10 * torch.randn(runs, samples, classes, dtype=torch.float64)
    labels = torch.randint(classes, (runs, samples))
    value, gradient = cross_entropy_and_gradient(logits, labels)
    one_hot = torch.nn.functional.one_hot(labels, classes)
    torch.testing.assert_close(value, cross_entropy(logits, labels), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(gradient, (logits.softmax(2) - one_hot) / samples, rtol=1e-12, atol=1e-14)
