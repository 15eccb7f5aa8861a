"""The page that needs no server: its files, and in Chromium the boxes that Python finds."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glip
from glip.detector import Detector
from glip.errors import ExportError
from glip.exporting.export import export
from glip.exporting.web import ORT_FILES, ORT_VERSION, find_ort, write_page
from glip.runtime.manifest import TOKENIZER, WORDS, Manifest
from glip.task_prompt import save_prompt
from glip.text.prompt import Prompt
from glip.text.tokenizer import Tokenizer
from glip.training.words import as_table
from tests.toy import CONFIG

ROOT = Path(__file__).parents[2]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NAMES = ["cat", "ear", "t-shirt", "Café (noir)", "long_whiskers"]
MANY = [f"thing number {number}" for number in range(80)] + ["cat"]  # two passes
SECONDS = 300


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What looks like the npm package."""
    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    for name in ORT_FILES:
        (folder / "dist" / name).write_text(name)
    (folder / "package.json").write_text('{"license": "MIT"}')
    return folder


def graphs(folder: Path, *, baked: bool) -> Manifest:
    """A folder whose graphs are empty files."""
    manifest = Manifest(CONFIG, "onnx", "float32", fingerprint="abc", version="0.2.0", baked=baked)
    folder.mkdir()
    for name in manifest.graphs:
        manifest.graph(folder, name).write_bytes(b"1234")
    (folder / TOKENIZER).write_text(Tokenizer.bert_uncased().to_json())
    return manifest


def test_a_page_has_all_that_it_names_and_nothing_from_elsewhere(
    tmp_path: Path, package: Path
) -> None:
    folder = tmp_path / "out"
    write_page(folder, graphs(folder, baked=False), find_ort(package))
    page = json.loads((folder / "page" / "model.json").read_text())
    ours = ["".join(ORT_FILES), '{"license": "MIT"}']
    assert page["bytes"] == 3 * 4 + sum(map(len, ours)) and "baked" not in page
    index = (folder / "index.html").read_text()
    named = [folder / name for name in re.findall(r'(?:src|href)="(page/[^"]+)"', index)]
    for script in (folder / "page").glob("*.js"):
        text = script.read_text()
        assert not re.search(r"https?://", text)
        named += [script.parent / name for name in re.findall(r'from "\./([^"]+)"', text)]
    assert len(named) > 8
    for file in named:
        assert file.is_file(), file


def test_baked_words_are_a_table_and_its_rows(
    make_small: Callable[[], Detector], tmp_path: Path, package: Path
) -> None:
    task = as_table(make_small(), Prompt.from_classes(["cat", "traffic light"]))
    manifest = graphs(tmp_path / "out", baked=True)
    save_prompt(tmp_path / "out" / WORDS, task)
    write_page(tmp_path / "out", manifest, find_ort(package))
    baked = json.loads((tmp_path / "out" / "page" / "model.json").read_text())["baked"]
    assert baked == {"names": ["cat", "traffic light"], "length": 6, "tokens": [[1], [3, 4]]}
    table = np.fromfile(tmp_path / "out" / "page" / "words.bin", "<f4")
    np.testing.assert_array_equal(table.reshape(6, -1), task.states)


def test_what_makes_no_page_is_said(
    make_small: Callable[[], Detector], tmp_path: Path, package: Path
) -> None:
    with pytest.raises(ExportError, match="format is 'openvino'"):
        export(make_small(), tmp_path / "out", format="openvino", web=package)
    (package / "dist" / ORT_FILES[1]).unlink()
    with pytest.raises(ExportError, match=r"has no dist/ort-wasm.*npm pack onnxruntime-web@"):
        export(make_small(), tmp_path / "out", web=package)
    assert not (tmp_path / "out").exists()
    manifest = graphs(tmp_path / "other", baked=False)
    content = json.loads((tmp_path / "other" / TOKENIZER).read_text())
    content["model"]["type"] = "BPE"
    (tmp_path / "other" / TOKENIZER).write_text(json.dumps(content))
    with pytest.raises(ExportError, match=r"BERT's tokenizer only, this model has .*BPE"):
        write_page(tmp_path / "other", manifest, {})


def test_the_docs_name_the_version_that_is_tested() -> None:
    said = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    assert {*re.findall(r"onnxruntime-web[@-](\d+\.\d+\.\d+)", said)} == {ORT_VERSION}


# In a browser.


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """glip_nano as a page."""
    given = os.environ.get("GLIP_ORT_WEB", ROOT / "node_modules" / "onnxruntime-web")
    if not Path(given).is_dir():
        pytest.skip("unpack the npm package onnxruntime-web and name its folder in GLIP_ORT_WEB")
    pytest.importorskip("onnxscript", reason="writing graphs needs pip install 'glip[export]'")
    out = tmp_path_factory.mktemp("page") / "nano"
    glip.export(out, web=given)
    return out


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def page(site: Path) -> Iterator[Any]:
    """The page in Chromium, its model ready."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine; Debian: apt-get install chromium")
    handler = functools.partial(_Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page()
        page.set_default_timeout(1000 * SECONDS)
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        deadline = time.monotonic() + SECONDS
        while "Choose a photo" not in page.inner_text("#status"):
            assert time.monotonic() < deadline and page.is_hidden("#error"), page.inner_text("body")
            time.sleep(0.2)
        yield page
        browser.close()
    server.shutdown()
    server.server_close()


FIND = """async ([file, text]) => {
  const { find } = await import(new URL("page/backend.js", location.href).href);
  const blob = await (await fetch(`page/${file}`)).blob();
  return find({ name: file, blob }, { text, signal: new AbortController().signal });
}"""


@pytest.mark.browser
@pytest.mark.parametrize("file", ["chelsea.jpg", "astronaut.jpg", "coffee.jpg"])
@pytest.mark.parametrize("names", [NAMES, MANY], ids=["few", "many"])
def test_boxes_in_the_browser_are_those_of_python(
    page: Any, site: Path, file: str, names: list[str]
) -> None:
    answer = page.evaluate(FIND, [file, ", ".join(names)])
    [expected] = glip.load(site).predict(site / "page" / file, names, threshold=0.0)
    assert [answer["height"], answer["width"]] == [*expected.image_hw]
    assert answer["prompt"] == expected.prompt.text and len(expected) > 5
    found = answer["detections"]
    assert len(found) == len(expected)
    np.testing.assert_allclose([one["score"] for one in found], expected.scores, atol=1e-4)
    distances = np.abs(np.array([one["box"] for one in found])[:, None] - expected.boxes).max(-1)
    same = np.array([one["phrase"] for one in found])[:, None] == np.array(expected.phrases)
    assert np.where(same, distances, np.inf).min(1).max() < 0.1  # pixels; equals may change places


@pytest.mark.browser
def test_what_people_do_draws_boxes(page: Any) -> None:
    page.click('[data-file="chelsea.jpg"]')
    page.wait_for_selector("body:not([aria-busy]) .box")
    page.fill("#words", "cat. ear")
    page.press("#words", "Enter")
    page.wait_for_selector("body:not([aria-busy]) #phrases button >> nth=1")
    assert "above 0.50: cat 0." in page.inner_text("#status")
    page.set_input_files(
        "#files", [{"name": "broken.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}]
    )
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error") == (
        "broken.jpg: This is no picture that the browser can read."
    )
