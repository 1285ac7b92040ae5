"""Batched layers against the plain products they stand for."""

import pytest
import torch

from hnetcl.layers import long_product


@pytest.mark.parametrize("length", [1, 63, 64, 640, 1003, 4099])
@pytest.mark.parametrize("rows", [(3, 2), (1, 10), (10, 1)])
@pytest.mark.parametrize("runs", [1, 2])
def test_a_long_product_is_the_product(length, rows, runs):
    torch.manual_seed(0)
    # Columns of a wider array, as the segments of a chunk are.
    a, b = (torch.randn(runs, count, length + 5, dtype=torch.float64)[:, :, 2 : length + 2] for count in rows)
    torch.testing.assert_close(long_product(a, b), torch.einsum("rml,rkl->rmk", a, b), rtol=1e-11, atol=1e-11)
