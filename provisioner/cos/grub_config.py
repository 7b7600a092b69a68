"""Edit the boot loader's configuration, grub.cfg, as text in and text out: every other byte stays as it is.

A kernel line is a line whose command is linux, linux16 or linuxefi. The accepted form of such a line is narrow on
purpose: anything else is a GrubConfigError, since the alternative is a machine that does not boot. Quotes, comments and
lines continued by a backslash are read as GRUB reads them (GRUB manual, "Shell-like scripting").
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Callable

MOST = 2047  # bytes of a kernel command line on x86-64 and arm64; the kernel silently cuts off the rest
LARGEST, LONGEST_LINE = 1 << 20, 1 << 16  # characters; distributions write some 10,000, in lines of up to 1,000
BOOT_IMAGE = len("BOOT_IMAGE=")  # GRUB puts it before the kernel's path, which the line holds already

_QUOTED, _COMMENT = "\x01", "\x02"  # _mask() writes them in place of characters that mean only themselves
_KERNEL_LINE = re.compile(r"[ \t]*linux(?:16|efi)?[ \t]+")
_KERNEL_WITHIN = re.compile(r"(?:[;{|&]|\b(?:then|else|do))[ \t]*linux(?:16|efi)?[ \t]")
_FORBIDDEN = re.compile(rf"[;|&<>{{}}{_COMMENT}]")
_WORD = re.compile(r"[^ \t\r]+")
_PARAMETER = re.compile(r"""[^\s"'\\$;|&<>{}#\x00-\x1f\x7f]+(?:="[^"\\$\x00-\x1f\x7f]*")?""")
_UNIT = re.compile(r"[A-Za-z0-9:_.@-]+\.[a-z]+")
_TREE = r'none ro 1, ?0 [0-9]+ verity [^",]+'
_DM = re.compile(rf'dm="(?P<count>[0-9]+) (?P<first>[\w-]+ {_TREE})(?P<oem>,oemroot {_TREE})?"')
# Releases with Linux 6.6 have the parameter of Linux itself instead (admin-guide/device-mapper/dm-init.rst).
_TABLE = r',[\w-]*,[0-9]*,ro, ?0 [0-9]+ verity [^",;]+'
_CREATE = re.compile(rf'(?P<name>dm[-_]mod\.create)="(?P<first>[\w-]+{_TABLE})(?P<oem>;oemroot{_TABLE})?"')
_IS_DM = re.compile(r"""["']*(?:dm|dm[-_]mod\.create)=""")


class GrubConfigError(Exception):
    """A grub.cfg, or a text to be put into one, has an unknown form; the text of the error names the line."""


def with_parameters(text: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> str:
    """Remove parameters from all kernel lines, then add others at the end of the lines that lack them.

    Parameters are NAME or NAME=VALUE. In `remove`, NAME stands for any value, NAME=VALUE for that value only.
    GrubConfigError.
    """
    added, removed = tuple(dict.fromkeys(add)), frozenset(remove)
    for parameter in (*added, *removed):
        if not _PARAMETER.fullmatch(parameter):
            raise GrubConfigError(
                f'{parameter!r} is no kernel parameter; write NAME or NAME=VALUE, a value with spaces as NAME="VALUE"'
            )

    def edit(line: _Line) -> str:
        for begin, end in reversed(line.parameters()):
            word = line.text[begin:end]
            if word in removed or word.partition("=")[0] in removed:
                kept = len(line.text[:begin].rstrip(" \t"))
                line = _Line(line.text[:kept] + line.text[end:], line.mask[:kept] + line.mask[end:], line.number)
        present = {line.text[begin:end] for begin, end in line.parameters()}
        words = "".join(f" {parameter}" for parameter in added if parameter not in present)
        at = line.end_of_parameters()
        return line.text[:at] + words + line.text[at:]

    return _edited(text, edit)


def with_masked(text: str, unit: str) -> str:
    """Mask a systemd unit: systemd.mask=UNIT after the parameter cros_efi of each kernel line, once. GrubConfigError.

    A kernel line without cros_efi is not one that Container-Optimized OS boots, and stays as it is.
    """
    if not _UNIT.fullmatch(unit):
        raise GrubConfigError(f"{unit!r} is not a systemd unit; write its name and kind, such as update-engine.service")
    mask = f"systemd.mask={unit}"
    seen: list[int] = []

    def edit(line: _Line) -> str:
        words = {line.text[begin:end]: end for begin, end in line.parameters()}
        if "cros_efi" not in words:
            return line.text
        seen.append(line.number)
        at = words["cros_efi"]
        return line.text if mask in words else f"{line.text[:at]} {mask}{line.text[at:]}"

    edited = _edited(text, edit)
    if not seen:
        raise GrubConfigError("grub.cfg has no kernel line with cros_efi; it is not one of Container-Optimized OS")
    return edited


def with_oem_verity(text: str, partuuid: str, sectors: int, root_hash: str, salt: str) -> str:
    """Make each kernel line with dm= or dm-mod.create= verify OEM too: `sectors` of data, then the hash tree.

    `root_hash` and `salt` are in hex. The addition of an earlier call is replaced. GrubConfigError.
    """
    if not re.fullmatch("[0-9a-fA-F-]{36}", partuuid) or sectors < 8 or sectors % 8:
        raise GrubConfigError(f"{sectors} sectors of the partition {partuuid!r} cannot be verified")
    for number in (root_hash, salt):
        if not re.fullmatch("(?:[0-9a-fA-F]{2})+", number):
            raise GrubConfigError(f"{number!r} is not a root hash or a salt, which are bytes in hex")
    device = f"PARTUUID={partuuid}"
    dm = (
        f"oemroot none ro 1, 0 {sectors} verity payload={device} hashtree={device} hashstart={sectors} "
        f"alg=sha256 root_hexdigest={root_hash} salt={salt}"
    )
    create = (
        f"oemroot,,,ro,0 {sectors} verity 0 {device} {device} 4096 4096 {sectors // 8} {sectors // 8} "
        f"sha256 {root_hash} {salt}"
    )
    seen: list[int] = []

    def edit(line: _Line) -> str:
        for begin, end in line.parameters():
            if _IS_DM.match(line.text, begin, end):
                seen.append(line.number)
                return line.text[:begin] + _with_second_tree(line, begin, end, dm, create) + line.text[end:]
        return line.text

    edited = _edited(text, edit)
    if not seen:
        raise GrubConfigError(
            "grub.cfg has no kernel line with dm= or dm-mod.create=; this system does not verify its partitions"
        )
    return edited


def _with_second_tree(line: _Line, begin: int, end: int, dm: str, create: str) -> str:
    """Return a line's parameter of verified devices with OEM behind the root file system. GrubConfigError."""
    found = _CREATE.fullmatch(line.text, begin, end)
    if found:
        return f'{found["name"]}="{found["first"]};{create}"'
    found = _DM.fullmatch(line.text, begin, end)
    if found and found["count"] == ("2" if found["oem"] else "1"):
        return f'dm="2 {found["first"]},{dm}"'
    raise GrubConfigError(
        f"grub.cfg:{line.number}: {line.text[begin:end]:.60} is not a dm= of one verified root file system"
    )


def with_suffix(text: str, suffix: str) -> str:
    """Append `suffix`, which begins with a space, to every kernel line that does not end with it. GrubConfigError."""
    if not suffix.startswith(" ") or "\n" in suffix or "\r" in suffix or _FORBIDDEN.search(_mask("x" + suffix)):
        raise GrubConfigError(f"{suffix!r} cannot stand at the end of a kernel line")
    return _edited(text, lambda line: line.body() + ("" if line.body().endswith(suffix) else suffix) + line.ending())


def without_suffix(text: str, suffix: str) -> str:
    """Undo with_suffix(): the text is what it was before. GrubConfigError."""

    def edit(line: _Line) -> str:
        body = line.body()
        return (body[: -len(suffix)] if suffix and body.endswith(suffix) else body) + line.ending()

    return _edited(text, edit)


class _Line:
    """A kernel line without its newline. `mask` has the same length, and the result of _mask()."""

    def __init__(self, text: str, mask: str, number: int) -> None:
        self.text = text
        self.mask = mask
        self.number = number

    def words(self) -> list[tuple[int, int]]:
        """Return where the words behind the command begin and end: the kernel's path, then its parameters."""
        command = _KERNEL_LINE.match(self.mask)
        return [found.span() for found in _WORD.finditer(self.mask, command.end() if command else 0)]

    def parameters(self) -> list[tuple[int, int]]:
        """Return where the kernel's own parameters begin and end; words after `--` are for the init."""
        words = self.words()[1:]
        ends = [index for index, (begin, end) in enumerate(words) if self.text[begin:end] == "--"]
        return words[: ends[0]] if ends else words

    def end_of_parameters(self) -> int:
        """Return where another parameter can be added."""
        last = [*self.words()[:1], *self.parameters()][-1]
        return last[1]

    def ending(self) -> str:
        """Return the carriage return that ends the line in a file with Windows' line ends, or ""."""
        return "\r" if self.text.endswith("\r") else ""

    def body(self) -> str:
        """Return the line without the carriage return."""
        return self.text[:-1] if self.ending() else self.text


def _edited(text: str, edit: Callable[[_Line], str]) -> str:
    """Return the text with each kernel line replaced by `edit`. GrubConfigError, also when a line gets too long."""
    if len(text) > LARGEST:
        raise GrubConfigError(
            f"grub.cfg has more than {LARGEST} characters; no boot loader's configuration is that long"
        )
    mask = _mask(text)
    result: list[str] = []
    position = kernel_lines = lines = 0
    for line_mask in mask.split("\n"):
        line = _Line(text[position : position + len(line_mask)], line_mask, lines + 1)
        lines += 1 + line.text.count("\n")  # a continued line has several
        position += len(line_mask) + 1
        if _KERNEL_WITHIN.search(line_mask):
            raise GrubConfigError(f"grub.cfg:{line.number}: a kernel line within another command is not understood")
        if not _KERNEL_LINE.match(line_mask):
            result.append(line.text)
            continue
        if len(line.text) > LONGEST_LINE:
            raise GrubConfigError(
                f"grub.cfg:{line.number}: a kernel line of {len(line.text)} characters is not understood"
            )
        if _FORBIDDEN.search(line_mask) or not line.words() or line.body().endswith("\\"):
            raise GrubConfigError(f"grub.cfg:{line.number}: {line.text.strip():.80}: not a kernel line of plain words")
        kernel_lines += 1
        result.append(edit(line))
        _refuse_long(result[-1], line)
    if not kernel_lines:
        raise GrubConfigError("grub.cfg has no kernel line (linux, linux16 or linuxefi)")
    return "\n".join(result)


def _refuse_long(edited: str, line: _Line) -> None:
    length = BOOT_IMAGE + len(edited[line.words()[0][0] :].strip().encode("utf-8", "surrogateescape"))
    if length > MOST and len(edited) > len(line.text):
        raise GrubConfigError(
            f"grub.cfg:{line.number}: the kernel's command line would have {length} bytes, and it reads {MOST}: "
            "add fewer or shorter parameters"
        )


def _mask(text: str) -> str:
    """Return the text with quotes and their contents, escaped characters and comments replaced by other characters.

    An escaped newline between words becomes spaces; other escaped or quoted newlines are replaced as well, so that each
    remaining newline ends a line. The length stays the same. GrubConfigError for a quote that is never closed.
    """
    masked: list[str] = []
    quote = ""
    opened = position = 0
    while position < len(text):
        character = text[position]
        if character == "\\" and quote != "'":
            escaped = text[position : position + 2]
            between = text[position - 1 : position].isspace() or text[position + 2 : position + 3].isspace()
            masked.append("  " if escaped == "\\\n" and between and not quote else _QUOTED * len(escaped))
            position += 2
            continue
        if quote:
            masked.append(_QUOTED)
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote, opened = character, position
            masked.append(_QUOTED)
        elif character == "#" and (not masked or masked[-1][-1] in " \t\n;|&{}"):
            end = text.find("\n", position)
            length = (end if end >= 0 else len(text)) - position
            masked.append(_COMMENT * length)
            position += length
            continue
        else:
            masked.append(character)
        position += 1
    if quote:
        number = text.count("\n", 0, opened) + 1
        raise GrubConfigError(f"grub.cfg:{number}: a quote ({quote}) that is opened here is never closed")
    return "".join(masked)
