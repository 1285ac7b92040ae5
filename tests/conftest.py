"""What the tests share: a tiny dataset, small specifications, and where the MNIST files are."""

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hnetcl import device
from hnetcl.data import Dataset
from hnetcl.spec import load_experiment

# The networks here are tiny: more threads only cost, and a machine's number of cores must not matter.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
MNIST_FILE = "train-images-idx3-ubyte"
PARTS = ["Snakefile", "workflow", "config", "envs", "profiles", "results/cached"]

SETTINGS = {
    "title": "Tiny",
    "dataset": "digits",
    "seeds": [1, 2],
    "sequence": {"kind": "split", "tasks": 3, "classes_per_task": 2, "assignment": "fixed"},
    "target": {"hidden": [7, 6], "activation": "relu"},
    "optimisation": {
        "iterations": 20,
        "batch_size": 8,
        "learning_rate": 0.01,
        "betas": [0.9, 0.999],
        "epsilon": 1.0e-8,
    },
    "methods": {
        "hnet_ent": {
            "scenarios": ["cl1", "cl2", "cl3"],
            "hypernetwork": {
                "task_embedding": 5,
                "chunk_embedding": 4,
                "hidden": [6, 5],
                "activation": "elu",
                "chunk_size": 60,
            },
            "regulariser": {"beta": 0.01, "form": "exact", "tasks": "all", "outputs": "all"},
            "inference_temperature": 1.0,
        },
        "fine_tune": {"scenarios": ["cl1", "cl2", "cl3"], "reset_optimiser": False},
        "joint": {"scenarios": ["cl1", "cl2", "cl3"], "reset_optimiser": False},
    },
}
EVERY = ["cl1", "cl2", "cl3"]
REPLAY = {
    "latent": 4,
    "condition": 5,
    "encoder_hidden": [6],
    "decoder_hidden": [8, 7],
    "hypernetwork": {
        "task_embedding": 3,
        "chunk_embedding": 4,
        "hidden": [5],
        "activation": "elu",
        "chunk_size": 70,
    },
    "regulariser": {"beta": 0.01, "form": "exact", "tasks": "all", "outputs": "all"},
}
SETTINGS["methods"] |= {
    "hnet_tir": {key: SETTINGS["methods"]["hnet_ent"][key] for key in ("scenarios", "hypernetwork", "regulariser")}
    | {"replay": REPLAY, "replay_share": 0.5},
    "hnet_r": {"scenarios": EVERY, "replay": REPLAY, "replay_share": 0.5, "temperature": 2.0},
    "ewc": {"scenarios": EVERY, "reset_optimiser": False, "strength": dict.fromkeys(EVERY, 100.0)},
    "online_ewc": {
        "scenarios": EVERY,
        "reset_optimiser": False,
        "strength": dict.fromkeys(EVERY, 100.0),
        "decay": dict.fromkeys(EVERY, 0.9),
    },
    "si": {"scenarios": EVERY, "reset_optimiser": False, "strength": dict.fromkeys(EVERY, 1.0), "damping": 0.1},
    "separate": {"scenarios": EVERY, "initialisation": "xavier", "inference_temperature": 1.0},
    "dgr": {"scenarios": EVERY, "generator": {"latent": 4, "hidden": [8, 7]}},
    "dgr_distill": {"scenarios": EVERY, "generator": {"latent": 4, "hidden": [8, 7]}, "temperature": 2.0},
}
PERMUTED = {"kind": "permuted", "tasks": 3, "assignment": "fixed", "first_task": "identity", "data_seed": 42}


def make_dataset(classes=6, side=4, train=20, test=5):
    """Blobs around one random image a class; class c has ``train`` + c training and ``test`` + 2 c test samples."""
    random = np.random.default_rng(0)
    centres = random.integers(0, 17, (classes, side, side))

    def part(size, growth):
        labels = np.repeat(np.arange(classes), [size + growth * c for c in range(classes)])
        random.shuffle(labels)
        images = centres[labels] + random.integers(-4, 5, (len(labels), side, side))
        return images.clip(0, 16).astype(np.uint8), labels.astype(np.int64)

    return Dataset("digits", *part(train, 1), *part(test, 2), largest_value=16)


@pytest.fixture(scope="session")
def dataset():
    return make_dataset()


@pytest.fixture
def unprepared(monkeypatch):
    """Run scripts in the process of the tests, which goes on with its own threads and keeps its denormal numbers."""
    monkeypatch.setattr(device, "prepare_process", lambda threads: None)


@pytest.fixture
def write_experiment(tmp_path):
    """Write an experiment file: the settings above, changed where a key with dots says so; None removes the key."""

    def write(changes=None, name="tiny"):
        settings = copy.deepcopy(SETTINGS)
        for key, value in (changes or {}).items():
            *sections, last = key.split(".")
            place = settings
            for section in sections:
                place = place[section]
            if value is None:
                del place[last]
            else:
                place[last] = value
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    return write


@pytest.fixture
def make_spec(write_experiment):
    """Resolve a specification as a user's experiment file would."""

    def make(method="hnet_ent", training="cl1-cl3", changes=None, seed=1):
        return load_experiment(write_experiment(changes)).spec(method, training, seed)

    return make


def copy_repository(folder):
    """Copy what a run of the workflow needs into ``folder``, with nothing computed in it; return ``folder``."""
    for part in PARTS:
        source, copied = REPOSITORY / part, folder / part
        copied.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copied)
    return folder


@pytest.fixture
def clone(tmp_path):
    """A copy of the repository with nothing computed in it."""
    return copy_repository(tmp_path / "clone")


def snakemake(folder, *arguments, **environment):
    """Run Snakemake in ``folder``; return its exit code and all it printed."""
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        env=os.environ | {"PATH": path} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def tensors_of(state, prefix=""):
    """Every tensor of nested dictionaries and lists by its path."""
    if torch.is_tensor(state):
        return {prefix: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {path: t for key, value in items for path, t in tensors_of(value, f"{prefix}/{key}").items()}


@pytest.fixture(scope="session")
def mnist_dir():
    """A directory that holds MNIST/raw; tests that need it are skipped where there is none."""
    places = [REPOSITORY.parent / "shared" / "datasets", REPOSITORY / "data"]
    if "MNIST_DIR" in os.environ:
        places.insert(0, Path(os.environ["MNIST_DIR"]))
    for place in places:
        raw = place / "MNIST" / "raw"
        if (raw / MNIST_FILE).is_file() or (raw / f"{MNIST_FILE}.gz").is_file():
            return place
    looked = ", ".join(map(str, places))
    pytest.skip(f"no MNIST/raw in {looked}; set MNIST_DIR to a directory that holds it")
