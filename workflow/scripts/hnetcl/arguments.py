"""What the scripts that compute have in common on the command line, without importing torch."""

from argparse import ArgumentParser


def add_device_arguments(
    parser: ArgumentParser, device: str = "auto", threads: int = 1, precision: bool = False
) -> None:
    """Add what ``device.prepare_process`` and ``device.choose_device`` take, with these defaults."""
    parser.add_argument("--device", default=device, choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=threads, help="CPU threads")
    if precision:
        parser.add_argument("--matmul-precision", default="float32", choices=["float32", "tf32", "bf16"])
