"""The closed-set baseline: its samples, its losses, a run, and its evaluation."""

import json
import random
from dataclasses import replace
from pathlib import Path

import baseline
import numpy as np
import pytest
import torch
from baseline import (
    UNASKED,
    Classes,
    ClosedSet,
    ClosedSetCriterion,
    ClosedSetDetector,
    closed_sources,
    compare_speed,
    main,
    read_start,
    stride_cells,
)
from PIL import Image, ImageDraw

from glip.checkpoint import Weights, save
from glip.data.augment import AugmentConfig
from glip.data.loader import TrainingSet, collate
from glip.data.mixture import Draw
from glip.errors import CheckpointError, ConfigError
from glip.evaluation.results import read_results
from glip.model.presets import build
from glip.model.text_encoder import Tokens
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer
from glip.training.record import read_records
from glip.training.run_config import read_run
from tests import toy
from tests.toy import SIDE

pytestmark = pytest.mark.whole

COLOURS = ["red", "green", "blue", "left hand", "right hand"]
CONFIG = replace(
    toy.CONFIG,
    backbone=replace(toy.CONFIG.backbone, drop_path=0.0),
    head=replace(toy.CONFIG.head, channels=64),  # of which torchvision makes 32 groups
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of coloured squares in two vocabularies, weights to start from, and a run."""
    folder = tmp_path_factory.mktemp("world")
    rng = random.Random(0)
    images, annotations = [], []
    for number in range(8):
        image = Image.new("RGB", (SIDE, SIDE), "grey")
        images.append(
            {
                "id": number,
                "file_name": f"{number}.png",
                "width": SIDE,
                "height": SIDE,
                "vocabulary": "ab"[number % 2],
            }
        )
        row = rng.randrange(2) if number % 2 == 0 else 2
        x, y, side = rng.randint(0, 50), rng.randint(0, 50), rng.randint(30, 44)
        ImageDraw.Draw(image).rectangle((x, y, x + side - 1, y + side - 1), fill=COLOURS[row])
        box = {"bbox": [x, y, side, side], "area": side * side, "iscrowd": 0}
        annotations.append({"id": number + 1, "image_id": number, "category_id": row + 1, **box})
        image.save(folder / f"{number}.png")
    categories = [{"id": row + 1, "name": name} for row, name in enumerate(COLOURS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    content["vocabularies"] = {"a": [1, 2], "b": [3, 4, 5]}
    (folder / "squares.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    save(folder / "start.safetensors", Weights(CONFIG, build(CONFIG).state_dict()))
    (folder / "run.yaml").write_text(
        f"""
weights: {folder / "start.safetensors"}
batch_size: 4
steps: 3
precision: bfloat16
ema: 0.5
log_every: 1
save_every: 2
optimizer: {{lr: 2e-3, backbone_factor: 0.25}}
schedule: {{kind: cosine, warmup_steps: 2}}
freeze: {{parts: [text, backbone.body.conv_stem]}}
data:
  workers: 0
  augment: {{short_sides: [{SIDE}], long_side: {SIDE}, mosaic: 0.2, mosaic_size: {SIDE}}}
  sources:
  - annotations: {folder / "squares.json"}
    vocabulary: a
    sampling: {{wordings: {{red: [scarlet]}}}}
  - {{annotations: {folder / "squares.json"}, vocabulary: b, weight: 2}}
"""
    )
    return folder


def run(world: Path, output: Path, *more: str, start: str = "start.safetensors") -> int:
    arguments = ["--config-file", str(world / "run.yaml"), "--output", str(output)]
    return main([*arguments, "--weights", str(world / start), *more])


def closed_set(world: Path, **changes: object) -> tuple[ClosedSet, TrainingSet, Classes]:
    config = read_run(world / "run.yaml")
    sources, classes = closed_sources(config, CONFIG)
    augmentation = AugmentConfig(short_sides=(SIDE,), long_side=SIDE, **changes)
    words = TrainingSet(sources, Tokenizer.bert_uncased(), CONFIG.pixels, augmentation)
    return ClosedSet(sources, classes, CONFIG.pixels, augmentation), words, classes


def test_spellings_of_one_name_are_one_class():
    classes = Classes(["person", "Hot Dog", "hot  dog", "person"])
    assert len(classes) == 2
    assert classes.row("hot dog") == 1 and "PERSON" in classes
    with pytest.raises(ConfigError, match="not trained on the class 'cat'"):
        classes.row("cat")


def test_picture_is_the_one_that_glip_sees_and_asks_for_its_vocabulary_only(world):
    closed, words, classes = closed_set(world, flip=0.5, brightness=0.3, mosaic=0.5)
    for seed in range(6):
        for source in range(2):
            ours, theirs = (one[Draw(source, 1, seed)] for one in (closed, words))
            torch.testing.assert_close(ours.pixels, theirs.pixels)
            torch.testing.assert_close(ours.target.boxes, theirs.target.boxes)
            asked = {classes.keys[row] for row in ours.token_ids}
            assert asked == ({"red", "green"} if source == 0 else set(COLOURS[2:]))


def test_labels_follow_the_mirror(world, monkeypatch):
    closed, _, classes = closed_set(world, flip=1.0)
    source = closed._sources[1]
    image_id, scene = source.scene(0)
    scene.owners[:] = 3  # a left hand
    monkeypatch.setattr(source, "scene", lambda index: (image_id, scene))
    sample = closed[Draw(1, 0, 0)]
    assert [classes.keys[sample.token_ids[row]] for row in sample.target.phrases] == ["right hand"]


def test_long_vocabulary_is_asked_in_part(world, monkeypatch):
    monkeypatch.setattr(baseline, "MAX_ASKED", 2)
    closed, _, classes = closed_set(world)
    asked = [closed[Draw(1, 0, seed)].token_ids for seed in range(20)]
    assert {len(rows) for rows in asked} == {2}
    assert all(classes.row("blue") in rows for rows in asked)
    assert len(set(asked)) == 2  # the other one is drawn


def test_classes_outside_the_vocabulary_get_no_loss(world):
    closed, _, classes = closed_set(world)
    torch.manual_seed(0)
    detector = ClosedSetDetector(CONFIG, len(classes)).train()
    batch = collate([closed[Draw(0, 0, 0)], closed[Draw(0, 1, 0)]])
    output = detector(batch.pixels, batch.tokens)
    assert output.logits.shape[2] == 2  # nobody asks for blue or hands
    losses = ClosedSetCriterion(detector)(output, batch.targets)
    assert set(losses) == {"classification", "bbox_regression", "bbox_ctrness"}
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    gradient = detector.head.classification_head.cls_logits.weight.grad.flatten(1).norm(dim=1)
    assert (gradient[[classes.row("red"), classes.row("green")]] > 0).all()
    assert (gradient[[classes.row("blue"), classes.row("left hand")]] == 0).all()


def test_picture_of_one_vocabulary_is_unmoved_by_a_neighbour_of_another(world):
    closed, _, classes = closed_set(world)
    torch.manual_seed(0)
    detector = ClosedSetDetector(CONFIG, len(classes)).eval()
    criterion = ClosedSetCriterion(detector)

    def loss(draws: list[Draw]) -> torch.Tensor:
        batch = collate([closed[draw] for draw in draws])
        output = detector(batch.pixels, batch.tokens)
        parts = criterion(output, batch.targets)
        return parts["classification"], output

    one, _ = loss([Draw(0, 0, 0)])
    other, _ = loss([Draw(1, 0, 0)])
    both, output = loss([Draw(0, 0, 0), Draw(1, 0, 0)])
    assert (output.logits == UNASKED).any(1).sum(1).tolist() == [3, 2]
    # Losses are divided by the positives of the batch: the joint one lies between the two.
    assert min(one, other) - 1e-4 <= both <= max(one, other) + 1e-4


def test_cells_are_whole_strides():
    cells = stride_cells([(12, 12), (6, 6), (3, 3), (2, 2), (1, 1)], torch.device("cpu"))
    assert len(cells) == 144 + 36 + 9 + 4 + 1
    np.testing.assert_allclose(cells[0], [-0.5, -0.5, 7.5, 7.5])
    np.testing.assert_allclose(cells[-2] - cells[-5], [64, 64, 64, 64])
    np.testing.assert_allclose((cells[:, 2:] - cells[:, :2]).unique(), [8, 16, 32, 64, 128])


def test_run_leaves_weights_and_measures_each_vocabulary(world, tmp_path, capsys):
    assert run(world, tmp_path / "run", "--val", str(world / "squares.json")) == 0
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[1:]] == ["AP", "a", "b", "all"]
    first = read_start(tmp_path / "run" / "model_final.safetensors")
    assert first.config == CONFIG and first.keys == tuple(COLOURS)
    results = read_results(tmp_path / "run" / "evaluation" / f"{world.name}_squares")
    assert [prompt["names"] for prompt in results["settings"]["prompts"]] == [
        COLOURS[:2],
        COLOURS[2:],
    ]
    # What was frozen is as it was, all else has moved.
    start = read_start(world / "start.safetensors").state
    stem, fpn = "backbone.body.conv_stem.weight", "backbone.fpn.inner_blocks.0.0.weight"
    torch.testing.assert_close(first.state[stem], start[stem])
    torch.manual_seed(0)
    fresh = ClosedSetDetector(CONFIG, len(COLOURS)).state_dict()
    assert not torch.equal(first.state[fpn], fresh[fpn])


def test_killed_run_resumes_to_the_same_weights(world, tmp_path, capsys):
    assert run(world, tmp_path / "whole", "--steps", "4") == 0
    final = tmp_path / "resumed" / "model_final.safetensors"
    # The schedule of four steps, ended by a failure in the third: one checkpoint is there.
    with pytest.MonkeyPatch.context() as patch:
        calls = []

        def fail(self, *arguments):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return criterion(self, *arguments)

        criterion = ClosedSetCriterion.__call__
        patch.setattr(ClosedSetCriterion, "__call__", fail)
        with pytest.raises(KeyboardInterrupt):
            run(world, tmp_path / "resumed", "--steps", "4")
    assert not final.exists()
    assert run(world, tmp_path / "resumed", "--steps", "4") == 2
    assert "already holds a run" in capsys.readouterr().err
    assert run(world, tmp_path / "resumed", "--steps", "4", "--resume") == 0
    whole = read_start(tmp_path / "whole" / "model_final.safetensors").state
    for name, tensor in read_start(final).state.items():
        torch.testing.assert_close(tensor, whole[name], rtol=0, atol=0)


def test_second_run_starts_where_the_first_ended(world, tmp_path):
    assert run(world, tmp_path / "one", "--steps", "1") == 0
    weights = tmp_path / "one" / "model_final.safetensors"
    classes = Classes(COLOURS)
    detector = ClosedSetDetector(CONFIG, len(classes))
    baseline.load_start(detector, classes, read_start(weights))
    for name, tensor in read_start(weights).state.items():
        torch.testing.assert_close(detector.state_dict()[name], tensor)
    with pytest.raises(CheckpointError, match="know 5 classes"):
        baseline.load_start(detector, Classes(["cat"]), read_start(weights))


@pytest.mark.learned
def test_squares_are_learned(world, tmp_path, seed, learned):
    torch.manual_seed(seed)
    start = tmp_path / "start.safetensors"
    save(start, Weights(CONFIG, build(CONFIG).state_dict()))
    arguments = ["--steps", "30", "--val", str(world / "squares.json"), f"seed={seed}"]
    arguments += ["precision=float32", "optimizer.lr=4e-3", "data.augment.mosaic=0"]
    assert run(world, tmp_path / "run", *arguments, start=str(start)) == 0
    results = read_results(tmp_path / "run" / "evaluation" / f"{world.name}_squares")
    learned("AP50", results["metrics"]["AP50"], least=0.6)
    losses = [row["loss/total"] for row in read_records(tmp_path / "run")]
    learned("loss at the end, of that at the start", losses[-1] / losses[0], most=0.7)


def test_names_of_a_prompt_are_found_in_its_own_rows(world):
    classes = Classes(COLOURS)
    torch.manual_seed(0)
    detector = ClosedSetDetector(CONFIG, len(classes))
    with torch.no_grad():
        head = detector.head.classification_head.cls_logits
        head.bias.fill_(-9.0)
        head.bias[classes.row("green")] = 3.0
    predictor = baseline.ClosedSetPredictor(detector, classes, CONFIG.pixels, torch.device("cpu"))
    picture = predictor.prepare(world / "0.png", 7)
    assert picture.number == 7
    prompts = [Prompt.of(["right hand", "green"]), Prompt.of(["green"]), Prompt.of(["red"])]
    [[two, one, none]] = predictor.detect([picture], [prompts])
    assert set(two.phrases) == {"green"} and set(two.phrase_ids.tolist()) == {1}
    torch.testing.assert_close(two.boxes, one.boxes)
    assert len(none) == 0
    with pytest.raises(ConfigError, match="class 'puppy'"):
        predictor.detect([picture], [[Prompt.of(["puppy"])]])


@pytest.mark.parametrize(
    ("more", "start", "message"),
    [
        (["steps=null"], "start.safetensors", "no number of steps"),
        (["batch_size=3", "accumulate=3"], "none.safetensors", "none.safetensors"),
        (["data.sources=[]"], "start.safetensors", "data.sources is empty"),
        (["backbone=3"], "start.safetensors", "unknown key 'backbone'"),
    ],
)
def test_mistakes_are_named(world, tmp_path, capsys, more, start, message):
    assert run(world, tmp_path / "run", *more, start=start) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error


def test_captions_are_no_closed_set(world, tmp_path, capsys):
    caption = {"id": 1, "file_name": "0.png", "width": SIDE, "height": SIDE, "caption": "red"}
    span = {"id": 1, "image_id": 1, "bbox": [1, 1, 9, 9], "tokens_positive": [[0, 3]]}
    path = world / "captions.json"
    path.write_text(json.dumps({"images": [caption], "annotations": [span]}))
    more = [f"data.sources=[{{annotations: {path}}}]"]
    assert run(world, tmp_path / "run", *more) == 2
    assert "data.sources.0 has captions" in capsys.readouterr().err


def test_speed_of_both_is_given(world):
    config = read_run(world / "run.yaml")
    start = world / "start.safetensors"
    numbers = compare_speed(config, read_start(start), start, seconds=0.01, turns=1)
    assert numbers["baseline, pictures/s"] > 0 and numbers["glip, pictures/s"] > 0
    assert numbers["glip, M parameters"] > numbers["glip, M parameters without text"]


def test_asked_classes_need_no_padding():
    torch.manual_seed(0)
    detector = ClosedSetDetector(CONFIG, 5).eval()
    pixels = torch.randn(2, 3, SIDE, SIDE)
    both = detector(pixels, Tokens.pad([(1, 3, 4), (2,)]))
    alone = detector(pixels[1:], Tokens.pad([(2,)]))
    column = both.rows[1, 0]
    torch.testing.assert_close(both.logits[1, :, column], alone.logits[0, :, 0])
    assert (both.logits[1][:, both.rows[0]] == UNASKED).all()
