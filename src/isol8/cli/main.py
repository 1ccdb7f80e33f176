"""The command `isol8`: one module per command. What a command alone needs is imported when it runs, so that
`isol8 --version` does not wait for the web framework."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from isol8 import __version__
from isol8.errors import Isol8Error

_COMMANDS = {
    "serve": "start the server",
    "setup": "install the runtimes that the machine does not have, or build the images of an engine",
    "doctor": "show what this machine can run and enforce",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names (`sys.argv` by default); the answer is the exit status."""
    arguments = _parser().parse_args(argv)
    command = import_module(f"isol8.cli.{arguments.command}")
    try:
        status: int = command.run(arguments)
    except Isol8Error as error:
        print(f"isol8: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="isol8", description="Run code you do not trust, over HTTP, each time in a sandbox nobody has used before."
    )
    parser.add_argument("--version", action="version", version=f"isol8 {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in _COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        command.add_argument("--config", metavar="FILE", help="configuration file, instead of isol8.config.json")
        command.add_argument(
            "--engine", choices=["native", "docker", "gvisor"], help="what makes the sandboxes (default native)"
        )
        if name == "serve":
            command.add_argument("--host", help="address to listen on (default 127.0.0.1)")
            command.add_argument("--port", type=_port, help="port to listen on (default 3000; 0 takes a free one)")
        if name == "doctor":
            command.add_argument("--json", action="store_true", help="print JSON instead of a table")
        if name == "setup":
            command.add_argument(
                "--runtime", action="append", metavar="NAME", help="only this one (may be given more than once)"
            )
            command.add_argument(
                "--python", metavar="PACKAGES", help="a set of Python packages to keep ready, such as numpy,pandas"
            )
    return parser


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text} is not a port number")
    return number
