"""Checks of what the configuration needs: Secrets and ConfigMaps, storage, the licence."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError
from airgap.kube import ForbiddenError
from airgap.preflight.report import FINE, STOP, WARN, Finding
from airgap.trouble import hosts_of
from airgap.values import get
from airgap.wandb import LicenseInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airgap.intent import Intent
    from airgap.kube import Kubectl
    from airgap.values import Json

SOON = timedelta(days=30)
"""How long before a licence ends it is told."""
DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


def needed(kubectl: Kubectl, intent: Intent) -> Iterator[Finding]:
    """Yield Secrets and ConfigMaps that pods need, that nothing brings and that are not there."""
    missing = 0
    for kind, namespace, name in sorted(intent.needed()):
        if kubectl.get(kind, name, namespace) is None:
            missing += 1
            remedy = f"make it (kubectl create {kind.lower()}), or add it to a --values file"
            yield Finding("secrets", STOP, f"{kind} {namespace}/{name} is missing, and pods do not start without it", remedy)
    if not missing:
        yield Finding("secrets", FINE, "every Secret and ConfigMap that pods need is there or comes along")


def storage(kubectl: Kubectl, intent: Intent) -> Iterator[Finding]:
    """Yield storage classes that volume claims need and the cluster has not."""
    wanted = set(_classes(intent))
    if not wanted:
        yield Finding("storage", FINE, "no component asks for a volume")
        return
    try:
        there = {str(it["metadata"]["name"]): it for it in kubectl.listed("StorageClass.v1.storage.k8s.io")}
    except ForbiddenError:
        yield Finding("storage", WARN, "this user may not list storage classes, so nothing is known of them")
        return
    has_default = any(get(it, ("metadata", "annotations", key)) == "true" for it in there.values() for key in DEFAULT_CLASS)
    for name, claim in sorted(wanted):
        if name and name not in there:
            held = ", ".join(sorted(there)) or "none"
            yield Finding(
                "storage", STOP, f"{claim} asks for storage class {name} (there: {held})", "name one that is there in --values"
            )
        elif not name and not has_default:
            remedy = "make one class the default, name one in --values, or provide volumes by hand"
            yield Finding("storage", WARN, f"{claim} names no storage class and the cluster has no default one", remedy)
    if all(name in there or (not name and has_default) for name, _ in wanted):
        yield Finding("storage", FINE, "every volume claim has a storage class")


def _classes(intent: Intent) -> Iterator[tuple[str, str]]:
    """Yield (class or empty, claim) of every volume claim."""
    for part in (intent.operator, intent.server):
        for item in part.installed:
            if item.kind == "PersistentVolumeClaim":
                yield str(get(item.object, ("spec", "storageClassName")) or ""), item.label
            templates = get(item.object, ("spec", "volumeClaimTemplates"))
            for template in templates if isinstance(templates, list) else ():
                yield str(get(template, ("spec", "storageClassName")) or ""), item.label


def pull_secret(kubectl: Kubectl, intent: Intent) -> Iterator[Finding]:
    """Yield whether the named pull secret is there, is one, and is for the registry."""
    name, host = intent.pull_secret, intent.location.registry
    if not name:
        return
    brought = {(get(it, ("metadata", "namespace")), get(it, ("metadata", "name"))): it for it in intent.secrets}
    for namespace in dict.fromkeys((intent.operator.namespace, intent.server.namespace)):
        secret = brought.get((namespace, name)) or kubectl.get("Secret", name, namespace)
        remedy = f"kubectl create secret docker-registry {name} -n {namespace} --docker-server={host} ..., or give --username"
        if secret is None:
            yield Finding("pull secret", STOP, f"Secret {namespace}/{name} is missing", remedy)
            continue
        hosts = hosts_of(secret)
        if hosts is None:
            yield Finding(
                "pull secret", STOP, f"Secret {namespace}/{name} is of type {secret.get('type')}, no pull secret", remedy
            )
        elif host not in hosts:
            held = ", ".join(sorted(hosts)) or "none"
            yield Finding(
                "pull secret", STOP, f"Secret {namespace}/{name} has no credentials for {host} (it has: {held})", remedy
            )
        else:
            yield Finding("pull secret", FINE, f"Secret {namespace}/{name} has credentials for {host}")
    for pod in intent.unlinked():
        remedy = "give the nodes credentials for the registry, or a pull secret by the chart's values"
        yield Finding("pull secret", WARN, f"{pod} gets no pull secret: helm makes its account anew for each hook", remedy)


def licence(kubectl: Kubectl, intent: Intent) -> Iterator[Finding]:
    """Yield whether the licence is there and how long it lasts; nobody has checked its signature."""
    text = _licence(kubectl, intent)
    if text is None:
        yield Finding(
            "licence",
            WARN,
            "no licence was found in the values, so none was checked",
            "set global.licenseSecret or global.license",
        )
        return
    try:
        expires = LicenseInfo.parse(text).expires
    except ConfigurationError as error:
        yield Finding("licence", WARN, error.message, error.hint)
        return
    now = datetime.now(timezone.utc)
    if expires is None:
        yield Finding("licence", FINE, "the licence says nothing of an end")
    elif expires <= now:
        remedy = "get a new one from W&B; if it should be valid still, check this host's clock"
        yield Finding("licence", STOP, f"the licence ended on {expires:%Y-%m-%d}", remedy)
    else:
        level = WARN if expires - now < SOON else FINE
        remedy = "get a new one in time" if level == WARN else ""
        yield Finding("licence", level, f"the licence lasts until {expires:%Y-%m-%d} ({(expires - now).days} days)", remedy)


def _licence(kubectl: Kubectl, intent: Intent) -> str | None:
    values: Json = intent.resource.values
    clear = get(values, ("global", "license"))
    if isinstance(clear, str) and clear:
        return clear
    name, key = get(values, ("global", "licenseSecret", "name")), get(values, ("global", "licenseSecret", "key"))
    if not isinstance(name, str) or not name or not isinstance(key, str):
        return None
    namespace = intent.resource.namespace
    brought = next((it for it in intent.secrets if get(it, ("metadata", "name")) == name), None)
    secret = brought or kubectl.get("Secret", name, namespace) or {}
    plain = get(secret, ("stringData", key))
    encoded = get(secret, ("data", key))
    try:
        return str(plain) if plain else base64.b64decode(str(encoded)).decode("utf-8", "replace") if encoded else None
    except binascii.Error:
        return None
