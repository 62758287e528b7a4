"""Indexes and runs an app through Microsoft's azure-functions-runtime, or through the sandbox's own back end.

The runtime is what a Python 3.13 worker of Azure runs, without its gRPC wire: its handlers take the messages
as plain objects. It keeps its state in modules, so this is a program and not a fixture:

    python tests/host/runtime_runner.py APP_DIR [--backend runtime|sdk] < calls.json

calls.json is a list of {"function": name, "input": ...}. The input of an HTTP function is an object that may
hold method, url, headers, query, params (the route values) and body; that of a timer or an Event Grid
function is the JSON the host sends. On stdout comes one object: {"functions": [{"name", "bindings"}],
"results": [{"function", "ok", "value", "error"}]}, or {"refused": cause} if the app cannot be indexed.
"""

import argparse
import asyncio
import json
import os
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, TextIO

_ROOT = Path(__file__).resolve().parents[2]


class Refused(Exception):  # noqa: N818 - the answer the caller asked for, not a mistake of this program
    """The app cannot be indexed."""


class Backend(Protocol):
    """What loads an app and runs its functions."""

    async def functions(self, app: Path) -> list[dict[str, Any]]:
        """Index the app."""

    async def call(self, name: str, given: Any) -> dict[str, Any]:
        """Run one function."""


class Message:
    """A stand-in for every protobuf message: attributes in, attributes out."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def __getattr__(self, name: str) -> Any:
        if name in self.fields:
            return self.fields[name]
        raise AttributeError(name)

    def WhichOneof(self, _group: str) -> str | None:  # noqa: N802 - protobuf's name
        """The one field that is set."""
        return next(iter(self.fields), None)


class StatusResult(Message):
    """With the two statuses that the runtime uses."""

    Failure, Success = 0, 1


class BindingInfo(Message):
    """With the directions and the one data type that the runtime compares to."""

    undefined, out, inout = 0, 1, 2


class RpcHttpCookie(Message):
    """With the enumeration that the runtime looks up by name."""

    SameSite = SimpleNamespace(**{"None": 0, "Lax": 1, "Strict": 2, "ExplicitNone": 3})


_PLAIN = (
    "WorkerInitResponse WorkerMetadata FunctionMetadataResponse RpcFunctionMetadata RpcRetryOptions "
    "RpcException FunctionLoadResponse InvocationResponse ParameterBinding TypedData RpcHttp "
    "NullableString NullableBool NullableDouble NullableTimestamp Timestamp"
)
_PROTOS = SimpleNamespace(
    **dict.fromkeys(_PLAIN.split(), Message),
    StatusResult=StatusResult,
    BindingInfo=BindingInfo,
    RpcHttpCookie=RpcHttpCookie,
)


class RuntimeBackend:
    """Microsoft's runtime, driven with the messages of a worker's life: init, metadata, load, invocations."""

    def __init__(self) -> None:
        self._runtime: Any = __import__("azure_functions_runtime")
        self._loaded: dict[str, Message] = {}

    async def functions(self, app: Path) -> list[dict[str, Any]]:
        """Initialise the runtime, which imports and indexes the app, and load each function."""
        self._runtime.start_threadpool_executor()
        init = await self._send("worker_init_request", capabilities={}, function_app_directory=str(app))
        if init.result.status != StatusResult.Success:
            raise Refused(init.result.exception.message)
        metadata = await self._send("functions_metadata_request")
        for function in metadata.function_metadata_results:
            await self._send("function_load_request", function_id=function.function_id)
            self._loaded[function.name] = function
        return [
            {"name": name, "bindings": list(loaded.raw_bindings)} for name, loaded in self._loaded.items()
        ]

    async def call(self, name: str, given: Any) -> dict[str, Any]:
        """Send one invocation request."""
        function = self._loaded[name]
        trigger = next(b for b in map(json.loads, function.raw_bindings) if b["type"].endswith("Trigger"))
        typed = _typed_http(given) if trigger["type"] == "httpTrigger" else Message(json=json.dumps(given))
        response = await self._send(
            "invocation_request",
            invocation_id=str(uuid.uuid4()),
            function_id=function.function_id,
            input_data=[_Input(name=trigger["name"], data=typed)],
            trigger_metadata={},
            trace_context=Message(trace_parent=f"00-{'1' * 32}-{'2' * 16}-01", trace_state="", attributes={}),
            retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
        )
        if response.result.status != StatusResult.Success:
            return _result(name, error=response.result.exception.message)
        return _result(name, value=_from_typed(response.return_value))

    async def _send(self, kind: str, **fields: Any) -> Any:
        request = Message(**{kind: Message(**fields)})
        properties = {"protos": _PROTOS, "host": "127.0.0.1"}
        return await getattr(self._runtime, kind)(Message(name=kind, request=request, properties=properties))


class _Input(Message):
    """An input binding: its name is no part of the choice between data and shared memory."""

    def WhichOneof(self, _group: str) -> str:  # noqa: N802 - protobuf's name
        return "data"


class SdkBackend:
    """The sandbox's own loader and invoker."""

    async def functions(self, app: Path) -> list[dict[str, Any]]:
        """Index as the sandbox's host does."""
        from sandbox.host.index import IndexingError, load
        from sandbox.host.invocation import Invoker

        try:
            self._functions = {function.name: function for function in load(app)}
        except IndexingError as error:
            raise Refused(str(error)) from error
        self._invoker = Invoker()
        return [{"name": f.name, "bindings": list(f.raw_bindings)} for f in self._functions.values()]

    async def call(self, name: str, given: Any) -> dict[str, Any]:
        """Start one invocation and wait for it."""
        from azure.functions.meta import Datum

        from sandbox.host.messages import http_datum

        function = self._functions[name]
        data = Datum(json.dumps(given), "json")
        if function.kind == "httpTrigger":
            parts = _request(given)
            data = http_datum(route_values=parts.pop("params"), **parts)
        outcome = await self._invoker.start(function, data)
        if outcome.error is not None:
            return _result(name, error=f"{type(outcome.error).__name__}: {outcome.error}")
        value = outcome.value
        if value is None or value.type != "http":
            return _result(name, value=value and value.value)
        parts = value.value
        headers = {header: text.value for header, text in parts["headers"].items()}
        cookies = {n: morsel.value for jar in parts["cookies"] or () for n, morsel in jar.items()}
        status, body = parts["status_code"].value, parts["body"].value
        return _result(name, value=_http_value(status, headers, cookies, body))


def _request(given: dict[str, Any] | None) -> dict[str, Any]:
    """The parts of a request, with defaults for what the caller left out."""
    parts: dict[str, Any] = {
        "method": "GET",
        "url": "http://localhost/",
        "headers": {},
        "query": {},
        "params": {},
        "body": "",
    }
    parts.update(given or {})
    return {**parts, "body": parts["body"].encode()}


def _typed_http(given: dict[str, Any] | None) -> Message:
    parts = _request(given)
    return Message(http=Message(**{**parts, "body": Message(bytes=parts["body"])}))


def _from_typed(value: Message | None) -> Any:
    if value is None:
        return None
    kind = value.WhichOneof("data")
    if kind != "http":
        return value.fields[str(kind)]
    answer = value.http
    cookies = {cookie.name: cookie.value for cookie in answer.cookies or ()}
    return _http_value(answer.status_code, answer.headers, cookies, answer.body.bytes)


def _http_value(status: str, headers: dict[str, str], cookies: dict[str, str], body: bytes) -> dict[str, Any]:
    return {"status": int(status), "headers": headers, "cookies": cookies, "body": body.decode()}


def _result(name: str, *, value: object = None, error: str | None = None) -> dict[str, Any]:
    return {"function": name, "ok": error is None, "value": value, "error": error}


async def run(backend: Backend, app: Path, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """Index the app and make the calls, one after the other."""
    try:
        functions = await backend.functions(app)
    except Refused as refused:
        return {"refused": str(refused)}
    results = [await backend.call(call["function"], call.get("input")) for call in calls]
    return {"functions": functions, "results": results}


def main(stdout: TextIO) -> None:
    """Read the arguments and the calls, print the answer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("app", type=Path)
    parser.add_argument("--backend", choices=["runtime", "sdk"], default="runtime")
    options = parser.parse_args()
    calls = [] if sys.stdin.isatty() else json.loads(sys.stdin.read() or "[]")
    app = options.app.resolve()
    # As in a worker: the app's directory is where it runs and the first place it imports from.
    os.chdir(app)
    sys.path[0:1] = [str(app), str(_ROOT)]
    backend: Backend = RuntimeBackend() if options.backend == "runtime" else SdkBackend()
    print(json.dumps(asyncio.run(run(backend, app, calls))), file=stdout)


if __name__ == "__main__":
    # What the app prints must not mix with the answer.
    real_stdout, sys.stdout = sys.stdout, sys.stderr
    main(real_stdout)
