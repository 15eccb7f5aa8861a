"""An exported folder that is a web page too: any server of files shows it, and the model runs in
the browser of whoever looks, by ONNX Runtime Web.

The page is the one of `glip serve` (`glip/page`), with a model in the place of the server
(`glip/exporting/page`). ONNX Runtime Web is not in this package: it has 14 MB, and few need it.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from glip.config import PostprocessOptions
from glip.errors import ExportError
from glip.runtime.manifest import TOKENIZER, WORDS, Manifest
from glip.task_prompt import TaskPrompt, read_prompt
from glip.visualize import page_colours

PAGE = "page"
ORT_VERSION = "1.30.0"
"""Of onnxruntime-web, with which the page is tested."""
ORT_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Of its folder `dist`; the processor's part alone."""
_SHARED = Path(__file__).parents[1] / "page"
_OWN = Path(__file__).parent / "page"


def find_ort(folder: Path) -> dict[str, Path]:
    """The files of ONNX Runtime Web that a page needs, by name.

    Args:
        folder: The npm package onnxruntime-web, unpacked.
    Raises:
        ExportError: It is something else, or lacks a file.
    """
    files = {name: folder / "dist" / name for name in ORT_FILES}
    files["package.json"] = folder / "package.json"  # its version and licence
    for file in files.values():
        if not os.path.isfile(file):
            raise ExportError(
                f"{folder} is not the npm package onnxruntime-web: it has no "
                f"{file.relative_to(folder)}; 'npm pack onnxruntime-web@{ORT_VERSION}', unpack it "
                "and name its folder 'package'"
            )
    return files


def write_page(folder: Path, manifest: Manifest, ort: dict[str, Path]) -> None:
    """Make a page of an exported folder: index.html and a folder `page`.

    Args:
        folder: With graphs for ONNX Runtime, tokenizer and baked words.
        manifest: Of that folder.
        ort: See `find_ort`.
    Raises:
        ExportError: The tokenizer is not BERT's, the only one that the page has.
    """
    task = read_prompt(folder / WORDS) if manifest.baked else None
    if task is None:
        _check_tokenizer(folder / TOKENIZER)
    page = folder / PAGE
    shutil.copytree(_SHARED, page)
    shutil.copytree(_OWN, page, dirs_exist_ok=True)
    shutil.move(page / "index.html", folder / "index.html")
    (page / "ort").mkdir()
    for name, file in ort.items():
        shutil.copyfile(file, page / "ort" / name)
    graphs = [manifest.graph(folder, name) for name in manifest.graphs]
    content: dict[str, Any] = {
        "model": manifest.model.name,
        "threshold": manifest.model.threshold,
        "colours": page_colours(),
        "options": asdict(PostprocessOptions()),  # all that scores at all: the page hides the rest
        "bytes": sum(file.stat().st_size for file in [*graphs, *ort.values()]),
    }
    if task is not None:
        content["baked"] = _baked(task)
        (page / "words.bin").write_bytes((task.states + task.offsets).astype("<f4").tobytes())
    (page / "model.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def _check_tokenizer(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    parts = ("normalizer", "pre_tokenizer", "post_processor", "model")
    kinds = [(content[part] or {}).get("type") for part in parts]
    if kinds != ["BertNormalizer", "BertPreTokenizer", "BertProcessing", "WordPiece"]:
        raise ExportError(
            f"the page knows BERT's tokenizer only, this model has {', '.join(map(str, kinds))}; "
            "bake its words in (--classes or --task), or export without --web"
        )


def _baked(task: TaskPrompt) -> dict[str, Any]:
    """Names, and the rows of the table that belong to each; negatives come last."""
    looked_for = np.concatenate([task.token_map, task.negatives])
    return {
        "names": list(task.names),
        "length": len(task.token_ids),
        "tokens": [np.flatnonzero(row).tolist() for row in looked_for],
    }
