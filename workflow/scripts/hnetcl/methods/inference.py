"""Which of the learned tasks' networks answers, where the task is not given: the one that is least uncertain."""

from collections.abc import Callable

from torch import Tensor

from hnetcl.methods.interface import Prediction, Predictor


def answer_by_least_entropy(answers: Callable[[Tensor], Tensor], temperature: float) -> Predictor:
    """Return a predictor that lets every learned task's network see a sample (von Oswald et al. 2020, section 3).

    ``answers`` maps inputs ``[R, B, inputs]`` to the logits of every network, ``[R, learned, B, classes]``, which are
    divided by ``temperature`` before their entropy is taken.
    """

    def predict(x: Tensor, task: int) -> Prediction:
        logits = answers(x)
        inferred = predictive_entropy(logits / temperature).argmin(1)
        return Prediction(labels_of_tasks(logits, inferred), inferred)

    return predict


def predictive_entropy(logits: Tensor) -> Tensor:
    """Return -sum p log p over the last dimension, in float64 from the log-softmax.

    From probabilities, as published, 0 * log 0 gives NaN as soon as one of them underflows in float32.
    """
    log_p = logits.double().log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def labels_of_tasks(logits: Tensor, tasks: Tensor) -> Tensor:
    """Return the label that the network of each sample's task gives, ``[R, B]``.

    ``logits [R, learned, B, classes]`` are those of every task, ``tasks [R, B]`` says which one answers.
    """
    return logits.argmax(3).gather(1, tasks.unsqueeze(1)).squeeze(1)
