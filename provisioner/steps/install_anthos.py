"""install-anthos: install the packages of an Anthos package specification with Google's anthos_installer.

The installer is one program in a tar.gz from Google. It is downloaded to a folder beside the context, run, and removed
before the image is made; what it installs stays.
"""

from __future__ import annotations

import gzip
import json
import os
import platform
import shutil
import tarfile
import time
import zlib
from contextlib import contextmanager
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from ..protocol import InstallAnthos
from ..system.process import TimedOut
from .step_context import StepContext, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPResponse
    from typing import Any

STORAGE = "https://storage.googleapis.com/"  # where gs:// URLs are read
ACCESS = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"
PROGRAM = "anthos_installer"
REMOTE = ("http://", "https://", "gs://")
TOKEN_SECONDS = 5.0
SILENCE_SECONDS = 60.0  # without a byte
TRIES = 5
CHUNK = 1 << 20
LARGEST_INSTALLER = 128 << 20  # of the archive, which has some 20 MB, and of its contents
FIRST_PAUSE = 0.5  # seconds; doubled each time
HOPELESS = range(400, 500)
PASSING = (408, 429)


def act(inputs: InstallAnthos, context: StepContext) -> int:
    """Return the installer's exit status."""
    if platform.machine() != "x86_64":
        raise StepError(f"Google's {PROGRAM} is made for x86_64 alone, and this machine is {platform.machine()}")
    return install(inputs, context, STORAGE, ACCESS)


def install(inputs: InstallAnthos, context: StepContext, storage: str, access: str) -> int:
    """Install from Cloud Storage at `storage`, with an access token from `access`: URLs. StepError; TimedOut."""
    spec = inputs.package_spec
    if not spec.startswith(REMOTE):
        spec = context.in_context(spec)
    folder = os.path.join(os.path.dirname(os.path.abspath(context.folder)), "anthos")
    workdir = os.path.join(context.root, inputs.workdir.lstrip("/")) if inputs.workdir else folder
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted try
    os.makedirs(folder)
    os.makedirs(workdir, exist_ok=True)
    try:
        archive = os.path.join(folder, "installer.tar.gz")
        own = inputs.installer.startswith("gs://")
        url = storage + quote(inputs.installer[len("gs://") :]) if own else inputs.installer
        download(url, archive, access if url.startswith(storage) else "", context)
        program = unpack_installer(archive, folder)
        arguments = [program, "install", f"-pkgspec-url={spec}", f"-build-contextdir={context.folder}"]
        arguments += [f"-top-workdir={workdir}"] if inputs.workdir else []
        with _execution_allowed(folder, context):
            return context.run(["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", workdir, *arguments], {})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def download(url: str, target: str, access: str, context: StepContext) -> None:
    """Download a URL to a file, with an access token from the URL `access`, or none for "". StepError; TimedOut."""
    headers = _authorization(access) if access else {}
    problem = ""
    for number in range(TRIES):
        if problem:
            context.output.say(f"{url}: {problem}: trying again")
            time.sleep(FIRST_PAUSE * 2**number)
        if time.monotonic() > context.deadline:
            raise TimedOut(1)
        try:
            with urlopen(Request(url, headers=headers), timeout=SILENCE_SECONDS) as answer:  # noqa: S310 - our own URL
                _save(answer, url, target, context)
                if not answer.length:  # bytes of Content-Length that did not arrive
                    return
                problem = "the connection was closed in the middle"
        except HTTPError as error:
            problem = f"HTTP {error.code} {error.reason}"
            if error.code in HOPELESS and error.code not in PASSING:
                break
        except (OSError, HTTPException) as error:
            problem = str(error) or type(error).__name__
    raise StepError(f"{url} cannot be fetched: {problem}; see that the build VM's service account may read it")


def _save(answer: HTTPResponse, url: str, target: str, context: StepContext) -> None:
    with open(target, "wb") as file:
        for data in iter(lambda: answer.read(CHUNK), b""):
            file.write(data)
            if file.tell() > LARGEST_INSTALLER:
                raise StepError(f"{url} has more than {LARGEST_INSTALLER} bytes, and is not {PROGRAM}")
            if time.monotonic() > context.deadline:
                raise TimedOut(1)


def unpack_installer(archive: str, folder: str) -> str:
    """Unpack the program from its archive; return its path. StepError."""
    target = os.path.join(folder, PROGRAM)
    try:
        with gzip.open(archive) as packed:
            limited: Any = _Limited(packed)
            members = tarfile.open(fileobj=limited, mode="r|")  # noqa: SIM115 - it opens nothing of its own
            for member in members:
                source = members.extractfile(member) if member.isreg() else None
                if source is not None and os.path.basename(member.name) == PROGRAM:
                    with open(target, "wb") as file:
                        shutil.copyfileobj(source, file)
                    os.chmod(target, 0o700)
                    return target
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise StepError(f"the archive of {PROGRAM} is damaged: {error}; run the build again") from error
    raise StepError(f"the archive of {PROGRAM} does not hold that program")


class _Limited:
    """The unpacked archive, read to MOST_BYTES at most: a name or a sparse map in it may claim to be larger."""

    def __init__(self, packed: gzip.GzipFile) -> None:
        self._packed = packed
        self._left = LARGEST_INSTALLER

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {LARGEST_INSTALLER} bytes")
        return self._packed.read(size)


def _authorization(url: str) -> dict[str, str]:
    """Return the header with this VM's access token; none where no metadata server gives one."""
    try:
        with urlopen(Request(url, headers={"Metadata-Flavor": "Google"}), timeout=TOKEN_SECONDS) as answer:  # noqa: S310
            return {"Authorization": f"Bearer {json.load(answer)['access_token']}"}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


@contextmanager
def _execution_allowed(folder: str, context: StepContext) -> Iterator[None]:
    """Allow programs to run from a folder meanwhile: Container-Optimized OS forbids that below /var."""
    if not os.statvfs(folder).f_flag & os.ST_NOEXEC:
        yield
        return
    mount = 'mount --bind "$1" "$1" && mount -o remount,bind,exec "$1"'
    if context.run(["/bin/sh", "-c", mount, "sh", folder], {}) != 0:
        raise StepError(f"no programs may be run from {folder}, and that cannot be changed")
    try:
        yield
    finally:
        context.run(["/bin/sh", "-c", 'umount "$1"', "sh", folder], {})
