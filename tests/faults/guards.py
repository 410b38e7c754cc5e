"""Who may pass the proxy: everybody with the right password, or with a token that the proxy gave out for it."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.faults.actions import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.actions import Head

USER, PASSWORD = "robot", "pa55-that-nobody-sees"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
TOKEN = "t0ken-that-nobody-sees"
SECRETS = (PASSWORD, BASIC.partition(" ")[2], TOKEN)
CHALLENGE = 'Bearer realm="http://{host}/token",service="faults"'


@dataclass
class Guard:
    """Asks for Basic, or with ``tokens`` for a token of /token; ``given`` counts those."""

    tokens: bool = False
    given: int = 0
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def answer(self, head: Head) -> Answer | None:
        """Return the refusal (or the token), or None: it may pass."""
        told = head.headers.get("authorization", "")
        if not self.tokens:
            return None if told == BASIC else Answer(401, (("WWW-Authenticate", 'Basic realm="faults"'),))
        if head.path.startswith("/token"):
            if told != BASIC:
                return Answer(401)
            self.given = next(self._numbers)
            return Answer(200, (), json.dumps({"token": f"{TOKEN}-{self.given}", "expires_in": 300}).encode())
        return None if told.startswith(f"Bearer {TOKEN}-") else Answer(401, (("WWW-Authenticate", CHALLENGE),))
