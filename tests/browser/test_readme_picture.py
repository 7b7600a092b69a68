"""The picture of the README shows the dashboard as it is today."""

from __future__ import annotations

import struct

from playwright.sync_api import Browser

from tests.browser.conftest import SCREENSHOTS, Site
from tests.browser.readme_picture import PICTURE, difference, take, with_words, words_of

AS_GOOD_AS_NONE = 0.01  # of the area


def test_the_picture_is_what_the_page_looks_like(browser: Browser, site: Site) -> None:
    shipped, taken = PICTURE.read_bytes(), take(browser, site)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    (SCREENSHOTS / "readme.png").write_bytes(taken)
    assert words_of(shipped) == words_of(taken), "run: make picture"
    with browser.new_context() as context:
        assert difference(context.new_page(), shipped, taken) <= AS_GOOD_AS_NONE, "run: make picture"


def test_another_picture_is_found(browser: Browser) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 832}) as context:
        page = context.new_page()
        blank = page.screenshot()
        page.set_content("<div style='background: teal; width: 300px; height: 60px'></div>")
        assert difference(page, blank, page.screenshot()) > AS_GOOD_AS_NONE
        page.set_viewport_size({"width": 1280, "height": 831})
        assert difference(page, blank, page.screenshot()) == 1


def test_words_are_kept_in_the_file() -> None:
    ending = struct.pack(">I", 0) + b"IEND" + bytes(4)
    png = b"\x89PNG\r\n\x1a\n" + ending
    assert words_of(png) == ""
    assert words_of(with_words(png, "VM läuft\ndone")) == "VM läuft\ndone"
