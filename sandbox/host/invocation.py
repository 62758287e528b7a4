"""Runs one invocation: decodes the trigger's data, calls the function, encodes its answer.

Async functions share the one event loop, sync functions a pool of the worker's size. Every log record written
inside an invocation carries its id, because that is what ties a line in Application Insights to a call.
"""

import asyncio
import importlib
import logging
import os
import re
import secrets
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from azure.functions.meta import Datum

from sandbox.host.index import Function

# The SDK's registry of converters carries no annotations.
_converters: Any = importlib.import_module("azure.functions").get_binding_registry()
log = logging.getLogger("host")
_invocation_id: ContextVar[str] = ContextVar("invocation_id", default="-")
_thread_local = threading.local()
_TRACE_PARENT = re.compile(r"00-(?P<trace>[0-9a-f]{32})-[0-9a-f]{16}-(?P<flags>[0-9a-f]{2})")


class InvocationIdFilter(logging.Filter):
    """Gives every record the id of the invocation that wrote it, or '-'."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the id; never drop the record."""
        record.invocation_id = _invocation_id.get()
        return True


@dataclass(frozen=True)
class TraceContext:
    """The W3C trace context under the names of both SDK lines: the capitalised ones are the older."""

    trace_parent: str
    trace_state: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    Traceparent = property(attrgetter("trace_parent"))
    Tracestate = property(attrgetter("trace_state"))
    Attributes = property(attrgetter("attributes"))

    @classmethod
    def following(cls, headers: Mapping[str, str]) -> "TraceContext":
        """A new span: in the caller's trace if the headers name one, else in a trace of its own."""
        span = secrets.token_hex(8)
        if sent := _TRACE_PARENT.fullmatch(headers.get("traceparent", "")):
            return cls(f"00-{sent['trace']}-{span}-{sent['flags']}", headers.get("tracestate", ""))
        return cls(f"00-{secrets.token_hex(16)}-{span}-01")


@dataclass(frozen=True, slots=True)
class RetryContext:
    """No retry policies here: always the first attempt."""

    retry_count: int = 0
    max_retry_count: int = 0
    exception: None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a function gets for a parameter named context: the members of the worker's own class."""

    function_name: str
    function_directory: str
    invocation_id: str
    trace_context: TraceContext
    retry_context: RetryContext = RetryContext()
    thread_local_storage: threading.local = _thread_local


class Out:
    """What a function gets for an output binding."""

    def __init__(self) -> None:
        self.value: Any = None

    def set(self, val: Any) -> None:
        """Remember what is to be put there."""
        self.value = val

    def get(self) -> Any:
        """What was set."""
        return self.value


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an invocation ended; value is the encoded answer, if the function has one, error why it failed."""

    value: Datum | None = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.error is None


class Invoker:
    """Starts invocations and knows which ones still run."""

    def __init__(self, put: Callable[[Mapping[str, str], Datum], Awaitable[None]] | None = None) -> None:
        self.put = put
        # Without a number the pool is as large as the worker's: min(32, cores + 4).
        threads = os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT")
        self._pool = ThreadPoolExecutor(int(threads) if threads else None, thread_name_prefix="function")
        self._running: set[asyncio.Task[Outcome]] = set()

    async def idle(self) -> None:
        """Return when no invocation is running."""
        while self._running:
            await asyncio.wait(set(self._running))

    def start(
        self,
        function: Function,
        data: Datum,
        headers: Mapping[str, str] | None = None,
        metadata: Mapping[str, Datum] | None = None,
    ) -> "asyncio.Task[Outcome]":
        """Start an invocation; the task never fails, its outcome does."""
        context = Context(
            function_name=function.name,
            function_directory=function.directory,
            invocation_id=str(uuid.uuid4()),
            trace_context=TraceContext.following(headers or {}),
        )
        # A task of its own: what the function sets in contextvars must not reach the connection's next call.
        task = asyncio.create_task(self._invoke(function, data, context, metadata or {}))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def drain(self, seconds: float) -> int:
        """Wait for running invocations, at most so long; return how many were left behind."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)
        return len(self._running)

    async def _invoke(
        self, function: Function, data: Datum, context: Context, metadata: Mapping[str, Datum]
    ) -> Outcome:
        _invocation_id.set(context.invocation_id)
        name, started = function.name, time.monotonic()
        log.info("Executing 'Functions.%s'", name)
        try:
            outputs = {binding["name"]: Out() for binding in function.outputs}
            arguments = {function.parameter: decode(function, data, metadata), **outputs}
            if function.wants_context:
                arguments["context"] = context
            if function.is_async:
                answer = await function.call(**arguments)
            else:
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._pool, _call_in_thread, function, arguments, context)
            outcome = Outcome(encode(function, answer))
            await self._put(function, outputs)
        # SystemExit would end the host; a real worker loses such an invocation, which is a failure as well.
        except (Exception, SystemExit) as error:
            log.exception("Exception while executing function: Functions.%s", name)
            outcome = Outcome(error=error)
        verdict = "Succeeded" if outcome.ok else "Failed"
        milliseconds = (time.monotonic() - started) * 1000
        log.info("Executed 'Functions.%s' (%s, Duration=%.0fms)", name, verdict, milliseconds)
        return outcome

    async def _put(self, function: Function, outputs: Mapping[str, Out]) -> None:
        """Deliver what was set; where that fails, the invocation has failed."""
        for binding in function.outputs:
            value = outputs[binding["name"]].value
            if value is not None and self.put is not None:
                await self.put(binding, _converters.get(binding["type"]).encode(value, expected_type=None))


def decode(function: Function, data: Datum, metadata: Mapping[str, Datum]) -> Any:
    """The argument the function gets: str and bytes take the raw text, else the SDK's converter decides."""
    if function.annotation in (str, bytes):
        return data.value
    return _converters.get(function.kind).decode(data, trigger_metadata=metadata)


def encode(function: Function, answer: object) -> Datum | None:
    """The function's answer as a Datum.

    Raises:
        RuntimeError: a value came from a function that has nowhere to put one.
        TypeError: the value is of no class that the binding takes.
    """
    if function.returns is None:
        if answer is not None:
            raise RuntimeError(
                f"function {function.name!r} without a $return binding returned a non-None value"
            )
        return None
    try:
        encoded: Datum = _converters.get(function.returns).encode(answer, expected_type=None)
    except NotImplementedError as error:
        kind = type(answer).__name__
        raise TypeError(f"unable to encode a value of type {kind} as {function.returns!r}") from error
    return encoded


def _call_in_thread(function: Function, arguments: Mapping[str, Any], context: Context) -> Any:
    token = _invocation_id.set(context.invocation_id)
    _thread_local.invocation_id = context.invocation_id
    try:
        return function.call(**arguments)
    finally:
        _invocation_id.reset(token)
        _thread_local.invocation_id = None
