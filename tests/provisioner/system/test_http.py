"""The addresses to which the provisioner's own requests go."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from provisioner.system.http import Addresses

LOOPBACK = "127.0.0.1"


class NameServer:
    """A name server that knows a host, until it is gone."""

    def __init__(self, *addresses: tuple[str, int]) -> None:
        self.addresses = addresses

    def look_up(self, *_: Any) -> list[Any]:
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in self.addresses]


def test_a_host_stays_known_when_its_name_server_is_gone() -> None:
    """The last report leaves after the clean-up, which empties the resolv.conf of the build's network."""
    server = NameServer((LOOPBACK, 80))
    addresses = Addresses(server.look_up)
    assert addresses.find("pubsub.example", 80) == [(LOOPBACK, 80)]
    server.addresses = ()
    assert addresses.find("pubsub.example", 80) == [(LOOPBACK, 80)]
    with pytest.raises(socket.gaierror):
        addresses.find("other.example", 80)


def test_a_host_that_has_moved_is_found() -> None:
    server = NameServer((LOOPBACK, 80))
    addresses = Addresses(server.look_up)
    addresses.find("pubsub.example", 80)
    server.addresses = (("127.0.0.2", 80),)
    assert addresses.find("pubsub.example", 80) == [("127.0.0.2", 80)]


def test_an_address_that_answers_is_taken() -> None:
    with socket.create_server((LOOPBACK, 0)) as listening, socket.socket() as closed:
        closed.bind((LOOPBACK, 0))
        server = NameServer(closed.getsockname(), listening.getsockname())
        with Addresses(server.look_up).connect("pubsub.example", 443, 5) as connection:
            assert connection.getpeername() == listening.getsockname()
        server.addresses = (closed.getsockname(),)
        with pytest.raises(ConnectionRefusedError):
            Addresses(server.look_up).connect("pubsub.example", 443, 5)


def test_all_addresses_share_one_time_limit() -> None:
    """A network without a way to Google's addresses swallows packets, and each address would take the whole time."""
    given: list[float] = []

    def swallow(_: object, seconds: float) -> socket.socket:
        given.append(seconds)
        time.sleep(seconds)
        raise TimeoutError

    server = NameServer(*[(f"127.0.0.{number}", 443) for number in range(1, 5)])
    with pytest.raises(TimeoutError):
        Addresses(server.look_up, swallow).connect("secrets.example", 443, 0.2)
    assert 0 < given[0] <= 0.05
    assert sum(given) <= 0.2001
