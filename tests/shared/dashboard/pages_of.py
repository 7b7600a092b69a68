"""A dashboard over a world in memory: its pages as a browser gets them, and their JSON, held to its schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

import jsonschema
from flask.testing import FlaskClient

from shared.build.build import ImageUsage
from shared.dashboard.app import AREAS, make_app
from shared.dashboard.web.served import LackingPart, Served
from shared.images.diff.result import ImageDiff
from shared.images.folder_sizes import FolderSize
from shared.ports import Resource
from shared.runtime.doctor import HostCheck
from tests.world.world import World

BROWSER = {"Accept": "text/html"}


class OneMachine:
    """What is seen of one machine, as a test says."""

    def __init__(self) -> None:
        self.sizes = FolderSize("/", 0, 0)
        self.found: ImageDiff | None = None
        self.users: tuple[str, ...] = ()
        self.left: list[Resource] = []
        self.lacks: list[HostCheck] = []

    def folders(self, name: str) -> FolderSize:
        return self.sizes

    def difference(self, before: str, after: str) -> ImageDiff:
        assert self.found is not None
        return self.found

    def usage(self, name: str) -> ImageUsage:
        return ImageUsage(self.users)

    def orphans(self) -> Sequence[Resource]:
        return self.left

    def lacking(self) -> Sequence[LackingPart]:
        return self.lacks


class Pages:
    """The pages of a dashboard. Each JSON is what its page's schema says."""

    def __init__(self, world: World, machine: OneMachine | None = None, **more: Any) -> None:
        self.client: FlaskClient = make_app(Served(world.backend, "here", machine=machine, **more)).test_client()

    def json(self, address: str, status: int = 200) -> Any:
        answer = self.client.get(f"/api{address}")
        assert answer.status_code == status, answer.get_data(as_text=True)
        document = answer.get_json()
        if status == 200:
            jsonschema.validate(document, _schema_of(address))
        return document

    def html(self, address: str, status: int = 200) -> str:
        """Return a page, in which each picture is whole."""
        answer = self.client.get(address, headers=BROWSER)
        assert answer.status_code == status, answer.get_data(as_text=True)
        page = answer.get_data(as_text=True)
        for drawn in page.split("<svg")[1:]:
            ElementTree.fromstring("<svg" + drawn.partition("</svg>")[0] + "</svg>")
        assert 'style="' not in page
        return page


def _schema_of(address: str) -> Any:
    parts = address.partition("?")[0].split("/")
    for area in AREAS:
        for page in area.pages:
            wanted = page.path.split("/")
            if len(parts) == len(wanted) and all(
                one in (each, "") or one[0] == "<" for one, each in zip(wanted, parts, strict=True)
            ):
                return page.schema
    raise AssertionError(f"no page is at {address}")
