"""Run commands, ours and others', in turn, and compare them: wall and CPU time, peak memory, medians, ratios.

A machine is never as quiet as one thinks: candidates take turns within every round, so that what disturbs one disturbs
its peers as well, and only ratios of one run are worth quoting. Numbers come from wait4(), which counts a process and
the children that it has waited for; those that it leaves to others come to this process, which waits for them too.
"""

import ctypes
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

LIMITS_HEAD = "\n| required | measured | CPU time | met |\n| --- | ---: | ---: | --- |"
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_LEFTOVERS = 5.0  # seconds for processes that a command has left


@dataclass(frozen=True)
class Candidate:
    """A command, or several joined by pipes, and the file that gets the last one's output."""

    name: str
    pipeline: Sequence[Sequence[str | Path]]
    output: Path | None = None
    prepare: Callable[[], None] | None = None  # before every run, not measured
    inspect: Callable[[], Mapping[str, float]] | None = None  # after every run: further figures, by name
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of this process's own


@dataclass(frozen=True)
class Sample:
    """What one run took: seconds, and bytes of memory.

    Of a pipeline, CPU times are added up, and the peak is that of its largest process. A peak cannot be told below
    that of the measuring process (about 20 MB), which is what a child starts with.
    """

    wall: float
    user: float
    system: float
    peak: int
    figures: Mapping[str, float] = field(default_factory=dict)


def run(candidate: Candidate) -> Sample:
    """Run a candidate once. RuntimeError, with the end of what it said, when one of its commands fails."""
    if candidate.prepare:
        candidate.prepare()
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    with ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile())
        output = stack.enter_context((candidate.output or Path(os.devnull)).open("wb"))
        started = time.perf_counter()
        processes = _start(candidate, output, said)
        usages = [_wait(process) for process in processes]
        wall = time.perf_counter() - started
        usages += _leftovers()
        if any(process.returncode for process in processes):
            said.seek(0)
            statuses = ", ".join(str(process.returncode) for process in processes)
            raise RuntimeError(
                f"{candidate.name}: exit status {statuses}: {said.read()[-2000:].decode(errors='replace')}"
            )
    return Sample(
        wall=wall,
        user=sum(usage.ru_utime for usage in usages),
        system=sum(usage.ru_stime for usage in usages),
        peak=max(usage.ru_maxrss for usage in usages) * 1024,
        figures=dict(candidate.inspect()) if candidate.inspect else {},
    )


def _start(candidate: Candidate, output: IO[bytes], said: IO[bytes]) -> list[subprocess.Popen[bytes]]:
    processes: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, **candidate.environment}
    for position, command in enumerate(candidate.pipeline):
        last = position == len(candidate.pipeline) - 1
        before = processes[-1].stdout if processes else None
        processes.append(
            subprocess.Popen(
                list(command),
                stdin=before or subprocess.DEVNULL,
                stdout=output if last else subprocess.PIPE,
                stderr=said,
                env=environment,
            )
        )
        if before:
            before.close()  # the next command holds it now: the one before sees it when that ends early
    return processes


def _wait(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
    return usage


def _leftovers() -> list[resource.struct_rusage]:
    """Return the usage of processes that outlive their command; some end shortly after it."""
    found = []
    until = time.monotonic() + _LEFTOVERS
    while time.monotonic() < until:
        try:
            process, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if process:
            found.append(usage)
        else:
            time.sleep(0.01)
    return found


def compare(candidates: Sequence[Candidate], rounds: int = 5, warm_up: bool = True) -> dict[str, list[Sample]]:
    """Run all candidates in turn, `rounds` times, after one round that does not count; return the samples by name."""
    return take_turns({candidate.name: partial(run, candidate) for candidate in candidates}, rounds, warm_up)


def take_turns(
    runs: Mapping[str, Callable[[], Sample]], rounds: int = 5, warm_up: bool = True
) -> dict[str, list[Sample]]:
    """Do what compare() does with anything that can be run."""
    if warm_up:
        for measured in runs.values():
            measured()
    samples: dict[str, list[Sample]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, measured in runs.items():
            samples[name].append(measured())
    return samples


def median(samples: Sequence[Sample]) -> Sample:
    """Return the median of each figure; of the peak memory, the largest."""
    names = samples[0].figures
    return Sample(
        wall=statistics.median(sample.wall for sample in samples),
        user=statistics.median(sample.user for sample in samples),
        system=statistics.median(sample.system for sample in samples),
        peak=max(sample.peak for sample in samples),
        figures={name: statistics.median(sample.figures[name] for sample in samples) for name in names},
    )


def ratio(samples: Mapping[str, Sequence[Sample]], name: str, base: str) -> float:
    """Return how many times as long `name` takes as `base`: the median of the ratios of each round's pair."""
    return statistics.median(a.wall / b.wall for a, b in zip(samples[name], samples[base], strict=True))


def processor_ratio(samples: Mapping[str, Sequence[Sample]], name: str, base: str) -> float:
    """Return the same of their CPU times, which other work on the machine changes less."""
    pairs = zip(samples[name], samples[base], strict=True)
    return statistics.median((a.user + a.system) / (b.user + b.system) for a, b in pairs)


def limit_row(samples: Mapping[str, Sequence[Sample]], name: str, base: str, most: float) -> str:
    """Return the row of a limit below LIMITS_HEAD: `name` takes at most `most` times as long as `base`."""
    found = ratio(samples, name, base)
    times = f"{found:.2f} times | {processor_ratio(samples, name, base):.2f} times"
    return f"| {name}: at most {most:g} times {base} | {times} | {met(found, most)} |"


def met(found: float, most: float) -> str:
    """Return the last cell of a limit's row."""
    return "yes" if found <= most else "**no**"


def busy() -> str:
    """Tell how busy this machine is, for the caption of a table."""
    return f"load {os.getloadavg()[0]:.1f}"


def table(samples: Mapping[str, Sequence[Sample]], base: str) -> str:
    """Return a Markdown table of medians, with each candidate's time as a multiple of that of `base`."""
    names = list(median(samples[base]).figures)
    header = ["", "seconds", f"times {base}", "CPU s", "peak MB", *names]
    rows = [header, ["---", *["---:"] * (len(header) - 1)]]
    for name, all_of_it in samples.items():
        middle = median(all_of_it)
        rows.append(
            [
                name,
                f"{middle.wall:.2f}",
                f"{ratio(samples, name, base):.2f}",
                f"{middle.user + middle.system:.2f}",
                f"{middle.peak / 1e6:.0f}",
                *(f"{middle.figures[figure]:.1f}" if figure in middle.figures else "" for figure in names),
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def machine() -> str:
    """Describe this machine in a line, for the caption of a table."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores in use, Linux {platform.release()}, Python {platform.python_version()}"
