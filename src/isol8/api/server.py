"""The HTTP application: all resources on one router, behind authentication."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.types import Receive, Scope, Send

from isol8 import __version__
from isol8.api import execute, files, health, metrics, runtimes, sessions
from isol8.api.auth import Authentication
from isol8.api.connection import BodyBounds
from isol8.api.problems import Answering
from isol8.api.state import State
from isol8.config import Config
from isol8.egress.client import Egress
from isol8.engines.base import Engine
from isol8.runtimes.base import Install
from isol8.runtimes.registry import RUNTIMES
from isol8.service.packages import PackageSource
from isol8.service.service import Service
from isol8.wire.schemas import json_schemas

# Programs, keys and secrets pass through here: nothing is recorded because an environment variable happens to be set.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


class Application(FastAPI):
    """FastAPI's routes and document, without the layers that it puts around them: each costs every request something,
    and does nothing here. In their place are problems, and `keys`."""

    def __init__(self, keys: Iterable[str], **settings: Any) -> None:
        super().__init__(**settings)
        self._answering = Answering(Authentication(self.router, keys))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            scope["app"] = self
            await self._answering(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_api(
    config: Config,
    engine: Engine,
    installed: Mapping[str, Install],
    egress: Egress | None = None,
    packages: PackageSource | None = None,
    crashed: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """The application. `installed` are the runtimes on this machine, by name; `egress` is there when the policy lets
    sandboxes have a filtered network, `packages` when it lets them have packages. `crashed` tells at the end whether
    the server around it has crashed.

    Its lifespan starts the engine, and closes it with all that was made; startup raises EngineFailure.
    """
    service = Service(config, engine, RUNTIMES, installed, egress, packages)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close(crashed=crashed())

    app = Application(
        config.api_keys,
        title="isol8",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    app.state.isol8 = State(service, BodyBounds.of(config.policy))
    # Not included, but put there: FastAPI looks for a route of an included router twice. And before its own.
    resources = (execute, files, sessions, runtimes, health, metrics)
    app.router.routes[:0] = [route for resource in resources for route in resource.router.routes]
    # Made now: later the process may have no right to read what making it needs.
    document = _document(app)
    app.openapi = lambda: document  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the wire's own types in it."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(json_schemas())
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"key": []}]
    return document
