"""HNET+ENT: a task-conditioned hypernetwork under the output regulariser; the task is inferred by least entropy.

von Oswald et al. 2020, sections 2 and 3. In CL1 the embedding and the head of the given task are used. In CL2 and CL3
every learned task's network sees the sample and the one whose prediction has the least entropy answers for it.
"""

from hnetcl.hypernetwork_classifier import HypernetworkClassifier
from hnetcl.methods.inference import answer_by_least_entropy
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
        return answer_by_least_entropy(answers, self.spec.settings["inference_temperature"])

    def answers(self, scenario, task, learned):
        """Only a given task's network can be asked for before the task was learned, and none that a restart took."""
        lost = self.classifier.hypernetwork.restart and task < learned - 1
        return (scenario == "cl1" or task < learned) and not lost

    def parameter_counts(self, scenario):
        """Count theta_h and all task embeddings as trainable, as the published compression ratio does."""
        classifier = self.classifier
        return {"trainable": classifier.hypernetwork.num_parameters, "target": classifier.target.num_weights}

    def state_dict(self):
        """See ``Method``."""
        return self.classifier.state_dict()

    def load_state_dict(self, state):
        """See ``Method``."""
        self.classifier.load_state_dict(state)
