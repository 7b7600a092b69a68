"""A failed step's machine in a person's hands: `goldsmith build --on-failure shell`, and `goldsmith builds enter`."""

from __future__ import annotations

import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.build.build import Build
from shared.errors import GoldsmithError, InputError, NotFound
from shared.interruption import Interruption
from shared.runtime import opening
from shared.submission import keep_seconds

from ..places import Place, builds_at
from ..screen.tables import when
from ..screen.text import complain
from .builds import find_by_id

if TYPE_CHECKING:
    from shared.runtime.opening import Keeper, LocalBackend, Retried
    from shared.spec.model import Spec

    from ..screen.view import View

SHELL = "shell"
SHELL_SECONDS = 8 * 3600.0  # for which a shell may be open


@dataclass(frozen=True)
class HoldFlags:
    """What the command line wants of a failed step's machine. `kept` is for how many seconds; None: not at all."""

    opens: bool = False  # a shell, at once
    kept: float | None = None
    secrets: bool = False

    @property
    def seconds(self) -> float:
        """Return for how long the machine is held; 0: it is not."""
        return self.kept or (SHELL_SECONDS if self.opens else 0.0)


NO_HOLD = HoldFlags()


def hold_flags(on_failure: str | None, kept: str | None, *, secrets: bool, as_json: bool) -> HoldFlags:
    """Read and check the options; InputError, also where a shell has no terminal."""
    if on_failure not in (None, SHELL):
        raise InputError(f"--on-failure {on_failure}: write {SHELL}")
    seconds = None if kept is None else keep_seconds("--keep-on-failure", kept)
    if on_failure is None:
        if secrets:
            raise InputError("--with-secrets is for the shell of --on-failure shell; add that, or leave it out")
        return HoldFlags(kept=seconds)
    if as_json:
        raise InputError("--on-failure shell and --json want the same standard output; leave one of them out")
    from ..screen.shell import require_terminal

    require_terminal("--on-failure shell")
    return HoldFlags(opens=True, kept=seconds, secrets=secrets)


class Holding:
    """What happens here once a build is held."""

    def __init__(self, flags: HoldFlags, keeper: Keeper, view: View, interruption: Interruption) -> None:
        self._flags = flags
        self._keeper = keeper
        self._view = view
        self._interruption = interruption
        self._thread: threading.Thread | None = None

    @property
    def continues(self) -> bool:
        """Return whether a person wants the build anew."""
        return self._keeper.continues

    def look(self, build: Build) -> None:
        """Open the shell, or say how one is opened, when the build has just been held."""
        if not self._keeper.keep(build):
            return
        if not self._flags.opens:
            self._tell(build)
            return
        self._thread = threading.Thread(target=self._enter, args=(build,), name="shell", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End, once the build has."""
        self._keeper.close()
        if self._thread is not None:
            self._thread.join()

    def _tell(self, build: Build) -> None:
        complain(f"{build.held}; held until {when(build.deadline)}; Ctrl-C gives it up")
        complain(f"look with: goldsmith builds enter {build.id}")

    def _enter(self, build: Build) -> None:
        from ..screen.shell import LOST_TERMINAL, use_shell

        why = ""
        try:
            with self._view.aside():
                why = use_shell(opening.connect_shell(build), secrets=self._flags.secrets)
        except (GoldsmithError, OSError, termios.error) as error:
            complain(f"its shell cannot be opened: {error}")
            why = LOST_TERMINAL
        if self._flags.kept is None or why == LOST_TERMINAL:
            self._interruption.ask(why or "its shell was left")
        else:
            self._tell(build)


@contextmanager
def holding(
    flags: HoldFlags,
    backend: LocalBackend,
    view: View,
    interruption: Interruption,
    read_again: Callable[[], tuple[Spec, Path]],
) -> Iterator[Holding]:
    """Be ready to hold a build during the block, which is the build's whole run."""

    def again(build: Build | None) -> Retried | None:
        spec, folder = read_again()
        return None if build is None else opening.builds_here(backend).retried(build, spec, folder)

    keeper = opening.keeper(backend, interruption, again, once=flags.kept is None)
    ours = Holding(flags, keeper, view, interruption)
    try:
        yield ours
    finally:
        ours.close()


def enter_build(build_id: str, *, secrets: bool) -> None:
    """Use a shell on the machine of a held build of this machine. InputError."""
    from ..screen.shell import require_terminal, use_shell

    require_terminal("goldsmith builds enter")
    with builds_at(Place()) as known:
        build = find_by_id(known, build_id, Place())
    if not build.held or build.outcome is not None:
        state = build.outcome or build.state
        raise InputError(f"build {build.id} is not held: it is {state}; build with --keep-on-failure 2h")
    try:
        connection = opening.connect_shell(build)
    except NotFound as error:
        raise InputError(f"{error}; clean up with: goldsmith builds resume {build.id}") from error
    told = use_shell(connection, secrets=secrets)
    if told:
        complain(told)
