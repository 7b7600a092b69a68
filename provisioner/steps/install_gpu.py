"""install-gpu: NVIDIA's driver, built for this kernel by the installer container of Container-Optimized OS.

Its kernel modules are gone after a reboot, so a script that stays in the image does the work: setup_gpu.sh in the
install folder, which machines of the image have to run at every boot. The first run, here, builds the driver; later
runs find it built and load it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import contextmanager

from ..machine.scratch_disk import MOUNT_POINT
from ..protocol import InstallGpu
from .step_context import StepContext, StepError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALLER_ENDING = ".run"
DIGEST = re.compile(r"[a-z0-9][-a-z0-9._:/]{0,254}@sha256:[0-9a-f]{64}")
MOST_TOLD = 1 << 16  # characters that are read of docker's answer

SCRIPT = r"""#!/bin/bash
# Make NVIDIA's driver work in this boot. Run it as root at every boot, from a startup script or a cloud-config:
#     bash @DIR@/setup_gpu.sh
set -o errexit -o nounset -o pipefail

export NVIDIA_DRIVER_VERSION=@VERSION@
export NVIDIA_DRIVER_MD5SUM=@MD5SUM@
export NVIDIA_INSTALL_DIR_HOST=@DIR@
export COS_NVIDIA_INSTALLER_CONTAINER=@CONTAINER@
export NVIDIA_INSTALL_DIR_CONTAINER=/usr/local/nvidia
export ROOT_MOUNT_DIR=/root

tries=10
pause=2 # seconds

fail() {
    echo "setup_gpu.sh: $*" >&2
    exit 1
}

# Container-Optimized OS forbids to run programs from /var: not so from this folder.
allow_execution() {
    mkdir -p "$NVIDIA_INSTALL_DIR_HOST"
    mountpoint -q "$NVIDIA_INSTALL_DIR_HOST" || mount --bind "$NVIDIA_INSTALL_DIR_HOST" "$NVIDIA_INSTALL_DIR_HOST"
    mount -o remount,bind,exec "$NVIDIA_INSTALL_DIR_HOST"
}

pull_installer() {
    local try
    for ((try = 1; try <= tries; try++)); do
        echo "setup_gpu.sh: pulling $COS_NVIDIA_INSTALLER_CONTAINER (try $try of $tries)"
        if docker pull "$COS_NVIDIA_INSTALLER_CONTAINER"; then
            return
        fi
        ((try == tries)) || sleep "$pause"
    done
    if docker image inspect "$COS_NVIDIA_INSTALLER_CONTAINER" >/dev/null 2>&1; then
        echo "setup_gpu.sh: going on with the container that is here already"
        return
    fi
    journalctl --unit=docker.service --no-pager --lines=50 >&2 || true
    fail "$COS_NVIDIA_INSTALLER_CONTAINER cannot be pulled; see that this machine reaches its registry and may read it"
}

run_installer() {
    local log=$NVIDIA_INSTALL_DIR_HOST/nvidia-installer.log
    local volumes=(
        --volume "$NVIDIA_INSTALL_DIR_HOST:$NVIDIA_INSTALL_DIR_CONTAINER"
        --volume /dev:/dev
        --volume "/:$ROOT_MOUNT_DIR"
    )
    # Only while an image is built: a compiler of some GB, which the boot disk has no room for.
    if [[ -n ${TOOLCHAIN_DIR_HOST:-} ]]; then
        volumes+=(--volume "$TOOLCHAIN_DIR_HOST:/build/cos-tools")
    fi
    if ! docker run --rm --privileged --net=host --pid=host "${volumes[@]}" \
        -e NVIDIA_DRIVER_VERSION \
        -e NVIDIA_DRIVER_MD5SUM \
        -e NVIDIA_INSTALL_DIR_HOST \
        -e COS_NVIDIA_INSTALLER_CONTAINER \
        -e NVIDIA_INSTALL_DIR_CONTAINER \
        -e ROOT_MOUNT_DIR \
        -e COS_DOWNLOAD_GCS \
        -e GPU_INSTALLER_DOWNLOAD_URL \
        "$COS_NVIDIA_INSTALLER_CONTAINER"; then
        if [[ -f $log ]]; then
            tail -n 100 "$log" >&2
        fi
        fail "the installer of driver $NVIDIA_DRIVER_VERSION failed; what it says stands above"
    fi
}

start_driver() {
    "$NVIDIA_INSTALL_DIR_HOST/bin/nvidia-smi" ||
        fail "nvidia-smi finds no working GPU; see that this machine has one that driver $NVIDIA_DRIVER_VERSION is for"
    if ! pgrep -f nvidia-persistenced >/dev/null; then
        "$NVIDIA_INSTALL_DIR_HOST/bin/nvidia-persistenced" --verbose ||
            fail "nvidia-persistenced does not start"
    fi
    echo 1 >/proc/sys/kernel/softlockup_panic # a GPU that hangs is to end this boot
}

allow_execution
pull_installer
run_installer
start_driver
"""


def act(inputs: InstallGpu, context: StepContext) -> int:
    """Return the exit status of setup_gpu.sh; the step's note names the container that has run, by its digest."""
    status = _install(inputs, context)
    if status == 0:
        context.note = f"installer container: {_by_digest(inputs.installer_container, context)}"
    return status


def _install(inputs: InstallGpu, context: StepContext) -> int:
    """Return the exit status of setup_gpu.sh."""
    folder = os.path.join(context.root, inputs.install_dir.lstrip("/"))
    script = os.path.join(folder, "setup_gpu.sh")
    text = setup_script(inputs)
    os.makedirs(folder, exist_ok=True)
    with open(script, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(script, 0o744)
    environment = _toolchain(context)
    if inputs.deps_dir is None:
        if inputs.version.endswith(INSTALLER_ENDING):
            raise StepError(f"version {inputs.version!r} is a file; name the folder that holds it: deps_dir")
        return context.run(["/bin/bash", script], environment)
    with served(context.in_context(inputs.deps_dir)) as url:
        environment["COS_DOWNLOAD_GCS"] = url
        if inputs.version.endswith(INSTALLER_ENDING):
            context.in_context(os.path.join(inputs.deps_dir, inputs.version))
            environment["GPU_INSTALLER_DOWNLOAD_URL"] = f"{url}/{inputs.version}"
        return context.run(["/bin/bash", script], environment)


def setup_script(inputs: InstallGpu) -> str:
    """Return the text of setup_gpu.sh. StepError for a version that is neither a number nor an installer's name."""
    values = {
        "@VERSION@": driver_version(inputs.version),
        "@MD5SUM@": inputs.md5sum or "",
        "@DIR@": inputs.install_dir,
        "@CONTAINER@": inputs.installer_container,
    }
    text = SCRIPT
    for name, value in values.items():
        text = text.replace(name, "'" + value.replace("'", "'\\''") + "'")
    return text


def driver_version(version: str) -> str:
    """Return 450.51.06 for NVIDIA-Linux-x86_64-450.51.06.run, and any other version unchanged. StepError."""
    if not version.endswith(INSTALLER_ENDING):
        return version
    parts = version[: -len(INSTALLER_ENDING)].split("-")
    if parts[:2] != ["NVIDIA", "Linux"] or len(parts) < 4 or not parts[3]:
        raise StepError(f"{version!r} is not an NVIDIA installer, whose name is NVIDIA-Linux-ARCHITECTURE-VERSION.run")
    return parts[3]


def _by_digest(container: str, context: StepContext) -> str:
    """Return NAME@sha256:DIGEST of a container that has run; docker itself checks the digest in a name that has one."""
    if "@" in container:
        return container
    ask = 'docker image inspect --format \'{{range .RepoDigests}}{{println .}}{{end}}\' "$1" >"$2"'
    with tempfile.TemporaryDirectory() as folder:
        answer = os.path.join(folder, "digests")
        context.run(["/bin/sh", "-c", ask, "sh", container, answer], {})
        with open(answer, encoding="utf-8", errors="replace") as file:
            told = [line for line in file.read(MOST_TOLD).splitlines() if DIGEST.fullmatch(line)]
    head, _, tail = container.rpartition(":")
    name = container if not head or "/" in tail else head  # a colon before a slash is a port's
    told.sort(key=lambda line: line.partition("@")[0] != name)  # an image may have names in several registries
    return told[0] if told else f"{container}, whose digest docker does not know"


def _toolchain(context: StepContext) -> dict[str, str]:
    """Return the environment that puts the compiler on the scratch disk, if any; an earlier try's is removed."""
    scratch = os.path.join(context.root, MOUNT_POINT)
    if not os.path.ismount(scratch):
        return {}
    folder = os.path.join(scratch, "toolchain")
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    return {"TOOLCHAIN_DIR_HOST": folder}


@contextmanager
def served(folder: str) -> Iterator[str]:
    """Serve the regular files of a folder by HTTP to this machine alone; yield their base URL.

    Some installers ask for FILE, others for KERNEL-BUILD/FILE; both get it. Files in folders below it are not served.
    """
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer  # slow to import; only this step needs them
    from socketserver import ThreadingMixIn

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.partition("?")[0].rpartition("/")[2]
            path = os.path.join(folder, name)
            if not name or os.path.islink(path) or not os.path.isfile(path):
                self.send_error(404)
                return
            with open(path, "rb") as file:
                self.send_response(200)
                self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
                self.end_headers()
                if self.command == "GET":
                    shutil.copyfileobj(file, self.wfile)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            """Log nothing: the installer itself does."""

    class Server(ThreadingMixIn, HTTPServer):  # http.server's own came with Python 3.7
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
