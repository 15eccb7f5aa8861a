from pathlib import Path

import pytest
from parity.chance import without_chance

from glip.errors import ConfigError
from glip.evaluation.config import METRICS, EvaluationConfig
from glip.model.presets import PRESETS, build_empty, preset
from glip.settings import to_yaml
from glip.training.freezing import freeze
from glip.training.run_config import RunConfig, read_run

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*/*.yaml"))


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_shipped_config_is_valid(path):
    config = read_run(path)
    assert config.data.sources
    name = config.weights if config.weights in PRESETS else config.model
    freeze(build_empty(preset(name)), config.freeze)


def test_pretraining_data_of_the_family():
    """Each member has what the one before has, and more (arXiv 2112.03857, table 1)."""
    runs = [read_run(p) for p in CONFIGS if p.parent.name == "pretrain"]
    data = {run.model: [Path(s.annotations).parts[1] for s in run.data.sources] for run in runs}
    assert data["glip_tiny_a"] == data["glip_tiny_b"] == ["objects365"]
    assert data["glip_tiny_c"] == ["objects365", "goldg", "goldg"]
    assert data["glip_tiny"] == [*data["glip_tiny_c"], "cc3m", "sbu"]
    assert {*data["glip_tiny"], "cc12m", "openimages"} < set(data["glip_large"])
    assert len(runs) == len(data) == 5
    for source in (s for run in runs for s in run.data.sources):
        assert bool(source.packing.captions) == source.annotations.endswith("pseudo_labels.jsonl")


def test_values_overrides_and_defaults(tmp_path):
    path = write(tmp_path, "steps: 7\noptimizer: {lr: 1.0e-3}\n")
    config = read_run(path, ["optimizer.text_lr=5e-4", "freeze.parts=[neck]", "ema=0.99"])
    assert (config.steps, config.optimizer.lr, config.optimizer.clip_norm) == (7, 1e-3, 1.0)
    assert (config.freeze.parts, config.ema) == (("neck",), 0.99)


@pytest.mark.parametrize("task", METRICS)
def test_metrics_are_checked_by_their_task(task):
    for name in METRICS[task]:
        assert EvaluationConfig(task=task, metric=f"part/{name}").metric == f"part/{name}"
    with pytest.raises(ConfigError, match=f"evaluation.metric: {task} has no 'mAP'; it has"):
        EvaluationConfig(task=task, metric="mAP")
    assert EvaluationConfig(task="odinw", metric="pothole")  # names of data sets


def test_overrides_reach_into_lists_and_missing_parts(tmp_path):
    path = write(tmp_path, "data: {sources: [{annotations: a.json}]}\n")
    config = read_run(path, ["data.sources.0.annotations=b.json", "schedule.plateau.patience=1"])
    assert config.data.sources[0].annotations == "b.json"
    assert config.schedule.plateau.patience == 1
    config = read_run(write(tmp_path, "steps: 1\n"), ["data.sources.0.annotations=c.json"])
    assert [source.annotations for source in config.data.sources] == ["c.json"]


def test_file_lies_over_its_base(tmp_path):
    write(tmp_path, "steps: 5\noptimizer: {lr: 0.1, weight_decay: 0.2}\n", "base.yaml")
    config = read_run(write(tmp_path, "base: base.yaml\noptimizer: {lr: 0.3}\n"))
    assert (config.steps, config.optimizer.lr, config.optimizer.weight_decay) == (5, 0.3, 0.2)


def test_list_with_a_plus_goes_behind_that_of_the_base(tmp_path):
    write(tmp_path, "data: {sources: [{annotations: gold.json}]}\n", "base.yaml")
    more = "base: base.yaml\ndata: {workers: 1, sources+: [{annotations: pseudo}]}\n"
    config = read_run(write(tmp_path, more))
    assert [source.annotations for source in config.data.sources] == ["gold.json", "pseudo"]
    assert config.data.workers == 1


def test_single_members_of_a_list_of_the_base_are_changed(tmp_path):
    write(tmp_path, "data: {sources: [{annotations: a}, {annotations: b, weight: 2}]}\n", "b.yaml")
    config = read_run(write(tmp_path, "base: b.yaml\ndata: {sources: {1: {weight: 3}}}\n"))
    assert [(source.annotations, source.weight) for source in config.data.sources] == [
        ("a", 1.0),
        ("b", 3.0),
    ]
    config = read_run(write(tmp_path, "base: b.yaml\ndata: {sources: {0: null}}\n"))
    assert [source.annotations for source in config.data.sources] == ["b"]
    with pytest.raises(ConfigError, match=r"sources: \[2\] are not numbers of its 2 members"):
        read_run(write(tmp_path, "base: b.yaml\ndata: {sources: {2: {weight: 3}}}\n"))


def test_written_config_reads_as_itself(tmp_path):
    config = read_run(
        write(tmp_path, "steps: 5\ndata: {sources: [{annotations: a}]}\n"),
        ["schedule.plateau.patience=1"],
    )
    assert read_run(write(tmp_path, to_yaml(config), "again.yaml")) == config
    assert read_run(write(tmp_path, "", "empty.yaml")) == RunConfig()


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("optimiser: {}", [], "unknown key 'optimiser'; did you mean 'optimizer'?"),
        ("", ["optimizer.lrr=1"], "unknown key 'lrr'; did you mean 'lr'?"),
        ("", ["optimizer.lr=fast"], "expected float, got 'fast'"),
        ("", ["optimizer.lr"], "not of the form a.b=value"),
        ("steps: 3", ["steps.x=1"], "'steps' has no parts"),
        ("data: {sources: []}", ["data.sources.0.weight=1"], "not one of the 0 members"),
        ("epochs: 1\nsteps: 1", [], "not both"),
        ("steps: 0", [], "above 0"),
        ("word_noise: -0.1", [], "word_noise must be at least 0"),
        ("word_noise: 0.5\ndata: {cache: true}", [], "with it, word_noise has to be 0"),
        ("seed: -1", [], "seed must lie in [0, 4294901760), got -1"),
        ("", ["seed=4294967296"], "seed must lie in"),
        ("batch_size: 0", [], "batch_size must lie in [1, 1000000], got 0"),
        ("accumulate: 0", [], "accumulate must be at least 1, got 0"),
        ("steps: 99999999999999999999", [], "steps must be less than 2**63"),
        ("data: {workers: -1}", [], "data.workers must be at least 0, got -1"),
        ("optimizer: {betas: [0.9, 1.0]}", [], "optimizer: betas must lie in [0, 1), got 1.0"),
        ("schedule: {gamma: -0.1}", [], "schedule: gamma must be at least 0, got -0.1"),
        ("", ["optimizer.lr=.inf"], "optimizer.lr: expected a finite number, got inf"),
        ("", ["evaluation.every_epochs=.nan"], "every_epochs: expected a finite number, got nan"),
        ("batch_size: 3\naccumulate: 2", [], "cannot be divided"),
        ("ema: 1.0", [], "ema must lie in"),
        ("data: {sources: [{annotations: a, weight: 0}]}", [], "weight must be above 0, got 0"),
        ("data: {sources: [{annotations: a, repeat_threshold: -1}]}", [], "repeat_threshold must"),
        ("losses: {box_weight: -1}", [], "losses: box_weight must be at least 0, got -1"),
        ("precision: float8", [], "'float8' is not one of"),
        ("[1, 2]", [], "expected keys and values"),
        ("a: [", [], "no valid YAML"),
        ("base: run.yaml", [], "is its own base"),
        ("base: nowhere.yaml", [], "cannot read"),
        ("data: {sources+: []}", [], "unknown key 'sources+'; did you mean 'sources'?"),
    ],
)
def test_mistakes_are_named(tmp_path, text, overrides, message):
    with pytest.raises(ConfigError) as caught:
        read_run(write(tmp_path, text), overrides)
    assert message in str(caught.value)


def test_nothing_is_left_to_chance():
    config = without_chance(preset("glip_tiny"))
    assert config.backbone.drop_path == config.head.drop_block == 0
    assert config.head.fusion_dropout == config.head.text_layer_dropout == 0
    assert config.text.options["hidden_dropout_prob"] == 0
    assert config.text.options["attention_probs_dropout_prob"] == 0


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("model: glip_tiny", [], "glip_tiny"),
        ("", ["model.backbone.name=resnet50"], {"backbone": {"name": "resnet50"}}),
        (
            "model: glip_tiny",
            ["model.backbone.name=resnet50"],
            {"name": "glip_tiny", "backbone": {"name": "resnet50"}},
        ),
        (
            "model: {head: {channels: 64}}",
            ["model.name=mine"],
            {"name": "mine", "head": {"channels": 64}},
        ),
    ],
)
def test_model_by_name_or_by_parts(tmp_path, text, overrides, expected):
    config = read_run(write(tmp_path, f"steps: 1\n{text}"), overrides)
    assert config.model == expected
    assert read_run(write(tmp_path, to_yaml(config))) == config


def test_model_with_a_wrong_part_is_refused_with_its_place(tmp_path):
    with pytest.raises(
        ConfigError, match=r"model: backbone: unknown key 'nam'; did you mean 'name'"
    ):
        read_run(write(tmp_path, "steps: 1"), ["model.backbone.nam=resnet50"])
