import torch
from torch import nn

from glip.training.ema import Ema


def model(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_average_moves_by_what_decay_leaves():
    layer = model(1.0)
    ema = Ema(layer, decay=0.9)
    nn.init.constant_(layer.weight, 2.0)
    ema.update(layer)
    assert ema.average["weight"].item() == torch.tensor(1.1)
    ema.update(layer)
    assert torch.isclose(ema.average["weight"], torch.tensor(1.19))


def test_model_has_its_own_weights_again_after_the_average():
    layer = model(1.0)
    ema = Ema(layer, decay=0.5)
    nn.init.constant_(layer.weight, 3.0)
    ema.update(layer)
    with ema.applied(layer):
        assert layer.weight.item() == 2
    assert layer.weight.item() == 3
    assert ema.average["weight"].item() == 2


def test_buffers_are_averaged_and_counters_copied():
    norm = nn.BatchNorm1d(1)
    ema = Ema(norm, decay=0.5)
    norm.running_mean.fill_(4.0)
    norm.num_batches_tracked.fill_(7)
    ema.update(norm)
    assert ema.average["running_mean"].item() == 2
    assert ema.average["num_batches_tracked"].item() == 7
