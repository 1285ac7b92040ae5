"""HNET+R: a plain classifier that learns from replay, whose generator is protected by a hypernetwork.

von Oswald et al. 2020, section 3 and appendix. Each earlier task gives an equal share of the replayed images, and the
classifier as it was before the task labels them softly.
"""

import torch
from torch.nn import functional

from hnetcl.layers import cross_entropy, distillation
from hnetcl.methods.generative_replay import GenerativeReplay
from hnetcl.replay import RealReplay, hypernetwork_generator


class HypernetworkReplay(GenerativeReplay):
    """See the module."""

    initialisation = "xavier"
    restarts_optimiser = True

    def make_generator(self):
        """See ``GenerativeReplay``."""
        if self.spec.settings.get("perfect_replay", False):
            return RealReplay(self.sequence, self.spec.optimisation)
        return hypernetwork_generator(self.spec.settings["replay"], self.sequence, self.spec.optimisation)

    def replay_share(self):
        """The same however many tasks there are."""
        return self.spec.settings["replay_share"]

    def replay_loss(self, outputs, logits, before, replayed):
        """Distil a sample's own head in CL1, the shared head in CL2, all units so far in CL3.

        There the targets of the new task's units are logits of zero, not probabilities of zero: they keep some mass.
        """
        temperature = self.spec.settings["temperature"]
        if outputs.scenario == "cl3":
            logits = outputs.of_first(logits, self._task + 1)
            if self._task == 1 and outputs.classes == 1:
                # From a single class nothing was learned that could be distilled; hypercl labels it by hand too.
                return cross_entropy(logits, torch.zeros_like(replayed.tasks))
            before = functional.pad(outputs.of_first(before, self._task), (0, outputs.classes))
        else:
            logits, before = (outputs.own_head(values, replayed.tasks) for values in (logits, before))
        return distillation(logits, (before / temperature).softmax(2), temperature)
