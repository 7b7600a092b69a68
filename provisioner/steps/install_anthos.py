"""install-anthos: what an Anthos package specification lists, with Google's anthos_installer.

The installer is one program in a tar.gz of Google's. It is fetched beside the context, run, and gone before the image
is made; what it installs stays.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tarfile
import time
from contextlib import contextmanager
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ..process import TimedOut
from ..protocol import InstallAnthos
from . import StepError, Workshop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALLER = "https://storage.googleapis.com/cos-anthos-builds-us/anthos_installer-linux-amd64-v0.0.1-96f78c3.tar.gz"
ACCESS = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"
PROGRAM = "anthos_installer"
REMOTE = ("http://", "https://", "gs://")
TOKEN_SECONDS = 5.0
SILENCE_SECONDS = 60.0  # without a byte
TRIES = 5
CHUNK = 1 << 20
FIRST_PAUSE = 0.5  # seconds; doubled each time
HOPELESS = range(400, 500)
PASSING = (408, 429)


def act(inputs: InstallAnthos, workshop: Workshop) -> int:
    """Give the installer's exit status."""
    if platform.machine() != "x86_64":
        raise StepError(f"Google's {PROGRAM} is made for x86_64 alone, and this machine is {platform.machine()}")
    return install(inputs, workshop, INSTALLER, ACCESS)


def install(inputs: InstallAnthos, workshop: Workshop, installer: str, access: str) -> int:
    """Do it with the installer at a URL, and the access token that another URL gives. StepError; TimedOut."""
    spec = inputs.package_spec
    if not spec.startswith(REMOTE):
        spec = workshop.in_context(spec)
    folder = os.path.join(os.path.dirname(os.path.abspath(workshop.context)), "anthos")
    workdir = os.path.join(workshop.root, inputs.workdir.lstrip("/")) if inputs.workdir else folder
    shutil.rmtree(folder, ignore_errors=True)  # an interrupted try's
    os.makedirs(folder)
    os.makedirs(workdir, exist_ok=True)
    try:
        archive = os.path.join(folder, "installer.tar.gz")
        download(installer, archive, access, workshop)
        program = unpack(archive, folder)
        arguments = [program, "install", f"-pkgspec-url={spec}", f"-build-contextdir={workshop.context}"]
        with _execution_allowed(folder, workshop):
            return workshop.run(["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", workdir, *arguments], {})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def download(url: str, target: str, access: str, workshop: Workshop) -> None:
    """Write what is at a URL into a file. StepError; TimedOut."""
    headers = _authorization(access)
    problem = ""
    for number in range(TRIES):
        if problem:
            workshop.output.say(f"{url}: {problem}: trying again")
            time.sleep(FIRST_PAUSE * 2**number)
        if time.monotonic() > workshop.deadline:
            raise TimedOut(1)
        try:
            with urlopen(Request(url, headers=headers), timeout=SILENCE_SECONDS) as answer:  # noqa: S310 - our own URL
                with open(target, "wb") as file:
                    while data := answer.read(CHUNK):
                        file.write(data)
                        if time.monotonic() > workshop.deadline:
                            raise TimedOut(1)
                if not answer.length:  # bytes that were promised and did not come
                    return
                problem = "the connection was closed in the middle"
        except HTTPError as error:
            problem = f"HTTP {error.code} {error.reason}"
            if error.code in HOPELESS and error.code not in PASSING:
                break
        except (OSError, HTTPException) as error:
            problem = str(error) or type(error).__name__
    raise StepError(f"{url} cannot be fetched: {problem}; see that the build VM's service account may read it")


def unpack(archive: str, folder: str) -> str:
    """Take the program out of its archive and give its path. StepError."""
    target = os.path.join(folder, PROGRAM)
    try:
        with tarfile.open(archive) as members:
            for member in members:
                source = members.extractfile(member) if member.isfile() else None
                if source is not None and os.path.basename(member.name) == PROGRAM:
                    with open(target, "wb") as file:
                        shutil.copyfileobj(source, file)
                    os.chmod(target, 0o700)
                    return target
    except (tarfile.TarError, EOFError, OSError) as error:
        raise StepError(f"the archive of {PROGRAM} is damaged: {error}; run the build again") from error
    raise StepError(f"the archive of {PROGRAM} does not hold that program")


def _authorization(url: str) -> dict[str, str]:
    """Give the header that says who we are, where there is somebody who knows: Google's storage is read by name."""
    try:
        with urlopen(Request(url, headers={"Metadata-Flavor": "Google"}), timeout=TOKEN_SECONDS) as answer:  # noqa: S310
            return {"Authorization": f"Bearer {json.load(answer)['access_token']}"}
    except (OSError, ValueError, KeyError):
        return {}


@contextmanager
def _execution_allowed(folder: str, workshop: Workshop) -> Iterator[None]:
    """Let programs run from a folder: below /var, Container-Optimized OS forbids it."""
    if not os.statvfs(folder).f_flag & os.ST_NOEXEC:
        yield
        return
    mount = 'mount --bind "$1" "$1" && mount -o remount,bind,exec "$1"'
    if workshop.run(["/bin/sh", "-c", mount, "sh", folder], {}) != 0:
        raise StepError(f"no programs may be run from {folder}, and that cannot be changed")
    try:
        yield
    finally:
        workshop.run(["/bin/sh", "-c", 'umount "$1"', "sh", folder], {})
