"""A build that leaves a secret makes no image, unless its spec lets that pass."""

from __future__ import annotations

import pytest

from tests.system.command import Goldsmith

pytestmark = pytest.mark.vm

LEAVE = (
    "mkdir -p /root/.ssh /etc/app\n"
    "echo ssh-ed25519 AAAA somebody >/root/.ssh/authorized_keys\n"
    "printf -- '-----BEGIN %s KEY-----\\n%s\\n' PRIVATE $(head -c 48 /dev/zero | base64) >/etc/app/server.key\n"
)


def test_a_secret_of_the_build_keeps_the_image_from_being_made(goldsmith: Goldsmith) -> None:
    """hygiene: fail; nothing is left."""
    spec = goldsmith.spec([{"name": "leave", "script": LEAVE}], name="unfit")
    done, build = goldsmith.build(spec, "--output", goldsmith.output)
    assert (done.status, build["outcome"]) == (1, "failed"), done.text
    assert build["reason"].startswith("export_image: must not be in an image: /etc/app/server.key holds a private key")
    assert " | /root/.ssh/authorized_keys allows a login; remove it" in build["reason"]
    assert build["ledger"] == []
    assert goldsmith.images() == []
    assert not goldsmith.output.exists()
    goldsmith.traces.assert_none()
