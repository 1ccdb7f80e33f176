"""What every route can reach."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from isol8.api.connection import BodyBounds
from isol8.service.service import Service


@dataclass(frozen=True, slots=True)
class State:
    """`bodies` bounds any body."""

    service: Service
    bodies: BodyBounds


def state_of(request: Request) -> State:
    """The state of the application that the request came to."""
    state: State = request.app.state.isol8
    return state
