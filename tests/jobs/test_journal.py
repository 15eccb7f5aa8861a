import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc

import pytest

from glip.errors import ConfigError, GlipError, StorageError
from glip.jobs.journal import Journal, Row, read_journal

JOB = {"threshold": 0.3, "classes": {"cat": ["cat"]}, "size": (3, 4)}


def test_records_come_back_by_key_with_any_letters(tmp_path):
    odd = os.fsdecode(b"not-utf8-\xff.jpg")
    with Journal(tmp_path, JOB) as journal:
        journal.write([("b/ü 猫.jpg", "done", {"boxes": [[1.5, 2, 3, 4]]}), (odd, "done", odd)])
        journal.write([("a.jpg", "rejected", "empty"), ("emoji 🦝.jpg", "done", None)])
        assert list(journal.read()) == [
            ("a.jpg", "rejected", "empty"),
            ("b/ü 猫.jpg", "done", {"boxes": [[1.5, 2, 3, 4]]}),
            ("emoji 🦝.jpg", "done", None),
            (odd, "done", odd),
        ]
        assert [key for key, _, _ in journal.read("rejected")] == ["a.jpg"]
        assert (journal.count(), journal.count("done"), journal.count("other")) == (4, 3, 0)
        assert journal.is_done("a.jpg")
        assert journal.is_done(odd)
        assert not journal.is_done("a.jp")


def test_more_rows_than_are_held_at_a_time(tmp_path):
    keys = [f"{number:04d}" for number in range(600)]
    shuffled = random.Random(0).sample(keys, len(keys))
    with Journal(tmp_path, JOB, rank=1) as other:
        other.write((key, "done", int(key)) for key in shuffled[:300])
    with Journal(tmp_path, JOB) as journal:
        journal.write((key, "done", int(key)) for key in shuffled[300:])
        assert [(key, record) for key, _, record in journal.read("done")] == [
            (key, int(key)) for key in keys
        ]


def test_an_item_written_again_is_replaced(tmp_path):
    with Journal(tmp_path, JOB) as journal:
        journal.write([("a", "rejected", 1)])
        journal.write([("a", "done", 2)])
        assert list(journal.read()) == [("a", "done", 2)]


def test_a_transaction_is_written_whole_or_not_at_all(tmp_path):
    def broken():
        yield "b", "done", 1
        yield "c", "done", float("nan")

    with Journal(tmp_path, JOB) as journal:
        journal.write([("a", "done", 0)])
        with pytest.raises(ValueError, match="not JSON compliant"):
            journal.write(broken())
        assert [key for key, _, _ in journal.read()] == ["a"]


def test_another_number_of_processes_continues_the_same_job(tmp_path):
    for rank in range(3):
        with Journal(tmp_path, JOB, rank=rank) as journal:
            journal.write([(f"{rank}.jpg", "done", rank)])
    with Journal(tmp_path, JOB) as journal:
        assert all(journal.is_done(f"{rank}.jpg") for rank in range(3))
        assert journal.count() == 3
        assert [record for _, _, record in journal.read()] == [0, 1, 2]


def test_forget_drops_a_status_of_all_processes(tmp_path):
    with Journal(tmp_path, JOB, rank=4) as journal:
        journal.write([("a", "rejected", None), ("b", "done", None)])
    with Journal(tmp_path, JOB) as journal:
        journal.write([("c", "rejected", None)])
        assert journal.forget("rejected") == 2
        assert [key for key, _, _ in journal.read()] == ["b"]
        assert not journal.is_done("a")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"threshold": 0.5}, r"threshold was 0.3, is 0.5\. Take another folder"),
        ({"classes": {"cat": ["cat", "kitten"]}}, r'classes.cat was \["cat"\], is \["cat", "kit'),
        (
            {"classes": {"dog": ["dog"]}},
            r'classes.cat was \["cat"\], is absent; classes.dog was ab',
        ),
        ({"weights": "0" * 200}, r'weights was absent, is "0{76}\.\.\.'),
    ],
)
def test_another_job_is_refused_by_every_process(tmp_path, changed, message):
    with Journal(tmp_path, JOB) as journal:
        journal.write([("a", "done", 0)])
    for rank in (0, 1):
        with pytest.raises(ConfigError, match=message):
            Journal(tmp_path, {**JOB, **changed}, rank=rank)
    for rank in (0, 1):  # which left nothing behind that would keep the old job away
        Journal(tmp_path, JOB, rank=rank).close()


def test_job_without_a_record_gives_way_to_the_next(tmp_path):
    Journal(tmp_path, {**JOB, "threshold": 7}).close()  # a slip that an error was the answer to
    with Journal(tmp_path, JOB) as journal:
        journal.write([("a", "done", 0)])
    with pytest.raises(ConfigError, match=r"threshold was 0\.3, is 7"):
        Journal(tmp_path, {**JOB, "threshold": 7})


def test_a_rank_that_is_running_is_refused(tmp_path):
    with Journal(tmp_path, JOB), pytest.raises(StorageError, match="in use by another run"):
        Journal(tmp_path, JOB)
    Journal(tmp_path, JOB).close()


def test_two_processes_read_and_write_at_once(tmp_path):
    with Journal(tmp_path, JOB, rank=0) as first, Journal(tmp_path, JOB, rank=1) as second:
        first.write((f"{number:03d}", "done", 0) for number in range(300))
        reading = first.read()
        next(reading)
        second.write([("300", "done", 1)])  # an open reader keeps nobody from writing
        first.write([("301", "done", 0)])
        assert [key for key, _, _ in reading][-1] in ("299", "300", "301")
        assert second.is_done("301")
        assert first.count() == second.count() == 302


def test_threads_share_one_journal(tmp_path):
    with Journal(tmp_path, JOB) as journal:

        def work(name):
            for number in range(10):
                journal.write([(f"{name}-{number}", "done", number)])
                assert journal.is_done(f"{name}-{number}")

        threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert journal.count() == 30


def test_a_full_disk_keeps_what_was_done(tmp_path):
    with Journal(tmp_path, JOB) as journal:
        journal.write([("a", "done", "first")])
        (pages,) = journal._own.execute("PRAGMA page_count").fetchone()
        journal._own.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StorageError, match=r"disk is full\. All that was done before is kept"):
            journal.write((str(number), "done", "x" * 1000) for number in range(100))
        assert list(journal.read()) == [("a", "done", "first")]
        journal._own.execute("PRAGMA max_page_count = 100000")  # room was made
        journal.write([("b", "done", "second")])
        assert journal.count() == 2


def _no_database(folder):
    (folder / "journal-00000.sqlite").write_bytes(b"no database" * 100)


def _later_layout(folder):
    with sqlite3.connect(folder / "journal-00000.sqlite") as connection:
        connection.execute("PRAGMA user_version = 7")


def _cut_short(folder):
    with Journal(folder, JOB) as journal:
        journal.write((str(number), "done", "x" * 500) for number in range(100))
    path = folder / "journal-00000.sqlite"
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_database, "is damaged .*start anew in another folder"),
        (_later_layout, r"another version of glip \(layout 7, here 2\)"),
        (_cut_short, "is damaged .*malformed"),
    ],
)
def test_damaged_files_are_named(tmp_path, damage, message):
    damage(tmp_path)
    with pytest.raises(StorageError, match=message), Journal(tmp_path, JOB) as journal:
        list(journal.read())


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(GlipError, match="taken cannot be made: it is a file"):
        Journal(tmp_path / "taken", JOB)


def test_memory_does_not_grow_with_the_records(tmp_path):
    with Journal(tmp_path, JOB) as journal:

        def peak_of(count):
            for start in range(0, count, 100):
                journal.write((f"{start + n:06d}", "done", "x" * 200) for n in range(100))
            tracemalloc.start()
            assert sum(1 for _ in journal.read()) == journal.count()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return peak

        assert peak_of(4000) < 1.2 * peak_of(1000)


WRITER = """
import sys
from glip.jobs.journal import Journal, Row, read_journal
with Journal(sys.argv[1], {"job": 1}) as journal:
    print("open", flush=True)
    for start in range(0, 100_000, 10):
        keys = [f"{number:06d}" for number in range(start, start + 10)]
        if not journal.is_done(keys[0]):
            assert not any(map(journal.is_done, keys)), "half a transaction"
            journal.write((key, "done", {"number": int(key), "pad": "x" * 300}) for key in keys)
            print(start, flush=True)
"""


@pytest.mark.whole
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is POSIX")
def test_kill_at_random_moments_loses_nothing_that_was_reported(tmp_path):
    chance = random.Random(1)
    reported = set()
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "open\n"
        time.sleep(chance.uniform(0, 0.15))
        process.kill()
        reported |= {int(line) for line in process.stdout.read().split("\n")[:-1]}
        process.wait()
    with Journal(tmp_path, {"job": 1}) as journal:
        records = list(journal.read())
        assert journal._own.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    starts = {int(key) for key, _, _ in records if int(key) % 10 == 0}
    assert reported <= starts
    assert len(reported) > 1
    assert [int(key) for key, _, _ in records] == [
        number for start in sorted(starts) for number in range(start, start + 10)
    ]
    assert all(record == {"number": int(key), "pad": "x" * 300} for key, _, record in records)


def test_an_item_is_done_anew_when_its_source_has_changed(tmp_path):
    with Journal(tmp_path, JOB, rank=1) as other:
        other.write([Row("b", "done", {"n": 2}, "old")])
    with Journal(tmp_path, JOB) as journal:
        journal.write([Row("a", "done", {"n": 1}, "old"), Row("c", "done", {"n": 3})])
        assert journal.is_done("a") and journal.is_done("a", "old") and journal.is_done("c", "")
        assert journal.is_done("b", "old")
        assert not journal.is_done("b", "new") and not journal.is_done("b")
        journal.write([Row("b", "done", {"n": 4}, "new")])
        assert [(key, record["n"]) for key, _, record in journal.read()] == [
            ("a", 1), ("b", 4), ("c", 3),
        ]  # fmt: skip
        assert journal.forget_changed(lambda mark: {"old": "new", "new": ""}[mark]) == 1
        assert [key for key, _, _ in journal.read()] == ["b", "c"]


def test_what_a_job_left_is_read_without_its_settings(tmp_path):
    with Journal(tmp_path, JOB) as journal, Journal(tmp_path, JOB, rank=1) as other:
        journal.write([("b", "done", 1), ("c", "rejected", "why")])
        other.write([("a", "done", 2)])
        assert list(read_journal(tmp_path, "done")) == [("a", "done", 2), ("b", "done", 1)]
    assert [key for key, _, _ in read_journal(tmp_path)] == ["a", "b", "c"]
    assert list(read_journal(tmp_path / "nowhere")) == []
    (tmp_path / "journal-00001.sqlite").write_bytes(b"no data base" * 100)
    with pytest.raises(StorageError, match="is damaged"):
        list(read_journal(tmp_path))
