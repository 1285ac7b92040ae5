"""Where a number comes from: code, libraries, machine, data."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd

PACKAGE = Path(__file__).resolve().parent


def code_version() -> str:
    """Return the commit (with "+changes" where library or scripts differ from it) or, outside git, a content hash."""
    try:
        return commit_of(PACKAGE.parent)
    except (OSError, subprocess.CalledProcessError):
        return f"content-{content_hash()}"


def commit_of(folder: str | Path) -> str:
    """Return the commit of the checkout that ``folder`` is in, with "+changes" where what it holds differs from it.

    Raises:
        OSError: there is no git.
        subprocess.CalledProcessError: the folder is in no checkout.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD")
    return commit + ("+changes" if git("status", "--porcelain", "--", ".") else "")


def content_hash() -> str:
    """Return a hash of the library's source, first 12 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(str(path.relative_to(PACKAGE)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def processor_name() -> str:
    """Return the model of the CPU as the system calls it: on another one, the same code rounds differently."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def with_machine(measured: pd.DataFrame) -> pd.DataFrame:
    """Return a table of measurements with the machine and the day that they are of: now and here."""
    return measured.assign(processor=processor_name(), cores=os.cpu_count() or 0, date=f"{date.today()}")


def describe_process(device: str, threads: int) -> dict[str, Any]:
    """Return what trains: code, libraries, machine."""
    import numpy
    import torch

    return {
        "code_version": code_version(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # a checkpoint holds plain values alone
        "numpy": numpy.__version__,
        "device": device,
        "processor": processor_name(),
        "threads": threads,
    }


def describe(processes: Sequence[Mapping[str, Any]], dataset_name: str, dataset_sha256: str) -> dict[str, Any]:
    """Return the provenance block of a record: the last of ``processes``, those before it, the data and the time."""
    *earlier, last = processes
    return {
        **last,
        **({"earlier": earlier} if earlier else {}),
        "dataset": {"name": dataset_name, "sha256": dataset_sha256},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
