"""The packages of ansible-core: exact files of PyPI with their hashes, fetched and unpacked without pip.

cryptography is not among them: Ansible takes it for vaults alone, and runs without. PyYAML and MarkupSafe are taken
from their sources, whose Python is the same for every image. https://pypi.org/project/ansible-core/
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tarfile
import time
import zipfile
from http.client import HTTPException
from urllib.request import urlopen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Dict, Tuple

FILES = "https://files.pythonhosted.org/packages/"
LARGEST = 16 << 20  # bytes of one file
SILENCE_SECONDS = 60.0
TRIES = 4
FIRST_PAUSE = 0.5
CANNOT = "needs 3.9 or later"


class PythonPackage:
    """One file of PyPI: `inside` is the folder of a source archive that holds the modules; "" for a wheel."""

    def __init__(self, path: str, sha256: str, inside: str = "") -> None:
        self.path = path  # relative to FILES
        self.sha256 = sha256
        self.inside = inside

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]


_SHARED = (
    PythonPackage(
        "62/a1/3d680cbfd5f4b8f15abc1d571870c5fc3e594bb582bc3b64ea099db13e56/jinja2-3.1.6-py3-none-any.whl",
        "85ece4451f492d0c13c5dd7c13a64681a86afae63a5f347908daf103ce6d2f67",
    ),
    PythonPackage(
        "20/12/38679034af332785aac8774540895e234f4d07f7545804097de4b666afd8/packaging-25.0-py3-none-any.whl",
        "29572ef2b1f17581046b3a2227d5c611fb25ec70ca1ba8554b24b0e69331a484",
    ),
    PythonPackage(
        "d2/fc/e9ccf0521607bcd244aa0b3fbd574f71b65e9ce6a112c83af988bbbe2e23/resolvelib-1.0.1-py2.py3-none-any.whl",
        "d2da45d1a8dfee81bdd591647783e340ef3bcb104b54c383f70d422ef5cc7dbf",
    ),
    PythonPackage(
        "7e/99/7690b6d4034fffd95959cbe0c02de8deb3098cc577c67bb6a24fe5d7caa7/markupsafe-3.0.3.tar.gz",
        "722695808f4b6457b320fdc131280796bdceb04ab50fe1795cd540799ebe1698",
        "markupsafe-3.0.3/src/",
    ),
    PythonPackage(
        "05/8e/961c0007c59b8dd7729d542c61a4d537767a59645b82a0b521206e1e25c2/pyyaml-6.0.3.tar.gz",
        "d76623373421df22fb4cf8817020cbb7ef15c725b9d5e45f17e189bfc384190f",
        "pyyaml-6.0.3/lib/",
    ),
)
_IMPORTLIB_RESOURCES = PythonPackage(
    "46/10/7cc167fe072037c3cd2a15a92bb963b86f2bab8ac0995fab95fb7a152b80/importlib_resources-5.0.7-py3-none-any.whl",
    "2238159eb743bd85304a16e0536048b3e991c531d1cd51c4a834d1ccf2829057",
)
RELEASES: Dict[str, Tuple[PythonPackage, ...]] = {
    "2.21.5": (
        PythonPackage(
            "57/6f/7321059b2d1a5ea3c7e60807a5269942d93b2c11a2fc89ba8e4a3e827891/ansible_core-2.21.5-py3-none-any.whl",
            "08886f9f3e23d129aa98a01271c4a47833516e1cb7c737a246788cb474f41222",
        ),
        *_SHARED,
    ),
    "2.18.19": (
        PythonPackage(
            "63/6d/296e746e08021bda36bf0480aa0bc3e263048d8e266ee5a1b0bc11738c7a/ansible_core-2.18.19-py3-none-any.whl",
            "00f53c10d97ce001f6e49857820901b3e8d2f234cb9f5fd9fdf8092c14109fa0",
        ),
        *_SHARED,
    ),
    "2.17.14": (
        PythonPackage(
            "86/29/d694562f1a875b50aa74f691521fe493704f79cf1938cd58f28f7e2327d2/ansible_core-2.17.14-py3-none-any.whl",
            "34a49582a57c2f2af17ede2cefd3b3602a2d55d22089f3928570d52030cafa35",
        ),
        *_SHARED,
    ),
    "2.15.13": (
        PythonPackage(
            "9b/2c/19ac50eca9d32a9524329f023a459ebb6ca5a546380eb15af384306c170a/ansible_core-2.15.13-py3-none-any.whl",
            "e7f50bbb61beae792f5ecb86eff82149d3948d078361d70aedb01d76bc483c30",
        ),
        *_SHARED,
        _IMPORTLIB_RESOURCES,
    ),
}
"""The releases of ansible-core that can be asked for, newest first, with all that they need."""
_FIRST_PYTHON = {"2.21.5": (3, 14), "2.18.19": (3, 11), "2.17.14": (3, 10), "2.15.13": (3, 9)}
"""The first Python that a release is for. 2.21 runs on 3.12 already, and reads playbooks more strictly."""


def release_for(python: Tuple[int, int]) -> str:
    """Return the release for a version of Python, or ""."""
    return next((release for release in RELEASES if python >= _FIRST_PYTHON[release]), "")


def fetch_packages(packages: Sequence[PythonPackage], folder: str, source: str) -> None:
    """Fetch packages below a URL into a folder for sys.path. OSError says why one is not had."""
    os.makedirs(folder)
    for package in packages:
        data = _fetched(source + package.path)
        found = hashlib.sha256(data).hexdigest()
        if found != package.sha256:
            raise OSError(f"{package.name} has the SHA-256 {found}, and not {package.sha256}")
        if package.inside:
            _unpack_sources(data, package.inside, folder)
        else:
            with zipfile.ZipFile(io.BytesIO(data)) as wheel:
                wheel.extractall(folder)  # noqa: S202 - its content is known by its hash


def _fetched(url: str) -> bytes:
    problem = ""
    for number in range(TRIES):
        if problem:
            print(f"{url}: {problem}: trying again", flush=True)
            time.sleep(FIRST_PAUSE * 2**number)
        try:
            with urlopen(url, timeout=SILENCE_SECONDS) as answer:  # noqa: S310 - our own URL
                data: bytes = answer.read(LARGEST + 1)
                if not answer.length:  # bytes of Content-Length that did not arrive
                    return data
                problem = "the connection was closed in the middle, or it is too long"
        except (OSError, HTTPException) as error:
            problem = str(error) or type(error).__name__
    raise OSError(f"{url}: {problem}")


def _unpack_sources(data: bytes, inside: str, folder: str) -> None:
    """Unpack the Python modules of a folder of a source archive, whose content is known by its hash."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            source = archive.extractfile(member) if member.isreg() else None
            if source is not None and member.name.startswith(inside) and member.name.endswith(".py"):
                target = os.path.join(folder, member.name[len(inside) :])
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "wb") as file:
                    file.write(source.read())


def main(words: Sequence[str]) -> int:
    """Fetch a release into a folder; return the exit status."""
    version, folder = words
    try:
        fetch_packages(RELEASES[version], folder, FILES)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
