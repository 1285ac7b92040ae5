"""HNET+ENT: a task-conditioned hypernetwork under the output regulariser; the task is inferred by least entropy.

von Oswald et al. 2020, sections 2 and 3. In CL1 the embedding and the head of the given task are used. In CL2 and CL3
every learned task's network sees the sample and the one whose prediction has the least entropy answers for it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hnetcl.hypernetwork import ChunkedHypernetwork
from hnetcl.layers import cross_entropy, named_gradients
from hnetcl.methods.interface import Method, Prediction, Predictor
from hnetcl.protection import ProtectedHypernetwork
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
        own_head = spec.settings["regulariser"]["outputs"] == "own_head"
        self._trainer = ProtectedHypernetwork(
            self.hypernetwork,
            sequence.seeds,
            spec.optimisation,
            spec.settings["regulariser"],
            (lambda task: self.target.output_ranges(self.head(task))) if own_head else None,
        )

    def begin_task(self, task):
        """Take the snapshot, start Adam anew."""
        self._task = task
        self._trainer.begin_task(task)

    def step(self, batch, iteration):
        """One iteration of section 2.1: the task's gradient, then the protected step."""
        weights = self.target.unpack(self._trainer.weights())
        loss = cross_entropy(self.target.logits(weights, batch.x, self.head(self._task)), batch.labels)
        self._trainer.step(named_gradients(loss, self._trainer.parameters), iteration)
        return loss.detach()

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
        return {"task": self._task, "trainer": self._trainer.state_dict()}

    def load_state_dict(self, state):
        """See ``Method``."""
        self._task = state["task"]
        self._trainer.load_state_dict(state["trainer"])


def predictive_entropy(logits: Tensor) -> Tensor:
    """Return -sum p log p over the last dimension, in float64 from the log-softmax.

    From probabilities, as published, 0 * log 0 gives NaN as soon as one of them underflows in float32.
    """
    log_p = logits.double().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)
