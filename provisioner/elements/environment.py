"""The environment of scripts: the variables that they get, changed by the files of environment.d, which bash reads.

It is made anew before each phase. bash also makes the functions that scripts call by name, and exports them: that they
travel in variables is bash's own affair.
"""

from __future__ import annotations

import os
import shlex

from ..system.files import read_text
from .model import ElementsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Callable, Dict, List

    from .model import Element

ENVIRONMENT_LIMIT = 4 << 20  # bytes: no program can be given more
_OF_THE_SHELL = ("_", "OLDPWD", "PWD", "SHLVL")

_FUNCTIONS = r"""
# Print a message and end the script, with the status of the command before if that failed.
die() {
    local status=$?
    { set +x; } 2>/dev/null
    printf '%s\n' "$*"
    exit "$((status ? status : 1))"
}

# Unmount all that is mounted below a folder, the deepest first, but for what DIB_MOUNTPOINTS names.
unmount_dir() {
    local folder place kept keep=()
    if [ ! -d "$1" ]; then
        printf '*** %s is not a directory\n' "$1"
        return 0
    fi
    folder=$(readlink -e "$1")
    IFS='|' read -ra keep <<<"${DIB_MOUNTPOINTS:-}" || true
    while read -r place; do
        for kept in "${keep[@]:-}"; do
            if [ -n "$kept" ] && [ "$kept" != / ] && [ "$place" = "$folder$kept" ]; then
                continue 2
            fi
        done
        umount -fl "$place" || true
    done < <(awk -v below="$folder/" 'index($2, below) == 1 {print $2}' /proc/self/mounts | LC_ALL=C sort -r)
}

get_image_element_array() {
    printf '%s\n' @ARRAY@
}

export -f die unmount_dir get_image_element_array
"""
_READ = r"""
set -eu
set -o pipefail
_goldsmith_told=$1
shift
for _goldsmith_file; do
    printf '%s' "$_goldsmith_file" >"$_goldsmith_told.now"
    [ "${DIB_DEBUG_TRACE:-0}" = 0 ] || set -x
    source "$_goldsmith_file"
    { set +x; } 2>/dev/null
done
command env -0 >"$_goldsmith_told"
"""


def array_of(elements: Iterable[Element]) -> str:
    """Return `[name]=folder ...`, as bash takes the contents of an array."""
    return " ".join(f"[{element.name}]={shlex.quote(element.folder)}" for element in elements)


def source_environment(
    files: Sequence[str],
    array: str,
    told: str,
    command: Sequence[str],
    run: Callable[[List[str]], int],
    owners: Mapping[str, str],
) -> Dict[str, str]:
    """Return the variables after bash has read some files. ElementsError names the file that it failed at.

    `command` starts bash, `run` runs a command in the environment as it is before, `told` is a file that both this
    process and bash know by this name, and `owners` are the elements that files come from.
    """
    script = _FUNCTIONS.replace("@ARRAY@", shlex.quote(array)) + _READ
    try:
        for path in (told, told + ".now"):
            if os.path.lexists(path):
                os.unlink(path)
        status = run([*command, "-c", script, "elements", told, *files])
        at, found = _read(told + ".now") or "bash", _read(told)
        at += f" of element {owners[at]}" if at in owners else ""
    except OSError as error:  # what a script has put in their place
        raise ElementsError(
            [f"{error.filename or told}: {error.strerror}; leave the build's own folder alone"]
        ) from error
    if status:
        raise ElementsError([f"{at}: exit status {status}; correct it, or leave it out"])
    if not found:
        raise ElementsError([f"{at}: ends the shell that reads it; write return where it says exit"])
    return variables_of(found)


def variables_of(text: str) -> Dict[str, str]:
    """Return the variables in the output of env -0."""
    pairs = (entry.partition("=") for entry in text.split("\0") if "=" in entry)
    return {name: value for name, _, value in pairs if name not in _OF_THE_SHELL}


def _read(path: str) -> str:
    """Read what bash has told; "" where it told nothing. OSError."""
    try:
        return read_text(path, ENVIRONMENT_LIMIT)
    except FileNotFoundError:
        return ""
