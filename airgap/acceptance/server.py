"""The W&B server as its client sees it: GraphQL with an API key, and signed URLs into the bucket."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airgap.errors import NetworkError
from airgap.transport import Credential

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airgap.transport import Client

API_USER = "api"
"""The user name, literally, beside an API key (HTTP Basic; W&B client)."""

ANSWER_LIMIT = 4 * 1024 * 1024
"""Bytes of an answer of GraphQL: ours ask for little."""

PROJECT = "airgap-verify"

_VIEWER = "query Viewer { viewer { id entity username } }"
_SERVER_INFO = "query ServerInfo { serverInfo { cliVersionInfo latestLocalVersionInfo { versionOnThisInstanceString } } }"
_UPSERT = """mutation UpsertBucket($project: String, $entity: String, $name: String) {
  upsertBucket(input: {modelName: $project, entityName: $entity, name: $name}) {
    bucket { id name project { id name entity { name } } } inserted } }"""
_FILES = """mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) {
  createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) {
    runID uploadHeaders files { name uploadUrl } } }"""
_URLS = """query RunFiles($project: String!, $entity: String!, $run: String!, $files: [String!]) {
  project(name: $project, entityName: $entity) { run(name: $run) {
    files(names: $files) { edges { node { name url directUrl sizeBytes } } } } } }"""
_DELETE_RUN = "mutation DeleteRun($id: ID!) { deleteRun(input: {id: $id}) { clientMutationId } }"
_DELETE_PROJECT = "mutation DeleteModel($id: String!) { deleteModel(input: {id: $id}) { success } }"
_LARGE = """query Project($entity: String!, $name: String!, $runName: String!, $desc: String!) {
  project(entityName: $entity, name: $name) { run(name: $runName, desc: $desc) { name } } }"""
"""Queries in W&B's GraphQL (the schema that its Python client speaks; createRunFiles since client 0.15.4)."""


@dataclass(frozen=True)
class Run:
    """A run on the server: internal ids and names."""

    id: str
    name: str
    project_id: str
    entity: str


@dataclass(frozen=True)
class Upload:
    """Where a file is to be put, with the headers that the signature covers."""

    url: str = field(repr=False)
    headers: Mapping[str, str]


class GraphError(NetworkError):
    """The server answered, but not with what was asked."""


@dataclass(frozen=True)
class Server:
    """A W&B server at ``url``, without a slash at its end; an empty ``api_key`` means nobody is logged in."""

    client: Client
    url: str
    api_key: str = field(default="", repr=False)

    def alive(self) -> None:
        """Ask whether the server answers at all; raises NetworkError, TLSError."""
        with self.client.request("GET", f"{self.url}/healthz", ok=range(200, 500), auth=False):
            pass

    def viewer(self) -> Mapping[str, Any]:
        """Return who the API key belongs to, empty when to nobody; raises NetworkError."""
        found = self.graph("Viewer", _VIEWER).get("viewer")
        return found if isinstance(found, dict) else {}

    def versions(self) -> tuple[str, str, str]:
        """Return the server's version, and the oldest and newest client that it takes; empty where it says nothing."""
        info = self.graph("ServerInfo", _SERVER_INFO).get("serverInfo") or {}
        clients, local = info.get("cliVersionInfo") or {}, info.get("latestLocalVersionInfo") or {}
        return tuple(  # type: ignore[return-value]
            str(value or "")
            for value in (
                local.get("versionOnThisInstanceString"),
                clients.get("min_cli_version"),
                clients.get("max_cli_version"),
            )
        )

    def start_run(self, entity: str) -> Run:
        """Make a run in a project of our own."""
        wanted = {"project": PROJECT, "entity": entity, "name": f"airgap{secrets.token_hex(4)}"}
        bucket = _dig(self.graph("UpsertBucket", _UPSERT, wanted), "upsertBucket", "bucket")
        project = bucket.get("project") or {}
        owner = (project.get("entity") or {}).get("name") or entity
        return Run(str(bucket.get("id")), str(bucket.get("name")), str(project.get("id") or ""), str(owner))

    def upload(self, run: Run, name: str) -> Upload:
        """Return the signed URL to which a file of the run is put."""
        wanted = {"entity": run.entity, "project": PROJECT, "run": run.name, "files": [name]}
        made = _dig(self.graph("CreateRunFiles", _FILES, wanted), "createRunFiles")
        files = made.get("files") or []
        if not files or not files[0].get("uploadUrl"):
            raise GraphError("the server gives no URL to upload a file to", hint="read the log of the app or api pods")
        headers = dict(line.split(": ", 1) for line in made.get("uploadHeaders") or [] if ": " in line)
        return Upload(str(files[0]["uploadUrl"]), headers)

    def download_url(self, run: Run, name: str) -> str:
        """Return the signed URL from which a file of the run is read; empty while the server does not know the file."""
        wanted = {"entity": run.entity, "project": PROJECT, "run": run.name, "files": [name]}
        found = _dig(self.graph("RunFiles", _URLS, wanted), "project", "run", "files")
        for edge in found.get("edges") or []:
            node = edge.get("node") or {}
            if node.get("name") == name:
                return str(node.get("directUrl") or node.get("url") or "")
        return ""

    def large(self, size: int) -> None:
        """Send a query of ``size`` bytes; raises RegistryError with status 413 where a proxy does not let it through."""
        self.graph("Project", _LARGE, {"entity": "airgap", "name": PROJECT, "runName": "", "desc": "a" * size}, faults=False)

    def remove(self, run: Run) -> None:
        """Delete the run, and the project that was made for it."""
        self.graph("DeleteRun", _DELETE_RUN, {"id": run.id})
        if run.project_id:
            self.graph("DeleteModel", _DELETE_PROJECT, {"id": run.project_id})

    def graph(
        self, operation: str, query: str, variables: Mapping[str, Any] | None = None, *, faults: bool = True
    ) -> dict[str, Any]:
        """Run a query and return its data; raises GraphError for its errors (unless ``faults`` is off)."""
        body = json.dumps({"operationName": operation, "query": query, "variables": variables or {}}).encode()
        credential = Credential(API_USER, self.api_key) if self.api_key else None
        headers = {"Content-Type": "application/json"}
        response = self.client.request(
            "POST",
            f"{self.url}/graphql",
            headers=headers,
            body=body,
            auth=False,
            credential=credential,
            retry=operation in ("Viewer", "ServerInfo"),
        )
        with response:
            raw = response.read(ANSWER_LIMIT)
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise GraphError(
                f"{self.url}/graphql answers with something else than JSON",
                hint="does the host lead to W&B, or to a login page?",
            ) from error
        told = answer.get("errors") if isinstance(answer, dict) else None
        if told and faults:
            first = told[0].get("message") if isinstance(told, list) and isinstance(told[0], dict) else told
            raise GraphError(f"the server refuses {operation}: {first}")
        data = answer.get("data") if isinstance(answer, dict) else None
        return data if isinstance(data, dict) else {}


def _dig(data: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """Return the map at ``keys``; raises GraphError when the answer lacks it."""
    here: Any = data
    for key in keys:
        here = here.get(key) if isinstance(here, dict) else None
    if not isinstance(here, dict):
        raise GraphError(f"the server's answer lacks {'.'.join(keys)}", hint="read the log of the app or api pods")
    return here
