"""The steps get proxies and authorities by their environment and by files in /run, and their output hides passwords."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from tests.provisioner.provisioning import Provisioning, job, script

OWN, SITE = "the image's own\n", "-----BEGIN CERTIFICATE-----\nc2l0ZQ==\n-----END CERTIFICATE-----\n"
PASSWORD = "p%2Fssw0rd"
PROXY = {"http": f"http://ann:{PASSWORD}@proxy.example:3128", "no_proxy": "localhost,.corp"}
SHOW = """
printf '%s\\n' "$http_proxy" "$HTTP_PROXY" >seen
echo "$no_proxy $NO_PROXY ${https_proxy-none}"
echo "$http_proxy"; printf 'p%%2Fs'; sleep 0.1; echo 'sw0rd p/ssw0rd'
printf 'ann:p/ssw0rd' | base64
cat "$SSL_CERT_FILE"
for name in CURL_CA_BUNDLE REQUESTS_CA_BUNDLE GIT_SSL_CAINFO PIP_CERT; do
    [ "$(printenv $name)" = "$SSL_CERT_FILE" ] || echo "$name is another"
done
cat "$NODE_EXTRA_CA_CERTS"
stat -c %a "$APT_CONFIG"
"""


def machine_with(tmp_path: Path, text: str) -> Provisioning:
    wanted = replace(job(script("show")), proxy=PROXY, authorities=SITE)
    machine = Provisioning(tmp_path / "m", wanted, {"show": text})
    (machine.root / "var/lib/dpkg").mkdir(parents=True)
    bundle = machine.root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True)
    bundle.write_text(OWN)
    return machine


def test_steps_have_the_proxies_and_the_authorities(tmp_path: Path) -> None:
    machine = machine_with(tmp_path, f"{SHOW}\ncp seen {tmp_path}/seen")
    ended = machine.run()
    assert ended.status == 0, ended.console
    assert (tmp_path / "seen").read_text() == f"{PROXY['http']}\n" * 2
    lines = [line.removeprefix("[step show] ") for line in ended.console.splitlines() if line.startswith("[step show]")]
    assert lines == [
        "localhost,.corp localhost,.corp none",
        "http://ann:(hidden)@proxy.example:3128",
        "(hidden) (hidden)",
        "(hidden)",
        *(OWN + SITE + SITE).splitlines(),
        "600",
    ]


def test_a_password_is_in_no_report(tmp_path: Path) -> None:
    machine = machine_with(tmp_path, 'echo "$http_proxy"; exit 1')
    assert machine.run().status == 1
    assert PASSWORD.encode() not in machine.port.read_bytes()
    [failed] = [report for report in machine.reports() if report.kind == "failed"]
    assert failed.output == "http://ann:(hidden)@proxy.example:3128\n"


def test_apt_is_told_by_a_file_outside_of_the_image(tmp_path: Path) -> None:
    machine = machine_with(tmp_path, f"apt-config dump >{tmp_path}/dump; echo $APT_CONFIG")
    ended = machine.run()
    assert f"[step show] {machine.root}/run/goldsmith/apt.conf\n" in ended.console
    told = (tmp_path / "dump").read_text()
    assert f'Acquire::http::Proxy "{PROXY["http"]}";' in told
    assert 'Acquire::https::Proxy "DIRECT";' in told
    assert f'Acquire::https::CaInfo "{machine.root}/run/goldsmith/ca-bundle.pem";' in told
    assert 'DPkg::Lock::Timeout "600";' in told


def test_without_authorities_of_its_own_an_image_trusts_those_of_the_site(tmp_path: Path) -> None:
    machine = machine_with(tmp_path, "cat $SSL_CERT_FILE >bundle; cmp bundle $NODE_EXTRA_CA_CERTS && echo same")
    (machine.root / "etc/ssl/certs/ca-certificates.crt").unlink()
    assert "[step show] same\n" in machine.run().console


def test_without_a_proxy_nothing_is_lent(tmp_path: Path) -> None:
    machine = Provisioning(tmp_path / "m", job(script("show")), {"show": r"env | grep -ci '^[a-z_]*\(proxy\|cert\)'"})
    assert "[step show] 0\n" in machine.run().console
    assert not (machine.root / "run").exists()
    assert subprocess.run(["find", machine.root, "-name", "*.pem"], capture_output=True, check=True).stdout == b""
