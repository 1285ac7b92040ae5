"""Small real pictures in the CIFAR archives' own format: scikit-learn's digits, enlarged and coloured."""

import hashlib
import pickle

import numpy as np
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, CIFAR100

TINTS = np.array([(255, 90, 60), (60, 220, 90), (90, 120, 255), (230, 220, 60), (220, 80, 220)] * 2)


def coloured_digits(per_class, kind, offset):
    """Return ``per_class`` pictures of each digit, ``[10 * per_class, 32, 32, 3]``, and their digits.

    ``kind`` 0 is white on black; the others have a colour, an orientation and a background of their own.
    """
    bunch = load_digits()
    images, digits = [], []
    for digit in range(10):
        own = bunch.images[bunch.target == digit][offset : offset + per_class]
        grey = np.kron(own / 16, np.ones((4, 4)))
        if kind:
            grey = np.rot90(grey, kind % 4, axes=(1, 2))
            grey = 1 - grey if kind % 2 else grey
        tint = TINTS[kind - 1] if kind else np.array([255, 255, 255])
        images.append((grey[..., None] * tint).astype(np.uint8))
        digits += [digit] * len(own)
    return np.concatenate(images), np.array(digits)


def write_archives(root, monkeypatch, train=16, test=8):
    """Write both archives unpacked below ``root`` and make torchvision expect just these files.

    Class c of CIFAR-10 is digit c; class c of CIFAR-100 is digit c % 10 of the kind c // 10 + 1.
    """

    def write(archive, name, images, labels, key):
        order = np.random.default_rng(len(name)).permutation(len(labels))
        rows = images[order].transpose(0, 3, 1, 2).reshape(len(labels), -1)
        path = root / archive.base_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps({"data": rows, key: labels[order].tolist()}))
        return [name, hashlib.md5(path.read_bytes()).hexdigest()]

    ten = {
        half: coloured_digits(count, 0, offset) for half, count, offset in (("train", train, 0), ("test", test, train))
    }
    batches = np.array_split(np.arange(len(ten["train"][1])), 5)
    files = [
        write(CIFAR10, f"data_batch_{i}", ten["train"][0][part], ten["train"][1][part], "labels")
        for i, part in enumerate(batches, 1)
    ]
    monkeypatch.setattr(CIFAR10, "train_list", files)
    monkeypatch.setattr(CIFAR10, "test_list", [write(CIFAR10, "test_batch", *ten["test"], "labels")])
    for half, count, offset in (("train", train, 0), ("test", test, train)):
        kinds = [coloured_digits(count, kind, offset) for kind in range(1, 11)]
        images = np.concatenate([images for images, _ in kinds])
        labels = np.concatenate([digits + 10 * kind for kind, (_, digits) in enumerate(kinds)])
        monkeypatch.setattr(CIFAR100, f"{half}_list", [write(CIFAR100, half, images, labels, "fine_labels")])
    for archive in (CIFAR10, CIFAR100):
        names = [f"class {i}" for i in range(100)]
        path = root / archive.base_folder / "meta"
        path.write_bytes(pickle.dumps({archive.meta["key"]: names}))
        meta = archive.meta | {"filename": "meta", "md5": hashlib.md5(path.read_bytes()).hexdigest()}
        monkeypatch.setattr(archive, "meta", meta)
