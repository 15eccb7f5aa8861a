"""Going on in a folder of results, or refusing to."""

import subprocess
import sys
from pathlib import Path

import pytest

from glip.errors import ConfigError, StorageError
from glip.jobs.folder import LOCK, check_same, held, is_begun

HOLD = """\
import sys
from glip.jobs.folder import held
with held(sys.argv[1]):
    print(flush=True)
    input()
"""


def test_the_same_settings_go_on_whatever_json_makes_of_them() -> None:
    check_same(Path("out"), {"a": [1, 2], "b": {"c": None}}, {"b": {"c": None}, "a": (1, 2)})


def test_other_settings_are_refused_and_named() -> None:
    with pytest.raises(ConfigError) as caught:
        check_same(Path("out"), {"a": {"b": 1}, "c": 3}, {"a": {"b": 2}})
    assert str(caught.value) == (
        "out holds another job: a.b was 1, is 2; c was 3, is absent. Take another folder, or the "
        "old settings to go on there"
    )


def test_a_job_begins_in_a_new_folder_and_goes_on_in_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert not is_begun(folder, "settings.json")
    with held(folder):
        assert not is_begun(folder, "settings.json")
    (folder / "settings.json").touch()
    assert is_begun(folder, "settings.json")


def test_what_else_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    for place in (tmp_path, tmp_path / "photo.jpg"):
        with pytest.raises(ConfigError, match="is a file or holds other files; choose an empty"):
            is_begun(place, "settings.json")


def test_a_folder_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    refused = pytest.raises(StorageError, match="b is in use by another run")
    with held(tmp_path / "a" / "b"), held(tmp_path / "a" / "c"), refused, held(tmp_path / "a/b"):
        pass
    with held(tmp_path / "a" / "b"):
        pass
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [LOCK]


@pytest.mark.whole
def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StorageError, match="in use by another run"), held(tmp_path):
            pass
        other.kill()
    with held(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"), held(tmp_path / "file"):
        pass


def test_errors_of_the_work_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(KeyError), held(tmp_path):
        raise KeyError("work")
