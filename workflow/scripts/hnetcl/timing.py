"""Measuring time, memory, and what the machine can do at most."""

import ctypes
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

SIDE = 2000  # of the square matrices by which the rate of matrix products is measured
ARRAYS, ARRAY_BYTES = 12, 8 << 20  # by which the bandwidth is measured: about what an iteration works on
REPEATS = 10


def seconds(call: Callable[[], object], device: torch.device, times: int = 1) -> float:
    """Return how long each of ``times`` calls takes on average, the device's work included."""
    _wait(device)
    started = time.perf_counter()
    for _ in range(times):
        call()
    _wait(device)
    return (time.perf_counter() - started) / times


def in_turn(
    calls: Mapping[str, Callable[[], object]], device: torch.device, *, repeats: int, turn: int = 1, warm_up: int = 1
) -> dict[str, list[float]]:
    """Call each of ``calls`` ``repeats`` times, ``turn`` times in a row, then the next; return each call's seconds.

    Ratios hold when the machine's speed drifts meanwhile. ``warm_up`` calls of each before them do not count. On a GPU
    the calls of a turn are timed together: between them the host does not wait, as in a training.
    """
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for start in range(0, warm_up + repeats, turn):
        length = min(turn, warm_up + repeats - start)
        for name, call in calls.items():
            if device.type == "cuda":
                spent[name] += [seconds(call, device, length)] * length
            else:
                spent[name] += [seconds(call, device) for _ in range(length)]
    return {name: values[warm_up:] for name, values in spent.items()}


def matrix_rate(device: torch.device) -> float:
    """Return the best rate of a large float32 matrix product, in floating-point operations a second."""
    a, b = torch.rand(2, SIDE, SIDE, device=device)
    out = torch.empty_like(a)
    spent = in_turn({"product": lambda: torch.mm(a, b, out=out)}, device, repeats=REPEATS)
    return 2 * SIDE**3 / min(spent["product"])


def bandwidth(device: torch.device) -> float:
    """Return the best rate at which sums of arrays move their operands and results, in bytes a second.

    Together the arrays are as large as what a training iteration works on: a cache that holds them holds it too.
    """
    arrays = torch.rand(ARRAYS, ARRAY_BYTES // 4, device=device)

    def add_all() -> None:
        for first in range(0, ARRAYS, 3):
            torch.add(arrays[first], arrays[first + 1], out=arrays[first + 2])

    spent = in_turn({"sums": add_all}, device, repeats=REPEATS)
    return ARRAYS * ARRAY_BYTES / min(spent["sums"])


def peak_memory(call: Callable[[], object], device: torch.device) -> int | None:
    """Return by how many bytes memory in use grows at most while ``call`` runs; None where no one can say."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if not sys.platform.startswith("linux"):
        call()
        return None
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not be taken for free space
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here, see proc(5)
    before = _proc_bytes("self/status", "VmRSS")
    call()
    return _proc_bytes("self/status", "VmHWM") - before


def free_memory(device: torch.device) -> int:
    """Return the bytes of memory that can be had; half of the machine's where no one can say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if sys.platform.startswith("linux"):
        return _proc_bytes("meminfo", "MemAvailable")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _proc_bytes(file: str, key: str) -> int:
    lines = Path("/proc", file).read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{key}:")).split()[1])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
