"""The package index: a bundle's Python packages, as ``pip install --index-url .../simple/`` wants them.

Invariants: pages are those of PEP 503 (a project's name is normalised, each link carries its sha256); a file that is no package
by its name is not listed, whatever else the bundle carries. The manifest's ``wheels:`` brings packages with all that they need;
what it names under ``files:`` counts too if it is a package.
"""

from __future__ import annotations

import html
import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from airgap.serve.messages import Answer, RefusalError
from airgap.serve.reading import window_answer

if TYPE_CHECKING:
    from airgap.bundle import BundleReader
    from airgap.oci import Descriptor
    from airgap.serve.messages import Request
    from airgap.serve.routes import Route

_KINDS = ("file", "wheel")
"""Artifacts that may be packages."""
_WHEEL = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._]*)-[^-]+(?:-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl")
_SOURCE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)-\d[^-]*\.(?:tar\.gz|zip)")
"""File names of wheels (PEP 427) and source distributions (PEP 625)."""
HTML = "text/html; charset=utf-8"


def project_of(file: str) -> str:
    """Return the normalised project (PEP 503) of a package's file name, or nothing for what is no package.

    >>> project_of("PyYAML-6.0.2-cp311-cp311-manylinux_2_17_x86_64.whl"), project_of("notes.txt")
    ('pyyaml', '')
    """
    found = _WHEEL.fullmatch(file) or _SOURCE.fullmatch(file)
    return re.sub(r"[-_.]+", "-", found["name"]).lower() if found else ""


class PackageIndex:
    """The packages of a bundle."""

    def __init__(self, bundle: BundleReader | None) -> None:
        self._bundle = bundle
        self._projects: dict[str, dict[str, Descriptor]] = {}
        for artifact in bundle.lock.artifacts if bundle else ():
            project = project_of(artifact.name) if artifact.kind in _KINDS else ""
            if project:
                self._projects.setdefault(project, {})[artifact.name] = artifact.content

    def __bool__(self) -> bool:
        return bool(self._projects)

    def projects(self, _request: Request, _route: Route) -> Answer:
        """Answer the list of all projects."""
        return _page("projects", {f"{name}/": name for name in sorted(self._projects)})

    def files(self, request: Request, route: Route) -> Answer:
        """Answer a project's page, or one of its files."""
        name, _, file = route.rest.partition("/")
        found = self._projects.get(re.sub(r"[-_.]+", "-", name).lower())
        if found is None or (file and file not in found):
            raise RefusalError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", f"there is no package {route.rest[:100]}")
        if not file:
            return _page(name, {f"{quote(it)}#{found[it].digest.algorithm}={found[it].digest.hex}": it for it in sorted(found)})
        if self._bundle is None:  # pragma: no cover - without a bundle there are no projects
            raise RefusalError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", "there is no bundle")
        held = found[file]
        return window_answer(self._bundle.window(held), request, {"ETag": f'"{held.digest}"'})


def _page(title: str, links: dict[str, str]) -> Answer:
    lines = [f'<a href="{html.escape(link)}">{html.escape(text)}</a><br>' for link, text in links.items()]
    version = '<meta name="pypi:repository-version" content="1.0">'
    head = f"<!DOCTYPE html>\n<html><head>{version}<title>{html.escape(title)}</title></head>"
    return Answer(HTTPStatus.OK, {"Content-Type": HTML}, "\n".join([head, "<body>", *lines, "</body></html>", ""]).encode())
