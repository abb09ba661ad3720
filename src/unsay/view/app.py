"""The page of `unsay view`, served to this machine alone, and of who is on it to whoever has the address.

A browser lets any page in the world send requests to this machine. So each must name a random token in its path (compared in constant
time), and this machine as its host (a foreign name that leads here, DNS rebinding, is turned away). A path from outside is never opened:
it is looked up among the runs that were found. A report is shown in a sandbox, since the folder may have come from anybody: it can
read nothing, send nothing, and run no script but the filter.
"""

import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unsay.config import ConfigError
from unsay.report import sheet
from unsay.report.compare import compare, table
from unsay.report.words import figure
from unsay.research.front.pictures import styles
from unsay.store.folder import RunFolder
from unsay.view.below import COLUMNS, Below

HERE = Path(__file__).parent
SHEET = sheet.rules("report.css") + (HERE / "view.css").read_text(encoding="utf-8")
SCRIPT = sheet.FILTER + (HERE / "view.js").read_text(encoding="utf-8")
LOOPBACK = "127.0.0.1"
_CLOSED = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"
_PAGE = f"{_CLOSED}; style-src {sheet.digest(SHEET)}; script-src {sheet.digest(SCRIPT)}; connect-src 'self'; form-action 'self'"
_REPORT = f"{_CLOSED}; sandbox allow-scripts; style-src 'unsafe-inline'; script-src {sheet.digest(sheet.FILTER)}; form-action 'none'"
_HEADERS = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """Turns away who does not name this machine and the token, before anything else looks at the request."""

    def __init__(self, app: ASGIApp, token: str, port: int):
        self.app, self.token = app, token.encode()
        self.hosts = ([f"{LOOPBACK}:{port}"], [f"localhost:{port}"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        given = scope["path"].split("/")[1] if scope["path"].startswith("/") else ""
        app: ASGIApp = PlainTextResponse("not found", 404)
        # Both are looked at, so that the time says nothing of either.
        if secrets.compare_digest(given.encode(errors="replace"), self.token) & (Headers(scope=scope).getlist("host") in self.hosts):
            app = self.app

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("content-security-policy", _CLOSED)
            await send(message)

        await app(scope, receive, guarded)


def application(below: Below, token: str, port: int) -> Starlette:
    """What is served, each page below `/TOKEN/`."""
    templates = sheet.environment(HERE)
    templates.filters["figure"] = lambda value, top=1.0: "–" if value is None else figure(value, top)

    def page(**values: Any) -> Response:
        known: dict[str, Any] = {"base": f"/{token}/", "root": below.root.name, "sheet": Markup(SHEET), "script": Markup(SCRIPT)}
        known |= {"rows": None, "columns": None, "spots": None, "message": ""}
        return HTMLResponse(templates.get_template("view.html.j2").render(known | values), headers={"content-security-policy": _PAGE})

    def runs(request: Request) -> Response:
        return page(rows=below.rows(), metrics=COLUMNS, sweeps=below.walk()[1])

    def report(request: Request) -> Response:
        file = _known(below.walk()[0], request.path_params["name"]) / "report.html"
        if not below.own(file):
            raise HTTPException(404)
        return HTMLResponse(file.read_bytes(), headers={"content-security-policy": _REPORT})

    def compared(request: Request) -> Response:
        known, names = below.walk()[0], dict.fromkeys(request.query_params.getlist("run"))
        folders = [_known(known, name) for name in names]
        if not all(map(below.closed, folders)):
            raise ConfigError("a link in one of these runs leads out of the folder that is shown")
        columns = compare([RunFolder(path) for path in folders])
        return page(columns=list(zip(names, columns, strict=True)), table=table(columns))

    def front(request: Request) -> Response:
        name, (runs, sweeps) = request.path_params["name"], below.walk()
        path = _known(sweeps, name)
        if not below.closed(path):
            raise ConfigError("a link in this sweep leads out of the folder that is shown")
        spots = below.spots(name, path)
        reported = {one.name for one in below.rows() if one.reported}
        return page(spots=spots, sweep=name, runs=runs, reported=reported, looks=styles({one.method: None for one in spots}))

    def refused(request: Request, error: Exception) -> Response:
        return page(message=str(error))

    routes = [
        Route("/{token}/", runs),
        Route("/{token}/report/{name:path}", report),
        Route("/{token}/compare", compared),
        Route("/{token}/front/{name:path}", front),
    ]
    guard = Middleware(Guard, token=token, port=port)
    return Starlette(routes=routes, middleware=[guard], exception_handlers={ConfigError: refused})


def _known(found: dict[str, Path], name: str) -> Path:
    if name not in found:
        raise HTTPException(404)
    return found[name]


def serve(root: Path, port: int, told: Callable[[str], None]) -> None:
    """Serve until a signal comes; `told` is handed the address first. `port` 0: any that is free. Raises `ConfigError`."""
    if not root.is_dir():
        raise ConfigError(f"{root} is not a folder; name one that holds run folders")
    with socket.socket() as here:
        try:
            here.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            raise ConfigError(f"port {port} is taken or not allowed; choose another --port, or leave it out") from None
        port, token = here.getsockname()[1], secrets.token_urlsafe(32)
        # Neither a log of requests, which would hold the token, nor tracebacks, which may quote a file.
        app = application(Below(root), token, port)
        config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1)
        here.listen()  # who opens the address at once waits, and is not refused
        told(f"http://{LOOPBACK}:{port}/{token}/")
        uvicorn.Server(config).run(sockets=[here])
