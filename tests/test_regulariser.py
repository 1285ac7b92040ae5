"""The output regulariser: both forms against an ordinary loop over tasks, chunks and autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from hnetcl import regulariser as module
from hnetcl.hypernetwork import ChunkedHypernetwork
from hnetcl.regulariser import (
    FORMS,
    REFERENCES,
    ExactRegulariser,
    ExplicitRegulariser,
    choose_form,
    column_segments,
    draw_subsets,
)
from hnetcl.target import TargetMLP

ACTIVATIONS = {"relu": torch.relu, "elu": functional.elu, "sigmoid": torch.sigmoid}
BOTH = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def make_network(target_size, runs=2, tasks=3, chunk_size=7, hidden=(4, 3), activation="elu", dtype=torch.float64):
    hypernetwork = ChunkedHypernetwork(
        range(runs),
        tasks,
        target_size,
        task_embedding=3,
        chunk_embedding=2,
        hidden=hidden,
        activation=activation,
        chunk_size=chunk_size,
        dtype=dtype,
    )
    with torch.no_grad():  # other biases than zero
        for value in hypernetwork.shared.values():
            value.add_(0.3 * torch.randn(value.shape, dtype=torch.float64).to(dtype))
    return hypernetwork


def snapshot_of(hypernetwork):
    return {name: value.detach().clone() for name, value in hypernetwork.shared.items()}


def moved(snapshot, size=0.1):
    return {name: value + size * torch.randn_like(value) for name, value in snapshot.items()}


def generate(shared, run, embedding, activation):
    """All chunks of one task of one run, one after the other."""
    weights = []
    for chunk in shared["chunk_embeddings"][run]:
        x = torch.cat([embedding, chunk])
        for name in shared:
            if name.startswith("hidden_"):
                x = ACTIVATIONS[activation](x @ shared[name][run, :-1] + shared[name][run, -1])
        weights.append(x @ shared["output"][run, :-1] + shared["output"][run, -1])
    return torch.cat(weights)


def brute_force(hypernetwork, activation, snapshot, shifted, beta, positions, chosen):
    """Value a run and gradients; ``positions[t]`` count for task t, ``chosen[r]`` are the tasks of run r."""
    leaves = {name: value.clone().requires_grad_() for name, value in shifted.items()}
    values = []
    for run, tasks in enumerate(chosen):
        total = 0
        for task in tasks:
            embedding = hypernetwork.task_embeddings[task][run].detach()
            before = generate(snapshot, run, embedding, activation)
            after = generate(leaves, run, embedding, activation)
            for position in positions[task]:
                total = total + (before[position] - after[position]) ** 2
        values.append(beta / len(tasks) * total)
    found = torch.autograd.grad(sum(values), leaves.values(), allow_unused=True)
    gradients = {
        name: torch.zeros_like(leaf) if g is None else g for (name, leaf), g in zip(leaves.items(), found, strict=True)
    }
    return torch.stack([value.detach() for value in values]), gradients


def apply(regulariser, shifted, iteration=0):
    gradients = {name: torch.zeros_like(value) for name, value in shifted.items()}
    value = regulariser.value_and_add_gradient(shifted, gradients, iteration, value=True)
    return value, gradients


def assert_near(found, expected, tolerance, what=""):
    error = (found - expected).norm()
    assert error <= tolerance * expected.norm() + 1e-13, f"{what}: off by {error / expected.norm():.1e}"


@st.composite
def problems(draw):
    """A network, the ranges and positions that count, and the tasks chosen in two iterations."""
    sizes = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    tasks = draw(st.integers(1, 5))
    own_head = draw(st.booleans())
    classes = draw(st.integers(1, 2))
    target = TargetMLP((*sizes, (tasks + 1) * classes))
    size = target.num_weights
    whole = st.sampled_from([n for n in range(1, size + 1) if size % n == 0])  # no surplus
    chunk_size = draw(st.one_of(st.integers(2, size + 6), whole))
    activation = draw(st.sampled_from(sorted(ACTIVATIONS)))
    hidden = draw(st.lists(st.integers(1, 4), max_size=2))
    hypernetwork = make_network(size, draw(st.integers(1, 3)), tasks + 1, chunk_size, hidden, activation)
    ranges, positions = [], []
    for task in range(tasks):
        head = slice(task * classes, (task + 1) * classes)
        *body, weight, bias = target.unpack(torch.arange(size).unsqueeze(0))
        kept = [*body, weight[:, head], bias[:, head]] if own_head else [torch.arange(size)]
        ranges.append(target.output_ranges(head) if own_head else [(0, size)])
        positions.append(torch.cat([part.flatten() for part in kept]).tolist())
    runs = len(hypernetwork.shared["output"])
    subsets = None
    if tasks > 1 and draw(st.booleans()):
        subsets = draw_subsets(range(runs), tasks, draw(st.integers(1, tasks - 1)), 2)
    return hypernetwork, activation, ranges, positions, subsets


@settings(max_examples=60, deadline=None)
@given(problems(), st.floats(0.01, 10), st.sampled_from([1, 500, module.BLOCK_BYTES]), st.integers(0, 2**31))
def test_both_forms_are_the_brute_force_sum_in_value_and_every_gradient(problem, beta, block_bytes, seed):
    hypernetwork, activation, ranges, positions, subsets = problem
    torch.manual_seed(seed)
    snapshot = snapshot_of(hypernetwork)
    runs, iteration = len(snapshot["output"]), 1
    every = [list(range(len(ranges)))] * runs
    chosen = every if subsets is None else subsets[:, iteration].tolist()
    shifted = moved(snapshot)
    value, expected = brute_force(hypernetwork, activation, snapshot, shifted, beta, positions, chosen)
    already = {name: torch.randn_like(v) for name, v in shifted.items()}  # the gradient of the task
    for form in FORMS.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "BLOCK_BYTES", block_bytes)
            regulariser = form(hypernetwork, snapshot, beta, ranges, subsets)
        # Twice, at other parameters first: what an iteration leaves behind must not reach the next.
        apply(regulariser, moved(snapshot), 0)
        gradients = {name: value.clone() for name, value in already.items()}
        found = regulariser.value_and_add_gradient(shifted, gradients, iteration, value=True)
        assert_near(found, value, 1e-10, "value")
        assert gradients.keys() == expected.keys()
        for name in expected:
            assert_near(gradients[name] - already[name], expected[name], 1e-10, name)
        # Without the value, the same gradients.
        silent = {name: value.clone() for name, value in already.items()}
        assert regulariser.value_and_add_gradient(shifted, silent, iteration) is None
        for name in expected:
            assert_near(silent[name] - already[name], expected[name], 1e-10, name)


def test_shifted_parameters_written_to_their_place_give_the_same_gradients():
    torch.manual_seed(0)
    hypernetwork = make_network(40)
    snapshot = snapshot_of(hypernetwork)
    regulariser = ExactRegulariser(hypernetwork, snapshot, 0.5, [[(0, 40)]] * 2)
    shifted = moved(snapshot)
    value, gradients = apply(regulariser, shifted)
    place = regulariser.output_place
    for written in (place.ahead, place.change):
        written.zero_()
    place.put(shifted["output"])
    again, in_place = apply(regulariser, {**shifted, "output": place.ahead})
    assert torch.equal(again, value)
    for name in gradients:
        assert torch.equal(in_place[name], gradients[name])


def test_the_exact_form_goes_through_many_tasks_a_block_at_a_time():
    chunks, size = 20, 400
    hypernetwork = make_network(size, runs=1, tasks=401, chunk_size=20, hidden=(40, 30))
    snapshot, trace = snapshot_of(hypernetwork), hypernetwork.trace

    def blocks(tasks):
        lengths = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "BLOCK_BYTES", 10 * chunks * 31 * 8)
            regulariser = ExactRegulariser(hypernetwork, snapshot, 1.0, [[(0, size)]] * tasks)
            patch.setattr(hypernetwork, "trace", lambda e, shared: lengths.append(e.shape[1]) or trace(e, shared))
            apply(regulariser, moved(snapshot))
        return lengths

    assert blocks(10) == [10]
    assert blocks(25) == [10, 10, 5]
    assert blocks(400) == [10] * 40


@BOTH
def test_snapshot_embeddings_and_shifted_parameters_are_left_as_they_were(form):
    torch.manual_seed(0)
    hypernetwork = make_network(40)
    snapshot = snapshot_of(hypernetwork)
    shifted = moved(snapshot)
    watched = [*snapshot.values(), *shifted.values(), *hypernetwork.state_dict().values()]
    before = [value.clone() for value in watched]
    apply(form(hypernetwork, snapshot, 0.5, [[(0, 40)]] * 2), shifted)
    for now, then in zip(watched, before, strict=True):
        assert torch.equal(now, then)


@BOTH
def test_value_and_gradient_are_zero_at_the_snapshot(form):
    hypernetwork = make_network(40, chunk_size=9)
    snapshot = snapshot_of(hypernetwork)
    value, gradients = apply(form(hypernetwork, snapshot, 100.0, [[(0, 40)]] * 3), snapshot)
    assert (value.abs() < 1e-24).all()
    for name, gradient in gradients.items():
        assert gradient.abs().max() < 1e-12, name


@BOTH
def test_only_the_change_since_the_snapshot_counts_not_the_networks_present_parameters(form):
    torch.manual_seed(0)
    hypernetwork = make_network(40)
    snapshot = snapshot_of(hypernetwork)
    regulariser = form(hypernetwork, snapshot, 1.0, [[(0, 40)]] * 2)
    shifted = moved(snapshot)
    value, _ = apply(regulariser, shifted)
    with torch.no_grad():  # training goes on
        for parameter in hypernetwork.shared.values():
            parameter.add_(1)
    assert torch.equal(apply(regulariser, shifted)[0], value)


@BOTH
def test_columns_that_hold_only_surplus_or_masked_heads_get_no_gradient(form):
    target = TargetMLP((3, 2, 4))  # W1 6, b1 2, W2 8, b2 4
    hypernetwork = make_network(target.num_weights, tasks=4, chunk_size=25)  # one chunk, five numbers of surplus
    snapshot = snapshot_of(hypernetwork)
    counted = [target.output_ranges(slice(t, t + 1)) for t in range(2)]
    _, gradients = apply(form(hypernetwork, snapshot, 1.0, counted), moved(snapshot))
    by_column = gradients["output"].abs().sum((0, 1))
    never = [*range(12, 16), 18, 19, *range(20, 25)]  # rows of heads 2 and 3, their biases, surplus
    assert not by_column[never].any()
    assert (by_column[[c for c in range(25) if c not in never]] > 0).all()


@BOTH
def test_the_sum_is_divided_by_the_number_of_regularised_tasks(form):
    torch.manual_seed(0)
    hypernetwork = make_network(40, tasks=6)
    with torch.no_grad():  # six times the same task: the mean over any of them is one task's share
        for embedding in hypernetwork.task_embeddings:
            embedding.copy_(hypernetwork.task_embeddings[0])
    snapshot = snapshot_of(hypernetwork)
    shifted = moved(snapshot)
    one, _ = apply(form(hypernetwork, snapshot, 0.7, [[(0, 40)]]), shifted)
    for tasks, subset in [(2, None), (6, None), (6, 2), (6, 5)]:
        subsets = None if subset is None else draw_subsets([0, 1], tasks, subset, 1)
        value, _ = apply(form(hypernetwork, snapshot, 0.7, [[(0, 40)]] * tasks, subsets), shifted)
        torch.testing.assert_close(value, one, rtol=1e-12, atol=0)


@BOTH
def test_runs_do_not_touch_each_other(form):
    torch.manual_seed(0)
    hypernetwork = make_network(40, runs=3)
    snapshot = snapshot_of(hypernetwork)
    regulariser = form(hypernetwork, snapshot, 1.0, [[(0, 40)]] * 2)
    shifted = moved(snapshot)
    value, gradients = apply(regulariser, shifted)
    for other in shifted.values():
        other[1] += 1
    again, changed = apply(regulariser, shifted)
    assert again[1] != value[1]
    torch.testing.assert_close(again[[0, 2]], value[[0, 2]], rtol=1e-12, atol=0)
    for name in gradients:
        torch.testing.assert_close(changed[name][[0, 2]], gradients[name][[0, 2]], rtol=1e-12, atol=1e-14)


@BOTH
@pytest.mark.parametrize("size", [1e-1, 1e-3])
def test_float32_gradients_are_near_those_of_float64(form, size):
    torch.manual_seed(0)
    settings = {"tasks": 6, "chunk_size": 700, "hidden": (10, 10), "activation": "relu"}
    exact = make_network(5000, **settings)
    single = make_network(5000, **settings, dtype=torch.float32)
    rounded = {name: value.float() for name, value in exact.state_dict().items()}
    single.load_state_dict(rounded)
    exact.load_state_dict(rounded)
    shifted = {name: value.float().double() for name, value in moved(snapshot_of(exact), size).items()}
    counted = [[(0, 5000)]] * 5
    value, expected = apply(form(exact, snapshot_of(exact), 0.01, counted), shifted)
    found_value, found = apply(
        form(single, snapshot_of(single), 0.01, counted), {name: v.float() for name, v in shifted.items()}
    )
    assert_near(found_value.double(), value, 1e-4, "value")
    for name in expected:
        assert_near(found[name].double(), expected[name], 1e-4, name)


def stored_numbers(regulariser, snapshot):
    """Numbers in all tensors a regulariser keeps, its hypernetwork and the snapshot aside."""
    shared = {value.untyped_storage().data_ptr() for value in snapshot.values()}
    storages = {}

    def visit(thing):
        if isinstance(thing, torch.Tensor):
            if thing.untyped_storage().data_ptr() not in shared:
                storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes() // thing.itemsize
        elif isinstance(thing, dict):
            for value in thing.values():
                visit(value)
        elif isinstance(thing, list | tuple):
            for value in thing:
                visit(value)

    visit({name: value for name, value in vars(regulariser).items() if name != "hypernetwork"})
    return sum(storages.values())


def test_the_exact_form_stores_nothing_of_the_target_networks_size_for_an_earlier_task():
    size = 20_000
    hypernetwork = make_network(size, runs=1, tasks=12, chunk_size=1000)
    snapshot = snapshot_of(hypernetwork)

    def stored(form, tasks):
        regulariser = form(hypernetwork, snapshot, 1.0, [[(0, size)]] * tasks)
        apply(regulariser, moved(snapshot))
        return stored_numbers(regulariser, snapshot)

    by_task = (stored(ExactRegulariser, 11) - stored(ExactRegulariser, 1)) / 10
    assert by_task < size / 100  # features of 20 chunks, not their 20,000 weights
    assert (stored(ExplicitRegulariser, 11) - stored(ExplicitRegulariser, 1)) / 10 >= size


@st.composite
def counted_ranges(draw):
    chunks, chunk_size = draw(st.integers(1, 5)), draw(st.integers(1, 9))

    def ranges():
        edges = draw(st.lists(st.integers(0, chunks * chunk_size), min_size=2, max_size=6, unique=True).map(sorted))
        return list(zip(edges[::2], edges[1::2], strict=False))

    return chunks, chunk_size, [ranges() for _ in range(draw(st.integers(1, 4)))]


@settings(max_examples=150, deadline=None)
@given(counted_ranges())
def test_column_segments_cover_exactly_the_positions_that_count(problem):
    chunks, chunk_size, counted = problem
    segments = column_segments(chunks, chunk_size, counted)
    columns = [column for segment in segments for column in range(segment.start, segment.stop)]
    assert len(columns) == len(set(columns))
    assert all(0 <= column < chunk_size for column in columns)
    found = set()
    for segment in segments:
        rows = torch.ones(len(counted), chunks) if segment.counted is None else segment.counted
        for task, chunk in rows.nonzero().tolist():
            found |= {(task, chunk * chunk_size + column) for column in range(segment.start, segment.stop)}
    expected = {(t, p) for t, ranges in enumerate(counted) for a, b in ranges for p in range(a, b)}
    assert found == expected


def test_columns_where_everything_counts_are_one_segment():
    assert column_segments(3, 10, [[(0, 30)]] * 4) == [(0, 10, None)]
    surplus = column_segments(3, 10, [[(0, 24)]] * 4)
    assert [(s.start, s.stop, s.counted is None) for s in surplus] == [(0, 4, True), (4, 10, False)]


def test_subsets_are_distinct_earlier_tasks_and_all_equally_likely():
    iterations, task, size = 4000, 7, 3
    subsets = draw_subsets([1, 2], task, size, iterations)
    assert subsets.shape == (2, iterations, size)
    ordered = subsets.sort(2).values
    assert (ordered.diff(dim=2) > 0).all()
    assert subsets.min() == 0 and subsets.max() == task - 1
    share = size / task
    spread = (share * (1 - share) / iterations) ** 0.5
    for run in subsets:
        for earlier in range(task):
            assert abs((run == earlier).any(1).double().mean() - share) < 5 * spread


def test_subsets_depend_on_the_seed_alone():
    pack = draw_subsets([3, 7, 9], 6, 2, 50)
    assert torch.equal(pack[1], draw_subsets([7], 6, 2, 50)[0])
    assert not torch.equal(pack[0], pack[1])
    assert not torch.equal(pack[1].clamp(max=4), draw_subsets([7], 5, 2, 50)[0])


@pytest.mark.parametrize("task, drawn", [(2, False), (3, False), (4, True)])
def test_no_subset_is_drawn_where_all_earlier_tasks_fit(task, drawn):
    assert (draw_subsets([1], task, 3, 10) is not None) == drawn


PAPER = {
    "split": ([1, 4], 478_410, 96, 96, (10, 10), 42_000),
    "permuted-10": ([1, 9], 2_126_100, 24, 8, (25, 25), 78_000),
    "permuted-100": ([9, 49, 99], 3_027_000, 128, 12, (200, 250, 350), 7_500),
}


@pytest.mark.parametrize("facts", PAPER.values(), ids=PAPER)
def test_the_exact_form_is_chosen_at_the_papers_settings(facts):
    earlier, size, task_embedding, chunk_embedding, hidden, chunk_size = facts
    hypernetwork = ChunkedHypernetwork(
        [1],
        1,
        size,
        task_embedding=task_embedding,
        chunk_embedding=chunk_embedding,
        hidden=hidden,
        activation="relu",
        chunk_size=chunk_size,
    )
    for tasks in earlier:
        assert choose_form(hypernetwork, tasks) is ExactRegulariser


def test_the_explicit_form_is_chosen_where_the_features_outnumber_the_weights_of_a_chunk():
    assert choose_form(make_network(64, chunk_size=8, hidden=(100,)), 1) is ExplicitRegulariser


@pytest.mark.parametrize("activation", ["elu", "sigmoid"])
@pytest.mark.parametrize("reference", REFERENCES)
def test_other_references_are_what_they_are_called(reference, activation):
    torch.manual_seed(0)
    hypernetwork = make_network(17, activation=activation)
    step = {name: 0.1 * torch.randn_like(value) for name, value in hypernetwork.shared.items()}
    shifted = {name: value.detach() + step[name] for name, value in hypernetwork.shared.items()}
    regulariser = REFERENCES[reference](hypernetwork, snapshot_of(hypernetwork), 0.3, [[(0, 17)]] * 2)
    value, gradients = apply(regulariser, shifted)

    def expected_value(run, shared):
        total = 0
        for task in range(2):
            embedding = hypernetwork.task_embeddings[task][run].detach()
            if reference == "present":
                ahead = {name: value + step[name] for name, value in shared.items()}
                change = generate(ahead, run, embedding, activation) - generate(shared, run, embedding, activation)
            else:  # a central difference along the step, from far closer
                near = 1e-4
                there, back = ({n: v + sign * near * step[n] for n, v in shared.items()} for sign in (1, -1))
                change = generate(there, run, embedding, activation) - generate(back, run, embedding, activation)
                change = change / (2 * near)
            total = total + change[:17].square().sum()
        return 0.3 / 2 * total

    leaves = {name: value.detach().clone().requires_grad_() for name, value in hypernetwork.shared.items()}
    expected = torch.stack([expected_value(run, leaves) for run in range(2)])
    assert_near(value, expected.detach(), 1e-5)
    for (name, found), by_hand in zip(
        gradients.items(), torch.autograd.grad(expected.sum(), leaves.values()), strict=True
    ):
        assert_near(found, by_hand, 1e-5, name)


def test_to_first_order_a_small_step_changes_as_much_as_between_present_and_ahead():
    torch.manual_seed(0)
    hypernetwork = make_network(17)
    shifted = {n: v.detach() + 1e-5 * torch.randn_like(v) for n, v in hypernetwork.shared.items()}
    values = [
        apply(form(hypernetwork, snapshot_of(hypernetwork), 0.3, [[(0, 17)]] * 2), shifted)[0]
        for form in (*REFERENCES.values(), ExplicitRegulariser)
    ]
    torch.testing.assert_close(values[0], values[1], rtol=1e-3, atol=0)
    torch.testing.assert_close(values[0], values[2], rtol=1e-3, atol=0)
