"""A network of its own for every task, trained directly and never touched again; the task is inferred by least entropy.

No continual learning: nothing is shared, so nothing can be forgotten, at the price of T times the weights. What is
missing to 100 % in CL2 and CL3 is task inference alone, which makes it the measure of HNET+ENT.
"""

from functools import partial

import torch
from torch import Tensor

from hnetcl.architectures import target_network
from hnetcl.layers import cross_entropy, named_gradients
from hnetcl.methods.inference import answer_by_least_entropy
from hnetcl.methods.interface import Method, Prediction
from hnetcl.networks import TrainedNetwork
from hnetcl.target import DropoutMasks, Mode


class SeparateNetworks(Method):
    """See the module. Every network has the units of its own task only, whatever the scenario."""

    def __init__(self, spec, sequence):
        super().__init__(spec, sequence)
        self.networks = [
            TrainedNetwork(
                sequence.seeds,
                target_network(spec.target, sequence.num_inputs, sequence.classes_per_task),
                spec.settings["initialisation"],
                spec.optimisation,
                f"network of task {task}",
                sequence.device,
            )
            for task in range(sequence.num_tasks)
        ]

    def begin_task(self, task):
        """Turn to the task's network."""
        self._task, sequence = task, self.sequence
        samples = self.spec.optimisation.batch_size
        self._masks = DropoutMasks(
            self.networks[task].shape, sequence.seeds, "separate", task, samples=samples, device=sequence.device
        )

    def step(self, batch, iteration):
        """One Adam step of the task's network on its cross-entropy."""
        network = self.networks[self._task]
        network.optimiser.follow(partial(self.sequence.schedule.learning_rate, self._task), iteration)
        logits = network.logits(batch.x, mode=Mode(True, network.statistics, self._masks[iteration]))
        loss = cross_entropy(logits, batch.labels)
        network.optimiser.step(named_gradients(loss, network.weights))
        return loss.detach()

    def predictor(self, scenario, learned):
        """See ``Method``."""
        if scenario == "cl1":
            return lambda x, task: Prediction(self._logits(x, task).argmax(2))

        def answers(x: Tensor) -> Tensor:
            return torch.stack([self._logits(x, task) for task in range(learned)], dim=1)

        return answer_by_least_entropy(answers, self.spec.settings["inference_temperature"])

    @torch.no_grad()
    def _logits(self, x: Tensor, task: int) -> Tensor:
        return self.networks[task].logits(x)

    def answers(self, scenario, task, learned):
        """Only a given task's network can be asked for before the task was learned."""
        return scenario == "cl1" or task < learned

    def parameter_counts(self, scenario):
        """All networks are trained; one of them is the target."""
        size = self.networks[0].shape.num_weights
        return {"trainable": size * len(self.networks), "target": size}

    def state_dict(self):
        """See ``Method``."""
        return {"task": self._task, "networks": [network.state_dict() for network in self.networks]}

    def load_state_dict(self, state):
        """See ``Method``."""
        for network, stored in zip(self.networks, state["networks"], strict=True):
            network.load_state_dict(stored)
        self.begin_task(state["task"])
