"""Images that the pages show: small disks in the catalogue of a real GOLDSMITH_HOME, each with its build."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from shared.build.build import Revocation
from shared.build.image.channels import Channel
from shared.build.plan import ImagePlan, SourceImage
from shared.ports import Image
from shared.published.approval import ask_promotion
from shared.published.promotion import promote_image
from shared.runtime.one_machine import CHANNELS_FILE, LocalBackend
from tests.browser.scenes import MARKUP, Tale, tell
from tests.shared.disks.small_disks import os_tree, rooted
from tests.world import values

OLDER, NEWER, CHILD = "web-20261119", "web-20261120", "shop-20261120"
CHANNELS = {"dev": Channel(), "prod": Channel(("ann@example.com", "bo@example.com"))}


def fill_images(backend: LocalBackend, now: float, scratch: Path) -> None:
    """Add three generations of images, of which one is revoked, one is in a channel, and one waits for another."""
    channels = {name: {"approvers": list(channel.approvers)} for name, channel in CHANNELS.items()}
    (backend.home / CHANNELS_FILE).write_text(json.dumps(channels))
    tree = os_tree(scratch / "tree")
    (tree / "usr/share/doc").mkdir(parents=True)
    (tree / "usr/share/doc/large").write_bytes(b"x" * 3_000_000)
    (tree / "var/lib/large").write_bytes(b"y" * 2_000_000)
    base = _image(backend, rooted(scratch / "base.raw", tree), "debian-12-20261101", "debian-12")
    (tree / "etc/motd").write_text("welcome\n")
    older = _built(backend, rooted(scratch / "older.raw", tree), OLDER, base, now - 90_000)
    (tree / "etc/motd").write_text("welcome back\n")
    shutil.rmtree(tree / "usr/share/doc")
    (tree / "opt/web").mkdir(parents=True)
    (tree / "opt/web/app").write_bytes(b"z" * 1_000_000)
    newer = _built(backend, rooted(scratch / "newer.raw", tree), NEWER, base, now - 4000, description=MARKUP)
    _built(backend, rooted(scratch / "child.raw", tree), CHILD, newer, now - 3000)
    promote_image("local", NEWER, "dev", backend)
    ask_promotion("local", NEWER, "prod", backend, account="ann")
    backend.compute.deprecate_image("local", OLDER, NEWER, now + 2_000_000)
    known = backend.store.image("local", older.name)
    assert known is not None
    revoked = replace(known, revoked=Revocation(f"CVE-2026-1234 {MARKUP}", now - 600, done=True))
    assert backend.store.save_image(revoked, known)
    assert backend.store.save_trigger(values.trigger(name="web", paused=now - 7000, failures=5), None)


def _image(backend: LocalBackend, disk: Path, name: str, family: str, description: str = "") -> Image:
    return backend.catalogue.add(disk, name, family=family, transfer="move", description=description)


def _built(backend: LocalBackend, disk: Path, name: str, source: Image, at: float, description: str = "") -> Image:
    """Add an image, and tell of the build that has made it."""
    family = name.partition("-")[0]
    image = _image(backend, disk, name, family, description)
    tale = Tale(
        f"{name}-0123456789ab",
        at,
        name=family,
        source=SourceImage("local", source.name, source.id),
        image=ImagePlan("local", name, family=family, description=description),
        verify_steps=values.plan().steps,
    )
    tale.boots().step(0, 31).step(1, 12).step(2, 74).completes()
    tale.add(values.image_exported(image=values.image_record(name=name, id=image.id)), 21.0)
    tale.boots(phase="verify").step(0, 3, phase="verify").completes(phase="verify")
    tale.add(values.publication_staged(), 1.0).add(values.image_published(), 1.0).add(values.cleaned_up(), 2.0)
    tell(backend.store, tale)
    return image
