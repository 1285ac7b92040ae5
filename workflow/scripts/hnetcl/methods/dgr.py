"""Deep generative replay (Shin et al. 2017), with hard labels or distillation, as van de Ven & Tolias (2019) ran it.

Real and replayed data weigh 1/T and 1 - 1/T while the T-th task is learned, for the classifier and for the generator.
"""

import torch
from torch import Tensor

from hnetcl.layers import cross_entropy, distillation
from hnetcl.methods.generative_replay import GenerativeReplay
from hnetcl.replay import PlainVAE


class DeepGenerativeReplay(GenerativeReplay):
    """Replayed images carry the label that the classifier before the task gives them."""

    initialisation = "fan_in"
    restarts_optimiser = False

    def make_generator(self):
        """See ``GenerativeReplay``."""
        settings = self.spec.settings["generator"]
        return PlainVAE(settings["latent"], tuple(settings["hidden"]), self.sequence, self.spec.optimisation)

    def replay_share(self):
        """See the module."""
        return 1 - 1 / (self._task + 1)

    def replay_loss(self, outputs, logits, before, replayed):
        """In CL1 no task is known: every image is replayed on the head of every earlier task, and the mean is taken."""
        if outputs.scenario == "cl1":
            logits, before = (outputs.by_head(values)[:, :, : self._task] for values in (logits, before))
        elif outputs.scenario == "cl3":
            logits, before = outputs.of_first(logits, self._task + 1), outputs.of_first(before, self._task)
        return self.labelled_loss(logits, before)

    def labelled_loss(self, logits: Tensor, before: Tensor) -> Tensor:
        """Return the loss ``[R]`` for ``logits [R, ..., K]``; the k <= K first units are known to the copy's."""
        return cross_entropy(logits, before.argmax(-1))


class DistilledGenerativeReplay(DeepGenerativeReplay):
    """Replayed images carry the probabilities that the classifier before the task gives them."""

    def labelled_loss(self, logits, before):
        """New units' target probabilities are zero."""
        temperature = self.spec.settings["temperature"]
        loss = distillation(logits, torch.softmax(before / temperature, -1), temperature)
        # The published code of before May 2019 takes the mean over classes too, all units that the softmax is over.
        return loss / logits.shape[-1] if self.spec.settings.get("mean_over_classes", False) else loss
