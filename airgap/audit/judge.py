"""Judge: each hit of a scan is allowed, inert or open, with the reason. Pure: what the registry answered comes as data.

Invariants: no branch is silent: every hit becomes one finding; what no rule knows is open.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airgap.audit.knowledge import COMMENT_REASON, CRD_REASON, RULES, TEST_FIX, TEST_REASON, UNKNOWN_FIX, Rule
from airgap.errors import ConfigurationError
from airgap.scan import CLOUDS, cloud_addresses, is_inside
from airgap.values import Json, format_path, get, leaves, parse_path
from airgap.verdict import ALLOWED, CONTAINER, INERT, OPEN, URL, VALUE, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airgap.lock import Lock
    from airgap.oci import Digest
    from airgap.ref import Location, Reference
    from airgap.scan import Document, Hit
    from airgap.values import ValuePath

_COMMENT = re.compile(r"\s*(?:#|//|;|--\s)")


@dataclass(frozen=True)
class Allowance:
    """A host that the user lets be (``--allow HOST``), with the reason that goes on record."""

    host: str
    reason: str = ""


@dataclass(frozen=True)
class Subject:
    """A group of documents: rendered by a chart, or a file that is applied as it is (``is_file``)."""

    chart: str
    documents: tuple[Document, ...]
    is_file: bool = False


@dataclass(frozen=True)
class Bench:
    """What a judgement knows.

    ``held``: what the registry answered for each (repository, locator): a digest, or None for not there. ``configured``:
    host (or cloud address) to the value path under which the user named it. ``node_mirrors``: the nodes have the mirror files.
    """

    lock: Lock
    location: Location
    held: Mapping[tuple[str, str], Digest | None]
    configured: Mapping[str, str] = field(default_factory=dict)
    allowances: Sequence[Allowance] = ()
    true_variables: frozenset[str] = frozenset()
    node_mirrors: bool = False

    def judge(self, subject: Subject, hit: Hit) -> Finding:
        """Return the finding of a hit."""
        kind = hit.kind if hit.kind == URL or not subject.is_file else VALUE
        verdict, reason, fix = {URL: self._url, VALUE: self._in_file}.get(kind, self._image)(hit)
        document = hit.document
        return Finding(verdict, kind, subject.chart, document.template, document.label, hit.path, hit.text, reason, fix)

    # -- images ----------------------------------------------------------------------------------------------------

    def _image(self, hit: Hit) -> tuple[str, str, str]:
        if hit.document.is_test:
            return INERT, TEST_REASON, TEST_FIX
        if hit.reference is None:
            return OPEN, f"it cannot be read as a reference: {hit.problem}", "correct the value that makes it"
        if hit.kind != CONTAINER and is_comment(hit):
            return INERT, COMMENT_REASON, ""
        if hit.reference.registry == self.location.registry:
            return self._inside(hit.reference)
        return self._outside(hit)

    def _inside(self, reference: Reference) -> tuple[str, str, str]:
        """Judge a reference to the private registry: the right digest must be there."""
        wanted = self._wanted(reference)
        found = self.held.get((reference.repository, reference.locator))
        push = "run airgap push, or copy the image there with another tool"
        if found is None:
            return OPEN, f"the registry does not hold {reference}", push
        if wanted and found not in wanted:
            told = " or ".join(sorted(str(digest) for digest in wanted))
            return OPEN, f"the registry holds {found} there, the bundle {told}", push
        if wanted:
            how = "pinned by digest" if reference.digest else "by tag, whose digest in the registry is the bundle's"
            return ALLOWED, f"in the registry, {how}", ""
        if reference.digest:
            return ALLOWED, "in the registry, pinned by digest; it is not of this bundle", ""
        return (
            OPEN,
            f"it is in the registry, but neither pinned nor in the bundle, so nobody says what it must be; now it is {found}",
            f"write {reference.pinned(found)}",
        )

    def _wanted(self, reference: Reference) -> set[Digest]:
        """Return the digests that the bundle has for what lies at ``reference``; empty if it has none."""
        wanted: set[Digest] = set()
        for image in self.lock.images:
            place = self.location.relocate(image.reference)
            if place.name != reference.name:
                continue
            held = {image.digest, *(child.digest for child in image.tree.manifests)}
            if reference.digest or place.tag == reference.tag:
                wanted |= held
        return wanted

    def _outside(self, hit: Hit) -> tuple[str, str, str]:
        reference = hit.reference
        allowed = self._allowance(hit.host)
        if allowed:
            return ALLOWED, allowed, ""
        if reference and self.node_mirrors:
            place = self.location.relocate(reference)
            locked = self.lock.image(reference)
            if locked and self.held.get((place.repository, place.locator)) in {locked.digest, reference.digest}:
                return ALLOWED, f"node mirrors bring it from {place.name}, where the registry holds the bundle's digest", ""
        template = hit.document.template
        return (
            OPEN,
            f"it is pulled from {hit.host}, which is outside",
            (
                f"airgap render sets the value that makes it; if {template or 'the document'} has it hard-coded: put the"
                " files of node-mirrors/ on the nodes and audit with --node-mirrors, or carry a patched chart"
            ),
        )

    def _in_file(self, hit: Hit) -> tuple[str, str, str]:
        """Judge a reference that values or the custom resource spell out: only what they render to is ever pulled."""
        if hit.reference and hit.reference.registry == self.location.registry:
            return ALLOWED, "names the private registry; what it renders to is judged by itself", ""
        return INERT, "spelt in values only; what the chart renders from it is judged by itself", ""

    # -- hosts -----------------------------------------------------------------------------------------------------

    def _url(self, hit: Hit) -> tuple[str, str, str]:
        harmless = self._harmless(hit)
        if harmless:
            return harmless
        if place := self._own_cloud(hit):
            return ALLOWED, f"configured by the user at {place}", ""
        rule = self._rule(hit)
        if rule:
            return rule.verdict, rule.reason, rule.fix
        if hit.host in self.configured:
            return ALLOWED, f"configured by the user at {self.configured[hit.host]}", ""
        return OPEN, f"{hit.host} is outside, and nothing is known that would make it harmless", UNKNOWN_FIX

    def _harmless(self, hit: Hit) -> tuple[str, str, str] | None:
        """Return the judgement of a host that is inside, allowed, or never followed; None if it is none of these."""
        allowed = self._allowance(hit.host)
        is_documentation = hit.document.kind == "CustomResourceDefinition" and hit.path.endswith("description")
        tests = (
            (hit.document.is_test, (INERT, TEST_REASON, TEST_FIX)),
            (hit.host == host_only(self.location.registry), (ALLOWED, "the private registry", "")),
            (is_inside(hit.host), (ALLOWED, "inside the cluster", "")),
            (bool(allowed), (ALLOWED, allowed, "")),
            (is_comment(hit), (INERT, COMMENT_REASON, "")),
            (is_documentation, (INERT, CRD_REASON, "")),
        )
        return next((judgement for holds, judgement in tests if holds), None)

    def _own_cloud(self, hit: Hit) -> str:
        """Return where the user's values name this very cloud address, or a place that it lies below; empty if nowhere."""
        if hit.host not in CLOUDS.values():
            return ""
        own = (path for text, path in self.configured.items() if hit.text == text or hit.text.startswith(f"{text}/"))
        return next(own, "")

    def _rule(self, hit: Hit) -> Rule | None:
        for rule in RULES:
            place = hit.document.template or hit.document.label
            if (
                rule.host.fullmatch(hit.host)
                and rule.text.match(hit.text)
                and rule.template.match(place)
                and not (rule.unless_env and rule.unless_env in self.true_variables)
            ):
                return rule
        return None

    def _allowance(self, host: str) -> str:
        for allowance in self.allowances:
            if allowance.host.lower() == host:
                return f"allowed by the user{f': {allowance.reason}' if allowance.reason else ' (--allow)'}"
        return ""


def host_only(registry: str) -> str:
    """Return a registry's host without its port."""
    return re.sub(r":\d+$", "", registry)


def is_comment(hit: Hit) -> bool:
    """Whether a hit stands in nothing but comment lines of a text (``#``, ``//``, ``;``)."""
    text = _scalar(hit)
    lines = [line for line in text.splitlines() if hit.text in line or (hit.host and hit.host in line.lower())]
    return bool(lines) and len(text.splitlines()) > 1 and all(_COMMENT.match(line) for line in lines)


def _scalar(hit: Hit) -> str:
    try:
        value = get(hit.document.object, parse_path(hit.path.partition("!")[0]))
    except ConfigurationError:
        return ""
    return value if isinstance(value, str) else ""


def configured_hosts(values: Json, channel: Json) -> dict[str, str]:
    """Return the hosts and cloud addresses that the user's values name, with the path; what the channel says too is not his."""
    found: dict[str, str] = {}
    for path, value in leaves(values):
        if isinstance(value, str) and get(channel, path) != value:
            for host in (*_hosts(value), *(address for address, _ in cloud_addresses(value))):
                found.setdefault(host, format_path(path))
    return found


def _hosts(text: str) -> Iterable[str]:
    return (match.lower().rstrip(".") for match in re.findall(r"[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)+", text))


def true_variables(documents: Iterable[Document]) -> frozenset[str]:
    """Return the names of environment variables that any container sets to true."""
    found: set[str] = set()
    for document in documents:
        for path, value in leaves(document.object):
            if path[-1] == "value" and str(value).lower() in ("true", "yes"):
                found.add(str(get(document.object, _beside(path))))
    return frozenset(found)


def _beside(path: ValuePath) -> ValuePath:
    return (*path[:-1], "name")
