import pytest
from parity.chance import without_chance
from tuning import draw, measure, table

from glip.checkpoint import Weights

pytestmark = pytest.mark.whole


@pytest.mark.parametrize(("mode", "kept"), [("prompt", "pyramid"), ("linear_probe", "fused")])
def test_steps_are_timed_and_what_is_kept_is_weighed(tiny_detector, tmp_path, mode, kept):
    draw(tmp_path, pictures=2, size=(120, 90))
    config = without_chance(tiny_detector.config)
    # Copies: what is tuned is assembled from these very tensors, and others need the detector.
    state = {name: tensor.clone() for name, tensor in tiny_detector.model.state_dict().items()}
    weights = Weights(config, state)
    row = measure(weights, mode, tmp_path, repeats=1)
    assert (row.mode, row.kept) == (mode, kept)
    assert min(row[2:]) > 0
    assert table([row]).splitlines()[-1].startswith(f"| {mode} | {kept} | ")
