"""What the training benchmark counts, and that both its paths are the same sums."""

import pytest
import torch
import training
from reference import no_watch

pytestmark = pytest.mark.whole


@pytest.fixture
def bench(tiny_config, monkeypatch):
    monkeypatch.setattr(training, "preset", lambda name: tiny_config)
    return training.make_bench(training.parse(["--size", "96x160", "--tokens", "9"]))


def test_both_paths_give_the_same_loss_and_gradients(bench):
    found = {}
    for path in training.PATHS:
        loss = bench.losses(path, no_watch)
        loss.backward()
        found[path] = (
            loss.detach(),
            {name: p.grad for name, p in bench.model.named_parameters() if p.grad is not None},
        )
        bench.model.zero_grad()
    (one, ours), (other, reference) = (found[path] for path in training.PATHS)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert ours.keys() == reference.keys()
    norm = torch.stack([g.norm() for g in reference.values()]).max()
    for name, gradient in reference.items():
        torch.testing.assert_close(ours[name] / norm, gradient / norm, rtol=1e-3, atol=1e-4)


def test_a_storage_counts_once_and_parameters_never():
    weight = torch.ones(10, requires_grad=True)
    tally = training.Tally()
    tally.exclude([weight])
    with tally.counting(), tally("stage"):
        x = weight * torch.ones(10)  # saves the ones
        y = x[:5] * x[5:]  # saves x twice
        y.exp()  # saves its result
    assert tally.saved == {"stage": 40 + 40 + 20}


def test_a_new_tensor_at_an_old_address_counts_again():
    weight = torch.ones(1000, requires_grad=True)
    tally = training.Tally()
    with tally.counting():
        for _ in range(3):
            (weight * 2).exp()  # dropped at once, so that the next one may take its place
    assert tally.saved == {"heads": 3 * 4000}


def test_stages_are_told_apart_and_ours_saves_less(bench):
    training.watch_modules(bench.model, lambda: bench.watch)
    saved = {path: training.count_saved(bench, path) for path in training.PATHS}
    for stages in saved.values():
        assert set(stages) == set(training.STAGES)
    assert saved["ours"]["fusion"] < saved["reference"]["fusion"] / 2
