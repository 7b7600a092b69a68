"""install-gpu: the script that stays in the image, run for real with a docker that only records its calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from provisioner.protocol import STEP_FINISHED, InstallGpu, Step
from provisioner.steps.install_gpu import driver_version, served, setup_script
from provisioner.steps.step_context import StepContext, StepError, act
from provisioner.system.output import StepConsole, StepOutput
from tests.provisioner.provisioning import Provisioning, job

INSTALLER = "NVIDIA-Linux-x86_64-450.51.06.run"
DOCKER = """#!{python}
import json, os, sys, urllib.request
from pathlib import Path
place = Path({place!r})
shared = place / "docker.json"
plan = json.loads((place / "plan.json").read_text())
if "--format" in sys.argv:
    print("\\n".join(plan["digests"]))
    sys.exit(not plan["digests"])
call = {{"arguments": sys.argv[1:], "environment": dict(os.environ), "downloads": {{}}}}
folder = Path(os.environ["NVIDIA_INSTALL_DIR_HOST"])
if sys.argv[1] == "run":
    for name in ("COS_DOWNLOAD_GCS", "GPU_INSTALLER_DOWNLOAD_URL"):
        url = os.environ.get(name, "") + ("/BUILD/toolchain_env" if name == "COS_DOWNLOAD_GCS" else "")
        if url.startswith("http"):
            call["downloads"][name] = urllib.request.urlopen(url).read().decode()
    (folder / "nvidia-installer.log").write_text("what the installer wrote\\n")
    for program in ("nvidia-smi", "nvidia-persistenced"):
        (folder / "bin").mkdir(exist_ok=True)
        text = f"#!/bin/sh\\necho {{program}} $@ >>{place}/started\\nexit {{plan[program]}}\\n"
        (folder / "bin" / program).write_text(text)
        (folder / "bin" / program).chmod(0o755)
with open(place / "calls", "a") as file:
    file.write(json.dumps(call) + "\\n")
statuses = plan[" ".join(sys.argv[1:3]) if sys.argv[1] == "image" else sys.argv[1]]
calls = [json.loads(line)["arguments"][0] for line in open(place / "calls")]
sys.exit(statuses[min(calls.count(sys.argv[1]), len(statuses)) - 1])
"""
QUIET = """
    [ -e $0/panic ] || echo 0 >$0/panic
    mount --bind $0/panic /proc/sys/kernel/softlockup_panic || exit 99
    PATH=$0/bin:$PATH exec "$@"
"""
FOUND = """
    echo 0 >$0/panic; mount --bind $0/panic /proc/sys/kernel/softlockup_panic || exit 99
    mount --bind $0/bin /usr/local/sbin || exit 99
    exec "$@"
"""
OLD, NEW = "sha256:" + "01" * 32, "sha256:" + "ef" * 32


class Namespace(StepContext):
    """A context whose programs have their own mounts, and find the test's programs first."""

    def run(self, argv: list[str], env: Mapping[str, str]) -> int:
        unshared = ["/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", QUIET]
        return super().run([*unshared, str(Path(self.root).parent), *argv], env)


@dataclass
class Place:
    """A root, a context, an install folder, and the answers of its programs."""

    path: Path

    def __post_init__(self) -> None:
        self.root, self.context, self.nvidia = self.path / "root", self.path / "context", self.path / "nvidia"
        for folder in (self.root, self.context, self.nvidia, self.path / "bin"):
            folder.mkdir()
        self.program("docker", DOCKER.format(python=sys.executable, place=str(self.path)))
        for name, status in {"pgrep": 1, "sleep": 0, "journalctl": 0}.items():
            self.program(name, f"#!/bin/sh\necho {name} $@ >>{self.path}/started\nexit {status}\n")
        self.set_answers()

    def program(self, name: str, text: str) -> None:
        """Make a program."""
        (self.path / "bin" / name).write_text(text)
        (self.path / "bin" / name).chmod(0o755)

    def set_answers(self, **statuses: Any) -> None:
        """Set the exit statuses of docker and the driver's programs; in a list, one for each call."""
        plan = {"pull": [0], "run": [0], "image inspect": [1], "nvidia-smi": 0, "nvidia-persistenced": 0, "digests": []}
        (self.path / "plan.json").write_text(json.dumps({**plan, **statuses}))

    def install(self, **inputs: Any) -> tuple[int, str]:
        """Do the step; return its status and its output."""
        output = StepOutput("gpu", str(self.path / "log"), StepConsole(os.devnull))
        context = Namespace(str(self.root), str(self.context), output, time.monotonic() + 60)
        given = {"version": "535.104.05", "install_dir": str(self.nvidia), **inputs}
        status = act(Step("gpu", "install-gpu", given), context)
        self.note = context.note
        return status, output.tail.decode()

    def calls(self) -> list[dict[str, Any]]:
        """Return docker's calls."""
        return [json.loads(line) for line in (self.path / "calls").read_text().splitlines()]

    def other_calls(self) -> list[str]:
        """Return the other programs' calls."""
        return (self.path / "started").read_text().splitlines()

    def script(self) -> Path:
        """Return the path of the script."""
        return Path(f"{self.root}{self.nvidia}/setup_gpu.sh")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_installer_gets_what_it_needs(place: Place) -> None:
    """install-gpu -version, -md5sum, -install-dir, -installer-container: environment, mounts and order of calls."""
    status, output = place.install(md5sum="ab" * 16, installer_container="gcr.io/x/installer:1")
    assert status == 0, output
    pull, run = place.calls()
    assert pull["arguments"] == ["pull", "gcr.io/x/installer:1"]
    options = "run --rm --privileged --net=host --pid=host"
    volumes = f"--volume {place.nvidia}:/usr/local/nvidia --volume /dev:/dev --volume /:/root"
    names = (
        *("NVIDIA_DRIVER_VERSION", "NVIDIA_DRIVER_MD5SUM", "NVIDIA_INSTALL_DIR_HOST", "COS_NVIDIA_INSTALLER_CONTAINER"),
        *("NVIDIA_INSTALL_DIR_CONTAINER", "ROOT_MOUNT_DIR", "COS_DOWNLOAD_GCS", "GPU_INSTALLER_DOWNLOAD_URL"),
    )
    passed = " ".join(f"-e {name}" for name in names)
    assert " ".join(run["arguments"]) == f"{options} {volumes} {passed} gcr.io/x/installer:1"
    assert {name: run["environment"].get(name) for name in names} == {
        "NVIDIA_DRIVER_VERSION": "535.104.05",
        "NVIDIA_DRIVER_MD5SUM": "ab" * 16,
        "NVIDIA_INSTALL_DIR_HOST": str(place.nvidia),
        "COS_NVIDIA_INSTALLER_CONTAINER": "gcr.io/x/installer:1",
        "NVIDIA_INSTALL_DIR_CONTAINER": "/usr/local/nvidia",
        "ROOT_MOUNT_DIR": "/root",
        "COS_DOWNLOAD_GCS": None,
        "GPU_INSTALLER_DOWNLOAD_URL": None,
    }
    assert place.other_calls() == ["nvidia-smi", "pgrep -f nvidia-persistenced", "nvidia-persistenced --verbose"]
    assert (place.path / "panic").read_text() == "1\n"


def test_the_script_stays_and_is_a_good_one(place: Place) -> None:
    """install-gpu -install-dir: setup_gpu.sh (mode 0744) stays there, and works without the build at every boot."""
    place.install()
    assert place.script().stat().st_mode & 0o7777 == 0o744
    subprocess.run(["shellcheck", str(place.script())], check=True)
    assert "/mnt/disks" not in place.script().read_text()
    assert os.path.ismount(place.nvidia) is False  # the namespace's mount is gone with it


def test_odd_values_are_only_values() -> None:
    text = setup_script(InstallGpu("1'; reboot; '", "$(reboot)", "/a b/`reboot`", 'x"y\\'))
    asked = 'printf "%s\\n" "$NVIDIA_DRIVER_VERSION" "$NVIDIA_DRIVER_MD5SUM" "$NVIDIA_INSTALL_DIR_HOST"'
    head = text.partition("tries=10")[0]
    told = subprocess.run(["bash", "-c", head + asked], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert told.splitlines() == ["1'; reboot; '", "$(reboot)", "/a b/`reboot`"]


def test_a_pull_is_tried_ten_times(place: Place) -> None:
    """install-gpu: pulls the installer container (10 tries)."""
    place.set_answers(pull=[1] * 9 + [0])
    assert place.install()[0] == 0
    assert [call["arguments"][0] for call in place.calls()] == ["pull"] * 10 + ["run"]
    assert place.other_calls().count("sleep 2") == 9


def test_a_container_that_cannot_be_pulled_fails_the_step(place: Place) -> None:
    place.set_answers(pull=[1])
    status, output = place.install()
    assert status == 1
    assert "cannot be pulled; see that this machine reaches its registry" in output
    assert [call["arguments"][0] for call in place.calls()] == ["pull"] * 10 + ["image"]


def test_a_boot_without_network_goes_on_with_the_container_that_is_there(place: Place) -> None:
    place.set_answers(pull=[1], **{"image inspect": [0]})
    assert place.install()[0] == 0
    assert place.calls()[-1]["arguments"][0] == "run"


@pytest.mark.parametrize(
    ("container", "digests", "told"),
    [
        (f"gcr.io/x/i@{NEW}", [], f"gcr.io/x/i@{NEW}"),
        ("gcr.io/x/i:1", [f"gcr.io/x/i@{NEW}"], f"gcr.io/x/i@{NEW}"),
        ("r.example:5000/i", [f"gcr.io/x/i@{OLD}", f"r.example:5000/i@{NEW}"], f"r.example:5000/i@{NEW}"),
        ("docker.io/x/i:1", [f"x/i@{NEW}"], f"x/i@{NEW}"),
        (
            "gcr.io/x/i:1",
            ["<none>", "gcr.io/x/i@sha256:12", "x" * 70000],
            "gcr.io/x/i:1, whose digest docker does not know",
        ),
        ("gcr.io/x/i:1", [], "gcr.io/x/i:1, whose digest docker does not know"),
    ],
)
def test_the_container_that_ran_is_noted_by_its_digest(
    place: Place, container: str, digests: list[str], told: str
) -> None:
    place.set_answers(digests=digests)
    status, output = place.install(installer_container=container)
    assert status == 0, output
    assert place.note == f"installer container: {told}"
    assert [call["arguments"][-1] for call in place.calls()] == [container] * 2


def test_the_note_is_in_the_steps_report(place: Place) -> None:
    place.set_answers(digests=[f"gcr.io/x/i@{NEW}"])
    inputs = {"version": "535.104.05", "install_dir": str(place.nvidia), "installer_container": "gcr.io/x/i:1"}
    within = ["/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", FOUND, str(place.path)]
    machine = Provisioning(place.path / "m", job(Step("gpu", "install-gpu", inputs)), within=within)
    ended = machine.run()
    assert ended.status == 0, ended.console
    [finished] = [report for report in machine.reports() if report.kind == STEP_FINISHED]
    assert finished.message == f"installer container: gcr.io/x/i@{NEW}"


def test_a_failed_installer_shows_its_log(place: Place) -> None:
    place.set_answers(run=[5])
    status, output = place.install()
    assert status == 1
    assert "what the installer wrote" in output
    assert "the installer of driver 535.104.05 failed" in output


@pytest.mark.parametrize(
    ("program", "told"), [("nvidia-smi", "finds no working GPU"), ("nvidia-persistenced", "does not start")]
)
def test_a_driver_that_does_not_work_fails_the_step(place: Place, program: str, told: str) -> None:
    """install-gpu: runs nvidia-smi and starts nvidia-persistenced, and that counts."""
    place.set_answers(**{program: 9})
    status, output = place.install()
    assert status == 1
    assert told in output


def test_dependencies_are_a_download_location(place: Place) -> None:
    """install-gpu -version=NVIDIA-Linux-...run -deps-dir: its regular files are offered to the installer."""
    deps = place.context / "deps"
    deps.mkdir()
    (deps / INSTALLER).write_text("the driver")
    (deps / "toolchain_env").write_text("CC=gcc")
    status, output = place.install(version=INSTALLER, deps_dir="deps")
    assert status == 0, output
    run = place.calls()[-1]
    assert run["environment"]["NVIDIA_DRIVER_VERSION"] == "450.51.06"
    assert run["downloads"] == {"COS_DOWNLOAD_GCS": "CC=gcc", "GPU_INSTALLER_DOWNLOAD_URL": "the driver"}
    with pytest.raises(OSError, match="refused"):  # the server is gone with the step
        urlopen(run["environment"]["GPU_INSTALLER_DOWNLOAD_URL"])


def test_only_regular_files_are_offered(tmp_path: Path) -> None:
    """install-gpu -deps-dir: its regular files, nothing else."""
    folder = tmp_path / "deps"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "inner/deep").write_text("deep")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "file").write_text("file")
    with served(str(folder)) as url:
        with urlopen(Request(f"{url}/17162.40.5/file?x=1", method="HEAD")) as answer:
            assert (answer.headers["Content-Length"], answer.read()) == ("4", b"")
        for name in ("link", "inner", "inner/deep", "absent", "../secret", "%2e%2e/secret", ""):
            with pytest.raises(HTTPError, match="404"):
                urlopen(f"{url}/{name}")


@pytest.fixture
def scratch(place: Place) -> Iterator[Path]:
    """A scratch disk."""
    folder = place.root / "mnt/disks/scratch"
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_the_toolchain_goes_to_the_scratch_disk(place: Place, scratch: Path) -> None:
    """install-gpu: a toolchain directory on the scratch disk is bind-mounted, while building only."""
    (scratch / "toolchain").mkdir()
    (scratch / "toolchain/half").write_text("what an interrupted try left")
    assert place.install()[0] == 0
    assert f"{scratch}/toolchain:/build/cos-tools" in place.calls()[-1]["arguments"]
    assert list((scratch / "toolchain").iterdir()) == []
    assert "/build/cos-tools" in place.script().read_text()
    assert str(scratch) not in place.script().read_text()


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("535.104.05", "535.104.05"),
        (INSTALLER, "450.51.06"),
        ("NVIDIA-Linux-aarch64-535.104.05.run", "535.104.05"),
        ("NVIDIA-Linux-x86_64-470.82.01-grid.run", "470.82.01"),
    ],
)
def test_the_version_is_in_an_installers_name(name: str, version: str) -> None:
    """install-gpu -version: a driver version, or NVIDIA-Linux-x86_64-450.51.06.run."""
    assert driver_version(name) == version


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        (
            {"version": "driver.run"},
            "is not an NVIDIA installer, whose name is NVIDIA-Linux-ARCHITECTURE-VERSION.run",
        ),
        ({"version": INSTALLER}, "name the folder that holds it: deps_dir"),
        ({"version": INSTALLER, "deps_dir": "deps"}, f"'deps/{INSTALLER}' is not in the context"),
        ({"deps_dir": "absent"}, "'absent' is not in the context"),
        ({"deps_dir": "../.."}, "leads out of the context"),
    ],
)
def test_what_cannot_be_installed_is_told(place: Place, inputs: dict[str, str], why: str) -> None:
    """install-gpu -deps-dir: required with an installer's name, and must hold it."""
    (place.context / "deps").mkdir()
    with pytest.raises(StepError, match=why):
        place.install(**inputs)
    assert not (place.path / "calls").exists()
