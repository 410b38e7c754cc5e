"""What the small operator does for one custom resource, step by step as the real one does it."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests
import yaml

from tests.cluster.api import WANDB, Api, ApiError
from tests.cluster.spec import CREDENTIAL_KEYS, Chart, Spec, chart_of, equal, used

if TYPE_CHECKING:
    from tests.cluster.api import Object
    from tests.cluster.kubelet import Pod, Volumes

FINALIZER = "finalizer.app.wandb.com"
CHANNEL = "https://deploy.wandb.ai"
TRIES = 5
PRUNE_AGAIN = 60.0
"""Seconds until a failed removal is tried again."""
HISTORY = 10
ADOPTED = (
    *("/apis/apps/v1/deployments", "/apis/apps/v1/statefulsets", "/apis/apps/v1/daemonsets"),
    *("/apis/networking.k8s.io/v1/ingresses", "/api/v1/services", "/api/v1/configmaps", "/api/v1/secrets"),
    *("/apis/rbac.authorization.k8s.io/v1/roles", "/apis/rbac.authorization.k8s.io/v1/rolebindings"),
)
"""Objects of the release that the operator makes the custom resource an owner of."""


@dataclass(frozen=True)
class Limits:
    """Times that a test may shorten: between two tries at the channel, and for a hook, the pull of its image included.

    The latter is helm's library default where nobody sets a timeout: 30 s as the real one was seen to give up.
    """

    retry: float = 2.0
    hook: str = "30s"


class RetryError(Exception):
    """Something that the operator tries again, ever later."""


class ApplyError(Exception):
    """The chart could not be loaded or installed: Invalid Config, and again in an hour."""


def say(text: str) -> None:
    """Write a line to the log."""
    print(datetime.now(timezone.utc).isoformat(timespec="milliseconds"), text, flush=True)


class Reconciler:
    """The operator's reconciler, with the rights of its service account."""

    def __init__(self, api: Api, pod: Pod, volumes: Volumes, folder: Path, limits: Limits) -> None:
        self.api, self.pod, self.volumes, self.folder, self.limits = api, pod, volumes, folder, limits
        self.made: dict[tuple[str, str], dict[str, str]] = {}
        """By custom resource, the Secrets that were made for it and their versions."""

    def reconcile(self, namespace: str, name: str) -> float:
        """Do what is to be done for one custom resource; return after how many seconds to look again."""
        resource = self.api.find(f"{WANDB}/namespaces/{namespace}/weightsandbiases/{name}")
        if resource is None:
            return float("inf")
        say(f"=== Reconciling Weights & Biases instance... {namespace}/{name}")
        work = Work(self, resource)
        work.event("Reconciling", "Reconciling")
        work.event("LoadingConfig", "Loading desired configuration")
        user = work.user_input()
        active = work.active()
        wanted = resource.get("spec") or {}
        custom = Spec(chart_of(wanted.get("chart")), wanted.get("values"))
        released = None if self.pod.flag("airgapped") == "true" else work.released(custom, user)
        desired = custom.merge(user).merge(released).merge(self.defaults())
        if resource["metadata"].get("deletionTimestamp"):
            return work.remove(desired)
        if active and equal(active, desired):
            say("No changes found")
            work.phase("Completed")
            return desired.delay
        return work.apply(desired)

    def defaults(self) -> Spec:
        """Return the lowest layer."""
        namespace = self.pod.env.get("OPERATOR_NAMESPACE") or "wandb"
        return Spec(values={"global": {"operator": {"apiVersion": "apps.wandb.com/v1", "namespace": namespace}}})


class Work:
    """One custom resource being reconciled."""

    def __init__(self, reconciler: Reconciler, resource: Object) -> None:
        self.by, self.api, self.resource = reconciler, reconciler.api, resource
        self.name, self.namespace = resource["metadata"]["name"], resource["metadata"]["namespace"]
        self.path = f"{WANDB}/namespaces/{self.namespace}/weightsandbiases/{self.name}"

    # -- what is seen from outside

    def event(self, reason: str, message: str) -> None:
        """Write an event."""
        keys = ("apiVersion", "kind")
        subject = {**{it: self.resource[it] for it in keys}, "name": self.name, "namespace": self.namespace}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{self.name}.", "namespace": self.namespace},
            "involvedObject": {**subject, "uid": self.resource["metadata"]["uid"]},
            "reason": reason,
            "message": message,
            "type": "Normal",
            "source": {"component": "weightsandbiases"},
            "lastTimestamp": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        self._quietly("POST", f"/api/v1/namespaces/{self.namespace}/events", body)

    def phase(self, phase: str) -> None:
        """Set the phase; that this fails is nobody's concern."""
        self._quietly("PATCH", f"{self.path}/status", {"status": {"phase": phase}})

    def _quietly(self, method: str, path: str, body: Any) -> None:
        try:
            self.api.call(method, path, body)
        except (ApiError, requests.RequestException) as error:
            say(f"{method} {path}: {error}")

    # -- the layers

    def user_input(self) -> Spec:
        """Return what the System Console wrote; an empty one is made if nothing is there."""
        try:
            found = self.read("spec-user")
        except (KeyError, ValueError) as error:
            raise RetryError(f"error retrieving user input spec: {error}") from error
        if found is None:
            say("No user input spec found, creating a new one")
            found = Spec(values={})
            self.write("spec-user", found)
        return found

    def active(self) -> Spec | None:
        """Return what was last applied."""
        try:
            return self.read("spec-active")
        except (KeyError, ValueError):
            return None

    def released(self, custom: Spec, user: Spec) -> Spec | None:
        """Return what the release channel says; if it does not answer, what it last said."""
        found = self._ask_channel(custom, user)
        if found is None:
            say("Failed to get spec from deployer")
            try:
                found = self.read("latest-cached-release")
            except (KeyError, ValueError) as error:
                say(f"No cached release found: {error}")
        if found is not None:
            self.write("latest-cached-release", found)
        return found

    def _ask_channel(self, custom: Spec, user: Spec) -> Spec | None:
        release = (user.values or {}).get("_releaseId")
        pinned = f"/release/{release}" if isinstance(release, str) and release else ""
        url = f"{self.by.pod.flag('deployer-channel-url') or CHANNEL}/api/v1/operator/channel{pinned}"
        license_key = self._license(custom, user)
        auth = ("license", license_key) if license_key else None
        for _ in range(TRIES):
            try:
                with requests.Session() as session:
                    session.trust_env = False
                    answer = session.get(url, auth=auth, headers={"Content-Type": "application/json"}, timeout=30)
            except requests.RequestException:
                answer = None
            if answer is not None and answer.status_code == requests.codes.ok:
                said = answer.json()
                return Spec(chart_of(said.get("chart")), said.get("values"), said.get("metadata"))
            time.sleep(self.by.limits.retry)
        return None

    def _license(self, *specs: Spec) -> str:
        settings = [(spec.values or {}).get("global") or {} for spec in specs]
        for it in settings:
            if it.get("license"):
                return str(it["license"])
        for it in settings:
            wanted = it.get("licenseSecret") or {}
            if wanted.get("name") and wanted.get("key"):
                secret = self.api.find(self._secret(wanted["name"])) or {}
                if encoded := (secret.get("data") or {}).get(wanted["key"]):
                    return base64.b64decode(encoded).decode()
        return ""

    # -- the Secrets that keep them

    def _secret(self, name: str) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets/{quote(name)}"

    def read(self, part: str) -> Spec | None:
        """Return a kept spec; KeyError, ValueError if it is no such thing."""
        secret = self.api.find(self._secret(f"{self.name}-{part}"))
        if secret is None:
            return None
        return Spec.from_data({key: base64.b64decode(text).decode() for key, text in (secret.get("data") or {}).items()})

    def write(self, part: str, spec: Spec) -> None:
        """Keep a spec; the custom resource owns it."""
        metadata = self.resource["metadata"]
        owner = {"apiVersion": self.resource["apiVersion"], "kind": self.resource["kind"], "name": self.name}
        owned = {**owner, "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}
        name = f"{self.name}-{part}"
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": self.namespace, "ownerReferences": [owned]},
            "data": {key: base64.b64encode(text.encode()).decode() for key, text in spec.data().items()},
        }
        if self.api.find(self._secret(name)) is None:
            made = self.api.call("POST", f"/api/v1/namespaces/{self.namespace}/secrets", body)
            versions = self.by.made.setdefault((self.namespace, self.name), {})
            versions[name] = made["metadata"]["resourceVersion"]
        else:
            self.api.call("PUT", self._secret(name), body)

    # -- what is done

    def apply(self, desired: Spec) -> float:
        """Install or upgrade."""
        if desired.chart is None:
            self.phase("Invalid Config")
            say("ERROR No release type was found in the spec")
            return desired.delay
        say(f"Found release type {desired.chart.kind}")
        self.phase("Loading")
        if FINALIZER not in self.resource["metadata"].get("finalizers", ()):
            finalizers = [*self.resource["metadata"].get("finalizers", ()), FINALIZER]
            self.api.call("PATCH", self.path, {"metadata": {"finalizers": finalizers}})
        try:
            with tempfile.TemporaryDirectory(dir=self.by.folder) as scratch:
                chart = Loader(self, Path(scratch)).load(desired.chart)
                self.helm(Path(scratch), chart, desired.values or {})
        except (ApplyError, ApiError, requests.RequestException) as error:
            self.phase("Invalid Config")
            self.event("ApplyFailed", "Invalid config for apply")
            say(f"ERROR Failed to apply config changes. {error}")
            return desired.delay
        say("Successfully applied spec")
        self.write("spec-active", Spec(used(desired.chart), desired.values, desired.metadata))
        self.event("Completed", "Completed reconcile successfully")
        self._adopt()
        self.phase("Completed")
        return desired.delay

    def helm(self, scratch: Path, chart: Path, values: dict[str, Any]) -> None:
        """Install or upgrade the release, waiting for hooks only."""
        (scratch / "values.json").write_text(json.dumps(values))
        self.run_helm(
            *(
                "upgrade",
                "--install",
                self.name,
                str(chart),
                "--namespace",
                self.namespace,
                "--values",
                f"{scratch}/values.json",
            ),
            *("--history-max", str(HISTORY), "--server-side=false", "--timeout", self.by.limits.hook),
        )

    def run_helm(self, *arguments: str) -> None:
        """Run helm with the service account's rights; ApplyError with what it says."""
        parts: dict[str, Any] = {
            "clusters": [{"name": "c", "cluster": {"server": self.api.server, "certificate-authority": str(self.api.ca_file)}}],
            "users": [{"name": "u", "user": {"token": self.api.token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        }
        kubeconfig = self.by.folder / "operator.kubeconfig"
        kubeconfig.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "x", **parts}))
        home = {f"HELM_{it}_HOME": str(self.by.folder / "helm" / it.lower()) for it in ("CACHE", "CONFIG", "DATA")}
        env = {"PATH": os.environ["PATH"], "HOME": str(self.by.folder), "KUBECONFIG": str(kubeconfig), **home}
        if certificates := self.by.pod.env.get("SSL_CERT_DIR"):
            env["SSL_CERT_DIR"] = str(self.by.volumes.local(certificates))
        program = shutil.which("helm") or "helm"
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, env=env)
        if done.returncode:
            raise ApplyError(" ".join(done.stderr.split()) or f"helm ended with {done.returncode}")

    def _adopt(self) -> None:
        metadata = self.resource["metadata"]
        owner = {it: self.resource[it] for it in ("apiVersion", "kind")} | {"name": self.name, "uid": metadata["uid"]}
        selector = f"app.kubernetes.io/managed-by=Helm,app.kubernetes.io/instance={self.name}"
        for place in ADOPTED:
            group, plural = place.rsplit("/", 1)
            path = f"{group}/namespaces/{self.namespace}/{plural}"
            try:
                found = self.api.list(path, labelSelector=selector)
            except ApiError as error:
                say(f"Failed to list resources: {error}")
                continue
            for it in found:
                owners = it["metadata"].get("ownerReferences", [])
                if all(known["uid"] != owner["uid"] for known in owners):
                    change = {"metadata": {"ownerReferences": [*owners, owner]}}
                    self._quietly("PATCH", f"{path}/{it['metadata']['name']}", change)

    def remove(self, desired: Spec) -> float:
        """Uninstall, then let the custom resource go. Only a chart of a repository is loaded again for that."""
        finalizers = self.resource["metadata"].get("finalizers", [])
        if FINALIZER in finalizers:
            if desired.chart is not None:
                say(f"Deprovisioning {desired.chart.kind}")
                try:
                    with tempfile.TemporaryDirectory(dir=self.by.folder) as scratch:
                        if desired.chart.kind == "repo":
                            Loader(self, Path(scratch)).load(desired.chart)
                    self.run_helm("uninstall", self.name, "--namespace", self.namespace, "--wait", "--timeout", "600s")
                except (ApplyError, ApiError) as error:
                    say(f"ERROR Failed to cleanup deployment. {error}")
                    return PRUNE_AGAIN
            self._quietly("PATCH", self.path, {"metadata": {"finalizers": [it for it in finalizers if it != FINALIZER]}})
        return float("inf")


class Loader:
    """Brings a chart to a file."""

    def __init__(self, work: Work, scratch: Path) -> None:
        self.work, self.scratch = work, scratch

    def load(self, chart: Chart) -> Path:
        """Return the chart's archive."""
        return {"local": self.local, "oci": self.oci, "repo": self.repo}[chart.kind](chart.fields)

    def local(self, fields: dict[str, Any]) -> Path:
        """A file of the container: base64 of an archive, or an archive."""
        path = self.work.by.volumes.local(fields["path"])
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ApplyError(f"open {fields['path']}: {(error.strerror or '').lower()}") from error
        with contextlib.suppress(binascii.Error):
            content = base64.b64decode(content.replace(b"\r", b"").replace(b"\n", b""), validate=True)
        archive = self.scratch / "chart.tgz"
        archive.write_bytes(content)
        return archive

    def oci(self, fields: dict[str, Any]) -> Path:
        """A chart in a registry, pulled by helm."""
        version = ("--version", fields["version"]) if fields.get("version") else ()
        plain = ("--plain-http",) if fields.get("plainHTTP") else ()
        user, password = self._credentials(fields, required=True)
        login = ("--username", user, "--password", password) if user else ()
        self.work.run_helm("pull", fields["url"], *version, *plain, *login, "--destination", str(self.scratch))
        return next(self.scratch.glob("*.tgz"))

    def repo(self, fields: dict[str, Any]) -> Path:
        """A chart in a repository: index.yaml, then the first of its URLs, absolute ones as they are."""
        user, password = self._credentials(fields, required=False)
        base = fields["url"].rstrip("/")
        index = yaml.safe_load(self._get(f"{base}/index.yaml", user, password))
        entries = (index.get("entries") or {}).get(fields["name"]) or []
        found = next((it for it in entries if fields.get("version") in ("", None, it["version"])), None)
        if found is None:
            raise ApplyError(f"no chart version found for {fields['name']}-{fields.get('version')}")
        url = found["urls"][0]
        archive = self.scratch / "chart.tgz"
        archive.write_bytes(self._get(url if "://" in url else f"{base}/{url}", user, password))
        return archive

    def _get(self, url: str, user: str, password: str) -> bytes:
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(url, auth=(user, password) if user else None, timeout=30, verify=self._trusted())
        except requests.RequestException as error:
            raise ApplyError(f"{url}: {type(error).__name__}") from error
        if not answer.ok:
            raise ApplyError(f"failed to fetch {url} : {answer.status_code}")
        return answer.content

    def _trusted(self) -> bool | str:
        where = self.work.by.pod.env.get("SSL_CERT_DIR")
        files = sorted(self.work.by.volumes.local(where).glob("*")) if where else []
        bundle = self.scratch / "trusted.pem"
        bundle.write_bytes(b"\n".join(it.read_bytes() for it in files))
        return str(bundle) if files else True

    def _credentials(self, fields: dict[str, Any], *, required: bool) -> tuple[str, str]:
        wanted = fields.get("credentialSecret")
        if not wanted:
            return fields.get("username") or "", fields.get("password") or ""
        work = self.work
        secret = work.api.find(f"/api/v1/namespaces/{work.namespace}/secrets/{wanted['name']}")
        if secret is None:
            raise ApplyError(f'secrets "{wanted["name"]}" not found')
        found = []
        for kind, default in CREDENTIAL_KEYS.items():
            key = wanted.get(kind) or default
            encoded = (secret.get("data") or {}).get(key, "")
            if required and not encoded:
                raise ApplyError(f'credential secret {work.namespace}/{wanted["name"]} missing key "{key}"')
            found.append(base64.b64decode(encoded).decode())
        return found[0], found[1]
