"""What a finished image must not have of the host that built it: hygiene rules with this host's own values.

They apply to files of the build alone. A value counts only where it can hardly be meant: the host's name in files that
have a machine's name, its name servers in settings of a network, and no address that every machine has.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from provisioner.hygiene.hygiene import HostTraces
from provisioner.hygiene.rules import REMOVE_LINE, HygieneRule

NAME_FILES = ("etc/hostname", "etc/hosts", "etc/mailname", "etc/postfix/main.cf", "etc/salt/minion_id")
NETWORK_FILES = (
    *("etc/resolv.conf", "etc/resolvconf/**", "etc/systemd/resolved.conf", "etc/systemd/resolved.conf.d/**"),
    *("etc/dhcp/**", "etc/netplan/**", "etc/network/**", "etc/systemd/network/**"),
)
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy")
_NAMES_OF_MANY = ("localhost", "localdomain", "debian", "ubuntu", "linux", "host", "server", "builder")
_OWN_NAME_SERVER = re.compile(
    rb"^[ \t]{0,40}(?:dns[ \t=-]|nameserver[ \t])[^#\n]{0,200}\b10\.0\.2\.3\b", re.IGNORECASE | re.MULTILINE
)
"""The name server of slirp4netns and of QEMU's own network; on Google Cloud, any machine's address."""
_LEAST = 4  # letters of a name or a path that cannot be anything else
_MOST = 64 << 10  # bytes of a file of this host
_LINES = 200
_IN_WORDS = (b":", b"-", b"_")


def host_traces(
    home: Path, environment: Mapping[str, str], name: str | None = None, settings: Path = Path("/etc")
) -> HostTraces:
    """Return what images must not have of this host: its name, name servers, hosts, proxies, and the path of `home`."""
    rules = (
        _rule(NAME_FILES, "has the name of the build host", _names(socket.gethostname() if name is None else name)),
        _rule(NETWORK_FILES, "names the build host's network", _network(settings / "resolv.conf")),
        HygieneRule(
            (
                "etc/resolv.conf",
                "etc/systemd/resolved.conf",
                "etc/systemd/resolved.conf.d/**",
                "etc/network/interfaces",
            ),
            "names a name server that only the build has",
            REMOVE_LINE,
            lambda data: _OWN_NAME_SERVER.search(data) is not None,
            True,
        ),
        HygieneRule(
            ("etc/hosts",), "has a line of the build host's", REMOVE_LINE, _has_line(_hosts(settings / "hosts")), True
        ),
    )
    words = [(place.encode(), "names a proxy of the build host") for place in proxies(environment)]
    if len(home.parts) > 2 and len(str(home)) > 2 * _LEAST:  # none such as /srv, of which there is one on many machines
        words.append((str(home).encode(), "names a folder of the build host"))
    return HostTraces(rules, tuple(words))


def proxies(environment: Mapping[str, str]) -> list[str]:
    """Return the proxies in an environment, as HOST:PORT, but for those on the host itself."""
    found = []
    for name in (spelled for each in PROXIES for spelled in (each, each.upper())):
        text = environment.get(name, "").strip()
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            host, port = parts.hostname, parts.port
        except ValueError:  # no URL: nothing can be found by it
            continue
        if host and not _is_here(host):
            found.append(f"{host}:{port}" if port else host)
    return [place for place in dict.fromkeys(found) if len(place) >= 2 * _LEAST]


def _rule(patterns: Iterable[str], what: str, words: Iterable[str]) -> HygieneRule:
    return HygieneRule(patterns, what, REMOVE_LINE, _has_word(words), True)


def _has_word(words: Iterable[str]) -> Callable[[bytes], bool]:
    wanted = [word.lower().encode() for word in words]
    return lambda data: any(_is_in(word, data.lower()) for word in wanted)


def _is_in(word: bytes, data: bytes) -> bool:
    """Return whether a word is in a text, and not only as a part of a longer one."""
    at = data.find(word)
    while at >= 0:
        end = at + len(word)
        before, after = data[max(0, at - 1) : at], data[end : end + 1]
        if not any(each.isalnum() or each in _IN_WORDS for each in (before, after)) and before != b".":
            return True
        at = data.find(word, end)
    return False


def _has_line(lines: Iterable[str]) -> Callable[[bytes], bool]:
    known = frozenset(lines)
    return lambda data: any(_normal(line) in known for line in data.decode("utf-8", "replace").splitlines())


def _names(name: str) -> list[str]:
    found = dict.fromkeys([name.lower(), name.lower().partition(".")[0]])
    return [each for each in found if len(each) >= _LEAST and each.partition(".")[0] not in _NAMES_OF_MANY]


def _network(resolv_conf: Path) -> Iterator[str]:
    """Yield the name servers of a private network in a resolv.conf, and the domains that it searches."""
    for line in _lines(resolv_conf):
        key, *values = line.split()[:20]
        if key == "nameserver" and values and _is_private(values[0]):
            yield values[0]
        if key in ("search", "domain"):
            yield from (value.strip(".") for value in values if "." in value.strip("."))


def _hosts(hosts: Path) -> Iterator[str]:
    """Yield the lines of a hosts file that are about other machines."""
    for line in _lines(hosts):
        if not _is_here(line.split()[0]):
            yield _normal(line)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            text = file.read(_MOST).decode("utf-8", "replace")
    except OSError:
        return
    lines = (line.partition("#")[0].strip() for line in text.splitlines()[:_LINES])
    yield from (line for line in lines if line)


def _normal(line: str) -> str:
    return " ".join(line.partition("#")[0].split())


def _is_private(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return found.is_private and not (found.is_loopback or found.is_link_local or found.is_unspecified)


def _is_here(host: str) -> bool:
    """Return whether a name or an address is that of each machine itself, or of a group such as all routers."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return found.is_loopback or found.is_link_local or found.is_unspecified or found.is_multicast
