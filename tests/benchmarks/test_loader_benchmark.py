import json

from loader import KINDS, STAGES, decoders, enlarged_samples, measure, table
from PIL import Image

from glip.data.augment import AugmentConfig, extent
from glip.model.presets import preset
from glip.training.run_config import DataConfig

DATA = DataConfig(augment=AugmentConfig(short_sides=(64,), long_side=96, flip=0.5))


def test_stages_of_the_loader_are_told_apart(tmp_path):
    file = enlarged_samples(tmp_path, (192, 288), photos=2)
    entry = json.loads(file.read_text())["images"][1]
    assert Image.open(tmp_path / entry["file_name"]).size == (288, 192)
    for raw, left_out in ((False, "leave raw"), (True, "normalise")):
        measured = measure(file, DATA, preset("glip_nano"), repeats=1, raw=raw)
        for kind in KINDS:
            parts = {stage: measured[kind][stage] for stage in STAGES}
            assert parts.pop(left_out) == 0 < min(parts.values())
            assert sum(parts.values()) < 1.2 * measured[kind]["all"]
    lines = table(measured).splitlines()
    stages = [line.split(" | ")[0].lstrip("| ") for line in lines[2:]]
    assert stages == [*(stage for stage in STAGES if stage != "normalise"), "all"]


def test_ways_to_a_smaller_picture_are_timed(tmp_path):
    file = enlarged_samples(tmp_path, (192, 288), photos=2)
    times = decoders(file, extent(DATA.augment, preset("glip_nano").pixels), repeats=1)
    assert len(times) == 4 and min(times.values()) > 0
