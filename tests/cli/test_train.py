"""What `glip train` makes of its options; runs themselves are tested in `test_run.py`."""

import argparse
from pathlib import Path

import pytest

from glip.api import FINETUNE, Order
from glip.cli import train as command
from glip.cli.main import main
from glip.cli.train import add_arguments
from glip.model.presets import build_empty, preset
from glip.training.freezing import freeze
from glip.training.run_config import RunConfig, read_run


@pytest.fixture
def ordered(monkeypatch):
    """The order that a command line gives to its processes, and its configuration."""

    def parse(*argv: str) -> tuple[Order, RunConfig]:
        orders = []
        monkeypatch.setattr(command, "work", lambda order: orders.append(order) or 0)
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        assert command.run(parser.parse_args(argv)) == 0
        [order] = orders
        return order, read_run(order.config, order.overrides)

    return parse


@pytest.mark.parametrize("model", ["glip_nano", "glip_tiny", "glip_large"])
def test_packaged_config_fits_every_kind_of_model(model):
    config = read_run(FINETUNE)
    resting = freeze(build_empty(preset(model)), config.freeze)
    assert "text" in resting and config.weights == "glip_nano"


def test_options_become_values_of_the_run(ordered, tmp_path):
    (tmp_path / "1e3.json").touch()  # a name that YAML takes for a number
    order, config = ordered(
        *("--data", str(tmp_path / "1e3.json"), "--images", "photos: new"),
        *("--val", "val.json", "--weights", "mine.safetensors", "steps=7", "optimizer.lr=2e-4"),
    )
    [source] = config.data.sources
    assert (source.annotations, source.images) == (str(tmp_path / "1e3.json"), "photos: new")
    assert (config.evaluation.annotations, config.weights) == ("val.json", "mine.safetensors")
    assert (config.steps, config.optimizer.lr) == (7, 2e-4)
    assert (order.output, order.resume, order.eval_only) == (Path("runs/1e3"), False, False)


def test_folder_with_two_parts_is_evaluated_on_the_second(ordered, tmp_path):
    for name in ("train.json", "valid.json"):
        (tmp_path / name).touch()
    config = ordered("--data", str(tmp_path), "--images", "photos")[1]
    assert config.data.sources[0].annotations == str(tmp_path / "train.json")
    evaluation = config.evaluation
    assert evaluation.annotations == str(tmp_path / "valid.json")
    assert (evaluation.images, evaluation.every_steps) == ("photos", 200)
    # What is named comes first.
    config = ordered("--data", str(tmp_path), "--val", "mine.json")[1]
    assert config.evaluation.annotations == "mine.json"


def test_own_config_takes_options_as_well(ordered, tmp_path):
    (tmp_path / "run.yaml").write_text("steps: 3\nweights: a\nlog_every: 9\n")
    order, config = ordered(
        "--config-file", str(tmp_path / "run.yaml"), "--weights", "b", "--resume"
    )
    assert (config.steps, config.weights, config.log_every) == (3, "b", 9)
    assert (order.output, order.resume) == (Path("runs/run"), True)


def test_splits_of_one_folder_are_told_apart(ordered, tmp_path):
    (tmp_path / "data.yaml").write_text("train: a\nval: b\nnames: [cat]\n")
    config = ordered("--data", str(tmp_path))[1]
    assert config.data.sources[0].split == "train"
    assert (config.evaluation.annotations, config.evaluation.split) == (str(tmp_path), "val")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "nothing to train on: name your data (--data), or a run (--config-file)"),
        (["--config-file", "a.yaml", "--images", "photos"], "--images belongs to --data"),
        (["--data", "nowhere"], "nowhere does not exist"),
        (["--data", ".", "--num-machines", "2"], "several machines need a --dist-url"),
    ],
)
def test_mistakes_are_one_line(argv, message, capsys):
    assert main(["train", *argv]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_mistakes_of_a_process_are_its_exit_code(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("steps: 1\n")
    assert main(["train", "--config-file", str(tmp_path / "run.yaml"), "lr=1"]) == 2
    assert "unknown key 'lr'" in capsys.readouterr().err


def test_interrupted_run_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupt(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("glip.training.run.run_training", interrupt)
    (tmp_path / "run.yaml").write_text("steps: 1\n")
    argv = ["train", "--config-file", str(tmp_path / "run.yaml"), "--output", str(tmp_path / "out")]
    assert main(argv) == 130
    assert f"--resume goes on with {tmp_path / 'out'}" in capsys.readouterr().err
