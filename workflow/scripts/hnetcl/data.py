"""Datasets as arrays: found or downloaded, checked against known checksums, prepared once.

A prepared dataset is one ``.npz`` file with uint8 images ``[N, side, side]``, or ``[N, side, side, 3]`` in colour, and
int64 labels ``[N]`` for training and test. Training jobs read nothing else.
"""

import gzip
import hashlib
import struct
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from hnetcl.files import written_whole

# MD5 of the unpacked files and their number of images, from the original distribution (LeCun et al., 1998).
MNIST_FILES = {
    "train_images": ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", 60_000),
    "train_labels": ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", 60_000),
    "test_images": ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", 10_000),
    "test_labels": ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", 10_000),
}
DIGITS_TEST_SHARE = 0.2
CIFAR_100_CLASSES = 50  # of the fine labels, in their order: those that the paper's tasks 2 to 6 have


class DatasetError(Exception):
    """A dataset that is absent, incomplete or altered; the message names the file and what to do."""


@dataclass(frozen=True)
class Dataset:
    """Images and labels as prepared, with the SHA-256 of their contents."""

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    largest_value: int

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return int(self.train_labels.max()) + 1

    @property
    def sha256(self) -> str:
        """SHA-256 over all arrays: two datasets agree exactly when this does."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def load_digits() -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits (8 x 8, values 0..16), a fifth of each class for testing."""
    from sklearn.datasets import load_digits as load
    from sklearn.model_selection import train_test_split

    bunch = load()
    train, test = train_test_split(
        np.arange(len(bunch.target)), test_size=DIGITS_TEST_SHARE, stratify=bunch.target, random_state=0
    )
    images, labels = bunch.images.astype(np.uint8), bunch.target.astype(np.int64)
    return Dataset("digits", images[train], labels[train], images[test], labels[test], largest_value=16)


def load_mnist(data_dir: str | Path, download: bool = True) -> Dataset:
    """Return MNIST from ``data_dir``, a torchvision root: ``MNIST/raw`` with the files packed (.gz) or unpacked.

    Files that are not there are downloaded by torchvision unless ``download`` is false.

    Raises:
        DatasetError: a file is absent and cannot be downloaded, or its MD5 differs from the known one.
    """
    raw = Path(data_dir) / "MNIST" / "raw"
    if download and any(_find(raw, name) is None for name, _, _ in MNIST_FILES.values()):
        _download_mnist(data_dir)
    arrays = {key: _read_mnist_file(raw, *facts) for key, facts in MNIST_FILES.items()}
    return Dataset("mnist", **arrays, largest_value=255)


def _find(raw: Path, name: str) -> Path | None:
    """Return the unpacked file if there is one, else the packed one, else None."""
    return next((path for path in (raw / name, raw / f"{name}.gz") if path.is_file()), None)


def _download_mnist(data_dir: str | Path) -> None:
    from torchvision.datasets import MNIST

    try:
        MNIST(data_dir, download=True)
    except (OSError, RuntimeError) as error:
        names = ", ".join(f"{name}[.gz]" for name, _, _ in MNIST_FILES.values())
        raise DatasetError(
            f"MNIST is not in '{Path(data_dir) / 'MNIST' / 'raw'}' and could not be downloaded ({error}). Copy the "
            f"files {names} there, packed or unpacked, or set 'data_dir' to a directory that holds MNIST/raw."
        ) from error


def _read_mnist_file(raw: Path, name: str, md5: str, count: int) -> np.ndarray:
    path = _find(raw, name)
    if path is None:
        raise DatasetError(f"MNIST file '{raw / name}' is missing, and so is '{name}.gz' beside it.")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        found = hashlib.md5(path.read_bytes()).hexdigest()
        raise DatasetError(
            f"'{path}' cannot be unpacked ({error}): its own MD5 is {found}; unpacked it should have {md5}. It is "
            "truncated or altered: delete it and download or copy it again."
        ) from error
    found = hashlib.md5(content).hexdigest()
    if found != md5:
        raise DatasetError(
            f"'{path}' has the MD5 {found} (unpacked), but should have {md5}. It is truncated or altered: delete it "
            "and download or copy it again."
        )
    dimensions = content[3]
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    array = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    assert len(array) == count, (path, shape)
    return array.astype(np.int64) if dimensions == 1 else array


def load_cifar(data_dir: str | Path, download: bool = True) -> Dataset:
    """Return the images of the paper's six tasks: CIFAR-10, labels 0..9, and 50 classes of CIFAR-100, labels 10..59.

    ``data_dir`` is a torchvision root: ``cifar-10-batches-py`` and ``cifar-100-python`` as unpacked from the archives.
    torchvision checks every file against a known MD5, and downloads what is not there unless ``download`` is false.

    Raises:
        DatasetError: an archive is absent and cannot be downloaded, or a file of it is altered.
    """
    from torchvision.datasets import CIFAR10, CIFAR100

    arrays = {}
    for split, train in (("train", True), ("test", False)):
        ten, hundred = (_torchvision(archive, data_dir, train, download) for archive in (CIFAR10, CIFAR100))
        labels = [np.array(archive.targets, dtype=np.int64) for archive in (ten, hundred)]
        used = labels[1] < CIFAR_100_CLASSES
        parts = ([ten.data, hundred.data[used]], [labels[0], labels[1][used] + 10])
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = map(np.concatenate, parts)
    return Dataset("cifar", **arrays, largest_value=255)


def _torchvision(archive: type, data_dir: str | Path, train: bool, download: bool):
    """Open one half of a CIFAR archive through torchvision, which downloads and checks it."""
    try:
        return archive(data_dir, train=train, download=download)
    except (OSError, RuntimeError) as error:
        folder = Path(data_dir) / archive.base_folder
        wrong = [
            f"'{folder / name}' should have the MD5 {md5} and {_md5_found(folder / name)}"
            for name, md5 in [*archive.train_list, *archive.test_list]
            if _md5_found(folder / name) != f"has {md5}"
        ]
        raise DatasetError(
            f"{archive.__name__} cannot be read and could not be downloaded ({error}): {'; '.join(wrong) or folder}. "
            f"Unpack {archive.filename} in '{data_dir}', or set 'data_dir' to a directory that holds "
            f"{archive.base_folder}."
        ) from error


def _md5_found(path: Path) -> str:
    return f"has {hashlib.md5(path.read_bytes()).hexdigest()}" if path.is_file() else "is missing"


def load_cifar10_jpeg(data_dir: str | Path) -> Dataset:
    """Return CIFAR-10 as lossy JPEG pictures from ``cifar10_jpeg_{train,test}.npz``, in a random but fixed order.

    For trying the code where the archives are not to be had: results on these pictures are none on CIFAR-10.
    """
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    arrays = {}
    for split in ("train", "test"):
        path = Path(data_dir) / f"cifar10_jpeg_{split}.npz"
        try:
            with np.load(path) as stored:
                content, offsets, labels = (stored[key] for key in ("jpeg", "offsets", "labels"))
        except (OSError, KeyError, ValueError) as error:
            raise DatasetError(f"'{path}' cannot be read ({error}): set 'data_dir' to where it is.") from error
        images = [
            decode_jpeg(torch.tensor(content[a:b]), ImageReadMode.RGB).permute(1, 2, 0).numpy()
            for a, b in pairwise(offsets)
        ]
        order = np.random.default_rng(0).permutation(len(labels))  # they come sorted by class
        arrays |= {f"{split}_images": np.stack(images)[order], f"{split}_labels": labels[order].astype(np.int64)}
    return Dataset("cifar10_jpeg", **arrays, largest_value=255)


def save(dataset: Dataset, path: str | Path) -> None:
    """Write the prepared dataset to ``path`` (.npz)."""
    with written_whole(path) as aside:
        np.savez(aside, **vars(dataset), sha256=dataset.sha256)


def load(path: str | Path) -> Dataset:
    """Read what ``save`` wrote.

    Raises:
        DatasetError: the file is absent, truncated, or its contents differ from the SHA-256 it was written with.
    """
    try:
        with np.load(path) as stored:
            arrays = {key: stored[key] for key in stored.files}
        expected = str(arrays.pop("sha256"))
        name, largest_value = str(arrays.pop("name")), int(arrays.pop("largest_value"))
        dataset = Dataset(name, largest_value=largest_value, **arrays)
    except FileNotFoundError as error:
        raise DatasetError(f"prepared dataset '{path}' does not exist: run prepare_dataset.py first.") from error
    except Exception as error:  # a damaged archive fails in whichever way its first damaged byte decides
        raise DatasetError(
            f"prepared dataset '{path}' cannot be read ({type(error).__name__}: {error}): delete it and prepare it "
            "again."
        ) from error
    if dataset.sha256 != expected:
        raise DatasetError(
            f"prepared dataset '{path}' has the SHA-256 {dataset.sha256}, but was written with {expected}: delete it "
            "and prepare it again."
        )
    return dataset


def hold_out(dataset: Dataset, name: str, count: int) -> Dataset:
    """Return the training images of ``dataset`` with the last ``count`` of them in the place of the test images.

    Settings can be chosen by it without a look at a test image.
    """
    numbers = np.arange(len(dataset.train_labels))
    return _held_out(dataset, name, numbers >= len(numbers) - count)


def hold_out_of_every_class(dataset: Dataset, name: str, share: float) -> Dataset:
    """Do as `hold_out` with the last ``share`` of the training images of every class."""
    labels = dataset.train_labels
    held = np.zeros(len(labels), dtype=bool)
    for label in range(dataset.num_classes):
        own = np.flatnonzero(labels == label)
        held[own[len(own) - round(share * len(own)) :]] = True
    return _held_out(dataset, name, held)


def _held_out(dataset: Dataset, name: str, held: np.ndarray) -> Dataset:
    images, labels = dataset.train_images, dataset.train_labels
    return Dataset(name, images[~held], labels[~held], images[held], labels[held], dataset.largest_value)


def random_images(train: int = 60_000, test: int = 10_000, side: int = 28, classes: int = 10) -> Dataset:
    """Return as many images as MNIST has, of its size, with random pixels: for measuring time alone."""
    generator = np.random.default_rng(0)

    def images(count: int) -> np.ndarray:
        return generator.integers(0, 256, (count, side, side), dtype=np.uint8)

    def labels(count: int) -> np.ndarray:
        return np.arange(count) % classes

    return Dataset("random", images(train), labels(train), images(test), labels(test), largest_value=255)


# By name; each takes the data directory, whether it needs it or not.
LOADERS = {
    "digits": lambda data_dir: load_digits(),
    "mnist": load_mnist,
    "mnist_validation": lambda data_dir: hold_out(load_mnist(data_dir), "mnist_validation", 10_000),
    "cifar": load_cifar,
    "cifar_validation": lambda data_dir: hold_out_of_every_class(load_cifar(data_dir), "cifar_validation", 0.1),
    "cifar10_jpeg": load_cifar10_jpeg,
}
