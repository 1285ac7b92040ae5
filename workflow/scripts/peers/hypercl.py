"""Run CL1 of chrhenning/hypercl (the paper's own code) for a few iterations and print how long its training loops take.

python workflow/scripts/peers/hypercl.py --repository ../hypercl --mode split --iterations 100 --data /path --threads 2

Its files stay as they are. What current libraries no longer have is put back from outside, before its code is imported:
two names of NumPy, the old order of arguments of torch's in-place arithmetic, and tensorboardX, which is replaced by an
object that does nothing. ``--data`` holds MNIST's four files, packed, in a folder MNIST.
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
from types import ModuleType

import numpy as np
import torch


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", required=True)
    parser.add_argument("--mode", required=True, choices=["split", "perm"])
    parser.add_argument("--iterations", required=True, type=int, help="a task")
    parser.add_argument("--data", required=True)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = os.path.abspath(arguments.data)
    training = import_from(arguments.repository, "mnist", "train_splitMNIST")
    published, train_task, seconds = training._set_default, training.train_class_one_t, []

    def shorter(config):
        config = published(config)
        config.n_iter, config.data_dir = arguments.iterations, data
        return config

    def timed(*positional, **named):
        started = time.perf_counter()
        train_task(*positional, **named)
        seconds.append(time.perf_counter() - started)

    training._set_default, training.train_class_one_t = shorter, timed
    with tempfile.TemporaryDirectory() as folder:
        # CL1 with the hypernetwork: what its README says.
        sys.argv = ["train", "--cl_scenario=1", "--infer_task_id", "--no_cuda", f"--out_dir={folder}/out"]
        training.run(mode=arguments.mode)
    print("seconds of training:", *(f"{value:.4f}" for value in seconds))


def import_from(repository: str, folder: str, module: str) -> ModuleType:
    """Import a program of the repository and go to its folder, where it expects to be run."""
    put_back_what_is_gone()
    sys.path.insert(0, os.path.abspath(repository))
    os.chdir(os.path.join(repository, folder))
    # All that these two do here is to set a look of figures that matplotlib no longer knows.
    sys.modules["__init__"] = ModuleType("__init__")
    importlib.import_module("utils.misc").configure_matplotlib_params = lambda *_, **__: None
    return importlib.import_module(f"{folder}.{module}")


def put_back_what_is_gone() -> None:
    """Make current NumPy and torch understand code written for those of 2019."""
    np.int, np.float = int, float
    sys.modules["tensorboardX"] = Silent()
    for name, keyword in {"add_": "alpha", "addcmul_": "value", "addcmul": "value", "addcdiv_": "value"}.items():
        setattr(torch.Tensor, name, old_order(getattr(torch.Tensor, name), keyword))


class Silent:
    """Has every name and takes every call, and keeps nothing of it: losses hold on to all that they came from."""

    def __getattr__(self, name):
        """Return this object: it will do."""
        return self

    def __call__(self, *positional, **named):
        """Return it again."""
        return self


def old_order(method, keyword: str):
    """Let a factor stand before the tensors."""

    def called(self, *positional, **named):
        if len(positional) > 1 and not isinstance(positional[0], torch.Tensor):
            named[keyword], *positional = positional
        return method(self, *positional, **named)

    return called


if __name__ == "__main__":
    main()
