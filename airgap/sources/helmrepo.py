"""Charts from Helm repositories (``index.yaml``) and from OCI registries.

Invariants: the newest *stable* version unless asked otherwise; ``urls`` are resolved against the index and tried in order; a
digest in the index is checked; credentials never go to another host than the one they are for (the client's rule; those in a
channel's spec only to the repository's own origin). What arrives must be the chart that was asked for. Facts: cases.md H2, F54.

A real index has 4 MB and 1,200 entries of one chart; only the entry that is wanted is parsed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from airgap.chart import Chart
from airgap.errors import ConfigurationError, IntegrityError, NetworkError, NotFoundError
from airgap.manifest import nearest
from airgap.oci import HELM_CHART, Digest, Manifest
from airgap.plan import chart_tag
from airgap.registry import Registry
from airgap.sources.semver import newest
from airgap.transport import origin, redact_url
from airgap.values import load_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airgap.sources.places import Places
    from airgap.transport import Client, Credential

INDEX_LIMIT = 128 * 1024 * 1024
"""Bytes of an index.yaml; ours: the largest public ones have some 30 MB."""
ARCHIVE_LIMIT = 64 * 1024 * 1024
"""Bytes of a packed chart; ours: helm's own limit is 100 MiB unpacked."""

_KEY = re.compile(r"^  (?P<quote>[\"']?)(?P<name>[A-Za-z0-9._-]+)(?P=quote):[ \t]*$", re.MULTILINE)
_ITEM = re.compile(r"^  - ", re.MULTILINE)
_VERSION = re.compile(r"^    version:[ \t]*(?P<quote>[\"']?)(?P<version>[^\s\"'#]+)(?P=quote)[ \t]*$", re.MULTILINE)
_ENTRIES = re.compile(r"^entries:[ \t]*$", re.MULTILINE)
_NEXT_TOP = re.compile(r"^\S", re.MULTILINE)
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class IndexEntry:
    """One version of a chart in an index: where to get it, and its sha256 if the index gives one."""

    name: str
    version: str
    urls: tuple[str, ...]
    digest: str = ""


@dataclass(frozen=True)
class FetchedChart:
    """A chart and where it came from (a URL without credentials, as the world names it)."""

    chart: Chart
    source: str


def fetch_chart(
    client: Client,
    repository: str,
    name: str,
    version: str = "",
    *,
    places: Places,
    credential: Credential | None = None,
) -> FetchedChart:
    """Get a chart from ``https://...`` or ``oci://...`` (the place above the chart, or the chart's own).

    Raises NotFoundError (no such chart or version), IntegrityError (another digest, another chart), NetworkError.
    """
    if repository.startswith("oci://"):
        return _from_registry(client, repository, name, version, places)
    base = repository.rstrip("/") + "/"
    asked = places.url(urljoin(base, "index.yaml"))
    with client.request("GET", asked, credential=credential, preload=INDEX_LIMIT) as response:
        raw = response.read(INDEX_LIMIT)
    where = redact_url(urljoin(base, "index.yaml"))
    entry = find_entry(raw, name, version, where)
    return _download(client, base, entry, places, credential)


def find_entry(raw: bytes, name: str, version: str, where: str) -> IndexEntry:
    """Return the entry that Helm would take; raises NotFoundError and ConfigurationError. Pure."""
    text = raw.decode("utf-8", "replace")
    items = _items(text, name)
    if items is None:
        return _find_parsed(load_yaml(raw, where, duplicates=True), name, version, where)
    chosen = _choose(items, name, version, where)
    try:
        data = load_yaml("    " + items[chosen], f"{where}: {name} {chosen}", duplicates=True)
    except ConfigurationError:  # what stands there may be an alias whose anchor is in another entry: the whole index decides
        return _find_parsed(load_yaml(raw, where, duplicates=True), name, version, where)
    return _entry(data if isinstance(data, dict) else {}, name, where)


def _items(text: str, name: str) -> dict[str, str] | None:
    """Cut an index as helm writes it into the texts of a chart's entries by version, without parsing the rest.

    Returns None where the text is not laid out so (JSON, other indentation), or the chart is not found this way.
    """
    start = _ENTRIES.search(text)
    if not start:
        return None
    end = _NEXT_TOP.search(text, start.end() + 1)
    keys = list(_KEY.finditer(text, start.end(), end.start() if end else len(text)))
    for number, key in enumerate(keys):
        if key["name"] == name:
            stop = keys[number + 1].start() if number + 1 < len(keys) else (end.start() if end else len(text))
            return _by_version(text[key.end() + 1 : stop])
    return None


def _by_version(block: str) -> dict[str, str] | None:
    starts = [found.end() for found in _ITEM.finditer(block)]
    ends = [start - len("  - ") for start in starts[1:]] + [len(block)]
    out: dict[str, str] = {}
    for start, end in zip(starts, ends, strict=True):
        item = block[start:end]
        version = _VERSION.search("    " + item)
        if not version:
            return None
        out.setdefault(version["version"], item)
    return out or None


def _find_parsed(data: Any, name: str, version: str, where: str) -> IndexEntry:
    entries = data.get("entries") if isinstance(data, dict) else None
    if not isinstance(entries, dict):
        raise ConfigurationError(f"{where} is no index of a Helm repository", hint="check the repository's address")
    if not isinstance(entries.get(name), list):
        raise NotFoundError(f"{where} has no chart {name!r}{nearest(name, list(entries)[:50])}")
    listed = {str(item.get("version")): item for item in reversed(entries[name]) if isinstance(item, dict)}
    return _entry(listed[_choose(listed, name, version, where)], name, where)


def _choose(versions: Iterable[str], name: str, version: str, where: str) -> str:
    known = list(versions)
    chosen = newest(known, version)
    if chosen is None and not version:
        raise NotFoundError(
            f"{where} has only prereleases of {name}, {known[0]} for example", hint="name the version that is meant"
        )
    if chosen is None:
        latest = newest(known, "") or known[0]
        raise NotFoundError(f"{where} has no version {version} of {name}", hint=f"the newest stable one is {latest}")
    return chosen


def _entry(data: dict[str, Any], name: str, where: str) -> IndexEntry:
    urls = data.get("urls")
    if not isinstance(urls, list) or not urls:
        raise NotFoundError(f"{where} gives no address for {name} {data.get('version')}")
    digest = str(data.get("digest") or "").removeprefix("sha256:")
    return IndexEntry(name, str(data.get("version")), tuple(str(url) for url in urls), digest if _HEX.fullmatch(digest) else "")


def _download(client: Client, base: str, entry: IndexEntry, places: Places, credential: Credential | None) -> FetchedChart:
    """Try the addresses of an entry in order; the first that answers decides."""
    failures: list[NetworkError] = []
    for address in entry.urls:
        url = urljoin(base, address)
        if urlsplit(url).scheme not in {"http", "https"} or (base.startswith("https:") and not url.startswith("https:")):
            failures.append(NetworkError(f"{redact_url(url)} is no address to fetch from: refused"))
            continue
        own = credential if origin(url) == origin(base) else None
        try:
            with client.request("GET", places.url(url), credential=own, preload=ARCHIVE_LIMIT) as response:
                data = response.read(ARCHIVE_LIMIT)
        except NetworkError as error:
            failures.append(error)
            continue
        return FetchedChart(checked_chart(data, entry, redact_url(url)), redact_url(url))
    told = "; ".join(failure.message for failure in failures)
    kind = type(failures[-1])
    raise kind(f"chart {entry.name} {entry.version} cannot be had: {told}", hint=failures[-1].hint)


def checked_chart(data: bytes, entry: IndexEntry, where: str) -> Chart:
    """Return the chart in ``data`` if it is the one that was asked for; raises IntegrityError."""
    found = Digest.of(data)
    if entry.digest and found.hex != entry.digest:
        raise IntegrityError(
            f"{where} has the digest {found} but the index says sha256:{entry.digest}",
            hint="the file was changed after it was listed; ask who publishes it",
        )
    chart = Chart.from_bytes(data, where)
    if (chart.name, chart.version.removeprefix("v")) != (entry.name, entry.version.removeprefix("v")):
        raise IntegrityError(f"{where} is chart {chart.name} {chart.version}, not {entry.name} {entry.version}")
    return chart


def _from_registry(client: Client, repository: str, name: str, version: str, places: Places) -> FetchedChart:
    """Get a chart from a registry: the tag is the version, with ``+`` written as ``_`` (HIP 6)."""
    bare, _, tag = _untagged(repository.removeprefix("oci://").rstrip("/"))
    version = version or tag.replace("_", "+")
    host, _, path = bare.partition("/")
    path = path if path.rpartition("/")[2] == name else f"{path}/{name}".lstrip("/")
    real_host, real_path = places.repository(host, path)
    registry = Registry(client, real_host)
    listed = {found.replace("_", "+") for found in registry.tags(real_path)} if not _is_exact(version) else {version}
    chosen = _choose(sorted(listed), name, version, f"oci://{host}/{path}") if listed else version
    manifest = registry.get_manifest(real_path, chart_tag(chosen))
    layers = [layer for layer in manifest.layers if layer.media_type == HELM_CHART] if isinstance(manifest, Manifest) else []
    where = f"oci://{host}/{path}:{chosen}"
    if not layers:
        raise IntegrityError(f"{where} is no Helm chart")
    data = registry.read_blob(real_path, layers[0])
    return FetchedChart(checked_chart(data, IndexEntry(name, chosen, (), ""), where), where)


def _untagged(reference: str) -> tuple[str, str, str]:
    head, slash, last = reference.rpartition("/")
    last, colon, tag = last.partition(":") if slash else (last, "", "")
    return f"{head}{slash}{last}", colon, tag


def _is_exact(version: str) -> bool:
    return bool(re.fullmatch(r"v?\d+\.\d+\.\d+\S*", version))
