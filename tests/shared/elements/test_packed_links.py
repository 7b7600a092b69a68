"""An uploaded context leads no reader out of it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from provisioner.system.context import read_context
from shared.elements.packed_links import PLACES_LIMIT, PackedFile, unpack_places
from shared.errors import InputError
from shared.submission import CONTEXT_METADATA
from tests.world.intake import BUCKET, Desk, planned, reason

TEXT = """\
name: web
source: {project: my-images, family: debian-12}
context: ctx
steps:
  - {name: web, action: elements, inputs: {elements: [app], path: [own]}}
"""


def archive_of(links: Mapping[str, str], files: Mapping[str, str] | None = None) -> bytes:
    """Pack an archive as no honest program does: links to anywhere."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, text in (files or {}).items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return packed.getvalue()


def upload(desk: Desk, archive: bytes) -> object:
    uri = f"gs://{BUCKET}/uploads/{read_context(io.BytesIO(archive))}.tar"
    desk.objects.put(uri, archive, None)
    return desk.upload(TEXT, "specs/web/build.yaml", **{CONTEXT_METADATA.replace("-", "_"): uri})


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("own/app/element-deps", "{}/secret"),
        ("own/app/pkg-map", "{}/secret.json"),
        ("own/app/svc-map", "../../../secret.json"),
        ("own/app/install.d", "{}"),
        ("own/app", "{}/app"),
        ("own", "{}"),
    ],
)
def test_nothing_outside_is_read_or_told(tmp_path: Path, name: str, target: str) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    (tmp_path / "secret.json").write_text('{"default": {"key": "hunter2"}}')
    (tmp_path / "app").mkdir()
    (tmp_path / "app/element-deps").write_text("hunter2\n")
    files = {"own/app/README": ""} if name.startswith("own/app/") else {}
    desk = Desk()
    told = reason(upload(desk, archive_of({name: target.format(tmp_path)}, files)))  # type: ignore[arg-type]
    assert "hunter2" not in told
    assert told == f"step 'web': {name}: is a link that leads out of the context; put what it leads to in its place"


def test_a_link_above_the_path_leads_out_too(tmp_path: Path) -> None:
    (tmp_path / "out/app").mkdir(parents=True)
    (tmp_path / "a.tar").write_bytes(archive_of({"deep": str(tmp_path / "out")}))
    with pytest.raises(InputError, match=r"deep/app: is a link that leads out"):
        unpack_places(PackedFile(tmp_path / "a.tar"), tmp_path / "in", [".", "deep/app"])


def test_links_in_the_context_are_followed() -> None:
    links = {"own/app": "../there/app", "there/app/pkg-map": "../../maps/of[app]"}
    files = {"there/app/package-installs.yaml": "nginx:\n", "maps/of[app]": '{"default": {"nginx": "web"}}'}
    documents = planned(upload(Desk(), archive_of(links, files))).steps[0].inputs["documents"]  # type: ignore[arg-type]
    assert '"nginx": "web"' in documents
    assert "package-installs.yaml" in documents


def test_links_that_lead_to_each_other_end(tmp_path: Path) -> None:
    links = {"own/a": "b", "own/b": "a", "own/c": "c", "own/d": "../gone"}
    (tmp_path / "a.tar").write_bytes(archive_of(links))
    unpack_places(PackedFile(tmp_path / "a.tar"), tmp_path / "in", ["own"])
    assert sorted(path.name for path in (tmp_path / "in/own").iterdir()) == ["a", "b", "c", "d"]


def test_links_that_lead_to_too_many_places_are_refused(tmp_path: Path) -> None:
    links = {f"own/e{number}": f"../there/e{number}" for number in range(PLACES_LIMIT)}
    (tmp_path / "a.tar").write_bytes(archive_of(links, {f"there/e{number}": "" for number in range(PLACES_LIMIT)}))
    with pytest.raises(InputError, match=r"more than 200 folders and places .*; put them into fewer, or write \."):
        unpack_places(PackedFile(tmp_path / "a.tar"), tmp_path / "in", ["own"])
    unpack_places(PackedFile(tmp_path / "a.tar"), tmp_path / "all", ["."])


@pytest.mark.parametrize(
    ("links", "files", "why"),
    [
        ({}, {"own/" + "x" * 300: ""}, "file name too long"),
        ({}, {"own/a": "", "own/a/b": ""}, "'own/a', which cannot be unpacked: file exists"),
        ({}, {"own/a/b": "", "own/a": ""}, "'own/a', which cannot be unpacked: is a directory"),
        ({"own/a/b": "c"}, {"own/a": ""}, "'own/a', which cannot be unpacked: file exists"),
        ({"own/a": "x" * 5000}, {}, "'own/a', which cannot be unpacked: file name too long"),
        ({"own/a": "y" * 300}, {}, "file name too long"),
    ],
    ids=["long", "below-a-file", "over-a-folder", "link-below-a-file", "long-target", "long-name-in-target"],
)
def test_names_that_cannot_be_are_told(links: Mapping[str, str], files: Mapping[str, str], why: str) -> None:
    told = reason(upload(Desk(), archive_of(links, files)))  # type: ignore[arg-type]
    assert why in told
    assert told.endswith("; name it otherwise")
