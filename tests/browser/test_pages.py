"""Every page in a real browser: light, dark, on a phone, without scripts, with the keyboard, and with hostile text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.browser.conftest import SCREENSHOTS, Site
from tests.browser.image_scenes import NEWER, OLDER
from tests.browser.scenes import RUNNING

PAGES = {
    "builds": "/builds",
    "build-succeeded": "/builds/nginx-0123456789ab",
    "build-failed": "/builds/docker-0123456789ac",
    "build-running": f"/builds/{RUNNING}",
    "build-rejected": "/builds/typo-0123456789af",
    "build-hostile": "/builds/hostile-0123456789ae",
    "not-found": "/builds/none",
    "families": "/families",
    "family": "/families/web",
    "images": "/images",
    "image": f"/images/local/{NEWER}",
    "image-revoked": f"/images/local/{OLDER}",
    "inside": f"/images/local/{NEWER}/contents",
    "difference": f"/diff?a={OLDER}&b={NEWER}",
    "health": "/health",
    "docs-page": "/docs/provenance",
}
"""The name of each page that is looked at, as its pictures have it, and its address."""

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}
GRAVE = ("serious", "critical")
VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  event => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class Opened:
    """A page, and what went wrong on it."""

    page: Page
    faults: list[str]

    def go(self, address: str) -> None:
        self.page.goto(address, wait_until="load")


@contextmanager
def opened(browser: Browser, site: Site, **options: Any) -> Iterator[Opened]:
    """Open a window as a person does, by the address that was printed."""
    with browser.new_context(**options) as context:
        context.add_init_script(VIOLATIONS)
        page = context.new_page()
        found = Opened(page, [])
        page.on("pageerror", lambda error: found.faults.append(str(error)))
        found.go(site.access.address)
        yield found


def grave_findings(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in GRAVE]


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page(browser: Browser, site: Site, name: str, look: str) -> None:
    with opened(browser, site, **LOOKS[look]) as shown:
        page = shown.page
        shown.go(site.address + PAGES[name])
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}-{look}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.evaluate("window.violations") == []
        assert shown.faults == []
        assert page.title() != "broken"
        assert page.locator("main h1").count() == 1
        assert grave_findings(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_without_scripts_says_the_same(browser: Browser, site: Site, name: str) -> None:
    texts = []
    for scripts in (True, False):
        with opened(browser, site, java_script_enabled=scripts) as shown:
            shown.go(site.address + PAGES[name])
            texts.append(shown.page.locator("main h1").inner_text())
            assert shown.page.locator("script:not([src])").count() == 0
    assert texts[0] == texts[1]


def test_the_token_is_not_in_the_address_and_no_script_reads_the_cookie(browser: Browser, site: Site) -> None:
    with opened(browser, site) as shown:
        assert shown.page.url == f"{site.address}/"
        assert shown.page.evaluate("document.cookie") == ""
        [cookie] = shown.page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")


def test_without_the_token_nothing_is_shown(browser: Browser, site: Site) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        answer = page.goto(f"{site.address}/builds")
        assert answer is not None
        assert answer.status == 401
        assert "nginx" not in page.content()


def test_a_build_is_found_and_opened_with_the_keyboard_alone(browser: Browser, site: Site) -> None:
    with opened(browser, site) as shown:
        page = shown.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.matches('.row-link')"):
                break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        wanted = page.evaluate("document.activeElement.textContent")
        page.keyboard.press("Enter")
        page.wait_for_url("**/builds/*")
        assert page.locator("h1").inner_text() == wanted
        assert outline == "solid"
