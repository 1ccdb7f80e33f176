"""The HTTP application: all resources on one router, behind authentication."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from isol8 import __version__
from isol8.api import execute, files, health, metrics, problems, runtimes, sessions
from isol8.api.auth import Authentication
from isol8.api.connection import BodyBounds
from isol8.api.state import State
from isol8.config import Config
from isol8.egress.client import Egress
from isol8.engines.base import Engine
from isol8.errors import Isol8Error
from isol8.runtimes.base import Install
from isol8.runtimes.registry import RUNTIMES
from isol8.service.packages import PackageSource
from isol8.service.service import Service
from isol8.wire.schemas import json_schemas

# Programs, keys and secrets pass through here: nothing is recorded because an environment variable happens to be set.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


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

    app = FastAPI(
        title="isol8",
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    app.state.isol8 = State(service, BodyBounds.of(config.policy))
    for resource in (execute, files, sessions, runtimes, health, metrics):
        app.include_router(resource.router)
    app.add_exception_handler(Isol8Error, problems.on_error)
    app.add_exception_handler(HTTPException, problems.on_http_error)
    app.add_exception_handler(problems.ClientGone, problems.on_client_gone)
    app.add_middleware(Authentication, keys=config.api_keys)
    app.add_middleware(problems.Internal)
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
