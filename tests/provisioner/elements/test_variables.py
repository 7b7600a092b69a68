"""The variables of scripts: what an image says about itself, and what a spec sets."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from provisioner.elements.model import Element
from provisioner.elements.variables import root_label, script_variables
from provisioner.protocol import ELEMENTS_OWN

REFERENCE = (
    "ARCH IMAGE_NAME IMAGE_ELEMENT IMAGE_ELEMENT_YAML ELEMENTS_PATH TMP_MOUNT_PATH TMP_HOOKS_PATH TMP_BUILD_DIR "
    "TMP_IMAGE_DIR FS_TYPE LC_ALL DISTRO_NAME DIB_RELEASE DIB_ROOT_LABEL DIB_ROOT_FSTYPE DIB_MOUNTPOINTS DIB_ENV "
    "DIB_ARGS DIB_OFFLINE DIB_IMAGE_CACHE DIB_PYTHON_EXEC"
)
FSTAB = """# a comment
LABEL=top / xfs defaults 0 1
UUID=AB-CD /boot/efi vfat umask=0077 0 1
LABEL=kernels /boot ext4 defaults 0 2
tmpfs /tmp tmpfs size=1g 0 0
"""


def variables(root: Path, **own: str) -> dict[str, str]:
    elements = [Element("base", "/e/base", (), ()), Element("app", "/e/app", (), ())]
    return script_variables(elements, ["/e", "/f"], ["app"], str(root), "/work", own)


def image(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_scripts_see_what_the_reference_page_lists(tmp_path: Path) -> None:
    found = variables(tmp_path)
    assert set(REFERENCE.split()) <= set(found)
    assert found["IMAGE_ELEMENT"] == "base app"
    assert json.loads(found["IMAGE_ELEMENT_YAML"]) == {"base": "/e/base", "app": "/e/app"}
    assert (found["ELEMENTS_PATH"], found["DIB_ARGS"], found["DIB_ENV"]) == ("/e:/f", "app", "")
    assert found["DIB_PYTHON_EXEC"] == sys.executable
    assert found["TMP_HOOKS_PATH"] == "/work/hooks"
    assert set(ELEMENTS_OWN) <= set(found)


@pytest.mark.parametrize(
    ("release", "told"),
    [
        ('ID=debian\nVERSION_CODENAME=bookworm\nVERSION_ID="12"\n', ("debian", "bookworm")),
        ('ID=ubuntu\nVERSION_CODENAME=jammy\nVERSION_ID="22.04"\n', ("ubuntu", "jammy")),
        ('ID="rocky"\nVERSION_ID="9.3"\n', ("rocky", "9.3")),
        ("ID=fedora\nVERSION_ID=39\n", ("fedora", "39")),
        ('ID="opensuse-leap"\nVERSION_ID="15.5"\n', ("opensuse", "15.5")),
    ],
)
def test_an_image_says_which_distribution_it_is(tmp_path: Path, release: str, told: tuple[str, str]) -> None:
    image(tmp_path, etc__os_release=release)
    found = variables(tmp_path)
    assert (found["DISTRO_NAME"], found["DIB_RELEASE"]) == told
    assert variables(tmp_path, DIB_RELEASE="x", TMP_HOOKS_PATH="y")["DIB_RELEASE"] == "x"
    assert variables(tmp_path, TMP_HOOKS_PATH="y")["TMP_HOOKS_PATH"] == "/work/hooks"


def test_file_systems_and_programs_are_looked_at(tmp_path: Path) -> None:
    image(tmp_path, etc__fstab=FSTAB, usr__lib__systemd__systemd="", usr__bin__python3="")
    found = variables(tmp_path)
    assert found["DIB_MOUNTPOINTS"] == "/|/boot/efi|/boot"
    assert (found["DIB_ROOT_FSTYPE"], found["FS_TYPE"]) == ("xfs", "xfs")
    assert (found["DIB_ROOT_LABEL"], found["DIB_BOOT_LABEL"], root_label(str(tmp_path))) == ("top", "kernels", "top")
    assert (found["DIB_INIT_SYSTEM"], found["DIB_PYTHON_VERSION"]) == ("systemd", "3")
    bare = variables(tmp_path / "bare")
    assert (bare["DIB_ROOT_FSTYPE"], bare["DIB_MOUNTPOINTS"]) == ("ext4", "/")
    assert {"DIB_INIT_SYSTEM", "DIB_PYTHON_VERSION"}.isdisjoint(bare)
