"""Hold a machine whose job has failed, and serve a person a shell in the state that the failed step has left.

The shell has a terminal of this machine (a pty): what runs in it never has the person's own. All that it starts is in
a group, which ends with it. Commands in the shell ask this process by a socket (see ask.py), and this process asks the
host. The job has failed already, and nothing here can change that: what a hand has touched becomes no image.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import struct
import termios
import time

from ..frames import (
    ANSWER,
    ASKED,
    CONTEXT_PIECE,
    ENDED,
    HANG_UP,
    INPUT,
    LONGEST,
    OPEN,
    OUTPUT,
    READY,
    RESIZED,
    WORDS,
    BadFrame,
    FrameReader,
    frame,
)
from ..machine.machine import NoMachine
from ..protocol import ELEMENTS_ACTION, RunScript, Step, decode_inputs
from ..steps.step_context import StepError, step_environment
from ..system.output import StepConsole
from ..system.process import find_program
from ..system.step_group import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional, Tuple

    from ..steps.elements import StoppedScript
    from .working_folder import JobFolders

FOLDER = "/run/goldsmith/shell"
SOCKET = "socket"  # below it
CHUNK = 65536
MOST_WAITING = 1 << 18  # bytes that wait for the host, beyond which the shell has to wait
LOOK = 0.2  # seconds between looks at a shell whose terminal other processes keep open
LONGEST_WORD = 64  # bytes
LONGEST_TERM = 64  # characters of the name of a terminal's kind

_PROMPT = "\\w # "
_SCRIPT = """LC_ALL=C.UTF-8 exec {python} -I -S -E -c '
import sys
sys.path.insert(0, sys.argv.pop(1))
from provisioner.job.ask import main
sys.exit(main(sys.argv[1:]))
' {archive} {socket} "$1"
"""


class HeldStep:
    """The step that has failed, and where it was run."""

    def __init__(
        self,
        step: Step,
        problem: str,
        places: JobFolders,
        folder: str,
        lent: Mapping[str, str],
        apt_settings: str,
        hidden: List[bytes],
    ) -> None:
        """Take the step, whose working directory is `folder`.

        `lent` and `apt_settings` are what all steps get. No output may show what is `hidden`.
        """
        self.step = step
        self.problem = problem
        self.places = places
        self.folder = folder
        self.lent = lent
        self.apt_settings = apt_settings
        self.hidden = hidden
        self.stopped: Optional[StoppedScript] = None
        if step.action == ELEMENTS_ACTION:
            from ..steps.elements import stopped_script

            self.stopped = stopped_script(places.state)

    def environment(self, *, secrets: bool) -> Tuple[Dict[str, str], List[str]]:
        """Return the environment of the step, or of its script that has failed, and what is left out as a secret."""
        env: Dict[str, str] = {**self.lent, **getattr(decode_inputs(self.step), "env", {})}
        if self.stopped is not None:
            env = dict(self.stopped.environment)
        if secrets:
            return env, []
        from ..hygiene.secret_shapes import find_secret
        from ..hygiene.secret_values import is_secret_name

        left_out = [
            name
            for name, value in env.items()
            if is_secret_name(name)
            or find_secret(value.encode("utf-8", "surrogateescape"))
            or any(text in value.encode("utf-8", "surrogateescape") for text in self.hidden)
        ]
        return {name: value for name, value in env.items() if name not in left_out}, sorted(left_out)

    def script(self) -> str:
        """Return the name of its script in the context, or the path of an element's; "" where it has none."""
        if self.stopped is not None:
            return self.stopped.path
        inputs = decode_inputs(self.step)
        return inputs.script if isinstance(inputs, RunScript) else ""

    def place(self) -> List[str]:
        """Return where the shell begins, in lines for a person."""
        script = self.script()
        if self.stopped is None:
            return [self.folder + (f", its script is {script}" if script else "")]
        side = "in the image" if self.stopped.is_inside else f"on the build machine's side, in {self.folder}"
        lines = [f"where the script has failed, {side}: {script} ({self.stopped.element})"]
        if self.stopped.mounts:
            lines.append(f"what scripts have mounted is not there any more: {', '.join(self.stopped.mounts)}")
        return lines

    def retry_means(self) -> str:
        """Return what the word retry does."""
        how = "run the step again" if self.stopped is None else "go on with this script"
        return f"{how}, as it is on the host now"


class _Shell:
    """A shell on a terminal of its own."""

    def __init__(self, process: int, terminal: int) -> None:
        self.process = process
        self.terminal = terminal
        self.typed = b""

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("HHHH", min(max(rows, 1), 9999), min(max(columns, 1), 9999), 0, 0)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)

    def has_ended(self) -> bool:
        if self.process and os.waitpid(self.process, os.WNOHANG) != (0, 0):
            self.process = 0
        return not self.process

    def end(self) -> None:
        os.close(self.terminal)  # hangs up
        if not self.has_ended():
            os.kill(self.process, SIGKILL)  # an interactive shell ignores TERM
            os.waitpid(self.process, 0)

    def type(self) -> None:
        """Pass on what was typed, as much as it takes now."""
        try:
            self.typed = self.typed[os.write(self.terminal, self.typed) :]
        except BlockingIOError:
            pass
        except OSError:
            self.typed = b""

    def read(self) -> Optional[bytes]:
        """Return what is shown; b"" when nothing is, None when no process has the terminal open any more."""
        try:
            return os.read(self.terminal, CHUNK) or None
        except BlockingIOError:
            return b""
        except OSError as error:
            if error.errno == errno.EIO:
                return None
            raise


class Hold:
    """One held machine."""

    def __init__(self, held: HeldStep, machine: NoMachine, console: StepConsole, folder: str = FOLDER) -> None:
        """Take the step. Commands of the shell find their socket in `folder`."""
        self._held = held
        self._machine = machine
        self._console = console
        self._folder = folder
        self._port = -1
        self._out = b""
        self._reader = FrameReader()
        self._shell: Optional[_Shell] = None
        self._group = machine.step_group()
        self._listener: Optional[socket.socket] = None
        self._asking: Optional[socket.socket] = None
        self._lost = ""  # why the context that has been downloaded is not whole
        self._download = os.path.join(held.places.state, "retried.tar")

    def serve(self, seconds: float) -> None:
        """Serve shells for that long, or until the host ends the connection. Never raises OSError."""
        try:
            self._port = self._machine.shell_port()
            os.set_blocking(self._port, False)
            self._listener = self._listen()
        except OSError as error:
            self._console.say(f"the machine is not held for a look: {error}")
            return
        until = time.monotonic() + seconds
        self._console.say(f"held for a look, for {seconds:g} s at most")
        self._send(READY, self._held.problem.encode("utf-8", "replace"))
        try:
            while time.monotonic() < until and self._turn(min(1.0, until - time.monotonic())):
                pass
        except (OSError, ValueError, BadFrame) as error:  # whatever it is, the job's failure is still to be reported
            self._console.say(f"held no longer: {error}")
        finally:
            self._end_shell()
            self._listener.close()
            os.close(self._port)

    def _listen(self) -> socket.socket:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        path = os.path.join(self._folder, SOCKET)
        if os.path.exists(path):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(1)
        return listener

    def _send(self, kind: bytes, payload: bytes = b"") -> None:
        self._out += frame(kind, payload)

    def _turn(self, seconds: float) -> bool:
        """Wait for something to do, and do it; return whether the host is still there."""
        poller = select.poll()
        poller.register(self._port, select.POLLIN | (select.POLLOUT if self._out else 0))
        assert self._listener is not None
        if self._asking is None:
            poller.register(self._listener, select.POLLIN)
        shell = self._shell
        if shell is not None:
            seconds = min(seconds, LOOK)
            wanted = select.POLLIN if len(self._out) < MOST_WAITING else 0
            poller.register(shell.terminal, wanted | (select.POLLOUT if shell.typed else 0))
        for handle, _ in poller.poll(seconds * 1000):
            if handle == self._port and not self._exchange():
                return False
            if handle == self._listener.fileno():
                self._hear()
            if self._shell is not None and shell is self._shell and handle == self._shell.terminal:
                self._show(self._shell)
        if self._shell is not None and self._shell is shell and self._shell.has_ended():
            self._show(self._shell)  # its last words
            self._end_shell()
        return True

    def _exchange(self) -> bool:
        """Send what waits for the host, and do what it says; return False where it is gone."""
        if self._out:
            try:  # noqa: SIM105 - nothing else here imports contextlib
                self._out = self._out[os.write(self._port, self._out) :]
            except BlockingIOError:
                pass
        try:
            data = os.read(self._port, CHUNK)
        except BlockingIOError:
            return True
        for kind, payload in self._reader.feed(data):
            self._obey(kind, payload)
        return bool(data)

    def _obey(self, kind: bytes, payload: bytes) -> None:
        shell = self._shell
        if kind == OPEN and shell is None:
            self._open_shell(json.loads(payload))
        elif kind == INPUT and shell is not None:
            shell.typed += payload
            shell.type()
        elif kind == RESIZED and shell is not None:
            size = json.loads(payload)
            shell.resize(int(size["rows"]), int(size["columns"]))
        elif kind == HANG_UP:
            self._end_shell()
        elif kind == CONTEXT_PIECE:
            self._keep(payload)
        elif kind == ANSWER:
            self._answer(json.loads(payload))

    def _keep(self, piece: bytes) -> None:
        """Keep a piece of the context's archive."""
        try:
            with open(self._download, "ab") as file:
                file.write(piece)
        except OSError as error:
            self._lost = f"{self._download}: {error.strerror}"

    def _open_shell(self, wish: Any) -> None:
        secrets = bool(wish["secrets"])
        env, left_out = self._held.environment(secrets=secrets)
        name = find_program("bash", self._held.places.root) or "/bin/sh"
        start = self._write_start()
        argv = [name, "--rcfile", start, "-i"] if name.endswith("bash") else [name, "-i"]
        problem = ""
        if self._held.stopped is not None:
            env["GOLDSMITH_SCRIPT"] = self._held.script()
            try:
                argv = self._held.stopped.shell(start)
            except StepError as error:
                problem = f"this shell is not where the script has failed, but in {self._held.folder}: {error}\n"
        environment = step_environment({}, {**env, "ENV": start, "PS1": _PROMPT})
        environment["TERM"] = str(wish["term"])[:LONGEST_TERM]
        environment["GOLDSMITH_STEP"] = self._held.step.name
        self._group.enter()
        try:
            process, terminal = _spawn(argv, environment, self._held.folder)
        finally:
            self._group.leave()
        self._shell = _Shell(process, terminal)
        self._shell.resize(int(wish["rows"]), int(wish["columns"]))
        self._send(OUTPUT, (self._greeting(left_out) + problem).replace("\n", "\r\n").encode("utf-8", "replace"))

    def _greeting(self, left_out: List[str]) -> str:
        held = self._held
        lines = [held.problem]
        lines += held.place()
        if left_out:
            lines.append(f"left out as secrets: {', '.join(left_out)}; --with-secrets shows them")
        lines.append(f"retry: {held.retry_means()}; continue: build anew; abort: give up")
        return "\n".join(lines) + "\n"

    def _write_start(self) -> str:
        """Write the files that a shell starts with; return the path of the first."""
        import sys

        ask, start = os.path.join(self._folder, "ask"), os.path.join(self._folder, "start")
        words = (sys.executable, self._held.places.provisioner, os.path.join(self._folder, SOCKET))
        python, archive, path = ("'" + word.replace("'", "'\\''") + "'" for word in words)
        with open(ask, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(_SCRIPT.format(python=python, archive=archive, socket=path))
        with open(start, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"unset ENV HISTFILE\nPS1='{_PROMPT}'\n")
            for word in WORDS:
                file.write(f"alias {word}='/bin/sh {ask} {word}'\n")
        return start

    def _show(self, shell: _Shell) -> None:
        shell.type()
        shown = shell.read()
        while shown:
            self._send(OUTPUT, shown)
            shown = shell.read() if len(self._out) < MOST_WAITING else b""
        if shown is None:
            self._end_shell()

    def _end_shell(self) -> None:
        """End the shell, if there is one, and all that it has started."""
        shell, self._shell = self._shell, None
        if shell is None:
            return
        shell.end()
        self._group.end()
        if self._asking is not None:
            self._asking.close()
            self._asking = None
        self._send(ENDED)

    def _hear(self) -> None:
        """Take a word from the shell, and ask the host."""
        assert self._listener is not None
        connection, _ = self._listener.accept()
        connection.settimeout(1.0)
        try:
            word = connection.recv(LONGEST_WORD).decode("ascii", "replace").strip()
        except OSError:
            word = ""
        if word not in WORDS:
            connection.close()
            return
        self._asking = connection
        if os.path.exists(self._download):
            os.unlink(self._download)
        self._lost = ""
        self._send(ASKED, word.encode())

    def _answer(self, told: Any) -> None:
        """Pass the host's answer on to the command that waits for it."""
        connection, self._asking = self._asking, None
        if connection is None:
            return
        held = self._held
        answer = {
            "problem": told.get("problem") or self._lost,
            "step": told.get("step"),
            "digest": told.get("digest", ""),
            "archive": self._download if os.path.exists(self._download) else "",
            "root": held.places.root,
            "context": held.folder,
            "logs": held.places.logs,
            "lent": dict(held.lent),
            "apt_settings": held.apt_settings,
            "hidden": [text.decode("latin-1") for text in held.hidden],
            "machine": type(self._machine).__name__,
        }
        text = json.dumps(answer).encode()
        assert len(text) <= 2 * LONGEST
        try:
            connection.sendall(text)
        except OSError:  # it was interrupted
            pass
        finally:
            connection.close()


def _spawn(argv: List[str], environment: Mapping[str, str], folder: str) -> Tuple[int, int]:
    """Start a program on a new terminal; return its process id, and our end of the terminal. OSError."""
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    name = os.ttyname(theirs)
    process = os.fork()
    if process:
        os.close(theirs)
        return process, ours
    try:
        os.setsid()
        handle = os.open(name, os.O_RDWR)  # the first terminal that the leader of a session opens is its own
        for target in (0, 1, 2):
            os.dup2(handle, target)
        import signal

        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, 256)
        os.chdir(folder)
        os.execve(argv[0], argv, dict(environment))  # noqa: S606 - a fixed command
    finally:
        os._exit(127)
