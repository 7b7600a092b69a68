"""What people ask for, in a real browser on one machine: an approval is given, a build is cancelled, both recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from shared.images.catalogue import Catalogue
from shared.runtime import opening
from shared.runtime.images import account_name
from tests.browser.conftest import SCREENSHOTS, Site, serving
from tests.world.published import add_build, build_of
from tests.world.published import image_of as published_image


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Site]:
    """A dashboard of a home with one published image, and a channel with an approver."""
    (tmp_path / "channels.json").write_text('{"prod": {"approvers": ["ann@example.com"]}}')
    with opening.local(tmp_path) as backend, serving(backend) as served:
        publish(backend.catalogue, served)
        yield served


def publish(catalogue: Catalogue, site: Site) -> None:
    """Put an image into the catalogue, with the record of a build that has published it."""
    build = build_of("web-1")
    disk = site.backend.home / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    labels = published_image(build).labels
    made = catalogue.add(disk, "web-1", family="hello", labels=labels, content="web-1")
    assert build.image is not None
    add_build(site.backend.store, replace(build, image=replace(build.image, id=made.id)))


def ask(page: Page, button: str, reason: str) -> None:
    page.get_by_label("Why").fill(reason)
    page.get_by_role("button", name=button).click()
    page.wait_for_url("**/requests/*")


def test_an_approval_is_given_in_a_browser(own_site: Site, browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(own_site.access.address)
        page.goto(f"{own_site.address}/ask/promote?target=local/web-1")
        page.get_by_role("link", name="prod").click()
        ask(page, "Promote the image", "a week in staging without faults")
        assert "waits for approval" in page.inner_text("main")

        page.get_by_role("navigation", name="Areas").get_by_role("link", name="Requests").click()
        page.screenshot(path=SCREENSHOTS / "requests.png", full_page=True)
        page.get_by_role("link", name="Approve…").click()
        page.screenshot(path=SCREENSHOTS / "ask-approve.png", full_page=True)
        violations = [each["id"] for each in Axe().run(page).response["violations"]]
        assert violations == []
        ask(page, "Approve", "it ran for a week")
        page.screenshot(path=SCREENSHOTS / "request-done.png", full_page=True)
        assert "is in the channel prod, as web-1-prod" in page.inner_text("main")
        page.go_back()
        page.wait_for_load_state()
        assert "was approved by" in page.inner_text("main"), "there is nothing left to approve"
    [copy] = own_site.backend.catalogue.list(family="hello-prod")
    asked = own_site.backend.store.promotion("local~web-1~prod")
    assert asked is not None
    assert (copy.name, asked.state) == ("web-1-prod", "promoted")
    assert [(each.by, each.reason) for each in asked.approvals] == [(account_name(), "it ran for a week")]
