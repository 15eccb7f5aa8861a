"""What a process may use is less than what a machine has, where somebody says so."""

import os
from pathlib import Path

import pytest

from glip import processors
from glip.processors import THREADS, share_out, usable


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 64 processors, whose files are still to be written."""
    monkeypatch.setattr(processors, "_bound", lambda: 64)
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def allow(root: Path, quotas: dict[str, str]) -> None:
    """Write what each group of version 2 may use."""
    for group, quota in quotas.items():
        folder = root / "sys/fs/cgroup" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(quota)


@pytest.mark.parametrize(
    ("quota", "threads"),
    [("200000 100000", 2), ("150000 100000", 2), ("5000 100000", 1), ("max 100000", 64)],
)
def test_a_container_has_what_its_quota_allows(root: Path, quota: str, threads: int) -> None:
    (root / "proc/self/cgroup").write_text("0::/\n")
    allow(root, {"": f"{quota}\n"})
    assert usable(root) == threads


def test_the_narrowest_of_the_groups_around_counts(root: Path) -> None:
    (root / "proc/self/cgroup").write_text("0::/pod/a:b/leaf\n")
    allow(
        root,
        {
            "": "max 100000",
            "pod": "300000 100000",
            "pod/a:b": "400000 100000",
            "pod/a:b/leaf": "max 100000",
        },
    )
    assert usable(root) == 3


@pytest.mark.parametrize("place", ["", "docker/3f"])  # inside the container, and on the machine
def test_control_groups_of_version_1(root: Path, place: str) -> None:
    (root / "proc/self/cgroup").write_text("4:cpu,cpuacct:/docker/3f\n1:name=systemd:/docker/3f\n")
    folder = root / "sys/fs/cgroup/cpu,cpuacct" / place
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_period_us").write_text("50000\n")
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert usable(root) == 64
    (folder / "cpu.cfs_quota_us").write_text("200000\n")
    assert usable(root) == 4


def test_files_that_say_nothing_limit_nothing(root: Path) -> None:
    assert usable(root) == 64  # another system
    (root / "proc/self/cgroup").write_text("0::/\n4:cpu:/\n")
    allow(root, {"": "100000 0"})
    assert usable(root) == 64


def test_this_process_may_use_a_processor() -> None:
    assert 1 <= usable() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("bound", "allowed", "processes", "threads"),
    [(64, 2, 1, "2"), (64, 64, 1, None), (64, 64, 8, "8"), (2, 2, 3, "1"), (1, 1, 2, None)],
)
def test_processes_share_what_they_may_use(
    monkeypatch: pytest.MonkeyPatch,
    bound: int,
    allowed: int,
    processes: int,
    threads: str | None,
) -> None:
    monkeypatch.setattr(processors, "_bound", lambda: bound)
    monkeypatch.setattr(processors, "usable", lambda: allowed)
    monkeypatch.setenv(THREADS, "1")  # so that the test takes back what it sets
    monkeypatch.delenv(THREADS)
    share_out(processes)
    assert os.environ.get(THREADS) == threads
    monkeypatch.setenv(THREADS, "7")
    share_out(processes)
    assert os.environ[THREADS] == "7"
