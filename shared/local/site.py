"""What this machine lends to the steps of a build: its site's proxies and authorities, and its own proxy for packages.

The files are read when a machine starts, so that neither the plan nor the store ever holds what is in them.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from provisioner.protocol import Job

from ..build.plan import MachinePlan
from ..build.proxy import (
    CA_LIMIT,
    CREDENTIALS_LIMIT,
    ProxyPlan,
    host_of,
    lent_settings,
    read_certificates,
    read_credentials,
)
from ..errors import InputError
from ..machines.network_guard import IpAddress, is_of_host
from ..machines.qemu import ADDRESS

Read = TypeVar("Read")


def check_proxy(plan: ProxyPlan) -> None:
    """Check that guests can reach the proxies of a plan, and that its files can be used. InputError."""
    for key, url in plan.urls().items():
        host, port = host_of(url)
        addresses = _addresses(host, port)
        if addresses and all(map(is_of_host, addresses)):
            raise InputError(
                f"local.proxy.{key}: {host} is this host itself, whose own addresses a build never reaches; name a "
                "proxy on another machine, or leave the key out"
            )
    _lend_proxies(Job("", 1, "", ()), plan)


def lend_site(job: Job, plan: MachinePlan) -> Job:
    """Return a job whose steps get what a plan's site has, and the proxy for packages. InputError for an unfit file."""
    if plan.internet:
        job = replace(job, package_proxy=f"http://{ADDRESS}:80")
    return job if plan.proxy is None else _lend_proxies(job, plan.proxy)


def _lend_proxies(job: Job, plan: ProxyPlan) -> Job:
    credentials = _read("credentials", plan.credentials, CREDENTIALS_LIMIT, read_credentials)
    authorities = _read("ca", plan.ca, CA_LIMIT, read_certificates)
    return replace(job, proxy=lent_settings(plan, credentials), authorities=authorities or "")


def _read(key: str, place: str | None, limit: int, parse: Callable[[bytes], Read]) -> Read | None:
    if place is None:
        return None
    try:
        with Path(place).open("rb") as file:
            return parse(file.read(limit + 1))
    except OSError as error:
        raise InputError(f"local.proxy.{key}: {place} cannot be read: {error.strerror}; check the path") from error
    except ValueError as error:
        raise InputError(f"local.proxy.{key}: {place} {error}") from error


def _addresses(host: str, port: int) -> list[IpAddress]:
    """Return the addresses of a host; none where its name cannot be looked up now."""
    with suppress(OSError, UnicodeError):
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]
    return []
