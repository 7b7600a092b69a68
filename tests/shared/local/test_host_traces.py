"""What a finished image must not have of the host that built it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.disks.disk import Disk
from shared.images.hygiene import look_into
from shared.local.host_traces import host_traces, proxies
from tests.shared.disks.small_disks import os_tree, rooted

HOME = Path("/home/someone/.local/share/goldsmith")
RESOLV_CONF = """# of the host
nameserver 10.20.30.40
nameserver 8.8.8.8
nameserver 127.0.0.53
nameserver fe80::1%eth0
nameserver fd00::53
nameserver
search corp.example. local
options edns0
"""
HOSTS = """127.0.0.1 localhost
::1 localhost ip6-localhost
ff02::1 ip6-allnodes
10.20.30.41   mirror.corp.example  mirror # near
127.0.1.1 ci-worker-7.corp.example ci-worker-7
"""
ENVIRONMENT = {
    "http_proxy": "http://user:secret@proxy.corp.example:3128/",
    "HTTPS_PROXY": "proxy.corp.example:3128",
    "ALL_PROXY": "socks5://127.0.0.1:1080",
    "ftp_proxy": "http://[fd00::1",
    "https_proxy": "http://localhost:8080",
}


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """The /etc of a host."""
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "resolv.conf").write_text(RESOLV_CONF)
    (folder / "hosts").write_text(HOSTS)
    return folder


def found(folder: Path, settings: Path, files: dict[str, str], name: str = "ci-worker-7") -> dict[str, str]:
    """Make a source and a disk with files more; return what is found on the second, by path."""
    source = rooted(folder / "source.raw", os_tree(folder / "source"))
    tree = os_tree(folder / "tree")
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    disk = rooted(folder / "disk.raw", tree)
    traces = host_traces(HOME, ENVIRONMENT, name, settings)
    with Disk(disk) as opened, Disk(source) as before:
        return {finding.path: finding.what for finding in look_into(opened, before, traces=traces)}


def test_each_trace_is_found_where_it_would_be(tmp_path: Path, settings: Path) -> None:
    files = {
        "etc/hostname": "ci-worker-7\n",
        "etc/mailname": "CI-Worker-7.corp.example\n",
        "etc/hosts": "127.0.0.1 localhost\n10.20.30.41 mirror.corp.example mirror\n",
        "etc/resolv.conf": "nameserver 1.1.1.1\nnameserver 10.20.30.40\n",
        "etc/systemd/resolved.conf.d/own.conf": "[Resolve]\nDNS=1.1.1.1 10.0.2.3\n",
        "etc/systemd/resolved.conf": "[Resolve]\nDomains=corp.example\n",
        "etc/dhcp/dhclient.conf": "supersede domain-name-servers fd00::53;\n",
        "etc/apt/apt.conf.d/proxy": 'Acquire::http::Proxy "http://proxy.corp.example:3128";\n',
        "etc/pip.conf": "[global]\nproxy = http://proxy.corp.example:3128\n",
        "etc/environment": "http_proxy=http://proxy.corp.example:3128/\n",
        "root/.curlrc": "proxy = proxy.corp.example:3128\n",
        "root/.npmrc": "proxy=http://proxy.corp.example:3128/\n",
        "opt/tool/paths": f"cache={HOME}/builds/hello-0123/disks\n",
        "usr/local/bin/run": "#!/run/goldsmith/shims/systemctl\n",
        "root/.gitconfig": "[safe]\n\tdirectory = /var/lib/goldsmith/context\n",
    }
    proxy = "names a proxy of the build host"
    assert found(tmp_path, settings, files) == {
        "/etc/hostname": "has the name of the build host",
        "/etc/mailname": "has the name of the build host",
        "/etc/hosts": "has a line of the build host's",
        "/etc/resolv.conf": "names the build host's network",
        "/etc/systemd/resolved.conf.d/own.conf": "names a name server that only the build has",
        "/etc/systemd/resolved.conf": "names the build host's network",
        "/etc/dhcp/dhclient.conf": "names the build host's network",
        **dict.fromkeys(["/etc/apt/apt.conf.d/proxy", "/etc/pip.conf", "/etc/environment"], proxy),
        **dict.fromkeys(["/root/.curlrc", "/root/.npmrc"], proxy),
        "/opt/tool/paths": "names a folder of the build host",
        "/usr/local/bin/run": "names a folder that only the build has",
        "/root/.gitconfig": "names a folder that only the build has",
    }


def test_what_only_looks_like_it_is_none(tmp_path: Path, settings: Path) -> None:
    files = {
        "etc/hostname": "ci-worker-70\n",
        "etc/mailname": "my-ci-worker-7.example\n",
        "etc/hosts": "127.0.0.1 localhost\n10.20.30.42 mirror.corp.example mirror\n# 10.20.30.41 mirror\n",
        "etc/resolv.conf": "nameserver 8.8.8.8\nnameserver 127.0.0.53\nnameserver 110.20.30.40\nsearch local\n",
        "etc/systemd/resolved.conf": "[Resolve]\n#DNS=10.0.2.3\nDNS=10.0.2.30 110.0.2.3\nDomains=notcorp.example\n",
        "etc/services.conf": "localhost:8080 127.0.0.1:1080 ci-worker-7 10.20.30.40\n",
        "opt/notes": "ci-worker-7 at 10.20.30.40; /run/goldsmith/shims\n",
        "usr/lib/tool/paths": f"{HOME}\n",
        "etc/dib-manifests/dib-manifest-git-image": "app git /opt/app file:///var/lib/goldsmith/context/app 0123\n",
    }
    assert found(tmp_path, settings, files) == {}


@pytest.mark.parametrize("name", ["localhost", "debian", "localhost.localdomain", "db", ""])
def test_names_of_many_hosts_are_no_trace(tmp_path: Path, settings: Path, name: str) -> None:
    assert found(tmp_path, settings, {"etc/hostname": f"{name}\n"}, name) == {}


def test_a_host_without_settings_has_no_traces_of_them(tmp_path: Path) -> None:
    files = {"etc/resolv.conf": "nameserver 10.20.30.40\n", "etc/hosts": "10.20.30.41 mirror\n"}
    assert found(tmp_path, tmp_path / "none", files) == {}


def test_settings_without_end_are_read_in_part(tmp_path: Path) -> None:
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "hosts").write_bytes(b"10.0.0.1 x\xff\n" * 100_000)
    (folder / "resolv.conf").symlink_to("/dev/zero")
    host_traces(HOME, {}, "worker-1", folder)


def test_proxies_are_places() -> None:
    assert proxies(ENVIRONMENT) == ["proxy.corp.example:3128"]
    assert proxies({"HTTP_PROXY": "http://[fd00::1]:3128", "http_proxy": "http://proxy:99999999"}) == ["fd00::1:3128"]


def test_a_folder_that_every_machine_has_is_no_trace(settings: Path) -> None:
    assert host_traces(Path("/srv"), {}, "worker-1", settings).words == ()
    assert host_traces(HOME, {}, "worker-1", settings).words == (
        (str(HOME).encode(), "names a folder of the build host"),
    )
