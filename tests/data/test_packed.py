"""Packed records."""

import pickle

import pytest

from glip.data.packed import Packed


def test_packed_reads_like_the_list_it_was_made_of():
    records = [{"name": "a"}, (1, 2), None]
    packed = Packed(records)
    assert len(packed) == 3
    assert list(packed) == records
    assert packed[-1] is None
    assert list(pickle.loads(pickle.dumps(packed))) == records


def test_row_beyond_the_end_is_an_index_error():
    with pytest.raises(IndexError, match="record 3 of 3"):
        Packed([1, 2, 3])[3]


def test_empty():
    assert list(Packed([])) == []
