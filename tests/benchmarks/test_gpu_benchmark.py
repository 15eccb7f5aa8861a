"""The one command for a GPU, rehearsed in small on a CPU."""

import json

import gpu
import pytest

pytestmark = pytest.mark.whole


def test_all_parts_can_be_rehearsed_without_a_gpu(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "made_up", lambda name: tiny_weights)
    file = tmp_path / "gpu.json"
    report = gpu.main(["--small", "--device", "cpu", "--json", str(file)])
    assert json.loads(file.read_text()).keys() == report.keys() >= gpu.PARTS.keys()
    assert not [report[part]["failed"] for part in gpu.PARTS if "failed" in report[part]]
    for batch in (1, 2):
        found = report["latency"][f"float32, batch {batch}"]
        assert found["predict"]["per_second"] > 0 < found["share_of_model"]
    for way in (
        "predict, a batch at a time",
        "predict",
        "predict files",
        "a caption each",
        "label",
    ):
        assert report["road"][way]["per_second"] > 0 < report["road"][way]["share_of_model"]
    assert report["agreement"]["float32"]["logits"][0] < 1e-3
    assert report["many_names"]["passes"] >= 1
    assert report["training"]["batch 2"]["losses"]["total"] > 0


def test_part_that_fails_leaves_the_others(monkeypatch, capsys):
    def fails(plan):
        raise RuntimeError("no kernel found")

    monkeypatch.setitem(gpu.PARTS, "agreement", fails)
    monkeypatch.setitem(gpu.PARTS, "latency", lambda plan: {"fine": 1})
    report = gpu.main(["--small", "--device", "cpu", "--only", "agreement", "latency"])
    assert "no kernel found" in report["agreement"]["failed"]
    assert report["latency"]["fine"] == 1 and '"fine": 1' in capsys.readouterr().out
