"""The port that says who a person is."""

from __future__ import annotations

from typing import Protocol


class Identities(Protocol):
    """Where people prove who they are, by tokens."""

    def mail_of(self, token: str, purpose: str) -> str:
        """Return the mail address, in lower case, that a token proves, if it is for this purpose alone.

        InputError says what is wrong with it, and never shows it; Transient where that cannot be found out now.
        """
        ...
