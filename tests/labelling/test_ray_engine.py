"""Labelling with a local Ray: the same records as without, over kills and bad input."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glip.config import PostprocessOptions
from glip.detector import Detector
from glip.errors import CheckpointError, ConfigError, PromptError
from glip.images import list_pictures
from glip.jobs.journal import Journal, Row
from glip.jobs.pipeline import file_mark
from glip.labelling import ray_engine
from glip.labelling.label import label_photos
from glip.labelling.ontology import Ontology
from glip.labelling.ray_engine import label_photos_with_ray

ray = pytest.importorskip("ray", reason="needs Ray Data: pip install 'glip[ray]'")
pytestmark = pytest.mark.ray

JOB = {"job": 1}
ONTOLOGY = Ontology.of_names(["cat", "red car"], threshold=0.5)
OPTIONS = PostprocessOptions(max_detections=12)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One Ray for all tests here: a start takes seconds."""
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture
def root(tmp_path: Path, make_picture: Callable[..., Image.Image]) -> Path:
    """Forty good pictures of two shapes, in folders, and two that are none."""
    root = tmp_path / "photos"
    (root / "straße").mkdir(parents=True)
    for number in range(40):
        size = [(120, 90), (90, 120)][number % 2]
        folder = "straße/" if number % 3 else ""
        make_picture(*size, seed=number).save(root / f"{folder}{number:02d} é.png")
    (root / "empty.jpg").touch()
    (root / "line\nbreak.png").touch()
    return root


def label(weights: Path, root: Path, journal: Journal, **options: Any) -> None:
    names = list_pictures(root)
    label_photos_with_ray(weights, root, names, ONTOLOGY, journal, options=OPTIONS, **options)


@pytest.fixture
def expected(tiny_detector: Detector, root: Path, tmp_path: Path) -> list[tuple[str, str, Any]]:
    with Journal(tmp_path / "local", JOB) as journal:
        label_photos(tiny_detector, root, list_pictures(root), ONTOLOGY, journal, options=OPTIONS)
        return list(journal.read())


def assert_same(records: list[tuple[str, str, Any]], expected: list[tuple[str, str, Any]]) -> None:
    """The same labels; in batches of another size a hundredth of a pixel may be rounded away."""
    assert [record[:2] for record in records] == [record[:2] for record in expected]
    for (name, status, record), (_, _, wanted) in zip(records, expected, strict=True):
        if status != "done":
            assert record == wanted, name
            continue
        assert record["hw"] == wanted["hw"]
        assert [label[0] for label in record["labels"]] == [label[0] for label in wanted["labels"]]
        for (_, box, score, _), (_, corners, other, _) in zip(
            record["labels"], wanted["labels"], strict=True
        ):
            assert box == pytest.approx(corners, abs=0.02), name
            assert score == pytest.approx(other, abs=2e-4), name


def test_records_are_those_of_the_local_engine(
    expected: list[tuple[str, str, Any]],
    tiny_file: Path,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_engine, "WINDOW", 25)
    tallies: list[dict[str, int]] = []
    with Journal(tmp_path / "ray", JOB) as journal:
        label(
            tiny_file,
            root,
            journal,
            batch_size=4,
            actors=1,
            progress=lambda step: tallies.append(dict(step.tally)),
        )
        assert_same(list(journal.read()), expected)
    assert tallies[-1] == {"done": 40, "rejected": 2}
    assert len(tallies) >= 3  # told on the way, not at the end only


def test_a_run_goes_on_with_the_other_engine(
    expected: list[tuple[str, str, Any]], tiny_file: Path, root: Path, tmp_path: Path
) -> None:
    with Journal(tmp_path / "both", JOB) as journal:
        journal.write(Row(*row, file_mark(root / row[0])) for row in expected[:30])
        seen: list[int] = []
        label(
            tiny_file,
            root,
            journal,
            actors=2,
            progress=lambda step: seen.append(step.done),
        )
        assert seen[-1] == len(expected) - 30
        assert list(journal.read()) == expected


def test_broken_weights_are_refused_before_any_actor(root: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    with (
        Journal(tmp_path / "broken", JOB) as journal,
        pytest.raises(CheckpointError, match=r"broken\.safetensors"),
    ):
        label(broken, root, journal)


def test_what_an_actor_says_is_our_error(tiny_file: Path, root: Path, tmp_path: Path) -> None:
    endless = Ontology.of_names(["cat " * 300])
    with (
        Journal(tmp_path / "endless", JOB) as journal,
        pytest.raises(PromptError, match="tokens"),
    ):
        label_photos_with_ray(tiny_file, root, list_pictures(root), endless, journal, actors=1)
    assert ray.is_initialized()  # a cluster that was there before stays


def test_actors_are_counted_from_one(tiny_file: Path, root: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "none", JOB) as journal, pytest.raises(ConfigError, match="got 0"):
        label(tiny_file, root, journal, actors=0)


def test_threads_are_counted_from_one(tiny_file: Path, root: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "none", JOB) as journal, pytest.raises(ConfigError, match="workers"):
        label(tiny_file, root, journal, actors=1, workers=0)


def test_without_ray_the_error_says_what_to_install(
    tiny_file: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        Journal(tmp_path / "none", JOB) as journal,
        pytest.raises(ConfigError, match=r"glip\[ray\]"),
    ):
        label(tiny_file, root, journal)


@pytest.mark.slow
def test_a_killed_run_goes_on(
    expected: list[tuple[str, str, Any]], tiny_file: Path, root: Path, tmp_path: Path
) -> None:
    """The command itself, with a Ray of its own, killed as soon as it has stored something."""
    command = [sys.executable, "-m", "glip.cli.main", "label", "--engine", "ray", "--actors", "1"]
    command += ["--images", str(root), "--classes", "cat, red car", "--threshold", "0.5"]
    command += ["--max-detections", "12", "--weights", str(tiny_file), "--out", str(tmp_path / "o")]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    stored = tmp_path / "o" / "journal" / "journal-00000.sqlite"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if stored.exists() and stored.stat().st_size > 20_000:
            break
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert subprocess.run(command, env=environment, check=False).returncode == 1  # two rejected
    with contextlib.closing(sqlite3.connect(stored)) as opened:
        rows = opened.execute("SELECT key, status, record FROM records ORDER BY key").fetchall()
    assert [(key.decode(), status, json.loads(record)) for key, status, record in rows] == expected
