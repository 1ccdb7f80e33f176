"""Plans of programs, for tests that speak to an engine without a service."""

from isol8.model import Plan


def python_plan(source: str, executable: str) -> Plan:
    """A Python program, which a worker that waits may become."""
    return Plan(
        runtime="python",
        executable=executable,
        argv=("python3", "/sandbox/main.py"),
        path="/sandbox/main.py",
        source=source.encode(),
        env={},
        workdir="/sandbox",
        warm=True,
    )
