"""The MNIST digits: 28 x 28 grey pictures of handwritten digits with their classes.

    Datasets := train, validation, test                    each a DataSet
    DataSet  := images (n, 784) or (n, 28, 28, 1), labels (n,) or (n, 10), next_batch(k)

The package carries 10,000 of the 60,000 training digits and the 10,000 canonical test digits (data/README.md says
where from). `get_mnist` is the plain way in; `read_data_sets` is the TensorFlow 1 tutorials' reader.

Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import tempfile
import warnings
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyflow.core.config import config
from tinyflow.core.dtypes import as_dtype, float32, uint8

Array = npt.NDArray[Any]

BUNDLED = Path(__file__).parent / "data" / "mnist10k.npz"
CLASSES = 10

# fmt: off
FILES = {  # the canonical four files, with their md5 digests
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz":  "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz":  "ec29112dd5afa0611ce80d1b7f02629c",
}
MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
# fmt: on


class Raw(NamedTuple):
    """The digits as they are stored: images (n, 28, 28) and labels (n,), all uint8."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


class DataSet:
    """Pictures and their classes, handed out in batches: the DataSet of the TensorFlow 1 tutorials.

    images     the pictures, uint8 0..255 or float of any range (n, rows, columns, depth)
    labels     their classes, (n,), or one-hot, (n, classes)
    fake_data  10,000 white pictures of class 0 instead; `images` and `labels` are not looked at
    one_hot    whether the labels of fake data are one-hot
    dtype      float32 multiplies the pictures by 1/255; uint8 leaves them as they are
    reshape    True gives rows of rows * columns * depth values
    seed       makes the order of the batches the same on every run; None draws from numpy's global stream
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        fake_data: bool = False,
        one_hot: bool = False,
        dtype: Any = float32,
        reshape: bool = True,
        seed: int | None = None,
    ) -> None:
        self.dtype = as_dtype(dtype)
        if self.dtype not in (float32, uint8):
            raise TypeError(f"images come as float32 (0 to 1) or as uint8 (0 to 255), not as {self.dtype}")
        if fake_data:
            images, labels = np.full((10000, 28, 28, 1), 255, np.uint8), np.zeros(10000, np.int64)
            labels = to_one_hot(labels) if one_hot else labels
        images, self.labels = np.asarray(images), np.asarray(labels)
        if len(images) != len(self.labels):
            raise ValueError(
                f"images {images.shape} and labels {self.labels.shape} differ in their number; give one label for each"
            )
        self.pixels = images.reshape(len(images), math.prod(images.shape[1:])) if reshape else images
        self.epochs_completed = 0
        self._start = 0
        self._order = np.arange(self.num_examples)
        self._random: Any = np.random if seed is None else np.random.RandomState(seed)

    @property
    def num_examples(self) -> int:
        return len(self.labels)

    @cached_property
    def images(self) -> Array:
        """All pictures, (n, 784) or (n, 28, 28, 1), float32 0..1 (uint8 0..255 where that was asked for)."""
        return self._scaled(self.pixels)

    def next_batch(self, batch_size: int, fake_data: bool = False, shuffle: bool = True) -> tuple[Array, Array]:
        """The next pictures (batch_size, ...) and their labels, in fresh arrays that are the caller's own.

        Each epoch goes through all examples in a new order. What is left of an epoch begins the batch that the next
        epoch completes, so every batch is full; it is then that `epochs_completed` counts up. `shuffle=False` keeps
        the order of before, at first the stored one. `fake_data=True` gives white pictures of class 0.
        """
        if fake_data:
            shape = (batch_size, *self.pixels.shape[1:])
            label = np.eye(1, self.labels.shape[1], dtype=self.labels.dtype)[0] if self.labels.ndim == 2 else 0
            return self._scaled(np.full(shape, 255, np.uint8)), np.array([label] * batch_size, self.labels.dtype)
        rows = self._next_rows(batch_size, shuffle)
        return self._scaled(self.pixels.take(rows, axis=0)), self.labels.take(rows, axis=0)

    def _next_rows(self, count: int, shuffle: bool) -> Array:
        if count < 0 or (count > 0 and self.num_examples == 0):
            raise ValueError(f"next_batch({count}) of a set of {self.num_examples} examples")
        if shuffle and self.epochs_completed == 0 and self._start == 0:
            self._shuffle()
        parts = []
        while self._start + count > self.num_examples:
            parts.append(self._order[self._start :])
            count -= len(parts[-1])
            self._start = 0
            self.epochs_completed += 1
            if shuffle:
                self._shuffle()
        parts.append(self._order[self._start : self._start + count])
        self._start += count
        return np.concatenate(parts)

    def _shuffle(self) -> None:
        self._order = self._order[self._random.permutation(self.num_examples)]

    def _scaled(self, pixels: Array) -> Array:
        return pixels if self.dtype is uint8 else np.multiply(pixels, np.float32(1 / 255), dtype=np.float32)

    def __repr__(self) -> str:
        return f"DataSet(images {self.pixels.shape}, labels {self.labels.shape})"


class Datasets(NamedTuple):
    train: DataSet
    validation: DataSet
    test: DataSet


def get_mnist(
    flatten: bool = True, onehot: bool = True, full: bool = False, validation_size: int = 0, seed: int | None = 0
) -> Datasets:
    """MNIST, ready for training: `.train` and `.test`, each with `.images`, `.labels` and `.next_batch(n)`.

    flatten          images are float32 (n, 784); else float32 (n, 28, 28, 1), channels last. Values are 0 to 1
    onehot           labels are float32 (n, 10); else int64 (n,)
    full             False: the package's own 10,000 training digits, a subset of MNIST, and the 10,000 of the
                     canonical test set. True: all 60,000 training digits, downloaded once (11 MB) into
                     CACHE/datasets/mnist and checked against their md5 digests
    validation_size  how many training digits to set aside as `.validation`
    seed             the same batches on every run; None for another order each time

    Raises OSError, which says what to do, where `full` finds neither the files nor a network.
    """
    raw = read_files(MIRRORS, cache_folder(), FILES) if full else bundled()
    return split(raw, validation_size, onehot, seed=seed, reshape=flatten)


def read_data_sets(
    train_dir: str | os.PathLike[str] | None = None,
    fake_data: bool = False,
    one_hot: bool = False,
    dtype: Any = float32,
    reshape: bool = True,
    validation_size: int = 5000,
    seed: int | None = None,
    source_url: str | None = None,
) -> Datasets:
    """MNIST as the TensorFlow 1 tutorials read it: `.train`, `.validation` and `.test`.

    train_dir        a folder with the four idx files (train-images-idx3-ubyte.gz ...): they are used. Where one is
                     missing, the package's 10,000 + 10,000 digits are used, and a warning says so
    fake_data        white pictures of class 0, for trying a program out
    one_hot          labels are float32 (n, 10); else int64 (n,)
    dtype            float32 scales the pixels to 0..1; uint8 leaves 0..255
    reshape          images are (n, 784); else (n, 28, 28, 1)
    validation_size  how many training digits go to `.validation`; of the package's digits at most 1,000
    seed             the same batches on every run; None draws from numpy's global stream
    source_url       where other data in the same four files (Fashion-MNIST, say) is downloaded from into train_dir

    Raises ValueError for a file that is not an idx file or a validation_size out of range, OSError if source_url
    cannot be read.
    """
    settings = dict(dtype=dtype, reshape=reshape, seed=seed)
    if fake_data:
        return Datasets(*(DataSet((), (), fake_data=True, one_hot=one_hot, **settings) for _ in range(3)))
    folder = None if train_dir is None else Path(train_dir)
    missing = [name for name in FILES if folder is None or not (folder / name).is_file()]
    if source_url is not None and source_url not in MIRRORS:
        return split(read_files((source_url,), folder, dict.fromkeys(FILES)), validation_size, one_hot, **settings)
    if not missing:
        return split(read_files((), folder, dict.fromkeys(FILES)), validation_size, one_hot, **settings)
    warnings.warn(
        f"read_data_sets uses the 10,000 training and 10,000 test digits of the tinyflow package, since "
        f"{'no folder was given' if folder is None else f'{folder} lacks {missing[0]}'}; "
        f"for all 60,000, call with a folder that has {', '.join(FILES)}",
        stacklevel=2,
    )
    raw = bundled()
    return split(raw, min(validation_size, len(raw.train_labels) // 10), one_hot, **settings)


def split(raw: Raw, validation_size: int, one_hot: bool, **settings: Any) -> Datasets:
    """The first `validation_size` training digits as the validation set, the others as the training set."""
    size = len(raw.train_labels)
    if not 0 <= validation_size <= size:
        raise ValueError(f"validation_size={validation_size}: choose from 0 to {size}, the number of training digits")

    def data_set(images: Array, labels: Array) -> DataSet:
        classes = to_one_hot(labels) if one_hot else labels.astype(np.int64)
        return DataSet(images[..., None], classes, **settings)

    return Datasets(
        train=data_set(raw.train_images[validation_size:], raw.train_labels[validation_size:]),
        validation=data_set(raw.train_images[:validation_size], raw.train_labels[:validation_size]),
        test=data_set(raw.test_images, raw.test_labels),
    )


def to_one_hot(labels: Array, classes: int = CLASSES) -> Array:
    """Classes (n,) as float32 rows (n, classes) with a 1 at the class."""
    return np.eye(classes, dtype=np.float32)[labels]


def bundled() -> Raw:
    """The package's digits: 10,000 of the training set, and the canonical test set."""
    with np.load(BUNDLED, allow_pickle=False) as data:
        return Raw(*(data[name] for name in Raw._fields))


def cache_folder() -> Path | None:
    """Where downloads are kept; None where the flag CACHE forbids it."""
    return None if str(config.CACHE) in ("", "0") else Path(config.CACHE) / "datasets" / "mnist"


def read_files(sources: tuple[str, ...], folder: Path | None, digests: dict[str, Any]) -> Raw:
    """The four idx files, from the folder where they are there, else from the first source that has them."""
    return Raw(*(read_idx(fetch(name, sources, folder, md5), name) for name, md5 in digests.items()))


def fetch(name: str, sources: tuple[str, ...], folder: Path | None, md5: str | None) -> bytes:
    """The bytes of one file, checked; what had to be downloaded is kept in the folder."""
    from urllib.request import urlopen

    data: bytes
    tried = []
    if folder is not None and (folder / name).is_file():
        data = (folder / name).read_bytes()
        if is_sound(data, md5):
            return data
        tried.append(f"{folder / name}: its md5 digest is not {md5}")
    for source in sources:
        url = source.rstrip("/") + "/" + name
        try:
            with urlopen(url, timeout=30) as answer:
                data = answer.read()
        except OSError as error:
            tried.append(f"{url}: {error}")
            continue
        if not is_sound(data, md5):
            tried.append(f"{url}: its md5 digest is not {md5}")
            continue
        if folder is not None:
            write_whole(folder / name, data)
        return data
    raise OSError(
        f"{name} could not be had:\n  "
        + "\n  ".join(tried)
        + (f"\nWithout a network, put {', '.join(FILES)} into {folder}" if folder else "\nSet a folder to keep data in")
        + ". The 10,000 + 10,000 digits of get_mnist() need no network."
    )


def is_sound(data: bytes, md5: str | None) -> bool:
    return md5 is None or hashlib.md5(data, usedforsecurity=False).hexdigest() == md5


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def read_idx(data: bytes, name: str) -> Array:
    """The array of bytes in a gzipped idx file: 0, 0, 8, number of dimensions; the dimensions; the values."""
    try:
        data = gzip.decompress(data)
        shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
        if data[:3] != b"\0\0\x08":
            raise ValueError(f"it begins with {data[:4].hex(' ')}")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * len(shape)).reshape([int(n) for n in shape])
    except (ValueError, IndexError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is not a gzipped idx file of bytes: {error}; fetch it again") from error
