"""Commands that see the owners of a tree's files as they will be in the image.

As root they just run. Otherwise they run in the user namespace that mmdebstrap makes (subordinate ids from /etc/subuid
become root and the rest), where this user's own files have no owner: what such a command reads or writes outside
of the tree must be open to all users, or handed over as a descriptor.
"""

from __future__ import annotations

import os
from pathlib import Path

from ...host.programs import find_tool, run_tool


def as_owner(program: str, *arguments: str | Path) -> list[str | Path]:
    """Return the command that runs a program so. Raises MissingTool."""
    namespace: list[str | Path] = [] if os.geteuid() == 0 else ["mmdebstrap", "--unshare-helper"]
    return [*namespace, find_tool(program), *arguments]


def remove_tree(folder: Path) -> None:
    """Remove a scratch folder and the tree in it, if there is one. Never crosses into another file system."""
    tree = folder / "tree"
    if tree.is_dir():
        run_tool(as_owner("find", tree, "-xdev", "-mindepth", "1", "-delete"))
    run_tool(["rm", "-rf", "--one-file-system", folder])
