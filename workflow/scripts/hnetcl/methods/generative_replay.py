"""What methods with replayed training data share: one generator, and a plain classifier for each scenario.

The generator never sees a label, so one serves the classifiers of all scenarios: a training teaches them all from the
same batches and the same replay.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from hnetcl.architectures import target_network
from hnetcl.layers import cross_entropy, named_gradients
from hnetcl.methods.interface import Method, answer_by_units
from hnetcl.networks import TrainedNetwork
from hnetcl.outputs import OutputUnits
from hnetcl.replay import Generator, Replay, with_replay
from hnetcl.tasks import Batch


class GenerativeReplay(Method):
    """Train on the real data of a task and on replay of the earlier ones, which a copy of the classifier labels.

    The copy is taken before the task. Subclasses choose the generator, the weight of the replay and its loss.
    """

    initialisation: str
    restarts_optimiser: bool

    def __init__(self, spec, sequence):
        super().__init__(spec, sequence)
        self.generator = self.make_generator()
        self.outputs = {scenario: self.output_units(scenario) for scenario in spec.scenarios}
        self.classifiers = {
            scenario: TrainedNetwork(
                sequence.seeds,
                target_network(spec.target, sequence.num_inputs, outputs.count),
                self.initialisation,
                spec.optimisation,
                "target network",
                sequence.device,
            )
            for scenario, outputs in self.outputs.items()
        }

    @abstractmethod
    def make_generator(self) -> Generator:
        """Build the generator."""

    @abstractmethod
    def replay_share(self) -> float:
        """Return the weight of the replay in the loss; the real data have the rest."""

    @abstractmethod
    def replay_loss(self, outputs: OutputUnits, logits: Tensor, before: Tensor, replayed: Replay) -> Tensor:
        """Return the loss ``[R]`` of ``logits``, for replay to which the copy gave the logits ``before``.

        Both are ``[R, B, units]``.
        """

    def begin_task(self, task):
        """See ``Method``."""
        self._task = task
        self._before = {scenario: classifier.copy_weights() for scenario, classifier in self.classifiers.items()}
        if self.restarts_optimiser:
            for classifier in self.classifiers.values():
                classifier.restart_optimiser()
        self.generator.begin_task(task)

    def step(self, batch, iteration):
        """One step of every classifier, then one of the generator; the classifiers' mean loss is returned."""
        replayed = self.generator.replay(iteration)
        images = with_replay(batch.x, replayed)
        losses = [self._teach(scenario, images, batch, replayed) for scenario in self.classifiers]
        self.generator.step(images, batch.x.shape[1], self.replay_share(), iteration)
        return torch.stack(losses).mean(0)

    def _teach(self, scenario: str, images: Tensor, batch: Batch, replayed: Replay | None) -> Tensor:
        classifier, outputs = self.classifiers[scenario], self.outputs[scenario]
        real, old = classifier.logits(images).tensor_split([batch.x.shape[1]], dim=1)
        loss = cross_entropy(*outputs.active(real, batch.tasks, batch.labels, self._task + 1))
        if replayed is not None:
            with torch.no_grad():
                before = classifier.logits(replayed.x, self._before[scenario])
            share = self.replay_share()
            loss = (1 - share) * loss + share * self.replay_loss(outputs, old, before, replayed)
        classifier.optimiser.step(named_gradients(loss, classifier.weights))
        return loss.detach()

    def predictor(self, scenario, learned):
        """See ``Method``."""
        return answer_by_units(self.classifiers[scenario], self.outputs[scenario])

    def parameter_counts(self, scenario):
        """Count the scenario's classifier and the generator as trainable."""
        target = self.classifiers[scenario].shape.num_weights
        return {"trainable": target + self.generator.num_parameters, "target": target}

    def state_dict(self):
        """See ``Method``."""
        classifiers = {scenario: classifier.state_dict() for scenario, classifier in self.classifiers.items()}
        return {
            "task": self._task,
            "before": self._before,
            "classifiers": classifiers,
            "generator": self.generator.state_dict(),
        }

    def load_state_dict(self, state):
        """See ``Method``."""
        self._task, self._before = state["task"], {name: list(copy) for name, copy in state["before"].items()}
        for scenario, classifier in self.classifiers.items():
            classifier.load_state_dict(state["classifiers"][scenario])
        self.generator.load_state_dict(state["generator"])
