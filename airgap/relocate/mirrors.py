"""Node mirrors: the files that make a node ask the private registry for what manifests still call by its outside name.

For references that no value moves, and for whoever prefers mirrors to rewritten values. One source host is one mirror, because
the source host stays in the path (design.md decision 10) or is left out; in the layout FLAT each repository is a mirror of its
own, and containerd's format, which can only put a path before another, has none. Formats: containerd ``certs.d`` (hosts.md of
containerd), CRI-O and podman ``registries.conf`` (containers-registries.conf(5)), OpenShift IDMS and ITMS
(config.openshift.io/v1), rke2 and k3s ``registries.yaml``.

Invariants: no file allows a fallback to the outside, as far as its format can say so; each is checked by resolving every locked
reference through its text (cases.md R6, C2) before it is handed out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import AirgapError
from airgap.ref import FLAT, PATH, Reference
from airgap.values import dump_yaml, load_yaml, load_yaml_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airgap.ref import Location
    from airgap.values import Json

CONTAINERD, CONF, OPENSHIFT, RANCHER = (
    "containerd",
    "registries.conf.d/airgap.conf",
    "openshift.yaml",
    "rancher/registries.yaml",
)

_TABLE = re.compile(r'^\[host\."(https?)://([^/"]+)(/v2[^"]*)"\]$', re.MULTILINE)
_REMAP = re.compile(r'^prefix = "([^"]+)"\nlocation = "([^"]+)"$', re.MULTILINE)


@dataclass(frozen=True)
class MirrorOptions:
    """How nodes reach the private registry; ``ca_file`` is its CA's path on the nodes, empty for the system's store."""

    plain_http: bool = False
    ca_file: str = ""


def mirror_files(references: Iterable[Reference], location: Location, options: MirrorOptions) -> dict[str, str]:
    """Return the files by relative path, proved against every reference; raises AirgapError if one does not resolve."""
    wanted = sorted(set(references))
    hosts = sorted({reference.registry for reference in wanted})
    flat = location.layout == FLAT
    files = {} if flat else {f"{CONTAINERD}/{host}/hosts.toml": _hosts_toml(host, location, options) for host in hosts}
    files[f"{CONTAINERD}/_default/hosts.toml"] = _default_toml(location, options)
    files[CONF] = _registries_conf(_remapped(wanted, location), options)
    files[OPENSHIFT] = _openshift(wanted, location)
    files[RANCHER] = _rancher(wanted, location, options)
    for reference in wanted:
        right = location.relocate(reference).name
        for kind, found in resolve(files, reference).items():
            if found != right and not (flat and kind == CONTAINERD):
                raise AirgapError(f"node mirror file {kind} leads {reference} to {found or 'nowhere'} instead of {right}")
    return files


def resolve(files: Mapping[str, str], reference: Reference) -> dict[str, str]:
    """Return, per format, the ``registry/repository`` that a node with these files asks for ``reference``; empty: outside."""
    return {
        CONTAINERD: _by_containerd(files.get(f"{CONTAINERD}/{reference.registry}/hosts.toml", ""), reference),
        CONF: _by_conf(files.get(CONF, ""), reference),
        OPENSHIFT: _by_openshift(files.get(OPENSHIFT, ""), reference),
        RANCHER: _by_rancher(files.get(RANCHER, ""), reference),
    }


def _base(location: Location, options: MirrorOptions) -> str:
    return f"{'http' if options.plain_http else 'https'}://{location.registry}"


def _place(host: str, location: Location) -> str:
    """Return the path below the registry where images of ``host`` lie (what Location.relocate makes); empty for its root."""
    if location.layout == PATH:
        return location.prefix
    return location.relocate(Reference(host, "x")).repository.removesuffix("/x")


def _remapped(references: Sequence[Reference], location: Location) -> dict[str, str]:
    """Return names that begin outside, and what they begin with inside: hosts, or, where all is flat, whole repositories."""
    if location.layout == FLAT:
        return {reference.name: location.relocate(reference).name for reference in references}
    hosts = sorted({reference.registry for reference in references})
    return {host: "/".join(filter(None, (location.registry, _place(host, location)))) for host in hosts}


def _hosts_toml(host: str, location: Location, options: MirrorOptions) -> str:
    base = _base(location, options)
    path = "/".join(filter(None, ("/v2", _place(host, location))))
    lines = [
        f"# /etc/containerd/certs.d/{host}/hosts.toml: {host}/... comes from {location}, and from nowhere else",
        f"# If {location.registry} asks for a user: a kubelet looks into pull secrets for {host}, the name in the pod.",
        "# Give them that entry too, or containerd itself the user: config.toml,",
        f'# [plugins."io.containerd.grpc.v1.cri".registry.configs."{location.registry}".auth]',
        f'server = "{base}"',
        "",
        f'[host."{base}{path}"]',
        '  capabilities = ["pull", "resolve"]',
        "  override_path = true",
        *([f'  ca = "{options.ca_file}"'] if options.ca_file else []),
    ]
    return "\n".join(lines) + "\n"


def _default_toml(location: Location, options: MirrorOptions) -> str:
    """Every registry without a file of its own: asked at the private registry, where it is not found, so nothing leaks."""
    base = _base(location, options)
    lines = [
        "# /etc/containerd/certs.d/_default/hosts.toml: registries without a folder of their own are not asked; a missing",
        "# image is not found at once. Other registries inside need a folder each. containerd wants both lines below.",
        f'server = "{base}"',
        "",
        f'[host."{base}"]',
        '  capabilities = ["pull", "resolve"]',
        *([f'  ca = "{options.ca_file}"'] if options.ca_file else []),
    ]
    return "\n".join(lines) + "\n"


def _registries_conf(remapped: Mapping[str, str], options: MirrorOptions) -> str:
    """Change the location instead of naming a mirror: containers/image then has no other place to fall back to."""
    blocks = ["# /etc/containers/registries.conf.d/airgap.conf (CRI-O, podman, skopeo)"]
    for outside, inside in remapped.items():
        lines = ["", "[[registry]]", f'prefix = "{outside}"', f'location = "{inside}"']
        blocks += [*lines, *(["insecure = true"] if options.plain_http else [])]
    return "\n".join(blocks) + "\n"


def _openshift(references: Sequence[Reference], location: Location) -> str:
    """Both kinds, because one covers digests and the other tags (C2); sources exact per repository, fallback forbidden."""
    names = sorted({(reference.name, location.relocate(reference).name) for reference in references})
    mirrors: list[Json] = [
        {"source": source, "mirrors": [target], "mirrorSourcePolicy": "NeverContactSource"} for source, target in names
    ]
    sets = (("ImageDigestMirrorSet", "imageDigestMirrors"), ("ImageTagMirrorSet", "imageTagMirrors"))
    header = "oc apply -f this: the machine config operator then drains and restarts the nodes, one after the other"
    documents = [
        dump_yaml(
            {"apiVersion": "config.openshift.io/v1", "kind": kind, "metadata": {"name": "airgap"}, "spec": {key: mirrors}},
            header=header if kind == sets[0][0] else "",
        )
        for kind, key in sets
    ]
    return "---\n".join(documents)


def _rancher(references: Sequence[Reference], location: Location, options: MirrorOptions) -> str:
    rewrites: dict[str, dict[str, Json]] = {}
    for reference in references:
        pattern, inside = "^(.*)$", "/".join(filter(None, (_place(reference.registry, location), "$1")))
        if location.layout == FLAT:
            pattern, inside = f"^{re.escape(reference.repository)}$", location.relocate(reference).repository
        rewrites.setdefault(reference.registry, {})[pattern] = inside
    mirrors: dict[str, Json] = {
        host: {"endpoint": [_base(location, options)], "rewrite": dict(rewrite)} for host, rewrite in sorted(rewrites.items())
    }
    document: dict[str, Json] = {"mirrors": mirrors}
    if options.ca_file:
        document["configs"] = {location.registry: {"tls": {"ca_file": options.ca_file}}}
    header = (
        "/etc/rancher/rke2/registries.yaml or /etc/rancher/k3s/registries.yaml; start the agents with\n"
        "--disable-default-registry-endpoint, or they ask the source after the mirror"
    )
    return dump_yaml(document, header=header)


def _by_containerd(text: str, reference: Reference) -> str:
    table = _TABLE.search(text)
    if not table or "override_path = true" not in text or f'server = "{table[1]}://{table[2]}"' not in text:
        return ""
    return f"{table[2]}{table[3].removeprefix('/v2')}/{reference.repository}"


def _by_conf(text: str, reference: Reference) -> str:
    """Take the longest prefix that ends at a path boundary (containers-registries.conf(5))."""
    found = [it for it in _REMAP.findall(text) if f"{reference.name}/".startswith(f"{it[0]}/")]
    prefix, place = max(found, key=lambda it: len(it[0]), default=("", ""))
    return f"{place}{reference.name.removeprefix(prefix)}" if place else ""


def _by_openshift(text: str, reference: Reference) -> str:
    """Digest and tag sets must agree, because a pod may use either."""
    found = set()
    for document in load_yaml_all(text, OPENSHIFT):
        spec = document.get("spec") if isinstance(document, dict) else None
        for entries in spec.values() if isinstance(spec, dict) else ():
            found.add(_mirror_of(entries, reference))
    return found.pop() if len(found) == 1 else ""


def _mirror_of(entries: Json, reference: Reference) -> str:
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("source") == reference.name and isinstance(entry.get("mirrors"), list):
            return str(entry["mirrors"][0])  # type: ignore[index]  # it is a list: seen in the line above
    return ""


def _by_rancher(text: str, reference: Reference) -> str:
    document = load_yaml(text, RANCHER) if text else {}
    mirrors = document.get("mirrors") if isinstance(document, dict) else None
    mirror = mirrors.get(reference.registry) if isinstance(mirrors, dict) else None
    if not isinstance(mirror, dict) or not isinstance(mirror.get("endpoint"), list):
        return ""
    host = str(mirror["endpoint"][0]).partition("://")[2]  # type: ignore[index]  # it is a list: seen in the line above
    path = reference.repository
    rewrites = mirror.get("rewrite")
    for pattern, replacement in rewrites.items() if isinstance(rewrites, dict) else ():
        path = re.sub(pattern, str(replacement).replace("$1", r"\1"), path, count=1)
    return f"{host}/{path}"
