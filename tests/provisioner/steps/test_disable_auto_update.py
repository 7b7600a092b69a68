"""disable-auto-update: the service that updates the system is masked on every kernel's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.steps.step_context import StepError
from tests.provisioner.cos.machine_tree import GRUB_CFG, CosTree, act_on


def test_update_engine_is_masked_after_each_cros_efi_once(tmp_path: Path) -> None:
    """disable-auto-update: masks update-engine on the kernel command line."""
    cos = CosTree(tmp_path)
    assert cos.act("disable-auto-update", {}) == 0
    masked = GRUB_CFG.replace("cros_efi", "cros_efi systemd.mask=update-engine.service")
    assert cos.grub_cfg.read_text() == masked
    assert cos.act("disable-auto-update", {}) == 0
    assert cos.grub_cfg.read_text() == masked


def test_another_system_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text("ID=debian\n")
    with pytest.raises(StepError, match=r"disable-auto-update needs Container-Optimized OS, .* \(ID=debian"):
        act_on(tmp_path, "disable-auto-update", {})


def test_an_efi_system_that_cannot_be_mounted_fails_the_step(tmp_path: Path) -> None:
    cos = CosTree(tmp_path)
    cos.grub_cfg.unlink()
    with pytest.raises(StepError, match="this image has no mount"):
        cos.act("disable-auto-update", {})
    cos.program("mount", "/bin/true")
    cos.program("umount", "/bin/true")
    with pytest.raises(StepError, match=r"EFI-SYSTEM has no efi/boot/grub\.cfg"):
        cos.act("disable-auto-update", {})


def test_a_grub_cfg_of_something_else_stays_as_it_is(tmp_path: Path) -> None:
    cos = CosTree(tmp_path)
    cos.grub_cfg.write_text('menuentry "other" {\n  linux /vmlinuz ro quiet\n}\n')
    with pytest.raises(StepError, match="no kernel line with cros_efi"):
        cos.act("disable-auto-update", {})
    assert "systemd" not in cos.grub_cfg.read_text()
