"""What a server says when it starts."""

from __future__ import annotations

from isol8 import __version__


def greeting(host: str, port: int, made_key: str | None) -> str:
    """What the server says once it accepts connections. A configured key is not repeated: logs keep this."""
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    key = f"{made_key}   (made for this run; ISOL8_API_KEY chooses one)" if made_key else "as configured"
    bearer = made_key or "$ISOL8_API_KEY"
    return f"""\
isol8 {__version__} listens on {url}
API key: {key}

Try it:

  curl -s {url}/execute -H "Authorization: Bearer {bearer}" \\
    -H "Content-Type: application/json" \\
    -d '{{"request": {{"code": "print(\\"hello\\")", "runtime": "python"}}}}'
"""
