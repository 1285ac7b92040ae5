"""Networks with weights of their own, and how they answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hnetcl.layers import fan_in_uniform, xavier_or_zero
from hnetcl.optimiser import Adam
from hnetcl.spec import OptimisationSpec
from hnetcl.streams import draw_runs
from hnetcl.target import TargetMLP

# By name: the default of torch.nn.Linear (van de Ven & Tolias 2019), and that of the hypernetwork paper's code.
INITIALISATIONS = {"fan_in": fan_in_uniform, "xavier": xavier_or_zero}


class TrainedMLP:
    """A multi-layer perceptron for every run, trained directly with an Adam of its own.

    Args:
        seeds: of the pack; networks of different ``name`` draw from different random streams.
        sizes: units a layer, inputs first; the last layer is linear.
        activation: of the hidden layers.
        initialisation: "fan_in" or "xavier", see ``layers``.
        optimisation: Adam's settings.
        name: of the network's random streams.
        device: where the weights are.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        sizes: Sequence[int],
        activation: str,
        initialisation: str,
        optimisation: OptimisationSpec,
        name: str,
        device: torch.device | str = "cpu",
    ):
        self.shape = TargetMLP(tuple(sizes), activation)
        self._optimisation = optimisation
        draw = INITIALISATIONS[initialisation]
        self.weights: dict[str, Tensor] = {}
        for number, shape in enumerate(self.shape.shapes):
            fan_in = self.shape.shapes[number - number % 2][1]  # a bias goes by the fan-in of its weight
            drawn = draw_runs(seeds, lambda g, s=shape, f=fan_in: draw(g, s, f), name, number)
            self.weights[f"tensor_{number}"] = drawn.to(device).requires_grad_()
        self.restart_optimiser()

    def restart_optimiser(self) -> None:
        """Forget Adam's moments."""
        adam = self._optimisation
        self.optimiser = Adam(self.weights, adam.learning_rate, adam.betas, adam.epsilon)

    def logits(self, x: Tensor, weights: Sequence[Tensor] | None = None) -> Tensor:
        """Apply the network, or one of the same shape with other ``weights``, to ``x [R, B, inputs]``."""
        return self.shape.logits(list(self.weights.values()) if weights is None else weights, x)

    def copy_weights(self) -> list[Tensor]:
        """Return a copy of the weights as constants."""
        return [value.detach().clone() for value in self.weights.values()]

    def state_dict(self) -> dict[str, Any]:
        """Return weights and Adam's state."""
        weights = {name: value.detach() for name, value in self.weights.items()}
        return {"weights": weights, "adam": self.optimiser.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        for name, value in self.weights.items():
            value.copy_(state["weights"][name])
        self.optimiser.load_state_dict(state["adam"])
