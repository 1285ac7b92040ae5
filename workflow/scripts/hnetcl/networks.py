"""Networks with weights of their own, and how they answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hnetcl.layers import fan_in_uniform, xavier_or_zero
from hnetcl.optimiser import Adam
from hnetcl.spec import OptimisationSpec
from hnetcl.streams import draw_runs
from hnetcl.target import Mode, Target

# By name: the default of torch.nn.Linear (van de Ven & Tolias 2019), and that of the hypernetwork paper's code.
INITIALISATIONS = {"fan_in": fan_in_uniform, "xavier": xavier_or_zero}


class TrainedNetwork:
    """A network for every run, trained directly with an Adam of its own.

    Scales of batch normalisation start at 1 and shifts at 0; its ``statistics`` are one set for all tasks.

    Args:
        seeds: of the pack; networks of different ``name`` draw from different random streams.
        shape: the function whose weights these are.
        initialisation: "fan_in" or "xavier", see ``layers``.
        optimisation: Adam's settings.
        name: of the network's random streams.
        device: where the weights are.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: Target,
        initialisation: str,
        optimisation: OptimisationSpec,
        name: str,
        device: torch.device | str = "cpu",
    ):
        self.shape = shape
        self._optimisation = optimisation
        draw = INITIALISATIONS[initialisation]
        self.weights: dict[str, Tensor] = {}
        for number, (size, fan_in) in enumerate(zip(shape.shapes, shape.fan_ins, strict=True)):
            if fan_in:
                drawn = draw_runs(seeds, lambda g, s=size, f=fan_in: draw(g, s, f), name, number)
            else:
                drawn = torch.full((len(seeds), *size), 1.0 - number % 2)
            self.weights[f"tensor_{number}"] = drawn.to(device).requires_grad_()
        self.statistics = shape.initial_statistics(len(seeds), drawn.to(device))
        self.restart_optimiser()

    def restart_optimiser(self) -> None:
        """Forget Adam's moments."""
        adam = self._optimisation
        self.optimiser = Adam(self.weights, adam.learning_rate, adam.betas, adam.epsilon)

    def logits(
        self,
        x: Tensor,
        weights: Sequence[Tensor] | None = None,
        outputs: slice = slice(None),
        mode: Mode | None = None,
    ) -> Tensor:
        """Apply the network, or one of the same shape with other ``weights``, to ``x [R, B, inputs]``.

        At test time unless ``mode`` says otherwise.
        """
        weights = list(self.weights.values()) if weights is None else weights
        return self.shape.logits(weights, x, outputs, Mode(statistics=self.statistics) if mode is None else mode)

    def copy_weights(self) -> list[Tensor]:
        """Return a copy of the weights as constants."""
        return [value.detach().clone() for value in self.weights.values()]

    def state_dict(self) -> dict[str, Any]:
        """Return weights, statistics and Adam's state."""
        weights = {name: value.detach() for name, value in self.weights.items()}
        return {"weights": weights, "statistics": self.statistics, "adam": self.optimiser.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        for name, value in self.weights.items():
            value.copy_(state["weights"][name])
        for value, before in zip(self.statistics, state["statistics"], strict=True):
            value.copy_(before)
        self.optimiser.load_state_dict(state["adam"])
