"""JSON schemas of the types of the API, for its OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import JsonSchemaMode, models_json_schema

from isol8.wire import answer, request
from isol8.wire.strict import Strict

_READ = (request.ExecuteBody, request.UploadBody)
_WRITTEN = (
    answer.ResultAnswer,
    answer.Problem,
    answer.ExecutionProblem,
    answer.StreamEvent,
    answer.Health,
    answer.Done,
    answer.Download,
    answer.SessionsAnswer,
    answer.RuntimesAnswer,
)


def json_schemas() -> dict[str, Any]:
    """Every type by its name, for `#/components/schemas`."""
    models: list[tuple[type[Strict], JsonSchemaMode]] = [
        *((model, "validation") for model in _READ),
        *((model, "serialization") for model in _WRITTEN),
    ]
    _, definitions = models_json_schema(models, ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = definitions["$defs"]
    return schemas
