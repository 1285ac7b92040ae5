"""Datasets: found where they are staged, checked against their checksums, prepared whole."""

import gzip
import hashlib
import os
import shutil
import urllib.error

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import make_dataset
from hnetcl import data
from hnetcl.data import DatasetError


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def staged(tmp_path, monkeypatch):
    """A data directory with small files in MNIST's format; returns it and the arrays in it."""
    random = np.random.default_rng(1)
    arrays, facts = {}, {}
    raw = tmp_path / "staged" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for key, (name, _, _) in data.MNIST_FILES.items():
        count = 30 if key.startswith("train") else 20
        shape = (count, 28, 28) if key.endswith("images") else (count,)
        arrays[key] = random.integers(0, 10, shape, dtype=np.uint8)
        header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
        content = header + arrays[key].tobytes()
        facts[key] = (name, md5(content), count)
        (raw / name).write_bytes(content)
    monkeypatch.setattr(data, "MNIST_FILES", facts)
    return tmp_path / "staged", arrays


def pack(directory):
    for path in list((directory / "MNIST" / "raw").iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


# ---- MNIST --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True], ids=["unpacked", "packed"])
def test_staged_files_are_read_without_writing_beside_them(staged, no_network, packed):
    directory, arrays = staged
    if packed:
        pack(directory)
    raw = directory / "MNIST" / "raw"
    before = {path.name: path.stat().st_mtime_ns for path in raw.iterdir()}
    for folder in (raw, raw.parent, directory):
        folder.chmod(0o555)
    try:
        mnist = data.load_mnist(directory)
    finally:
        for folder in (directory, raw.parent, raw):
            folder.chmod(0o755)
    for key, array in arrays.items():
        np.testing.assert_array_equal(getattr(mnist, key), array)
    assert mnist.train_labels.dtype == mnist.test_labels.dtype == np.int64
    assert mnist.largest_value == 255
    assert {path.name: path.stat().st_mtime_ns for path in raw.iterdir()} == before


@pytest.mark.parametrize("key", ["train_images", "test_labels"])
@pytest.mark.parametrize("left", [0, 3, 0.5, -1], ids=["empty", "header", "half", "all but one byte"])
def test_a_truncated_file_is_named_with_both_checksums(staged, key, left):
    directory, _ = staged
    name, expected, _ = data.MNIST_FILES[key]
    path = directory / "MNIST" / "raw" / name
    content = path.read_bytes()
    cut = content[: int(left * len(content)) if isinstance(left, float) else left]
    path.write_bytes(cut)
    with pytest.raises(DatasetError) as error:
        data.load_mnist(directory)
    for part in (str(path), md5(cut), expected):
        assert part in str(error.value)


@pytest.mark.parametrize("left", [0, 5, 0.5, -1], ids=["empty", "header", "half", "all but one byte"])
def test_a_truncated_packed_file_is_named_with_both_checksums(staged, left):
    directory, _ = staged
    pack(directory)
    name, expected, _ = data.MNIST_FILES["train_images"]
    path = directory / "MNIST" / "raw" / f"{name}.gz"
    content = path.read_bytes()
    cut = content[: int(left * len(content)) if isinstance(left, float) else left]
    path.write_bytes(cut)
    with pytest.raises(DatasetError) as error:
        data.load_mnist(directory)
    found = md5(b"") if not cut else md5(cut)
    for part in (str(path), found, expected):
        assert part in str(error.value)


def test_an_altered_file_is_named_with_both_checksums(staged):
    directory, _ = staged
    name, expected, _ = data.MNIST_FILES["train_labels"]
    path = directory / "MNIST" / "raw" / name
    altered = path.read_bytes()[:-1] + b"\x63"
    path.write_bytes(altered)
    with pytest.raises(DatasetError) as error:
        data.load_mnist(directory)
    for part in (str(path), md5(altered), expected):
        assert part in str(error.value)


def test_missing_files_without_a_network_say_where_to_put_which_files(tmp_path, no_network):
    with pytest.raises(DatasetError) as error:
        data.load_mnist(tmp_path / "empty")
    message = str(error.value)
    assert str(tmp_path / "empty" / "MNIST" / "raw") in message
    for name, _, _ in data.MNIST_FILES.values():
        assert name in message
    assert "data_dir" in message


def test_a_missing_file_is_named_where_no_download_is_wanted(staged):
    directory, _ = staged
    path = directory / "MNIST" / "raw" / data.MNIST_FILES["test_labels"][0]
    path.unlink()
    with pytest.raises(DatasetError, match=r"t10k-labels-idx1-ubyte.* missing"):
        data.load_mnist(directory, download=False)


def test_held_out_images_come_from_the_training_images_alone(dataset):
    held = data.hold_out(dataset, "held", 7)
    assert len(held.test_labels) == 7 and len(held.train_labels) == len(dataset.train_labels) - 7
    for part in ("images", "labels"):
        both = np.concatenate([getattr(held, f"train_{part}"), getattr(held, f"test_{part}")])
        np.testing.assert_array_equal(both, getattr(dataset, f"train_{part}"))
    assert (held.name, held.largest_value, held.num_classes) == ("held", dataset.largest_value, dataset.num_classes)


@pytest.mark.mnist
def test_the_real_files_are_mnist(mnist_dir):
    mnist = data.load_mnist(mnist_dir, download=False)
    assert mnist.train_images.shape == (60_000, 28, 28) and mnist.test_images.shape == (10_000, 28, 28)
    # Numbers known of MNIST: images a class, and the mean and spread used to normalise it.
    assert np.bincount(mnist.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(mnist.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    counts = np.bincount(mnist.train_images.reshape(-1), minlength=256) / mnist.train_images.size
    values = np.arange(256) / 255
    mean = (counts * values).sum()
    assert mean == pytest.approx(0.1307, abs=5e-5)
    assert np.sqrt((counts * values**2).sum() - mean**2) == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.mnist
def test_a_truncated_copy_of_a_real_file_is_refused(mnist_dir, tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(mnist_dir / "MNIST" / "raw", raw)
    raw.chmod(0o755)
    path = next(p for p in raw.iterdir() if p.name.startswith("t10k-labels"))
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DatasetError) as error:
        data._read_mnist_file(raw, *data.MNIST_FILES["test_labels"])
    for part in (str(path), md5(path.read_bytes()), data.MNIST_FILES["test_labels"][1]):
        assert part in str(error.value)


# ---- digits -------------------------------------------------------------------------------------------------------


def test_the_digits_are_split_by_class_without_overlap():
    from sklearn.datasets import load_digits

    digits, source = data.load_digits(), load_digits()
    assert len(digits.train_labels) + len(digits.test_labels) == len(source.target) == 1797

    def rows(images, labels):
        pixels = images.reshape(len(images), -1)
        return sorted(map(tuple, np.column_stack([pixels, labels]).astype(int).tolist()))

    # Together they are all digits, each once: so no image is in both parts.
    both = rows(digits.train_images, digits.train_labels) + rows(digits.test_images, digits.test_labels)
    assert sorted(both) == rows(source.images, source.target)
    for digit in range(10):
        share = (digits.test_labels == digit).sum() / (source.target == digit).sum()
        assert abs(share - 0.2) < 0.01
    assert digits.num_classes == 10
    assert digits.train_images.max() == digits.largest_value == 16
    assert digits.sha256 == data.load_digits().sha256


# ---- prepared files -----------------------------------------------------------------------------------------------


def test_what_is_saved_is_what_is_loaded(tmp_path, dataset):
    path = tmp_path / "deep" / "digits.npz"
    data.save(dataset, path)
    loaded = data.load(path)
    for key, value in vars(dataset).items():
        found = getattr(loaded, key)
        np.testing.assert_array_equal(found, value)
        assert np.asarray(found).dtype == np.asarray(value).dtype
    assert loaded.sha256 == dataset.sha256
    assert [p.name for p in path.parent.iterdir()] == ["digits.npz"]


@pytest.mark.parametrize("key", ["train_images", "train_labels", "test_images", "test_labels"])
def test_the_checksum_changes_with_every_array(dataset, key):
    arrays = {name: np.copy(value) for name, value in vars(dataset).items() if name.endswith(("images", "labels"))}
    arrays[key].flat[3] += 1
    assert data.Dataset("digits", **arrays, largest_value=16).sha256 != dataset.sha256


def test_altered_contents_are_refused_with_both_checksums(tmp_path, dataset):
    path = tmp_path / "digits.npz"
    data.save(dataset, path)
    with np.load(path) as stored:
        content = {key: stored[key] for key in stored.files}
    content["test_labels"][0] += 1
    np.savez(path, **content)
    arrays = {key: content[key] for key in ("train_images", "train_labels", "test_images", "test_labels")}
    now = data.Dataset("digits", **arrays, largest_value=16).sha256
    with pytest.raises(DatasetError) as error:
        data.load(path)
    for part in (str(path), now, dataset.sha256):
        assert part in str(error.value)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / "digits.npz"
    tiny = make_dataset(classes=2, side=3, train=2, test=2)
    data.save(tiny, path)
    return tiny, path.read_bytes()


def load_or_refuse(content, path):
    """Load ``content`` as a prepared file; None where it is refused as a ``DatasetError`` that names the file."""
    path.write_bytes(content)
    try:
        return data.load(path)
    except DatasetError as error:
        assert str(path) in str(error)
        return None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_prepared_file_cut_anywhere_is_refused(prepared, tmp_path, data):
    _, content = prepared
    length = data.draw(st.integers(0, len(content) - 1))
    assert load_or_refuse(content[:length], tmp_path / "digits.npz") is None


def test_a_prepared_file_with_a_flipped_bit_is_refused_or_holds_the_same_data(prepared, tmp_path):
    tiny, content = prepared
    for position in range(0, len(content), 2):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position // 2 % 8
        loaded = load_or_refuse(bytes(flipped), tmp_path / "digits.npz")
        if loaded is not None:
            assert loaded.sha256 == tiny.sha256
            assert (loaded.name, loaded.largest_value) == (tiny.name, tiny.largest_value)


def test_other_files_are_refused_as_prepared_datasets(tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, images=np.zeros(3))
    with pytest.raises(DatasetError, match=r"other\.npz"):
        data.load(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(DatasetError, match=r"array\.npy"):
        data.load(tmp_path / "array.npy")


def test_an_absent_prepared_file_says_what_to_run(tmp_path):
    with pytest.raises(DatasetError, match=r"absent\.npz.*prepare_dataset"):
        data.load(tmp_path / "absent.npz")
