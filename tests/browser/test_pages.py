"""Every page in a real browser: light, dark, on a phone, without scripts, with the keyboard, and with hostile text."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.browser.conftest import SCREENSHOTS, Site, opened
from tests.browser.image_scenes import NEWER, OLDER
from tests.browser.scenes import ELEMENTS, PREEMPTED, RUNNING

PAGES = {
    "builds": "/builds",
    "builds-filtered": "/builds?outcome=failed&text=step",
    "builds-none": "/builds?family=nowhere",
    "build-succeeded": "/builds/nginx-0123456789ab",
    "build-failed": "/builds/docker-0123456789ac",
    "build-running": f"/builds/{RUNNING}",
    "build-preempted": f"/builds/{PREEMPTED}",
    "build-of-elements": f"/builds/{ELEMENTS}",
    "build-rejected": "/builds/typo-0123456789af",
    "build-hostile": "/builds/hostile-0123456789ae",
    "log": f"/builds/{RUNNING}/log?start=0",
    "not-found": "/builds/none",
    "families": "/families",
    "family": "/families/web",
    "images": "/images",
    "image": f"/images/local/{NEWER}",
    "image-revoked": f"/images/local/{OLDER}",
    "inside": f"/images/local/{NEWER}/contents",
    "difference": f"/diff?a={OLDER}&b={NEWER}",
    "trends": "/trends",
    "health": "/health",
    "docs-page": "/docs/provenance",
}
"""The name of each page that is looked at, as its pictures have it, and its address."""

DESKTOP: Any = {"width": 1280, "height": 800}
PHONE: Any = {"width": 390, "height": 844}
GRAVE = ("serious", "critical")


def grave_findings(page: Page, *rules: str) -> list[str]:
    """Return what axe-core finds that keeps people out: of some rules alone, or of all."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    found = Axe().run(page, options=options | ({"runOnly": list(rules)} if rules else {})).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in GRAVE]


def picture(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


@pytest.mark.parametrize("name", PAGES)
def test_a_page(browser: Browser, site: Site, name: str) -> None:
    with opened(browser, site, color_scheme="light", viewport=DESKTOP) as shown:
        page = shown.page
        shown.go(site.address + PAGES[name])
        picture(page, f"{name}-light")
        assert page.locator("main h1").count() == 1
        assert page.locator("script:not([src])").count() == 0
        assert grave_findings(page) == []
        page.emulate_media(color_scheme="dark")
        picture(page, f"{name}-dark")
        assert grave_findings(page, "color-contrast") == []
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(PHONE)
        picture(page, f"{name}-phone")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.title() != "broken"
        assert page.evaluate("window.violations") == []
        assert shown.faults == []


def test_pages_say_the_same_without_scripts(browser: Browser, site: Site) -> None:
    with opened(browser, site) as shown, opened(browser, site, java_script_enabled=False) as plain:
        for address in PAGES.values():
            texts = []
            for each in (shown, plain):
                each.go(site.address + address)
                parts = each.page.locator("main h1, main h2, main th, main .line, main .badge")
                texts.append(parts.all_inner_texts())
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


def test_builds_are_filtered(browser: Browser, site: Site) -> None:
    with opened(browser, site) as shown, opened(browser, site, java_script_enabled=False) as plain:
        shown.page.get_by_label("Outcome").select_option("failed")
        shown.page.wait_for_url(f"{site.address}/builds?outcome=failed")
        plain.page.get_by_label("Search").fill("docker")
        plain.page.get_by_role("button", name="Filter").click()
        for each, wanted in ((shown, 3), (plain, 1)):
            assert each.page.locator("tbody tr").count() == wanted
        shown.page.get_by_role("link", name="Clear").click()
        assert shown.page.locator("tbody tr").count() > 5


def test_a_log_is_searched(browser: Browser, site: Site) -> None:
    with opened(browser, site) as shown:
        page = shown.page
        shown.go(f"{site.address}/builds/docker-0123456789ac")
        page.get_by_role("searchbox").fill("NGINX")
        lines = page.locator("pre[data-log] .line:visible")
        assert lines.all_inner_texts() == ["ok nginx is installed"]
        page.get_by_role("searchbox").fill("")
        assert lines.count() > 5
