"""The process and the device a job runs on."""

import ctypes
import resource
import sys

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


def prepare_process(threads: int) -> None:
    """Set the number of threads and the two things that slow these networks down on a CPU."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    if sys.platform == "linux":
        # Every iteration frees and asks for the same large arrays; by default glibc returns them to the system and
        # takes fresh, zeroed pages each time. Other C libraries lack mallopt and go on as they are.
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_THRESHOLD, 1 << 30)
            mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def choose_device(name: str, matmul_precision: str = "float32") -> torch.device:
    """Return the device called ``name``; ``auto`` is a GPU where there is one, else the CPU.

    ``matmul_precision`` is that of float32 matrix products: "float32", "tf32", by which a GPU may round their operands
    (and those of convolutions) to 10 bits, or "bf16", by which a CPU may round them to 7. Each is for its own kind of
    device; the other computes in float32.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = 'cuda' is not available on this machine. Allowed: 'auto' or 'cpu'.")
    if name == "cuda":
        precision = "tf32" if matmul_precision == "tf32" else "ieee"
        torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = precision
    else:
        torch.backends.mkldnn.matmul.fp32_precision = "bf16" if matmul_precision == "bf16" else "ieee"
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """Return the device's name for the record, and its precision where that is not float32.

    A CPU that may round to bfloat16 does so only where that is faster (it has matrix units, AMX); others compute in
    float32, if by another library: "bf16 allowed".
    """
    if device.type != "cuda":
        if torch.backends.mkldnn.matmul.fp32_precision != "bf16":
            return "cpu"
        return "cpu (bf16)" if _rounds_to_bfloat16() else "cpu (bf16 allowed)"
    reduced = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return torch.cuda.get_device_name(device) + (" (TF32)" if reduced else "")


def _rounds_to_bfloat16() -> bool:
    """Whether a large product of float32 matrices loses what bfloat16 cannot hold."""
    size, fine = 512, 1 + 2**-12
    product = torch.full((size, size), fine) @ torch.eye(size)
    return bool((product != fine).any())


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory used so far, in MiB: of the process on a CPU, allocated by torch on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**20 if sys.platform == "darwin" else 2**10)
