"""Habits: what is known about the products that a private registry may be, as data; each row says where that was seen.

::

    habit = habit_of(client, "reg.lan")            # one GET /v2/, whatever it answers
    habit.missing(["team/quay.io/a/b"])            # "create the project team ..."
    habit.trouble(repositories, location)          # a depth that it does not allow, before anything is sent

Invariants: a habit is a hint or a limit, never a permission: nothing is skipped because a product is said not to need it, so a
row that is out of date costs a wrong hint. What is not recognised is OTHER, which limits nothing. Products are recognised by
their host's name, by a header of ``GET /v2/``, or by its challenge; the first row that fits wins. ``distribution 2`` and ``3``
were run; of the others nothing could be run here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airgap.errors import AirgapError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airgap.ref import Location
    from airgap.transport import Client

MIB = 1024 * 1024
HOUR = 3600

_NEVER = re.compile(r"(?!)")


@dataclass(frozen=True)
class Habit:
    """One product. ``host``, ``header`` (name, pattern) and ``challenge`` (the WWW-Authenticate of ``/v2/``) recognise it.

    ``create``: how a repository that is missing is made; {repository} is its name, {first} the first part of it, empty: pushing
    makes it. ``below``: parts that a name may have under the prefix, ``levels`` in all (0: no limit), ``least`` at least.
    ``patch``: smallest and largest body of a PATCH in bytes (0: no limit known), where the ladder of ways begins. ``token``:
    seconds that credentials last, 0: no limit of their own. ``advice``: what else to know. (How a product refuses to move a
    tag, answers for referrers or lists its repositories is no row: all its ways are taken from every registry, in ``verbs``
    and ``catalog``.)
    """

    name: str
    source: str
    host: re.Pattern[str] = _NEVER
    header: tuple[str, re.Pattern[str]] = ("", _NEVER)
    challenge: re.Pattern[str] = _NEVER
    create: str = ""
    below: int = 0
    levels: int = 0
    least: int = 0
    patch: tuple[int, int] = (0, 0)
    token: int = 0
    advice: str = ""

    def missing(self, repositories: Iterable[str]) -> str:
        """Return how the repositories that a push did not find are made, each way once."""
        recipe = self.create or _ANY
        told = {recipe.format(repository=name, first=name.partition("/")[0]): None for name in sorted(repositories)}
        return "; ".join((*told, *([self.advice] if self.advice else [])))

    def ended(self) -> str:
        """Return what it means when credentials that were good are refused; empty: nothing is known."""
        if not self.token:
            return ""
        hours = f"{self.token // HOUR} hour{'s' if self.token > HOUR else ''}"
        more = f" ({self.advice})" if self.advice else ""
        return f"logins to {self.name} last {hours}: log in again and run this again, what was sent stays{more}"

    def trouble(self, repositories: Iterable[str], location: Location) -> tuple[str, str]:
        """Return what is wrong with the names of ``repositories`` and what to do about it; empty texts: nothing known."""
        for name in sorted(repositories):
            under = len(name.removeprefix(location.under("")).split("/"))
            parts = len(name.split("/"))
            if (self.below and under > self.below) or (self.levels and parts > self.levels):
                limit = f"{self.below} parts below a project" if self.below else f"{self.levels} parts"
                return (
                    f"{self.name} at {location.registry} takes no repository as deep as {name}: names have at most {limit}",
                    "use --layout flat, here and for every later command of this site",
                )
            if self.least and parts < self.least:
                return (
                    f"{self.name} at {location.registry} takes no repository {name}: names have at least {self.least} parts",
                    f"give a prefix: {self.create.format(repository=name, first='PROJECT')}",
                )
        return "", ""


_ANY = "create {first} (Harbor: a project; Artifactory and Nexus: a repository key; GitLab: a project)"

OTHER = Habit("a registry", "nothing is known, so nothing is assumed")

HABITS: tuple[Habit, ...] = (
    Habit(
        "Amazon ECR",
        "aws/containers-roadmap#853 (no create on push), #2831; AWS docs: ECR quotas (layer parts of 5 to 10 MiB), registry "
        "authentication (12 hours)",
        host=re.compile(r"\d+\.dkr[.-]ecr(-fips)?\..*|public\.ecr\.aws"),
        create="aws ecr create-repository --repository-name {repository}",
        patch=(5 * MIB, 0),
        token=12 * HOUR,
        advice="its login lasts 12 hours: aws ecr get-login-password",
    ),
    Habit(
        "Google Artifact Registry",
        "cloud.google.com/artifact-registry/docs/docker/names (PROJECT/REPOSITORY/IMAGE), .../pushing-and-pulling (create it "
        "before); oras-project/rust-oci-client#175 (upload paths)",
        host=re.compile(r"[a-z0-9-]+-docker\.pkg\.dev|(.*\.)?gcr\.io"),
        create="gcloud artifacts repositories create REPOSITORY --repository-format=docker, and push to {first}/REPOSITORY",
        least=3,
        token=HOUR,
    ),
    Habit(
        "Azure Container Registry",
        "learn.microsoft.com/azure/container-registry: repositories nest freely and are made by pushing; token realm "
        "/oauth2/token; "
        "containers/image#750 (replicas), Azure/acr#217 (signed storage URLs)",
        host=re.compile(r".*\.azurecr\.(io|cn|us)"),
        challenge=re.compile(r'realm="https://[^"]*\.azurecr\.[a-z]+/oauth2/token"'),
        token=3 * HOUR,
    ),
    Habit(
        "GitHub Container Registry",
        "ocx-sh/ocx#237 (416: 4 MiB to a PATCH), apple/swift-container-plugin#43 (relative Location); catalog: not "
        "served to users",
        host=re.compile(r"ghcr\.io|containers\..*\.ghe\.com"),
        challenge=re.compile(r'realm="https://ghcr\.io/token"'),
        patch=(0, 4 * MIB),
        advice="the first part of a name is a user or an organisation",
    ),
    Habit(
        "Docker Hub",
        "plexsystems/sinker#34 (no nested names); docs.docker.com/docker-hub: a name is NAMESPACE/REPOSITORY",
        host=re.compile(r"(registry-1\.|index\.)?docker\.io"),
        challenge=re.compile(r'realm="https://auth\.docker\.io/token"'),
        levels=2,
    ),
    Habit(
        "GitLab",
        "gitlab-org/gitlab#438563 and !102063 (two names below the project); header: docs of gitlab-org/container-registry; "
        "containers/image#1265 (first push)",
        host=re.compile(r"registry\.gitlab\.com"),
        header=("Gitlab-Container-Registry-Version", re.compile(r".+")),
        challenge=re.compile(r'realm="[^"]*/jwt/auth",service="container_registry"'),
        create="create a project whose path {repository} begins with",
        below=2,
        advice="the prefix must be the whole path of a project (GROUP/PROJECT)",
    ),
    Habit(
        "Harbor",
        "goharbor.io/docs: pulling-pushing-images (a project first), create-tag-immutability-rules; "
        "goharbor/harbor#18792 (412 by "
        "scan policy); challenge: src/server/middleware/v2auth",
        challenge=re.compile(r'realm="[^"]*/service/token",service="harbor-registry"'),
        create="create the project {first}",
        advice="a robot account needs push and pull in that project",
    ),
    Habit(
        "Artifactory",
        "jfrog/charts#908, #1854, goharbor/harbor#13576 (repository key in path, host or port); moby/buildkit#1130 "
        "(POST and PUT: "
        "404); header: as renovate recognises it; vmwarepivotallabs/artifactory-resource#41 (push and pull URLs differ)",
        host=re.compile(r".*\.jfrog\.io"),
        header=("X-JFrog-Version", re.compile(r"Artifactory/.*")),
        challenge=re.compile(r'realm="(Artifactory Realm|[^"]*/artifactory/api/docker/[^"]*)"'),
        create="{first} must be the key of an existing local Docker repository",
        advice="a virtual repository takes pushes only with a default deployment; nodes may need another name: --pull-registry",
    ),
    Habit(
        "Nexus",
        "nexspence#260 and docker/build-push-action#258 (401 to pushes); Sonatype docs: a hosted repository has a "
        "port, subdomain "
        "or path of its own; write policy ALLOW_ONCE refuses redeploys",
        header=("Server", re.compile(r"Nexus/.*")),
        challenge=re.compile(r'realm="Sonatype Nexus Repository Manager"'),
        create="{first} must be a hosted Docker repository with path based routing, or --registry the port or name of one",
        advice="pushes go to a hosted repository, not to a group, and need the role nx-repository-view-docker-*-edit",
    ),
    Habit(
        "Quay",
        "Red Hat Quay configuration: FEATURE_EXTENDED_REPOSITORY_NAMES (nested names, on by default), "
        "CREATE_NAMESPACE_ON_PUSH, "
        "CREATE_PRIVATE_REPO_ON_PUSH; aws/containers-roadmap#2783 (415, 400 to artifacts by old versions)",
        host=re.compile(r"(.*\.)?quay\.io"),
        challenge=re.compile(r'realm="[^"]*/v2/auth"'),
        create="create the organisation {first}, or allow CREATE_NAMESPACE_ON_PUSH",
        advice="nested names need FEATURE_EXTENDED_REPOSITORY_NAMES, else use --layout flat with the organisation as prefix",
    ),
    Habit(
        "zot",
        "project-zot/zot pkg/api/authn.go (realm), regclient#961 (Range too small)",
        challenge=re.compile(r'Basic realm="Authorization Required"'),
    ),
    Habit(
        "distribution 2",
        "run: 2.8.2 says its JSON's charset; it has no referrers API and loses a session that breaks inside a PATCH "
        "(cases.md P13)",
        header=("Content-Type", re.compile(r"application/json; ?charset=utf-8")),
        advice="a constant http.secret in its configuration keeps uploads over a restart",
    ),
    Habit(
        "distribution 3",
        "run: 3.0 says application/json without a charset; no referrers API",
        header=("Content-Type", re.compile(r"application/json")),
    ),
)
"""In the order of recognition: names before challenges, special before general. The last two are recognised by so little that
they stand for whatever answers like them."""

_ANSWERS = frozenset({200, 401, 403, 404})


def recognise(host: str, headers: Mapping[str, str]) -> Habit:
    """Return the row that fits ``host`` or the headers of its ``/v2/`` (in any case of letters); OTHER if none does."""
    bare = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    lower = {name.lower(): text for name, text in headers.items()}
    challenge = re.sub(r'",\s+', '",', lower.get("www-authenticate", ""))
    for habit in HABITS:
        name, pattern = habit.header
        if habit.host.fullmatch(bare) or habit.challenge.search(challenge) or pattern.fullmatch(lower.get(name.lower(), "")):
            return habit
    return OTHER


def habit_of(client: Client, host: str) -> Habit:
    """Ask ``host`` who it is, once and without credentials; one that does not say is known by its name alone. Never raises."""
    try:
        url = f"{client.base_url(host)}/v2/"
        with client.request("GET", url, auth=False, ok=_ANSWERS, retry=False) as response:
            return recognise(host, dict(response.headers))
    except AirgapError:
        return recognise(host, {})
