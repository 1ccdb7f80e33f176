"""`isol8 serve`: run the server until it is told to stop."""

from __future__ import annotations

import argparse
import secrets
from typing import Any

from isol8.app import serve
from isol8.cli.greeting import greeting
from isol8.config import Config, load_config, with_engine

_KEY_BYTES = 24


def run(arguments: argparse.Namespace) -> int:
    """Serve with the configuration, its engine, host and port replaced by those of the command line. Without a
    configured key one is made for this run and printed: a server never runs open."""
    config = _with_arguments(load_config(arguments.config), arguments)
    made = None
    if not config.api_keys:
        made = secrets.token_urlsafe(_KEY_BYTES)
        config = config.model_copy(update={"api_keys": (made,)})

    def announce(host: str, port: int) -> None:
        print(greeting(host, port, made), flush=True)

    return serve(config, announce)


def _with_arguments(config: Config, arguments: argparse.Namespace) -> Config:
    given: dict[str, Any] = {"host": arguments.host, "port": arguments.port}
    return with_engine(config, arguments.engine).model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
