"""What a site lends to a job is read when its machine starts; a proxy on the host itself is refused."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from provisioner.protocol import Job
from shared.build.plan import MachinePlan
from shared.build.proxy import ProxyPlan
from shared.errors import InputError
from shared.local.site import check_proxy, lend_site
from tests.shared.build.test_proxy import PEM

JOB = Job("tiny-0123456789ab", 1, "5f" * 32, ())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0.0.0.0"])
def test_a_proxy_on_this_host_is_refused(host: str) -> None:
    with pytest.raises(InputError, match=r"^local\.proxy\.https: .* is this host itself, .*; name a proxy on another"):
        check_proxy(ProxyPlan(https=f"http://{host}:3128"))


def test_an_own_address_is_this_host_too() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.77", 9))  # nothing is sent
            own = probe.getsockname()[0]
        except OSError:  # a host without a network
            own = "127.0.0.2"
    with pytest.raises(InputError, match="is this host itself"):
        check_proxy(ProxyPlan(http=f"http://{own}:3128"))


def test_a_proxy_elsewhere_is_none_of_this_host() -> None:
    check_proxy(ProxyPlan(http="http://192.0.2.77:3128", https="http://no-such-host.invalid:3128"))


def test_a_job_gets_what_the_files_hold(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM)
    (tmp_path / "login").write_text("ann:p/ss\n")
    plan = ProxyPlan(http="http://proxy:1", ca=str(tmp_path / "ca.pem"), credentials=str(tmp_path / "login"))
    lent = lend_site(JOB, MachinePlan("local", internet=False, proxy=plan))
    assert lent.proxy["http"] == "http://ann:p%2Fss@proxy:1"
    assert lent.authorities == PEM
    assert lend_site(JOB, MachinePlan("local", internet=False)) is JOB


@pytest.mark.parametrize("key", ["ca", "credentials"])
def test_files_that_have_gone_are_named(tmp_path: Path, key: str) -> None:
    path = str(tmp_path / "gone")
    plan = ProxyPlan("http://proxy:1", ca=path) if key == "ca" else ProxyPlan("http://proxy:1", credentials=path)
    with pytest.raises(InputError, match=rf"^local\.proxy\.{key}: {path} cannot be read: No such file"):
        lend_site(JOB, MachinePlan("local", internet=False, proxy=plan))


def test_a_file_that_is_unfit_is_named_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "login").write_text("s3cr3t")
    with pytest.raises(InputError, match=r"login does not hold USER:PASSWORD") as told:
        lend_site(JOB, MachinePlan("local", proxy=ProxyPlan("http://proxy:1", credentials=str(tmp_path / "login"))))
    assert "s3cr3t" not in str(told.value)
