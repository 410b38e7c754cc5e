"""Receipts in the cluster: ``airgap-receipt-N`` for each, and ``airgap-receipt`` that says which one is current.

Invariants: facts lie in a ConfigMap, values in a Secret of the same name (see ``airgap.receipt``); ``current`` is the last
receipt whose install came to run, ``latest`` the last one begun. The newest KEPT are kept; the current one always is.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airgap.errors import ConfigurationError
from airgap.receipt import Receipt

if TYPE_CHECKING:
    from airgap.kube import Kubectl

NAME = "airgap-receipt"
FACTS, PAYLOAD = "receipt.json", "values.json"
LABELS = {"app.kubernetes.io/managed-by": "airgap"}
KEPT = 10
"""Receipts that are kept, as helm keeps ten revisions."""


@dataclass(frozen=True)
class Receipts:
    """The receipts of one operator namespace."""

    kubectl: Kubectl
    namespace: str

    def current(self) -> Receipt | None:
        """Return the receipt of what runs, or None."""
        return self.get(self._pointer("current"))

    def latest(self) -> Receipt | None:
        """Return the receipt that was begun last, or None."""
        return self.get(self._pointer("latest"))

    def get(self, number: int) -> Receipt | None:
        """Return receipt ``number``, or None; raises ConfigurationError if it is there and cannot be read."""
        if number < 1:
            return None
        name = f"{NAME}-{number}"
        facts = self.kubectl.get("ConfigMap", name, self.namespace)
        if facts is None:
            return None
        secret = self.kubectl.get("Secret", name, self.namespace)
        where = f"ConfigMap {self.namespace}/{name}"
        encoded = ((secret or {}).get("data") or {}).get(PAYLOAD) or ""
        try:
            payload = base64.b64decode(encoded, validate=True) or b"{}"
        except binascii.Error as error:
            raise ConfigurationError(f"Secret {self.namespace}/{name} is no receipt's: {PAYLOAD} is no base64") from error
        return Receipt.from_bytes(str((facts.get("data") or {}).get(FACTS) or ""), payload, where)

    def put(self, receipt: Receipt) -> None:
        """Write a receipt: its values first, so that facts never stand alone, the pointer last."""
        name = f"{NAME}-{receipt.number}"
        payload = base64.b64encode(receipt.payload()).decode()
        self._apply("Secret", name, {"type": "Opaque", "data": {PAYLOAD: payload}})
        self._apply("ConfigMap", name, {"data": {FACTS: receipt.facts().decode()}})
        current = receipt.number if receipt.is_done else self._pointer("current")
        self._apply("ConfigMap", NAME, {"data": {"current": str(current), "latest": str(receipt.number)}})

    def prune(self, keep: int = KEPT) -> None:
        """Delete the oldest receipts beyond ``keep``; never the current one."""
        numbers = self.numbers()
        for number in numbers[:-keep]:
            if number != self._pointer("current"):
                for kind in ("ConfigMap", "Secret"):
                    self.kubectl.delete(kind, f"{NAME}-{number}", self.namespace)

    def numbers(self) -> list[int]:
        """Return the numbers of all receipts, oldest first."""
        names = [str(item["metadata"]["name"]) for item in self.kubectl.listed("ConfigMap", self.namespace)]
        found = [name.removeprefix(f"{NAME}-") for name in names if name.startswith(f"{NAME}-")]
        return sorted(int(number) for number in found if number.isdecimal())

    def _pointer(self, key: str) -> int:
        pointer = self.kubectl.get("ConfigMap", NAME, self.namespace) or {}
        text = str((pointer.get("data") or {}).get(key) or "0")
        return int(text) if text.isdecimal() else 0

    def _apply(self, kind: str, name: str, content: dict[str, Any]) -> None:
        metadata = {"name": name, "namespace": self.namespace, "labels": dict(LABELS)}
        self.kubectl.apply({"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}, force=True)
