"""The methods against small networks written by hand."""

import copy
from itertools import pairwise

import pytest
import torch
from scipy.stats import entropy
from torch import nn
from torch.distributions import Categorical
from torch.nn import functional

from conftest import PERMUTED, REPOSITORY
from hnetcl.catalogue import METHODS
from hnetcl.data import load_digits
from hnetcl.evaluation import evaluate
from hnetcl.methods.inference import predictive_entropy
from hnetcl.spec import load_experiment
from hnetcl.tasks import TaskSequence

HNET = "methods.hnet_ent"
PER_SEED = {"sequence.assignment": "per_seed"}
# A larger epsilon: where a gradient is all rounding error, Adam's step would be too.
CALM = {"optimisation.epsilon": 1.0e-3}


@pytest.fixture
def build(make_spec, dataset):
    """Return a method and its sequence for a pack of seeds."""

    def make(method="hnet_ent", training="cl1-cl3", changes=None, seeds=(1, 2)):
        spec = make_spec(method, training, changes)
        sequence = TaskSequence(spec, list(seeds), dataset)
        return METHODS[method].load()(spec, sequence), sequence

    return make


def learn(method, sequence, tasks, iterations=None):
    """Train on ``tasks`` and return the losses, ``[iterations, R]``."""
    optimisation = method.spec.optimisation
    losses = []
    for task in tasks:
        method.begin_task(task)
        stage = sequence.training_stage(
            task,
            seen=method.trains_on_seen_tasks,
            iterations=optimisation.iterations,
            batch_size=optimisation.batch_size,
        )
        for iteration in range(optimisation.iterations if iterations is None else iterations):
            losses.append(method.step(stage[iteration], iteration))
        method.end_task(task)
    return torch.stack(losses)


def every_test_sample(sequence, task, run):
    """Inputs and labels of one run's test set."""
    samples, valid = sequence.test_set(task)
    batch = sequence.test_batch(task, samples)
    return batch.x[run][valid[run]], batch.labels[run][valid[run]]


def plain_mlp(tensors, activation=nn.ReLU):
    """An ordinary network with the weights ``[W1, b1, W2, b2, ...]``."""
    modules = []
    for weight, bias in zip(tensors[::2], tensors[1::2], strict=True):
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight, linear.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
        modules += [linear, activation()]
    return nn.Sequential(*modules[:-1])


# ---- HNET+ENT: training -------------------------------------------------------------------------------------------


class HandWrittenRun:
    """One seed of section 2.1 of the paper: an ordinary network, torch's Adam, everything generated, in float64."""

    def __init__(self, method, sequence, run):
        state = {name: value[run].double() for name, value in method.classifier.hypernetwork.state_dict().items()}
        affine = [name for name in state if name.startswith("hidden_")] + ["output"]
        tensors = [t for name in affine for t in (state[name][:-1].T, state[name][-1])]
        self.network = plain_mlp(tensors, nn.ELU).double()
        self.chunks = nn.Parameter(state["chunk_embeddings"].clone())
        self.embeddings = [nn.Parameter(state[f"task_{task}"].clone()) for task in range(sequence.num_tasks)]
        hidden = method.spec.target.hidden
        self.sizes = [sequence.num_inputs, *hidden, method.classifier.outputs.count]
        self.shared_head = method.spec.scenarios == ("cl2",)
        self.classes = sequence.classes_per_task
        self.run, self.spec = run, method.spec

    def shared(self):
        return [self.chunks, *self.network.parameters()]

    def generate(self, embedding, stored=None):
        network, chunks = stored or (self.network, self.chunks)
        rows = [network(torch.cat([embedding, chunk])) for chunk in chunks]
        count = sum(a * b + b for a, b in pairwise(self.sizes))
        return torch.cat(rows)[:count]

    def logits(self, task, x):
        flat, used = self.generate(self.embeddings[task]), 0
        for layer, (fan_in, fan_out) in enumerate(pairwise(self.sizes)):
            x = x if layer == 0 else torch.relu(x)
            weight = flat[used : used + fan_in * fan_out].view(fan_out, fan_in)
            used += fan_in * fan_out
            x = functional.linear(x, weight, flat[used : used + fan_out])
            used += fan_out
        return x if self.shared_head else x[:, task * self.classes : (task + 1) * self.classes]

    def learn(self, task, stage, iterations, beta):
        settings = self.spec.optimisation
        adam_settings = {"lr": settings.learning_rate, "betas": settings.betas, "eps": settings.epsilon}
        adam = torch.optim.Adam(self.shared(), **adam_settings, foreach=False)
        embedding_adam = torch.optim.Adam([self.embeddings[task]], **adam_settings, foreach=False)
        before = copy.deepcopy((self.network, self.chunks))
        losses = []
        for iteration in range(iterations):
            batch = stage[iteration]
            logits = self.logits(task, batch.x[self.run].double())
            loss = functional.cross_entropy(logits, batch.labels[self.run])
            losses.append(loss.detach())
            adam.zero_grad()
            embedding_adam.zero_grad()
            loss.backward()
            if task:
                of_task = [parameter.grad.clone() for parameter in self.shared()]
                parameters = [parameter.detach().clone() for parameter in self.shared()]
                state = copy.deepcopy(adam.state_dict())
                adam.step()  # where Adam would go on the task alone ...
                adam.load_state_dict(state)
                adam.zero_grad()
                penalty = 0
                for earlier in range(task):
                    embedding = self.embeddings[earlier].detach()
                    change = self.generate(embedding) - self.generate(embedding, before).detach()
                    penalty = penalty + change.square().sum()
                (beta / task * penalty).backward()  # ... is where the regulariser is derived
                with torch.no_grad():
                    for parameter, value, gradient in zip(self.shared(), parameters, of_task, strict=True):
                        parameter.copy_(value)
                        parameter.grad += gradient
            adam.step()
            embedding_adam.step()
        return torch.stack(losses)

    def state(self):
        layers = [m for m in self.network if isinstance(m, nn.Linear)]
        affine = [torch.cat([m.weight.T, m.bias.unsqueeze(0)]).detach() for m in layers]
        names = [f"hidden_{n}" for n in range(len(affine) - 1)] + ["output"]
        embeddings = {f"task_{t}": e.detach() for t, e in enumerate(self.embeddings)}
        return {"chunk_embeddings": self.chunks.detach(), **dict(zip(names, affine, strict=True)), **embeddings}


@pytest.mark.parametrize("training", ["cl1-cl3", "cl2"])
@pytest.mark.parametrize("form", ["exact", "explicit", "auto"])
def test_training_follows_the_papers_algorithm_written_by_hand(build, training, form):
    beta, iterations = 0.3, 8
    changes = CALM | {f"{HNET}.regulariser.form": form, f"{HNET}.regulariser.beta": beta}
    method, sequence = build(training=training, changes=changes)
    by_hand = [HandWrittenRun(method, sequence, run) for run in range(2)]
    for task in range(3):
        before = method.classifier.hypernetwork.shared["output"].detach().clone()
        losses = learn(method, sequence, [task], iterations)
        settings = method.spec.optimisation
        stage = sequence.training_stage(
            task, seen=False, iterations=settings.iterations, batch_size=settings.batch_size
        )
        for run, single in enumerate(by_hand):
            expected = single.learn(task, stage, iterations, beta)
            torch.testing.assert_close(losses[:, run].double(), expected, rtol=1e-4, atol=1e-5)
            for name, value in single.state().items():
                found = method.classifier.hypernetwork.state_dict()[name][run].double()
                torch.testing.assert_close(found, value, rtol=1e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")
        # The comparison is about something: parameters moved by much more than it allows.
        assert (method.classifier.hypernetwork.shared["output"] - before).abs().max() > 1e-2


def test_first_task_takes_the_adam_step_of_a_single_ordinary_network(build):
    method, sequence = build(changes=CALM, seeds=[7])
    single = HandWrittenRun(method, sequence, 0)
    losses = learn(method, sequence, [0], 1)
    stage = sequence.training_stage(0, seen=False, iterations=20, batch_size=8)
    torch.testing.assert_close(losses[:, 0].double(), single.learn(0, stage, 1, 0.01), rtol=1e-5, atol=1e-6)
    for name, value in single.state().items():
        found = method.classifier.hypernetwork.state_dict()[name][0].double()
        torch.testing.assert_close(found, value, rtol=1e-6, atol=1e-6)


def change_of_first_network(build, beta, **regulariser):
    changes = {f"{HNET}.regulariser.{key}": value for key, value in (regulariser | {"beta": beta}).items()}
    method, sequence = build(changes=changes)

    def first_network():
        hypernetwork = method.classifier.hypernetwork
        with torch.no_grad():
            return hypernetwork.weights(hypernetwork.features(hypernetwork.embeddings([0])))[:, 0].clone()

    learn(method, sequence, [0])
    before = first_network()
    learn(method, sequence, [1, 2])
    return (first_network() - before)[:, : method.classifier.target.num_weights], method


@pytest.mark.parametrize("form", ["exact", "explicit"])
def test_the_stronger_the_regulariser_the_less_earlier_networks_move(build, form):
    moved = [change_of_first_network(build, beta, form=form)[0].norm(dim=1) for beta in (0, 0.01, 1, 100)]
    for stronger, weaker in zip(moved[1:], moved, strict=False):
        assert (stronger < weaker).all()
    assert (moved[-1] < 0.2 * moved[0]).all()


@pytest.mark.parametrize("form", ["exact", "explicit"])
def test_without_looking_ahead_the_regulariser_does_nothing_in_a_tasks_first_iteration(build, form):
    regularisers = {
        "ahead": {"beta": 100.0, "form": form},
        "present": {"beta": 100.0, "form": form, "look_ahead": False},
        "none": {"beta": 0.0, "form": form},
    }
    after = {}
    for name, settings in regularisers.items():
        changes = {f"{HNET}.regulariser.{key}": value for key, value in settings.items()}
        method, sequence = build(changes=CALM | changes)
        learn(method, sequence, [0])
        learn(method, sequence, [1], iterations=1)
        after[name] = method.classifier.hypernetwork.shared["output"].detach()
    torch.testing.assert_close(after["present"], after["none"])
    assert (after["ahead"] - after["none"]).abs().max() > 1e-4


def test_an_embedding_can_start_where_the_previous_task_left_its_own(build):
    method, sequence = build(changes={f"{HNET}.hypernetwork.embedding_start": "previous"})
    learn(method, sequence, [0])
    embeddings = method.classifier.hypernetwork.task_embeddings
    assert not torch.equal(embeddings[1], embeddings[0])
    method.begin_task(1)
    assert torch.equal(embeddings[1], embeddings[0])


def test_noise_on_an_embedding_is_another_one_in_every_iteration_and_depends_on_the_seed_alone(build):
    noisy = {f"{HNET}.hypernetwork.embedding_noise": 0.5}
    (method, _), (again, _), (alone, _), (plain, _) = (
        build(changes=noisy),
        build(changes=noisy),
        build(changes=noisy, seeds=[2]),
        build(),
    )
    for each in (method, again, alone, plain):
        each.begin_task(0)
    weights = [method.classifier._trainer.weights(iteration) for iteration in range(40)]
    assert all(not torch.equal(weights[0], other) for other in weights[1:])
    assert torch.equal(weights[7], again.classifier._trainer.weights(7))
    torch.testing.assert_close(weights[7][1:], alone.classifier._trainer.weights(7))
    assert not torch.equal(weights[7], plain.classifier._trainer.weights(7))
    assert torch.equal(plain.classifier._trainer.weights(0), plain.classifier._trainer.weights(7))


def test_only_its_own_head_holds_an_earlier_task_where_that_is_asked_for(build):
    held, method = change_of_first_network(build, 100.0, outputs="own_head")
    *_, weight, _ = method.classifier.target.unpack(held)
    own, others = weight[:, method.classifier.outputs.head(0)], weight[:, method.classifier.outputs.head(0).stop :]
    all_held, _ = change_of_first_network(build, 100.0, outputs="all")
    *_, all_weight, _ = method.classifier.target.unpack(all_held)
    assert others.abs().mean() > 1.5 * own.abs().mean()
    assert others.abs().mean() > 1.5 * all_weight[:, method.classifier.outputs.head(0).stop :].abs().mean()


def test_only_the_embedding_of_the_present_task_is_trained(build):
    method, sequence = build()
    for task in range(3):
        before = [e.detach().clone() for e in method.classifier.hypernetwork.task_embeddings]
        learn(method, sequence, [task])
        for other, (now, then) in enumerate(zip(method.classifier.hypernetwork.task_embeddings, before, strict=True)):
            assert torch.equal(now, then) == (other != task)


def test_chunk_embeddings_and_every_layer_are_trained_in_every_task(build):
    method, sequence = build()
    for task in range(3):
        before = {name: value.detach().clone() for name, value in method.classifier.hypernetwork.shared.items()}
        learn(method, sequence, [task])
        for name, value in method.classifier.hypernetwork.shared.items():
            assert ((value - before[name]).flatten(1).norm(dim=1) > 0).all(), name


def test_the_published_subset_of_tasks_is_all_of_them_where_there_are_no_more(build):
    trained = []
    for tasks in ("all", 2, 5):
        method, sequence = build(changes={f"{HNET}.regulariser.tasks": tasks})
        learn(method, sequence, [0, 1, 2])
        trained.append(method.classifier.hypernetwork.state_dict())
    for name, value in trained[0].items():
        assert torch.equal(value, trained[1][name]) and torch.equal(value, trained[2][name])
    method, sequence = build(changes={f"{HNET}.regulariser.tasks": 1})
    learn(method, sequence, [0, 1, 2])
    assert not torch.equal(method.classifier.hypernetwork.state_dict()["output"], trained[0]["output"])


def test_the_seed_of_a_pack_ends_where_it_ends_alone(build):
    changes = CALM | PER_SEED
    seeds = [3, 1, 4, 15, 9, 2, 6, 7]
    pack, pack_sequence = build(changes=changes, seeds=seeds)
    alone, sequence = build(changes=changes, seeds=[7])
    pack_losses, losses = learn(pack, pack_sequence, range(3)), learn(alone, sequence, range(3))
    torch.testing.assert_close(pack_losses[:, -1], losses[:, 0], rtol=1e-3, atol=1e-4)
    for name, value in alone.classifier.hypernetwork.state_dict().items():
        torch.testing.assert_close(pack.classifier.hypernetwork.state_dict()[name][-1], value[0], rtol=1e-3, atol=1e-4)
    for scenario in ("cl1", "cl3"):
        of_pack, of_one = evaluate(pack, pack_sequence, scenario, 3), evaluate(alone, sequence, scenario, 3)
        for values, expected in zip(of_pack, of_one, strict=True):
            assert values[-1] == expected[0]


def test_at_the_settings_of_the_demo_seed_7_ends_the_same_alone_and_in_a_pack_of_8():
    spec = load_experiment(REPOSITORY / "config" / "experiments" / "split_digits.yaml").spec("hnet_ent", "cl1-cl3", 7)
    digits = load_digits()
    ends = []
    for seeds in ([7], [1, 2, 3, 4, 5, 6, 7, 8]):
        sequence = TaskSequence(spec, seeds, digits)
        method = METHODS[spec.method].load()(spec, sequence)
        for task in range(2):
            stage = sequence.training_stage(task, seen=False, iterations=120, batch_size=32)
            method.begin_task(task)
            for iteration in range(120):
                method.step(stage[iteration], iteration)
        run = seeds.index(7)
        state = {name: value[run] for name, value in method.classifier.hypernetwork.state_dict().items()}
        ends.append((state, [part[run] for part in evaluate(method, sequence, "cl3", 2)]))
    (alone, accuracy), (packed, packed_accuracy) = ends
    for name, value in alone.items():
        torch.testing.assert_close(packed[name], value, rtol=1e-5, atol=1e-5)
    assert packed_accuracy == accuracy


@pytest.mark.parametrize("method", ["fine_tune", "joint"])
@pytest.mark.parametrize("training", ["cl1", "cl2", "cl3"])
def test_the_seed_of_a_pack_of_plain_networks_ends_where_it_ends_alone(build, method, training):
    changes = CALM | PER_SEED
    pack, pack_sequence = build(method, training, changes, [3, 1, 4, 15, 9, 2, 6, 7])
    alone, sequence = build(method, training, changes, [7])
    learn(pack, pack_sequence, range(3))
    learn(alone, sequence, range(3))
    for name, value in alone.weights.items():
        torch.testing.assert_close(pack.weights[name][-1], value[0], rtol=1e-4, atol=1e-5)
    assert evaluate(pack, pack_sequence, training, 3)[0][-1] == evaluate(alone, sequence, training, 3)[0][0]


# ---- HNET+ENT: inference ------------------------------------------------------------------------------------------


def generated_network(method, run, task):
    """The target network of one task as an ordinary one."""
    hypernetwork = method.classifier.hypernetwork
    with torch.no_grad():
        flat = hypernetwork.weights(hypernetwork.features(hypernetwork.embeddings([task])))[run, 0]
    sizes = method.classifier.target.sizes
    tensors, used = [], 0
    for fan_in, fan_out in pairwise(sizes):
        tensors += [flat[used : used + fan_in * fan_out].view(fan_out, fan_in)]
        used += fan_in * fan_out
        tensors += [flat[used : used + fan_out]]
        used += fan_out
    return plain_mlp(tensors)


@pytest.mark.parametrize("sequence_kind", ["split", "permuted"])
@pytest.mark.parametrize("training, scenario", [("cl2", "cl2"), ("cl1-cl3", "cl3")])
@pytest.mark.parametrize("learned", [1, 2, 3])
def test_the_least_entropy_answers_sample_by_sample(build, sequence_kind, training, scenario, learned):
    changes = {f"{HNET}.inference_temperature": 1.7} | (
        PER_SEED if sequence_kind == "split" else {"sequence": PERMUTED}
    )
    method, sequence = build(training=training, changes=changes)
    learn(method, sequence, range(learned), iterations=10)
    predict = method.predictor(scenario, learned)
    accuracy, inference = evaluate(method, sequence, scenario, learned)
    classes = sequence.classes_per_task
    told_apart = set()
    for run in range(2):
        networks = [generated_network(method, run, task) for task in range(learned)]
        for task in range(learned):
            x, labels = every_test_sample(sequence, task, run)
            found = predict(torch.stack([x, x]), task)
            right = told = 0
            for sample, label in enumerate(labels):
                answers = []
                for other, network in enumerate(networks):
                    head = slice(0, classes) if scenario == "cl2" else slice(other * classes, (other + 1) * classes)
                    with torch.no_grad():
                        logits = network(x[sample])[head].double()
                    answers.append((entropy((logits / 1.7).softmax(0).numpy()), logits.argmax().item()))
                inferred = min(range(learned), key=lambda t: answers[t][0])
                assert found.tasks[run, sample] == inferred
                assert found.labels[run, sample] == answers[inferred][1]
                told_apart.add(inferred)
                told += inferred == task
                right += answers[inferred][1] == label.item() and (scenario == "cl2" or inferred == task)
            assert accuracy[run][task] == pytest.approx(100 * right / len(labels), rel=1e-6)
            assert inference[run][task] == pytest.approx(100 * told / len(labels), rel=1e-6)
    assert told_apart == set(range(learned))
    assert all(value is None for row in accuracy for value in row[learned:])


def test_a_given_task_is_answered_by_its_own_network_and_head(build):
    method, sequence = build(changes=PER_SEED)
    learn(method, sequence, range(2), iterations=10)
    predict = method.predictor("cl1", 2)
    accuracy, inference = evaluate(method, sequence, "cl1", 2)
    for run in range(2):
        for task in (2, 0, 1):  # also one that is yet to be learned
            x, labels = every_test_sample(sequence, task, run)
            with torch.no_grad():
                expected = generated_network(method, run, task)(x)[:, 2 * task : 2 * task + 2].argmax(1)
            found = predict(torch.stack([x, x]), task)
            assert found.tasks is None
            assert torch.equal(found.labels[run], expected)
            share = 100 * (expected == labels).double().mean().item()
            assert accuracy[run][task] == pytest.approx(share, rel=1e-6)
    assert inference == [[None] * 3] * 2


def test_entropy_is_that_of_the_categorical_distribution():
    torch.manual_seed(0)
    logits = 5 * torch.randn(4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(predictive_entropy(logits), Categorical(logits=logits).entropy(), rtol=1e-12, atol=0)
    by_scipy = torch.from_numpy(entropy(logits.softmax(-1).numpy(), axis=-1))
    torch.testing.assert_close(predictive_entropy(logits), by_scipy, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("gap", [50.0, 104.0, 300.0, 700.0, 1000.0, 1e30])
def test_entropy_is_finite_and_ordered_where_probabilities_underflow(gap):
    logits = torch.tensor([[0.0, gap], [gap, 0.0], [0.0, 1.0]])
    found = predictive_entropy(logits)
    assert found.isfinite().all() and (found >= 0).all()
    assert found[2] > found[0]
    if gap <= 300:  # (1 + gap) exp(-gap), the first order of -p log p - q log q
        assert found[0].item() == pytest.approx((1 + gap) * torch.tensor(-gap).double().exp().item(), rel=1e-6)


# ---- the bounds ---------------------------------------------------------------------------------------------------


def mask(scenario, task, sample_task, classes):
    """Units of the softmax, and the first unit of the sample's own task."""
    own = sample_task * classes
    return {
        "cl1": (slice(own, own + classes), 0),
        "cl2": (slice(0, classes), 0),
        "cl3": (slice(0, (task + 1) * classes), own),
    }[scenario]


@pytest.mark.parametrize("name", ["fine_tune", "joint"])
@pytest.mark.parametrize("scenario", ["cl1", "cl2", "cl3"])
@pytest.mark.parametrize("reset", [False, True])
def test_bounds_train_as_an_ordinary_network_with_the_softmax_masked_by_hand(build, name, scenario, reset):
    iterations = 6
    changes = CALM | PER_SEED | {f"methods.{name}.reset_optimiser": reset}
    method, sequence = build(name, scenario, changes)
    initial = [value.detach().clone() for value in method.weights.values()]
    losses = learn(method, sequence, range(3), iterations).view(3, iterations, 2)
    settings = method.spec.optimisation
    classes = sequence.classes_per_task
    for run in range(2):
        network = plain_mlp([value[run] for value in initial])
        assert network[-1].out_features == (classes if scenario == "cl2" else 3 * classes)

        def new_adam(parameters):
            return torch.optim.Adam(
                parameters, lr=settings.learning_rate, betas=settings.betas, eps=settings.epsilon, foreach=False
            )

        adam = new_adam(network.parameters())
        for task in range(3):
            if reset:
                adam = new_adam(network.parameters())
            stage = sequence.training_stage(
                task, seen=name == "joint", iterations=settings.iterations, batch_size=settings.batch_size
            )
            for iteration in range(iterations):
                batch = stage[iteration]
                loss = 0
                for x, label, sample_task in zip(
                    batch.x[run], batch.labels[run], batch.tasks[run].tolist(), strict=True
                ):
                    units, first = mask(scenario, task, sample_task, classes)
                    loss = loss - network(x)[units].log_softmax(0)[first + label] / len(batch.x[run])
                torch.testing.assert_close(losses[task, iteration, run], loss.detach(), rtol=1e-4, atol=1e-5)
                adam.zero_grad()
                loss.backward()
                adam.step()
        for found, expected in zip(method.weights.values(), network.parameters(), strict=True):
            torch.testing.assert_close(found[run], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["fine_tune", "joint"])
@pytest.mark.parametrize("scenario", ["cl1", "cl2", "cl3"])
def test_bounds_are_tested_sample_by_sample_on_the_units_of_the_scenario(build, name, scenario):
    method, sequence = build(name, scenario, PER_SEED)
    learn(method, sequence, range(2))
    accuracy, _ = evaluate(method, sequence, scenario, 2)
    classes = sequence.classes_per_task
    for run in range(2):
        network = plain_mlp([value.detach()[run] for value in method.weights.values()])
        for task in range(3):
            if scenario == "cl3" and task == 2:
                assert accuracy[run][task] is None
                continue
            x, labels = every_test_sample(sequence, task, run)
            right = 0
            for sample, label in zip(x, labels.tolist(), strict=True):
                # In CL3 all units compete, also those of classes to come (van de Ven & Tolias).
                units = slice(None) if scenario == "cl3" else mask(scenario, 2, task, classes)[0]
                unit = label + (task * classes if scenario == "cl3" else 0)
                right += network(sample)[units].argmax().item() == unit
            assert accuracy[run][task] == pytest.approx(100 * right / len(labels), rel=1e-6)


def test_joint_training_remembers_what_fine_tuning_forgets(build):
    changes = {"optimisation.iterations": 150}
    first_task = {}
    for name in ("fine_tune", "joint"):
        method, sequence = build(name, "cl3", changes)
        learn(method, sequence, range(3))
        accuracy, _ = evaluate(method, sequence, "cl3", 3)
        first_task[name] = [row[0] for row in accuracy]
    assert max(first_task["fine_tune"]) < 20  # its units have been pushed down since
    assert min(first_task["joint"]) > 80


@pytest.mark.parametrize("name", ["fine_tune", "joint"])
def test_bounds_start_uniform_within_one_over_the_root_of_the_fan_in(build, name):
    method, _ = build(name, "cl1", {"target.hidden": [300, 200]})
    for weight, bias in zip(list(method.weights.values())[::2], list(method.weights.values())[1::2], strict=True):
        bound = weight.shape[2] ** -0.5
        for tensor in (weight, bias):
            assert tensor.abs().max() <= bound
        assert weight.abs().max() > 0.98 * bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        assert bias.abs().max() > 0.5 * bound


# ---- state --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, training, changes",
    [
        ("hnet_ent", "cl1-cl3", {}),
        ("hnet_ent", "cl2", {f"{HNET}.regulariser.form": "explicit", f"{HNET}.regulariser.outputs": "own_head"}),
        ("hnet_ent", "cl1-cl3", {f"{HNET}.regulariser.tasks": 1}),
        ("fine_tune", "cl3", {}),
        ("joint", "cl1", {"methods.joint.reset_optimiser": True}),
    ],
)
def test_a_method_restored_in_the_middle_of_a_task_goes_on_exactly(build, name, training, changes):
    original, sequence = build(name, training, changes)
    learn(original, sequence, [0, 1])
    settings = original.spec.optimisation
    stage = sequence.training_stage(
        2, seen=original.trains_on_seen_tasks, iterations=settings.iterations, batch_size=settings.batch_size
    )
    original.begin_task(2)
    for iteration in range(7):
        original.step(stage[iteration], iteration)
    restored, _ = build(name, training, changes)
    restored.load_state_dict(copy.deepcopy(original.state_dict()))
    for iteration in range(7, 20):
        loss, again = original.step(stage[iteration], iteration), restored.step(stage[iteration], iteration)
        assert torch.equal(loss, again)


# ---- a network for every task --------------------------------------------------------------------------------------


def separate_network(method, run, task):
    """The network of one task as an ordinary one."""
    return plain_mlp([value[run].detach() for value in method.networks[task].weights.values()])


@pytest.mark.parametrize("initialisation", ["xavier", "fan_in"])
def test_a_separate_network_is_trained_as_an_ordinary_one(build, initialisation):
    changes = PER_SEED | {"methods.separate.initialisation": initialisation}
    method, sequence = build("separate", "cl1-cl2-cl3", changes)
    optimisation = method.spec.optimisation
    ordinary = [separate_network(method, run, 1) for run in range(2)]
    learn(method, sequence, [0, 1], iterations=7)
    stage = sequence.training_stage(1, seen=False, iterations=optimisation.iterations, batch_size=8)
    for run, network in enumerate(ordinary):
        bias, (fan_out, fan_in) = network[0].bias, network[0].weight.shape
        bound = (6 / (fan_in + fan_out)) ** 0.5 if initialisation == "xavier" else fan_in**-0.5
        assert 0.8 * bound < network[0].weight.abs().max() <= bound
        assert (bias.abs().max() == 0) == (initialisation == "xavier")
        adam = torch.optim.Adam(network.parameters(), optimisation.learning_rate)
        for iteration in range(7):
            batch = stage[iteration]
            adam.zero_grad()
            functional.cross_entropy(network(batch.x[run]), batch.labels[run]).backward()
            adam.step()
        expected = [value.detach() for value in network.parameters()]
        for value, wanted in zip(separate_network(method, run, 1).parameters(), expected, strict=True):
            torch.testing.assert_close(value.detach(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scenario", ["cl1", "cl2", "cl3"])
def test_separate_networks_are_left_alone_and_the_least_uncertain_one_answers(build, scenario):
    changes = PER_SEED | {"methods.separate.inference_temperature": 1.7}
    method, sequence = build("separate", "cl1-cl2-cl3", changes)
    learn(method, sequence, [0])
    first = method.networks[0].copy_weights()
    learn(method, sequence, [1, 2])
    for value, before in zip(method.networks[0].copy_weights(), first, strict=True):
        assert torch.equal(value, before)
    predict = method.predictor(scenario, 3)
    for run in range(2):
        networks = [separate_network(method, run, task) for task in range(3)]
        for task in range(3):
            x, _ = every_test_sample(sequence, task, run)
            found = predict(torch.stack([x, x]), task)
            with torch.no_grad():
                logits = torch.stack([network(x).double() for network in networks])
            if scenario == "cl1":
                assert found.tasks is None
                assert torch.equal(found.labels[run], logits[task].argmax(1))
            else:
                chosen = torch.from_numpy(entropy((logits / 1.7).softmax(2).numpy(), axis=2)).argmin(0)
                assert torch.equal(found.tasks[run], chosen)
                assert torch.equal(found.labels[run], logits.argmax(2)[chosen, torch.arange(len(x))])
    assert method.answers(scenario, 2, 1) == (scenario == "cl1")
    size = sum(value[0].numel() for value in method.networks[0].weights.values())
    assert method.parameter_counts("cl1") == {"trainable": 3 * size, "target": size}
