"""A build that runs is followed to its end: in its page, and in the list, without a reload."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from shared.host.build_folder import BuildFolder
from shared.runtime import opening
from tests.browser.conftest import Site, opened, serving
from tests.browser.scenes import RUNNING, running, running_console, tell, write_events


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[tuple[Site, Path]]:
    """A dashboard of one build, whose second step runs."""
    with opening.local(tmp_path / "home") as backend:
        tell(backend.store, running(time.time()))
        with BuildFolder(backend.home, RUNNING).running(), serving(backend) as served:
            running_console(backend.home).parent.mkdir(parents=True)
            yield served, running_console(backend.home)


HIDDEN = """hidden => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
COUNTED = """
window.streams = [];
window.EventSource = class extends EventSource { constructor(...all) { super(...all); window.streams.push(this); } };
"""
STATES = "window.streams.map((each) => each.readyState === EventSource.CLOSED)"


def test_a_page_that_nobody_sees_gives_its_stream_back(browser: Browser, moving: tuple[Site, Path]) -> None:
    site, console = moving
    with opened(browser, site) as view:
        page = view.page
        page.add_init_script(COUNTED)
        page.clock.install()
        view.go(f"{site.address}/builds/{RUNNING}")
        log = page.locator("pre[data-log]")
        console.write_text("the first line\r\n")
        expect(log).to_contain_text("the first line")
        page.evaluate(HIDDEN, True)
        page.clock.run_for(19_000)
        page.evaluate(HIDDEN, False)
        page.clock.run_for(60_000)
        assert page.evaluate(STATES) == [False], "it was seen again in time"
        page.evaluate(HIDDEN, True)
        page.clock.run_for(21_000)
        assert page.evaluate(STATES) == [True]
        with console.open("a") as more:
            more.write("what came meanwhile\r\n")
        page.evaluate(HIDDEN, False)
        expect(log).to_contain_text("what came meanwhile")
        assert log.locator(".line").count() == 2
        assert page.evaluate(STATES) == [True, False]
        assert (view.faults, page.evaluate("window.violations")) == ([], [])


def test_a_build_is_followed_to_its_end(browser: Browser, moving: tuple[Site, Path]) -> None:
    site, console = moving
    tale = running(time.time())
    done = len(tale.events)
    tale.step_ends(1, 5).step(2, 3).completes().publishes()
    with opened(browser, site) as list_view, opened(browser, site) as view:
        page = view.page
        view.go(f"{site.address}/builds/{RUNNING}")
        page.evaluate("window.same = true")
        head, log = page.locator("[data-part=head]"), page.locator("pre[data-log]")
        expect(head.get_by_text("provisioning")).to_be_visible()
        console.write_text("the first line\r\n")
        expect(log).to_contain_text("the first line")
        with console.open("a") as more:
            more.write("\x1b[31ma red one\x1b[0m <b>no markup</b>\r\n")
        expect(log.locator(".ansi-red")).to_have_text("a red one")
        expect(log).to_contain_text("<b>no markup</b>")
        page.locator("details[data-key=events] summary").click()
        list(write_events(site.backend.store, tale.events[done:]))
        expect(head.locator(".badge", has_text="succeeded")).to_be_visible()
        expect(page.locator("[data-status]")).to_have_text("The build is succeeded.")
        expect(page.locator("details[data-key=events]")).to_have_attribute("open", "")
        expect(page.locator("[data-ended]")).to_be_attached()
        assert page.evaluate("window.same")
        assert log.locator(".line").count() == 2
        assert page.evaluate("window.violations") == []
        expect(list_view.page.locator(".badge", has_text="succeeded")).to_be_visible()
