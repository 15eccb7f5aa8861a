"""Captions -> pseudo-grounding, from input files to a training source."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from glip import distributed
from glip.cli.main import main
from glip.data.formats.odvg import to_odvg
from glip.data.formats.recognise import read_annotated
from glip.data.records import GroundingData
from glip.data.sources import GroundingSource
from glip.errors import ConfigError, PromptError, StorageError
from glip.jobs.batches import Pace
from glip.pixels import Prepared
from glip.pseudo import ground as module
from glip.pseudo.captions import CaptionSet
from glip.pseudo.config import GroundingConfig
from glip.pseudo.filters import CaptionFilters
from glip.pseudo.ground import ground_captions
from glip.pseudo.summary import Summary
from glip.pseudo.teacher import BoxConfig
from glip.structures import Detections
from glip.text.prompt import Prompt
from glip.training.run_config import SourceConfig, read_run

pytestmark = pytest.mark.whole

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked and killed")

CURATED = CaptionFilters.preset("curated")
CONFIG = GroundingConfig(CURATED, BoxConfig(min_size=0), batch_size=3, sample_pictures=2)


class Words:
    """A teacher whose boxes follow from the words of a phrase; it can die in the middle."""

    pace = Pace()

    def __init__(self, *, dies_after: int | None = None, name: str = "words") -> None:
        self.left = dies_after
        self.name = name
        self.pictures = 0

    def identity(self) -> dict[str, Any]:
        return {"kind": "test", "name": self.name}

    def check(self, prompt: Prompt) -> None: ...

    def prepare(self, image: Image.Image) -> Prepared:
        return Prepared(0, torch.zeros(3, image.height, image.width), (image.height, image.width))

    def ground(
        self, pictures: Sequence[Prepared], prompts: Sequence[Sequence[Prompt]], boxes: BoxConfig
    ) -> list[list[Detections]]:
        self.pictures += len(pictures)
        if self.left is not None:
            self.left -= len(pictures)
            if self.left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return [
            [self.found(prompt, picture.original_hw) for prompt in asked]
            for picture, asked in zip(pictures, prompts, strict=True)
        ]

    def found(self, prompt: Prompt, image_hw: tuple[int, int]) -> Detections:
        """One box a phrase, but none for ghosts; scores from 0.2 to 0.9."""
        rows = [row for row, name in enumerate(prompt.names) if "ghost" not in name]
        scores = [0.2 + 0.7 * (zlib.crc32(prompt.names[row].encode()) % 101) / 100 for row in rows]
        last = torch.tensor([float(image_hw[1]), float(image_hw[0])])
        corners = [torch.cat([torch.tensor([row, 0.0]), last]) for row in rows]
        boxes = torch.stack(corners) if rows else torch.zeros(0, 4)
        found = Detections(boxes, torch.tensor(scores), torch.tensor(rows).long(), prompt, image_hw)
        return found.top(len(found))


@pytest.fixture
def make_input(tmp_path: Path) -> Callable[..., CaptionSet]:
    """A table of captions and their pictures."""

    def make(rows: Sequence[tuple[str, str]], folder: str = "input") -> CaptionSet:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for number, name in enumerate(sorted({name for name, _ in rows})):
            Image.new("RGB", (30 + number % 2, 20), (number, 90, 90)).save(root / name)
        lines = [f"{name}\t{caption}\n" for name, caption in rows]
        (root / "x.tsv").write_text("".join(lines), encoding="utf-8")
        return CaptionSet(root / "x.tsv")

    return make


def some(count: int) -> list[tuple[str, str]]:
    return [
        (f"{n:03d}.png", f"a cat number {n} {text}")
        for n in range(count)
        for text in ("on a red mat", "and two dogs")
    ]


def run(
    captions: CaptionSet, output: Path, teacher: Words | None = None, **options: Any
) -> tuple[Summary, GroundingData]:
    """The report, and the data as training reads it."""
    config = replace(CONFIG, **options)
    report = ground_captions(captions, teacher or Words(), config, output)
    assert report is not None
    annotated = read_annotated(output / "data", captions.root)
    assert isinstance(annotated.data, GroundingData)
    return report, annotated.data


def lines(output: Path) -> list[str]:
    parts = sorted((output / "data").glob("*.jsonl"))
    return [line for part in parts for line in part.read_text(encoding="utf-8").splitlines()]


def test_captions_become_data_that_trains(make_input, tmp_path) -> None:
    captions = make_input([("a.png", "A cat on a red mat."), ("b.png", "Two dögs near a ghost")])
    report, data = run(captions, tmp_path / "out")
    first, second = list(data.records)
    assert (first.caption, first.file_name, first.image_hw) == (
        "A cat on a red mat.",
        "a.png",
        (20, 30),
    )
    assert sorted(first.phrases) == [((0, 5),), ((9, 18),)]
    assert [second.caption[a:b] for ((a, b),) in second.phrases] == ["Two dögs"]
    assert second.boxes.tolist() == [[0, 0, 31, 20]]  # far corners x + width, inside the picture
    assert len(first.scores) == 2 and 0.2 <= first.scores.min() <= first.scores.max() <= 0.9
    assert (report.captions, report.phrases, report.grounded_phrases, report.boxes) == (2, 4, 3, 3)
    assert sum(report.scores) == 3
    assert report.confident_boxes == sum(int((r.scores > 0.5).sum()) for r in data.records)
    source = GroundingSource(data, captions._pictures, min_score=0.0, trust_scores=True)
    scene = source.scene(0)[1]
    assert scene.caption == first.caption and scene.scores is not None and len(scene.boxes) == 2
    header = json.loads((tmp_path / "out" / "data" / "header.json").read_text())
    assert header["teacher"] == {"kind": "test", "name": "words"}
    assert header["boxes"]["min_score"] == 0.2 and header["parts"] == {"pseudo-00000.jsonl": 2}
    assert header["report"]["boxes"] == 3


def test_scores_decide_what_training_takes(make_input, tmp_path) -> None:
    captions = make_input(some(30))
    _, data = run(captions, tmp_path / "out")
    sizes = [
        len(GroundingSource(data, captions._pictures, min_score=score)) for score in (0.2, 0.6, 0.8)
    ]
    assert sizes[0] > sizes[1] > sizes[2] > 0
    assert SourceConfig("data").min_score == 0.5  # official


def test_filters_are_counted_and_leave_the_rest(make_input, tmp_path) -> None:
    captions = make_input(
        [("a.png", "A cat on a red mat"), ("a.png", "A cat on a red mat"), ("a.png", "a cat"),
         ("a.png", "..."), ("a.png", "it is red and wet"), ("b.png", "a dog on a mat"),
         ("c.png", "word " * 30), ("gone.png", "a dog on a rug")]
    )  # fmt: skip
    (captions.root / "gone.png").unlink()
    (captions.root / "b.png").write_bytes(b"no picture")
    with (captions.root / "x.tsv").open("a") as file:
        file.write("d.png\n")
    Image.new("RGB", (300, 20)).save(captions.root / "e.png")
    with (captions.root / "x.tsv").open("a") as file:
        file.write("e.png\ta very wide picture\n")
    filters = replace(CURATED, min_words=3, max_words=20, max_aspect=3.0)
    report, data = run(captions, tmp_path / "out", filters=filters)
    assert [record.caption for record in data.records] == ["A cat on a red mat"]
    assert report.refused == {
        "blank": 1, "short": 1, "long": 1, "elongated": 1, "no_phrase": 1, "repeated": 1,
    }  # fmt: skip
    assert report.entries == {"done": 1, "refused": 2, "rejected": 3}
    assert [line.split(": ")[-1].split("/")[-1][:20] for line in report.rejected] == [
        "b.png is not a pictu", "gone.png does not ex", "x.tsv:9 has 1 cells,",
    ]  # fmt: skip
    text = report.text()
    assert "1 fewer words than min_words" not in text and "short: fewer words" in text
    page = (tmp_path / "out" / "report.html").read_text()
    assert "A cat on a red mat (a.png)" in page and page.count("<img") == 1


class ShortSighted(Words):
    """It cannot read a phrase of more than twelve letters."""

    def check(self, prompt: Prompt) -> None:
        if any(len(name) > 12 for name in prompt.names):
            raise PromptError("too long for this teacher")


def test_one_phrase_that_cannot_be_read_costs_itself_alone(make_input, tmp_path) -> None:
    rows = [
        ("1.png", "a cat near a hippopotamuslike"),  # the other phrase of its caption stays
        ("1.png", "a hippopotamuslike"),  # nothing is left of this one
        ("2.png", "a hippopotamuslike"),
    ]
    report, data = run(make_input(rows), tmp_path / "out", ShortSighted())
    [record] = data.records
    assert record.caption == "a cat near a hippopotamuslike"
    assert record.phrases == (((0, 5),),)
    assert report.refused == {"unreadable": 2}
    assert report.entries == {"done": 1, "refused": 1}


def test_web_filters_need_the_whole_input(make_input, tmp_path) -> None:
    rows = [(f"{n}.png", "click to enlarge it") for n in range(12)] + [("0.png", "a fine old boat")]
    filters = replace(CaptionFilters(), min_side=0)
    report, data = run(make_input(rows), tmp_path / "out", filters=filters)
    assert [record.caption for record in data.records] == ["a fine old boat"]
    assert report.refused == {"shared": 12}


def test_parts_hold_no_more_than_they_may(make_input, tmp_path) -> None:
    captions = make_input(some(7))
    run(captions, tmp_path / "out")
    whole = lines(tmp_path / "out")
    _, data = run(captions, tmp_path / "out", captions_per_part=4)  # nothing is asked again
    parts = sorted(path.name for path in (tmp_path / "out" / "data").glob("*.jsonl"))
    assert parts == [f"pseudo-{n:05d}.jsonl" for n in range(4)]
    assert lines(tmp_path / "out") == whole == [
        json.dumps(to_odvg(record), ensure_ascii=False) for record in data.records
    ]  # fmt: skip
    assert len({record.image_id for record in data.records}) == 14


def _run_and_die(captions: CaptionSet, output: Path, after: int) -> None:
    ground_captions(captions, Words(dies_after=after), CONFIG, output)


@needs_fork
def test_killed_at_any_moment_it_goes_on(make_input, tmp_path) -> None:
    captions = make_input(some(40))
    run(captions, tmp_path / "whole", Words())
    output, fork = tmp_path / "killed", multiprocessing.get_context("fork")
    for after in (1, 5, 2, 9, 3, 7):
        process = fork.Process(target=_run_and_die, args=(captions, output, after))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert not (output / "data").exists()
    last = Words()
    report, _ = run(captions, output, last)
    assert 0 < last.pictures < 40  # the rest of it
    assert lines(output) == lines(tmp_path / "whole")
    assert report.entries == {"done": 40} and report.captions == 80
    again = Words()
    run(captions, output, again)
    assert again.pictures == 0


def _share(
    rank: int, port: int, captions: CaptionSet, output: Path, filters: CaptionFilters
) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    distributed.start()
    teacher = Words()
    report = ground_captions(captions, teacher, replace(CONFIG, filters=filters), output)
    distributed.stop()
    assert (report is None) == (rank > 0) and teacher.pictures > 0


@needs_fork
def test_processes_share_the_work(make_input, tmp_path) -> None:
    captions = make_input([*some(16), *((f"{n}.png", "click to enlarge") for n in range(12))])
    filters = replace(CaptionFilters(), min_side=0)
    whole, _ = run(captions, tmp_path / "whole", filters=filters)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    processes = [
        fork.Process(target=_share, args=(rank, port, captions, tmp_path / "shared", filters))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert lines(tmp_path / "shared") == lines(tmp_path / "whole")
    header = json.loads((tmp_path / "shared" / "data" / "header.json").read_text())
    assert header["report"] == asdict(whole)


def test_another_job_is_refused(make_input, tmp_path) -> None:
    captions = make_input(some(3))
    run(captions, tmp_path / "out")
    for other in ({"teacher": Words(name="others")}, {"boxes": BoxConfig(min_score=0.3)}):
        with pytest.raises(ConfigError, match="holds another job"):
            run(captions, tmp_path / "out", **other)
    with pytest.raises(ConfigError, match="holds another job: captions"):
        run(make_input(some(4)), tmp_path / "out")
    with pytest.raises(ConfigError, match="near_duplicates"):
        ground_captions(captions, Words(), CONFIG, tmp_path / "other", leave_out=["test"])


@pytest.mark.parametrize("name", ["data", "survey"])
def test_folders_of_somebody_else_are_not_replaced(make_input, tmp_path, name) -> None:
    captions = make_input(some(2))
    mine = tmp_path / "out" / name / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.touch()
    with pytest.raises(ConfigError, match=f"{name} is not of this job and would be replaced"):
        run(captions, tmp_path / "out")
    assert [one.name for one in (tmp_path / "out").rglob("*")] == [name, "mine.txt"]
    mine.unlink()
    run(captions, tmp_path / "out")
    run(captions, tmp_path / "out")  # its own is


def test_what_is_to_be_left_out_is_surveyed_anew(make_input, tmp_path) -> None:
    captions = make_input(some(2))
    config = replace(CONFIG, filters=replace(CURATED, near_duplicates=0))

    def ground(leave_out: list[str], *, survey_only: bool) -> Summary | None:
        return ground_captions(
            captions,
            Words(),
            config,
            tmp_path / "out",
            leave_out=leave_out,
            load_left_out=lambda: iter([captions.picture("000.png")][: len(leave_out)]),
            survey_only=survey_only,
        )

    assert ground([], survey_only=True) is None  # forgotten
    summary = ground(["test"], survey_only=False)
    assert summary is not None and summary.refused == {"duplicate": 4}  # the first picture, too


def test_limit_takes_the_first_pictures(make_input, tmp_path) -> None:
    captions = make_input(some(9))
    report = ground_captions(captions, Words(), CONFIG, tmp_path / "out", limit=4)
    assert report is not None and report.entries == {"done": 4}
    assert json.loads(lines(tmp_path / "out")[-1])["filename"] == "003.png"


def test_nothing_found_is_a_data_set_too(make_input, tmp_path) -> None:
    report, data = run(make_input([("a.png", "a ghost")]), tmp_path / "out")
    assert len(data) == 0 and report.phrases == 1 and report.boxes == 0
    assert "1, 0 (0.0%) with a box" in report.text()


def test_disk_that_is_full_stops_it_and_keeps_what_is_done(
    make_input, tmp_path, monkeypatch
) -> None:
    captions = make_input(some(5))

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_grounding", full)
        with pytest.raises(StorageError, match="disk is full; make room and run the same command"):
            run(captions, tmp_path / "out")
    later = Words()
    report, _ = run(captions, tmp_path / "out", later)
    assert later.pictures == 0 and report.captions == 10


# The command.


def test_command_from_captions_to_a_training_source(
    make_input, tmp_path, tiny_file, capsys, make_picture
) -> None:
    captions = make_input(
        [("a.png", "a cat on a mat"), ("b.png", "two dogs"), ("a2.png", "a cat near a mat")]
    )
    for name in ("a.png", "b.png", "a2.png"):
        make_picture().save(captions.root / name)
    command = ["ground", "--captions", str(captions.paths[0]), "--weights", str(tiny_file),
               "--preset", "curated", "--device", "cpu",
               "--out", str(tmp_path / "out")]  # fmt: skip
    (captions.root / "b.png").unlink()
    options = ["--set", "boxes.min_score=0.5", "batch_size=2", "boxes.agreement=0.3"]
    assert main([*command, *options]) == 1  # one picture is missing
    captured = capsys.readouterr()
    assert "pictures            2 grounded, 0 refused by the filters, 1 bad" in captured.out
    data = read_annotated(tmp_path / "out" / "data", captions.root).data
    assert isinstance(data, GroundingData) and len(data) == 2
    assert all(record.scores is not None and record.scores.min() > 0.5 for record in data.records)
    assert main(["doctor", str(tmp_path / "out" / "data"), "--images", str(captions.root)]) == 0
    assert main([*command, "--set", "boxes.min_score=0.6"]) == 2
    assert "holds another job" in capsys.readouterr().err


def test_config_file_lies_over_the_preset(make_input, tmp_path, tiny_file, capsys) -> None:
    captions = make_input([("a.png", "a cat"), ("b.png", "a dog on a mat")])
    (tmp_path / "x.yaml").write_text("filters: {min_words: 3}\nboxes: {min_score: 0.6}\n")
    command = ["ground", "--captions", str(captions.paths[0]), "--weights", str(tiny_file),
               "--preset", "curated", "--out", str(tmp_path / "out"), "--device", "cpu",
               "--config", str(tmp_path / "x.yaml")]  # fmt: skip
    assert main([*command, "--survey-only"]) == 0
    assert not (tmp_path / "out" / "data").exists()
    assert main([*command, "--limit", "1", "--set", "filters.min_word=1"]) == 2
    assert "unknown key 'min_word'; did you mean 'min_words'?" in capsys.readouterr().err
    assert main(command) == 0
    assert "refused" in capsys.readouterr().out
    header = json.loads((tmp_path / "out" / "data" / "header.json").read_text())
    assert header["filters"]["min_words"] == 3 and header["filters"]["max_words"] is None
    assert header["boxes"]["min_score"] == 0.6


def test_student_and_control_differ_in_pseudo_labels_alone() -> None:
    folder = Path(__file__).parents[2] / "configs" / "pseudo"
    student, control = (read_run(folder / f"nano_{name}.yaml") for name in ("student", "control"))
    gold = len(control.data.sources)
    assert student.data.sources[:gold] == control.data.sources
    added = student.data.sources[gold:]
    assert added and all(source.trust_scores and source.min_score < 0.5 for source in added)
    same = replace(student, data=replace(student.data, sources=control.data.sources))
    assert same == control


def test_a_picture_that_was_mended_is_grounded_after_all(
    make_input, tmp_path, tiny_file, make_picture
) -> None:
    captions = make_input([("a.png", "a cat on a mat"), ("b.png", "two dogs")])
    make_picture().save(captions.root / "a.png")
    (captions.root / "b.png").write_bytes(b"\x89PNG broken off")
    command = ["ground", "--captions", str(captions.paths[0]), "--weights", str(tiny_file),
               "--preset", "curated", "--device", "cpu", "--set", "boxes.min_score=0.3",
               "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 1
    assert main(command) == 0
    make_picture(60, 70, seed=5).save(captions.root / "b.png")
    assert main(command) == 0
    data = read_annotated(tmp_path / "out" / "data", captions.root).data
    assert [record.file_name for record in data.records] == ["a.png", "b.png"]


def test_a_picture_that_was_replaced_is_grounded_again(
    make_input, tmp_path, tiny_file, make_picture
) -> None:
    captions = make_input([("a.png", "a cat on a mat"), ("b.png", "two dogs")])
    for name in ("a.png", "b.png"):
        make_picture().save(captions.root / name)
    command = ["ground", "--captions", str(captions.paths[0]), "--weights", str(tiny_file),
               "--preset", "curated", "--device", "cpu", "--set", "boxes.min_score=0.3",
               "--out", str(tmp_path / "out")]  # fmt: skip
    assert main(command) == 0
    make_picture(60, 70, seed=5).save(captions.root / "b.png")
    assert main(command) == 0
    data = read_annotated(tmp_path / "out" / "data", captions.root).data
    assert {record.file_name: record.image_hw for record in data.records} == {
        "a.png": (90, 120),
        "b.png": (70, 60),
    }


def test_captions_beside_pictures_that_were_changed_are_grounded_again(
    tmp_path: Path, make_picture: Callable[..., Image.Image]
) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    for name, text in (("a", "a cat"), ("b", "a dog")):
        make_picture().save(root / f"{name}.png")
        (root / f"{name}.txt").write_text(text)
    run(CaptionSet(root), tmp_path / "out")
    (root / "b.txt").write_text("a red hat")
    teacher = Words()
    run(CaptionSet(root), tmp_path / "out", teacher=teacher)
    assert teacher.pictures == 1
    assert [json.loads(line)["grounding"]["caption"] for line in lines(tmp_path / "out")] == [
        "a cat",
        "a red hat",
    ]
