"""Two processes on one machine, over gloo, against one process with twice the batch."""

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from parity.chance import without_chance

from glip.config import BackboneConfig
from glip.distributed import (
    broadcast_object,
    gather_objects,
    is_distributed,
    mean_over_processes,
    on_main,
    rank,
    wait_for_all,
    world_size,
)
from glip.training.loop import LoopConfig, train
from glip.training.losses import Criterion
from glip.training.optim import OptimizerConfig, Schedule, ScheduleConfig
from glip.training.parallel import (
    Strategy,
    checkpoint_activations,
    parallelise,
    synchronise_batch_norm,
)
from glip.training.state import CheckpointFolder, TrainState
from tests.toy import CONFIG, toy_batches, toy_model, toy_state

pytestmark = pytest.mark.whole

STEPS = 3


NO_FSDP = torch.__version__ < (2, 6)
CASES: tuple[tuple[Strategy, int], ...] = (("ddp", 1), ("ddp", 2))
if not NO_FSDP:
    CASES += (("fsdp", 1), ("fsdp", 2))
strategies = pytest.mark.parametrize(
    "strategy",
    ["ddp", pytest.param("fsdp", marks=pytest.mark.skipif(NO_FSDP, reason="needs torch 2.6"))],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave after all they have to do; starting them takes the most time."""
    path = tmp_path_factory.mktemp("two_processes")
    torch.multiprocessing.spawn(both, (path,), nprocs=2)
    return path


def both(number: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=number,
        world_size=2,
        timeout=datetime.timedelta(seconds=120),
    )
    talk()
    for strategy, accumulate in CASES:
        train_in_parts(folder / f"{strategy}{accumulate}", strategy, accumulate)
    dist.destroy_process_group()


def state_of(strategy: Strategy) -> TrainState:
    model = toy_model(without_chance(CONFIG))
    model.backbone.to(memory_format=torch.channels_last)  # as an engine lays it out
    wrapped = parallelise(model, strategy)  # before the optimizer: sharding replaces parameters
    # A large eps, as Adam would turn rounding of gradients that are zero into whole steps.
    state = toy_state(model, OptimizerConfig(lr=1e-3, text_lr=1e-3, eps=1e-3))
    state.model = wrapped
    return state


def trained(state: TrainState, size: int, accumulate: int = 1) -> list[float]:
    """Losses of a few steps, from the state's own on."""
    losses: list[float] = []
    train(
        state,
        toy_batches(state.step * accumulate, size, rank(), world_size()),
        Criterion(),
        Schedule(ScheduleConfig("constant", warmup_steps=0), state.step + STEPS),
        LoopConfig(state.step + STEPS, accumulate=accumulate, log_every=1),
        report=lambda report: losses.append(report.losses["total"]),
    )
    return losses


def train_in_parts(folder: Path, strategy: Strategy, accumulate: int) -> None:
    """Train, write a checkpoint, go on from it with other weights at first."""
    state = state_of(strategy)
    losses = trained(state, size=1, accumulate=accumulate)
    CheckpointFolder(folder / "checkpoints").save(state)
    other = state_of(strategy)
    assert CheckpointFolder(folder / "checkpoints").load_newest(other)
    losses += trained(other, size=1, accumulate=accumulate)
    CheckpointFolder(folder / "checkpoints").save(other)
    if rank() == 0:
        torch.save(losses, folder / "losses.pt")
    wait_for_all()


def talk() -> None:
    assert is_distributed()
    assert mean_over_processes(torch.tensor([1.0 + rank(), 0.0])).tolist() == [1.5, 0.0]
    assert gather_objects(f"from {rank()}") == ["from 0", "from 1"]
    assert broadcast_object(rank() + 10) == 10
    assert on_main(lambda: "done") == ("done" if rank() == 0 else None)
    with pytest.raises(ValueError, match="on the main one"):
        on_main(lambda: int("not a number, on the main one"))


@strategies
def test_two_processes_equal_one_with_twice_the_batch(folder: Path, strategy: Strategy) -> None:
    last = folder / f"{strategy}1" / "checkpoints" / f"step_{2 * STEPS:08d}.pt"
    saved = torch.load(last, weights_only=True)
    losses = torch.load(folder / f"{strategy}1" / "losses.pt")

    alone = state_of("ddp")
    expected = trained(alone, size=2) + trained(alone, size=2)
    assert losses == pytest.approx(expected, rel=1e-4)
    for name, tensor in alone.model.state_dict().items():
        torch.testing.assert_close(saved["model"][name], tensor, atol=2e-5, rtol=1e-3)
    for name, tensor in alone.ema.average.items():
        torch.testing.assert_close(saved["ema"][name], tensor, atol=2e-5, rtol=1e-3)


@strategies
def test_gradients_accumulate_on_two_processes(folder: Path, strategy: Strategy) -> None:
    losses = torch.load(folder / f"{strategy}2" / "losses.pt")
    alone = state_of("ddp")
    expected = trained(alone, size=2, accumulate=2) + trained(alone, size=2, accumulate=2)
    assert losses == pytest.approx(expected, rel=1e-4)


def test_one_process_talks_to_itself() -> None:
    assert (rank(), world_size(), is_distributed()) == (0, 1, False)
    assert mean_over_processes(torch.tensor(3.0)) == 3
    assert gather_objects("me") == ["me"]
    assert broadcast_object("me") == "me"
    assert on_main(lambda: "done") == "done"
    wait_for_all()


def test_checkpointed_parts_move_the_statistics_of_batch_norms_once() -> None:
    config = replace(CONFIG, backbone=BackboneConfig("tf_efficientnet_lite0"))
    batch = next(iter(toy_batches(0, 2)))
    states = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = toy_model(without_chance(config)).train()
        if checkpointed:
            checkpoint_activations(model)
        model(batch.pixels, batch.tokens).logits.sum().backward()
        states.append(model.backbone.state_dict())
    plain, found = states
    assert plain.keys() == found.keys()
    assert all(tensor.equal(plain[name]) for name, tensor in found.items())


def test_predictions_of_checkpointed_parts_ask_no_generator_for_its_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A GPU refuses to give it while what it is told is recorded.
    model = toy_model(without_chance(CONFIG)).eval()
    batch = next(iter(toy_batches(0, 2)))
    with torch.no_grad():
        expected = model(batch.pixels, batch.tokens).logits
        checkpoint_activations(model)
        monkeypatch.setattr(torch, "get_rng_state", None)
        assert model(batch.pixels, batch.tokens).logits.equal(expected)


def test_synchronised_batch_norms_compute_what_they_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of timm, which bring their activation with them."""
    model = toy_model(replace(CONFIG, backbone=BackboneConfig("mobilenetv3_small_050"))).eval()
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before = model.backbone(pixels)
    monkeypatch.setattr("glip.training.parallel.is_distributed", lambda: True)
    assert synchronise_batch_norm(model, torch.device("cpu")) is model
    model = synchronise_batch_norm(model, torch.device("cuda"))
    kinds = {type(m) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert not kinds
    for level, expected in zip(model.backbone(pixels), before, strict=True):
        torch.testing.assert_close(level, expected)
