"""Reports to Pub/Sub: a server that is slow, faulty or gone delays nothing and fails nothing."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.protocol import COMPLETED, HEARTBEAT, SERIAL_MARK, decode_report
from tests.provisioner.provisioning import Provisioning, check_numbers, free_port, job, script
from tests.provisioner.pubsub_server import pubsub

OK = {"ok": "true"}


@pytest.mark.parametrize("chunked", [False, True])
def test_both_ways_carry_the_same_reports(tmp_path: Path, chunked: bool) -> None:
    with pubsub(chunked=chunked) as bus:
        machine = Provisioning(tmp_path / "m", job(script("ok"), publish_url=bus.url), OK)
        assert machine.run().status == 0
        assert bus.data() == machine.report_data()
    assert bus.authorizations[0] is None


def test_reports_go_by_tls_to_whom_the_image_trusts(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*command, "-keyout", certificate, "-out", f"{certificate}.x"], check=True, capture_output=True)
    certificate.write_bytes(certificate.read_bytes() + Path(f"{certificate}.x").read_bytes())
    with pubsub(certificate=certificate) as bus:
        given = job(script("ok"), publish_url=bus.url, token_url=bus.token_url)
        trusting = {"SSL_CERT_FILE": str(certificate)}
        assert Provisioning(tmp_path / "trusting", given, OK, env=trusting).run().status == 0
        assert [report.kind for report in check_numbers(bus.data())][-1] == COMPLETED
        bus.messages.clear()
        ended = Provisioning(tmp_path / "wary", given, OK, ("--drain", "5")).run()
        assert (ended.status, bus.messages) == (0, [])
        assert "certificate verify failed" in ended.console


def test_a_token_is_fetched_once_and_again_when_it_is_refused(tmp_path: Path) -> None:
    with pubsub(statuses=[401]) as bus:
        steps = [script("ok")] * 3
        machine = Provisioning(tmp_path / "m", job(*steps, publish_url=bus.url, token_url=bus.token_url), OK)
        assert machine.run().status == 0
        check_numbers(bus.data())
    assert set(bus.authorizations) == {"Bearer secret-token"}
    assert bus.tokens_given == 2


def test_a_sick_server_gets_the_reports_when_it_is_well(tmp_path: Path) -> None:
    with pubsub(statuses=[503, 429]) as bus:
        machine = Provisioning(tmp_path / "m", job(script("ok"), publish_url=bus.url), OK, ("--drain", "10"))
        assert machine.run().status == 0
        assert [report.kind for report in check_numbers(bus.data())][-1] == COMPLETED


@pytest.mark.parametrize("url", ["refused", "gs://bucket", "http://", "http://name.invalid/x", "https://127.0.0.1:1/x"])
def test_a_dead_server_fails_nothing(tmp_path: Path, url: str) -> None:
    url = f"http://127.0.0.1:{free_port()}/p:publish" if url == "refused" else url
    machine = Provisioning(tmp_path / "m", job(script("ok"), publish_url=url), OK, ("--drain", "0.5"))
    ended = machine.run()
    assert ended.status == 0
    assert f"could not be published to {url}" in ended.console
    assert machine.kinds()[-1] == COMPLETED


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", b"SSH-2.0-x\r\n\r\n"])
def test_nonsense_is_no_success(tmp_path: Path, answer: bytes) -> None:
    import socket
    import threading

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        machine = Provisioning(tmp_path / "m", job(script("ok"), publish_url=url), OK, ("--drain", "3"))
        ended = machine.run()
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert ended.status == 0
    assert "could not be published" in ended.console


def test_a_slow_server_delays_no_step(tmp_path: Path) -> None:
    with pubsub(delay=60) as bus:
        steps = [script("ok")] * 5
        machine = Provisioning(tmp_path / "m", job(*steps, publish_url=bus.url), OK, ("--drain", "0.5"))
        assert machine.run().status == 0
        times = [report.time for report in machine.reports()]
        assert times[-1] - times[0] < 100  # each of 12 reports would wait for 15 s
        bus.closing.set()


def test_reports_that_pile_up_leave_together(tmp_path: Path) -> None:
    with pubsub(delay=1.0) as bus:
        steps = [script("ok")] * 20
        machine = Provisioning(tmp_path / "m", job(*steps, publish_url=bus.url), OK, ("--drain", "60"))
        assert machine.run().status == 0
        assert len(check_numbers(bus.data())) == 42
    assert len(bus.authorizations) < 20


def test_heartbeats_take_no_number(tmp_path: Path) -> None:
    with pubsub() as bus:
        steps = script("wait")
        machine = Provisioning(tmp_path / "m", job(steps, publish_url=bus.url, heartbeat=0.1), {"wait": "sleep 1"})
        assert machine.run().status == 0
        for data in (bus.data(), machine.report_data()):
            reports = [decode_report(each) for each in data]
            beats = [report for report in reports if report.kind == HEARTBEAT]
            assert 3 <= len(beats) <= (reports[-1].time - reports[0].time) / 0.1 + 1
            assert {report.sequence for report in beats} == {0}
            check_numbers(data)


def test_the_console_stands_in_for_an_absent_port(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("ok")), OK)
    machine.write_cidata(replace(machine.job, report_port=str(tmp_path / "no/port")))
    ended = machine.run()
    assert ended.status == 0
    machine.port.write_text("\n".join(line for line in ended.console.split("\n") if line.startswith(SERIAL_MARK)))
    assert len(check_numbers(machine.report_data())) == 4


def test_a_terminal_gets_the_bytes_as_they_are(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    machine = Provisioning(tmp_path / "m", job(script("ok")), OK)
    machine.write_cidata(replace(machine.job, report_port=os.ttyname(theirs)))
    assert machine.run().status == 0
    received = b""
    while received.count(b"\n") < 4:  # one read gives what the terminal has passed on by then
        received += os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    assert b"\r" not in received
    machine.port.write_bytes(received)
    assert len(check_numbers(machine.report_data())) == 4


def test_a_port_without_a_reader_delays_nothing(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    machine = Provisioning(tmp_path / "m", job(*[script("ok")] * 40), OK, ("--drain", "0.5"))
    machine.write_cidata(replace(machine.job, report_port=os.ttyname(theirs)))
    assert machine.run().status == 0
    os.close(ours)
    os.close(theirs)


def test_the_machine_stays_up_for_what_only_its_port_has_heard(tmp_path: Path) -> None:
    """Compute Engine does not promise the serial output of a stopped machine."""
    with pubsub() as bus:
        heard = replace(job(script("ok"), publish_url=bus.url), linger=600.0)
        assert Provisioning(tmp_path / "heard", heard, OK).run().status == 0
    unheard = replace(job(script("ok"), publish_url=f"http://127.0.0.1:{free_port()}/p:publish"), linger=2.0)
    machine = Provisioning(tmp_path / "unheard", unheard, OK, ("--drain", "0.5"))
    assert "2 s for the host to read the console" in machine.run().console
    completed = machine.reports()[-1]
    assert completed.kind == COMPLETED
    assert time.time() - completed.time > 1.9
