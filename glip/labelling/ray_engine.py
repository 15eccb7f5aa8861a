"""Photos and an ontology -> labels in a journal, on the machines of a Ray cluster.

Ray Data (https://docs.ray.io) shares out the names of the pictures; actors with a model each read
the pictures and answer; this process alone writes the journal. So the records are those of
`label_photos`, and a run may begin with one engine and go on with the other. All machines see the
pictures and the weights under the same paths, and have this package.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glip import errors
from glip.choices import DType
from glip.config import PostprocessOptions
from glip.detector import load
from glip.errors import ConfigError, DeviceError, GlipError
from glip.images import unusable_name
from glip.jobs.journal import Journal, Row
from glip.jobs.pipeline import Tally, answers, file_mark
from glip.labelling.label import photo_answers
from glip.labelling.ontology import Ontology
from glip.model_files import find_model, threshold_of
from glip.progress import Progress, Step
from glip.settings import within

WINDOW = 16384
"""Pictures that Ray is given at a time, so that memory does not grow with their number."""
TASK = 16
"""Pictures that an actor answers at a time, in batches of the model: what a kill loses of each."""
FAILED = "failed"
"""Status of the one row of an actor that cannot go on; its record says with which error."""


class Labeller:
    """An actor: a model that answers names of pictures with their records.

    Args:
        weights: File of them.
        root: The folder that the names are below.
        ontology: What to look for.
        options: Of the detections.
        dtype: See `glip.load`.
        batch_size, workers: See `label_photos`.
        shortlist: Most phrases that are looked for in a whole picture; None for all.
        device: "cpu", or "cuda" for the GPU that Ray gives this actor.
    """

    def __init__(
        self,
        weights: str,
        root: str,
        ontology: Ontology,
        options: PostprocessOptions,
        dtype: DType,
        batch_size: int,
        workers: int | None,
        shortlist: int | None,
        device: str,
    ) -> None:
        self._detector = load(weights, device=device, dtype=dtype)
        if shortlist is not None:
            self._detector = self._detector.with_shortlist(shortlist)
        self._root = Path(root)
        self._answer = photo_answers(self._detector, ontology, options)
        self._batch_size = batch_size
        self._pace = self._detector.pace.with_workers(workers)

    def __call__(self, pictures: dict[str, Any]) -> dict[str, list[str]]:
        """Columns "key", "status" and "record" (JSON) for the column "key"."""
        found = answers(
            ((key, self._root / key) for key in map(str, pictures["key"])),
            self._answer,
            self._detector.prepare,
            batch_size=self._batch_size,
            pace=self._pace,
        )
        try:
            rows = list(found)
        except GlipError as error:  # of exceptions, Ray hands on the text only
            rows = [("", FAILED, [type(error).__name__, str(error)])]
        return {
            "key": [key for key, _, _ in rows],
            "status": [status for _, status, _ in rows],
            "record": [json.dumps(record) for _, _, record in rows],
        }


def label_photos_with_ray(
    weights: str | os.PathLike[str],
    root: str | os.PathLike[str],
    names: Iterable[str],
    ontology: Ontology,
    journal: Journal,
    *,
    options: PostprocessOptions | None = None,
    shortlist: int | None = None,
    device: str | None = None,
    dtype: DType = "float32",
    batch_size: int = 1,
    workers: int | None = None,
    actors: int | None = None,
    total: int | None = None,
    before: int = 0,
    progress: Progress | None = None,
) -> None:
    """Label the pictures of a folder as `label_photos` does, with Ray.

    Joins the cluster of `RAY_ADDRESS`; without one, Ray runs on this machine for this call.

    Args:
        weights: File of them, on a path that all machines have.
        root: The folder that the names of pictures start from, likewise.
        names: Of the pictures; run through once.
        ontology: What to look for.
        journal: Of this process, the only one that writes.
        options: Of the detections, before the ontology decides.
        shortlist: Most phrases that are looked for in a whole picture; None for all.
        device: "cpu" leaves the GPUs of the cluster alone.
        dtype: See `glip.load`.
        batch_size, workers: See `label_photos`, of each actor.
        actors: Models at work; by default one for each GPU of the cluster, or for each CPU core if
            it has no GPU.
        total, before, progress: See `work_through`.
    Raises:
        ConfigError: Ray is not installed, or `actors` is not a whole number from 1.
        DeviceError: Ray cannot be started or reached, or its machines fail.
        GlipError: What `label_photos` says.
    """
    within("actors", actors, least=1, whole=True)
    threshold_of(find_model(weights))  # a file that is none is told before actors start
    base = Path(root)
    left = (name for name in names if not journal.is_done(name, file_mark(base / name)))
    tally = Tally()
    with _cluster() as ray:
        resources = ray.cluster_resources()
        gpus = 0 if device == "cpu" else int(resources.get("GPU", 0))
        count = actors or gpus or int(resources["CPU"])
        setting = (
            os.path.abspath(weights),
            os.path.abspath(root),
            ontology,
            options or PostprocessOptions(),
            dtype,
            batch_size,
            workers,
            shortlist,
            "cuda" if gpus else "cpu",
        )
        while window := list(itertools.islice(left, WINDOW)):
            marks = {name: file_mark(base / name) for name in window}
            for rows in _answered(ray, window, setting, actors=count, gpu=gpus > 0):
                journal.write(Row(*row, marks[row[0]]) for row in rows)
                tally.update(status for _, status, _ in rows)
                if progress is not None:
                    done = before + sum(tally.values())
                    progress(Step("pictures", done, total, tally=dict(tally)))


def _answered(
    ray: Any, names: list[str], setting: tuple[Any, ...], *, actors: int, gpu: bool
) -> Iterable[list[tuple[str, str, Any]]]:
    """(key, status, record) of pictures, some at a time, as actors finish them."""
    faults = {name: fault for name in names if (fault := unusable_name(name)) is not None}
    if faults:  # Ray's tables hold Unicode only
        yield [(name, "rejected", fault) for name, fault in faults.items()]
    items = [{"key": name} for name in names if name not in faults]
    if not items:
        return
    tasks = -(-len(items) // TASK)
    data = ray.data.from_items(items, override_num_blocks=tasks).map_batches(
        Labeller,
        batch_size=TASK,
        compute=ray.data.ActorPoolStrategy(size=min(actors, tasks)),
        fn_constructor_args=setting,
        num_gpus=1 if gpu else 0,
        num_cpus=1,  # Ray gives the model as many threads
    )
    for table in data.iter_batches(batch_size=None, batch_format="numpy"):
        columns = (table["key"], table["status"], map(json.loads, table["record"]))
        rows = [
            (str(key), str(status), record) for key, status, record in zip(*columns, strict=True)
        ]
        for _, status, record in rows:
            if status == FAILED:
                raise getattr(errors, record[0])(record[1])
        yield rows


@contextmanager
def _cluster() -> Iterator[Any]:
    """The module `ray`, with a cluster; what goes wrong in it is one of our errors."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            "--engine ray needs Ray Data; install it with: pip install 'glip[ray]'"
        ) from error
    own = not ray.is_initialized()
    try:
        if own:
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise DeviceError(f"Ray cannot be started or reached: {error}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False  # there is one of all pictures
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of each window of names
    try:
        yield ray
    except ray.exceptions.RayError as error:
        raise DeviceError(
            f"Ray failed; what is done is kept, run the same command again: {error}"
        ) from error
    finally:
        if own:
            ray.shutdown()
