"""The base of every JSON type: closed, frozen, camelCase, strictly typed; and errors as one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

_SHOWN_CHARACTERS = 80
_SENTENCES = {
    "missing": "is required",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "bytes_type": "must be a string",
}


class Strict(BaseModel):
    """A JSON object whose every field is known and of the right type; nothing is coerced."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )


def wire_name(name: str) -> str:
    """What a field is called in JSON."""
    return to_camel(name)


def explain(error: ValidationError, model: type[Strict], whole: str) -> str:
    """The first thing wrong, as one sentence that names the field. `whole` names the document itself."""
    first = error.errors(include_url=False, include_input=False)[0]
    kind, context = first["type"], first.get("ctx", {})
    if kind == "json_invalid":
        return f"{whole} is not valid JSON: {shown(str(context['error']))}"
    place = _place(first["loc"]) or whole
    if kind == "extra_forbidden":
        return f"Unknown field {place}{_suggestion(place, model)}"
    if kind in ("enum", "literal_error"):
        expected = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        return f"{place} must be one of {expected}"
    if kind == "value_error":
        return f"{place} {context['error']}"
    if kind in _SENTENCES:
        return f"{place} {_SENTENCES[kind]}"
    message = first["msg"].removeprefix("Input should ").removeprefix("be ")
    return f"{place} must be {message}"


def shown(text: str) -> str:
    """Text that a caller sent, made fit for a sentence: on one line, printable, and short."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in text)
    return clean if len(clean) <= _SHOWN_CHARACTERS else f"{clean[:_SHOWN_CHARACTERS]}…"


def _place(location: Sequence[str | int]) -> str:
    place = ""
    for part in location:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part != "[key]":
            place += f".{shown(part)}" if place else shown(part)
    return place


def _suggestion(place: str, model: type[Strict]) -> str:
    """`; did you mean …?`, when a known field beside the unknown one, or else anywhere, is spelt almost alike."""
    parent, _, name = place.rpartition(".")
    known = list(known_fields(model))
    beside = {field.lower(): field for owner, field in known if owner == parent}
    anywhere = {field.lower(): f"{owner}.{field}".lstrip(".") for owner, field in reversed(known)}
    if name.lower() in anywhere and name.lower() not in beside:
        return f"; did you mean {anywhere[name.lower()]}?"
    for names in (beside, anywhere):
        for near in difflib.get_close_matches(name.lower(), names, n=1):
            return f"; did you mean {names[near]}?"
    return ""


def known_fields(model: type[Strict], parent: str = "") -> Iterator[tuple[str, str]]:
    """Every field as (path of the object it is in, its name); the whole document's path is empty."""
    for name, field in model.model_fields.items():
        alias = field.alias or name
        yield parent, alias
        inner = model_in(field.annotation)
        if inner:
            yield from known_fields(inner, f"{parent}.{alias}".lstrip("."))


def model_in(annotation: Any) -> type[Strict] | None:
    """The JSON object type behind an annotation such as `Options | None`."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Strict):
            return candidate
    return None
