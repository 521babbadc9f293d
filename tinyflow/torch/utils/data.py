"""torch.utils.data: datasets, and loaders that cut them into batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tinyflow.torch.creation import as_tensor, from_numpy, tensor
from tinyflow.torch.functions import FUNCTIONS
from tinyflow.torch.random import Generator, randint, randperm
from tinyflow.torch.tensor import Tensor


class Dataset:
    """Anything with __getitem__ and __len__."""

    def __class_getitem__(cls, _: Any) -> type:
        return cls

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")


class IterableDataset(Dataset):
    """Anything with __iter__."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")


class TensorDataset(Dataset):
    """Rows of several tensors."""

    def __init__(self, *tensors: Tensor) -> None:
        if any(t.shape[0] != tensors[0].shape[0] for t in tensors):
            raise AssertionError("Size mismatch between tensors")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        return tuple(t[index] for t in self.tensors)  # type: ignore[index]

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class Subset(Dataset):
    """Some items of a dataset."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """Parts of given lengths (or fractions), drawn at random."""
    n = len(dataset)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        sizes = [math.floor(n * part) for part in lengths]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
    else:
        sizes = [int(k) for k in lengths]
    if sum(sizes) != n:
        raise ValueError("Sum of input lengths does not equal the length of the input dataset!")
    order = randperm(n, generator=generator).tolist()
    starts = np.cumsum([0, *sizes])
    return [Subset(dataset, order[a:b]) for a, b in pairwise(starts)]


class Sampler:
    """Gives the numbers of items in some order."""

    def __init__(self, data_source: Any = None) -> None:
        self.data_source = data_source

    def __len__(self) -> int:
        return len(self.data_source)

    def __iter__(self) -> Iterator[Any]:
        return iter(range(len(self)))


SequentialSampler = Sampler


class RandomSampler(Sampler):
    """In random order; with replacement if asked."""

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(data_source)
        self.replacement, self.count, self.generator = replacement, num_samples or len(data_source), generator

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        n = len(self.data_source)
        if self.replacement:
            return iter(randint(n, (self.count,), generator=self.generator).tolist())
        return iter(randperm(n, generator=self.generator).tolist()[: self.count])


class BatchSampler(Sampler):
    """Lists of `batch_size` numbers."""

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool) -> None:
        super().__init__(sampler)
        self.batch_size, self.drop_last = batch_size, drop_last

    def __len__(self) -> int:
        n = len(self.data_source)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for i in self.data_source:
            batch.append(i)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch


def default_collate(batch: Sequence[Any]) -> Any:
    """Items as one batch: tensors stacked, numbers as a tensor, tuples and dicts by part."""
    one = batch[0]
    if isinstance(one, Tensor):
        return FUNCTIONS["stack"](list(batch))
    if isinstance(one, np.ndarray):
        return as_tensor(np.stack(batch))
    if isinstance(one, int | float | np.generic):
        return tensor(np.asarray(batch)) if isinstance(one, np.generic) else tensor(list(batch))
    if isinstance(one, dict):
        return {k: default_collate([b[k] for b in batch]) for k in one}
    if isinstance(one, tuple | list):
        parts = [default_collate(list(p)) for p in zip(*batch, strict=True)]
        return type(one)(*parts) if hasattr(one, "_fields") else parts
    return list(batch)


class DataLoader:
    """Batches of a dataset, in the process itself."""

    def __init__(self, dataset: Any, batch_size: int | None = 1, shuffle: bool = False, sampler: Any = None, batch_sampler: Any = None,
                 num_workers: int = 0, collate_fn: Callable[..., Any] | None = None, pin_memory: bool = False, drop_last: bool = False,
                 timeout: float = 0, worker_init_fn: Any = None, generator: Generator | None = None, **_: Any) -> None:  # fmt: skip
        self.dataset, self.batch_size, self.drop_last, self.num_workers = dataset, batch_size, drop_last, num_workers
        self.collate_fn = collate_fn
        self.iterable = isinstance(dataset, IterableDataset)
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if not self.iterable:
            self.sampler = sampler or (RandomSampler(dataset, generator=generator) if shuffle else Sampler(dataset))
            self.batch_sampler = batch_sampler or (
                BatchSampler(self.sampler, batch_size, drop_last) if batch_size is not None else None
            )

    def __len__(self) -> int:
        return len(self.batch_sampler if self.batch_sampler is not None else self.sampler)

    def __iter__(self) -> Iterator[Any]:
        if self.iterable:
            yield from self._stream()
        elif self.batch_sampler is None:
            yield from (self.dataset[i] for i in self.sampler)
        else:
            for indices in self.batch_sampler:
                yield self._batch(indices)

    def _batch(self, indices: list[int]) -> Any:
        if self.collate_fn is None and type(self.dataset) is TensorDataset:  # rows at once, by numpy
            return [from_numpy(t.detach()._array()[indices]) for t in self.dataset.tensors]
        return (self.collate_fn or default_collate)([self.dataset[i] for i in indices])

    def _stream(self) -> Iterator[Any]:
        batch = []
        for item in self.dataset:
            batch.append(item)
            if len(batch) == self.batch_size:
                yield (self.collate_fn or default_collate)(batch)
                batch = []
        if batch and not self.drop_last:
            yield (self.collate_fn or default_collate)(batch)
