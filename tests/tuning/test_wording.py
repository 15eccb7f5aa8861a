import numpy as np
import pytest
import torch

from glip.cli.main import main
from glip.errors import ConfigError, GlipError
from glip.task_prompt import read_prompt
from glip.tuning.wording import Said, Wordings, in_templates, marked, read_wordings, worded

pytestmark = pytest.mark.whole

CAT = {"cat": ("cat", "[kitten], small and soft")}


def test_sentence_has_a_class_as_spans_of_all_its_wordings(tiny_detector):
    said = Said({**CAT, "dog": ("dog",)}, template="a photo of a {}", negatives=("fox",))
    task = worded(tiny_detector, said)
    assert task.prompt.text == (
        "a photo of a cat. a photo of a kitten, small and soft. a photo of a dog. a photo of a fox"
    )
    words = [[task.prompt.text[a:b] for a, b in spans] for spans in task.prompt.phrases]
    assert words == [["cat"], ["dog"]] or words == [["cat", "kitten"], ["dog"]]
    assert words[0] == ["cat", "kitten"]
    assert task.names == ("cat", "dog")
    assert task.token_map.sum(1).tolist() == [2, 1]
    assert task.negatives.sum(1).tolist() == [1]
    assert not (task.negatives & task.token_map.any(0)).any()


def test_score_of_a_class_is_the_mean_of_its_wordings(tiny_detector, make_picture):
    both = worded(tiny_detector, Said({"cat": ("cat", "kitten")}))
    ids = tiny_detector.tokenizer.encode("cat. kitten").ids
    assert both.token_ids == tuple(ids)
    [found] = tiny_detector.with_prompt(both).predict(make_picture(), threshold=0.0)
    from glip.text.prompt import Prompt

    one = Prompt("cat. kitten", (((0, 3), (5, 11)),), ("cat",))
    [expected] = tiny_detector.predict(make_picture(), one, threshold=0.0)
    torch.testing.assert_close(found.scores, expected.scores)


def test_features_are_means_of_texts_of_their_own(tiny_detector):
    task = worded(tiny_detector, Said({**CAT, "dog": ("dog",)}, ensemble="features"))
    alone = [
        worded(tiny_detector, Said({"cat": (text,)}, ensemble="features")).states[0]
        for text in CAT["cat"]
    ]
    torch.testing.assert_close(task.states[0], np.stack(alone).mean(0))
    assert task.states.shape == (2, 32)
    assert np.array_equal(task.token_map, np.eye(2, dtype=np.bool_))


def test_feature_table_predicts(tiny_detector, make_picture):
    task = worded(tiny_detector, Said({**CAT, "dog": ("dog",)}, ensemble="features"))
    [found] = tiny_detector.with_prompt(task).predict(make_picture(), threshold=0.0)
    assert set(found.phrases) == {"cat", "dog"}


@pytest.mark.parametrize(
    ("wording", "expected"),
    [
        ("cat", ("cat", 0, 3)),
        ("small [cat], grey", ("small cat, grey", 6, 9)),
        ("bow_(ribbon)", ("bow", 0, 3)),
    ],
)
def test_brackets_mark_the_name(wording, expected):
    assert marked(wording) == expected


@pytest.mark.parametrize("wording", ["[cat", "cat]", "[a] [b]", "[]", "[ ]", "]cat[", "  "])
def test_brackets_that_do_not_mark_anything_are_refused(wording):
    with pytest.raises(ConfigError, match="wording"):
        marked(wording)


def test_attributes_and_knowledge_are_said_behind_the_name():
    offered = Wordings(
        classes={"cat": ["kitten"]},
        attributes={"cat": "striped"},
        knowledge={"cat": "a small animal"},
    )
    assert offered.of("cat") == ("cat", "kitten", "[cat], striped", "[cat]: a small animal")
    assert offered.of("dog") == ("dog",)


def test_every_wording_stands_in_every_template():
    offered = Wordings(("a {}", "two {}s"), {"cat": ["kitten", "big [cat] here"]})
    assert in_templates(offered, "cat") == (
        *("a [cat]", "two [cat]s"),
        *("a [kitten]", "two [kitten]s"),
        *("a big [cat] here", "two big [cat] heres"),
    )
    assert in_templates(Wordings(), "cat") == ("cat",)


@pytest.mark.parametrize("name", ["(cat)", "cat [grey", "a.b]"])
def test_name_of_a_class_is_no_wording_with_marks(tiny_detector, name):
    for ensemble in ("scores", "features"):
        assert worded(tiny_detector, Said({name: (name,)}, ensemble=ensemble)).names == (name,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("templates: ['a photo']", "must hold {} once"),
        ("classes: {cat: kitten}", r"yaml: classes.cat must be a list of wordings.* got 'kitten'"),
        ("classes: {cat: }", r"classes.cat must be a list of wordings.* got None"),
        ("classes: {10: [ten]}", r"classes: the name 10 is no text; put quotes around it"),
        ("classes: {cat: [no]}", r"classes.cat: False is no text; put quotes around it"),
        ("knowledge: {cat: 3}", r"knowledge.cat: 3 is no text"),
        ("attributes: {cat: ' '}", r"attributes.cat: ' ' has no words"),
        ("negatives: ['']", r"yaml: negatives: '' has no words"),
        ("negatve: [fox]", "unknown key 'negatve'; did you mean 'negatives'"),
        ("a: [", "no valid YAML"),
        (None, "cannot read"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "wordings.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_wordings(path)


@pytest.mark.parametrize(
    ("offered", "message"),
    [
        (Wordings(classes={"Cat": ["kitten"]}), "did you mean 'cat'"),
        (Wordings(knowledge={"cow": "an animal"}), r"no class of the data \(cat, dog\)"),
        (Wordings(negatives=("DOG",)), "is a class and a negative"),
    ],
)
def test_wordings_of_other_classes_are_refused(offered, message):
    with pytest.raises(ConfigError, match=message):
        offered.check(["cat", "dog"])


YAML = """
templates: ["a photo of a {}"]
classes: {red square: [crimson box]}
negatives: [grey wall]
"""


def test_command_searches_and_writes_a_prompt(squares, calm_file, tmp_path, capsys):
    (tmp_path / "w.yaml").write_text(YAML)
    out = tmp_path / "best.prompt.safetensors"
    words = ["prompts", "--wordings", str(tmp_path / "w.yaml"), "--weights", str(calm_file)]
    words += ["--device", "cpu", "--out", str(out)]
    assert main([*words, "--search", "--data", str(squares), "--shots", "1"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].startswith("names ")
    assert told[-1].startswith("thresholds: red square ")
    assert len(read_prompt(out).thresholds) == 2
    assert (tmp_path / "best.json").exists()
    assert main(words) == 0  # all wordings at once, nothing to judge them by
    assert read_prompt(out).names == ("red square",)
    assert read_prompt(out).prompt.text.startswith("a photo of a red square. a photo of a crimson")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--search"], "--search needs labelled photos"),
        (["--out", "best.safetensors"], "must be called NAME.prompt.safetensors"),
        (["--search", "--data", "d", "--ensemble", "scores"], "leave --ensemble out"),
        (["--out", "w.yaml/a.prompt.safetensors"], "cannot be written"),
    ],
)
def test_command_refuses_what_it_cannot_do(tmp_path, capsys, monkeypatch, extra, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.yaml").write_text(YAML)
    words = ["prompts", "--wordings", "w.yaml", "--out", "a.prompt.safetensors"]
    assert main([*words, *extra]) == 2
    assert message in capsys.readouterr().err


def test_choice_needs_words():
    with pytest.raises(GlipError, match="each class needs a wording"):
        Said({"cat": ()})
    with pytest.raises(GlipError, match="ensemble must be one of"):
        Said({"cat": ("cat",)}, ensemble="both")


def test_wordings_are_of_a_name_in_either_unicode_form():
    offered = Wordings(classes={"cafe\u0301": ["bar"]}, attributes={"cafe\u0301": "small"})
    offered.check(["caf\u00e9"])
    assert offered.of("caf\u00e9") == ("caf\u00e9", "bar", "[caf\u00e9], small")
