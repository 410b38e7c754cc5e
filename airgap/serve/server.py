"""Server: what ``airgap serve`` runs, and the demo and the tests in a thread.

Invariants: started and stopped any number of times in one process; ``stop`` leaves no thread, socket or lock behind. Reading
asks the store first, then the bundle; writing goes to the store alone.
"""

from __future__ import annotations

import signal
import ssl
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from airgap.errors import ConfigurationError, NetworkError
from airgap.ref import DOCKER_HUB, HOST, HUB_ALIASES, Location
from airgap.serve import reading
from airgap.serve.bundled import Bundled
from airgap.serve.channel import LATEST, Channel
from airgap.serve.charts import ChartRepository
from airgap.serve.contents import Stacked
from airgap.serve.messages import Answer, RefusalError
from airgap.serve.routes import candidates, route, short_names
from airgap.serve.store import Store
from airgap.serve.users import is_allowed
from airgap.serve.wheels import PackageIndex
from airgap.serve.wire import Listener
from airgap.serve.writing import Rules, Writing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path
    from types import FrameType, TracebackType

    from typing_extensions import Self

    from airgap.bundle import BundleReader
    from airgap.serve.contents import Contents
    from airgap.serve.messages import Access, Request
    from airgap.serve.routes import Route

    Endpoint = Callable[[Request, Route], Answer]

GRACE = 10.0
"""Seconds that ``stop`` lets running answers go on."""
REALM = 'Basic realm="airgap", charset="UTF-8"'

_READING: Mapping[str, Callable[[Contents, Request, Route], Answer]] = {
    "ping": reading.ping,
    "catalog": reading.catalog,
    "manifest": reading.manifest,
    "blob": reading.blob,
    "tags": reading.tags,
    "referrers": reading.referrers,
}


@dataclass(frozen=True)
class Options:
    """What can be set beside the contents.

    ``users``: who may do anything at all (name to password; None: everyone); ``anonymous_pull`` lets others read.
    ``prefix``: path put before every repository of the bundle, as ``push --registry HOST/PREFIX`` would; ``layout``: likewise.
    ``hosts``: names that this server plays: a request with such a Host header is about HOST/<repository>.
    ``public_url``: how clients reach this server, where the Host header does not say (behind a proxy).
    ``releases``: specs of the release channel beside the bundle's, by release id (``latest`` is the channel's own answer).
    """

    users: Mapping[str, str] | None = field(default=None, repr=False)
    anonymous_pull: bool = False
    prefix: str = ""
    layout: str = HOST
    hosts: Collection[str] = ()
    public_url: str = ""
    oci_charts: bool = False
    releases: Mapping[str, bytes] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)


class Site:
    """Everything behind the wire: from a Request to an Answer, by calls alone."""

    def __init__(self, bundle: BundleReader | None, store: Store | None, options: Options) -> None:
        self._options = options
        place = Location.parse(f"x/{options.prefix}", options.layout) if options.prefix else Location("x", "", options.layout)
        layers: list[Contents] = [store] if store else []
        if bundle:
            layers.append(Bundled(bundle, place))
        self._place = place  # the host is of no account: only repositories are read
        self.contents = Stacked(layers)
        self._charts = ChartRepository(self.contents)
        self._packages = PackageIndex(bundle)
        releases = {**(_releases(bundle) if bundle else {}), **options.releases}
        self._channel = Channel(releases, self._charts, options.public_url.rstrip("/"), oci=options.oci_charts)
        self._writing = _write_endpoints(Writing(store, self.contents, options.rules)) if store else {}

    def respond(self, request: Request) -> Answer:
        """Answer one request; raises RefusalError (and other AirgapErrors, which are the server's own troubles)."""
        wanted = route(request.path)
        if wanted.kind == "health":
            return Answer(HTTPStatus.OK, {"Content-Type": "text/plain"}, b"ok\n")
        self._check_user(request)
        source = request.first("ns")
        answer = self._endpoint(request, wanted)
        if source and wanted.is_registry and source.isascii() and source.isprintable():
            return Answer(answer.status, {**answer.headers, "OCI-Namespace": source}, answer.body)
        return answer

    def _endpoint(self, request: Request, wanted: Route) -> Answer:
        write = self._writing.get((request.method, wanted.kind))
        if write:
            return write(request, self._named(request, wanted, writing=True))
        if request.method != "GET":
            reason = "this method means nothing there" if self._writing else "this server is read-only: it serves a bundle"
            raise RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", reason, {"Allow": "GET, HEAD"})
        if wanted.kind in _READING:
            return _READING[wanted.kind](self.contents, request, self._named(request, wanted))
        plain: dict[str, Endpoint] = {
            "channel": self._channel.answer,
            "chart-index": self._charts.index,
            "chart": self._charts.download,
            "packages": self._packages.projects,
            "package": self._packages.files,
            "front": self._front,
        }
        if wanted.kind not in plain:
            raise RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "this server takes no uploads")
        return plain[wanted.kind](request, wanted)

    def _named(self, request: Request, wanted: Route, *, writing: bool = False) -> Route:
        """Return the route with the repository that the client means under its own name."""
        if not wanted.name:
            return wanted
        host = request.host.rpartition(":")[0] or request.host
        played = [host] if host in self._options.hosts or (HUB_ALIASES & {host}) else []
        if writing:
            inside = any(wanted.name.startswith(f"{name}/") for name in (*self._options.hosts, DOCKER_HUB))
            return wanted if inside else wanted.under(candidates(wanted.name, hosts=played)[0])
        known = self.contents.repositories()
        source = request.first("ns")
        named = candidates(wanted.name, place=self._place, hosts=[*([source] if source else []), *played])
        found = next((name for name in named if name in known), None)
        short = () if found else short_names(wanted.name, known, place=self._place)
        return wanted.under(found or (short[0] if short else wanted.name))

    def _check_user(self, request: Request) -> None:
        users = self._options.users
        if users is None or (self._options.anonymous_pull and request.method == "GET"):
            return
        if not is_allowed(users, request.header("Authorization")):
            raise RefusalError(
                HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "a name and password are needed", {"WWW-Authenticate": REALM}
            )

    def _front(self, request: Request, _wanted: Route) -> Answer:
        base = f"{request.scheme}://{request.host}"
        lines = [
            "airgap serve",
            f"registry            {base}/v2/",
            f"chart repository    {base}/charts/index.yaml",
            f"release channel     {base}/api/v1/operator/channel",
            *([f"Python packages     {base}/simple/"] if self._packages else []),
            *sorted(self.contents.repositories()),
        ]
        return Answer(HTTPStatus.OK, {"Content-Type": "text/plain; charset=utf-8"}, "\n".join([*lines, ""]).encode())


class Server:
    """A registry, chart repository and release channel on one port.

    >>> with Server(None, None, address=("127.0.0.1", 0)) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        bundle: BundleReader | None,
        store: Path | None = None,
        *,
        address: tuple[str, int] = ("127.0.0.1", 0),
        tls: tuple[Path, Path] | None = None,
        options: Options | None = None,
        access_log: Callable[[Access], object] | None = None,
    ) -> None:
        """Take what is served; ``tls`` is a certificate (chain) and its key. Nothing is opened before ``start``."""
        self._bundle = bundle
        self._folder = store
        self._address = address
        self._tls = tls
        self._options = options or Options()
        self._access_log = access_log
        self._store: Store | None = None
        self._listener: Listener | None = None

    def start(self) -> Self:
        """Listen, and serve from a thread; raises NetworkError, DiskError, IntegrityError or ConfigurationError."""
        context = _context(*self._tls) if self._tls else None
        self._store = Store(self._folder) if self._folder else None
        with ExitStack() as undo:
            undo.callback(self._close_store)
            site = Site(self._bundle, self._store, self._options)
            try:
                self._listener = Listener(self._address, site.respond, tls=context, access_log=self._access_log)
            except OSError as error:
                host, port = self._address
                raise NetworkError(
                    f"{host}:{port} cannot be listened on: {error.strerror}", hint="choose another --address"
                ) from error
            undo.pop_all()
        self._listener.start()
        return self

    @property
    def host(self) -> str:
        """``HOST:PORT`` as a reference's registry (an IPv6 address in brackets)."""
        if self._listener is None:
            raise ConfigurationError("the server is not running")
        name, port = self._listener.server_name, self._listener.server_port
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    @property
    def url(self) -> str:
        """The server's URL, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def stop(self, grace: float = GRACE) -> None:
        """Stop listening, let running answers end within ``grace`` seconds, close the store. Harmless when not running."""
        listener, self._listener = self._listener, None
        if listener:
            listener.close(grace)
        self._close_store()

    def serve_forever(self, ready: Callable[[str], object] | None = None) -> None:
        """Start, call ``ready`` with the URL, and serve until SIGINT or SIGTERM; then stop in good order and return.

        To be called in the main thread, which alone receives signals. A second signal ends without waiting.
        """
        over = threading.Event()

        def end(_number: int, _frame: FrameType | None) -> None:
            over.set()

        before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.start()
            if ready:
                ready(self.url)
            over.wait()
        finally:
            for number, action in before.items():
                signal.signal(number, action)
            self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _close_store(self) -> None:
        if self._store:
            self._store.close()
            self._store = None


def _write_endpoints(writing: Writing) -> dict[tuple[str, str], Endpoint]:
    return {
        ("POST", "uploads"): writing.start,
        ("PATCH", "upload"): writing.chunk,
        ("PUT", "upload"): writing.close,
        ("GET", "upload"): writing.status,
        ("DELETE", "upload"): writing.cancel,
        ("PUT", "manifest"): writing.put,
        ("DELETE", "manifest"): writing.remove_manifest,
        ("DELETE", "blob"): writing.remove_blob,
    }


def _releases(bundle: BundleReader) -> dict[str, bytes]:
    """Return the bundle's specs under their release ids; the first is what the channel answers."""
    found: dict[str, bytes] = {}
    for artifact in bundle.lock.artifacts:
        if artifact.kind == "spec":
            raw = bundle.read(artifact.content)
            found.setdefault(LATEST, raw)
            found[artifact.version or LATEST] = raw
            found.setdefault(str(bundle.lock.channel.get("release") or LATEST), raw)
    return found


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
        raise ConfigurationError(f"certificate {certificate} with key {key} cannot be used: {reason}") from error
    return context
