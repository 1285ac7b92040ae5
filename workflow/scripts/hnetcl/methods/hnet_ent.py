"""HNET+ENT: a task-conditioned hypernetwork under the output regulariser; the task is inferred by least entropy.

von Oswald et al. 2020, sections 2 and 3. In CL1 the embedding and the head of the given task are used. In CL2 and CL3
every learned task's network sees the sample and the one whose prediction has the least entropy answers for it.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hnetcl.hypernetwork import ChunkedHypernetwork
from hnetcl.layers import cross_entropy
from hnetcl.methods.interface import Method, Prediction, Predictor
from hnetcl.optimiser import Adam
from hnetcl.regulariser import FORMS, ExactRegulariser, choose_form, draw_subsets
from hnetcl.target import TargetMLP


class HypernetworkEntropy(Method):
    """See the module."""

    def __init__(self, spec, sequence):
        super().__init__(spec, sequence)
        self.target = TargetMLP((sequence.num_inputs, *spec.target.hidden, self.num_outputs), spec.target.activation)
        self.hypernetwork = ChunkedHypernetwork(
            sequence.seeds,
            sequence.num_tasks,
            self.target.num_weights,
            **spec.settings["hypernetwork"],
            device=sequence.device,
        )
        self._task = -1
        self._snapshot: dict[str, Tensor] = {}

    def begin_task(self, task):
        """Take the snapshot, start Adam anew, choose the regulariser."""
        self._start(task, {name: value.detach().clone() for name, value in self.hypernetwork.shared.items()})

    def _start(self, task: int, snapshot: Mapping[str, Tensor]) -> None:
        self._task, self._snapshot = task, dict(snapshot)
        trained = {**self.hypernetwork.shared, "task_embedding": self.hypernetwork.task_embeddings[task]}
        adam = self.spec.optimisation
        self._adam = Adam(trained, adam.learning_rate, adam.betas, adam.epsilon)
        self._regulariser = self._make_regulariser(task) if task else None

    def _make_regulariser(self, task: int):
        settings = self.spec.settings["regulariser"]
        if settings["beta"] == 0:
            return None
        subsets = None
        if settings["tasks"] != "all":
            subsets = draw_subsets(self.sequence.seeds, task, settings["tasks"], self.spec.optimisation.iterations)
        held = task if subsets is None else settings["tasks"]
        form = FORMS.get(settings["form"]) or choose_form(self.hypernetwork, held)
        own_head = settings["outputs"] == "own_head"
        counted = [
            self.target.output_ranges(self.head(t)) if own_head else [(0, self.target.num_weights)] for t in range(task)
        ]
        if subsets is not None:
            subsets = subsets.to(self.sequence.device)
        return form(self.hypernetwork, self._snapshot, settings["beta"], counted, subsets)

    def step(self, batch, iteration):
        """One iteration of section 2.1: task gradient, look-ahead, regulariser gradient there, one Adam step."""
        hypernetwork = self.hypernetwork
        embedding = hypernetwork.task_embeddings[self._task]
        flat = hypernetwork.weights(hypernetwork.features(embedding.unsqueeze(1))).flatten(1)
        logits = self.target.logits(self.target.unpack(flat), batch.x, self.head(self._task))
        loss = cross_entropy(logits, batch.labels)
        trained = self._adam.parameters
        found = torch.autograd.grad(loss.sum(), trained.values())
        gradients = dict(zip(trained, found, strict=True))
        if self._regulariser is not None:
            shifted = {
                name: self._adam.look_ahead(name, gradients[name], self._workspace(name))
                for name in hypernetwork.shared
            }
            self._regulariser.value_and_add_gradient(shifted, gradients, iteration)
        self._adam.step(gradients)
        return loss.detach()

    def _workspace(self, name: str) -> Tensor | None:
        exact = isinstance(self._regulariser, ExactRegulariser)
        return self._regulariser.output_workspace if exact and name == "output" else None

    @torch.no_grad()
    def _task_networks(self, tasks: Sequence[int]) -> list[Tensor]:
        """Return the networks of ``tasks``, each with its own head only, stacked: ``[R * tasks, *shape]``."""
        hypernetwork = self.hypernetwork
        flat = hypernetwork.weights(hypernetwork.features(hypernetwork.embeddings(tasks)))
        *hidden, weight, bias = self.target.unpack(flat.flatten(0, 1))
        units = torch.stack([torch.arange(self.num_outputs)[self.head(task)] for task in tasks])
        units = units.to(weight.device).repeat(len(flat), 1)  # [R * tasks, classes of a task]
        rows = torch.arange(len(units), device=weight.device).unsqueeze(1)
        return [*hidden, weight[rows, units], bias[rows, units]]

    def predictor(self, scenario, learned):
        """See ``Method``."""
        return self._given_task() if scenario == "cl1" else self._least_entropy(learned)

    def _given_task(self) -> Predictor:
        networks: dict[int, list[Tensor]] = {}

        def predict(x: Tensor, task: int) -> Prediction:
            if task not in networks:
                networks.clear()  # one network at a time: they are as large as the target network
                networks[task] = self._task_networks([task])
            return Prediction(self.target.logits(networks[task], x).argmax(2))

        return predict

    def _least_entropy(self, learned: int) -> Predictor:
        networks = self._task_networks(range(learned))
        temperature = self.spec.settings["inference_temperature"]

        def predict(x: Tensor, task: int) -> Prediction:
            runs, samples, _ = x.shape
            every = x.unsqueeze(1).expand(-1, learned, -1, -1).flatten(0, 1)
            logits = self.target.logits(networks, every).view(runs, learned, samples, -1)
            inferred = predictive_entropy(logits / temperature).argmin(1)
            labels = logits.argmax(3).gather(1, inferred.unsqueeze(1)).squeeze(1)
            return Prediction(labels, inferred)

        return predict

    def predicts_unseen_tasks(self, scenario):
        """Only a given task's network can be asked for before the task was learned."""
        return scenario == "cl1"

    def parameter_counts(self):
        """Count theta_h and all task embeddings as trainable, as the published compression ratio does."""
        return {"trainable": self.hypernetwork.num_parameters, "target": self.target.num_weights}

    def state_dict(self):
        """See ``Method``."""
        return {
            "task": self._task,
            "hypernetwork": self.hypernetwork.state_dict(),
            "snapshot": self._snapshot,
            "adam": self._adam.state_dict(),
        }

    def load_state_dict(self, state):
        """See ``Method``."""
        self.hypernetwork.load_state_dict(state["hypernetwork"])
        self._start(state["task"], state["snapshot"])
        self._adam.load_state_dict(state["adam"])


def predictive_entropy(logits: Tensor) -> Tensor:
    """Return -sum p log p over the last dimension, in float64 from the log-softmax.

    From probabilities, as published, 0 * log 0 gives NaN as soon as one of them underflows in float32.
    """
    log_p = logits.double().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)
