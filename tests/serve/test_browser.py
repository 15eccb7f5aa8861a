"""The page in Chromium: what people do, and what they see."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.browser

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, or a skip that says what is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on this machine; Debian: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


class Visit:
    """A page that notes what the browser asks for and complains of."""

    def __init__(self, browser: Any, address: str, size: dict[str, int]) -> None:
        context = browser.new_context(
            viewport=size, permissions=["camera", "clipboard-read", "clipboard-write"]
        )
        self.page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(address)
        self.until("document.getElementById('model').textContent !== ''")

    def until(self, condition: str) -> None:
        """Wait for an expression of the page; Playwright's own way needs an eval in the page."""
        deadline = time.monotonic() + 20
        while not self.page.evaluate(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.05)

    def upload(self, *files: str | Path) -> None:
        self.page.set_input_files("#files", [str(file) for file in files])

    def look_for(self, words: str) -> dict[str, Any]:
        """Type words and press Enter; the answer."""
        self.page.fill("#words", words)
        with self.page.expect_response("**/v1/ground") as told:
            self.page.press("#words", "Enter")
        self.page.wait_for_selector("body:not([aria-busy])")
        answer: dict[str, Any] = told.value.json()
        return answer

    def threshold(self, value: float) -> None:
        self.page.eval_on_selector(
            "#threshold",
            "(one, value) => { one.value = value; one.dispatchEvent(new Event('input')); }",
            value,
        )


@pytest.fixture
def visit(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Visit]:
    made = Visit(browser, address, getattr(request, "param", DESKTOP))
    yield made
    assert made.faults == []
    outside = [url for url in made.asked if not url.startswith((address, "blob:", "data:"))]
    assert outside == []
    made.page.context.close()


@pytest.fixture
def photo_file(make_picture: Callable[..., Image.Image], tmp_path: Path) -> Path:
    path = tmp_path / "street.png"
    make_picture(240, 180).save(path)
    return path


@pytest.mark.parametrize("visit", [DESKTOP, PHONE], indirect=True)
def test_boxes_are_drawn_where_the_json_says(visit: Visit, photo_file: Path) -> None:
    visit.upload(photo_file)
    answer = visit.look_for("a red umbrella and a dog")
    middle = round(answer["detections"][len(answer["detections"]) // 2]["score"], 2)
    visit.threshold(middle)
    shown = [one for one in answer["detections"] if one["score"] > middle]
    assert 0 < len(shown) < len(answer["detections"])
    photo = visit.page.locator("#photo").bounding_box()
    scale = photo["width"] / answer["width"]
    assert photo["x"] + photo["width"] <= visit.page.viewport_size["width"]
    assert visit.page.locator(".box").count() == len(shown)
    for place, one in enumerate(shown):
        box = visit.page.locator(f'.box[data-place="{place}"]').bounding_box()
        x1, y1, x2, y2 = one["box"]
        drawn = (box["x"] - photo["x"], box["y"] - photo["y"], box["width"], box["height"])
        # A box is at least as large as its own border.
        wanted = (x1, y1, max(x2 - x1, 6 / scale), max(y2 - y1, 6 / scale))
        assert drawn == pytest.approx([scale * value for value in wanted], abs=1.5)
    label = visit.page.locator('.box[data-place="0"] span').text_content()
    assert label == f"{shown[0]['phrase']} {shown[0]['score']:.2f}"
    assert (
        visit.page.evaluate("document.documentElement.scrollWidth")
        <= (visit.page.viewport_size["width"])
    )


def test_the_threshold_asks_nothing_again(visit: Visit, photo_file: Path) -> None:
    visit.upload(photo_file)
    answer = visit.look_for("dog. cat.")
    before = len(visit.asked)
    scores = [one["score"] for one in answer["detections"]]
    for value in (0.0, 0.25, 0.5, 0.99):
        visit.threshold(value)
        expected = sum(score > value for score in scores)
        assert visit.page.locator(".box").count() == expected
        assert visit.page.locator("#list li").count() == expected
    assert "Nothing above 0.99" in visit.page.text_content("#status")
    assert len(visit.asked) == before


def test_a_phrase_lights_its_boxes(visit: Visit, photo_file: Path) -> None:
    visit.upload(photo_file)
    answer = visit.look_for("a red umbrella and a dog")
    visit.threshold(0)
    buttons = visit.page.locator("#phrases button")
    assert buttons.all_text_contents() == ["a red umbrella", "a dog"]
    assert visit.page.text_content("#phrases") == "a red umbrella and a dog"
    buttons.nth(1).click()
    lit = visit.page.locator(".box.lit").count()
    assert lit == len(answer["phrases"][1]["detections"]) > 0
    assert buttons.nth(1).get_attribute("aria-pressed") == "true"
    buttons.nth(1).click()
    assert visit.page.locator(".box.lit").count() == 0
    visit.page.locator("#list button").first.click()
    assert visit.page.locator(".box.lit").count() == 1


def test_a_broken_file_is_told_and_leaves_nothing_behind(
    visit: Visit, photo_file: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    visit.upload(photo_file)
    visit.look_for("dog")
    visit.upload(broken)
    visit.page.wait_for_selector("#error:not([hidden])")
    assert "damaged" in visit.page.text_content("#error")
    assert not visit.page.is_visible("#result")
    visit.page.locator("#thumbnails button").first.click()
    assert visit.page.is_visible("#result")
    assert not visit.page.is_visible("#error")


def test_several_photos_keep_their_answers(
    visit: Visit, make_picture: Callable[..., Image.Image], tmp_path: Path
) -> None:
    for number in range(2):
        make_picture(200, 150, seed=number).save(tmp_path / f"{number}.png")
    visit.upload(tmp_path / "0.png", tmp_path / "1.png")
    visit.look_for("dog")
    with visit.page.expect_response("**/v1/ground"):
        visit.page.locator("#thumbnails button").nth(1).click()
    visit.page.wait_for_selector("body:not([aria-busy])")
    before = len(visit.asked)
    visit.page.locator("#thumbnails button").nth(0).click()
    time.sleep(0.2)
    asked = [url for url in visit.asked[before:] if "/v1/" in url]
    assert asked == []


def test_downloads(visit: Visit, photo_file: Path) -> None:
    visit.upload(photo_file)
    answer = visit.look_for("dog")
    visit.threshold(0.3)
    with visit.page.expect_download() as loading:
        visit.page.click("#save-json")
    assert loading.value.suggested_filename == "street.json"
    content = json.loads(Path(loading.value.path()).read_text())
    shown = [one for one in answer["detections"] if one["score"] > 0.3]
    assert content["detections"] == shown
    assert list(content) == ["image", "width", "height", "prompt", "detections"]
    with visit.page.expect_download() as loading:
        visit.page.click("#save-png")
    picture = Image.open(loading.value.path())
    assert picture.size == (240, 180)
    plain = Image.open(photo_file).convert("RGB")
    assert picture.convert("RGB").tobytes() != plain.tobytes()


def test_keys_alone_are_enough(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the words"
    order = []
    for _ in range(8):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert order[:5] == ["words", "find", "task", "choose", "camera"]
    page.focus("#examples button")
    with page.expect_response("**/v1/ground"):
        page.keyboard.press("Enter")
    page.wait_for_selector("body:not([aria-busy])")
    page.focus("#phrases button")
    page.keyboard.press("Space")
    assert page.get_attribute("#phrases button >> nth=0", "aria-pressed") == "true"
    assert page.evaluate("document.activeElement.dataset.row") == "0"


def test_everything_has_a_name_for_screen_readers(visit: Visit, photo_file: Path) -> None:
    visit.upload(photo_file)
    visit.look_for("dog")
    nameless = visit.page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, textarea, img')]
          .filter((one) => one.offsetParent !== null)
          .filter((one) => !(one.getAttribute('aria-label') || one.alt || one.labels?.length
            || one.textContent.trim() || one.querySelector('img[alt]')))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    assert visit.page.get_attribute("#status", "role") == "status"
    assert "street.png, with" in visit.page.get_attribute("#photo", "alt")


def test_a_task_in_the_place_of_words(visit: Visit, photo_file: Path) -> None:
    visit.upload(photo_file)
    with visit.page.expect_response("**/v1/detect") as told:
        visit.page.select_option("#task", "damage")
    visit.page.wait_for_selector("body:not([aria-busy])")
    assert {one["phrase"] for one in told.value.json()["detections"]} <= {"crack", "rust"}
    assert visit.page.locator("#phrases button").all_text_contents() == ["crack", "rust"]


def test_a_photo_of_the_camera(visit: Visit) -> None:
    visit.page.click("#camera")
    visit.until("document.getElementById('video').videoWidth > 0")
    visit.page.click("#take")
    visit.page.wait_for_selector("#thumbnails img")
    answer = visit.look_for("dog")
    assert answer["image"] == "camera-1.jpg"
    assert visit.page.evaluate("document.getElementById('video').srcObject") is None


def test_a_pasted_photo(visit: Visit) -> None:
    visit.page.evaluate(
        """async () => {
          const canvas = Object.assign(document.createElement('canvas'), {width: 90, height: 60});
          canvas.getContext('2d').fillRect(10, 10, 20, 20);
          const blob = await new Promise((done) => canvas.toBlob(done));
          const data = new DataTransfer();
          data.items.add(new File([blob], 'pasted.png', {type: 'image/png'}));
          document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}));
          const drop = new DataTransfer();
          drop.items.add(new File([blob], 'dropped.png', {type: 'image/png'}));
          document.dispatchEvent(new DragEvent('drop', {dataTransfer: drop, cancelable: true}));
        }"""
    )
    alts = [one.get_attribute("alt") for one in visit.page.locator("#thumbnails img").all()]
    assert alts == ["Photo 1: pasted.png", "Photo 2: dropped.png"]


def test_the_page_for_programs(visit: Visit, address: str) -> None:
    visit.page.goto(f"{address}/docs")
    visit.page.wait_for_selector("h2")
    text = visit.page.text_content("#routes")
    for part in ("POST /v1/detect", "max_detections", "GET /metrics", "GroundedPhrase"):
        assert part in text
    assert f"{address}/v1/detect" in visit.page.text_content("pre")
