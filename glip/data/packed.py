"""A long sequence of small records in two flat arrays.

Millions of Python objects in a data set are copied bit by bit into every worker process, because
reading an object writes its reference count; a flat array is shared for good. A record is unpickled
when it is asked for, which takes some ten microseconds.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


class Packed(Generic[T]):
    """An immutable sequence; every access gives a fresh copy of the record."""

    def __init__(self, records: Iterable[T]) -> None:
        data = bytearray()
        ends = [0]
        for record in records:
            data += pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL)
            ends.append(len(data))
        self._data = np.frombuffer(bytes(data), dtype=np.uint8)
        self._ends = np.array(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: int) -> T:
        if not -len(self) <= row < len(self):
            raise IndexError(f"record {row} of {len(self)}")
        row %= len(self)
        record: T = pickle.loads(self._data[self._ends[row] : self._ends[row + 1]].tobytes())
        return record

    def __iter__(self) -> Iterator[T]:
        return (self[row] for row in range(len(self)))
