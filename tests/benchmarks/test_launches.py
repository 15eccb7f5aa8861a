"""Launches on a GPU that is not there: few, the same for any size, and nothing is read back."""

import pytest
import torch
from launches import FAKE, Launches, ReadBack, count_prediction, counted, main, to_fake_gpu

from glip.config import ModelConfig
from glip.model.ops.table import HAS_TRITON
from glip.model.presets import build_empty, preset
from glip.model.text_encoder import Tokens
from tests.uploads import Uploads

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed"),
    pytest.mark.skipif(torch.__version__ < (2, 6), reason="torch cannot pretend a GPU"),
]


def total(parts: dict[str, Launches]) -> int:
    return sum(part.total for part in parts.values())


@pytest.mark.parametrize(("name", "most"), [("glip_tiny", 900), ("glip_large", 1100)])
def test_released_models_launch_no_more_than_they_may(name: str, most: int) -> None:
    assert total(count_prediction(preset(name), (800, 1344))) <= most


def test_a_block_more_costs_its_own_launches_only(tiny_config: ModelConfig) -> None:
    small = count_prediction(tiny_config, (64, 96))
    assert total(count_prediction(tiny_config, (64, 96))) <= total(small)  # tables are kept
    warm = count_prediction(tiny_config, (64, 96))
    assert total(count_prediction(tiny_config, (64, 96), batch=3)) <= total(warm) + 80
    per_block = warm["head"].total / tiny_config.head.blocks
    assert per_block < 90
    assert warm["head"].operators["glip::deformable"] == tiny_config.head.blocks
    assert warm["head"].kernels == warm["head"].total + 6 * tiny_config.head.blocks


def test_value_that_is_read_back_is_found() -> None:
    with FAKE, pytest.raises(ReadBack, match=r"test_launches\.py:\d+: "):
        counted("here", lambda: int(torch.ones(3, device="cuda").sum()))


def test_training_pass_of_glip_nano_launches_as_much_for_a_large_batch() -> None:
    model = build_empty(preset("glip_nano")).train()
    with FAKE, torch.device("cuda"):
        to_fake_gpu(model, torch.float32)

        def passed(batch: int) -> Launches:
            tokens = Tokens(torch.ones(batch, 16).long(), torch.ones(batch, 16).bool())
            pixels = torch.empty(batch, 3, 128, 160)
            return counted("training", lambda: model(pixels, tokens))[1]

        passed(1)  # tables of places are uploaded once
        with Uploads() as uploads:
            small, large = passed(2), passed(16)
    assert small.operators == large.operators
    assert not uploads.found


def test_rows_whose_number_depends_on_values_are_found() -> None:
    with FAKE, pytest.raises(ReadBack, match=r"test_launches\.py:\d+: "):
        counted("here", lambda: torch.ones(3, device="cuda").nonzero())


def test_command_counts_the_losses(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--size", "256x256", "--batch", "128", "--boxes", "8"])
    assert "losses" in capsys.readouterr().out


def test_command_prints_both_counts(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--model", "glip_nano", "--size", "64x96", "--dtype", "float32"])
    shown = capsys.readouterr().out
    assert "glip_nano, 64x96, batch 1, float32" in shown and "nothing is read back" in shown
