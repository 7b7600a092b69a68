"""Texts that are made to exhaust their reader: specs, requests, reports, bills of materials, boot menus, settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from emulator.storage.rest.failures import ApiError
from emulator.storage.rest.multipart import MultipartUpload
from provisioner.cos.grub_config import GrubConfigError, with_parameters, with_suffix
from provisioner.hygiene.rules import HYGIENE_RULES
from provisioner.hygiene.secret_shapes import find_secret
from shared.budget import KERNEL_BOUNDS, Budget
from shared.engine.messages import read_report_message
from shared.errors import InputError, PoisonMessage
from shared.images.record import decode_record
from shared.intake.request import of_message
from shared.machines.direct_boot.kernel_modules import Modules
from shared.machines.metadata_server import PublishError, read_publish_request
from shared.ports import Message
from shared.sbom.base import read_base
from shared.sbom.input import problems
from tests.shared.spec.reading import load_specs
from tests.world.values import plan

MB = 1 << 20
SPEC = "name: x\nsource: {project: local, family: f}\n"
CONTENTS = 256 << 10  # bytes of a file that secrets are looked for in


def text(make: Callable[[int], str | bytes], most: int = 1 << 40) -> Callable[[Path, int], None]:
    """Make a file of what `make` gives for a size; `most` is what the reader takes at most."""

    def write(path: Path, size: int) -> None:
        made = make(min(size, most))
        path.write_bytes(made.encode() if isinstance(made, str) else made)

    return write


def again(piece: str, before: str = "", behind: str = "") -> Callable[[int], str]:
    """Repeat a piece."""
    return lambda size: before + piece * ((size - len(before) - len(behind)) // len(piece)) + behind


def laughs(size: int) -> str:
    levels = "".join(
        f"{chr(98 + one)}: &{chr(98 + one)} [{','.join([f'*{chr(97 + one)}'] * 10)}]\n" for one in range(8)
    )
    return "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + levels + "#" * (size - 2000)


def large_parameters(size: int) -> str:
    uses = ",".join(f"V{number}: '${{p}}${{p}}${{p}}${{p}}'" for number in range(10))
    steps = "".join(
        f"- {{name: s{n}, action: run-script, inputs: {{script: a, env: {{{uses}}}}}}}\n" for n in range(90)
    )
    return f"{SPEC}parameters: {{p: '{'A' * (size - len(steps) - 100)}'}}\nsteps:\n{steps}"


def substitutions(use: str) -> Callable[[int], str]:
    """A workflow whose substitutions are each made of the one before, many times."""

    def make(size: int) -> str:
        lines = "".join(f"  _A{n}: '{use.replace('N', str(n - 1)) * 600}'\n" for n in range(1, 48))
        return (
            f"options: {{dynamicSubstitutions: true}}\nsubstitutions:\n  _A0: '{'a' * 4000}'\n{lines}"
            "steps:\n- {name: gcr.io/cos-cloud/cos-customizer, args: ['start-image-build']}\n"
        )[:size]

    return make


def flags(size: int) -> str:
    one = ",".join(f"A{number}=$_X" for number in range(200))
    step = f"- name: gcr.io/cos-cloud/cos-customizer\n  args: ['run-script','-script=a.sh','-env={one}']\n"
    return f"substitutions: {{_X: '{'y' * 4000}'}}\nsteps:\n" + step * ((size - 5000) // len(step))


def spec(path: Path) -> object:
    return load_specs(path)


def request(path: Path) -> object:
    try:
        return of_message(path.read_bytes(), "1", "bucket")
    except PoisonMessage as error:
        raise _of(path, error) from error


def report(path: Path) -> object:
    try:
        return read_report_message(Message("build-reports", path.read_bytes(), {"signature": "00"}, ""))
    except PoisonMessage as error:
        raise _of(path, error) from error


def _of(path: Path, error: Exception) -> InputError:
    """Return the error of a reader that is given bytes, and knows no file."""
    return InputError(f"{path}: {error}"[:300])


def published(path: Path) -> object:
    try:
        return len(read_publish_request("build-reports", path.read_bytes()))
    except PublishError as error:
        raise _of(path, error) from error


def bill(path: Path) -> object:
    found = problems(path.read_bytes())
    if found:
        raise InputError(f"{path}: {found[0]}")
    return None


def base(path: Path) -> object:
    return read_base(plan().source, "sbom.spdx.json", path.read_bytes()).left_out


def record(path: Path) -> object:
    return decode_record(path.read_bytes(), path)


def boot_menu(path: Path) -> object:
    try:
        menu = path.read_text(encoding="utf-8", errors="surrogateescape")
        return len(with_parameters(menu, ["quiet"], ["a"])) + len(with_suffix(menu, " b"))
    except GrubConfigError as error:
        raise _of(path, error) from error


def secrets(path: Path) -> object:
    data = path.read_bytes()
    return find_secret(data), [rule.holds(data) for rule in HYGIENE_RULES if rule.holds is not None]


def modules(path: Path) -> object:
    table = path.read_text()
    tables = {"modules.dep": table, "modules.softdep": table, "modules.alias": table}
    return len(Modules.read(tables, Budget(KERNEL_BOUNDS, path)).paths)


def uploaded(size_of_block: int) -> Callable[[Path], object]:
    """Read an upload that comes in blocks."""

    def blocks(path: Path) -> Iterator[bytes]:
        with path.open("rb") as file:
            while block := file.read(size_of_block):
                yield block

    def read(path: Path) -> object:
        try:
            return sum(map(len, MultipartUpload(blocks(path), b"boundary").data()))
        except ApiError as error:
            raise _of(path, error) from error

    return read


def inventory(size: int) -> str:
    output = "dpkg\t" + "A" * (size - 200)
    told = {"build_id": "b-0", "attempt": 1, "phase": "build", "sequence": 1, "kind": "inventory", "time": 1.0}
    return json.dumps({**told, "output": output, "version": 1})


def numbered(line: str) -> Callable[[int], str]:
    """Repeat a line with its number, of six digits, in the place of N."""
    length = len(line) + 5 * line.count("N")
    return lambda size: "".join(line.replace("N", f"{number:06}") for number in range(size // length))


Make = Callable[[Path, int], None]
MOST_SPEC, MOST_REPORT, MOST_BILL = MB - 1, 60 << 10, 16 * MB
MOST_REQUEST, MOST_MESSAGE = 4 * MB, 10 * MB
STEP = "parameters: {p: x}\nsteps:\n- {name: s, action: run-script, inputs: {script: '"
REFERENCES = again("${q}", SPEC + STEP, "'}}\n")
BOUNDARIES = again("\r\n--boundary ", "--boundary\r\n\r\n{}\r\n--boundary\r\n\r\n")
# Name, how it is made, what reads it, what the error says; "" where there is none.
TEXTS: tuple[tuple[str, Make, Callable[[Path], object], str], ...] = (
    ("spec that is too long", text(again("a: b\n")), spec, "is longer than 1 MiB"),
    ("spec of one long line", text(again("a", "name: "), MOST_SPEC), spec, "name"),
    ("spec of aliases of aliases", text(laughs, MOST_SPEC), spec, "values"),
    ("spec of one alias", text(again("*a,", "a: &a x\nb: [", "]"), MOST_SPEC), spec, "values"),
    ("spec of keys", text(numbered("kN: v\n"), MOST_SPEC), spec, "values"),
    (
        "spec of anchors",
        text(numbered("- &aN x\n"), MOST_SPEC),
        spec,
        "values",
    ),
    ("spec of lists in lists", text(again("["), MOST_SPEC), spec, "deep"),
    ("spec of maps in maps", text(again("{a: "), MOST_SPEC), spec, "deep"),
    ("spec of one parameter", text(large_parameters, MOST_SPEC), spec, "context"),
    (
        "spec of references",
        text(
            again(
                "${q}", SPEC + "parameters: {p: x}\nsteps:\n- {name: s, action: run-script, inputs: {script: '", "'}}\n"
            ),
            MOST_SPEC,
        ),
        spec,
        "q",
    ),
    ("workflow of flags", text(flags, MOST_SPEC), spec, "300"),
    ("workflow of substitutions", text(substitutions("${_AN}"), MOST_SPEC), spec, "4000"),
    ("workflow of replacements", text(substitutions("${_AN//a/aaaaaaaaaaaaaaaaaaaa}"), MOST_SPEC), spec, "4000"),
    ("request of lists", text(again("["), MOST_REQUEST), request, "not JSON"),
    ("request of objects", text(again("{},", '{"spec":{"a":[', "{}]}}"), MOST_REQUEST), request, ""),
    ("report of lists", text(again("[", '{"a":'), MOST_REPORT), report, "not JSON"),
    ("report of digits", text(again("1", '{"attempt":', "}"), MOST_REPORT), report, "not JSON"),
    ("report with an inventory", text(inventory, MOST_REPORT), report, ""),
    ("publish request of objects", text(again("{},", '{"messages":[', "{}]}"), MOST_MESSAGE), published, "messages"),
    ("bill of objects", text(again("{},", '{"SPDXPackages":[', "{}]}"), MOST_BILL), bill, "takes more"),
    ("bill of creators", text(again('"",', '{"creators":[', '""]}'), MOST_BILL), bill, "takes more"),
    ("bill that is too large", text(again("{},", '{"SPDXPackages":[', "{}]}")), bill, "i"),
    ("base of objects", text(again("{},", '{"packages":[', "{}]}")), base, ""),
    ("record of lists", text(again("[")), record, "not JSON"),
    ("boot menu of lines", text(again("\n", "linux /a\n")), boot_menu, "has more than"),
    ("boot menu of words", text(again(" a", "linux /a"), MB - 1), boot_menu, "a kernel line of"),
    ("boot menu of kernels", text(again("linux /a a\n"), MB - 1), boot_menu, ""),
    ("boot menu of quotes", text(again("linux /a 'a' \\\n"), MB - 1), boot_menu, "grub.cfg"),
    ("file of keys", text(again("-----BEGIN PRIVATE KEY-----\nAa: "), CONTENTS), secrets, ""),
    ("file of users", text(again("a:$6$:1\n"), CONTENTS), secrets, ""),
    ("file of passwords", text(again("password = "), CONTENTS), secrets, ""),
    (
        "tables of modules",
        text(lambda _size: numbered("N: N\n")(16 * MB)),
        modules,
        "takes more",
    ),
    ("upload of line ends", text(again("\r\n")), uploaded(MB), "exactly two parts"),
    ("upload byte by byte", text(again("\n", "--boundary\n\n"), MB), uploaded(1), "exactly two parts"),
    (
        "upload of boundaries",
        text(BOUNDARIES),
        uploaded(MB),
        "exactly two parts",
    ),
)
