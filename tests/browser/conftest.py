"""A dashboard over the home of a real machine, and one Chromium for all tests of a worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

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


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The dashboard with all that scenes.py tells. Tests change nothing of it."""
    home = tmp_path_factory.mktemp("dashboard")
    with opening.local(home) as backend:
        fill(backend.store, time.time())
        fill_images(backend, time.time(), tmp_path_factory.mktemp("disks"))
        with BuildFolder(home, RUNNING).running(), serving(backend) as served:
            yield served


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
