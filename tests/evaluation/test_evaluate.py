"""evaluate(): predict, go on, share, measure."""

import json
import multiprocessing

import pytest
import torch.distributed as dist

from glip.config import PostprocessOptions
from glip.data.formats.coco import parse_detection, read_detection
from glip.data.pictures import PictureFolder
from glip.errors import ConfigError, DataError, StorageError
from glip.evaluation.coco import CocoEvaluator
from glip.evaluation.evaluate import evaluate
from glip.evaluation.predictions import read_predictions
from glip.evaluation.questions import detection_questions
from glip.evaluation.results import read_results
from glip.evaluation.table import results_table
from glip.jobs.folder import LOCK, held


def run(toy, output, detector="own", **options):
    """The numbers as they are in the results file, where those that are none compare equal."""
    path, listed = toy
    data = read_detection(path)
    evaluate(
        listed if detector == "own" else detector,
        detection_questions(data),
        PictureFolder(path.parent),
        CocoEvaluator(data, backend="pycocotools"),
        output,
        **options,
    )
    return read_results(output)["metrics"]


def test_every_picture_is_asked_for_all_classes_in_the_order_of_ids(toy, tmp_path):
    result = run(toy, tmp_path / "out")
    assert result["AP"] == pytest.approx(1.0)
    assert toy[1].asked == [(number, "cat. dog") for number in range(6)]
    results = read_results(tmp_path / "out")
    assert results["metrics"]["AP"] == pytest.approx(1.0)
    assert results["metrics"]["APl"] is None
    assert results["per_class"] == pytest.approx({"cat": 1.0, "dog": 1.0})
    assert results["settings"]["prompts"] == [
        {"text": "cat. dog", "names": ["cat", "dog"], "labels": [5, 6]}
    ]
    assert results["settings"]["options"]["nms"] == 0.6
    assert {"glip", "torch", "python"} <= set(results["versions"])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        LOCK,
        "predictions.jsonl",
        "results.json",
    ]


def test_two_runs_in_one_folder_are_refused(toy, tmp_path):
    with held(tmp_path / "out"), pytest.raises(StorageError, match="in use by another run"):
        run(toy, tmp_path / "out")
    assert run(toy, tmp_path / "out")["AP"] == pytest.approx(1.0)
    with held(tmp_path / "out"):  # nothing is left to predict, so nobody is in the way
        assert run(toy, tmp_path / "out")["AP"] == pytest.approx(1.0)


def test_interrupted_run_goes_on_where_it_was(toy, tmp_path):
    expected = run(toy, tmp_path / "whole")
    detector = toy[1]
    detector.asked.clear()
    detector.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        run(toy, tmp_path / "out")
    detector.stop_after = None
    done = []
    assert run(toy, tmp_path / "out", progress=done.append) == expected
    assert [number for number, _ in detector.asked] == list(range(6))
    assert [step.done for step in done] == [4, 5, 6] and done[-1].total == 6
    whole, resumed = ((tmp_path / n / "predictions.jsonl").read_text() for n in ("whole", "out"))
    assert whole == resumed


def test_finished_run_is_measured_again_without_a_model(toy, tmp_path):
    expected = run(toy, tmp_path / "out")
    assert run(toy, tmp_path / "out", detector=None) == expected
    toy[1].asked.clear()
    assert run(toy, tmp_path / "out") == expected
    assert toy[1].asked == []
    with pytest.raises(DataError, match="cannot be opened"):
        run(toy, tmp_path / "empty", detector=None)


def test_run_with_other_settings_does_not_go_on(toy, tmp_path):
    run(toy, tmp_path / "out", settings={"weights": "a"})
    with pytest.raises(ConfigError, match='weights was "a", is "b"'):
        run(toy, tmp_path / "out", settings={"weights": "b"})
    options = PostprocessOptions(nms=0.5)
    with pytest.raises(ConfigError, match=r"options\.nms was 0.6, is 0.5"):
        run(toy, tmp_path / "out", settings={"weights": "a"}, options=options)


def test_old_ids_of_other_pictures_are_noticed(toy, tmp_path, caplog):
    run(toy, tmp_path / "out")
    content = json.loads(toy[0].read_text())
    names = [image["file_name"] for image in content["images"]]
    for image, name in zip(content["images"], names[1:] + names[:1], strict=True):
        image["file_name"] = name
    toy[0].write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="holds another job: pictures_sha256 was"):
        run(toy, tmp_path / "out")
    run(toy, tmp_path / "out", detector=None)  # which may be meant
    assert "predicted for other pictures, or under other ids" in caplog.text


def test_run_that_failed_at_its_first_picture_binds_nobody(toy, tmp_path):
    toy[1].stop_after = 0
    with pytest.raises(KeyboardInterrupt):
        run(toy, tmp_path / "out")
    toy[1].stop_after = None
    result = run(toy, tmp_path / "out", options=PostprocessOptions(score=0.2))
    assert result["AP"] == pytest.approx(1.0)


def test_unreadable_picture_counts_as_empty_and_is_tried_again(toy, tmp_path):
    picture = toy[0].parent / "3.png"
    content = picture.read_bytes()
    picture.unlink()
    assert run(toy, tmp_path / "out")["AP"] < 1
    results = read_results(tmp_path / "out")
    assert list(results["unreadable"]) == ["3"]
    assert "1 pictures could not be read" in results_table(results)
    picture.write_bytes(content)
    assert run(toy, tmp_path / "out")["AP"] == pytest.approx(1.0)
    assert read_results(tmp_path / "out")["unreadable"] == {}


def test_chunks_are_asked_one_by_one_and_joined(toy, tmp_path):
    path, detector = toy
    data = read_detection(path)
    evaluate(
        detector,
        detection_questions(data, chunk=1),
        PictureFolder(path.parent),
        CocoEvaluator(data),
        tmp_path / "out",
    )
    assert detector.asked[:3] == [(0, "cat"), (0, "dog"), (1, "cat")]
    first = next(read_predictions(tmp_path / "out" / "predictions.jsonl"))
    assert first.labels.tolist() == [5, 6]  # the listed detector answers row 0 of every prompt


def test_pictures_are_asked_in_their_own_vocabulary(toy, tmp_path):
    path, detector = toy
    content = json.loads(path.read_text())
    content["vocabularies"] = {"a": [5], "b": [6]}
    for image in content["images"]:
        image["vocabulary"] = "ab"[image["id"] % 2]
    data = parse_detection(content, path)
    questions = detection_questions(data)
    evaluator = CocoEvaluator(data)
    result = evaluate(detector, questions, PictureFolder(path.parent), evaluator, tmp_path / "out")
    assert [text for _, text in detector.asked] == ["cat", "dog"] * 3
    assert result["a/AP"] == pytest.approx(1.0) and result["b/AP"] == 0


def test_zero_comes_with_likely_causes(toy, tmp_path):
    toy[1].answers.clear()
    run(toy, tmp_path / "out")
    results = read_results(tmp_path / "out")
    assert "nothing was found in any picture" in results["likely_causes"][0]
    assert "Likely causes:\n- nothing was found" in results_table(results)


def _process(rank, toy, output, results):
    store = dist.FileStore(str(output.parent / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    result = run(toy, output)
    results.put((rank, result, [number for number, _ in toy[1].asked]))
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
def test_two_processes_give_the_numbers_and_the_file_of_one(toy, tmp_path):
    toy[1].answers[4] = [([50, 50, 60, 60], 0.95, 0)]
    expected = run(toy, tmp_path / "one")
    toy[1].asked.clear()
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [
        context.Process(target=_process, args=(rank, toy, tmp_path / "two", results))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    answers = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    assert [result for _, result, _ in answers] == [expected, expected]
    assert [asked for _, _, asked in answers] == [[0, 2, 4], [1, 3, 5]]
    one, two = ((tmp_path / n / "predictions.jsonl").read_text() for n in ("one", "two"))
    assert one == two
