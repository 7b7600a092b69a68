"""Statements about images of this machine, from builds to the commands that check them; what images were made from."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shared.build import resources
from shared.build.build import Build, Outcome, State
from shared.build.orders import Order
from shared.build.plan import SourceImage
from shared.cache.disk_digest import disk_digest
from shared.errors import InputError
from shared.host.build_folder import BuildFolder
from shared.provenance.check import Policy
from shared.runtime.builds import LocalBuilds
from shared.runtime.one_machine import LocalBackend, open_one_machine
from shared.runtime.provenance import LocalProvenance
from tests.goldsmith.command_line import Commands
from tests.shared.disks.small_disks import left_clean
from tests.shared.provenance.statements import openssl_verifies
from tests.world import values

BASE, APP = "base-0123456789ab", "app-0123456789ab"


def made(backend: LocalBackend, build_id: str, source: SourceImage | None = None) -> Build:
    """Let a build whose VM was done come to its end; its image is called as the build."""
    plan = values.plan(requested=time.time(), build_id=build_id, name=build_id.partition("-")[0])
    image = replace(plan.image, name=build_id, family=None)
    plan = replace(plan, image=image, source=source or plan.source)
    ledger = resources.of_order(plan, "create_resources", 1)
    build = values.build(
        id=build_id,
        plan=plan,
        state=State.EXPORTING,
        zone="local",
        ledger=ledger,
        created=time.time(),
        deadline=time.time() + 3600,
        outbox=(Order(build_id, 7, "export_image", 1),),
        orders=7,
    )
    backend.store.create(build, values.requested(plan=plan), resources.image_document(build))
    left_clean(BuildFolder(backend.home, build_id).disk(resources.boot_disk_name(build_id, 1, "build")))
    done = LocalBuilds(backend).resume(build_id)
    assert done is not None
    assert done.outcome is Outcome.SUCCEEDED, done.reason
    return done


@pytest.fixture
def chain(home: Path) -> None:
    """An image that was made from another one."""
    with open_one_machine(home) as backend:
        image = made(backend, BASE).image
        assert image is not None
        made(backend, APP, SourceImage(image.project, image.name, image.id))


@pytest.mark.usefixtures("chain")
def test_a_built_image_is_what_its_statement_says(home: Path, tmp_path: Path) -> None:
    run = Commands(home, tmp_path)
    told = run("images", "provenance", APP, "--source", f"local/{BASE}", "--builder", "urn:goldsmith:one-machine")
    assert told.status == 0, told.err
    [subject] = told.document()["subject"]
    assert subject["digest"] == {"goldsmithDisk": disk_digest(home / "images" / APP / "disk.raw")}
    out = tmp_path / "app.intoto.jsonl"
    assert run("images", "provenance", APP, "--output", out).status == 0
    public = run("images", "signing-key").out.encode()
    assert openssl_verifies(out.read_bytes(), public, tmp_path)
    assert run("images", "provenance", APP, "--output", out).status == 2
    (tmp_path / "public.pem").write_bytes(public)
    assert run("images", "provenance", APP, "--key", tmp_path / "public.pem").status == 0
    assert "PRIVATE" not in public.decode()
    used = run("images", "check", APP, "--provenance", "--source", BASE)
    assert (used.status, "may be used" in used.out) == (0, True), used
    refused = run("images", "check", f"local/{APP}", "--builder", "urn:other")
    assert (refused.status, "it was made by 'urn:goldsmith:one-machine', and not by urn:other" in refused.out) == (
        1,
        True,
    )


@pytest.mark.usefixtures("chain")
def test_another_disk_another_source_and_another_key_are_told(home: Path, tmp_path: Path) -> None:
    run = Commands(home, tmp_path)
    disk = home / "images" / APP / "disk.raw"
    disk.chmod(0o600)
    with disk.open("r+b") as file:
        file.seek(3 << 20)
        file.write(b"x")
    told = run("images", "provenance", APP, "--source", "local/other")
    assert (told.status, told.out) == (1, "")
    assert "its disk is not the one that its statement is about" in told.err
    assert f"it was made from 'local/{BASE}', and not from local/other" in told.err
    told = run("images", "check", APP, "--provenance")
    assert (told.status, "its disk is not the one" in told.out) == (1, True)
    assert run("images", "check", APP).status == 0
    (home / "signing.key").unlink()
    told = run("images", "provenance", BASE)
    assert told.status == 1
    assert "its statement has no signature of" in told.err


def test_the_lineage_goes_over_images_that_are_gone(backend: LocalBackend) -> None:
    image = made(backend, BASE).image
    assert image is not None
    made(backend, APP, SourceImage(image.project, image.name, image.id))
    backend.catalogue.delete(BASE)
    app, base, debian = LocalProvenance(backend).lineage(APP)
    assert (app.name, app.build, app.is_there, app.has_statement) == (APP, APP, True, True)
    assert (base.name, base.build, base.is_there, base.has_statement) == (BASE, BASE, False, True)
    assert (debian.name, debian.build, debian.is_there, debian.has_statement) == (
        values.plan().source.name,
        "",
        False,
        False,
    )


@pytest.mark.usefixtures("chain")
def test_the_lineage_is_printed(home: Path, tmp_path: Path) -> None:
    run = Commands(home, tmp_path)
    assert [each["name"] for each in run("images", "lineage", APP, "--json").document()] == [
        APP,
        BASE,
        values.plan().source.name,
    ]
    assert f"local/{BASE}" in run("images", "lineage", APP).out
    told = run("images", "lineage", "other")
    assert (told.status, "there is no image other" in told.err) == (2, True)


def test_an_image_of_which_nothing_is_stated_is_told_with_the_reason(backend: LocalBackend, tmp_path: Path) -> None:
    provenance = LocalProvenance(backend)
    with pytest.raises(InputError, match="there is no image other"):
        provenance.faults("other")
    backend.catalogue.add(left_clean(tmp_path / "disk.raw"), "imported")
    with pytest.raises(InputError, match="made by no build of this machine"):
        provenance.faults("imported")
    made(backend, BASE)
    assert provenance.faults(BASE, (), Policy()) == []
    with pytest.raises(InputError, match=r"none\.pem: No such file"):
        provenance.faults(BASE, [tmp_path / "none.pem"])
    (BuildFolder(backend.home, BASE).logs / f"{BASE}.intoto.jsonl").unlink()
    with pytest.raises(InputError, match="its logs were deleted"):
        provenance.faults(BASE)


def test_the_statement_names_that_of_the_source(backend: LocalBackend) -> None:
    image = made(backend, BASE).image
    assert image is not None
    made(backend, APP, SourceImage(image.project, image.name, image.id))
    provenance = LocalProvenance(backend)
    [source, *_] = provenance.stated(provenance.envelope(APP), APP)["predicate"]["buildDefinition"][
        "resolvedDependencies"
    ]
    assert source["digest"] == {"goldsmithDisk": disk_digest(backend.catalogue.disk(BASE))}
    assert json.dumps(source["annotations"]).count(image.id) == 1
