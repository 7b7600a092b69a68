"""ansible: packages are compared with their hashes, and the image's own Ansible gets what the step says."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from provisioner.protocol import ANSIBLE_VERSIONS, IMAGES_ANSIBLE, Ansible
from provisioner.steps.ansible import act
from provisioner.steps.ansible_packages import RELEASES, PythonPackage, fetch_packages, main, release_for
from provisioner.steps.step_context import StepContext, StepError
from provisioner.system.output import StepConsole, StepOutput

PLAYBOOK = """#!/bin/sh
echo "$(basename $0)" "$@" >>{root}/calls
env | grep -E '^(ANSIBLE|TOKEN)' | sort >{root}/environment
for file in "$2" "${{4#@}}"; do cat "$file" >>{root}/calls; echo >>{root}/calls; done
mkdir -p {root}/root/.ansible
{more}
exit {status}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a server that has the files of a folder `served`."""
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def serve(folder: Path, name: str, data: bytes, inside: str = "") -> PythonPackage:
    """Put a file there; return what stands for it."""
    (folder / "served" / name).write_bytes(data)
    return PythonPackage(name, hashlib.sha256(data).hexdigest(), inside)


def wheel() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ansible/__init__.py", "x = 1\n")
    return packed.getvalue()


def sources() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("p-1/lib/yaml/__init__.py", "p-1/lib/yaml/fast.c", "p-1/setup.py"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"y=2\n"))
    return packed.getvalue()


def test_packages_are_unpacked_for_python(tmp_path: Path, server: str) -> None:
    packages = [serve(tmp_path, "a.whl", wheel()), serve(tmp_path, "p.tar.gz", sources(), "p-1/lib/")]
    fetch_packages(packages, str(tmp_path / "made"), server)
    found = sorted(str(path.relative_to(tmp_path / "made")) for path in (tmp_path / "made").rglob("*.*"))
    assert found == ["ansible/__init__.py", "yaml/__init__.py"]


def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path, server: str) -> None:
    package = serve(tmp_path, "a.whl", wheel())
    (tmp_path / "served" / "a.whl").write_bytes(sources())
    with pytest.raises(OSError, match=r"^a\.whl has the SHA-256 .*, and not "):
        fetch_packages([package], str(tmp_path / "made"), server)
    assert list((tmp_path / "made").iterdir()) == []


def test_what_is_not_there_is_told(tmp_path: Path, server: str) -> None:
    with pytest.raises(OSError, match=r"none\.whl: HTTP Error 404"):
        fetch_packages([PythonPackage("none.whl", "0" * 64)], str(tmp_path / "made"), server)


def test_releases_are_those_that_specs_can_name() -> None:
    assert (*RELEASES, IMAGES_ANSIBLE) == ANSIBLE_VERSIONS
    for release, packages in RELEASES.items():
        assert packages[0].name == f"ansible_core-{release}-py3-none-any.whl"
        assert all(len(package.sha256) == 64 for package in packages)
    found = [release_for(python) for python in ((3, 8), (3, 9), (3, 10), (3, 11), (3, 13), (3, 14))]
    assert found == ["", "2.15.13", "2.17.14", "2.18.19", "2.18.19", "2.21.5"]


def test_a_folder_that_cannot_be_made_fails_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "taken").touch()
    assert main(["2.18.19", str(tmp_path / "taken")]) == 1
    assert "taken" in capsys.readouterr().err


def run(root: Path, inputs: Ansible, status: int = 0, more: str = "") -> int:
    """Do the step with the image's own Ansible, which records how it was called."""
    context = root / "work" / "context"
    (context / "play" / "more").mkdir(parents=True)
    for name in ("site.yml", "ansible.cfg", "needs.yml"):
        (context / "play" / name).touch()
    (root / "usr/bin").mkdir(parents=True)
    for name in ("ansible-playbook", "ansible-galaxy"):
        (root / "usr/bin" / name).write_text(PLAYBOOK.format(root=root, status=status, more=more))
        (root / "usr/bin" / name).chmod(0o755)
    output = StepOutput("site", str(root / "log"), StepConsole(os.devnull))
    made = StepContext(str(root), str(context), output, time.monotonic() + 20)
    made.secrets = {"TOKEN": "hidden"}
    return act(inputs, made)


def test_the_images_own_ansible_gets_what_the_step_says(tmp_path: Path) -> None:
    inputs = Ansible("play/site.yml", {"a": "1"}, ("t", "u"), ("v",), ("web",), ("play/more",), None, IMAGES_ANSIBLE)
    assert run(tmp_path, inputs) == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    scratch = tmp_path / "work" / "ansible"
    context = tmp_path / "work" / "context" / "play"
    assert calls[0] == (
        f"ansible-playbook -i {scratch}/inventory.json -e @{scratch}/variables.json --tags t,u --skip-tags v "
        f"{context}/site.yml"
    )
    assert '"children": {"web": {"hosts": {"localhost": {}}}}' in calls[1]
    assert calls[2] == '{"a": "1"}'
    environment = (tmp_path / "environment").read_text().splitlines()
    assert "TOKEN=hidden" in environment
    assert f"ANSIBLE_CONFIG={context}/ansible.cfg" in environment
    assert f"ANSIBLE_ROLES_PATH={scratch}/home/roles:{context}/more" in environment
    assert not scratch.exists()
    assert not (tmp_path / "root" / ".ansible").exists()


def test_the_reason_is_the_task_that_has_failed(tmp_path: Path) -> None:
    """A stand-in for ansible-playbook writes down a failure where Ansible's callback does."""
    failure = tmp_path / "work" / "ansible" / "failure.json"
    inputs = Ansible("play/site.yml", version=IMAGES_ANSIBLE)
    with pytest.raises(StepError, match=r"^the task 'copy' of the playbook has failed: no such file$") as caught:
        run(tmp_path, inputs, status=2, more=f"""echo '["copy", "no such file"]' >{failure}""")
    assert caught.value.status == 2
    assert not failure.parent.exists()


def test_requirements_that_fail_end_the_step(tmp_path: Path) -> None:
    inputs = Ansible("play/site.yml", requirements="play/needs.yml", version=IMAGES_ANSIBLE)
    assert run(tmp_path, inputs, status=7) == 7
    assert [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines() if "ansible-" in line] == [
        "ansible-galaxy"
    ]


def test_an_image_without_ansible_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "site.yml").touch()
    output = StepOutput("site", str(tmp_path / "log"), StepConsole(os.devnull))
    context = StepContext(str(tmp_path), str(tmp_path / "context"), output, time.monotonic() + 20)
    with pytest.raises(StepError, match="has no ansible-playbook; install ansible-core by a step before"):
        act(Ansible("site.yml", version=IMAGES_ANSIBLE), context)
    assert not (tmp_path / "ansible").exists()
