"""Proxies and authorities of the site reach the steps, and stay neither in the image nor in the home."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.cache.packages import PackageCache
from tests.shared.build.test_proxy import PEM
from tests.shared.sandbox.ordinary_user import MODES, give
from tests.system.command import Document, Goldsmith
from tests.system.sandboxes import ROOT_IN_SOAK

pytestmark = pytest.mark.slow
BAD_INPUT = 2
PROXY, PASSWORD = "proxy.example:3128", "x7-Kd93:aQ"
QUOTED = "x7-Kd93%3AaQ"
LOOK = f"""set -e
echo "$http_proxy $https_proxy"
[ "$http_proxy" = "http://ann:$(echo {PASSWORD[::-1]} | rev | sed s/:/%3A/)@{PROXY}" ]
[ "$no_proxy" = localhost,127.0.0.1,::1,169.254.169.254,.corp.example ]
grep -q c2l0ZQ "$SSL_CERT_FILE"
apt-config dump | grep -q 'Acquire::https::CaInfo "/run/goldsmith/ca-bundle.pem"'
"""
AUTHORITY = PEM.replace("MIIB", "c2l0ZQ")


def behind_a_proxy(goldsmith: Goldsmith, script: str) -> Path:
    steps: list[Document] = [{"name": "look", "script": script.replace(PROXY, '"$(echo elpmaxe.yxorp | rev):3128"')}]
    proxy = {"http": f"http://{PROXY}", "no_proxy": [".corp.example"], "ca": "ca.pem", "credentials": "login"}
    spec = goldsmith.spec(steps, local={"engine": "chroot", "memory_mb": 512, "proxy": proxy}, output={"family": "f"})
    (spec.parent / "ca.pem").write_text(AUTHORITY)
    (spec.parent / "login").write_text(f"ann:{PASSWORD}\n")
    return spec


def holders(folder: Path, *texts: str) -> list[Path]:
    """Return the files below a folder that hold one of some texts; the holes of disks are left out."""
    return [path for path in folder.rglob("*") if path.is_file() and holds(path, texts)]


def holds(path: Path, texts: Sequence[str]) -> bool:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                break
            hole = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            data = os.pread(file.fileno(), hole - at, at)
            if any(text.encode() in data for text in texts):
                return True
            at += len(data)
    return False


@pytest.mark.parametrize("user", ROOT_IN_SOAK, indirect=True)
def test_steps_have_them_and_nothing_else_has(sandboxes: Goldsmith) -> None:
    spec = behind_a_proxy(sandboxes, LOOK)
    done, build = sandboxes.build(spec)
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
    assert f"http://ann:(hidden)@{PROXY}" in done.text
    assert holders(sandboxes.home, PASSWORD, QUOTED) == []
    assert PASSWORD not in done.text
    assert QUOTED not in done.text
    [image] = [image for image in sandboxes.images() if image["family"] == "f"]
    assert holders(sandboxes.home / "images" / image["name"], PROXY, "c2l0ZQ") == []


@pytest.mark.parametrize("user", MODES[:1], indirect=True)
def test_a_proxy_that_a_step_writes_down_is_found(sandboxes: Goldsmith) -> None:
    script = f'echo "Acquire::http::Proxy \\"http://"{PROXY}"\\";" >/etc/apt/apt.conf.d/01proxy'
    done, build = sandboxes.build(behind_a_proxy(sandboxes, script))
    assert build["outcome"] == "failed", done.text
    assert "/etc/apt/apt.conf.d/01proxy names a proxy that only the build used; leave it out" in build["reason"]


def test_a_proxy_on_the_host_is_refused_before_anything_is_made(goldsmith: Goldsmith) -> None:
    spec = behind_a_proxy(goldsmith, "true")
    document = json.loads(spec.read_text())
    document["local"]["proxy"]["http"] = "http://localhost:3128"
    spec.write_text(json.dumps(document))
    done = goldsmith.run("build", spec)
    assert done.status == BAD_INPUT
    assert "local.proxy.http: localhost is this host itself" in done.err
    assert goldsmith.builds() == []


PACKAGE, URL = b"a package " * 1000, "http://mirror.example/pool/main/a/a_1_all.deb"
FETCH = """set -e
/usr/lib/apt/apt-helper download-file URL /run/a.deb
sha256sum /run/a.deb
echo "deb [trusted=yes] http://127.0.0.1:PORT/ ./" >/run/list
apt-get -o Dir::Etc::sourcelist=/run/list -o Dir::Etc::sourceparts=- update || :
! grep -r "169.254.169.254[:]80" /etc /var /root /home
"""


def fetching(goldsmith: Goldsmith, port: int, **local: object) -> Path:
    with PackageCache(goldsmith.home) as cache:
        writer = cache.add(len(PACKAGE))
        assert writer is not None
        writer.write(PACKAGE)
        writer.keep(URL, etag="", last_modified="", content_type="", sha256=None)
        writer.close()
    script = FETCH.replace("URL", URL).replace("PORT", str(port))
    return goldsmith.spec([{"name": "fetch", "script": script}], local={"memory_mb": 512, **local})


def fetch(goldsmith: Goldsmith, user: str, **local: object) -> None:
    """Build with a package of the cache, and with a list that would be on the host."""
    with socket.create_server(("127.0.0.1", 0)) as host:
        spec = fetching(goldsmith, host.getsockname()[1], **local)
        for path in (goldsmith.home / "cache", *(goldsmith.home / "cache").rglob("*")):
            give(path, user)
        done, build = goldsmith.build(spec)
        host.setblocking(False)
        with pytest.raises(BlockingIOError):
            host.accept()
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
    assert f"{hashlib.sha256(PACKAGE).hexdigest()}  /run/a.deb" in done.text
    assert "403  127.0.0.1 is the host of this build, which builds do not reach" in done.text


def test_packages_come_from_the_cache_into_a_sandbox(sandboxes: Goldsmith, user: str) -> None:
    fetch(sandboxes, user, engine="chroot")


@pytest.mark.vm
def test_packages_come_from_the_cache_into_a_vm(goldsmith: Goldsmith) -> None:
    fetch(goldsmith, MODES[0])
