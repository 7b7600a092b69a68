"""All elements of diskimage-builder are understood here as its own code understands them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from provisioner.elements.documents import DOCUMENTS, install_entries, is_wanted, mapped_packages
from provisioner.elements.hooks import HOOK_PHASES, merge_hooks
from provisioner.elements.model import ElementsError, expand_elements, find_elements
from tests.provisioner.elements.element_folders import ORIGINAL, PACKAGE
from tests.provisioner.elements.original_programs import ask_original

pytestmark = pytest.mark.slow

FOLDERS = find_elements([str(ORIGINAL)])
NAMES = sorted(FOLDERS.by_name)
SYSTEMS = ("debian-minimal", "ubuntu-minimal", "fedora", "centos", "opensuse", "rocky-container", "gentoo")
SETS = (
    ["debian-minimal", "vm", "block-device-mbr", "growroot", "cloud-init-datasources", "devuser"],
    ["ubuntu-minimal", "vm", "block-device-efi", "openssh-server", "runtime-ssh-host-keys", "simple-init"],
    ["debian", "vm", "block-device-gpt", "pip-and-virtualenv", "source-repositories", "install-static", "local-config"],
    ["fedora", "vm", "block-device-efi", "dhcp-all-interfaces", "dynamic-login", "fail2ban", "fips"],
    ["rocky-container", "grub2", "iscsi-boot", "svc-map", "select-boot-kernel-initrd", "dkms", "posix"],
)


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, object]]:
    return {
        name: {
            file: yaml.safe_load(text.read_text()) for file in DOCUMENTS if (text := ORIGINAL / name / file).is_file()
        }
        for name in NAMES
    }


def ours(names: list[str]) -> list[str] | None:
    try:
        return sorted(element.name for element in expand_elements(names, FOLDERS))
    except ElementsError:
        return None


def as_its_command_asks(names: list[str]) -> list[str]:
    """Its command line takes a usual disk for an image of `vm`; what expands the names does not."""
    lacks_disk = "vm" in names and not any(name.startswith("block-device-") for name in names)
    return [*names, "block-device-mbr"] if lacks_disk else names


def test_the_same_elements_belong_to_an_image() -> None:
    more: tuple[list[str], ...] = ([], ["debian-minimal"], ["ubuntu-minimal", "block-device-mbr"])
    asked = [[name, *others] for name in NAMES for others in more if name not in others]
    asked += [[system, "vm", disk] for system in SYSTEMS for disk in NAMES if disk.startswith("block-device")]
    answers = ask_original([{"ask": "elements", "names": as_its_command_asks(names)} for names in asked])
    differing = {
        " ".join(names): (answer, found)
        for names, answer in zip(asked, answers, strict=True)
        if (found := ours(names)) != (None if isinstance(answer, str) else answer)
    }
    assert list(differing.items()) == []
    assert sum(not isinstance(answer, str) for answer in answers) > 200


@pytest.mark.parametrize("names", SETS, ids=" ".join)
def test_hooks_run_in_the_same_order(names: list[str], tmp_path: Path) -> None:
    """Its dib-run-parts lists what it would run in a folder of merged hooks."""
    tree = merge_hooks(expand_elements(names, FOLDERS))
    for file in tree.files:
        target = tmp_path / file.folder / file.name
        target.parent.mkdir(exist_ok=True)
        if Path(file.path).is_dir():
            shutil.copytree(file.path, target, dirs_exist_ok=True)
        else:
            shutil.copy2(file.path, target)
    for phase in HOOK_PHASES:
        if (tmp_path / phase).is_dir():
            listed = subprocess.run(
                [PACKAGE / "diskimage_builder" / "lib" / "dib-run-parts", "--list", tmp_path / phase],
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()
            assert [Path(line).name for line in listed] == [hook.name for hook in tree.phases[phase]]
    assert sum(map(len, tree.phases.values())) > 15


@pytest.mark.parametrize("names", SETS, ids=" ".join)
def test_the_same_packages_are_asked_for(names: list[str], documents: dict[str, dict[str, object]]) -> None:
    elements = [element.name for element in expand_elements(names, FOLDERS)]
    base = {"DIB_UBUNTU_KERNEL": "linux-image-generic", "DIB_SIMPLE_INIT_NETWORKMANAGER": "0", "DISTRO_NAME": "debian"}
    environments = [
        {**base, "ARCH": arch, "DIB_RELEASE": "bookworm", "DIB_PYTHON_VERSION": python, "DIB_DEFAULT_INSTALLTYPE": kind}
        for arch in ("amd64", "arm64")
        for python, kind in (("3", "source"), ("2", "package"))
    ]
    answers = ask_original([{"ask": "packages", "names": elements, "environment": each} for each in environments])
    for environment, answer in zip(environments, answers, strict=True):
        wanted = [each for each in install_entries(documents, elements) if is_wanted(each, environment)]
        found: dict[str, dict[str, list[list[str]]]] = {}
        for entry in wanted:
            lists = found.setdefault(entry.phase, {})
            lists.setdefault("uninstall" if entry.uninstall else "install", []).append([entry.package, entry.element])
        kept = {phase: {key: sorted(each) for key, each in lists.items() if each} for phase, lists in answer.items()}
        assert {phase: {key: sorted(each) for key, each in lists.items()} for phase, lists in found.items()} == {
            phase: lists for phase, lists in kept.items() if lists
        }


def test_packages_have_the_same_names(documents: dict[str, dict[str, object]]) -> None:
    systems = [("debian", "bookworm"), ("ubuntu", "noble"), ("fedora", "41"), ("centos", "9-stream"), ("rocky", "9")]
    systems += [("opensuse", "15.5"), ("gentoo", ""), ("centos", "8-stream")]
    questions = []
    for name in NAMES:
        if "pkg-map" in documents[name]:
            text = json.dumps(documents[name]["pkg-map"])
            packages = [*dict.fromkeys(part for part in text.split('"')[1::2] if part.split() == [part]), "unknown"]
            questions += [(name, distro, release, packages) for distro, release in systems]
    asked = [
        {"file": str(ORIGINAL / name / "pkg-map"), "distro": distro, "release": release, "names": names}
        for name, distro, release, names in questions
    ]
    answers = ask_original([{"ask": "mapped", **question} for question in asked])
    for (name, distro, release, names), answer in zip(questions, answers, strict=True):
        found = [
            (package,) if mapped is None else mapped
            for package in names
            for mapped in [mapped_packages(documents[name]["pkg-map"], distro, release, package)]
        ]
        assert [" ".join(each) for each in found if each] == answer
    assert len(questions) > 200
