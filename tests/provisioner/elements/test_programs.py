"""The helper programs, started as elements start them: by name, through their files."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from provisioner.elements.plain_yaml import TEXTS
from provisioner.elements.programs import FACTS
from provisioner.elements.tools import BUILD_TOOLS, HELPERS, write_tools
from tests.provisioner.elements.element_folders import element

DOCUMENTS = {
    "app": {
        "package-installs.yaml": {
            "nginx": None,
            "gcc": {"build-only": True},
            "early": {"phase": "pre-install.d"},
            "arm": {"arch": "arm64, armhf"},
            "gone": {"uninstall": True},
        },
        "pkg-map": {"family": {"debian": {"nginx": "nginx-light libnginx"}}, "default": {"skipped": ""}},
    },
    "services": {"svc-map": {"web": {"default": "httpd", "debian": "apache2"}}},
}


class Programs:
    """The programs of a step, and a PATH in which they are first."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self.hooks = self.work / "hooks"
        self.hooks.mkdir(parents=True)
        self.asked = folder / "asked"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.program("install-packages", f'#!/bin/sh\necho "$@" >>{self.asked}\n')
        (self.work / FACTS).write_text(json.dumps({"documents": json.dumps(DOCUMENTS), "elements": list(DOCUMENTS)}))
        (self.work / TEXTS).write_text("{}")
        write_tools(str(self.work), str(self.hooks))

    def program(self, name: str, text: str) -> None:
        """Add a program that the image has."""
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, *command: str, status: int = 0, **variables: str) -> str:
        """Run a program; return its output."""
        path = f"{self.work}/host:{self.work}/programs:{self.bin}:/usr/bin:/bin:{self.work}/fallback"
        known = {"PATH": path, "DISTRO_NAME": "debian", "DIB_RELEASE": "bookworm", "ARCH": "amd64", **variables}
        done = subprocess.run(command, env=known, capture_output=True, text=True, check=False, cwd=self.work)
        assert done.returncode == status, done.stderr
        return done.stdout if not status else done.stderr


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def test_packages_have_the_names_of_the_distribution(programs: Programs) -> None:
    assert programs.run("pkg-map", "--element", "app", "nginx") == "nginx-light\nlibnginx\n"
    assert programs.run("pkg-map", "--element=app", "--distro", "fedora", "--missing-ok", "nginx") == "nginx\n"
    assert programs.run("pkg-map", "--element", "app", "skipped") == ""
    assert programs.run("pkg-map", "--prefix", "-", "--element", "app", "nginx").startswith("-nginx-light")
    assert programs.run("map-packages", "nginx", "other") == "nginx-light\nlibnginx\nother\n"
    assert "no mapping for package other" in programs.run("pkg-map", "--element", "app", "other", status=1)
    assert "has no pkg-map" in programs.run("pkg-map", "--element", "services", "x", status=2)
    assert programs.run("pkg-map", "--missing-ok", "--element", "services", "x") == "x\n"
    assert "write either" in programs.run("pkg-map", "x", status=1)
    assert "no option" in programs.run("pkg-map", "--elment", "app", status=1)
    own = programs.work / "own-map"
    own.write_text('{"default": {"a": "b"}}')
    assert programs.run("pkg-map", "--pkg-map", str(own), "a") == "b\n"
    own.write_text('{"default": {"a": ["b"]}}')
    assert "default.a" in programs.run("pkg-map", "--pkg-map", str(own), "a", status=1)


def test_services_have_the_names_of_the_distribution(programs: Programs) -> None:
    assert programs.run("svc-map", "web", "other") == "apache2\nother\n"
    assert programs.run("map-services", "web", DISTRO_NAME="suse") == "httpd\n"


def test_packages_are_installed_and_removed_by_phase(programs: Programs) -> None:
    file = str(programs.work / "package-installs.json")
    programs.run("package-installs-squash", "--elements", "app services", "--path", "/elsewhere", file)
    programs.run("package-installs-v2", "--phase", "pre-install.d", file)
    programs.run("package-installs-v2", "--phase", "install.d", file)
    programs.run("package-installs-v2", "--phase", "install.d", "--uninstall", file)
    assert "nothing to uninstall" in programs.run(
        "package-installs-v2", "--uninstall", "--phase", "post-install.d", file
    )
    assert programs.run("package-installs-v2", "-n", "--phase", "install.d", file).startswith("install-packages nginx")
    assert programs.asked.read_text() == "early\nnginx-light libnginx gcc\n-e gcc gone\n"
    programs.run("package-installs-squash", file, ARCH="arm64")
    assert json.loads(Path(file).read_text())["install.d"]["install"] == ["nginx-light", "libnginx", "gcc", "arm"]
    programs.program("install-packages", "#!/bin/sh\nexit 7\n")
    programs.run("package-installs-v2", "--phase", "install.d", file, status=7)


def test_packages_of_files_by_element_are_installed(programs: Programs) -> None:
    folder = programs.work / "install.d"
    folder.mkdir()
    (folder / "package-installs-app").write_text("# the server\nnginx\n-gcc\n\n")
    (folder / "package-installs-other").write_text("-less\n")
    programs.run("package-installs", "-d", str(folder))
    programs.run("package-uninstalls", "-d", str(folder))
    assert programs.asked.read_text() == "nginx-light libnginx gcc less\n-e gcc less\n"


def test_the_package_manager_stands_in_for_a_missing_program(programs: Programs) -> None:
    (programs.bin / "install-packages").unlink()
    programs.program("apt-get", f'#!/bin/sh\necho "$DEBIAN_FRONTEND" "$@" >>{programs.asked}\n')
    for arguments in (["-m", "app", "nginx"], ["-e", "gcc"], ["-u"], []):
        programs.run("install-packages", *arguments)
    lines = programs.asked.read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["noninteractive"] * 3
    assert [line.partition("--assume-yes ")[2] for line in lines] == [
        "install nginx-light libnginx",
        "remove gcc",
        "dist-upgrade",
    ]


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.headers.get("If-Modified-Since"))  # type: ignore[attr-defined]
        fresh = self.headers.get("If-Modified-Since") == "Fri, 01 Jan 2021 00:00:00 GMT"
        self.send_response(404 if self.path == "/gone" else 304 if fresh else 200)
        self.send_header("Last-Modified", "Fri, 01 Jan 2021 00:00:00 GMT")
        self.send_header("Content-Length", "4")
        self.end_headers()
        if not fresh:
            self.wfile.write(b"text")

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Server) as made:
        made.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_url_is_fetched_once(programs: Programs, server: ThreadingHTTPServer) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    target = programs.work / "cache" / "file"
    programs.run("cache-url", f"{url}/file", str(target), no_proxy="*")
    assert "has not changed" in programs.run("cache-url", f"{url}/file", str(target), no_proxy="*")
    programs.run("cache-url", "-f", f"{url}/file", str(target), no_proxy="*")
    assert server.asked == [None, "Fri, 01 Jan 2021 00:00:00 GMT", None]  # type: ignore[attr-defined]
    assert target.read_text() == "text"
    assert "404" in programs.run("cache-url", f"{url}/gone", str(programs.work / "gone"), no_proxy="*", status=44)
    programs.run("cache-url", target.as_uri(), str(programs.work / "copy"))
    assert (programs.work / "copy").read_text() == "text"
    assert sorted(path.name for path in target.parent.iterdir()) == ["file"]


def test_scripts_of_a_folder_run_in_order(programs: Programs) -> None:
    folder = programs.work / "some.d"
    beside = programs.work / "environment.d"
    for place in (folder, beside):
        place.mkdir()
    (beside / "10-name.bash").write_text("export GREETING=hello\n")
    for name in ("9-nine", "10-ten", "with.dot", "20-quiet"):
        (folder / name).write_text(f'#!/bin/sh\necho "$GREETING {name}"\n')
        (folder / name).chmod(0o644 if name == "20-quiet" else 0o755)
    assert programs.run("dib-run-parts", str(folder)) == "hello 9-nine\nhello 10-ten\n"
    assert programs.run("dib-run-parts", "--list", str(folder)) == f"{folder}/9-nine\n{folder}/10-ten\n"
    (folder / "9-nine").write_text("#!/bin/sh\nexit 5\n")
    programs.run("dib-run-parts", str(folder), status=5)
    programs.run("dib-run-parts", str(folder / "none"), status=1)


def test_elements_are_expanded(programs: Programs, tmp_path: Path) -> None:
    element(tmp_path / "elements", "app", needs="base")
    element(tmp_path / "elements", "base")
    assert programs.run("element-info", "app", ELEMENTS_PATH=str(tmp_path / "elements")) == "base app\n"
    told = programs.run("element-info", "--env", "app", ELEMENTS_PATH=str(tmp_path / "elements"))
    script = f'{told}\neval declare -A found=($(get_image_element_array)); echo "${{found[base]}} $IMAGE_ELEMENT"'
    assert programs.run("bash", "-c", script) == f"{tmp_path}/elements/base base app\n"


def test_sudo_runs_commands_as_they_are(programs: Programs) -> None:
    sudo = str(programs.work / "host" / "sudo")
    assert programs.run(sudo, "-E", "sh", "-c", "echo $DISTRO_NAME -n") == "debian -n\n"
    assert programs.run(sudo, "COLOUR=red", "sh", "-c", "echo $COLOUR") == "red\n"
    name = pwd.getpwuid(os.getuid()).pw_name  # the system tests become another one
    assert programs.run(sudo, "-u", name, "-H", "X=1", "sh", "-c", "id -un; echo $X $HOME", HOME="/") == (
        f"{name}\n1 {pwd.getpwuid(os.getuid()).pw_dir}\n"
    )
    assert "no user" in programs.run(sudo, "-u", "nobody-at-all", "true", status=1)


def test_rsync_copies_as_elements_ask(programs: Programs, tmp_path: Path) -> None:
    rsync = str(programs.work / "fallback" / "rsync")
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "inner" / "program").write_text("x")
    (source / "inner" / "program").chmod(0o755)
    (source / "link").symlink_to("inner/program")
    programs.run(rsync, "-lCr", f"{source}/", str(tmp_path / "target"))
    assert (tmp_path / "target/inner/program").stat().st_mode & 0o777 == 0o755
    assert str((tmp_path / "target/link").readlink()) == "inner/program"
    programs.run(rsync, "-a", "--remove-source-files", f"{source}/.", str(tmp_path / "target"))
    assert not (source / "inner" / "program").exists()
    assert (tmp_path / "target/inner/program").read_text() == "x"
    assert "has no rsync" in programs.run(rsync, "-a", "host:/etc", str(tmp_path / "target"), status=1)


def test_programs_of_elements_are_replaced_in_the_hooks(tmp_path: Path) -> None:
    hooks = tmp_path / "work" / "hooks"
    (hooks / "bin").mkdir(parents=True)
    for name in ("pkg-map", "my-program"):
        (hooks / "bin" / name).write_text("theirs")
    write_tools(str(tmp_path / "work"), str(hooks))
    assert "provisioner.elements" in (hooks / "bin" / "pkg-map").read_text()
    assert (hooks / "bin" / "my-program").read_text() == "theirs"
    assert sorted(path.name for path in (hooks / "bin").iterdir()) == ["install-packages", "my-program", "pkg-map"]
    assert set(HELPERS) < set(BUILD_TOOLS)
