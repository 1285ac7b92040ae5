"""Replay generators: losses against torch.distributions, images against ordinary networks, who is replayed and how."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from conftest import REPLAY, tensors_of
from hnetcl.layers import distillation
from hnetcl.replay import HypernetworkGAN, HypernetworkVAE, PlainVAE, vae_loss, with_replay
from hnetcl.streams import NormalNoise
from hnetcl.tasks import TaskSequence

SIZES = st.integers(1, 6)


@given(SIZES, SIZES, SIZES, SIZES, st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_the_vae_loss_is_that_of_bernoulli_pixels_and_a_gaussian_latent(runs, batch, pixels, latent, seed):
    random = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    logits, x = 3 * draw(runs, batch, pixels), torch.rand(runs, batch, pixels, generator=random, dtype=torch.float64)
    mean, log_variance = draw(runs, batch, latent), draw(runs, batch, latent)
    found = vae_loss(logits, x, mean, log_variance)
    for run in range(runs):
        for sample in range(batch):
            picture = Bernoulli(logits=logits[run, sample], validate_args=False)
            posterior = Normal(mean[run, sample], (log_variance[run, sample] / 2).exp())
            divergence = kl_divergence(posterior, Normal(torch.zeros(latent), torch.ones(latent))).sum()
            expected = -picture.log_prob(x[run, sample]).mean() + divergence / pixels
            torch.testing.assert_close(found[run, sample], expected, rtol=1e-10, atol=1e-12)


def test_the_vae_loss_stays_exact_where_a_sigmoid_saturates():
    logits = torch.tensor([[[200.0, -200.0]]], requires_grad=True)
    x = torch.tensor([[[0.0, 1.0]]])
    loss = vae_loss(logits, x, torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    assert loss.item() == 200
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[[0.5, -0.5]]]))


@given(SIZES, SIZES, st.integers(2, 6), st.floats(0.5, 5), st.integers(0, 10**6), st.data())
@settings(max_examples=40, deadline=None)
def test_the_gradient_of_distillation_has_its_closed_form(runs, batch, units, temperature, seed, data):
    known = data.draw(st.integers(1, units))
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(runs, batch, units, generator=random, dtype=torch.float64).requires_grad_()
    targets = torch.randn(runs, batch, known, generator=random, dtype=torch.float64).softmax(2)
    loss = distillation(logits, targets, temperature)
    assert loss.shape == (runs,)
    (found,) = torch.autograd.grad(loss.sum(), logits)
    # Targets sum to one, with zeros for the new units: d/dl = T (q - p) / batch.
    padded = torch.zeros_like(logits)
    padded[:, :, :known] = targets
    expected = temperature * ((logits / temperature).softmax(2) - padded) / batch
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    at_best = -(temperature**2) * (padded * padded.clamp_min(1e-300).log()).sum(2).mean(1)
    assert (loss >= at_best - 1e-9).all()  # Gibbs: no other answer is better than the target itself


# ---- noise --------------------------------------------------------------------------------------------------------


def test_noise_depends_on_seed_purpose_and_iteration_alone():
    together = NormalNoise([3, 8], "replay", 2, shape=(5, 4), device="cpu")
    alone = NormalNoise([8], "replay", 2, shape=(5, 4), device="cpu")
    block = NormalNoise.BLOCK
    wanted = {number: together[number].clone() for number in (0, 1, block - 1, block, 3 * block + 7)}
    for number in (3 * block + 7, 1, block):  # as a resumed run would start anywhere
        assert torch.equal(alone[number][0], wanted[number][1])
    assert not torch.equal(wanted[0], wanted[1]) and not torch.equal(wanted[block - 1], wanted[block])
    other = NormalNoise([8], "encoder noise", 2, shape=(5, 4), device="cpu")
    assert not torch.equal(other[0][0], wanted[0][1])
    assert together[0].shape == (2, 5, 4)


def test_noise_is_standard_normal():
    noise = NormalNoise([1, 2], "replay", 1, shape=(50, 40), device="cpu")
    values = torch.stack([noise[number] for number in range(64)]).double()
    assert abs(values.mean().item()) < 4 / math.sqrt(values.numel())
    assert abs(values.var().item() - 1) < 4 * math.sqrt(2 / values.numel())


# ---- the hypernetwork's replay model ------------------------------------------------------------------------------


@pytest.fixture
def make_generator(make_spec, dataset):
    def make(kind=HypernetworkVAE, seeds=(1, 2), **changes):
        spec = make_spec(changes={f"optimisation.{key}": value for key, value in changes.items()})
        sequence = TaskSequence(spec, list(seeds), dataset)
        if kind is not PlainVAE:
            return kind(REPLAY, sequence, spec.optimisation), sequence
        return PlainVAE(4, (8, 7), sequence, spec.optimisation), sequence

    return make


def learn(generator, sequence, tasks, iterations=15, batch_size=8):
    for task in tasks:
        generator.begin_task(task)
        stage = sequence.training_stage(task, seen=False, iterations=iterations, batch_size=batch_size)
        for iteration in range(iterations):
            images = with_replay(stage[iteration].x, generator.replay(iteration))
            generator.step(images, batch_size, 0.5, iteration)


def ordinary(tensors, activation=nn.ReLU):
    """An ordinary network with the weights ``[W1, b1, W2, b2, ...]``."""
    modules = []
    for weight, bias in zip(tensors[::2], tensors[1::2], strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight, linear.bias = nn.Parameter(weight.detach().clone()), nn.Parameter(bias.detach().clone())
        modules += [linear, activation()]
    return nn.Sequential(*modules[:-1])


def decoder_of(generator, run, task):
    """The decoder of one run and task as an ordinary network, every chunk generated by hand."""
    state = {name: value[run] for name, value in generator.hypernetwork.state_dict().items()}
    hidden, output = state["hidden_0"], state["output"]
    chunks = []
    for chunk_embedding in state["chunk_embeddings"]:
        features = nn.functional.elu(torch.cat([state[f"task_{task}"], chunk_embedding]) @ hidden[:-1] + hidden[-1])
        chunks.append(features @ output[:-1] + output[-1])
    flat, tensors = torch.cat(chunks), []
    for shape in generator.decoder.shapes:
        tensors.append(flat[: math.prod(shape)].view(shape))
        flat = flat[math.prod(shape) :]
    return ordinary(tensors)


@pytest.mark.parametrize(
    ("kind", "grey"), [(HypernetworkVAE, torch.sigmoid), (HypernetworkGAN, lambda logits: (1 + logits.tanh()) / 2)]
)
def test_replayed_images_are_drawn_by_the_earlier_tasks_decoders_as_they_were_before_the_task(
    make_generator, kind, grey
):
    generator, sequence = make_generator(kind)
    learn(generator, sequence, [0])
    before = [decoder_of(generator, run, 0) for run in range(2)]
    learn(generator, sequence, [1])
    x, tasks = generator.replay(4)
    noise = NormalNoise([1, 2], "replay", 1, shape=(1, 8, 4), device="cpu")[4]
    assert x.shape == (2, 8, sequence.num_inputs) and (tasks == 0).all()
    for run in range(2):
        condition = torch.eye(5)[0].expand(8, -1)
        expected = grey(before[run](torch.cat([noise[run, 0], condition], dim=1)))
        torch.testing.assert_close(x[run], expected, rtol=1e-5, atol=1e-6)
        now = grey(decoder_of(generator, run, 0)(torch.cat([noise[run, 0], condition], dim=1)))
        assert not torch.allclose(now, expected, rtol=1e-4, atol=1e-5)  # it did move while the task was learned


def test_every_earlier_task_gives_the_same_number_of_images_and_its_own_condition(make_generator):
    generator, sequence = make_generator()
    generator.begin_task(0)
    assert generator.replay(0) is None
    learn(generator, sequence, [0, 1])
    generator.begin_task(2)
    x, tasks = generator.replay(3)
    assert torch.equal(tasks, torch.tensor([[0] * 4 + [1] * 4] * 2))  # 8 in all, ceil(8 / 2) from each
    noise = NormalNoise([1, 2], "replay", 2, shape=(2, 4, 4), device="cpu")[3]
    for run in range(2):
        for task in range(2):
            latent = torch.cat([noise[run, task], torch.eye(5)[task].expand(4, -1)], dim=1)
            expected = decoder_of(generator, run, task)(latent).sigmoid()
            torch.testing.assert_close(x[run, 4 * task : 4 * task + 4], expected, rtol=1e-5, atol=1e-6)


def test_a_batch_that_cannot_be_shared_equally_is_rounded_up(make_generator):
    generator, sequence = make_generator(batch_size=9)
    learn(generator, sequence, [0, 1], iterations=1, batch_size=9)
    generator.begin_task(2)
    _, tasks = generator.replay(0)
    assert tasks[0].bincount().tolist() == [5, 5]


def test_the_first_step_of_the_replay_model_follows_its_loss(make_generator):
    # Adam's first step is -lr sign(gradient): the sign of every gradient of the loss written by hand.
    generator, sequence = make_generator(epsilon=1.0e-12)
    generator.begin_task(0)
    x = sequence.training_stage(0, seen=False, iterations=1, batch_size=8)[0].x
    run = 1
    encoder = ordinary([value[run] for value in generator.encoder.weights.values()])
    decoder = decoder_of(generator, run, 0)
    noise = NormalNoise([1, 2], "encoder noise", 0, shape=(8, 4), device="cpu")[0][run]
    mean, log_variance = encoder(x[run]).split(4, dim=1)
    latent = mean + (log_variance / 2).exp() * noise
    logits = decoder(torch.cat([latent, torch.eye(5)[0].expand(8, -1)], dim=1))
    picture = nn.functional.binary_cross_entropy(logits.sigmoid(), x[run])
    posterior = Normal(mean, (log_variance / 2).exp())
    divergence = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean() / sequence.num_inputs
    gradients = torch.autograd.grad(picture + divergence, list(encoder.parameters()))
    before = generator.encoder.copy_weights()
    generator.step(x, x.shape[1], 0.0, 0)
    for then, now, gradient in zip(before, generator.encoder.weights.values(), gradients, strict=True):
        clear = gradient.abs() > 1e-7
        torch.testing.assert_close((now - then)[run][clear], -0.01 * gradient.sign()[clear], rtol=1e-2, atol=1e-5)


def test_the_replay_model_leaves_the_last_task_out_and_starts_its_optimisers_anew(make_generator):
    generator, sequence = make_generator()
    learn(generator, sequence, [0, 1])
    assert len(generator.hypernetwork.task_embeddings) == sequence.num_tasks - 1
    before = {name: value.clone() for name, value in tensors_of(generator.state_dict()).items()}
    learn(generator, sequence, [2])
    after = tensors_of(generator.state_dict())
    assert all(torch.equal(after[name], value) for name, value in before.items() if name != "/task")
    generator.begin_task(1)
    assert generator.encoder.optimiser.state_dict()["steps"] == 0


def test_learning_lowers_the_replay_models_loss(make_generator):
    generator, sequence = make_generator()

    def loss():
        generator._task = 0
        x = sequence.train_batch(0, sequence.training_set(0)[0], None).x
        mean, log_variance = generator.encoder.logits(x).chunk(2, dim=2)
        latent = torch.cat([mean, torch.eye(5)[0].expand(*mean.shape[:2], -1)], dim=2)
        reconstructed = generator.decoder.logits(generator.decoders(range(1)), latent)
        return vae_loss(reconstructed, x, mean, log_variance).mean(1).detach()

    x = sequence.train_batch(0, sequence.training_set(0)[0], None).x
    grey = nn.functional.binary_cross_entropy(x, x)  # what even a perfect copy of grey pixels leaves
    before = loss() - grey
    learn(generator, sequence, [0], iterations=150)
    assert (loss() - grey < before * 2 / 3).all()


def test_discriminator_and_decoder_take_the_steps_of_their_losses_in_turn(make_generator, monkeypatch):
    # Gradients are caught where they are handed over; the discriminator takes its step, and the decoder sees it.
    generator, sequence = make_generator(HypernetworkGAN, epsilon=1.0e-12)
    learn(generator, sequence, [0], iterations=3)
    generator.begin_task(1)
    x = sequence.training_stage(1, seen=False, iterations=1, batch_size=8)[0].x
    run, condition = 1, torch.eye(5)[1].expand(8, -1)
    decoder = decoder_of(generator, run, 1)
    noise = NormalNoise([1, 2], "decoder noise", 1, shape=(2, 8, 4), device="cpu")[0][run]

    def discriminator():
        return ordinary([value[run] for value in generator.discriminator.weights.values()])

    before, cross_entropy = discriminator(), nn.functional.binary_cross_entropy
    real = before(2 * x[run] - 1).sigmoid()
    fake = before(decoder(torch.cat([noise[0], condition], dim=1)).tanh().detach()).sigmoid()
    loss = cross_entropy(real, torch.full((8, 1), 0.9)) + cross_entropy(fake, torch.zeros(8, 1))
    gradients = torch.autograd.grad(loss, list(before.parameters()))

    found, handed_over, adam = [], [], generator.discriminator.optimiser
    step = adam.step
    monkeypatch.setattr(adam, "step", lambda by_name: (found.append(by_name), step(by_name)))
    monkeypatch.setattr(generator._trainer, "step", lambda by_weights, iteration: handed_over.append(by_weights))
    generator.step(x, 8, 0.0, 0)
    for gradient, expected in zip(found[0].values(), gradients, strict=True):
        torch.testing.assert_close(gradient[run], expected, rtol=1e-4, atol=1e-7)
    after = discriminator()
    assert not any(torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))
    fooled = after(decoder(torch.cat([noise[1], condition], dim=1)).tanh()).sigmoid()
    expected = torch.autograd.grad(cross_entropy(fooled, torch.ones(8, 1)), list(decoder.parameters()))
    flat = torch.cat([gradient.flatten() for gradient in expected])
    torch.testing.assert_close(handed_over[0][run][: len(flat)], flat, rtol=1e-4, atol=1e-7)
    assert (handed_over[0][run][len(flat) :] == 0).all()  # the surplus of the last chunk


# ---- the generator of deep generative replay ----------------------------------------------------------------------


def test_the_plain_generator_trains_as_torch_modules_do_and_its_log_variance_has_no_bias(make_generator):
    generator, sequence = make_generator(PlainVAE, epsilon=1.0e-3)
    run = 1
    encoder, decoder = (
        ordinary([value[run] for value in network.weights.values()]).double()
        for network in (generator.encoder, generator.decoder)
    )
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01, betas=(0.9, 0.999), eps=1e-3)
    for task in range(3):
        kept = ordinary([value for value in decoder.state_dict().values()]).double()  # the copy that replays
        generator.begin_task(task)
        stage = sequence.training_stage(task, seen=False, iterations=5, batch_size=8)
        for iteration in range(5):
            x = stage[iteration].x
            replayed = generator.replay(iteration)
            generator.step(with_replay(x, replayed), x.shape[1], 1 - 1 / (task + 1), iteration)
            images, weights = [x[run].double()], [1 / (task + 1)]
            if task:
                noise = NormalNoise([1, 2], "replay", task, shape=(8, 4), device="cpu")[iteration][run].double()
                images.append(kept(noise).sigmoid().detach())
                weights.append(1 - 1 / (task + 1))
                torch.testing.assert_close(replayed.x[run].double(), images[1], rtol=1e-3, atol=1e-4)
                assert replayed.tasks is None
            noise = NormalNoise([1, 2], "encoder noise", task, shape=(8 * len(images), 4), device="cpu")[iteration]
            loss = 0.0
            for part, weight, own in zip(images, weights, noise[run].double().split(8), strict=True):
                mean, log_variance = encoder(part).split(4, dim=1)
                logits = decoder(mean + (log_variance / 2).exp() * own)
                picture = nn.functional.binary_cross_entropy_with_logits(logits, part)
                divergence = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
                loss = loss + weight * (picture + divergence.sum(1).mean() / sequence.num_inputs)
            adam.zero_grad()
            loss.backward()
            encoder[-1].bias.grad[4:] = 0
            adam.step()
    for network, expected in ((generator.encoder, encoder), (generator.decoder, decoder)):
        for found, value in zip(network.weights.values(), expected.parameters(), strict=True):
            torch.testing.assert_close(found[run].double(), value, rtol=1e-3, atol=1e-5)
    last_bias = list(generator.encoder.weights.values())[-1]
    assert (last_bias[:, 4:] == 0).all() and (last_bias[:, :4] != 0).all()
