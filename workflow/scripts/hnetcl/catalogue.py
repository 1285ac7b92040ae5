"""The methods by name, without importing any of them (and so without torch).

To add a method: write ``methods/<name>.py`` against ``methods/interface.py``, add a line here, and describe its
settings under ``methods`` in ``config/schemas/experiment.schema.yaml``.
"""

from importlib import import_module
from typing import NamedTuple

EACH_SCENARIO = (("cl1",), ("cl2",), ("cl3",))
TOGETHER = (("cl1", "cl2", "cl3"),)  # what costs most is the same in all of them


class MethodEntry(NamedTuple):
    """How a method is called in tables, where its class is, which scenarios one training of it serves, and its kind.

    The kind is "hypernetwork" (the paper's), "baseline" or "bound" (quoted from others), or none: tables and figures
    have them in this order, and within a kind in the order below.
    """

    label: str
    module: str
    class_name: str
    trainings: tuple[tuple[str, ...], ...]
    kind: str = ""

    def load(self) -> type:
        """Import the method's class."""
        return getattr(import_module(f"hnetcl.methods.{self.module}"), self.class_name)


METHODS = {
    # The loss of CL3 is that of CL1 (each task on its own head), so one network is evaluated in both.
    "hnet_ent": MethodEntry("HNET+ENT", "hnet_ent", "HypernetworkEntropy", (("cl1", "cl3"), ("cl2",)), "hypernetwork"),
    "hnet_tir": MethodEntry("HNET+TIR", "hnet_tir", "HypernetworkTaskInference", TOGETHER, "hypernetwork"),
    "hnet_r": MethodEntry("HNET+R", "hnet_r", "HypernetworkReplay", TOGETHER, "hypernetwork"),
    "online_ewc": MethodEntry("online EWC", "ewc", "OnlineEWC", EACH_SCENARIO, "baseline"),
    "ewc": MethodEntry("EWC (offline)", "ewc", "OfflineEWC", EACH_SCENARIO, "baseline"),
    "si": MethodEntry("SI", "si", "SynapticIntelligence", EACH_SCENARIO, "baseline"),
    "dgr": MethodEntry("DGR (hard labels)", "dgr", "DeepGenerativeReplay", TOGETHER, "baseline"),
    "dgr_distill": MethodEntry("DGR+distill", "dgr", "DistilledGenerativeReplay", TOGETHER, "baseline"),
    "separate": MethodEntry("Separate networks", "separate", "SeparateNetworks", TOGETHER),
    "fine_tune": MethodEntry("None (fine-tune)", "plain", "FineTuning", EACH_SCENARIO, "bound"),
    "joint": MethodEntry("Offline (joint)", "plain", "JointTraining", EACH_SCENARIO, "bound"),
}


def labels(kind: str) -> tuple[str, ...]:
    """Return what the methods of a kind are called in tables, in their order there."""
    return tuple(entry.label for entry in METHODS.values() if entry.kind == kind)
