"""What processes say to each other: nothing where there is one, and the same on each of two."""

import os
from pathlib import Path

import pytest
import torch

from glip import distributed
from glip.distributed import (
    any_process,
    broadcast_object,
    gather_objects,
    is_distributed,
    is_main,
    launch,
    mean_over_processes,
    on_main,
    rank,
    start,
    started_by_torchrun,
    stop,
    world_size,
)


def test_alone_everything_is_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert start().type in ("cpu", "cuda")
    assert (rank(), world_size(), is_main(), is_distributed()) == (0, 1, True, False)
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    mean = mean_over_processes(value)
    assert torch.equal(mean, value) and not mean.requires_grad
    assert any_process(True) and not any_process(False)
    assert gather_objects("a") == ["a"] and broadcast_object("a") == "a"
    assert on_main(lambda: 7) == 7
    assert not started_by_torchrun()
    stop()


def test_failure_of_the_only_process_is_its_own() -> None:
    def fail() -> None:
        raise LookupError("as it was")

    with pytest.raises(LookupError, match="as it was"):
        on_main(fail)


def talk(folder: Path) -> int:
    """What each of two processes does; it leaves a file, or an exit code."""
    start()
    own = rank()
    assert gather_objects(own) == [0, 1]
    assert broadcast_object(own) == 0
    assert any_process(own == 1) and not any_process(False)
    assert mean_over_processes(torch.tensor(float(own))).item() == 0.5
    try:
        on_main(lambda: int("no number"))
    except ValueError:  # on both
        (folder / f"{own}").touch()
    stop()
    return 3 if (folder / "fail").exists() and own == 1 else 0


@pytest.mark.whole
@pytest.mark.parametrize("code", [0, 3])
def test_two_processes_agree_and_their_exit_code_comes_back(tmp_path: Path, code: int) -> None:
    if code:
        (tmp_path / "fail").touch()
    assert launch(talk, (tmp_path,), processes=2) == code
    assert (tmp_path / "0").exists() and (tmp_path / "1").exists()
    assert "MASTER_PORT" not in os.environ


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"machines": 2}, "several machines need a --dist-url"),
        ({"url": "here"}, "no url of the form tcp://host:port"),
        ({"url": "tcp://host"}, "no url of the form"),
        ({"url": "tcp://host:port"}, "no url of the form"),
    ],
)
def test_meeting_places_that_are_none(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], message: str
) -> None:
    monkeypatch.setattr(distributed, "spawn", lambda *_args, **_options: pytest.fail("started"))
    with pytest.raises(ValueError, match=message):
        launch(talk, (Path(),), processes=1, **options)  # type: ignore[arg-type]
