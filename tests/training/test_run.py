"""Whole runs over files, from configuration to report."""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from parity.chance import without_chance
from PIL import Image, ImageDraw

import glip
from glip.checkpoint import Weights, read, save
from glip.cli.main import main
from glip.data.augment import AugmentConfig
from glip.data.doctor.examine import examine
from glip.data.sampling import SamplingConfig
from glip.errors import CheckpointError, ConfigError, DataError, StorageError
from glip.evaluation.config import EvaluationConfig
from glip.jobs.folder import LOCK, held
from glip.settings import to_yaml
from glip.training.losses import Criterion
from glip.training.optim import OptimizerConfig, ScheduleConfig
from glip.training.record import read_records
from glip.training.run import evaluate_only, run_training
from glip.training.run_config import DataConfig, RunConfig, SourceConfig
from tests.toy import COLOURS, CONFIG, SIDE, picture, toy_model

pytestmark = pytest.mark.whole

CPU = torch.device("cpu")
TOOL = Path(__file__).parents[2] / "tools" / "train_net.py"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures with squares, their annotations, and untrained weights."""
    folder = tmp_path_factory.mktemp("drawn")
    images, annotations = [], []
    for number in range(4):
        image = Image.new("RGB", (SIDE, SIDE), "grey")
        target = picture(number)[1]
        for box, phrase in zip(target.boxes.tolist(), target.phrases.tolist(), strict=True):
            ImageDraw.Draw(image).rectangle(tuple(box), fill=list(COLOURS)[phrase])
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": phrase + 1,
                    "bbox": [x1, y1, x2 - x1 + 1, y2 - y1 + 1],
                    "area": (x2 - x1 + 1) * (y2 - y1 + 1),
                    "iscrowd": 0,
                }
            )
        image.save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": row + 1, "name": name} for row, name in enumerate(COLOURS)],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    config = without_chance(CONFIG)
    save(folder / "toy.safetensors", Weights(config, toy_model(config).state_dict()))
    return folder


def config_for(drawn: Path, steps: int, **changes: object) -> RunConfig:
    annotations = str(drawn / "coco.json")
    config = RunConfig(
        weights=str(drawn / "toy.safetensors"),
        batch_size=4,
        steps=steps,
        log_every=1,
        save_every=2,
        optimizer=OptimizerConfig(lr=3e-3, text_lr=3e-3),
        schedule=ScheduleConfig("cosine", warmup_steps=5, final_factor=0.1),
        data=DataConfig(
            sources=(SourceConfig(annotations, sampling=SamplingConfig("all", shuffle=False)),),
            augment=AugmentConfig(short_sides=(SIDE,), long_side=SIDE, flip=0.5),
            workers=0,
        ),
        evaluation=EvaluationConfig(
            annotations, every_epochs=None, sample_pictures=2, before=False
        ),
    )
    return replace(config, **changes)


def test_run_leaves_weights_logs_and_a_report(drawn, tmp_path):
    config = config_for(drawn, steps=3)
    config = replace(config, evaluation=replace(config.evaluation, before=True))
    metrics = run_training(config, tmp_path / "run", CPU)
    assert {"AP", "AP50"} <= metrics.keys()
    assert {file.name for file in (tmp_path / "run").iterdir()} - {"tensorboard", LOCK} == {
        "config.yaml",
        "checkpoints",
        "evaluation",
        "metrics.jsonl",
        "model_best.safetensors",
        "model_final.safetensors",
        "report.html",
    }
    rows = read_records(tmp_path / "run")
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 3]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "AP of each class" in page
    before, after = (100 * rows[place]["evaluation/AP"] for place in (0, -1))
    assert f"<td>{before:.1f} before, {after:.1f} after</td>" in page
    assert "<td>4 pictures or captions</td>" in page
    assert "<td>toy.safetensors</td>" in page
    assert "steps of 4</td>" in page
    assert page.count("<img") == 4  # two pictures, truth and found
    detector = glip.load(tmp_path / "run" / "model_final.safetensors", device="cpu")
    detector.predict(drawn / "0.png", ["red", "blue"])


def test_resumed_run_equals_one_that_never_stopped(drawn, tmp_path):
    config = config_for(drawn, steps=4, ema=0.5)
    run_training(config, tmp_path / "whole", CPU)
    # As if killed after the checkpoint of the second step: nothing later is left.
    run_training(config, tmp_path / "parts", CPU)
    (tmp_path / "parts" / "checkpoints" / "step_00000004.pt").unlink()
    (tmp_path / "parts" / "model_final.safetensors").unlink()
    run_training(config, tmp_path / "parts", CPU, resume=True)
    one, two = (
        read(tmp_path / name / "model_final.safetensors").state for name in ("whole", "parts")
    )
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    losses = [
        [row["loss/total"] for row in read_records(tmp_path / name) if "loss/total" in row]
        for name in ("whole", "parts")
    ]
    assert losses[0] == losses[1]


def test_words_go_on_being_learned_for_what_they_were_begun_for(drawn, tmp_path):
    config = config_for(drawn, steps=1, tune="prompt", evaluation=EvaluationConfig())
    run_training(config, tmp_path / "run", CPU)
    chosen = without_chance(CONFIG)
    save(tmp_path / "other.safetensors", Weights(chosen, toy_model(chosen, seed=1).state_dict()))
    longer = replace(config, steps=2)
    other = replace(longer, weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(CheckpointError, match="for other weights than these"):
        run_training(other, tmp_path / "run", CPU, resume=True)
    content = json.loads((drawn / "coco.json").read_text())
    names = [category["name"] for category in content["categories"]]
    for category, name in zip(content["categories"], reversed(names), strict=True):
        category["name"] = name
    shutil.copytree(drawn, tmp_path / "turned")
    (tmp_path / "turned" / "coco.json").write_text(json.dumps(content))
    turned = replace(longer, data=config_for(tmp_path / "turned", 2).data)
    with pytest.raises(CheckpointError, match="the words of other classes than blue, green, red"):
        run_training(turned, tmp_path / "run", CPU, resume=True)
    run_training(longer, tmp_path / "run", CPU, resume=True)


def test_weights_of_the_losses_are_those_of_the_configuration(drawn, tmp_path):
    config = config_for(drawn, steps=1, evaluation=EvaluationConfig())
    run_training(config, tmp_path / "usual", CPU)
    run_training(replace(config, losses=Criterion(box_weight=0.5)), tmp_path / "words", CPU)
    [usual], [words] = (read_records(tmp_path / name) for name in ("usual", "words"))
    assert words["loss/box"] == pytest.approx(usual["loss/box"] / 4)
    assert words["loss/alignment"] == pytest.approx(usual["loss/alignment"])


def test_accumulated_run_takes_as_many_steps(drawn, tmp_path):
    config = config_for(drawn, None, epochs=2.0, batch_size=2, accumulate=2)
    run_training(replace(config, evaluation=EvaluationConfig()), tmp_path, CPU)
    assert read_records(tmp_path)[-1]["step"] == 4


def test_folder_with_a_run_is_not_overwritten(drawn, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(ConfigError, match="already holds a run"):
        run_training(config_for(drawn, steps=1), tmp_path, CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": DataConfig()}, "data.sources is empty"),
        ({"steps": None}, "set epochs or steps"),
    ],
)
def test_incomplete_run_is_refused(drawn, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        run_training(replace(config_for(drawn, steps=1), **changes), tmp_path, CPU)


def test_broken_data_is_refused_in_the_doctors_words(drawn, tmp_path):
    content = json.loads((drawn / "coco.json").read_text())
    for annotation in content["annotations"]:
        annotation["bbox"][2] = 0
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(content))
    source = SourceConfig(str(path), str(drawn))
    config = config_for(drawn, steps=1, data=DataConfig(sources=(source,), workers=0))
    with pytest.raises(DataError) as caught:
        run_training(config, tmp_path / "run", CPU)
    message = str(caught.value)
    assert "broken.json cannot be trained on" in message
    assert examine(path, drawn, quick=True).errors[0].message in message


def test_evaluates_every_few_steps(drawn, tmp_path):
    config = config_for(drawn, steps=3)
    evaluation = replace(config.evaluation, every_steps=2, limit=1)
    run_training(replace(config, evaluation=evaluation), tmp_path, CPU)
    rows = [row["step"] for row in read_records(tmp_path) if "evaluation/AP" in row]
    assert rows == [2, 3]


def test_evaluations_of_a_run_that_died_are_not_those_of_the_one_that_goes_on(
    drawn, tmp_path, caplog
):
    config = config_for(drawn, steps=4)
    every = replace(config.evaluation, every_steps=2)
    config = replace(config, evaluation=every)
    run_training(config, tmp_path, CPU)
    folders = sorted((tmp_path / "evaluation").iterdir())
    assert [folder.name for folder in folders] == ["step_00000002", "step_00000004"]
    for folder in folders:
        (folder / "mark").touch()
    (tmp_path / "checkpoints" / "step_00000004.pt").unlink()
    run_training(replace(config, optimizer=OptimizerConfig(lr=1e-5)), tmp_path, CPU, resume=True)
    assert "with other values: optimizer.lr was 0.003, is 1e-05; optimizer.text_lr" in caplog.text
    assert [(folder / "mark").exists() for folder in folders] == [True, False]


def test_run_that_has_come_further_than_it_is_to_go_is_refused_and_left_alone(drawn, tmp_path):
    run_training(config_for(drawn, steps=3), tmp_path, CPU)
    files = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    message = r"has 3 steps done, and the run is to have 2: go on with steps=3 or more .*folder"
    with pytest.raises(ConfigError, match=message):
        run_training(config_for(drawn, steps=2), tmp_path, CPU, resume=True)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == files
    run_training(config_for(drawn, steps=3), tmp_path, CPU, resume=True)  # nothing left to do


def test_evaluation_that_can_decide_nothing_is_refused_before_the_first_step(drawn, tmp_path):
    content = json.loads((drawn / "coco.json").read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"]]
    (tmp_path / "few.json").write_text(json.dumps(content))
    evaluation = EvaluationConfig(str(tmp_path / "few.json"), images=str(drawn), limit=1)
    config = config_for(drawn, steps=1, evaluation=evaluation)
    with pytest.raises(DataError, match=r"few.json has no box in its first 1 pictures"):
        run_training(config, tmp_path / "out", CPU)
    assert not read_records(tmp_path / "out")


def test_command_trains_without_a_config(drawn, tmp_path):
    argv = ["--data", drawn / "coco.json", "--weights", drawn / "toy.safetensors"]
    values = ["steps=2", "schedule.warmup_steps=1", "data.workers=0", "optimizer.lr=1e-3"]
    out = tmp_path / "mine"
    assert main(["train", *map(str, argv), "--output", str(out), *values]) == 0
    before, after = (
        read(f).state for f in (drawn / "toy.safetensors", out / "model_final.safetensors")
    )
    moved = {name.split(".")[0] for name, tensor in after.items() if not tensor.equal(before[name])}
    assert moved == {"backbone", "neck", "head"}  # and not the text encoder
    [found] = glip.load(out / "model_final.safetensors", device="cpu").predict(
        drawn / "0.png", ["red"]
    )
    assert found.phrases == ["red"] * len(found)


def test_command_finds_pictures_of_the_validation_and_refuses_no_process(
    drawn, tmp_path, monkeypatch, capsys
):
    apart = tmp_path / "val.json"
    apart.write_text((drawn / "coco.json").read_text())
    words = [
        "train",
        "--data",
        str(drawn / "coco.json"),
        "--weights",
        str(drawn / "toy.safetensors"),
    ]
    words += ["--images", str(drawn), "--val", str(apart), "--eval-only"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    assert main([*words, "--num-gpus", "0"]) == 2
    assert "--num-gpus must be at least 1, got 0" in capsys.readouterr().err


def test_evaluation_only(drawn, tmp_path):
    config = config_for(drawn, steps=1)
    assert evaluate_only(config, tmp_path, CPU)["AP"] < 0.1
    other = tmp_path / "other.safetensors"
    save(other, Weights(without_chance(CONFIG), toy_model(seed=1).state_dict()))
    with pytest.raises(ConfigError, match="holds another job: weights_sha256 was"):
        evaluate_only(replace(config, weights=str(other)), tmp_path, CPU)
    with pytest.raises(CheckpointError, match="holds no weights yet"):
        evaluate_only(config, tmp_path, CPU, resume=True)
    with pytest.raises(ConfigError, match="nothing to evaluate on"):
        evaluate_only(replace(config, evaluation=EvaluationConfig()), tmp_path, CPU)


def tool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimizer.lrr=1"], "did you mean 'lr'?"),
        (["--num-machines", "2"], "several machines need a --dist-url"),
        (["--num-gpus", "2", "--dist-url", "here"], "no url of the form tcp://host:port"),
    ],
)
def test_tool_names_mistakes(drawn, tmp_path, monkeypatch, capsys, arguments, message):
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(config_for(drawn, steps=1)))
    monkeypatch.setattr(sys, "argv", ["train_net.py", "--config-file", str(path), *arguments])
    assert runpy.run_path(str(TOOL))["main"]() == 2
    assert message in capsys.readouterr().err


def test_tool_trains(drawn, tmp_path, monkeypatch, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(config_for(drawn, steps=1)))
    flags = ["--config-file", str(path), "--output", str(tmp_path / "run"), "log_every=1"]
    monkeypatch.setattr(sys, "argv", ["train_net.py", *flags])
    main = runpy.run_path(str(TOOL))["main"]
    assert main() == 0
    assert "AP50" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["train_net.py", *flags, "--resume", "--eval-only"])
    assert main() == 0


@pytest.mark.slow
def test_tool_on_two_processes(drawn, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(config_for(drawn, steps=2)))
    common = ("--config-file", path, "--num-gpus", 2)
    for strategy in ("ddp", "fsdp"):
        output = tmp_path / strategy
        done = tool(*common, "--output", output, f"strategy={strategy}", "steps=4")
        assert done.returncode == 0, done.stderr
        assert (output / "report.html").exists()
    one, two = (
        read(tmp_path / strategy / "model_final.safetensors").state for strategy in ("ddp", "fsdp")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=2e-2, rtol=0)
    done = tool(*common, "--output", tmp_path / "odd", "batch_size=3")
    assert done.returncode == 2
    assert "cannot be divided among 2 processes" in done.stderr


@pytest.mark.slow
@pytest.mark.learned
def test_four_pictures_are_learned_by_heart(drawn, tmp_path, seed, learned):
    model = without_chance(CONFIG)
    start = tmp_path / "start.safetensors"
    save(start, Weights(model, toy_model(model, seed).state_dict()))
    config = config_for(drawn, steps=120, save_every=1000, weights=str(start), seed=seed)
    augment = replace(config.data.augment, flip=0.0)
    metrics = run_training(
        replace(config, data=replace(config.data, augment=augment)), tmp_path / "run", CPU
    )
    learned("AP", metrics["AP"], least=0.8)


def test_pictures_that_cannot_be_read_are_skipped_up_to_a_share(drawn, tmp_path, caplog):
    def spoiled(name, *numbers):
        folder = tmp_path / name
        shutil.copytree(drawn, folder)
        for number in numbers:
            (folder / f"{number}.png").write_bytes(b"no picture")
        evaluation = EvaluationConfig(None)
        data = config_for(folder, 3).data
        return config_for(
            folder, 3, data=replace(data, max_unreadable=0.3), evaluation=evaluation, batch_size=2
        )

    run_training(spoiled("one", 1), tmp_path / "goes_on", CPU)
    said = [r.getMessage() for r in caplog.records if "skipped" in r.getMessage()]
    assert len(said) == 1
    assert "1.png" in said[0]
    with pytest.raises(DataError, match=r"2 of 4 pictures cannot be read, more than 30%"):
        run_training(spoiled("two", 1, 2), tmp_path / "ends", CPU)


def test_two_runs_in_one_folder_are_refused(drawn, tmp_path):
    with held(tmp_path / "run"), pytest.raises(StorageError, match="in use by another run"):
        run_training(config_for(drawn, steps=1), tmp_path / "run", CPU)


@pytest.mark.slow
def test_all_processes_stop_when_the_first_is_told_to(drawn, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(to_yaml(config_for(drawn, steps=100_000)))
    output = tmp_path / "run"
    command = [sys.executable, TOOL, "--config-file", path, "--num-gpus", "2", "--output", output]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(output.glob("checkpoints/step_*.pt")) and time.monotonic() < deadline:
            time.sleep(0.2)
        children = [
            int(name)
            for name in os.listdir("/proc")
            if name.isdecimal() and parent_of(int(name)) == process.pid
        ]
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "--resume goes on with" in said
    assert "Traceback" not in said
    assert len(children) >= 2
    assert not [number for number in children if parent_of(number)]
    newest = max((output / "checkpoints").glob("step_*.pt"))
    assert int(newest.stem.removeprefix("step_")) >= max(
        one["step"] for one in read_records(output)
    )


def parent_of(number):
    """The process that started another one, which is still there; else None."""
    try:
        state, parent = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)
