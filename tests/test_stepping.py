"""Recorded steps do what the host's steps do: replays of one step, with the memory it was recorded with."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from conftest import SETTINGS, tensors_of
from hnetcl import optimiser, stepping
from hnetcl.catalogue import METHODS
from hnetcl.clock import Clock, at
from hnetcl.stepping import WARM_UP, HostSteps, RecordedSteps
from hnetcl.streams import NormalNoise
from hnetcl.tasks import TaskSequence
from test_training import HNET, VARIANTS

ITERATIONS = 70  # more than two blocks of noise
MORE = {
    "hnet_ent noise": ("hnet_ent", "cl1-cl3", {f"{HNET}.hypernetwork.embedding_noise": 0.1}),
    "hnet_ent present": ("hnet_ent", "cl1-cl3", {f"{HNET}.regulariser.reference": "present"}),
    "hnet_ent first order": ("hnet_ent", "cl1-cl3", {f"{HNET}.regulariser.reference": "first_order"}),
    "hnet_ent own head": ("hnet_ent", "cl1-cl3", {f"{HNET}.regulariser.outputs": "own_head"}),
    "hnet_ent subset explicit": (
        "hnet_ent",
        "cl1-cl3",
        {f"{HNET}.regulariser.tasks": 1, f"{HNET}.regulariser.form": "explicit"},
    ),
    "hnet_r perfect": ("hnet_r", "cl1-cl2-cl3", {"methods.hnet_r.perfect_replay": True}),
}


class Recording(TorchDispatchMode):
    """A recording by the rules of a CUDA graph, on the CPU: operations and addresses, but no Python, are done again.

    Reading a number of a tensor, or a shape that depends on one, would have the host wait for a GPU, and a number
    from the host's memory would be copied to it once only: neither is allowed.
    """

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "lift_fresh", "masked_select", "unique")

    def __init__(self):
        super().__init__()
        self._operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().split("::")[1].split(".")[0]
        masks = name in ("index", "index_put", "index_put_") and any(
            x.dtype == torch.bool for x in tree_leaves(args[1]) if x is not None
        )
        assert not masks and not name.startswith(self.FORBIDDEN), f"{function} needs the host"
        result = function(*args, **(kwargs or {}))
        self._operations.append((function, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, result in self._operations:
            for old, new in zip(tree_leaves(result), tree_leaves(function(*args, **kwargs)), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def record(call):
    """Record ``call`` as a GPU would, but for carrying it out at once: the first replay has been done already."""
    recording = Recording()
    with recording:
        call()
    replays = iter([lambda: None])
    return lambda: next(replays, recording.replay)()


@pytest.fixture
def far_away(monkeypatch):
    """Numbers in tensors are not to be read in a step, as if they were on a GPU."""
    monkeypatch.setattr(optimiser, "_is_at_hand", lambda number: False)


def learn(make_spec, dataset, variant, steps_of, tasks=3, device="cpu"):
    name, training, changes = (VARIANTS | MORE)[variant]
    spec = make_spec(name, training, {"optimisation.iterations": ITERATIONS} | changes)
    sequence = TaskSequence(spec, [1, 2], dataset, device)
    method = METHODS[name].load()(spec, sequence)
    losses = []
    for task in range(tasks):
        method.begin_task(task)
        stage = sequence.training_stage(
            task,
            seen=method.trains_on_seen_tasks,
            iterations=ITERATIONS,
            batch_size=spec.optimisation.batch_size,
        )
        step = steps_of(method, stage)
        losses += [step(iteration) for iteration in range(ITERATIONS)]
        method.end_task(task)
    return torch.stack(losses), tensors_of(method.state_dict())


@pytest.mark.usefixtures("far_away")
@pytest.mark.parametrize("variant", [*VARIANTS, *MORE])
def test_replays_of_a_recorded_step_are_the_steps_of_the_host(make_spec, dataset, variant):
    expected, state = learn(make_spec, dataset, variant, HostSteps)
    found, replayed = learn(make_spec, dataset, variant, lambda *of: RecordedSteps(*of, record))
    assert torch.equal(found, expected)
    assert set(replayed) == set(state)
    for name, value in state.items():
        assert torch.equal(replayed[name], value), name
    assert len(expected.unique(dim=0)) > 2 * ITERATIONS  # no step is like the one before it


@pytest.mark.parametrize("variant", ["hnet_ent exact", "hnet_r", "si"])
def test_whether_the_host_reads_numbers_changes_a_training_by_rounding_only(make_spec, dataset, variant, monkeypatch):
    expected, _ = learn(make_spec, dataset, variant, HostSteps)
    monkeypatch.setattr(optimiser, "_is_at_hand", lambda number: False)
    found, _ = learn(make_spec, dataset, variant, HostSteps)
    begun = ITERATIONS + 15  # of the second task; later on rounding has grown
    torch.testing.assert_close(found[:begun], expected[:begun], rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("far_away")
def test_a_recorded_step_follows_the_schedule_of_learning_rates(make_spec, dataset):
    changes = {"optimisation.iterations": None, "optimisation.epochs": 4, "optimisation.schedule": [[1, 0.1], [3, 0.5]]}
    changes |= {f"methods.{name}": None for name in SETTINGS["methods"] if name != "hnet_ent"}
    ends = []
    for steps_of in (HostSteps, lambda *of: RecordedSteps(*of, record)):
        spec = make_spec("hnet_ent", "cl1-cl3", changes)
        sequence = TaskSequence(spec, [1], dataset)
        method = METHODS["hnet_ent"].load()(spec, sequence)
        iterations = sequence.schedule.iterations(0)
        method.begin_task(0)
        stage = sequence.training_stage(0, seen=False, iterations=iterations, batch_size=spec.optimisation.batch_size)
        step = steps_of(method, stage)
        ends.append(torch.stack([step(iteration) for iteration in range(iterations)]))
    assert torch.equal(*ends)


def test_the_recording_of_these_tests_refuses_what_needs_the_host():
    x = torch.randn(3)
    for call in (lambda: float(x[0]), lambda: x[x > 0], lambda: torch.tensor([1.0]) + x):
        with pytest.raises(AssertionError, match="needs the host"):
            record(call)


@pytest.mark.parametrize("first", [0, 5])
def test_a_clock_tells_everyone_once_before_each_iteration(first):
    told = []
    clock = Clock(first, "cpu")
    for iteration in range(first, first + 3):
        clock.prepare(iteration)
        clock.before_each("owner", told.append)
        values = torch.arange(40).view(2, 20)
        assert torch.equal(at(values, 1, clock), values[:, iteration])
        assert torch.equal(at(values, 1, clock, period=3), values[:, iteration % 3])
        clock.tick()
    assert told == [first, first + 1, first + 2]


def test_noise_by_a_clock_is_that_by_numbers_and_stays_where_it_is():
    by_number, by_clock = (NormalNoise([1, 2], "noise", shape=(3,), device="cpu") for _ in range(2))
    clock = Clock(30, "cpu")
    places = set()
    for iteration in range(30, 100):
        clock.prepare(iteration)
        assert torch.equal(by_clock[clock], by_number[iteration])
        places.add(by_clock._block.data_ptr())
        clock.tick()
    assert len(places) == 1


def test_steps_are_recorded_on_a_gpu_alone(make_spec, dataset):
    spec = make_spec("fine_tune", "cl1")
    sequence = TaskSequence(spec, [1], dataset)
    method = METHODS["fine_tune"].load()(spec, sequence)
    stage = sequence.training_stage(0, seen=False, iterations=WARM_UP, batch_size=8)
    assert isinstance(stepping.steps(method, stage), HostSteps)
