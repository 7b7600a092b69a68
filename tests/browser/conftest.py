"""A dashboard over the home of a real machine, and one Chromium for all tests of a worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from goldsmith.commands.machine.serve import served_here
from shared.dashboard.app import make_app
from shared.dashboard.web.access import Access
from shared.dashboard.web.local_server import local_server, loopback_socket
from shared.host.build_folder import BuildFolder
from shared.runtime import opening
from shared.runtime.one_machine import LocalBackend
from tests.browser.image_scenes import fill_images
from tests.browser.scenes import RUNNING, fill

SCREENSHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
CHROMIUM = "/usr/bin/chromium"
PATIENCE = 120_000  # milliseconds, for anything here to happen on a busy machine

expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True)
class Site:
    """A dashboard that is served, and the backend that it shows."""

    backend: LocalBackend
    access: Access

    @property
    def address(self) -> str:
        """Its address, without the token."""
        return f"http://127.0.0.1:{self.access.port}"


@contextmanager
def serving(backend: LocalBackend) -> Iterator[Site]:
    with loopback_socket(0) as bound:
        access = Access(bound.getsockname()[1])
        server = local_server(bound, make_app(served_here(backend), access))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Site(backend, access)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  event => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class Opened:
    """A window, and what went wrong in it."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def go(self, address: str) -> None:
        self.page.goto(address, wait_until="load")


@contextmanager
def opened(browser: Browser, site: Site, **options: Any) -> Iterator[Opened]:
    """Open a window as a person does, by the address that was printed."""
    with browser.new_context(**options) as context:
        context.set_default_timeout(PATIENCE)
        context.add_init_script(VIOLATIONS)
        found = Opened(context.new_page())
        found.page.on("pageerror", lambda error: found.faults.append(str(error)))
        found.go(site.access.address)
        yield found


@contextmanager
def telling_site(folder: Path) -> Iterator[Site]:
    """Serve a dashboard with all that scenes.py tells, from a folder of its own."""
    home, disks = folder / "home", folder / "disks"
    disks.mkdir()
    with opening.local(home) as backend:
        fill(home, backend.store, time.time())
        fill_images(backend, time.time(), disks)
        with BuildFolder(home, RUNNING).running(), serving(backend) as served:
            yield served


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The dashboard with all that scenes.py tells. Tests change nothing of it."""
    with telling_site(tmp_path_factory.mktemp("dashboard")) as served:
        yield served


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started
