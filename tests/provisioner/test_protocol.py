"""The wire contract: documents survive a round trip on both sides, and none is half understood."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import light_dataclasses, protocol
from provisioner.protocol import (
    ACTIONS,
    CHECK_ACTIONS,
    EXPORT_ACTIONS,
    MAKER_ACTIONS,
    PHASES,
    REPORT_KINDS,
    Job,
    ProtocolError,
    Report,
    Step,
    decode_inputs,
    decode_job,
    decode_report,
    encode,
    sign,
)
from shared.delivery.bundle import provisioner_pyz

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBER = st.floats(min_value=0, max_value=1e9)
COUNT = st.integers(min_value=0, max_value=10**9)
INPUTS: dict[str, st.SearchStrategy[Any]] = {
    "run-script": st.fixed_dictionaries({"script": TEXT}, optional={"env": st.dictionaries(TEXT, TEXT, max_size=3)}),
    "copy-files": st.fixed_dictionaries({"source": TEXT, "destination": TEXT}, optional={"mode": st.none() | TEXT}),
    "install-packages": st.fixed_dictionaries({"packages": st.lists(TEXT, max_size=3)}),
    "install-gpu": st.fixed_dictionaries({"version": TEXT}, optional={"md5sum": st.none() | TEXT, "deps_dir": TEXT}),
    "install-anthos": st.fixed_dictionaries({"package_spec": TEXT}, optional={"workdir": st.none() | TEXT}),
    "seal-oem": st.just({}),
    "disable-auto-update": st.just({}),
    "kernel-command-line": st.fixed_dictionaries({}, optional={"add": st.lists(TEXT, max_size=3)}),
    "elements": st.fixed_dictionaries({"elements": st.lists(TEXT, max_size=3)}, optional={"documents": TEXT}),
    "ansible": st.fixed_dictionaries(
        {"playbook": TEXT}, optional={"tags": st.lists(TEXT, max_size=3), "version": TEXT}
    ),
    "reboot": st.just({}),
}
STEPS = st.sampled_from(sorted(ACTIONS)).flatmap(
    lambda action: st.builds(Step, TEXT, st.just(action), INPUTS[action], NUMBER, COUNT, st.booleans())
)
JOBS = st.builds(
    Job,
    build_id=TEXT,
    attempt=COUNT,
    key=st.binary(min_size=32, max_size=32).map(bytes.hex),
    steps=st.lists(STEPS, max_size=4).map(tuple),
    phase=st.sampled_from(PHASES),
    publish_url=st.none() | TEXT,
    token_url=st.none() | TEXT,
    report_port=TEXT,
    heartbeat=NUMBER,
    clean=st.booleans(),
)
REPORTS = st.builds(
    Report,
    build_id=TEXT,
    attempt=COUNT,
    phase=st.sampled_from(PHASES),
    sequence=COUNT,
    kind=st.sampled_from(REPORT_KINDS),
    time=NUMBER,
    step=st.none() | COUNT,
    tries=COUNT,
    exit_status=st.none() | COUNT,
    seconds=st.none() | NUMBER,
    final=st.booleans(),
    resumed_at=st.none() | COUNT,
    message=TEXT,
    output=TEXT,
)


@given(JOBS)
def test_jobs_come_back(job: Job) -> None:
    assert decode_job(encode(job)) == job
    assert encode(decode_job(encode(job))) == encode(job)


@given(REPORTS)
def test_reports_come_back(report: Report) -> None:
    assert decode_report(encode(report)) == report


@given(st.binary(max_size=60) | st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode))
def test_anything_else_is_a_protocol_error(data: bytes) -> None:
    for decode in (decode_job, decode_report):
        with pytest.raises(ProtocolError):
            decode(data)


GOOD_STEP: dict[str, Any] = {"name": "a", "action": "run-script", "inputs": {"script": "a.sh"}}
GOOD_JOB: dict[str, Any] = {"build_id": "b", "attempt": 1, "key": "00", "steps": [GOOD_STEP]}
GOOD_REPORT: dict[str, Any] = {
    "build_id": "b",
    "attempt": 1,
    "phase": "build",
    "sequence": 1,
    "kind": "started",
    "time": 1.5,
}


def test_defaults_may_be_left_out() -> None:
    job = decode_job(json.dumps(GOOD_JOB).encode())
    assert job == Job("b", 1, "00", (Step("a", "run-script", {"script": "a.sh"}),))
    assert decode_report(json.dumps(GOOD_REPORT).encode()) == Report("b", 1, "build", 1, "started", 1.5)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "job.version: 2 is none of 1"),
        ({"phase": "party"}, "job.phase: 'party' is none of build, verify, export"),
        ({"extra": 1}, "job.extra: unknown key"),
        ({"attempt": "1"}, "job.attempt: needs int, not '1'"),
        ({"attempt": 1.5}, "job.attempt: needs int, not 1.5"),
        ({"attempt": True}, "job.attempt: needs int, not True"),
        ({"clean": 1}, "job.clean: needs bool, not 1"),
        ({"heartbeat": "20s"}, "job.heartbeat: needs float"),
        ({"heartbeat": 1e300}, "job.heartbeat: needs float"),
        ({"publish_url": 1}, "job.publish_url: needs str, not 1"),
        ({"build_id": None}, "job.build_id: needs str, not None"),
        ({"key": "xyz"}, "job.key: needs hexadecimal digits"),
        ({"steps": {}}, "job.steps: needs Tuple"),
        ({"steps": ["a"]}, r"job.steps\[0\]: needs an object, not str"),
        ({"steps": [{**GOOD_STEP, "retry": 1}]}, r"job.steps\[0\].retry: unknown key"),
        ({"steps": [{"name": "a"}]}, r"job.steps\[0\]: .*missing.*action"),
        ({"steps": [{**GOOD_STEP, "action": "format"}]}, r"job.steps\[0\].action: 'format' is none of run-script"),
        ({"steps": [{**GOOD_STEP, "inputs": {}}]}, r"job.steps\[0\].inputs: .*missing.*script"),
        ({"steps": [{**GOOD_STEP, "inputs": []}]}, r"job.steps\[0\].inputs: needs Mapping"),
        (
            {"steps": [{**GOOD_STEP, "inputs": {"script": "a", "env": {"A": 1}}}]},
            r"inputs.env: needs Mapping\[str, str\]",
        ),
        (
            {"steps": [{**GOOD_STEP, "action": "install-packages", "inputs": {"packages": "jq"}}]},
            "inputs.packages: needs",
        ),
    ],
)
def test_a_wrong_job_is_told_by_its_key(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        decode_job(json.dumps({**GOOD_JOB, **change}).encode())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 0}, "report.version: 0 is none of 1"),
        ({"kind": "happy"}, "report.kind: 'happy' is none of started"),
        ({"phase": ""}, "report.phase: '' is none of build"),
        ({"more": None}, "report.more: unknown key"),
        ({"sequence": None}, "report.sequence: needs int"),
        ({"time": "now"}, "report.time: needs float"),
        ({"step": "0"}, "report.step: needs int"),
        ({"final": "yes"}, "report.final: needs bool"),
        ({"output": 3}, "report.output: needs str"),
    ],
)
def test_a_wrong_report_is_told_by_its_key(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        decode_report(json.dumps({**GOOD_REPORT, **change}).encode())


@pytest.mark.parametrize("missing", sorted(GOOD_JOB))
def test_a_missing_key_is_named(missing: str) -> None:
    with pytest.raises(ProtocolError, match=f"missing.*{missing}"):
        decode_job(json.dumps({key: value for key, value in GOOD_JOB.items() if key != missing}).encode())


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff", b"1", b'"x"', b"[]", b"null", b'{"a": NaN}'])
def test_what_is_no_object_is_told(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_report(data)


def test_not_a_number_is_no_number() -> None:
    for value in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(ProtocolError, match=r"report\.time: needs float"):
            decode_report(json.dumps(GOOD_REPORT).replace("1.5", value).encode())


def test_signatures_are_those_of_hmac_sha256() -> None:
    assert (
        sign("0b" * 20, b"Hi There") == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    )  # RFC 4231


def test_every_action_has_a_module_and_a_shape() -> None:
    for action in (*ACTIONS, *MAKER_ACTIONS, *CHECK_ACTIONS, *EXPORT_ACTIONS):
        assert callable(import_module(f"provisioner.steps.{action.replace('-', '_')}").act)
    assert decode_inputs(Step("a", "reboot", {})) == protocol.Reboot()
    with pytest.raises(ProtocolError, match=r"step\.inputs\.now: unknown key"):
        decode_inputs(Step("a", "reboot", {"now": True}))


ECHO = """
import sys
sys.path.insert(0, sys.argv[1])
from provisioner import protocol
assert protocol.dataclass.__module__ == "provisioner.light_dataclasses"
assert not {"dataclasses", "typing", "inspect"} & set(sys.modules)
for line in sys.stdin.buffer:
    decode = getattr(protocol, line[:6].decode() == "report" and "decode_report" or "decode_job")
    try:
        print(protocol.encode(decode(line[7:])).decode())
    except protocol.ProtocolError as error:
        print(error)
"""


def test_the_machines_side_understands_the_same(tmp_path: Path) -> None:
    """The archive's protocol.py uses light_dataclasses: same bytes, same errors, up to Python's own wording."""
    pyz = tmp_path / "provisioner.pyz"
    pyz.write_bytes(provisioner_pyz())
    job = Job("b", 1, "00", tuple(Step("s", "copy-files", {"source": "a", "destination": "/b"}) for _ in range(3)))
    lines = [
        b"job    " + encode(job),
        b"report " + encode(Report("b", 1, "build", 3, "heartbeat", 1.25, output="\u00e9\n")),
        b"job    " + json.dumps({**GOOD_JOB, "extra": 1}).encode(),
        b"report {}",
    ]
    command = [sys.executable, "-I", "-S", "-E", "-c", ECHO, str(pyz)]
    ended = subprocess.run(command, input=b"\n".join(lines), capture_output=True, check=True)
    first, second, third, fourth = ended.stdout.decode().splitlines()
    assert first.encode() == lines[0][7:]
    assert second.encode() == lines[1][7:]
    assert third == "job.extra: unknown key"
    assert "missing" in fourth
    assert "build_id" in fourth


@given(JOBS)
def test_light_dataclasses_are_like_the_real_ones(job: Job) -> None:
    @light_dataclasses.dataclass(frozen=True)
    class Light:
        name: str
        steps: tuple[object, ...] = ()
        env: dict[str, str] = light_dataclasses.field(default_factory=dict)

    light = Light("x", steps=(Light("y"), job.build_id))  # type: ignore[call-arg]  # mypy knows the real ones alone
    assert light_dataclasses.asdict(light) == {
        "name": "x",
        "steps": [{"name": "y", "steps": [], "env": {}}, job.build_id],
        "env": {},
    }
    assert Light("y").env is not Light("y").env  # type: ignore[call-arg]
    assert asdict(job)["build_id"] == job.build_id
    for arguments in ((), (1, 2, 3, 4)):
        with pytest.raises(TypeError):
            Light(*arguments)
    with pytest.raises(TypeError, match="unexpected arguments: colour"):
        Light("x", colour=1)  # type: ignore[call-arg]
