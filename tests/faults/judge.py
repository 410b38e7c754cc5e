"""The seven invariants of the fault matrix, as functions that every row is judged by.

I1 nothing wrong is stored under a digest or a tag; I2 nothing finished is lost or sent again; I3 no credential reaches another
origin, a log, a file or an error; I4 nothing is written outside the target; I5 no half result under a final name; I6 all is
bounded; I7 one sentence: thing, reason, next step.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from airgap.bundle import BundleReader
from airgap.errors import IntegrityError
from airgap.registry import Registry
from airgap.transport import Client, HostSettings
from airgap.verify import verify
from tests.faults.guards import SECRETS
from tests.faults.proxy import matching
from tests.faults.world import TRUST

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from airgap.errors import AirgapError
    from airgap.oci import Digest
    from airgap.plan import Wanted
    from tests.bundle.estate import Estate
    from tests.faults.proxy import Passed

REQUESTS = 400
"""Requests that no run here may need: without faults one needs about 40."""
LISTED = 5000
"""Characters that ten faults at once may need."""
TAKEN = {200, 201, 204, 206}


def witness(host: str) -> Registry:
    """Return the registry itself, spoken to past the proxy."""
    return Registry(Client(hosts={host: HostSettings(plain_http=True)}, environ={}, trust=TRUST), host)


def i1_all_there(registry: Registry, want: Sequence[Wanted], estate: Estate, *, but: Collection[Digest] = ()) -> None:
    """The registry holds everything of ``want``, byte for byte."""
    for item in want:
        if item.tree.root.digest in but:
            continue
        if item.tag:
            there = registry.head_manifest(item.repository, item.tag)
            assert there is not None, f"I1: {item.repository}:{item.tag} is missing"
            assert there.digest == item.tree.root.digest, f"I1: {item.repository}:{item.tag} is something else"
        for manifest in item.tree.manifests:
            raw, _ = registry.get_manifest_bytes(item.repository, str(manifest.digest))
            assert raw == estate.contents[manifest.digest]
        for blob in item.tree.blobs:
            assert registry.read_blob(item.repository, blob) == estate.contents[blob.digest]


def i1_nothing_wrong(registry: Registry, want: Sequence[Wanted], estate: Estate, *, old: Collection[Digest] = ()) -> None:
    """What is there is right, and (I5) no tag is there before what it names. ``old``: what the tags were before."""
    for item in want:
        for blob in item.tree.blobs:
            if registry.has_blob(item.repository, blob.digest):
                assert registry.read_blob(item.repository, blob) == estate.contents[blob.digest], "I1"
        there = registry.head_manifest(item.repository, item.tag) if item.tag else None
        if there is None or there.digest in old:
            continue
        assert there.digest == item.tree.root.digest, f"I1: {item.tag} is something else"
        assert all(registry.has_blob(item.repository, blob.digest) for blob in item.tree.blobs), f"I5: half of {item.tag}"


def i1_bundle(path: Path, estate: Estate) -> None:
    """The bundle is whole, and is that of the lock."""
    found = verify(path)
    assert found, f"I1: {[str(fault) for fault in found.faults]}"
    with BundleReader.open(path) as reader:
        assert reader.digest == estate.lock.digest


def i2_nothing_finished_again(seen: Sequence[Passed], *, but: int = 0) -> None:
    """No blob and no manifest that the registry took (and whose 201 reached us) was sent a second time."""
    done: Counter[str] = Counter()
    for one in matching(list(seen), "PUT", "/v2/"):
        digest = re.search(r"digest=([^&]+)", one.path)
        key = f"{one.path.split('/blobs/')[0]} {digest[1]}" if digest else one.path
        done[key] += one.status in TAKEN
    again = {key: count for key, count in done.items() if count > 1}
    assert sum(count - 1 for count in again.values()) <= but, f"I2: sent again: {again}"


def i2_bytes_sent(seen: Sequence[Passed], needed: int, again: int) -> None:
    """Not more than ``needed`` bytes went into the registry, but for ``again``."""
    sent = sum(one.came for one in matching(list(seen), "PUT|PATCH", "/v2/"))
    assert sent <= needed + again, f"I2: {sent - needed} bytes were sent again, {again} are allowed"


def i2_bytes_fetched(seen: Sequence[Passed], needed: int, again: int) -> None:
    """Not more than ``needed`` bytes of blobs came out of the registry, but for ``again``."""
    got = sum(one.went for one in matching(list(seen), "GET", "/blobs/sha256") if one.status in {200, 206})
    assert got <= needed + again, f"I2: {got - needed} bytes were fetched again, {again} are allowed"


def i2_nothing_fetched_again(first: Sequence[Passed], second: Sequence[Passed]) -> None:
    """What a first run fetched whole, a second one does not ask for."""
    whole = {one.path for one in first if one.method == "GET" and not one.hurt and one.status == 200 and "/blobs/" in one.path}
    asked = {one.path for one in second if one.method == "GET" and "/blobs/" in one.path}
    assert not whole & asked, f"I2: fetched again: {whole & asked}"


def i3_no_secret(told: str, log: str, files: Collection[Path], elsewhere: Sequence[object]) -> None:
    """No secret was said, logged or written, and none went to another host."""
    for secret in SECRETS:
        assert secret not in told, "I3: an error tells a secret"
        assert secret not in log, "I3: the log tells a secret"
        assert not [path for path in files if secret.encode() in path.read_bytes()], "I3: a file holds a secret"
        assert secret not in repr([vars(one) for one in elsewhere]), "I3: another host got a secret"


def i4_only_beside(folder: Path, name: str) -> list[Path]:
    """Whatever was written lies beside the bundle and begins with its name; returns that."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    strange = [path for path in files if path.parent != folder or not path.name.startswith(name)]
    assert not strange, f"I4: {strange}"
    return files


def i5_no_half_bundle(path: Path) -> None:
    """A bundle that has its name is whole."""
    if path.exists():
        assert verify(path), "I5: a half bundle has the final name"


def i6_bounded(seen: Sequence[Passed], seconds: float, within: float) -> None:
    """It took not too long and not too many requests, and no body without a length."""
    assert seconds < within, f"I6: {seconds:.1f} s, {within:g} are allowed"
    assert len(seen) < REQUESTS, f"I6: {len(seen)} requests"
    assert not [one for one in seen if "transfer-encoding" in one.head.headers], "F21: a body came in chunked coding"


def i7_one_sentence(error: AirgapError, code: int, words: Sequence[str]) -> None:
    """The error has its exit code, is one sentence that names the thing and the reason, and a next step where one is due."""
    assert error.exit_code == code, f"I7: exit code {error.exit_code}: {error.message}"
    told = f"{error.message} {error.hint}"
    assert error.message, "I7: nothing is said"
    assert not re.search(r"[\x00-\x1f\x7f]", told), f"I7: more than one line: {told!r}"
    assert len(error.message) < LISTED, f"I7: too long: {error.message}"
    assert "Traceback" not in told
    assert not re.search(r"\b(urllib3|requests|HTTPConnectionPool|Errno)\b", told), f"I7: a library's words: {told}"
    missing = [word for word in words if word not in told]
    assert not missing, f"I7: {missing} is not said in: {told}"
    if code == 4:
        assert isinstance(error, IntegrityError)
