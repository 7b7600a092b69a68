"""kernel-command-line: add and remove parameters of the kernel, wherever this image's boot loader is told of them.

Container-Optimized OS        grub.cfg on EFI-SYSTEM
Fedora, RHEL, Rocky Linux     grubby, and the files that later kernels take theirs from
Debian, Ubuntu, SUSE          /etc/default/grub, and in /etc/default/grub.d a file of ours; then update-grub
systemd-boot                  /etc/kernel/cmdline; then kernel-install
a grub.cfg that nothing makes /boot/grub/grub.cfg itself, as in the images that `images bootstrap` makes
"""

from __future__ import annotations

import glob
import os
import re
import stat

from ..grub_config import GrubConfigError, with_parameters
from ..os_release import COS, system_id
from ..process import find_program
from ..protocol import KernelCommandLine
from ..state import write_whole
from . import StepError, Workshop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Optional

DEFAULTS = "etc/default/grub"
DEFAULTS_FOLDER = "etc/default/grub.d"  # read after DEFAULTS, where distributions have taught it to GRUB
OURS = "zz-goldsmith.cfg"
KERNEL_INSTALL = "etc/kernel/cmdline"
MAKERS = ("update-grub", "grub2-mkconfig", "grub-mkconfig")
WRITTEN = ("boot/grub/grub.cfg", "boot/grub2/grub.cfg")
_SETTING = re.compile(r"^\s*GRUB_CMDLINE_LINUX(_DEFAULT)?=")
_SHOW = 'for file; do . "$file"; done; printf "%s" "$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT"'


def act(inputs: KernelCommandLine, workshop: Workshop) -> int:
    """Give the exit status of what makes the boot loader's configuration, or 0. What cannot be done is a StepError."""
    try:
        if system_id(workshop.root) == COS:
            return _edit_cos(inputs, workshop)
        for way in (_grubby, _grub, _kernel_install, _written):
            status = way(inputs, workshop)
            if status is not None:
                return status
    except GrubConfigError as error:
        raise StepError(str(error)) from error
    raise StepError(
        f"this image has neither grubby nor {', '.join(MAKERS)}, nor kernel-install with /{KERNEL_INSTALL}, nor "
        f"/{WRITTEN[0]}; install its boot loader's package in an earlier step"
    )


def changed_words(words: list[str], inputs: KernelCommandLine) -> list[str]:
    """Take away what is to be removed, by name or whole, and add what is not there."""
    kept = [word for word in words if word not in inputs.remove and word.partition("=")[0] not in inputs.remove]
    return kept + [word for word in dict.fromkeys(inputs.add) if word not in kept]


def _edit_cos(inputs: KernelCommandLine, workshop: Workshop) -> int:
    from ..cos import CosError, edit_boot_configuration

    try:
        edit_boot_configuration(workshop.root, "kernel-command-line", _on_kernel_lines(inputs))
    except CosError as error:
        raise StepError(str(error)) from error
    return 0


def _on_kernel_lines(inputs: KernelCommandLine) -> Callable[[str], str]:
    return lambda text: with_parameters(text, inputs.add, inputs.remove)


def _grubby(inputs: KernelCommandLine, workshop: Workshop) -> Optional[int]:
    program = find_program("grubby", workshop.root)
    if not program:
        return None
    if os.path.exists(os.path.join(workshop.root, DEFAULTS)):  # what the next kernel's package starts from
        _edit_settings(inputs, workshop.root)
    _edit_kernel_install(inputs, workshop.root)
    changes = [f"--remove-args={' '.join(inputs.remove)}"] if inputs.remove else []
    changes += [f"--args={' '.join(inputs.add)}"] if inputs.add else []
    return workshop.run([program, "--update-kernel=ALL", *changes], {}) if changes else 0


def _grub(inputs: KernelCommandLine, workshop: Workshop) -> Optional[int]:
    root = workshop.root
    program = next(filter(None, (find_program(name, root) for name in MAKERS)), "")
    if not program:
        return None
    _edit_settings(inputs, root)
    made = next((path for path in WRITTEN if os.path.isdir(os.path.join(root, os.path.dirname(path)))), WRITTEN[0])
    target = [] if program.endswith("/update-grub") else ["-o", os.path.join(root, made)]
    status = workshop.run([program, *target], {})
    if status == 0:
        _check(inputs, os.path.join(root, made))
    return status


def _check(inputs: KernelCommandLine, path: str) -> None:
    """Look for what was asked for in the file that was made: settings may have been overruled somewhere else."""
    text = _read(path)
    if sorted(_on_kernel_lines(inputs)(text).split()) != sorted(text.split()):
        raise StepError(
            f"{path} does not have the kernel's command line that was asked for; something other than "
            f"/{DEFAULTS} and /{DEFAULTS_FOLDER} sets it"
        )


def _edit_settings(inputs: KernelCommandLine, root: str) -> None:
    """Take words out of the settings where they stand, and add others in the file that is read last."""
    defaults, folder = os.path.join(root, DEFAULTS), os.path.join(root, DEFAULTS_FOLDER)
    files = [defaults, *sorted(glob.glob(os.path.join(glob.escape(folder), "*.cfg")))]
    files = [path for path in files if os.path.exists(path)]
    for path in files:
        _replace(path, "".join(_without(line, inputs) for line in _read(path).splitlines(keepends=True)))
    there = _settings(files)
    missing = [word for word in dict.fromkeys(inputs.add) if word not in there]
    if missing:
        last = os.path.join(folder, OURS) if os.path.isdir(folder) else defaults
        text = _read(last) if os.path.exists(last) else ""
        text += "" if not text or text.endswith("\n") else "\n"
        _replace(last, f'{text}GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {" ".join(missing)}"\n')


def _without(line: str, inputs: KernelCommandLine) -> str:
    """Take the words to be removed out of a line that sets the kernel's command line; other lines stay."""
    names = "|".join(map(re.escape, inputs.remove))
    if not names or not _SETTING.match(line):
        return line
    return re.sub(rf"(?<=[\s\"'=])(?:{names})(?:=[^\s\"']*)?(?=[\s\"']|$) ?", "", line)


def _settings(files: list[str]) -> list[str]:
    """Give the words that the settings come to. They are a shell's, and only a shell knows."""
    import subprocess

    done = subprocess.run(["/bin/sh", "-c", _SHOW, "sh", *files], stdout=subprocess.PIPE, check=False)
    return done.stdout.decode("utf-8", "replace").split()


def _kernel_install(inputs: KernelCommandLine, workshop: Workshop) -> Optional[int]:
    root = workshop.root
    program = find_program("kernel-install", root)
    if not program or not _edit_kernel_install(inputs, root):
        return None
    for folder in sorted(glob.glob(os.path.join(glob.escape(root), "usr/lib/modules/*"))):
        version = os.path.basename(folder)
        images = [os.path.join(folder, "vmlinuz"), os.path.join(root, "boot", f"vmlinuz-{version}")]
        for image in filter(os.path.exists, images[:1] if os.path.exists(images[0]) else images):
            status = workshop.run([program, "add", version, image], {})
            if status:
                return status
    return 0


def _edit_kernel_install(inputs: KernelCommandLine, root: str) -> bool:
    """Change the file that kernel-install makes its entries from; tell whether there is one."""
    path = os.path.join(root, KERNEL_INSTALL)
    if not os.path.exists(path):
        return False
    _replace(path, " ".join(changed_words(_read(path).split(), inputs)) + "\n")
    return True


def _written(inputs: KernelCommandLine, workshop: Workshop) -> Optional[int]:
    for path in (os.path.join(workshop.root, path) for path in WRITTEN):
        if os.path.exists(path):
            _replace(path, _on_kernel_lines(inputs)(_read(path)))
            return 0
    return None


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _replace(path: str, text: str) -> None:
    """Write a file, whole or not at all, with the mode it had."""
    if os.path.exists(path) and _read(path) == text:
        return
    mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o644
    write_whole(path, text.encode("utf-8", "surrogateescape"), mode)
