"""What a client of the distribution-spec says, in few words; nothing of airgap's own client takes part."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airgap.oci import OCI_CONFIG, OCI_MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests


OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(data: bytes, media_type: str = OCI_LAYER) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data)}


def image(config: bytes, *layers: bytes, **more: Any) -> bytes:
    document = {"config": descriptor(config, OCI_CONFIG), "layers": [descriptor(layer) for layer in layers]}
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, **document, **more}).encode()


@dataclass
class Talk:
    """A client of ``server``, which runs in this process, or at a URL."""

    server: Any
    session: requests.Session

    @property
    def url(self) -> str:
        return self.server if isinstance(self.server, str) else self.server.url

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        url = path if "://" in path else f"{self.url}{path}"
        return self.session.request(method, url, timeout=20, allow_redirects=False, **more)

    def get(self, path: str, **headers: str) -> requests.Response:
        return self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def open(self, repository: str) -> str:
        answer = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert answer.status_code == 202, answer.text
        return answer.headers["Location"]

    def blob(self, repository: str, data: bytes) -> str:
        answer = self.ask("PUT", self.open(repository), params={"digest": sha256(data)}, data=data)
        assert answer.status_code == 201, answer.text
        return sha256(data)

    def manifest(self, repository: str, locator: str, raw: bytes, media_type: str = OCI_MANIFEST) -> requests.Response:
        return self.ask("PUT", f"/v2/{repository}/manifests/{locator}", data=raw, headers={"Content-Type": media_type})

    def image(self, repository: str, tag: str, layer: bytes = b"a layer", **more: Any) -> str:
        """Push a whole image and return its digest."""
        raw = image(b"{}", layer, **more)
        for data in (b"{}", layer):
            self.blob(repository, data)
        answer = self.manifest(repository, tag, raw)
        assert answer.status_code == 201, answer.text
        return answer.headers["Docker-Content-Digest"]


def code(answer: requests.Response) -> tuple[int, str]:
    """The status and the distribution-spec's error code."""
    return answer.status_code, answer.json()["errors"][0]["code"]


def eventually(happens: Callable[[], bool]) -> None:
    """Wait for what another thread will do soon."""
    until = time.monotonic() + 15
    while not happens():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)
