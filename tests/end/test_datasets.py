"""The digits: what they are, the order they come in, and what a missing or damaged file gets."""

import gzip
import hashlib
import struct
import subprocess
import sys

import numpy as np
import pytest

from tinyflow.core.config import config
from tinyflow.datasets import DataSet, get_mnist, mnist, read_data_sets


def numbered(n, **settings):
    """n pictures of one pixel whose value and label are their number."""
    number = np.arange(n)
    return DataSet(number.reshape(n, 1, 1, 1).astype(np.uint8), number, dtype="uint8", **settings)


def idx(array):
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


@pytest.fixture
def four_files(tmp_path):
    """A folder with MNIST's four files, of 60 and 20 random pictures."""
    random = np.random.default_rng(0)
    arrays = {}
    for name, n in zip(mnist.FILES, (60, 60, 20, 20), strict=True):
        arrays[name] = random.integers(0, 10, (n, 28, 28) if "images" in name else n).astype(np.uint8)
    folder = tmp_path / "files"
    folder.mkdir()
    for name, array in arrays.items():
        (folder / name).write_bytes(idx(array))
    return folder, mnist.Raw(*arrays.values())


def test_the_packed_digits_are_the_published_ones():
    raw = mnist.bundled()
    assert [a.shape for a in raw] == [(10000, 28, 28), (10000,)] * 2
    assert hashlib.md5(raw.test_images.tobytes()).hexdigest() == "240610fa99e73bfa49df8e7fc24d3206"
    assert hashlib.md5(raw.train_images.tobytes()).hexdigest() == "a84cca42eddfe5d573964e70d091e58e"
    assert np.bincount(raw.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(raw.train_labels).tolist() == [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]
    assert raw.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_labels_belong_to_their_images():
    """The nearest mean of the training classes tells four test digits of five."""
    data = get_mnist(onehot=False)
    means = np.stack([data.train.images[data.train.labels == digit].mean(0) for digit in range(10)])
    distance = ((data.test.images[:, None] - means) ** 2).sum(2)
    assert (distance.argmin(1) == data.test.labels).mean() > 0.8


@pytest.mark.parametrize("flatten, shape", [(True, (10000, 784)), (False, (10000, 28, 28, 1))])
@pytest.mark.parametrize("onehot", [True, False])
def test_shapes_and_types(flatten, shape, onehot):
    data = get_mnist(flatten=flatten, onehot=onehot)
    for part in (data.train, data.test):
        assert part.images.shape == shape and part.images.dtype == np.float32
        assert part.images.min() == 0 and part.images.max() == 1
        assert part.images is part.images
        assert part.labels.shape == ((10000, 10) if onehot else (10000,))
        assert part.labels.dtype == (np.float32 if onehot else np.int64)
        assert part.num_examples == 10000 and part.epochs_completed == 0
        images, labels = part.next_batch(7)
        assert images.shape == (7, *shape[1:]) and images.dtype == np.float32
        assert labels.shape == (7, *part.labels.shape[1:]) and labels.dtype == part.labels.dtype
    assert data.validation.num_examples == 0 and data.validation.images.shape == (0, *shape[1:])


def test_every_epoch_shows_each_example_once():
    data = numbered(10, seed=1)
    batches = [data.next_batch(4) for _ in range(5)]
    assert all((x[:, 0] == y).all() for x, y in batches)
    seen = np.concatenate([y for _, y in batches])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist() != sorted(seen[10:])


def test_a_batch_takes_the_rest_of_one_epoch_and_the_start_of_the_next():
    data = numbered(10)
    batches = [data.next_batch(n, shuffle=False)[1].tolist() for n in (4, 4, 4, 8, 5, 0)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 1], [2, 3, 4, 5, 6, 7, 8, 9], [0, 1, 2, 3, 4], []]


def test_an_epoch_is_over_when_the_next_one_is_begun():
    data = numbered(10, seed=0)
    data.next_batch(10)
    assert data.epochs_completed == 0
    data.next_batch(1)
    assert data.epochs_completed == 1
    data.next_batch(25)
    assert data.epochs_completed == 3


def test_the_order_is_that_of_the_seed():
    def order(seed):
        return [numbered(50, seed=seed).next_batch(50)[1].tolist()]

    assert order(3) == order(3) != order(4)
    np.random.seed(5)
    first = order(None)
    np.random.seed(5)
    assert order(None) == first
    assert numbered(50, seed=3).next_batch(50)[1].tolist() == np.random.RandomState(3).permutation(50).tolist()


def test_a_batch_is_the_callers_own():
    data = get_mnist()
    images, labels = data.train.next_batch(10000, shuffle=False)
    assert (images == data.train.images).all()
    images[:], labels[:] = 9, 9
    again = data.train.next_batch(10000, shuffle=False)
    assert (again[0] == data.train.images).all() and data.train.labels.max() == 1


def test_fake_data():
    data = read_data_sets(fake_data=True, one_hot=True)
    assert data.train.images.shape == (10000, 784) and (data.train.images == 1).all()
    for images, labels in (data.test.next_batch(3), get_mnist().test.next_batch(3, fake_data=True)):
        assert images.shape == (3, 784) and (images == 1).all()
        assert labels.argmax(1).tolist() == [0, 0, 0] and labels.sum() == 3
    assert get_mnist(onehot=False).train.next_batch(2, fake_data=True)[1].tolist() == [0, 0]


def test_the_tutorials_reader_without_files(tmp_path):
    with pytest.warns(UserWarning, match=r"10,000 training.*lacks train-images-idx3-ubyte.gz"):
        data = read_data_sets(tmp_path / "MNIST_data", one_hot=True)
    assert [part.num_examples for part in data] == [9000, 1000, 10000]
    with pytest.warns(UserWarning, match="no folder was given"):
        assert read_data_sets(validation_size=0).train.num_examples == 10000
    assert not (tmp_path / "MNIST_data").exists()


def test_the_tutorials_reader_with_files(four_files, recwarn):
    folder, raw = four_files
    data = read_data_sets(str(folder), validation_size=15, dtype="uint8", reshape=False)
    assert not recwarn.list
    assert (data.validation.images[..., 0] == raw.train_images[:15]).all()
    assert (data.train.images[..., 0] == raw.train_images[15:]).all() and data.train.images.dtype == np.uint8
    assert (data.train.labels == raw.train_labels[15:]).all() and (data.test.labels == raw.test_labels).all()
    with pytest.raises(ValueError, match="choose from 0 to 60"):
        read_data_sets(folder)


def test_a_download_is_checked_and_kept(four_files, tmp_path, monkeypatch):
    folder, raw = four_files
    digests = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in mnist.FILES}
    monkeypatch.setattr(mnist, "FILES", digests)
    monkeypatch.setattr(mnist, "MIRRORS", ((tmp_path / "nowhere").as_uri(), folder.as_uri()))
    with config(CACHE=str(tmp_path / "cache")):
        data = get_mnist(full=True, onehot=False, validation_size=10)
        assert (data.train.labels == raw.train_labels[10:]).all() and data.validation.num_examples == 10
        kept = mnist.cache_folder()
        assert sorted(p.name for p in kept.iterdir()) == sorted(digests)
        (kept / next(iter(digests))).write_bytes(b"half a fi")
        assert get_mnist(full=True).train.num_examples == 60
        monkeypatch.setattr(mnist, "MIRRORS", ())
        assert get_mnist(full=True).train.num_examples == 60
        (kept / next(iter(digests))).write_bytes(b"half a fi")
        with pytest.raises(OSError, match=r"md5 digest is not(.|\n)*put train-images(.|\n)*get_mnist\(\)"):
            get_mnist(full=True)
    with config(CACHE="0"), pytest.raises(OSError, match="could not be had"):
        get_mnist(full=True)


def test_other_data_in_the_same_files(four_files, tmp_path):
    folder, raw = four_files
    data = read_data_sets(tmp_path / "fashion", source_url=folder.as_uri() + "/", validation_size=5)
    assert (data.train.labels == raw.train_labels[5:]).all() and len(list((tmp_path / "fashion").iterdir())) == 4
    with pytest.raises(OSError, match="could not be had"):
        read_data_sets(tmp_path / "other", source_url=(tmp_path / "nowhere").as_uri())


@pytest.mark.parametrize("data", [b"", b"no gzip", gzip.compress(b""), gzip.compress(b"\0\0\x0d\1\0\0\0\0"),
                                  gzip.compress(b"\0\0\x08\2\0\0\0\2\0\0\0\2abc"), idx(np.zeros(9, np.uint8))[:-9]], ids=str.split("empty plain nothing doubles short cut"))  # fmt: skip
def test_a_file_that_is_no_idx_file(data):
    with pytest.raises(ValueError, match=r"x\.gz is not a gzipped idx file of bytes: .*fetch it again"):
        mnist.read_idx(data, "x.gz")


def test_bad_arguments():
    with pytest.raises(TypeError, match="not as int32"):
        DataSet(np.zeros((2, 4, 4, 1)), [0, 1], dtype="int32")
    with pytest.raises(ValueError, match="one label for each"):
        DataSet(np.zeros((2, 4, 4, 1)), [0, 1, 2])
    with pytest.raises(ValueError, match="of a set of 0 examples"):
        get_mnist().validation.next_batch(1)


def test_import_fetches_and_reads_nothing():
    code = "import sys, tinyflow.datasets; assert not {'urllib.request', 'http.client', 'ssl'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
