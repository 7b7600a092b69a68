"""How a person proves on Google Cloud who that is: identity tokens, by gcloud or from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.errors import EnvironmentFault, InputError
from shared.host.programs import ProgramFailed, run_tool
from shared.host.secret_file import NoPlainFile, read_plain

LARGEST_TOKEN = 8192  # bytes
_NO_LOGIN = (
    "\na person's own login gives no such token: use --impersonate ACCOUNT, with a service account that stands for you "
    "in the deployment and that only you may impersonate"
)


@dataclass(frozen=True)
class MailProof:
    """By which way a token is had: a service account that gcloud impersonates, a file, or gcloud's own account."""

    impersonate: str = ""
    token_file: Path | None = None


def identity_token(audience: str, proof: MailProof) -> str:
    """Return an identity token for an audience. InputError, EnvironmentFault, which never show it."""
    if proof.token_file is not None:
        if proof.impersonate:
            raise InputError("--impersonate and --token-file are two ways to one token; give one")
        return _read_token(proof.token_file)
    command = ["gcloud", "auth", "print-identity-token", f"--audiences={audience}", "--quiet"]
    remedy = _NO_LOGIN
    if proof.impersonate:
        command += [f"--impersonate-service-account={proof.impersonate}", "--include-email"]
        remedy = ""
    try:
        return run_tool(command).strip()
    except ProgramFailed as error:
        raise EnvironmentFault(f"{error}{remedy}") from error


def _read_token(path: Path) -> str:
    try:
        data, _ = read_plain(path, LARGEST_TOKEN + 1)
        token = data.decode("ascii").strip()
    except NoPlainFile as error:
        raise InputError(f"--token-file: {path} is no plain file") from error
    except OSError as error:
        raise InputError(f"--token-file: {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InputError(f"--token-file: {path} holds no identity token") from None
    if not token or len(data) > LARGEST_TOKEN:
        raise InputError(f"--token-file: {path} holds no identity token")
    return token
