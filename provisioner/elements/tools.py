"""The programs that elements call by name, as files: each is a few lines that start programs.py, or a shell script.

    WORK/programs   first in the PATH of all scripts
    WORK/host       before them, for phases of the build machine
    WORK/fallback   last: in place of programs that the image or an element may have
    WORK/python     modules that scripts of the build machine import

Where elements bring programs of these names, their files in the merged hooks are replaced: install-bin copies them into
the image, from which the step removes them at its end.
"""

from __future__ import annotations

import os
import sys

HELPERS = (
    *(
        "cache-url",
        "dib-python",
        "dib-run-parts",
        "element-info",
        "extract-image",
        "map-packages",
        "map-services",
        "package-installs",
    ),
    *("package-installs-squash", "package-installs-v2", "package-uninstalls", "pkg-map", "svc-map"),
)
"""Programs that win over an element's own."""

INSTALL_PACKAGES = "install-packages"  # which the distribution's element has, where one is chosen
FALLBACKS = (INSTALL_PACKAGES, "rsync")
BUILD_TOOLS = (
    *HELPERS,
    *("dib-init-system", "fix_shm", "install-packages", "select-boot-kernel-initrd"),
    *("sysctl-set-value", "sysctl-write-value", "unfix_shm"),
)
"""What elements put into the image's /usr/local/bin for the build alone. Other programs there are the image's."""

PACKAGE_PLACE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The folder, or the archive, that holds this package: scripts find it there as well."""

_PROGRAM = """#!{python} -ISE
import sys

sys.path.insert(0, {sources!r})
from provisioner.elements.programs import main

sys.exit(main({name!r}, {work!r}, sys.argv[1:]))
"""
_PYTHON = '#!/bin/sh\nexec {python} "$@"\n'
_SUDO = """#!/bin/sh
# Scripts are root already. Options that ask for another user need more than a shell.
for word; do
    case $word in
    -E | -H | -n | -S | -k | --preserve-env | --non-interactive | --set-home | --stdin) shift ;;
    --)
        shift
        break
        ;;
    -*) exec {other} "$@" ;;
    *=*) exec env "$@" ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || exit 0
exec "$@"
"""
_YAML = """import sys

sys.path.append({sources!r})
from provisioner.elements.plain_yaml import replace_module

replace_module(__name__, __file__, {work!r})
"""


def write_tools(work: str, hooks: str) -> None:
    """Write the programs below `work`, and those of their names in the merged hooks. OSError."""
    for folder in ("programs", "host", "fallback", "python"):
        os.makedirs(os.path.join(work, folder), exist_ok=True)
    for name in HELPERS:
        _write(os.path.join(work, "programs", name), _text(name, work))
    own = os.path.join(hooks, "bin")
    os.makedirs(own, exist_ok=True)
    theirs = frozenset(os.listdir(own))
    for name in (*theirs.intersection(HELPERS), *({INSTALL_PACKAGES} - theirs)):
        if name in theirs:
            os.unlink(os.path.join(own, name))
        _write(os.path.join(own, name), _text(name, work))
    for name in FALLBACKS:
        _write(os.path.join(work, "fallback", name), _text(name, work))
    other = os.path.join(work, "host", "sudo-other")
    _write(other, _text("sudo", work))
    for folder in ("host", "fallback"):
        _write(os.path.join(work, folder, "sudo"), _SUDO.replace("{other}", other))
    with open(os.path.join(work, "python", "yaml.py"), "w", encoding="utf-8") as file:
        file.write(_YAML.format(sources=PACKAGE_PLACE, work=work))


def _text(name: str, work: str) -> str:
    if name == "dib-python":
        return _PYTHON.format(python=sys.executable)
    return _PROGRAM.format(python=sys.executable, sources=PACKAGE_PLACE, name=name, work=work)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o755)  # noqa: S103 - every user of the image may run it
