"""Events, orders and reports as messages on the bus, and back. What cannot be read is a PoisonMessage: dropped."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from provisioner.protocol import INVENTORY, SERIAL_MARK, ProtocolError, Report, decode_report

from ..build.build import Build
from ..build.cost.usage import build_usage
from ..build.events import (
    BuildRejected,
    BuildRequested,
    Event,
    Reported,
    Ticked,
    read_event,
    read_order,
    report_id,
    to_json,
)
from ..build.orders import Order
from ..errors import PoisonMessage, StoreError, WrongSignature
from ..ports import Message
from ..topology import EVENTS_TOPIC, FINISHED_TOPIC, FOLLOWED, REPORTS_TOPIC, WORKER_TOPIC

if TYPE_CHECKING:
    from ..keys import Keys

PLAIN_MARK = b"goldsmith: "
PLAIN_LIMIT = 500  # characters
VERSION = 1
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # documents are named so
REPORT_LIMIT = 64 * 1024  # bytes: some ten times the largest that a provisioner sends; a guest may send anything
INVENTORY_LIMIT = 640 * 1024  # bytes, of a list of packages of 512 KiB: a line in base64 on a port that keeps 1 MB


def _data(document: dict[str, object]) -> bytes:
    return json.dumps({"version": VERSION, **document}, sort_keys=True, separators=(",", ":")).encode()


def order_message(order: Order, build: Build) -> Message:
    """Write an order for a worker; for `announce`, the finished build, whole, for other pipelines."""
    attributes = {"build_id": order.build_id, "attempt": str(order.attempt), "order": order.kind}
    if order.kind == "announce":
        attributes["outcome"] = str(build.outcome)
        if build.workflow is not None and build.workflow.followed:
            attributes[FOLLOWED] = "true"
        return Message(FINISHED_TOPIC, _data(finished_document(build)), attributes, order.build_id)
    return Message(WORKER_TOPIC, _data(to_json(order)), attributes, order.build_id)


def finished_document(build: Build) -> dict[str, object]:
    """Return a build as other pipelines read it: with what it has used, which no reader of ours needs."""
    used = build_usage(build)
    return {**to_json(build), "usage": used.to_json() if used is not None else None}


def event_message(event: Event) -> Message:
    """Write a worker's fact."""
    return Message(
        EVENTS_TOPIC, _data(to_json(event)), {"build_id": event.build_id, "kind": event.kind}, event.build_id
    )


def report_message(report: Report, data: bytes, signature: str) -> Message:
    """Write a report that was found on a serial port as the provisioner publishes it."""
    attributes = {
        "build_id": report.build_id,
        "attempt": str(report.attempt),
        "phase": report.phase,
        "kind": report.kind,
        "signature": signature,
    }
    return Message(REPORTS_TOPIC, data, attributes, report.build_id)


def read_message(message: Message) -> Order | Event | SignedReport:
    """Read what a topic brings to the engine or to a worker. Raises PoisonMessage, WrongSignature.

    The topic alone decides what a message is: each has publishers of its own, and no message says what it may be.
    """
    read = _READERS.get(message.topic)
    if read is None:
        raise PoisonMessage(f"topic {message.topic} brings neither orders nor facts about builds")
    return read(message)


def read_order_message(message: Message) -> Order:
    """Read what order_message() wrote. Raises PoisonMessage."""
    try:
        return read_order(_unversioned(message.data))
    except StoreError as error:
        raise PoisonMessage(str(error)) from error


def read_event_message(message: Message) -> Event:
    """Read a worker's fact, or a request to end a build. Raises PoisonMessage, WrongSignature for a VM's report.

    Reports come over REPORTS_TOPIC alone, with their signatures; requests begin a build where they are checked; time
    passes by the engine's own clock. None of them may come over this topic, from any publisher.
    """
    try:
        event = read_event(_unversioned(message.data))
    except StoreError as error:
        raise PoisonMessage(str(error)) from error
    if isinstance(event, Reported):
        raise WrongSignature(f"a report for {event.build_id!r} without a signature; {REPORTS_TOPIC} takes signed ones")
    if isinstance(event, BuildRequested | BuildRejected | Ticked):
        raise PoisonMessage(f"{event.kind} is no fact that a worker reports")
    if not all(map(_ID.fullmatch, (event.build_id, event.event_id))):  # as people may publish by hand
        raise PoisonMessage(f"{event.event_id!r} of {event.build_id!r} are no ids of an event and a build")
    return event


def _unversioned(data: bytes) -> dict[str, object]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PoisonMessage(f"not JSON: {error}") from error
    if not isinstance(document, dict) or document.pop("version", None) != VERSION:
        raise PoisonMessage(f"not an object of version {VERSION}")
    return document


@dataclass(frozen=True)
class SignedReport:
    """A report whose signature has not been checked: which key it needs stands in its build."""

    report: Report
    data: bytes  # as it was signed
    signature: str

    def checked(self, keys: Keys, scheme: int) -> Reported:
        """Return the event that the report is. WrongSignature. The event's time is left to the engine."""
        report = self.report
        if not keys.good(report, self.data, self.signature, scheme):
            raise WrongSignature(
                f"a report for {report.build_id} attempt {report.attempt}, {report.phase}, has a wrong signature"
            )
        return Reported(build_id=report.build_id, event_id=report_id(report), time=0.0, report=report)


def read_report_message(message: Message) -> SignedReport:
    """Read a VM's report. Raises PoisonMessage."""
    try:
        report = _decode_report(message.data)
    except ProtocolError as error:
        raise PoisonMessage(str(error)) from error
    return SignedReport(report, message.data, message.attributes.get("signature", ""))


_READERS: Mapping[str, Callable[[Message], Order | Event | SignedReport]] = {
    WORKER_TOPIC: read_order_message,
    EVENTS_TOPIC: read_event_message,
    REPORTS_TOPIC: read_report_message,
}


def _decode_report(data: bytes) -> Report:
    if len(data) > INVENTORY_LIMIT:
        raise ProtocolError(f"a report of {len(data)} bytes; {REPORT_LIMIT} is the most")
    report = decode_report(data)
    if len(data) > REPORT_LIMIT and (report.kind != INVENTORY or not data.isascii()):  # the store escapes all else
        raise ProtocolError(f"a report of {len(data)} bytes; {REPORT_LIMIT} is the most")
    return report


def serial_reports(
    output: bytes, keys: Keys, build: Build, phase: str, machine: str = ""
) -> list[tuple[Report, Message]]:
    """Return the good reports of a VM in use in the text of its serial port, in its order; all else is noise.

    `machine` is the name of a verifier.
    """
    found = []
    for line in output.split(b"\n"):
        words = line.strip().split(b" ")
        if len(words) != 3 or words[0] != SERIAL_MARK.encode():
            continue
        try:
            data = base64.b64decode(words[1], validate=True)
            report = _decode_report(data)
            signature = words[2].decode("ascii")
        except (binascii.Error, ProtocolError, UnicodeDecodeError):
            continue
        said = report.build_id, report.attempt, report.phase, report.machine
        ours = said == (build.id, build.attempt, phase, machine)
        if ours and keys.good(report, data, signature, build.keys):
            found.append((report, report_message(report, data, signature)))
    return found


def plain_words(output: bytes) -> str:
    """Return the last plain line of bootstrap.sh on a serial port: why there could be no report. "" without one.

    It is not signed: it is for people to read, and decides nothing.
    """
    lines = [line for line in output.splitlines() if line.startswith(PLAIN_MARK)]
    return lines[-1].removeprefix(PLAIN_MARK).decode("utf-8", "replace").strip()[:PLAIN_LIMIT] if lines else ""
