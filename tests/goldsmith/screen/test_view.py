"""The views of a build: what each prints of real events, whatever the guest writes and however small the terminal."""

from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions

from goldsmith.screen.live import ECHO, LINES, STAY, LiveView
from goldsmith.screen.text import last_state, printable, printable_lines
from goldsmith.screen.times import Pace, ago, iso, took, with_iso_times
from goldsmith.screen.view import JsonView, Lines, PlainView, QuietView, View
from goldsmith.screen.words import DOING, event_line, release_lines, summary
from provisioner.protocol import (
    COMPLETED,
    DISK_WANTED,
    INVENTORY,
    REBOOTING,
    SCRIPTS,
    STARTED,
    STEP_FAILED,
    STEP_FINISHED,
    STEP_STARTED,
    ExportedObject,
    encode_exported,
)
from shared.build.build import ArchiveRecord, Build, LedgerEntry, Outcome, State, StepRecord
from shared.build.events import read_build, read_event, to_json
from tests.world import values

EVIL = "\x1b[2J\x1b]0;title\x07\r\b\x9b31m\u202egone\x00\ud800"
ARCHIVE = ArchiveRecord(148_500_000, "a1" * 32, "b2" * 32, "0" * 8, 10 << 30, 600 << 20)


def steps(*statuses: str) -> tuple[StepRecord, ...]:
    return tuple(StepRecord(f"step-{number}", "run-script", status) for number, status in enumerate(statuses))  # type: ignore[arg-type]  # a Literal, by value


def succeeded(**changes: object) -> Build:
    plan = values.plan()
    plan = replace(plan, image=replace(plan.image, export_to="/out/hello.tar.gz"))
    image = values.image_record(archive=ARCHIVE)
    done = values.build(plan=plan, state=State.FINISHED, outcome=Outcome.SUCCEEDED, image=image)
    return replace(done, **changes)  # type: ignore[arg-type]  # fields of Build, by name


def failed(output: str, **changes: object) -> Build:
    record = StepRecord("greet", "run-script", "failed", output=output, exit_status=3)
    build = values.build(state=State.FINISHED, outcome=Outcome.FAILED, reason="step greet failed", steps=(record,))
    return replace(build, **changes)  # type: ignore[arg-type]  # fields of Build, by name


def show_all(view: View, done: Build) -> None:
    """Tell a view a whole build, with every kind of event."""
    with view:
        for event in values.every_event():
            view.event(values.build(state=State.PROVISIONING), event)
        view.console(["[step greet] hello"])
        for written in (0, 50, 100):
            view.progress("writing the archive", written, 100)
        view.event(done, values.cleaned_up())
    view.end(done, "/home/logs")


def test_the_disk_that_is_kept_is_told_with_how_to_boot_it() -> None:
    disk = LedgerEntry("disk", f"gs-{values.BUILD_ID}-a1-boot", "my-project", "us-central1-a", keep=True)
    held = failed("no such file\n", state=State.HELD, ledger=(disk,), disk_until=values.NOON + 7200)
    [*_words, until, create, _ssh, _delete, earlier, _log, _advice] = summary(held, "/logs")
    assert until == (
        f"kept until 2026-11-20 14:00 UTC: disk {disk.name}, as the failed step has left it; boot it with:"
    )
    assert create.startswith(f"  gcloud compute instances create look-{held.id} --project=my-project")
    assert earlier == f"delete it earlier with: goldsmith builds cancel {held.id} --project my-project"


def test_a_disk_that_cannot_be_deleted_yet_is_told_and_what_may_have_it() -> None:
    disk = LedgerEntry("disk", f"gs-{values.BUILD_ID}-a1-boot", "my-project", "us-central1-a", keep=True)
    held = failed("no such file\n", state=State.HELD, ledger=(disk,), disk_until=values.NOON)
    [said, delete] = release_lines(held)
    assert disk.name in said
    assert delete.split() == [
        *("gcloud", "compute", "instances", "delete", f"look-{held.id}"),
        *("--project=my-project", "--zone=us-central1-a"),
    ]
    assert not any("not cleaned up yet" in line for line in summary(held, "/logs"))
    released = replace(held, ledger=(replace(disk, keep=False),))
    assert release_lines(released) == []
    assert any(line.startswith(f"not cleaned up yet: {disk.name};") for line in summary(released, "/logs"))


def test_findings_that_may_pass_are_told_at_the_end() -> None:
    """hygiene: warn."""
    findings = tuple(f"/tmp/{number} was left by the build; remove it in the last step" for number in range(22))
    lines = summary(succeeded(image=values.image_record(findings=findings)), "/logs")
    assert lines[1] == "warning: in the image: /tmp/0 was left by the build; remove it in the last step"
    assert lines[-1] == "warning: and 2 more findings; the build's JSON has them all"
    assert len(lines) == 22
    assert not any("warning" in line for line in summary(succeeded(), "/logs"))


def without_times(text: str) -> list[str]:
    return [line[11:] if line[7:9] == " s" else line for line in text.splitlines()]


def terminal(width: int = 80, height: int = 24, **more: object) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, **more)  # type: ignore[arg-type]  # options of Console


def drawn(view: LiveView, console: Console) -> list[str]:
    """The picture of this moment, without colours."""
    with console.capture() as capture:
        console.print(view.draw())
    return capture.get().splitlines()


def test_plain_view_says_each_thing_on_a_line_with_its_time() -> None:
    stream = io.StringIO()
    view = PlainView(stream)
    build = values.build()
    with view:
        view.event(build, values.requested())
        view.event(replace(build, state=State.PROVISIONING), values.machine_started())
        view.event(replace(build, state=State.PROVISIONING), values.reported(kind=STEP_STARTED, step=0))
        view.console(["[step greet] hello"])
        view.event(succeeded(), values.cleaned_up())
    view.end(succeeded(), "/home/logs")
    assert without_times(stream.getvalue()) == [
        f"build {values.BUILD_ID}",
        "preparing: getting ready for the steps",
        "provisioning: running the steps",
        "VM of attempt 1 started",
        "step greet",
        "| [step greet] hello",
        "finished: succeeded",
        "image local/hello-20261120, newest of family hello",
        "archive /out/hello.tar.gz (148.5 MB)",
    ]
    assert all(line[7:11] == " s  " and float(line[:7]) >= 0 for line in stream.getvalue().splitlines()[:7])


def test_plain_progress_is_two_lines_a_piece_of_work() -> None:
    stream = io.StringIO()
    view = PlainView(stream)
    for _ in range(100):
        view.progress("waiting for gs-x to stop", 0, 0)
    for done in range(0, 2_000_001, 1000):
        view.progress("writing the archive", done, 2_000_000)
    view.progress("proving the archive", 1, 10)
    assert without_times(stream.getvalue()) == [
        "waiting for gs-x to stop",
        "writing the archive",
        "writing the archive: done, 2.0 MB in 0.0 s",
        "proving the archive",
    ]


def test_json_view_prints_what_can_be_read_back() -> None:
    stream = io.StringIO()
    show_all(JsonView(stream), succeeded())
    documents = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {tuple(sorted(document)) for document in documents} == {
        ("event", "state"),
        ("console",),
        ("done", "progress", "total"),
        ("build", "logs", "remedy"),
    }
    events = [document["event"] for document in documents if "event" in document]
    whole = [read_event(event) for event in events if event["kind"] != "BuildRequested"]
    assert tuple(whole) == (*values.every_event()[1:], values.cleaned_up())
    assert read_build(documents[-1]["build"]) == succeeded()
    assert documents[-1]["logs"] == "/home/logs"


def test_a_list_of_packages_is_printed_by_no_view() -> None:
    """It has up to 512 KiB; the live view says what event_line() does."""
    event = values.reported(kind=INVENTORY, sequence=9, output="dpkg\tlibc6\t2.36\n" * 20_000)
    for make in (PlainView, JsonView):
        stream = io.StringIO()
        make(stream).event(values.build(state=State.PROVISIONING), event)
        assert len(stream.getvalue()) < 1000
    assert event.report.output


def test_json_progress_is_at_most_each_percent() -> None:
    stream = io.StringIO()
    view = JsonView(stream)
    for done in range(100_000):
        view.progress("writing the archive", done, 100_000)
    assert len(stream.getvalue().splitlines()) == 100


@pytest.mark.parametrize("make", [PlainView, JsonView])
def test_build_goes_on_when_the_reader_has_gone(make: type[PlainView] | type[JsonView]) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        view = make(stream)
        view.progress("first", 0, 0)
        os.close(reading)
        show_all(view, succeeded())
        with pytest.raises(BrokenPipeError):
            stream.flush()  # the pipe is broken indeed, and what could not be written is there still
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def test_lines_are_not_lost_on_other_faults(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w+") as stream:
        os.dup2(os.open("/dev/full", os.O_WRONLY), stream.fileno())
        with pytest.raises(OSError, match="No space left"):
            Lines(stream).write("x")
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def test_nothing_steers_the_terminal() -> None:
    done = failed(f"first\n{EVIL}\n", reason=EVIL, id="hello" + EVIL)
    running = values.build(state=State.PROVISIONING, steps=(StepRecord(EVIL, EVIL, "running"),))
    console = terminal(width=200, color_system=None)
    plain, live = io.StringIO(), LiveView(console)
    for view in (PlainView(plain), live):
        view.event(running, values.machine_stopped(detail=EVIL))
        view.progress(EVIL, 1, 2)
        view.console([EVIL])
        view.event(running, values.reported(kind=STEP_STARTED, step=0))
    text = "\n".join(drawn(live, console))
    for view in (PlainView(plain), live):
        view.event(done, values.cleaned_up())
        view.end(done, EVIL)
    assert isinstance(console.file, io.StringIO)
    for shown in (plain.getvalue(), text, console.file.getvalue()):
        assert "gone" in shown
        assert all(letter == "\n" or letter.isprintable() for letter in shown), ascii(shown)


def test_printable_keeps_what_is_harmless() -> None:
    assert printable("tab\there, ümläut, 漢字, no\u00a0break") == "tab\there, ümläut, 漢字, no\u00a0break"
    assert printable("a\x1b[31mb\n\x1b[2J") == "ab\ufffd\ufffd[2J"
    assert printable("\x1b[\x1b[0m2J") == "\ufffd[2J"  # what is left of two is harmless as well
    assert printable_lines("a\r\nb\x07\n") == "a\nb\ufffd\n"


def test_live_view_can_be_started_before_anything_has_happened() -> None:
    console = terminal()
    with LiveView(console) as view:
        view.event(values.build(), values.requested())
    assert isinstance(console.file, io.StringIO)


def test_live_view_draws_the_script_that_runs() -> None:
    console = terminal(color_system=None)
    view = LiveView(console)
    build = values.build(state=State.PROVISIONING, steps=steps("running"))
    running = values.reported(
        kind=SCRIPTS, step=0, output='["install.d","10-a","a",1,0]\n["install.d","20-\\u001b","b"]'
    )
    view.event(build, running)
    assert "install.d/20-\ufffd (b)" in "\n".join(drawn(view, console))
    view.event(build, values.reported(kind=SCRIPTS, step=0, output='["install.d","20-b","b",1,0]'))
    assert "install.d" not in "\n".join(drawn(view, console))


def test_live_view_draws_steps_progress_and_the_last_lines() -> None:
    console = terminal(color_system=None)
    view = LiveView(console)
    build = values.build(state=State.EXPORTING, steps=steps("done", "failed", "running", "waiting"))
    view.event(build, values.reported(kind=STEP_STARTED, step=2))
    view.console([f"line {number}" for number in range(100)])
    view.progress("writing the archive", 30, 100)
    title, *rows = drawn(view, console)
    assert f"{build.id}  {DOING[State.EXPORTING]}" in title
    assert [(len(row) - len(row.lstrip()), row.split()[0]) for row in rows[:9]] == [
        *((2, "✓"), (2, "✓")),
        *((4, "✓"), (4, "✗"), (4, "▸"), (4, "·")),
        *((2, "▸"), (2, "·"), (2, "·")),
    ]
    assert rows[4].rstrip().endswith(" s")
    assert all(DOING[state] in row for state, row in zip((State.EXPORTING, State.PUBLISHING), rows[6:8], strict=True))
    assert "writing the archive" in rows[9]
    assert "30 %" in rows[9]
    assert [row.strip() for row in rows[10:]] == [f"│ line {number}" for number in range(100 - LINES, 100)]


def test_live_view_says_what_a_step_waits_for() -> None:
    console = terminal(color_system=None)
    view = LiveView(console)
    build = values.build(state=State.PROVISIONING)
    view.event(build, values.machine_started())
    assert "VM of attempt 1 started" in "\n".join(drawn(view, console))
    view.event(build, values.reported(kind=STEP_STARTED, step=0))
    assert "VM of attempt 1 started" not in "\n".join(drawn(view, console))


@pytest.mark.parametrize(("width", "height"), [(20, 6), (40, 10), (80, 24), (300, 60)])
@pytest.mark.parametrize("at", [0, 500, 999])
def test_live_view_fits_any_terminal_with_a_thousand_steps(width: int, height: int, at: int) -> None:
    console = terminal(width, height, color_system=None)
    view = LiveView(console)
    statuses = ["done"] * at + ["running"] + ["waiting"] * (999 - at)
    view.event(values.build(state=State.PROVISIONING, steps=steps(*statuses)), values.machine_started())
    view.console(["x" * 500] * 50)
    view.progress("writing the archive " * 10, 30, 100)
    rows = drawn(view, console)
    assert len(rows) <= height
    assert all(len(row) <= width - ECHO for row in rows)
    assert any("▸" in row for row in rows)


def test_what_stays_of_a_thousand_steps_is_short_and_has_the_failed_one() -> None:
    console = terminal(color_system=None)
    build = failed("no such file\n", steps=(*steps(*["done"] * 700), *failed("x").steps, *steps(*["waiting"] * 299)))
    LiveView(console).end(build, "/home/logs")
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue().splitlines()
    assert len(shown) < STAY + 10
    assert any("✗" in line and "greet" in line for line in shown)
    assert "… 681 before" in shown[0]
    assert any("… 280 more" in line for line in shown)


def test_no_color_is_respected() -> None:
    outputs = []
    for no_color in (False, True):
        console = terminal(no_color=no_color, color_system="standard")
        LiveView(console).end(succeeded(steps=steps("done")), "/home/logs")
        assert isinstance(console.file, io.StringIO)
        outputs.append(console.file.getvalue())
    assert "\x1b[32m  ✓" in outputs[0]
    assert "\x1b[3" not in outputs[1]


def test_every_event_can_be_told() -> None:
    told = {event.kind: event_line(values.build(), event) for event in values.every_event()}
    assert {kind for kind, text in told.items() if text} == {
        "DiskGrown",
        "MachineStarted",
        "MachineStopped",
        "Reported",
    }


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": STARTED}, "provisioner started"),
        ({"kind": STARTED, "resumed_at": 2}, "provisioner started, going on with step 3"),
        ({"kind": STEP_STARTED, "step": 0}, "step greet"),
        ({"kind": STEP_STARTED, "step": 7}, "step "),  # a guest may say what it likes
        ({"kind": STEP_STARTED, "step": -7}, "step "),
        ({"kind": STEP_FINISHED, "step": 0, "seconds": 1.26}, "step greet done in 1.3 s"),
        ({"kind": STEP_FINISHED, "step": 0, "message": "network is up"}, "step greet done: network is up"),
        (
            {"kind": STEP_FAILED, "step": 0, "seconds": 2.0, "exit_status": 3, "final": True},
            "step greet failed in 2.0 s, exit status 3",
        ),
        ({"kind": STEP_FAILED, "step": 0, "final": False}, "step greet failed, trying again"),
        ({"kind": REBOOTING}, "rebooting the VM"),
        ({"kind": DISK_WANTED}, "the VM waits for a larger disk"),
        ({"kind": INVENTORY, "output": "dpkg\tlibc6\n" * 9}, ""),
        ({"kind": SCRIPTS, "step": 0, "output": '["install.d","10-a","a"]'}, ""),  # the console has it
        ({"kind": COMPLETED}, ""),
    ],
)
def test_reports_are_told(fields: dict[str, object], text: str) -> None:
    assert event_line(values.build(), values.reported(**fields)) == text  # type: ignore[arg-type]  # fields of Report, by name


def test_stopped_machine_is_told_with_its_detail() -> None:
    text = event_line(values.build(), values.machine_stopped(how="panicked", detail="kernel panic"))
    assert text == "VM of attempt 1: panicked (kernel panic)"


def test_summary_of_a_failure_has_the_last_lines_and_the_log() -> None:
    lines = summary(failed("".join(f"line {number}\n" for number in range(100))), "/home/logs")
    assert lines[:3] == ["failed: step greet failed", "the last lines of step greet:", "  line 80"]
    assert lines[-3:-1] == ["  line 99", "the whole log: /home/logs"]
    assert lines[-1].startswith("what to do: ")


def test_what_had_to_stay_of_a_withdrawn_publication_is_told() -> None:
    lines = summary(replace(failed(""), warnings=("gs://b/x.spdx.json stays: 403",)), "/home/logs")
    assert lines[-3:-1] == ["warning: gs://b/x.spdx.json stays: 403", "the whole log: /home/logs"]


def test_summary_of_an_unchanged_build_is_its_reason() -> None:
    assert summary(replace(succeeded(), outcome=Outcome.UNCHANGED, reason="it is there"), "x") == [
        "unchanged: it is there"
    ]


def test_summary_without_family_or_archive() -> None:
    plan = replace(values.plan(), image=replace(values.plan().image, family=None))
    assert summary(succeeded(plan=plan, image=values.image_record()), "x") == ["image local/hello-20261120"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "disk-wanted"}, "the VM waits for the image's disk"),
        ({"kind": "step-started", "step": 0}, "writing a file of the image"),
        ({"kind": "step-finished", "step": 0, "message": "no programs were missing"}, ""),
        (
            {
                "kind": "step-finished",
                "message": encode_exported(ExportedObject("qcow2", 12_340_000, "", "", 1)),
            },
            "qcow2 is written (12.3 MB)",
        ),
        ({"kind": "step-failed", "step": 0, "message": "HTTP 412"}, "a file of the image is not written: HTTP 412"),
        ({"kind": "completed"}, ""),
    ],
)
def test_steps_of_the_vm_that_writes_files_are_none_of_the_spec(fields: dict[str, object], text: str) -> None:
    said = values.reported(phase="export", **fields)  # type: ignore[arg-type]  # fields of Report, by name
    assert event_line(values.build(), said) == text


def test_live_view_follows_the_size_of_its_terminal() -> None:
    console = terminal(color_system=None)
    view = LiveView(console)
    view.event(
        values.build(state=State.PROVISIONING, steps=steps("done", "running", "waiting")), values.machine_started()
    )
    view.console(["漢字 is wide " * 20] * 20)
    view.progress("writing the archive", 3_000_000, 4_000_000)
    for width, height in ((80, 24), (30, 9), (120, 40), (12, 5)):
        console.size = ConsoleDimensions(width, height)
        rows = drawn(view, console)
        assert len(rows) <= height
        assert all(cell_len(row) <= width - ECHO for row in rows)
        assert any("▸" in row for row in rows)


def test_quiet_view_prints_the_result_alone() -> None:
    for done, told, at_fault in ((succeeded(), "local/hello-20261120\n", False), (failed("x\n"), "", True)):
        result, errors = io.StringIO(), io.StringIO()
        show_all(QuietView(result, errors), done)
        assert result.getvalue() == told
        assert ("what to do: " in errors.getvalue()) is at_fault


def test_live_view_tells_how_long_each_state_took_over_all_attempts() -> None:
    console = terminal(color_system=None)
    view = LiveView(console)
    build = values.build()
    for state, time in (
        *((State.PREPARING, 0), (State.PROVISIONING, 5), (State.PREPARING, 65)),
        *((State.PROVISIONING, 70), (State.CLEANING, 100)),
    ):
        view.event(replace(build, state=state), values.machine_started(time=values.NOON + time))
    rows = drawn(view, console)
    assert any(DOING[State.PREPARING] in row and row.endswith(" 10.0 s") for row in rows)
    assert any(DOING[State.PROVISIONING] in row and row.endswith(" 1 min 30 s") for row in rows)


def test_live_view_marks_the_state_that_failed_and_hides_those_that_never_come() -> None:
    console = terminal(color_system=None)
    view = LiveView(console)
    view.event(values.build(state=State.EXPORTING, steps=steps("done")), values.machine_started())
    ended = values.build(state=State.CLEANING, outcome=Outcome.FAILED, steps=steps("done"))
    view.event(ended, values.machine_started(time=values.NOON + 9))
    rows = drawn(view, console)
    marks = {row[2:].partition(" ")[2].strip().partition("  ")[0]: row.strip()[0] for row in rows[1:]}
    assert marks[DOING[State.EXPORTING]] == "✗"
    assert marks[DOING[State.CLEANING]] == "▸"
    assert DOING[State.PUBLISHING] not in marks


def test_what_a_progress_bar_wrote_over_is_not_shown() -> None:
    assert last_state("[step x] 10%\r[step x] 20%\r") == "[step x] 20%"
    assert last_state("\x1b[31mred\x1b[0m, ?[1;32mgreen?[m") == "red, green"
    assert last_state("why? [1] \x1b[2J") == "why? [1] \x1b[2J"  # what would steer is left to printable()


def test_pace_tells_rate_and_time_left_once_they_are_known() -> None:
    pace = Pace(1_000_000, 10.0)
    assert pace.words(1_000_000, 4_000_000, 10.5) == " 25 %  1.0 of 4.0 MB"
    assert pace.words(2_000_000, 4_000_000, 12.0) == " 50 %  2.0 of 4.0 MB  500.0 kB/s  4.0 s left"
    assert pace.words(4_000_000, 4_000_000, 16.0) == "100 %  4.0 of 4.0 MB"
    assert Pace(0, 0.0).words(0, 8_000_000_000, 60.0) == "  0 %  0.0 of 8.0 GB"  # nothing is known of its pace


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        *((0, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3599, "59 min 59 s"), (3725, "1 h 02 min")),
        *((90_000, "1 d 1 h"), (-5, "0.0 s"), (float("inf"), "11574074 d 1 h")),
    ],
)
def test_lengths_of_time(seconds: float, told: str) -> None:
    assert took(seconds) == told


@pytest.mark.parametrize(
    ("away", "told"),
    [
        *((0.4, "now"), (1, "1 second ago"), (59, "59 seconds ago"), (180, "3 minutes ago"), (7200, "2 hours ago")),
        *((86_400 * 3, "3 days ago"), (-7300, "in 2 hours"), (float("inf"), "never"), (float("nan"), "never")),
    ],
)
def test_times_are_relative_where_people_read(away: float, told: str) -> None:
    assert ago(values.NOON, values.NOON + away) == told


def test_times_are_iso_where_programs_read() -> None:
    assert iso(values.NOON) == "2026-11-20T12:00:00.000Z"
    assert iso(values.NOON + 0.25) == "2026-11-20T12:00:00.250Z"
    assert [iso(odd) for odd in (1e18, float("nan"), float("inf"))] == [None, None, None]


def test_json_has_iso_times_beside_the_seconds() -> None:
    document = {
        "created": values.NOON,
        "deleted": None,
        "steps": [{"seconds": 4.2, "time": 0.0}],
        "used": 5_000_000_000,
    }
    assert with_iso_times({"build": document, "until": values.NOON + 60}) == {
        "build": {**document, "iso_times": {"created": "2026-11-20T12:00:00.000Z"}},
        "until": values.NOON + 60,
        "iso_times": {"until": "2026-11-20T12:01:00.000Z"},
    }
    assert with_iso_times([{"time": "noon"}, 7]) == [{"time": "noon"}, 7]
    assert "iso_times" not in with_iso_times({"time": float("nan")})


def test_all_times_of_a_build_are_iso_as_well() -> None:
    shown = with_iso_times(to_json(values.build()))
    assert set(shown["iso_times"]) >= {"created", "updated", "deadline"}
    assert shown["plan"]["iso_times"] == {"requested": iso(values.NOON)}
    event = with_iso_times(to_json(values.machine_started()))
    assert event["iso_times"] == {"time": iso(values.machine_started().time)}


def test_before_a_build_begins_the_live_view_says_what_is_done_and_for_how_long() -> None:
    for width in (80, 30):
        console = terminal(width, 24, color_system=None)
        view = LiveView(console)
        assert drawn(view, console)[0][2:] == "0.0 s"
        view.progress("uploading the context, 1,234.5 MB", 0, 0)
        [line] = drawn(view, console)
        assert line.endswith("  0.0 s")
        assert line[2:].startswith("uploading the")
        assert ("1,234.5 MB" in line) == (width == 80)


def test_times_are_seen_in_a_narrow_terminal() -> None:
    console = terminal(30, 24, color_system=None)
    view = LiveView(console)
    view.event(values.build(state=State.PROVISIONING, steps=steps("running")), values.machine_started())
    [title, *rows] = drawn(view, console)
    assert title.endswith("\u2026  0.0 s")
    assert all(row.endswith(" 0.0 s") for row in rows if "\u25b8" in row)
