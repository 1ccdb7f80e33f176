"""What callers send. Parsing gives normalised values: sizes in bytes, paths without detours, contents as bytes.

What a field may be on any server is checked here; what this server allows is its policy (service/policy.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, PlainValidator, ValidationError, WithJsonSchema, model_validator

from isol8.errors import InvalidRequest
from isol8.model import Network
from isol8.sizes import parse_size
from isol8.wire import checks
from isol8.wire.strict import Strict, explain

Size = Annotated[int, PlainValidator(parse_size, json_schema_input_type=str | int)]
Milliseconds = Annotated[int, Field(gt=0, le=2**53)]
WritablePath = Annotated[str, AfterValidator(checks.writable_path)]
# Text that is only ever handed on: kept as UTF-8.
Text = Annotated[bytes, WithJsonSchema({"type": "string"})]
Variables = Annotated[dict[str, str], AfterValidator(checks.variables)]
# A value, or a value and the hosts that it is bound to.
Secret = str | tuple[str, tuple[str, ...]]
SessionId = Annotated[str, AfterValidator(checks.session_id)]


class Base64Content(Strict):
    """Bytes of a file, as base64."""

    base64: str


class BufferContent(Strict):
    """Bytes of a file, as Node's `JSON.stringify` writes a Buffer."""

    type: Literal["Buffer"]
    data: list[int]


Content = Annotated[bytes, PlainValidator(checks.content, json_schema_input_type=str | Base64Content | BufferContent)]


class BoundSecret(Strict):
    """A secret that the program never has: the proxy puts it into the headers of requests to `hosts`, over TLS."""

    value: str
    hosts: list[str]


Secrets = Annotated[
    dict[str, Annotated[Secret, PlainValidator(checks.secret, json_schema_input_type=str | BoundSecret)]],
    AfterValidator(checks.secrets),
]
Pattern = Annotated[str, Field(min_length=1, max_length=512)]


class NetworkFilter(Strict):
    """What a filtered network reaches: regular expressions (RE2) that a whole host name must match."""

    whitelist: list[Pattern] | None = Field(None, description="What is allowed.")
    blacklist: list[Pattern] | None = Field(None, description="What is not, whatever the whitelist says.")


class ExecutionRequest(Strict):
    """The program and its inputs. Exactly one of `code`, `cmd` and `codeUrl`."""

    code: Text | None = Field(None, description="The program.")
    cmd: Text | None = Field(None, description="A bash command, instead of a program.")
    code_url: str | None = Field(None, description="Where to fetch the program from, if this server allows it.")
    code_hash: str | None = Field(None, description="The SHA-256 of what `codeUrl` must give, in hexadecimal.")
    allow_insecure_code_url: bool | None = Field(None, description="Whether `codeUrl` may be http.")
    runtime: str | None = Field(None, description="The language: see GET /runtimes. Needed unless `cmd` is given.")
    timeout_ms: Milliseconds | None = Field(None, description="How long the program may take; wins over the option.")
    env: Variables | None = Field(None, description="Environment variables.")
    stdin: Text | None = Field(None, description="What the program reads; absent or empty is end of file.")
    files: dict[WritablePath, Content] | None = Field(None, description="Files to write before the program starts.")
    output_paths: list[WritablePath] | None = Field(None, description="Files to give back afterwards.")
    install_packages: list[str] | None = Field(None, description="Packages to have, by name and version.")
    setup_script: Text | None = Field(None, description="A bash script to run before the program.")
    workdir: Annotated[str, AfterValidator(checks.working_directory)] | None = None
    file_extension: Annotated[str, AfterValidator(checks.extension)] | None = None
    metadata: dict[str, str] | None = Field(None, description="Noted in the audit log.")

    @model_validator(mode="after")
    def _one_source(self) -> ExecutionRequest:
        given = [source for source in (self.code, self.cmd, self.code_url) if source is not None]
        if len(given) != 1:
            raise ValueError("must have exactly one of code, cmd and codeUrl")
        if not given[0]:
            raise ValueError("must have a source that is not empty")
        if self.runtime is None and self.cmd is None:
            raise ValueError("must have a runtime")
        if self.code_hash is not None and self.code_url is None:
            raise ValueError("must have a codeUrl when it has a codeHash")
        return self


class ExecutionOptions(Strict):
    """Bounds of this execution. What is absent is the server's default, or what the session already has."""

    network: Network | None = None
    network_filter: NetworkFilter | None = Field(None, description='What `network: "filtered"` reaches.')
    log_network: bool | None = Field(None, description="Whether the result tells of every request.")
    timings: bool | None = Field(None, description="Whether the result tells how long each phase took.")
    memory_limit: Size | None = Field(None, description='Memory with all files, e.g. "512m".')
    cpu_limit: Annotated[float, Field(gt=0)] | None = Field(None, description="Cores; 0.5 is half of one.")
    pids_limit: Annotated[int, Field(gt=0, le=2**22)] | None = Field(None, description="Processes and threads.")
    timeout_ms: Milliseconds | None = None
    sandbox_size: Size | None = Field(None, description="Room in /sandbox.")
    tmp_size: Size | None = Field(None, description="Room in /tmp.")
    max_output_size: Size | None = Field(None, description="Kept of each of stdout and stderr.")
    secrets: Secrets | None = Field(None, description="Environment variables whose values are masked in the output.")
    readonly_root_fs: bool | None = Field(None, description="Always true.")
    workdir: Annotated[str, AfterValidator(checks.working_directory)] | None = None
    image: str | None = Field(None, description="For engines that have images.")
    security: dict[str, Any] | None = Field(None, description="For policies that allow it.")
    mode: Any = Field(None, description="No effect.")
    pool_strategy: Any = Field(None, description="No effect.")
    pool_size: Any = Field(None, description="No effect.")
    persist: Any = Field(None, description="No effect.")
    debug: Any = Field(None, description="No effect.")
    audit: Any = Field(None, description="No effect.")
    remote_code: Any = Field(None, description="No effect.")

    def without_effect(self) -> list[str]:
        """Names of the given options that are accepted and change nothing."""
        names = ("mode", "pool_strategy", "pool_size", "persist", "debug", "audit", "remote_code")
        fields = type(self).model_fields
        return [fields[name].alias or name for name in names if getattr(self, name) is not None]


class ExecuteBody(Strict):
    """The body of POST /execute and POST /execute/stream."""

    request: ExecutionRequest
    options: ExecutionOptions | None = None
    session_id: SessionId | None = None


class UploadBody(Strict):
    """The body of POST /file."""

    session_id: SessionId
    path: WritablePath
    content: Annotated[
        bytes, PlainValidator(checks.base64_text, json_schema_input_type=str), Field(description="Base64.")
    ]


class DownloadQuery(Strict):
    """The query of GET /file."""

    session_id: SessionId
    path: WritablePath


Parsed = TypeVar("Parsed", bound=Strict)


def parse(model: type[Parsed], body: bytes) -> Parsed:
    """A body as JSON of the given type. Raises InvalidRequest, whose sentence names the field."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequest(explain(error, model, "The body")) from None


def parse_values(model: type[Parsed], values: dict[str, str]) -> Parsed:
    """Values that came as text, such as a query. Raises InvalidRequest, whose sentence names the value."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidRequest(explain(error, model, "The query")) from None
