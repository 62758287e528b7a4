"""Writes events to Application Insights and knows whether they were accepted.

The exporter is used by itself: a provider with batching would lose events on SIGTERM and report success
whatever happened. It works in a thread of its own and with a credential whose patience is bounded, so that an
ingestion or a token endpoint that hangs takes nobody else's time.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from rotation.model import Event, clean
from rotation.settings import Identity
from rotation.telemetry import Availability

if TYPE_CHECKING:
    from azure.core.pipeline import PipelineResponse
    from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter

RESULTS_PER_WRITE = 500
LONGEST_WAIT = timedelta(seconds=2)
SCOPE = "rotation"

_EXPORTER = "azure.monitor.opentelemetry.exporter.export._base"
"""The logger of the exporter, which tells of an answer that it cannot read by a traceback."""

Result = Event | Availability


class AppInsights:
    """Writes to the resource of one connection string; the exporter is opened by the first write."""

    def __init__(
        self, connection_string: str, ca_bundle: str | None, identity: Identity | None = None
    ) -> None:
        self._connection_string = connection_string
        self._ca_bundle = ca_bundle
        self._identity = identity
        self._thread = ThreadPoolExecutor(1, "app-insights")
        self._exporter: AzureMonitorLogExporter | None = None

    async def write(self, results: Iterable[Result], trace_parent: str | None) -> bool:
        """Write the results, joined to the invocation's trace; False where not all were accepted."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._write, results, trace_parent)

    def _write(self, results: Iterable[Result], trace_parent: str | None) -> bool:
        from opentelemetry._logs import LogRecord, SeverityNumber
        from opentelemetry.sdk._logs import ReadableLogRecord
        from opentelemetry.sdk._logs.export import LogRecordExportResult
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        context = TraceContextTextMapPropagator().extract({"traceparent": trace_parent or ""})
        resource, scope = Resource.create(), InstrumentationScope(SCOPE)
        exporter = self._open()

        def record(result: Result) -> ReadableLogRecord:
            attributes = _event(result) if isinstance(result, Event) else _availability(result)
            severity = SeverityNumber.INFO
            log = LogRecord(
                context=context, severity_number=severity, body=result.name, attributes=attributes
            )
            return ReadableLogRecord(log, resource, scope)

        # A part at a time: the records of a large fleet would be more than all else that a pass holds.
        rest = iter(results)
        while part := [*map(record, islice(rest, RESULTS_PER_WRITE))]:
            if exporter.export(part) is not LogRecordExportResult.SUCCESS:
                return False
        return True

    def _open(self) -> "AzureMonitorLogExporter":
        if self._exporter is None:
            from azure.monitor.opentelemetry.exporter import AzureMonitorLogExporter

            logging.getLogger(_EXPORTER).addFilter(_in_one_line)
            credential = None
            if self._identity:
                from azure.identity import ManagedIdentityCredential

                credential = ManagedIdentityCredential(
                    client_id=self._identity.client_id, connection_timeout=3, read_timeout=5, retry_total=1
                )
            self._exporter = AzureMonitorLogExporter(
                connection_string=self._connection_string,
                credential=credential,
                connection_verify=self._ca_bundle or True,
                read_timeout=5,
                timeout=5,
                retry_total=1,
                raw_response_hook=_refuse_to_wait,
                disable_offline_storage=True,
                max_envelopes_per_second=0,  # its limiter drops what is over and still reports success
            )
        return self._exporter

    def close(self) -> None:
        """Close the exporter and end its thread."""
        self._thread.shutdown()
        if self._exporter is not None:
            self._exporter.shutdown()


def _in_one_line(record: logging.LogRecord) -> bool:
    """What was not accepted is told by who asked for it; why, takes a line."""
    record.msg, record.args, record.exc_info = clean(record.getMessage()), (), None
    return True


def _refuse_to_wait(response: "PipelineResponse[Any, Any]") -> None:
    """Raise before the SDK sleeps for as long as a Retry-After says; the exporter then reports a failure."""
    from rotation.clients.arm import retry_after

    wait = retry_after(response.http_response.headers)
    if wait and wait > LONGEST_WAIT:
        raise TimeoutError(f"throttled for {wait.total_seconds():.0f} seconds")


def _event(event: Event) -> dict[str, str]:
    return {
        **event.properties,
        "microsoft.custom_event.name": event.name,
        "microsoft.custom_measurements": json.dumps(event.measurements),
    }


def _availability(result: Availability) -> dict[str, str | bool]:
    seconds, ticks = divmod(int(result.seconds * 10_000_000), 10_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return {
        **result.properties,
        "microsoft.availability.id": uuid.uuid4().hex,
        "microsoft.availability.name": result.name,
        "microsoft.availability.duration": f"0.{hours % 24:02}:{minutes:02}:{seconds:02}.{ticks:07}",
        "microsoft.availability.success": result.success,
        "microsoft.availability.runLocation": result.location,
        "microsoft.availability.message": result.message,
    }
