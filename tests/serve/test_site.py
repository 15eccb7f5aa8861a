"""The pages as files: all there, and nothing from elsewhere in them."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from glip.serve.site import FILES, PREFIX

pytestmark = pytest.mark.whole


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_what_a_page_needs_is_served(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert page.headers["content-type"].startswith("text/html")
    needed = re.findall(r'(?:src|href)="(page/[^"]+)"', page.text)
    assert needed
    for name in needed:
        assert client.get(f"/{name}").status_code == 200, name


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".jpg")])
def test_files_name_no_outside_address(name: str) -> None:
    text = FILES[name].read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text)


def test_the_words_of_the_examples_fit_their_photos(client: TestClient) -> None:
    page = client.get("/").text
    for name in re.findall(r'data-file="([^"]+)"', page):
        assert client.get(PREFIX + name).headers["content-type"] == "image/jpeg"


def test_unchanged_files_are_not_sent_twice(client: TestClient) -> None:
    first = client.get("/page/page.js")
    again = client.get("/page/page.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) in [(304, b""), (200, first.content)]
    assert first.headers["cache-control"] == "no-cache"
