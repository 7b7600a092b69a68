"""Elements of diskimage-builder, unmodified, in a sandbox: what they make of the image, and what is left of them."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.disks.disk import Disk
from shared.disks.root_files import RootFiles
from tests.provisioner.elements.element_folders import ORIGINAL, element
from tests.shared.sandbox.ordinary_user import MODES
from tests.system.command import Document, Goldsmith
from tests.system.sandboxes import assert_nothing_left, sandboxed, wait_for_no_group, wait_for_no_mount

pytestmark = pytest.mark.slow
BAD_INPUT = 2
KILLS = int(os.environ.get("GOLDSMITH_KILLS", "2"))
CLEANED = ("05-undo", "10-fails", "20-runs")

CHOSEN = (
    *("app", "apt-conf", "apt-preferences", "apt-sources", "cache-url", "cloud-init-datasources"),
    *("cloud-init-disable-resizefs", "cloud-init-nocloud", "devuser", "dib-init-system", "dib-python", "dynamic-login"),
    *("element-manifest", "growroot", "install-static", "install-types", "journal-to-console", "local-config"),
    *("manifests", "modprobe", "openssh-server", "package-installs", "pkg-map", "runtime-ssh-host-keys"),
    *("source-repositories", "stable-interface-names", "svc-map", "sysctl", "sysprep"),
)
PHASES = ("pre-install.d", "install.d", "post-install.d", "finalise.d")
SAY = '#!/bin/bash\nset -eu\necho "{phase} $PWD $HOME $MY_NAME" >>/var/lib/app\n'
HOST = """#!/bin/bash
set -eu
[ "$HOME" != /root ] && [ ! -e /tmp/of-the-image ] && [ "$TARGET_ROOT" = "$TMP_MOUNT_PATH" ]
touch "$TMP_MOUNT_PATH/tmp/of-the-image"
touch /tmp/of-the-host
echo '#!/bin/bash
echo "made $(basename "$0") $(sudo -u nobody id -un)" >>/var/lib/app' >"$TMP_HOOKS_PATH/install.d/45-made"
chmod +x "$TMP_HOOKS_PATH/install.d/45-made"
"""
INSTALL = """#!/bin/bash
set -eu
eval declare -A elements=($(get_image_element_array))
ls /tmp/in_target.d/install.d >/dev/null
[ -e /tmp/of-the-image ] && [ ! -e /tmp/of-the-host ]
! touch /tmp/in_target.d/mine 2>/dev/null
{
    env | cut -d= -f1
    for word in pkg-map svc-map dib-run-parts element-info package-installs-v2 map-packages map-services dib-python; do
        echo "program $(command -v "$word")"
    done
    echo "service $(svc-map web) package $(pkg-map --element app thing)"
    echo "array ${elements[app]##*/}"
    sysctl-set-value vm.swappiness 10
} >/var/lib/seen
mount -t tmpfs own /mnt
touch /mnt/hidden
"""
UNMOUNT = '#!/bin/bash\nset -eu\n[ -e "$TARGET_ROOT/mnt/hidden" ]\nunmount_dir "$TARGET_ROOT"/mnt\n'
ENABLE = """#!/bin/sh
set -eu
systemctl start nothing.service
systemctl enable app.service
systemctl start app.service
! systemctl enable --now app.service
"""
MANAGER = '#!/bin/bash\nset -eu\nprintf "%s\\n" "$*" >>/var/lib/installed\n'


def own_elements(folder: Path) -> None:
    """Make the elements of the tests."""
    with tarfile.open(folder.parent / "source.tar.gz", "w:gz") as archive:
        (folder.parent / "file").write_text("from a tar")
        archive.add(folder.parent / "file", "top-1.0/file")
    files = {
        **{f"{phase}/50-app": SAY.format(phase=phase) for phase in PHASES},
        "extra-data.d/50-app": HOST,
        "install.d/51-look": INSTALL,
        "post-root.d/50-unmounts": UNMOUNT,
        "install.d/99-z-last": "#!/bin/sh\necho last >>/var/lib/installed\n",
        "post-install.d/10-first": "#!/bin/sh\necho first >>/var/lib/installed\n",
        "post-install.d/60-links": "#!/bin/sh\nreadlink /etc/masked.service /etc/of-the-image >/var/lib/links\n",
        "install.d/with.dot": "exit 1\n",
        "install.d/app-source-install/60-from-source": "#!/bin/sh\necho source >>/var/lib/app\n",
        "install.d/app-package-install/60-from-package": "#!/bin/sh\necho package >>/var/lib/app\n",
        "cleanup.d/50-app": '#!/bin/sh\ncat "$TARGET_ROOT/etc/resolv.conf.ORIG" >"$TARGET_ROOT/var/lib/names"\n',
        "environment.d/50-app.bash-": "export MY_NAME=${MY_NAME:-default}-${DIB_RELEASE}\n",
        "static/etc/app.conf": "of the app\n",
        "bin/install-packages": MANAGER,
        "bin/app-tool": "#!/bin/sh\n",
        "package-installs.yaml": "thing:\nbuilder: {build-only: true}\nnever:\n  when: MY_NAME = other\n",
        "pkg-map": '{"family": {"debian": {"thing": "libthing"}}}',
        "svc-map": "web:\n  debian: apache2\n  default: httpd\n",
        "source-repository-app": (
            "# what the app is made of\n"
            "one file /opt/app/one file://$PWD/one.txt\n"
            "two tar /opt/app/two file://$PWD/source.tar.gz *\n"
            "three package\n"
            "four git /opt/app/four http://127.0.0.1:1/none\n"
        ),
    }
    made = element(
        folder, "app", files, needs="install-static install-types package-installs source-repositories svc-map"
    )
    for script in made.glob("install.d/*-install/*"):
        script.chmod(0o755)
    (made / "static" / "etc" / "masked.service").symlink_to("/dev/null")
    (made / "static" / "etc" / "of-the-image").symlink_to("/etc/hosts")


def with_elements(goldsmith: Goldsmith, **inputs: object) -> Path:
    """Write a spec with a step of elements; those of the tests are in its context, the original's beside it."""
    step: Document = {"name": "elements", "action": "elements", "inputs": {"path": ["own", "../original"], **inputs}}
    spec = sandboxed(goldsmith, [step], output={"family": "elements"})
    shutil.copytree(ORIGINAL, spec.parent / "original", symlinks=True)
    own_elements(spec.parent / "context" / "own")
    (spec.parent / "context" / "one.txt").write_text("from a file")
    return spec


BUSY = """#!/bin/bash
mkdir -p "${TARGET_ROOT-}/var/lib/busy"
mount -t tmpfs own "${TARGET_ROOT-}/mnt"
for number in $(seq 5); do
    date >"${TARGET_ROOT-}/var/lib/busy/$number.$(basename "$0")"
    date >"${TARGET_ROOT-}/mnt/$number"
    sleep 0.05
done
umount "${TARGET_ROOT-}/mnt"
"""


@contextmanager
def made(goldsmith: Goldsmith, build: Document) -> Iterator[RootFiles]:
    """Open the root of the image that a build has made."""
    with Disk(goldsmith.home / "images" / build["image"]["name"] / "disk.raw") as disk:
        yield disk.root


def test_elements_run_in_a_sandbox(sandboxes: Goldsmith) -> None:
    """Mended: diskimage-builder writes all DIB_ variables into the image, secrets too."""
    env = {
        "MY_NAME": "mine",
        "DIB_CLOUD_INIT_DATASOURCES": "NoCloud",
        "DIB_DEV_USER_USERNAME": "dora",
        "DIB_INSTALLTYPE_three": "package",
        "DIB_REPOTYPE_four": "file",
        "DIB_REPOLOCATION_four": "file:///etc/debian_version",
        "DIB_SECRET": "hunter2",
        "DIB_APT_SOURCES": "",
    }
    spec = with_elements(sandboxes, elements=list(CHOSEN), env=env, packages=["own-package", "other"])
    done, build = sandboxes.build(spec)
    assert build["outcome"] == "succeeded", done.text
    with made(sandboxes, build) as root:
        told = root.read("/var/lib/app").decode().splitlines()
        assert told[0] == "pre-install.d / /root mine-bookworm"
        assert told[1:] == [
            "made 45-made nobody",
            "install.d / /root mine-bookworm",
            "source",
            "post-install.d / /root mine-bookworm",
            "finalise.d / /root mine-bookworm",
        ]
        _check_what_scripts_saw(root.read("/var/lib/seen").decode())
        installed = root.read("/var/lib/installed").decode().splitlines()
        assert installed[-4:] == ["-e builder", "last", "own-package other", "first"]  # between the two phases
        assert not any("never" in line for line in installed)
        assert (root.read("/opt/app/one"), root.read("/opt/app/two/file")) == (b"from a file", b"from a tar")
        assert root.read("/opt/app/four") == root.read("/etc/debian_version")
        assert root.read("/etc/app.conf") == b"of the app\n"
        assert root.read("/var/lib/links") == b"/dev/null\n/etc/hosts\n"
        assert b"NoCloud" in root.read("/etc/cloud/cloud.cfg.d/91-dib-cloud-init-datasources.cfg")
        assert "growroot.service" in root.names("/etc/systemd/system/multi-user.target.wants")
        assert "dora" in root.names("/home")
        assert b"app\n" in root.read("/etc/dib-manifests/dib-element-manifest")
        _check_nothing_is_left(root)
    assert "install.d/50-app (app): 0." in done.text
    assert "install.d/install-packages (the step's packages): " in done.text
    assert "there is no network to fetch them by" in done.text
    assert_nothing_left(sandboxes)


def _check_what_scripts_saw(text: str) -> None:
    lines = text.splitlines()
    expected = (
        "ARCH IMAGE_NAME IMAGE_ELEMENT IMAGE_ELEMENT_YAML ELEMENTS_PATH TMP_MOUNT_PATH TMP_HOOKS_PATH TMP_BUILD_DIR "
        "TMP_IMAGE_DIR FS_TYPE LC_ALL DISTRO_NAME DIB_RELEASE DIB_ROOT_LABEL DIB_ROOT_FSTYPE DIB_MOUNTPOINTS DIB_ENV "
        "DIB_ARGS DIB_OFFLINE DIB_IMAGE_CACHE DIB_PYTHON_EXEC HOME DIB_INIT_SYSTEM DIB_SECRET"
    )
    assert set(expected.split()) <= set(lines)
    programs = [line.partition(" ")[2] for line in lines if line.startswith("program ")]
    assert len(programs) == 8
    assert all(path.startswith("/") for path in programs), programs
    assert "service apache2 package libthing" in lines
    assert "array app" in lines


def _check_nothing_is_left(root: RootFiles) -> None:
    _check_folders_are_empty(root)
    assert root.names("/usr/local/bin") == ["app-tool", "dynamic-login"]
    assert "pkg-map" not in root.names("/usr/share")
    assert "svc-map" not in root.names("/usr/share")
    assert root.read("/etc/dib-manifests/dib_environment").strip() == b""
    assert not root.exists("/etc/resolv.conf.ORIG")
    assert b"10.0.2.3" not in root.read("/var/lib/names")
    assert not any(name.startswith("ssh_host") for name in root.names("/etc/ssh"))


def _check_folders_are_empty(root: RootFiles) -> None:
    assert (root.names("/tmp"), root.names("/mnt")) == ([], [])
    assert not root.exists("/var/lib/goldsmith")
    assert not any(name.startswith("dib") for name in root.names("/var/lib"))


@pytest.mark.parametrize("user", MODES[-1:], indirect=True)
def test_a_script_that_fails_is_told(sandboxes: Goldsmith) -> None:
    spec = with_elements(sandboxes, elements=["broken"])
    files = {
        "install.d/50-broken": "#!/bin/bash\necho the last words\nfrobnicate --all\n",
        "install.d/60-never": "#!/bin/sh\ntouch /var/lib/never\n",
        "cleanup.d/10-fails": "#!/bin/sh\nexit 9\n",
        "cleanup.d/20-runs": "#!/bin/sh\nyes cleaned | head -n 3000\n",
        "bin/install-packages": '#!/bin/bash\nprintf "manager %s\\n" "$*"\n',
        "package-installs.yaml": "builder: {build-only: true}\n",
    }
    element(spec.parent / "context" / "own", "broken", files, needs="package-installs rooted")
    rooted = {"root.d/10-root": "#!/bin/sh\ntouch /var/lib/never\n", "cleanup.d/05-undo": "#!/bin/sh\nexit 9\n"}
    element(spec.parent / "context" / "own", "rooted", rooted)
    done, build = sandboxes.build(spec)
    assert build["outcome"] == "failed"
    why = "install.d/50-broken of element broken: exit status 127: this image has no frobnicate; install it"
    assert why in build["reason"], build["reason"]
    assert "cleanup.d/20-runs (broken): " in done.text
    assert "manager -e builder" in done.text
    assert "root.d of rooted does not run" in done.text
    assert "which does not run on an image: passed over" in done.text
    assert done.text.count("the last words") >= 2
    assert "; its last lines: the last words | " in build["reason"], build["reason"]
    [step] = build["steps"]
    assert step["exit_status"] == 127
    _check_the_scripts_are_told(sandboxes, build["id"])
    assert_nothing_left(sandboxes)


def _check_the_scripts_are_told(goldsmith: Goldsmith, build_id: str) -> None:
    """In the history of the build, below their step, and in its console, from where they begin."""
    [step] = json.loads(goldsmith.run("builds", "show", build_id, "--json").out)["steps"]
    scripts = {f"{script['phase']}/{script['file']}": script for script in step["scripts"]}
    assert list(scripts)[-4:] == ["install.d/99-package-uninstalls", *(f"cleanup.d/{name}" for name in CLEANED)]
    broken = scripts["install.d/50-broken"]
    assert (broken["element"], broken["status"], broken["exit_status"]) == ("broken", "failed", 127)
    assert 0 < broken["seconds"] < 60
    assert "install.d/60-never" not in scripts
    shown = goldsmith.run("builds", "show", build_id).out
    assert re.search(r"^    install.d/50-broken +broken +failed +[0-9.]+ s  exit status 127$", shown, re.MULTILINE)
    lines = goldsmith.run("builds", "logs", build_id, "--script", "install.d/50-broken").out.splitlines()
    assert len(lines) == 4
    assert "the last words" in lines[1]
    done = goldsmith.run("builds", "logs", build_id, "--script", "60-never")
    assert (done.status, done.out) == (BAD_INPUT, "")


@pytest.mark.parametrize("user", MODES[-1:], indirect=True)
def test_a_script_is_ended_with_the_steps_time(sandboxes: Goldsmith) -> None:
    spec = with_elements(sandboxes, elements=["slow"])
    files = {"post-install.d/50-slow": "#!/bin/sh\nsleep 1000\n", "cleanup.d/50-c": "#!/bin/sh\necho cleaned up\n"}
    element(spec.parent / "context" / "own", "slow", files)
    spec.write_text(spec.read_text().replace('"name": "elements"', '"timeout": "6s", "name": "elements"'))
    done, build = sandboxes.build(spec)
    assert "post-install.d/50-slow of element slow: not done within the step's time" in build["reason"]
    assert "cleaned up" in done.text


@pytest.mark.parametrize("user", MODES[-1:], indirect=True)
def test_a_script_cannot_hide_its_failure(sandboxes: Goldsmith) -> None:
    """Not by its output, and not by ending what runs it: the step fails, and leaves nothing."""
    spec = with_elements(sandboxes, elements=["hostile"])
    much = "#!/bin/sh\nhead -c 20000000 /dev/zero | tr '\\0' x\nkill -9 $PPID\nsleep 1000\n"
    element(spec.parent / "context" / "own", "hostile", {"extra-data.d/50-h": much})
    done, build = sandboxes.build(spec)
    assert "the run of the elements was ended (exit status 137)" in build["reason"], done.text
    assert_nothing_left(sandboxes)


@pytest.mark.soak
def test_builds_that_are_killed_at_any_moment_leave_nothing(sandboxes: Goldsmith) -> None:
    """Kill builds at random moments of all phases; what they have left is gone when the next one has ended."""
    host, inside = ("extra-data.d", "post-root.d", "pre-finalise.d", "cleanup.d"), PHASES
    files = {
        f"{phase}/50-busy-{phase.partition('.')[0]}": BUSY
        if phase in host
        else f"#!/bin/bash\nunset TARGET_ROOT\n{BUSY}"
        for phase in (*host, *inside)
    }
    step: Document = {"name": "elements", "action": "elements", "inputs": {"elements": ["busy"]}}
    spec = sandboxed(sandboxes, [step], cache={"max_age": "0s"}, output={"family": "elements"})
    element(spec.parent / "context" / "elements", "busy", files)
    chance = random.Random(20261130)
    for _ in range(KILLS):
        running = sandboxes.start("build", spec, "--json")
        time.sleep(chance.uniform(1.0, 7.0))
        running.kill()
        sandboxes.traces.wait_for_no_process()
        wait_for_no_group(sandboxes)
        wait_for_no_mount(sandboxes)
    done, build = sandboxes.build(spec)
    assert (done.status, build["outcome"]) == (0, "succeeded"), done.text
    with made(sandboxes, build) as root:  # a killed build may have been done, and is published by the next command
        assert len(root.names("/var/lib/busy")) == 5 * len(files)
        _check_folders_are_empty(root)
    assert sandboxes.run("cache", "verify").out == "all layers are whole\n"
    assert {each["state"] for each in sandboxes.builds()} == {"finished"}
    assert sandboxes.traces.files() == []
    assert_nothing_left(sandboxes)


@pytest.mark.vm
def test_elements_run_in_a_vm(goldsmith: Goldsmith) -> None:
    """A booted system is as good as none: services are not started, and nothing else differs."""
    step: Document = {"name": "elements", "action": "elements", "inputs": {"elements": ["vm-app"]}}
    spec = goldsmith.spec([step], output={"family": "elements"})
    files = {
        "install.d/50-app": ENABLE,
        "install.d/10-unit": "#!/bin/sh\ncp /tmp/in_target.d/units/app.service /etc/systemd/system\ntouch /tmp/mine\n",
        "units/app.service": "[Service]\nExecStart=/bin/touch /started\n[Install]\nWantedBy=multi-user.target\n",
        "cleanup.d/50-app": '#!/bin/sh\necho "$IMAGE_BLOCK_DEVICE" >"$TARGET_ROOT/var/lib/device"\n',
        "bin/pkg-map": "#!/bin/sh\nexit 1\n",
        "pre-install.d/01-bin": "#!/bin/sh\ninstall -m 755 /tmp/in_target.d/bin/* /usr/local/bin\n",
    }
    element(spec.parent / "context" / "elements", "vm-app", files)
    done, build = goldsmith.build(spec)
    assert build["outcome"] == "succeeded", done.text
    with made(goldsmith, build) as root:
        assert "app.service" in root.names("/etc/systemd/system/multi-user.target.wants")
        assert not root.exists("/started")
        assert root.read("/var/lib/device").startswith(b"/dev/")
        assert (root.names("/tmp"), root.names("/usr/local/bin")) == ([], [])


@pytest.mark.parametrize("user", MODES[:1], indirect=True)
def test_elements_that_cannot_be_used_are_refused(sandboxes: Goldsmith) -> None:
    for elements, why in (
        (["ap"], "did you mean app?"),
        (["app", "rpm-distro", "nothing"], "there is no element nothing"),
    ):
        spec = with_elements(sandboxes, elements=elements)
        done = sandboxes.run("build", spec)
        assert (done.status, why in done.err) == (BAD_INPUT, True), done.text
        shutil.rmtree(spec.parent)
    assert sandboxes.builds() == []
