"""The command that checks the package against recorded cases."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from parity.cases import KINDS
from parity.recipe import sample_indices

TOOL = Path(__file__).parents[1] / "tools" / "check_parity.py"
PROMPT = {
    "kind": "class list, evaluation",
    "classes": ["person", "traffic light"],
    "separator": ". ",
    "caption": "person. traffic light",
    "input_ids": [101, 2711, 1012, 4026, 2422, 102],
    "positive_map": {"1": [1], "2": [3, 4]},
}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_parity", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two cases: prompts, and preprocessing of nothing but sizes."""
    (tmp_path / "prompts.json").write_text(json.dumps({"prompts": [PROMPT]}))
    sizes = {"min_size": 800, "max_size": 1333,
             "width_height_to_height_width": [[[640, 480], [800, 1066]]]}  # fmt: skip
    content = {"resize": sizes, "pixel_mean": [0, 0, 0], "pixel_std": [1, 1, 1], "cases": []}
    (tmp_path / "preprocess.json").write_text(json.dumps(content))
    return tmp_path


def run(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["check_parity.py", *map(str, arguments)])
    code: int = tool.main()
    return code


def test_all_passed(
    tool: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(tool, monkeypatch, "--cases", folder) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "all cases: 4 passed, 0 missed"
    assert "preprocess: 1 passed, 0 missed" in out and "prompts: 3 passed, 0 missed" in out
    assert sum(line.startswith("ok ") for line in out) == 4


def test_a_miss_is_shown_and_is_exit_code_one(
    tool: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    wrong = {**PROMPT, "input_ids": [101, 102]}
    (folder / "prompts.json").write_text(json.dumps({"prompts": [wrong]}))
    assert run(tool, monkeypatch, "--cases", folder, "--quiet") == 1
    out = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in out if ": ids" in line] == ["MISS"]
    assert not any(line.startswith("ok ") for line in out)
    assert out[-1] == "all cases: 3 passed, 1 missed"


def test_only_some_cases(
    tool: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert run(tool, monkeypatch, "--cases", folder, "--only", "prepro") == 0
    assert "prompts" not in capsys.readouterr().out


def test_a_choice_that_fits_no_case_does_not_pass(
    tool: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tool, monkeypatch, "--cases", folder, "--only", "prmpts") == 2


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_folder_that_cannot_be_run_is_exit_code_two(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], content: str | None,
) -> None:  # fmt: skip
    if content is not None:
        (tmp_path / "prompts.json").write_text(content)
    assert run(tool, monkeypatch, "--cases", tmp_path) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_dump_writes_our_arrays_under_the_recorded_names(
    tool: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "dump"
    assert run(tool, monkeypatch, "--cases", folder, "--dump", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["preprocess.npz", "prompts.npz"]
    assert np.load(out / "prompts.npz")["0.input_ids"].tolist() == PROMPT["input_ids"]


def test_dump_holds_sampled_tensors_by_their_samples(
    tool: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = np.arange(1000.0)
    facts = {"shape": [1000], "std": 1.0, "absmax": 999.0, "noise_max": 1e-6, "stored": "samples:8"}
    golden = full[sample_indices("x", 1000, 8)]
    (folder / "eval.x.json").write_text(json.dumps({"tensors": {"x": facts}}))
    np.savez(folder / "eval.x.npz", x=golden)
    monkeypatch.setitem(KINDS, "eval", lambda case: case.tensor("x", full))
    arguments = ("--cases", folder, "--only", "eval", "--dump", tmp_path / "dump")
    assert run(tool, monkeypatch, *arguments) == 0
    assert np.load(tmp_path / "dump" / "eval.x.npz")["x"].tolist() == golden.tolist()
