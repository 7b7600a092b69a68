"""Run functions of these tests in processes of their own: as the user who runs the tests, and as an ordinary user.

CI runs tests as root. The ordinary user is then goldsmith-test, whom `make setup` makes; such a user may not be able to
read this checkout, so everything is imported before root is given up.
"""

import codecs
import ctypes
import importlib
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.errors import GoldsmithError
from shared.sandbox.roots.unpack_root import remove_unpacked

ROOT = Path(__file__).resolve().parents[3]
NAME = "goldsmith-test"
AS_ROOT, AS_USER = "root", "user"
MODES = [AS_ROOT, AS_USER] if os.geteuid() == 0 else [AS_USER]
_DUMPABLE = 4  # PR_SET_DUMPABLE


@contextmanager
def place_for(mode: str) -> Iterator[Path]:
    """Make a folder that the user of a mode owns and can reach, which pytest's own may not be."""
    place = Path(tempfile.mkdtemp(prefix="goldsmith-test-", dir="/var/tmp"))
    try:
        give(place, mode)
        yield place
    finally:
        if os.geteuid() == 0:
            shutil.rmtree(place)
        else:
            remove_unpacked(place)


def give(path: Path, mode: str) -> Path:
    """Make a file the property of a mode's user."""
    if os.geteuid() == 0 and mode == AS_USER:
        entry = test_user()
        os.chown(path, entry.pw_uid, entry.pw_gid)
    return path


def test_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        raise AssertionError(f"there is no user {NAME}; run `make setup` as root") from None


def run(mode: str, function: Callable[..., Any], *arguments: str | Path) -> Any:
    """Call a function in a new process; return what it returns, which has to be JSON. GoldsmithErrors come back."""
    user = NAME if mode == AS_USER and os.geteuid() == 0 else ""
    command = [sys.executable, "-m", __name__, user, function.__module__, function.__qualname__]
    done = subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    kind, value = json.loads(done.stdout)
    if kind:
        raise getattr(importlib.import_module("shared.errors"), kind)(value)
    return value


def _become(name: str) -> None:
    for codec in ("ascii", "latin-1", "utf-16-le", "idna"):
        codecs.lookup(codec)  # which imports a module of Python's own
    entry = test_user()
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    ctypes.CDLL(None).prctl(_DUMPABLE, 1, 0, 0, 0)  # as a process is that this user has started
    os.chdir("/")
    os.environ.update(HOME="/nonexistent", USER=name)


def _main(user: str, module: str, function: str, *arguments: str) -> None:
    call = getattr(importlib.import_module(module), function)
    if user:
        _become(user)
    try:
        result: tuple[str, Any] = "", call(*arguments)
    except GoldsmithError as error:
        known = vars(importlib.import_module("shared.errors"))
        result = next(each.__name__ for each in type(error).__mro__ if each.__name__ in known), str(error)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    _main(*sys.argv[1:])
