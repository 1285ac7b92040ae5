"""Which target network a specification means."""

from hnetcl.convolutional import ResNet, ZenkeNet
from hnetcl.spec import TargetSpec
from hnetcl.target import Target, TargetMLP


def target_network(spec: TargetSpec, num_inputs: int, outputs: int) -> Target:
    """Return the target network for inputs of ``num_inputs`` numbers with ``outputs`` output units."""
    match spec.kind:
        case "resnet":
            return ResNet(outputs, spec.units)
        case "zenke":
            return ZenkeNet(outputs)
    return TargetMLP((num_inputs, *spec.hidden, outputs), spec.activation)
