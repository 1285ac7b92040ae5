"""HNET+ENT: a task-conditioned hypernetwork under the output regulariser; the task is inferred by least entropy.

von Oswald et al. 2020, sections 2 and 3. In CL1 the embedding and the head of the given task are used. In CL2 and CL3
every learned task's network sees the sample and the one whose prediction has the least entropy answers for it.
"""

from torch import Tensor

from hnetcl.hypernetwork_classifier import HypernetworkClassifier, labels_of_tasks
from hnetcl.methods.interface import Method, Prediction


class HypernetworkEntropy(Method):
    """See the module."""

    def __init__(self, spec, sequence):
        super().__init__(spec, sequence)
        outputs = self.output_units(spec.scenarios[0])  # the loss of CL3 is that of CL1, and so are the units
        self.classifier = HypernetworkClassifier(sequence, outputs, spec.target, spec.settings)

    def begin_task(self, task):
        """See ``Method``."""
        self.classifier.begin_task(task)

    def step(self, batch, iteration):
        """See ``Method``."""
        return self.classifier.step(batch, iteration)

    def predictor(self, scenario, learned):
        """See ``Method``."""
        if scenario == "cl1":
            answer = self.classifier.answer_for_given_task()
            return lambda x, task: Prediction(answer(x, task))
        answers = self.classifier.answer_of_every_task(learned)
        temperature = self.spec.settings["inference_temperature"]

        def predict(x: Tensor, task: int) -> Prediction:
            logits = answers(x)
            inferred = predictive_entropy(logits / temperature).argmin(1)
            return Prediction(labels_of_tasks(logits, inferred), inferred)

        return predict

    def answers(self, scenario, task, learned):
        """Only a given task's network can be asked for before the task was learned, and none that a restart took."""
        lost = self.classifier.hypernetwork.restart and task < learned - 1
        return (scenario == "cl1" or task < learned) and not lost

    def parameter_counts(self):
        """Count theta_h and all task embeddings as trainable, as the published compression ratio does."""
        classifier = self.classifier
        return {"trainable": classifier.hypernetwork.num_parameters, "target": classifier.target.num_weights}

    def state_dict(self):
        """See ``Method``."""
        return self.classifier.state_dict()

    def load_state_dict(self, state):
        """See ``Method``."""
        self.classifier.load_state_dict(state)


def predictive_entropy(logits: Tensor) -> Tensor:
    """Return -sum p log p over the last dimension, in float64 from the log-softmax.

    From probabilities, as published, 0 * log 0 gives NaN as soon as one of them underflows in float32.
    """
    log_p = logits.double().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)
