"""Every kind of function the host must run, each as small as it can be and each with one thing to observe."""

import asyncio
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import azure.functions as func

meeting = asyncio.Barrier(3)
released = asyncio.Event()
app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


def note(kind: str, **facts: object) -> None:
    """Append one line to the file that the tests read: what ran, and with what."""
    if path := os.environ.get("SAMPLE_NOTES"):
        with Path(path).open("a", encoding="utf-8") as notes:
            notes.write(json.dumps({"kind": kind, **facts}) + "\n")


@app.route(route="echo/{id:int}/{name?}", methods=["GET", "POST"])
async def echo(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Answer with everything a function can see of its request."""
    logging.getLogger(__name__).info("echo was called")
    seen = {
        "method": req.method,
        "url": req.url,
        "headers": {name: value for name, value in req.headers.items() if name != "x-functions-key"},
        "params": dict(req.params),
        "route_params": dict(req.route_params),
        "body": req.get_body().decode(),
        "trace_parent": context.trace_context.trace_parent,
        "trace_parent_of_old": getattr(context.trace_context, "Traceparent", None),
        "invocation_id": context.invocation_id,
        "function_name": context.function_name,
        "retries": context.retry_context.retry_count,
    }
    return func.HttpResponse(
        json.dumps(seen),
        mimetype="application/json",
        headers={"X-Custom": "yes", "Set-Cookie": "a=b; Path=/"},
    )


@app.route(route="plain", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def plain(req: func.HttpRequest) -> str:
    """Answer with a bare string from a thread."""
    return f"hello {req.params.get('name', 'nobody')}"


@app.route(route="object", auth_level=func.AuthLevel.ANONYMOUS)
def response_object(req: func.HttpRequest) -> str:
    """Answer with a string that the host reads as a response object."""
    return json.dumps({"status": 418, "headers": {"X-Pot": "tea"}, "body": {"method": req.method}})


@app.route(route="files/{*rest}", auth_level=func.AuthLevel.ANONYMOUS)
def files(req: func.HttpRequest) -> str:
    """Answer with the rest of the path."""
    return str(req.route_params.get("rest", ""))


@app.route(route="files/special", auth_level=func.AuthLevel.ANONYMOUS)
def special(req: func.HttpRequest) -> str:
    """Answer where a literal route must win over a catch-all one."""
    return f"special {req.method}"


@app.route(route="off", auth_level=func.AuthLevel.FUNCTION)
def off(req: func.HttpRequest) -> str:
    """Answer, unless the tests disable it."""
    return f"on {req.method}"


@app.route(route="boom", auth_level=func.AuthLevel.ANONYMOUS)
async def boom(req: func.HttpRequest) -> func.HttpResponse:
    """Fail."""
    raise ValueError(f"boom on {req.method}")


@app.route(route="number", auth_level=func.AuthLevel.ANONYMOUS)
def number(req: func.HttpRequest):  # type: ignore[no-untyped-def]  # noqa: ANN201 - the wrong return value is the point
    """Answer with what no HTTP function may return."""
    return None if req.params.get("none") else 42


@app.route(route="guarded", auth_level=func.AuthLevel.ADMIN)
def guarded(req: func.HttpRequest) -> func.HttpResponse:
    """Answer only to the master key."""
    return func.HttpResponse(req.method, status_code=202)


@app.route(route="release", auth_level=func.AuthLevel.ANONYMOUS)
async def release(req: func.HttpRequest) -> str:
    """Let the timer function end where it is held."""
    released.set()
    return f"released {req.method}"


@app.route(route="slow", auth_level=func.AuthLevel.ANONYMOUS)
def slow(req: func.HttpRequest) -> str:
    """Take as many seconds as asked, in a thread."""
    time.sleep(float(req.params["seconds"]))
    note("slow ended")
    return "slept"


@app.timer_trigger(schedule="%SAMPLE_SCHEDULE%", arg_name="timer")
async def tick(timer: func.TimerRequest) -> None:
    """Note a tick; where the tests hold it, go on only when released."""
    seen: Any = timer  # the older SDK line declares past_due alone
    note("tick", past_due=seen.past_due, schedule=seen.schedule, status=seen.schedule_status)
    if os.environ.get("SAMPLE_HOLD"):
        await released.wait()


@app.event_grid_trigger(arg_name="event")
async def arrived(event: func.EventGridEvent) -> None:
    """Note an event of either schema; on demand fail, or wait until three are here."""
    data = event.get_json()
    note("event", id=event.id, type=type(event).__name__, subject=event.subject, data=data)
    if data.get("meet"):
        await asyncio.wait_for(meeting.wait(), 5)
    if data.get("fail"):
        raise RuntimeError("told to fail")


@app.event_grid_trigger(arg_name="event")
def talkative(event: func.CloudEvent) -> str:
    """Return a value where the host takes none."""
    note("talkative", id=event.id)
    return "this fails the invocation"


@app.event_grid_trigger(arg_name="event")
def asleep(event: func.EventGridEvent) -> None:
    """Note an event; the tests disable it."""
    note("asleep", id=event.id)


@app.service_bus_queue_trigger(arg_name="message", queue_name="work", connection="ServiceBus")
def queued(message: func.ServiceBusMessage) -> None:
    """Wait for a trigger that this host does not know."""
    note("queued", id=message.message_id)
