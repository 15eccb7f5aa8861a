"""Cases of every kind end to end: ours pass, and whatever is changed is missed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity.cases import KINDS, Case, cases, run

from glip.errors import ConfigError

pytestmark = pytest.mark.whole

RECORDED = Path(__file__).parents[4] / "shared" / "parity"

Change = Callable[[dict[str, Any], dict[str, np.ndarray]], None]


def misses(case: Case) -> list[str]:
    return [row.name for row in case.rows if not row.passed]


@pytest.mark.usefixtures("tiny_variant")
def test_unchanged_cases_of_every_kind_pass(case_folder: Path) -> None:
    found = [run(path) for path in cases(case_folder)]
    assert {case.kind for case in found} == set(KINDS)
    for case in found:
        assert len(case.rows) >= 3 and misses(case) == [], case.stem


@pytest.mark.usefixtures("tiny_variant")
def test_our_arrays_have_the_recorded_names_and_form(case_folder: Path) -> None:
    for stem in ("eval.tiny.two", "postprocess", "loss.tiny"):
        case = run(case_folder / f"{stem}.json")
        shapes = {name: array.shape for name, array in case.golden.items()}
        assert {name: array.shape for name, array in case.arrays.items()} == shapes
    assert case.arrays["assign.0.anchor"].size > 0


@pytest.mark.usefixtures("tiny_variant")
def test_made_up_model_detects_something(case_folder: Path) -> None:
    case = run(case_folder / "eval.tiny.two.json")
    assert len(case.golden["final.0.boxes"]) > 3
    assert set(case.golden["final.1.labels"]) == {2}


def shift(name: str, by: float = 1e-2) -> Change:
    def change(_meta: dict[str, Any], golden: dict[str, np.ndarray]) -> None:
        golden[name].flat[0] += by

    return change


def drop_detection(_meta: dict[str, Any], golden: dict[str, np.ndarray]) -> None:
    for part in ("boxes", "scores", "labels"):
        golden[f"final.0.{part}"] = golden[f"final.0.{part}"][1:]


def edit(*path: Any, value: Any) -> Change:
    def change(meta: Any, _golden: dict[str, np.ndarray]) -> None:
        for key in path[:-1]:
            meta = meta[key]
        meta[path[-1]] = value

    return change


NORM = "rpn.head.bias_lang"


@pytest.mark.usefixtures("tiny_variant")
@pytest.mark.parametrize(
    ("stem", "change", "missed"),
    [
        ("recipe_check", edit("seeds", "name", value="7"), ["seed name"]),
        ("recipe_check", edit("samples", "first", value=[1]), ["samples"]),
        ("recipe_check", edit("image", "name", value="chek"), ["image"]),
        ("keys.tiny", edit("keys", 0, "shape", value=[1]), 1),
        ("keys.tiny", edit("keys", 0, "key", value="rpn.head.new"), 2),
        ("prompts", edit("prompts", 0, "input_ids", 1, value=7), 1),
        ("prompts", edit("prompts", 0, "positive_map", "2", value=[3]), 1),
        ("prompts", edit("prompts", 1, "input_ids", 0, 3, value=2711), 1),
        ("preprocess", shift("preprocess.0", 0.1), ["preprocess.0"]),
        ("preprocess", edit("resize", "max_size", value=1000), ["resize 640 x 480"]),
        ("postprocess", drop_detection, ["final.0"]),
        ("postprocess", shift("candidates.1.boxes", 1.0), ["candidates.1"]),
        ("postprocess", shift("final.1.scores"), ["final.1"]),
        ("postprocess", edit("empty_case", "logits_mean", value=0.0), ["empty case"]),
        (
            "postprocess",
            edit("inputs", "logits", value="tensor(name, (n, h*w, 64), -4.0, 1.2)"),
            [f"{part}.{image}" for image in (0, 1) for part in ("candidates", "final")],
        ),
        (
            "preprocess",
            edit("cases", 0, "uint8_rgb", value="image(name, h, w) * 40 + 128"),
            ["preprocess.0"],
        ),
        (
            "units",
            edit("boxes", "token_focal", "targets", value="tensor('made.targets', (2, 6, 4)) > 0"),
            ["loss.token_focal"],
        ),
        (
            "units",
            edit("boxes", "centerness", value="x1-7.3, y1-3.1, x2+2.2, y2+9"),
            ["loss.centerness_target"],
        ),
        ("units", shift("deform_conv.0"), ["deform_conv.0"]),
        ("units", shift("dyconv.p3"), ["dyconv.p3"]),
        ("units", shift("dyconv.p5"), ["dyconv.p5"]),
        ("units", shift("fuse.p4"), ["fuse.p4"]),
        ("units", shift("fuse.text"), ["fuse.text"]),
        ("units", shift("text"), ["text"]),
        ("units", shift("swin.0.out"), ["swin.0.out"]),
        ("units", shift("swin.0.down"), ["swin.0.down"]),
        ("units", shift("boxes.iou"), ["boxes.iou"]),
        ("units", shift("anchors.grid", 1.0), ["anchors.grid"]),
        ("units", shift("loss.token_focal", 0.1), ["loss.token_focal"]),
        ("eval.tiny.two", shift("backbone.c4"), ["backbone.c4"]),
        ("eval.tiny.two", shift("fpn.p7"), ["fpn.p7"]),
        ("eval.tiny.two", shift("stage1.text.hidden@valid"), ["stage1.text.hidden@valid"]),
        ("eval.tiny.two", shift("head.centerness.p5"), ["head.centerness.p5"]),
        ("eval.tiny.two", edit("batch_shape", value=[2, 3, 64, 64]), ["batch shape"]),
        ("eval.tiny.two", edit("tensors", "new.p3", value={}), ["new.p3"]),
        ("eval.tiny.two", drop_detection, ["final.0"]),
        ("loss.tiny", edit("losses", "loss_reg", value=1.0), ["loss_reg"]),
        ("loss.tiny", edit("gradient_norms_of_all_parameters", NORM, value=9.0), [f"norm {NORM}"]),
        (
            "loss.tiny",
            edit("gradient_norms_of_all_parameters", NORM, value=None),
            [f"no gradient of {NORM}"],
        ),
        ("loss.tiny", shift(f"grad:{NORM}", 1.0), [f"grad:{NORM}"]),
        ("loss.tiny", shift("assign.0.reg_target", 0.1), ["assign.0.reg_target"]),
    ],
)
def test_what_is_changed_is_missed(
    case_folder: Path, tmp_path: Path, stem: str, change: Change, missed: list[str] | int
) -> None:
    meta = json.loads((case_folder / f"{stem}.json").read_text())
    golden = dict(np.load(case_folder / f"{stem}.npz"))
    change(meta, golden)
    (tmp_path / f"{stem}.json").write_text(json.dumps(meta))
    np.savez(tmp_path / f"{stem}.npz", **golden)
    found = misses(run(tmp_path / f"{stem}.json"))
    assert len(found) == missed if isinstance(missed, int) else found == missed


def test_other_files_are_no_cases(case_folder: Path, tmp_path: Path) -> None:
    shutil.copy(case_folder / "prompts.json", tmp_path)
    (tmp_path / "notes.json").write_text("{}")
    assert [path.name for path in cases(tmp_path)] == ["prompts.json"]


def test_folder_without_cases_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no recorded case"):
        list(cases(tmp_path))


@pytest.mark.parametrize("content", ["{", b"\xff\xfe"])
def test_damaged_case_is_named(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "units.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError, match=r"units\.json is not a recorded case"):
        run(path)


@pytest.mark.parametrize("content", [b"no archive", b"PK\x03\x04 cut off"])
def test_damaged_arrays_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "units.json").write_text("{}")
    (tmp_path / "units.npz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"units\.json is not a recorded case"):
        run(tmp_path / "units.json")


def test_incomplete_case_is_named(tmp_path: Path) -> None:
    (tmp_path / "prompts.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"prompts\.json has no entry 'prompts'"):
        run(tmp_path / "prompts.json")


@pytest.mark.slow
@pytest.mark.skipif(not RECORDED.is_dir(), reason=f"no recorded cases in {RECORDED}")
@pytest.mark.parametrize(
    "path", sorted(RECORDED.glob("*.json")) if RECORDED.is_dir() else [], ids=lambda path: path.stem
)
def test_recorded_case_of_the_official_code(path: Path) -> None:
    case = run(path)
    assert case.rows and misses(case) == []
