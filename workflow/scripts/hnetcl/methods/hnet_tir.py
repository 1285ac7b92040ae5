"""HNET+TIR: hypernetwork classifiers, and a network trained on replay that infers the task.

von Oswald et al. 2020, section 3 and appendix. An ordinary network with one output a task learns to tell the tasks
apart from the real data of the present task and replay of the earlier ones; the inferred task's embedding and head
answer. Inference network and classifiers do not touch each other. The published code trains them one after the other,
here both take the same batches; "during" accuracies here come from the inference network as it stands then, in theirs
from the final one.
"""

import torch
from torch import Tensor

from hnetcl.architectures import target_network
from hnetcl.hypernetwork_classifier import HypernetworkClassifier
from hnetcl.layers import cross_entropy, named_gradients
from hnetcl.methods.inference import labels_of_tasks
from hnetcl.methods.interface import Method, Prediction
from hnetcl.networks import TrainedNetwork
from hnetcl.replay import hypernetwork_generator, with_replay


class HypernetworkTaskInference(Method):
    """See the module."""

    def __init__(self, spec, sequence):
        super().__init__(spec, sequence)
        # The loss of CL3 is that of CL1: one classifier serves both.
        layouts = dict.fromkeys("cl2" if scenario == "cl2" else "cl1" for scenario in spec.scenarios)
        self.classifiers = {
            layout: HypernetworkClassifier(sequence, self.output_units(layout), spec.target, spec.settings)
            for layout in layouts
        }
        self.inference = TrainedNetwork(
            sequence.seeds,
            target_network(spec.target, sequence.num_inputs, sequence.num_tasks),
            "xavier",
            spec.optimisation,
            "inference network",
            sequence.device,
        )
        self.generator = hypernetwork_generator(spec.settings["replay"], sequence, spec.optimisation)

    def _classifier(self, scenario: str) -> HypernetworkClassifier:
        return self.classifiers["cl2" if scenario == "cl2" else "cl1"]

    def begin_task(self, task):
        """See ``Method``."""
        self._task = task
        for classifier in self.classifiers.values():
            classifier.begin_task(task)
        self.inference.restart_optimiser()
        self.generator.begin_task(task)

    def step(self, batch, iteration):
        """One step of every part; the mean loss of the classifiers is returned."""
        losses = [classifier.step(batch, iteration) for classifier in self.classifiers.values()]
        replayed = self.generator.replay(iteration)
        if replayed is not None:
            self._learn_to_infer(batch, replayed)
        self.generator.step(batch.x, batch.x.shape[1], 0.0, iteration)
        return torch.stack(losses).mean(0)

    def _learn_to_infer(self, batch, replayed) -> None:
        """One step on the present task's number for real inputs and on the earlier tasks' for replayed ones."""
        share, learned = self.spec.settings["replay_share"], self._task + 1
        logits = self.inference.logits(with_replay(batch.x, replayed))[:, :, :learned]
        real, old = logits.split([batch.x.shape[1], replayed.x.shape[1]], dim=1)
        loss = (1 - share) * cross_entropy(real, batch.tasks) + share * cross_entropy(old, replayed.tasks)
        self.inference.optimiser.step(named_gradients(loss, self.inference.weights))

    def predictor(self, scenario, learned):
        """See ``Method``."""
        if scenario == "cl1":
            answer = self._classifier(scenario).answer_for_given_task()
            return lambda x, task: Prediction(answer(x, task))
        answers = self._classifier(scenario).answer_of_every_task(learned)

        def predict(x: Tensor, task: int) -> Prediction:
            inferred = self.inference.logits(x)[:, :, :learned].argmax(2)
            return Prediction(labels_of_tasks(answers(x), inferred), inferred)

        return predict

    def answers(self, scenario, task, learned):
        """Only a given task's network can be asked for before the task was learned."""
        return scenario == "cl1" or task < learned

    def parameter_counts(self, scenario):
        """Count one classifier's hypernetwork, the inference network and the replay model as trainable."""
        classifier = self._classifier(scenario)
        parts = (classifier.hypernetwork, self.inference.shape, self.generator)
        trainable = parts[0].num_parameters + parts[1].num_weights + parts[2].num_parameters
        return {"trainable": trainable, "target": classifier.target.num_weights}

    def state_dict(self):
        """See ``Method``."""
        parts = {"inference": self.inference, "generator": self.generator, **self.classifiers}
        return {"task": self._task} | {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state):
        """See ``Method``."""
        self._task = state["task"]
        for name, part in {"inference": self.inference, "generator": self.generator, **self.classifiers}.items():
            part.load_state_dict(state[name])
