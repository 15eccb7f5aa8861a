"""Which records make which batches."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from glip.data.mixture import MixtureSampler
from glip.errors import ConfigError


def draws(**options):
    return list(MixtureSampler(**{"sizes": [5, 3], "batch_size": 2, "steps": 8} | options))


def test_an_epoch_holds_every_record_once():
    epoch = MixtureSampler([5, 3], batch_size=2, steps=8).steps_per_epoch
    assert epoch == 4
    for start in (0, 4):
        seen = [d[:2] for batch in draws()[start : start + 4] for d in batch]
        assert sorted(seen) == [(0, i) for i in range(5)] + [(1, i) for i in range(3)]


def test_epochs_and_seeds_differ():
    order = [d[:2] for batch in draws() for d in batch]
    assert order[:8] != order[8:]
    assert draws(seed=1) != draws(seed=2)
    seeds = [d.seed for batch in draws(steps=400) for d in batch]
    assert len(set(seeds)) == len(seeds)


def test_weights_repeat_sources():
    many = MixtureSampler([10, 4], batch_size=1, steps=17 * 40, weights=[0.5, 3])
    assert many.steps_per_epoch == 17
    counts = Counter(d[:2] for batch in many for d in batch)
    assert all(counts[1, i] == 3 * 40 for i in range(4))
    assert sum(counts[0, i] for i in range(10)) == 5 * 40
    assert all(8 < counts[0, i] < 32 for i in range(10))  # another half in every epoch


def test_records_come_as_often_as_their_factors():
    factors = np.array([1.0, 1.0, 2.5, 4.0])
    sampler = MixtureSampler([4], batch_size=1, steps=8 * 50, repeats=[factors])
    assert sampler.steps_per_epoch == 8  # of 8.5: epochs are equally long
    seen = [draw.record for [draw] in sampler]
    epochs = [Counter(seen[start : start + 8]) for start in range(0, 400, 8)]
    for record, factor in enumerate(factors * 8 / 8.5):
        counts = [epoch[record] for epoch in epochs]
        assert {np.floor(factor), np.ceil(factor)} >= set(counts)
        assert sum(counts) / 50 == pytest.approx(factor, abs=0.15)


def test_start_gives_the_rest_of_the_run():
    assert draws()[5:] == draws(start=5)
    assert len(MixtureSampler([5], batch_size=2, steps=8, start=5)) == 3


def test_ranks_share_the_batches_of_one_process():
    whole = draws(batch_size=4)
    parts = [draws(rank=rank, world_size=2) for rank in range(2)]
    for step, batch in enumerate(whole):
        assert sorted(batch) == sorted(parts[0][step] + parts[1][step])
        assert len(parts[0][step]) == len(parts[1][step]) == 2


def test_batches_of_one_shape():
    tall = [np.arange(40) % 3 == 0]
    sampler = MixtureSampler([40], batch_size=4, steps=10, is_tall=tall)
    assert sampler.steps_per_epoch == 10
    batches = list(sampler)
    mixed = sum(len({bool(tall[0][d.record]) for d in batch}) == 2 for batch in batches)
    assert mixed <= 1
    assert len({d.record for batch in batches for d in batch}) == 40


def test_data_smaller_than_a_batch_is_repeated():
    [batch] = islice(MixtureSampler([3], batch_size=8, steps=1), 1)
    assert Counter(d.record for d in batch).most_common(1)[0][1] == 3
    assert len({d.seed for d in batch}) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": [0]}, "at least one record"),
        ({"weights": [1, 0]}, "must be above zero"),
        ({"weights": [1]}, "one for each of 2"),
        ({"start": 9}, "between 0 and 8"),
        ({"batch_size": 0}, "must be positive"),
    ],
)
def test_sampler_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        draws(**options)
