"""The code that a step's result depends on: a part of the keys of layers.

    provisioner/                 but for what only reports, or runs after the last step
    shared/sandbox/              chroot engine: what runs inside of a sandbox, and what its root is mounted of
    shared/machines/direct_boot  VMs that are booted directly: what is on their disk for the boot, and runs in them

Code of the host, such as commands, workers and the lifecycle, is not among it: a new version of it uses the layers of
the one before. A file of these folders counts unless it is named here, so that a new one is never left out by mistake.
How layers are kept and applied has a version of its own, FORMAT in shared/cache/step_keys.py.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...errors import EnvironmentFault
from ...machines.machines import CHROOT

TREE = Path(__file__).resolve().parents[3]
PROVISIONER, SANDBOX, DIRECT_BOOT = "provisioner", "shared/sandbox", "shared/machines/direct_boot"
NOT_OF_STEPS = frozenset(
    {
        *(f"{PROVISIONER}/hygiene/{name}.py" for name in ("known_values", "rules", "self_check")),
        *(f"{PROVISIONER}/hygiene/{name}.py" for name in ("secret_shapes", "secret_values")),
        *(f"{PROVISIONER}/job/{name}.py" for name in ("ask", "hold", "inventory")),
        *(f"{PROVISIONER}/machine/{name}.py" for name in ("clean_machine", "system_checks")),
        *(f"{PROVISIONER}/reporting/{name}.py" for name in ("publisher", "report_port", "reports", "script_facts")),
        f"{PROVISIONER}/steps/check_image.py",  # of verification
        *(f"{SANDBOX}/{name}.py" for name in ("limits", "supervisor")),
        *(f"{SANDBOX}/roots/{name}.py" for name in ("file_system_settings", "inode_fields", "write_root")),
        *(f"{DIRECT_BOOT}/{name}.py" for name in ("kernel_image", "packed_data")),
    }
)
_BYTE_CODE = "__pycache__"


def code_of_steps(engine: str, boot: str, tree: Path) -> str:
    """Return the digest of the code that shapes what steps leave on a disk. EnvironmentFault.

    `engine` and `boot` are a plan's machine's; `tree` is the folder of our packages.
    """
    folders = [PROVISIONER]
    if engine == CHROOT:
        folders.append(SANDBOX)
    elif boot == "direct":
        folders.append(DIRECT_BOOT)
    digest = hashlib.sha256()
    for name in (name for folder in folders for name in _files(tree, folder)):
        try:
            data = (tree / name).read_bytes()
        except OSError as error:
            what = f"{tree / name}: {error.strerror}; the installation is incomplete: fetch it again"
            raise EnvironmentFault(what) from error
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def _files(tree: Path, folder: str) -> list[str]:
    """Return the names of a folder's files that count, sorted, as seen from `tree`."""
    paths = (path for path in (tree / folder).rglob("*") if _BYTE_CODE not in path.parts and path.is_file())
    return sorted({path.relative_to(tree).as_posix() for path in paths} - NOT_OF_STEPS)
