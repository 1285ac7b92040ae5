"""The methods by name, without importing any of them (and so without torch).

To add a method: write ``methods/<name>.py`` against ``methods/interface.py``, add a line here, and describe its
settings under ``methods`` in ``config/schemas/experiment.schema.yaml``.
"""

from importlib import import_module
from typing import NamedTuple

EACH_SCENARIO = (("cl1",), ("cl2",), ("cl3",))
TOGETHER = (("cl1", "cl2", "cl3"),)  # what costs most is the same in all of them


class MethodEntry(NamedTuple):
    """How a method is called in tables, where its class is, and which scenarios one training of it serves."""

    label: str
    module: str
    class_name: str
    trainings: tuple[tuple[str, ...], ...]

    def load(self) -> type:
        """Import the method's class."""
        return getattr(import_module(f"hnetcl.methods.{self.module}"), self.class_name)


METHODS = {
    # The loss of CL3 is that of CL1 (each task on its own head), so one network is evaluated in both.
    "hnet_ent": MethodEntry("HNET+ENT", "hnet_ent", "HypernetworkEntropy", (("cl1", "cl3"), ("cl2",))),
    "hnet_tir": MethodEntry("HNET+TIR", "hnet_tir", "HypernetworkTaskInference", TOGETHER),
    "hnet_r": MethodEntry("HNET+R", "hnet_r", "HypernetworkReplay", TOGETHER),
    "ewc": MethodEntry("EWC (offline)", "ewc", "OfflineEWC", EACH_SCENARIO),
    "online_ewc": MethodEntry("online EWC", "ewc", "OnlineEWC", EACH_SCENARIO),
    "si": MethodEntry("SI", "si", "SynapticIntelligence", EACH_SCENARIO),
    "dgr": MethodEntry("DGR (hard labels)", "dgr", "DeepGenerativeReplay", TOGETHER),
    "dgr_distill": MethodEntry("DGR+distill", "dgr", "DistilledGenerativeReplay", TOGETHER),
    "separate": MethodEntry("Separate networks", "separate", "SeparateNetworks", TOGETHER),
    "fine_tune": MethodEntry("None (fine-tune)", "plain", "FineTuning", EACH_SCENARIO),
    "joint": MethodEntry("Offline (joint)", "plain", "JointTraining", EACH_SCENARIO),
}
