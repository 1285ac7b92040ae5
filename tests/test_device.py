"""The precision of matrix products on a CPU, and what a record says of it."""

import pytest
import torch

from hnetcl import device

# Relative error of a product: of float32, and of operands rounded to bfloat16's 8 significant bits.
FLOAT32, BFLOAT16 = 1e-6, 1e-2


@pytest.fixture(autouse=True)
def float32_afterwards():
    """Have the tests that follow compute in float32."""
    yield
    device.choose_device("cpu")


def error_of_products() -> float:
    generator = torch.Generator().manual_seed(7)
    a, b = (torch.randn(shape, generator=generator) for shape in [(3, 256, 500), (3, 500, 400)])
    exact = a.double() @ b.double()
    return max(float((x - y).norm() / y.norm()) for x, y in [(a @ b, exact), (a[0] @ b[0], exact[0])])


def test_products_are_float32_unless_less_is_asked_for():
    assert device.describe_device(device.choose_device("cpu")) == "cpu"
    assert error_of_products() < FLOAT32
    assert device.describe_device(device.choose_device("cpu", "tf32")) == "cpu"  # which is for a GPU
    assert error_of_products() < FLOAT32


def test_a_record_says_whether_a_cpu_that_may_round_to_bfloat16_does():
    found = device.describe_device(device.choose_device("cpu", "bf16"))
    error = error_of_products()
    assert found == ("cpu (bf16 allowed)" if error < FLOAT32 else "cpu (bf16)")
    assert error < BFLOAT16


def test_the_next_choice_of_a_device_takes_rounding_back():
    device.choose_device("cpu", "bf16")
    assert device.describe_device(device.choose_device("cpu")) == "cpu"
    assert error_of_products() < FLOAT32


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_tiny_numbers_and_views_are_multiplied_rightly_at_either_precision(precision):
    device.choose_device("cpu", precision)
    generator = torch.Generator().manual_seed(8)
    wide = torch.randn(2, 40, 3000, generator=generator) * 1e-20
    a, b = 1e15 * wide[:, :, 100:1900], wide[:, 10:30, 100:1900].transpose(1, 2)
    exact = a.double() @ b.double()
    assert float((a @ b - exact).norm() / exact.norm()) < (FLOAT32 if precision == "float32" else BFLOAT16)
