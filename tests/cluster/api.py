"""As much of the Kubernetes API as the small operator needs, over requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from pathlib import Path

    Object = dict[str, Any]

LIMIT = 30.0
WANDB = "/apis/apps.wandb.com/v1"


class ApiError(Exception):
    """The API server said no; ``status`` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Api:
    """The API server as one user sees it."""

    server: str
    ca_file: Path
    token: str

    def call(self, method: str, path: str, body: Any = None, **params: str) -> Any:
        """Call it; ApiError for a refusal, requests' errors if it cannot be reached."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method, self.server + path, json=body, params=params, headers=headers, verify=str(self.ca_file), timeout=LIMIT
            )
            said = answer.json() if answer.content else {}
        if not answer.ok:
            raise ApiError(answer.status_code, said.get("message", answer.text))
        return said

    def find(self, path: str) -> Object | None:
        """Return an object, or None if it is not there."""
        try:
            found: Object = self.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    def list(self, path: str, **params: str) -> list[Object]:
        """Return the objects under a path."""
        found: list[Object] = self.call("GET", path, **params)["items"]
        return found
