"""Examples, built as their comments say, in the chroot engine."""

from __future__ import annotations

import pytest

from shared.disks.disk import Disk
from tests.project.source_tree import ROOT
from tests.system.command import Goldsmith

EXAMPLES = ROOT / "examples"


def build(goldsmith: Goldsmith, example: str, *words: str) -> dict[str, bytes]:
    """Build an example from this machine's Debian; return those of its files that tests look at."""
    done = goldsmith.run("build", EXAMPLES / example, "--set", "project=local", *words)
    assert done.status == 0, done.text
    newest = goldsmith.images()[0]
    names = ("/etc/motd", "/var/www/html/index.html", "/usr/sbin/nginx", "/usr/local/bin/app", "/etc/passwd")
    with Disk(goldsmith.home / "images" / newest["name"] / "disk.raw") as disk:
        return {name: disk.root.read(name) for name in names if disk.root.exists(name)}


@pytest.mark.slow
def test_examples_for_the_chroot_engine(goldsmith: Goldsmith) -> None:
    found = build(goldsmith, "nginx/build.yaml", "--engine", "chroot")
    assert b"A site from an image" in found["/var/www/html/index.html"]
    assert found["/usr/sbin/nginx"].startswith(b"\x7fELF")
    assert build(goldsmith, "element/build.yaml", "--engine", "chroot")["/etc/motd"] == b"hello from an element\n"
    build(goldsmith, "chain/base.yaml", "--engine", "chroot")
    chained = build(goldsmith, "chain/app.yaml", "--engine", "chroot")
    assert b"\napp:x:" in chained["/etc/passwd"]
    assert chained["/usr/local/bin/app"].startswith(b"#!/bin/sh")


@pytest.mark.soak
def test_the_hardened_example_passes_its_own_checks(goldsmith: Goldsmith) -> None:
    build(goldsmith, "hardened/build.yaml", "--engine", "chroot")
