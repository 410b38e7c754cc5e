"""Apply: carry out what an audit has proved, step by step, each skipped when it is already right.

::

    outcome = apply(verdict.proved, intent, Tools(kubectl, releases, chart), ApplyOptions(), watch=watch, receipt=receipt)

Invariants: it takes a ``Proved`` and applies nothing but what that says. One install at a time (a lease). What was there keeps
running when a step fails; the receipt in the cluster says which steps were done, and the next run goes on. Nothing that
somebody changed by hand is overwritten, and nothing newer replaced by something older, unless the options say so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from airgap.apply.resource import misses_chart, restart_operator, served, settle, settle_charts, version_of, wake
from airgap.apply.steps import BOTH, OPERATOR, SERVER, chart_configmap, delivered_by_configmap, namespace, steps
from airgap.apply.wait import INVALID, wait
from airgap.errors import AirgapError, ClusterError, ConfigurationError
from airgap.intent import CRD
from airgap.kube import UnreachableError, describe, identity
from airgap.lease import holding
from airgap.receipt import RUNNING
from airgap.receipts import LABELS, Receipts
from airgap.standing import OTHER_VERSION, TAKE_OVER, chart_key, look, refused_crds
from airgap.values import get

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airgap.apply.steps import Object
    from airgap.apply.wait import Watch
    from airgap.chart import Chart
    from airgap.intent import Intent
    from airgap.kube import Kubectl
    from airgap.lease import Lease
    from airgap.receipt import Receipt
    from airgap.releases import HelmReleases
    from airgap.standing import Standing
    from airgap.verdict import Proved  # an annotation only: stages are strangers at run time

ALL = "all"
SERVER_PATIENCE = 40.0
"""Seconds that the operator's own helm gets to finish: a hook may take 30."""
CREATED, CHANGED, SAME = "created", "changed", "already right"


@dataclass(frozen=True)
class Tools:
    """What carries it out, and the operator's chart for helm."""

    kubectl: Kubectl
    releases: HelmReleases
    operator_chart: Chart


@dataclass(frozen=True)
class ApplyOptions:
    """``only``: all | operator | server. ``timeout`` in seconds, for each of operator and server."""

    only: str = ALL
    wait: bool = True
    timeout: float = 600.0
    allow_older: bool = False
    overwrite_edits: bool = False

    @property
    def parts(self) -> frozenset[str]:
        """The halves that are installed."""
        return BOTH if self.only == ALL else frozenset({self.only})


@dataclass(frozen=True)
class Outcome:
    """What happened: the receipt, and (object, created | changed | already right) in the order of the steps."""

    receipt: Receipt
    objects: tuple[tuple[str, str], ...]

    @property
    def changed(self) -> int:
        """How many objects were not already right."""
        return sum(what != SAME for _, what in self.objects)


def apply(proved: Proved, intent: Intent, tools: Tools, options: ApplyOptions, *, watch: Watch, receipt: Receipt) -> Outcome:
    """Apply ``intent`` and, unless told otherwise, wait until it runs; raises ClusterError, after writing how far it came.

    ``receipt`` is what is to become of it, with the stages that were done before; its number is given here.
    """
    check_proof(proved, intent)
    run = _Run(intent, tools, options, watch, receipt)
    run.namespaces()
    with holding(tools.kubectl, intent.operator.namespace) as lease:
        watch.check = lease.check
        run.begin(lease)
        try:
            for step in run.plan():
                lease.check()
                step()
        except AirgapError as error:
            run.stop(error)
            raise
        run.finish()
    return Outcome(run.receipt, tuple(run.done))


def check_proof(proved: Proved, intent: Intent) -> None:
    """Refuse an intent that is not the proved one; raises ConfigurationError."""
    same = (
        proved.lock == intent.lock
        and proved.location == intent.location
        and proved.resource == intent.resource
        and dict(proved.operator_values) == dict(intent.operator_values)
    )
    if not same:
        raise ConfigurationError(
            "what is to be applied is not what was audited: values changed in between", hint="run it again"
        )


@dataclass
class _Run:
    """One run: what was done so far, and the receipt of it."""

    intent: Intent
    tools: Tools
    options: ApplyOptions
    watch: Watch
    receipt: Receipt
    done: list[tuple[str, str]] = field(default_factory=list)
    standing: Standing | None = None

    @property
    def kubectl(self) -> Kubectl:
        return self.tools.kubectl

    @property
    def store(self) -> Receipts:
        return Receipts(self.kubectl, self.intent.operator.namespace)

    # -- before and after

    def namespaces(self) -> None:
        """Make the namespaces that are not there: one that is may be ours to use but not to change."""
        wanted = [name for name in self.intent.namespaces if name not in self.intent.own_namespaces]
        live = {name: self.kubectl.get("Namespace", name) for name in wanted}
        ours = [name for name, it in live.items() if it is None or _is_ours(it)]
        if ours:
            self._objects("namespaces", tuple(namespace(name) for name in ours), force=False)

    def begin(self, lease: Lease) -> None:
        """Look at what stands, refuse what must be asked for, and write that it has begun."""
        lease.check()
        self.standing = look(self.kubectl, self.tools.releases, self.intent)
        refuse(self.standing, self.intent, self.options)
        latest, current = self.standing.latest, self.standing.current
        parts = self.options.parts
        self.receipt = self.receipt.of_parts(operator=OPERATOR in parts, server=SERVER in parts, before=latest)
        if latest is not None and latest.identity == self.receipt.identity:
            stages = (*latest.stages, *self.receipt.stages)
            self.receipt = latest.after(*stages).reached_as(self.receipt)
            if not latest.is_done:
                self.receipt = replace(self.receipt, state=RUNNING, reason="")
                self._put()
        else:
            number = latest.number + 1 if latest else 1
            self.receipt = replace(self.receipt, number=number, previous=current.number if current else 0, begun=now())
            self._put()

    def stop(self, error: AirgapError) -> None:
        """Write how far it came, if the cluster still answers."""
        self.receipt = self.receipt.failed(error.message, now())
        try:
            self._put()
        except UnreachableError:
            return

    def finish(self) -> None:
        """Write that it runs; a receipt that says so already is not touched."""
        latest = self.standing.latest if self.standing else None
        finished = self.receipt.finished(now())
        same = latest is not None and replace(finished, ended="") == replace(latest, ended="") and latest.is_done
        self.receipt = latest if same and latest else finished
        if not same:
            self._put()
            self.store.prune()

    def _put(self) -> None:
        self.store.put(self.receipt)
        self.watch.on_receipt(self.receipt)

    # -- the steps

    def plan(self) -> Iterable[Callable[[], None]]:
        """Yield the steps in their order."""
        parts = self.options.parts
        for step in steps(self.intent):
            if step.parts & parts:
                yield lambda step=step: self._objects(step.name, step.objects, force=step.force)  # type: ignore[misc]
        if SERVER in parts and delivered_by_configmap(self.intent):
            yield self._chart
        if OPERATOR in parts:
            yield self._operator
        if SERVER in parts:
            yield self._restarted
            yield self._resource
            if self.options.wait:
                yield self._up

    def _objects(self, name: str, documents: tuple[Object, ...], *, force: bool) -> None:
        self.watch.progress.begin(name, len(documents))
        refused = refused_crds(self.kubectl, documents)
        if refused:
            raise refused[0]
        for document in documents:
            self._applied(document, force=force or self.options.overwrite_edits)
            if document.get("kind") == CRD:
                served(self.kubectl, document)
        self.watch.progress.end()

    def _applied(self, document: Object, *, force: bool = False) -> None:
        live = self.kubectl.live(document)
        self._note(document, _what(live, self.kubectl.apply(document, force=force)))

    def _note(self, document: Object, what: str) -> None:
        self.done.append((describe(document), what))
        self.receipt = self.receipt.with_objects([identity(document)])
        self.watch.progress.done(describe(document), what)

    def _chart(self) -> None:
        """Apply the chart's ConfigMap with the key in use beside the new one."""
        wanted = self.intent.chart_configmap or {}
        live = self.kubectl.live(wanted)
        document, gone = chart_configmap(wanted, live, chart_key(self.standing.resource if self.standing else None))
        self.watch.progress.begin("chart", 1)
        self._note(document, _what(live, settle_charts(self.kubectl, document, live)))
        for key in gone:
            self.watch.progress.debug(f"chart {key} leaves the ConfigMap")
        self.watch.progress.end()

    def _operator(self) -> None:
        """Install or upgrade the operator with helm, unless it stands as it should; then wait for it."""
        part, releases = self.intent.operator, self.tools.releases
        self.watch.progress.begin("operator", 1)
        if self._operator_stands():
            what = SAME
        else:
            known = self.standing.operator if self.standing else None
            if releases.put_away_pending(part.release, part.namespace):
                self.watch.progress.say("a helm that was killed had left its record; it is put away")
            release = releases.upgrade_install(
                part.release, self.tools.operator_chart, part.namespace, self.intent.operator_values
            )
            what = f"revision {release.revision}" if known else CREATED
        label = f"helm release {part.namespace}/{part.release} {part.label}"
        self.done.append((label, what))
        self.watch.progress.done(label, what)
        self._staged("operator")
        if self.options.wait:
            wait(self.watch, self.watch.operator, "the operator", self.options.timeout)
        self.watch.progress.end()

    def _operator_stands(self) -> bool:
        """Whether the newest revision is this chart with these values, of this very bundle, and its workloads are there."""
        standing, part = self.standing, self.intent.operator
        if standing is None or standing.operator is None or standing.operator.status != "deployed":
            return False
        same = standing.operator.chart == part.label and standing.operator_values == self.intent.operator_values
        known = any(it.lock == str(self.intent.lock) and "operator" in it.stages for it in standing.receipts())
        objects = [{**it.object, "metadata": {"namespace": part.namespace, **_metadata(it.object)}} for it in part.installed]
        return same and known and all(self.kubectl.live(document) is not None for document in objects)

    def _restarted(self) -> None:
        """Replace an operator's pod that cannot see the new chart yet."""
        if misses_chart(self.kubectl, self.intent):
            self.watch.progress.say("the operator's pod is replaced, so that it sees the new chart at once")
            restart_operator(self.kubectl, self.intent)
            wait(self.watch, self.watch.operator, "the operator", self.options.timeout)

    def _resource(self) -> None:
        document = self.intent.resource.to_document()
        is_new = self.standing is None or self.standing.resource is None
        self.watch.progress.begin("custom resource", 1)
        changed = settle(self.kubectl, self.intent)
        if not changed and self._is_given_up():
            self._wake(INVALID)
        self._note(document, CREATED if is_new else CHANGED if changed else SAME)
        self.watch.progress.end()
        self._staged("resource")

    def _is_given_up(self) -> bool:
        """Whether the operator failed at the very spec that is there: it would not look again for an hour."""
        return get(dict((self.standing and self.standing.resource) or {}), ("status", "phase")) == INVALID

    def _wake(self, phase: str) -> bool:
        """Have the operator look again; what its helm left in the middle before it gave up would keep it from anything."""
        part = self.intent.server
        if phase == INVALID and self.tools.releases.put_away_pending(part.release, part.namespace, SERVER_PATIENCE):
            self.watch.progress.say(f"helm release {part.release} was left in the middle of a change; its record is put away")
        return wake(self.kubectl, self.intent, now())

    def _up(self) -> None:
        """Wait for the server; then the chart that it no longer uses leaves the ConfigMap."""
        self.watch.on_wait()
        self.watch.wake = self._wake
        self.watch.progress.begin("wait", len(self.intent.server.workloads()))
        view = wait(self.watch, self.watch.server, f"{self.intent.server.label}", self.options.timeout)
        for component in view.components:
            self.watch.progress.done(component.name, f"{component.ready}/{component.wanted} up")
        self.watch.progress.end()
        if delivered_by_configmap(self.intent):
            wanted = self.intent.chart_configmap or {}
            settle_charts(self.kubectl, wanted, self.kubectl.live(wanted))
        self.receipt = self.receipt.after("wait")

    def _staged(self, stage: str) -> None:
        """Write a step that has consequences as soon as it is done, unless that is known."""
        if stage not in self.receipt.stages:
            self.receipt = self.receipt.after(stage)
            self._put()


def refuse(standing: Standing, intent: Intent, options: ApplyOptions) -> None:
    """Refuse an older version and the overwriting of hand edits; raises ClusterError."""
    older = standing.older(intent)
    if older and not options.allow_older:
        raise ClusterError("; ".join(older), hint="take the newer bundle, or give --allow-older")
    unseen = standing.unseen(intent)
    if unseen and SERVER in options.parts:
        raise ClusterError(unseen, hint=OTHER_VERSION)
    edits = standing.edits(intent)
    if edits and not options.overwrite_edits:
        more = f" (and {len(edits) - 1} more)" if len(edits) > 1 else ""
        raise ClusterError(
            f"changed by hand since the last install: {edits[0]}{more}",
            hint=TAKE_OVER,
        )


def _what(live: Object | None, applied: Object) -> str:
    return CREATED if live is None else SAME if version_of(live) == version_of(applied) else CHANGED


def now() -> str:
    """Return the time in UTC, as Kubernetes writes it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _metadata(document: Object) -> Object:
    metadata = document.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _is_ours(live: Object) -> bool:
    """Whether an install has made it: its labels say so."""
    labels = _metadata(live).get("labels") or {}
    return all(labels.get(key) == text for key, text in LABELS.items())
