"""The chunked hypernetwork against plain modules and the published parameter counts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import nn

from hnetcl.hypernetwork import ChunkedHypernetwork
from hnetcl.target import TargetMLP

ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU, "sigmoid": nn.Sigmoid}

SPLIT = {"task_embedding": 96, "chunk_embedding": 96, "hidden": [10, 10], "activation": "relu", "chunk_size": 42000}
PERMUTED_10 = {"task_embedding": 24, "chunk_embedding": 8, "hidden": [25, 25], "activation": "elu", "chunk_size": 78000}
PERMUTED_100 = {
    "task_embedding": 128,
    "chunk_embedding": 12,
    "hidden": [200, 250, 350],
    "activation": "relu",
    "chunk_size": 7500,
}
# paper.md section 5: target, chunks, weights of the last chunk, shared weights, all trainable numbers, their ratio.
PUBLISHED = {
    "split, own heads": (SPLIT, 5, (784, 400, 400, 10), 478_410, 12, 16_410, 465_672, 0.9734),
    "split, shared head": (SPLIT, 5, (784, 400, 400, 2), 475_202, 12, 13_202, 465_672, 0.9799),
    "permuted-10, own heads": (PERMUTED_10, 10, (1024, 1000, 1000, 100), 2_126_100, 28, 20_100, 2_029_939, 0.9548),
    "permuted-10, shared head": (PERMUTED_10, 10, (1024, 1000, 1000, 10), 2_036_010, 27, 8_010, 2_029_931, 0.9970),
    "permuted-100, own heads": (PERMUTED_100, 100, (1024, 1000, 1000, 1000), 3_027_000, 404, 4_500, 2_816_448, 0.9304),
}


def plain_network(hypernetwork, run, activation):
    """One run of the hypernetwork as an ordinary sequence of modules with the same weights."""
    names = [name for name in hypernetwork.shared if name != "chunk_embeddings"]
    modules = []
    for name in names:
        affine = hypernetwork.shared[name][run]
        layer = nn.Linear(affine.shape[0] - 1, affine.shape[1], dtype=affine.dtype)
        layer.weight = nn.Parameter(affine[:-1].T)
        layer.bias = nn.Parameter(affine[-1])
        modules += [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*modules[:-1])


@st.composite
def networks(draw):
    activation = draw(st.sampled_from(sorted(ACTIVATIONS)))
    hypernetwork = ChunkedHypernetwork(
        draw(st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True)),
        draw(st.integers(1, 4)),
        draw(st.integers(1, 30)),
        task_embedding=draw(st.integers(1, 4)),
        chunk_embedding=draw(st.integers(1, 4)),
        hidden=draw(st.lists(st.integers(1, 5), max_size=3)),
        activation=activation,
        chunk_size=draw(st.integers(1, 40)),
        dtype=torch.float64,
    )
    with torch.no_grad():  # other biases than zero
        for value in hypernetwork.shared.values():
            value.add_(torch.randn_like(value))
    return hypernetwork, activation


@settings(max_examples=60, deadline=None)
@given(networks(), st.data())
def test_generated_weights_are_those_of_a_plain_network_fed_task_then_chunk_embedding(network, data):
    hypernetwork, activation = network
    tasks = data.draw(st.lists(st.integers(0, len(hypernetwork.task_embeddings) - 1), min_size=1, max_size=4))
    found = hypernetwork.weights(hypernetwork.features(hypernetwork.embeddings(tasks)))
    chunks = hypernetwork.shared["chunk_embeddings"]
    assert hypernetwork.num_chunks == chunks.shape[1] == math.ceil(hypernetwork.target_size / hypernetwork.chunk_size)
    for run in range(len(chunks)):
        plain = plain_network(hypernetwork, run, activation)
        for place, task in enumerate(tasks):
            # Chunk i is laid at [i * chunk_size, (i + 1) * chunk_size).
            expected = torch.cat([plain(torch.cat([hypernetwork.task_embeddings[task][run], c])) for c in chunks[run]])
            torch.testing.assert_close(found[run, place], expected, rtol=1e-11, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(networks())
def test_other_parameters_can_take_the_place_of_the_networks_own(network):
    hypernetwork, _ = network
    moved = {name: value.detach() + 0.1 for name, value in hypernetwork.shared.items()}
    embeddings = hypernetwork.embeddings([0])
    found = hypernetwork.weights(hypernetwork.features(embeddings, moved), moved["output"])
    with torch.no_grad():
        for value in hypernetwork.shared.values():
            value.add_(0.1)
    torch.testing.assert_close(found, hypernetwork.weights(hypernetwork.features(embeddings)))


@settings(max_examples=60, deadline=None)
@given(networks(), st.data())
def test_gradients_by_hand_are_those_of_autograd(network, data):
    hypernetwork, _ = network
    tasks = data.draw(st.lists(st.integers(0, len(hypernetwork.task_embeddings) - 1), min_size=1, max_size=4))
    embeddings = hypernetwork.embeddings(tasks).requires_grad_()
    weights = hypernetwork.weights(hypernetwork.features(embeddings))
    by_weights = torch.randn_like(weights)
    leaves = {**hypernetwork.shared, "task_embeddings": embeddings}
    expected = dict(zip(leaves, torch.autograd.grad(weights, leaves.values(), by_weights), strict=True))
    with torch.no_grad():
        found = hypernetwork.gradients(hypernetwork.trace(embeddings), by_weights)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("facts", PUBLISHED.values(), ids=PUBLISHED)
def test_sizes_and_compression_are_the_published_ones(facts):
    settings, tasks, sizes, target_size, chunks, last_chunk, trainable, ratio = facts
    target = TargetMLP(sizes)
    hypernetwork = ChunkedHypernetwork([1], tasks, target.num_weights, **settings)
    assert target.num_weights == target_size
    assert hypernetwork.num_chunks == chunks
    assert target_size - (chunks - 1) * hypernetwork.chunk_size == last_chunk
    assert hypernetwork.num_parameters == trainable
    assert round(hypernetwork.num_parameters / target_size, 4) == ratio


def test_initial_layers_are_xavier_uniform_with_zero_biases():
    hypernetwork = ChunkedHypernetwork([1, 2], 2, 42_000, **SPLIT | {"hidden": [60, 50]})
    layers = {name: value for name, value in hypernetwork.shared.items() if name != "chunk_embeddings"}
    assert len(layers) == 3
    for affine in layers.values():
        fan_in, fan_out = affine.shape[1] - 1, affine.shape[2]
        bound = math.sqrt(6 / (fan_in + fan_out))
        assert not affine[:, -1].any()
        for run in affine.detach():
            weights = run[:-1].flatten() / bound
            assert 0.998 < weights.abs().max() <= 1
            assert kstest(weights[:5000].numpy(), "uniform", (-1, 2)).pvalue > 1e-4


def test_initial_embeddings_are_standard_normal():
    hypernetwork = ChunkedHypernetwork([1, 2], 40, 100 * 60, **SPLIT | {"chunk_size": 60})
    chunks = hypernetwork.shared["chunk_embeddings"].detach()
    tasks = torch.stack(hypernetwork.task_embeddings, 1).detach()
    for embeddings in (*chunks, *tasks):
        assert kstest(embeddings.flatten().numpy(), "norm").pvalue > 1e-4


@pytest.mark.parametrize(
    "settings, size, published",
    [(SPLIT, 478_410, 0.015), (PERMUTED_10, 2_126_100, 0.018), (PERMUTED_100, 3_027_000, 0.085)],
    ids=["split", "permuted-10", "permuted-100"],
)
@torch.no_grad()
def test_generated_weights_start_at_the_published_scale(settings, size, published):
    # paper.md section 1.4; single inits vary (0.007 to 0.024 in the split setting), their mean much less
    hypernetwork = ChunkedHypernetwork([1, 2, 3, 4], 1, size, **settings)
    weights = hypernetwork.weights(hypernetwork.features(hypernetwork.embeddings([0])))[:, 0, :size]
    assert weights.std(1).mean().item() == pytest.approx(published, rel=0.3)


def test_initial_weights_of_a_seed_do_not_depend_on_its_pack():
    def make(seeds):
        return ChunkedHypernetwork(seeds, 3, 1000, **SPLIT | {"chunk_size": 300})

    pack, alone = make([3, 7, 9]).state_dict(), make([7]).state_dict()
    assert pack.keys() == alone.keys()
    for name, value in pack.items():
        assert torch.equal(value[1], alone[name][0])
    # Other seeds, other tasks and other layers start elsewhere.
    for value in pack.values():
        assert not torch.equal(value[0], value[1])
    assert not torch.equal(alone["task_0"], alone["task_1"])


def test_a_restored_state_is_the_original():
    source = ChunkedHypernetwork([1, 2], 3, 1000, **SPLIT | {"chunk_size": 300})
    other = ChunkedHypernetwork([5, 6], 3, 1000, **SPLIT | {"chunk_size": 300})
    other.load_state_dict(source.state_dict())
    embeddings = source.embeddings([0, 1, 2])
    assert torch.equal(other.embeddings([0, 1, 2]), embeddings)
    assert torch.equal(other.weights(other.features(embeddings)), source.weights(source.features(embeddings)))
