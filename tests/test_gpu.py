"""What a GPU computes: recorded steps are those of the host, and both those of the CPU, to rounding."""

import pytest
import torch

from hnetcl import device
from hnetcl.stepping import HostSteps, RecordedSteps, record_graph, steps
from test_stepping import ITERATIONS, MORE, learn
from test_training import VARIANTS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

# Losses are compared until the second task has begun; later on rounding has grown.
BEGUN = ITERATIONS + 10


@pytest.mark.parametrize("variant", [*VARIANTS, *MORE])
def test_recorded_steps_are_those_of_the_host_and_of_the_cpu(make_spec, dataset, variant):
    where = device.choose_device("cuda")
    by_cpu, _ = learn(make_spec, dataset, variant, HostSteps, tasks=2)
    by_host, _ = learn(make_spec, dataset, variant, HostSteps, tasks=2, device=where)
    by_replay, _ = learn(
        make_spec, dataset, variant, lambda *of: RecordedSteps(*of, record_graph), tasks=2, device=where
    )
    torch.testing.assert_close(by_replay[:BEGUN], by_host[:BEGUN], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(by_host.cpu()[:BEGUN], by_cpu[:BEGUN], rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("record, kind", [(True, RecordedSteps), (False, HostSteps)])
def test_steps_on_a_gpu_are_recorded_unless_they_are_not_to_be(make_spec, dataset, record, kind):
    def take(method, stage):
        step = steps(method, stage, record=record)
        assert isinstance(step, kind)
        return step

    learn(make_spec, dataset, "fine_tune", take, tasks=1, device=device.choose_device("cuda"))


@pytest.mark.parametrize("precision, error", [("float32", 1e-5), ("tf32", 1e-2)])
def test_matrix_products_have_the_precision_that_is_asked_for(precision, error):
    where = device.choose_device("cuda", precision)
    torch.manual_seed(0)
    a, b = torch.randn(2, 512, 512, device=where)
    exact = a.double() @ b.double()
    found = float((a @ b - exact).norm() / exact.norm())
    assert error / 100 < found < error
    assert device.describe_device(where).endswith("(TF32)") == (precision == "tf32")
