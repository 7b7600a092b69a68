"""Messages on the bus: every kind goes round, garbage is poison, and the shapes are golden."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provisioner.protocol import (
    COMPLETED,
    HEARTBEAT,
    INVENTORY,
    SCRIPTS,
    SERIAL_MARK,
    STEP_FAILED,
    Report,
    ScriptFact,
    encode,
    encode_script,
    sign,
)
from shared.build.build import ArchiveRecord, Outcome, Sibling, State, WorkflowPart
from shared.build.events import Event
from shared.build.orders import ORDER_KINDS, Order
from shared.engine.messages import (
    INVENTORY_LIMIT,
    REPORT_LIMIT,
    event_message,
    order_message,
    read_event_message,
    read_message,
    read_order_message,
    read_report_message,
    report_message,
    serial_reports,
)
from shared.errors import PoisonMessage, WrongSignature
from shared.keys import BY_MACHINE, Keys
from shared.ports import Message
from shared.topology import FINISHED_TOPIC, FOLLOWED, REPORTS_TOPIC, REQUESTS_TOPIC, WORKER_TOPIC
from tests.world import values
from tests.world.world import MASTER

KEYS = Keys(MASTER)
BEGUN = encode_script(ScriptFact("install.d", "60-next", "app"))
ENDED = encode_script(ScriptFact("install.d", "50-app", "app", 1.5, 3))
GOLDEN = Path(__file__).parents[1] / "golden" / "messages"
WORKERS_ORDERS = [Order(values.BUILD_ID, 7, kind, 2) for kind in ORDER_KINDS if kind != "announce"]
ANNOUNCE = Order(values.BUILD_ID, 8, "announce", 1)
FINISHED = values.build(
    state=State.FINISHED,
    outcome=Outcome.SUCCEEDED,
    image=values.image_record(archive=ArchiveRecord(1000, "a1" * 32, "b2" * 32, "00c0ffee", 10 << 30, 600 << 20)),
    ledger=(values.ledger_entry(kind="image", name="hello-20261120", keep=True),),
    orders=8,
)


def signed(report: Report, *, attempt: int = 1) -> Message:
    data = encode(report)
    return report_message(report, data, sign(KEYS.of_machine(report.build_id, attempt, report.phase), data))


def sample() -> dict[str, Message]:
    """One message of every shape there is, by the name of its golden document."""
    failed = values.report(kind=STEP_FAILED, sequence=3, step=0, tries=1, exit_status=3, seconds=0.5, final=True)
    return {
        **{event.kind: event_message(event) for event in values.every_event()},
        **{order.kind: order_message(order, values.build()) for order in WORKERS_ORDERS},
        "announce": order_message(ANNOUNCE, FINISHED),
        "report": signed(replace(failed, output="no such file\n", message="step greet failed")),
        "scripts": signed(values.report(kind=SCRIPTS, sequence=4, step=0, tries=1, output=f"{BEGUN}\n{ENDED}")),
    }


def document(message: Message) -> dict[str, object]:
    return {
        "topic": message.topic,
        "ordering_key": message.ordering_key,
        "attributes": dict(message.attributes),
        "data": json.loads(message.data),
    }


class TestGolden:
    @pytest.mark.parametrize("name", sample())
    def test_the_shape_is_the_one_that_is_kept(self, name: str) -> None:
        """A changed shape is a changed wire format: raise its version, then write the document anew by hand.

        A new key with a default is none.
        """
        assert document(sample()[name]) == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))

    def test_no_document_is_of_nothing(self) -> None:
        assert {path.stem for path in GOLDEN.iterdir()} == set(sample())


@pytest.mark.parametrize("wrong", ["a/b", "", "../x", "x" * 101])
def test_ids_that_cannot_name_a_document_are_poison(wrong: str) -> None:
    """People who may end builds publish by hand."""
    for event in (values.cancel_requested(event_id=wrong), values.cancel_requested(build_id=wrong)):
        with pytest.raises(PoisonMessage, match="no ids"):
            read_event_message(event_message(event))


UNTOLD = ("BuildRequested", "BuildRejected", "Reported", "Ticked")
FACTS = [event for event in values.every_event() if event.kind not in UNTOLD]


@pytest.mark.parametrize("event", [event for event in values.every_event() if event.kind in UNTOLD])
def test_what_no_worker_may_tell_is_poison(event: Event) -> None:
    """Operators may publish to build-events: no report gets there past its signature."""
    expected = WrongSignature if event.kind == "Reported" else PoisonMessage
    with pytest.raises(PoisonMessage) as refused:
        read_event_message(event_message(event))
    assert type(refused.value) is expected


class TestRoundTrips:
    @pytest.mark.parametrize(
        "event", [event for event in values.every_event() if event.kind not in UNTOLD], ids=lambda event: event.kind
    )
    def test_event(self, event: Event) -> None:
        assert read_event_message(event_message(event)) == event

    @pytest.mark.parametrize("order", WORKERS_ORDERS, ids=lambda order: order.kind)
    def test_order(self, order: Order) -> None:
        message = order_message(order, values.build())
        assert message.topic == WORKER_TOPIC
        assert message.attributes["order"] == order.kind
        assert read_order_message(message) == order

    @pytest.mark.parametrize("name", sample())
    def test_the_topic_decides_what_a_message_is(self, name: str) -> None:
        message = sample()[name]
        readers = {WORKER_TOPIC: read_order_message, REPORTS_TOPIC: read_report_message}
        if name in UNTOLD or message.topic == FINISHED_TOPIC:
            with pytest.raises(PoisonMessage):
                read_message(message)
            return
        assert read_message(message) == readers.get(message.topic, read_event_message)(message)
        with pytest.raises(PoisonMessage):
            read_message(replace(message, topic=REQUESTS_TOPIC))

    def test_the_announcement_is_the_build(self) -> None:
        message = order_message(ANNOUNCE, FINISHED)
        assert message.topic == FINISHED_TOPIC
        assert message.attributes["outcome"] == "succeeded"
        assert json.loads(message.data)["image"]["name"] == "hello-20261120"

    @pytest.mark.parametrize("index", [0, 1])
    def test_the_announcement_says_whether_another_build_waits(self, index: int) -> None:
        siblings = (Sibling("one"), Sibling("two", (0,)))
        part = WorkflowPart("gs://b/specs/w.yaml", "1", "asked", "gs://b/results/w-1.json", index, siblings)
        attributes = order_message(ANNOUNCE, replace(FINISHED, workflow=part)).attributes
        assert attributes.get(FOLLOWED) == ("true" if index == 0 else None)
        assert FOLLOWED not in order_message(ANNOUNCE, FINISHED).attributes

    def test_report(self) -> None:
        report = values.report(kind=STEP_FAILED, sequence=3, output="\ud800 half a character, ünïcödé")
        event = read_report_message(signed(report)).checked(KEYS, BY_MACHINE)
        assert (event.report, event.event_id, event.build_id) == (report, "b1-r000003", values.BUILD_ID)


def around(data: bytes) -> list[bytes]:
    """The same garbage, alone and in what looks like a message."""
    text = data.decode("latin-1")
    documents = [{"version": 1, "kind": text}, {"version": 1, "kind": "Ticked", text: 1}, {"version": text}]
    return [data, *(json.dumps(document).encode() for document in documents)]


class TestGarbage:
    @given(st.binary(max_size=200))
    @example(b"[" * 100_000)
    @example(b'{"version": 1e999}')
    @example(b"1" * 5000)
    @example(b'"\\ud800"')
    def test_is_poison(self, data: bytes) -> None:
        for piece in around(data):
            with pytest.raises(PoisonMessage):
                read_order_message(Message(WORKER_TOPIC, piece, {}))
            with pytest.raises(PoisonMessage):
                read_event_message(Message("build-events", piece, {}))
            with pytest.raises(PoisonMessage):
                read_report_message(Message("build-reports", piece, {"signature": "00"})).checked(KEYS, BY_MACHINE)

    @given(st.binary(max_size=200), st.sampled_from([b"", f"{SERIAL_MARK} ".encode(), f"\n{SERIAL_MARK} ".encode()]))
    @example(b"YQ== " + "ü".encode(), f"{SERIAL_MARK} ".encode())
    def test_on_a_serial_port_is_noise(self, data: bytes, before: bytes) -> None:
        assert serial_reports(before + data, KEYS, values.build(), "build") == []

    @pytest.mark.parametrize("kind", ["version", "build_id", "attempt"])
    def test_a_missing_key_is_poison(self, kind: str) -> None:
        whole = json.loads(event_message(values.machine_started()).data)
        del whole[kind]
        with pytest.raises(PoisonMessage, match=kind):
            read_event_message(Message("build-events", json.dumps(whole).encode(), {}))

    def test_an_announcement_is_no_order(self) -> None:
        with pytest.raises(PoisonMessage):
            read_order_message(order_message(ANNOUNCE, FINISHED))


class TestSignatures:
    @given(st.text(max_size=70))
    @example("ü")
    @example("\ud800")
    def test_hazard_11_a_wrong_one_is_poison(self, signature: str) -> None:
        report = values.report(kind=COMPLETED)
        with pytest.raises(PoisonMessage, match="signature"):
            read_report_message(report_message(report, encode(report), signature)).checked(KEYS, BY_MACHINE)

    def test_hazard_11_an_absent_one_is_poison(self) -> None:
        with pytest.raises(PoisonMessage, match="signature"):
            read_report_message(Message("build-reports", encode(values.report()), {})).checked(KEYS, BY_MACHINE)

    def test_hazard_11_one_vm_cannot_speak_for_another_attempt_phase_or_build(self) -> None:
        key = KEYS.of_machine(values.BUILD_ID, 1, "build")
        for lie in (
            values.report(attempt=2),
            values.report(phase="verify"),
            values.report(build_id="other-0123456789ab"),
            values.report(build_id="\ud800"),
        ):
            data = encode(lie)
            with pytest.raises(PoisonMessage, match="signature"):
                read_report_message(report_message(lie, data, sign(key, data))).checked(KEYS, BY_MACHINE)

    def test_hazard_11_a_changed_byte_is_poison(self) -> None:
        message = signed(values.report())
        changed = replace(message, data=message.data.replace(b'"started"', b'"completed"'))
        with pytest.raises(PoisonMessage, match="signature"):
            read_report_message(changed).checked(KEYS, BY_MACHINE)

    def test_attributes_are_not_believed(self) -> None:
        message = signed(values.report())
        told = replace(message, attributes={**message.attributes, "build_id": "other-0123456789ab", "attempt": "9"})
        assert read_report_message(told).checked(KEYS, BY_MACHINE).report == values.report()

    def test_a_report_that_would_fill_the_store_is_poison(self) -> None:
        with pytest.raises(PoisonMessage, match=f"{REPORT_LIMIT}"):
            read_report_message(signed(values.report(message="x" * REPORT_LIMIT))).checked(KEYS, BY_MACHINE)


class TestInventory:
    OUTPUT = "dpkg\tlibc6\t2.36-9\tamd64\tglibc\tDebian\t\n" * 13_000  # some 512 KiB in a report

    def test_a_list_of_packages_fits_on_the_bus_and_on_a_serial_port_that_keeps_a_megabyte(self) -> None:
        message = signed(values.report(kind=INVENTORY, output=self.OUTPUT))
        assert 500 * 1024 < len(message.data) < INVENTORY_LIMIT
        event = read_report_message(message).checked(KEYS, BY_MACHINE)
        assert event.report.output == self.OUTPUT
        line = TestSerial().line(event.report)
        assert len(line) < (1 << 20) - 64 * 1024  # with room for the steps' reports
        [(report, _message)] = serial_reports(line, KEYS, values.build(), "build")
        assert report == event.report

    def test_no_other_report_may_be_as_long(self) -> None:
        for kind, output in ((STEP_FAILED, self.OUTPUT), (INVENTORY, self.OUTPUT * 2)):
            with pytest.raises(PoisonMessage, match=r"is the most"):
                read_report_message(signed(values.report(kind=kind, output=output))).checked(KEYS, BY_MACHINE)
        unescaped = encode(values.report(kind=INVENTORY, output=self.OUTPUT)).replace(b"Debian", "D\u00e9bian".encode())
        with pytest.raises(PoisonMessage, match=r"is the most"):
            read_report_message(Message("build-reports", unescaped, {})).checked(KEYS, BY_MACHINE)


class TestSerial:
    def line(self, report: Report, attempt: int = 1) -> bytes:
        message = signed(report, attempt=attempt)
        return b" ".join(
            [SERIAL_MARK.encode(), base64.b64encode(message.data), message.attributes["signature"].encode()]
        )

    def test_the_good_ones_are_found_in_order_among_noise(self) -> None:
        first, second = values.report(), values.report(kind=HEARTBEAT, sequence=0)
        output = b"boot\r\n" + self.line(first) + b"\r\n\xff\xfe\n" + self.line(second) + b"\ntail"
        found = serial_reports(output, KEYS, values.build(), "build")
        assert [report for report, _message in found] == [first, second]
        assert [read_report_message(message).report for _report, message in found] == [first, second]

    def test_hazard_11_forged_and_foreign_ones_are_not(self) -> None:
        forged = self.line(values.report(kind=COMPLETED), attempt=2)
        other_attempt = self.line(values.report(kind=COMPLETED, attempt=2), attempt=2)
        other_phase = self.line(values.report(kind=COMPLETED, phase="verify"))
        cut_off = self.line(values.report(kind=COMPLETED))[:-3]
        words = b"goldsmith-report: BuildSucceeded completed"
        output = b"\n".join([forged, other_attempt, other_phase, cut_off, words])
        assert serial_reports(output, KEYS, values.build(), "build") == []

    def test_one_that_is_too_large_is_noise(self) -> None:
        line = self.line(values.report(message="x" * REPORT_LIMIT))
        assert serial_reports(line, KEYS, values.build(), "build") == []
