"""The triggers: input to (Scope, Mode), the one reconcile, its report to the trigger's answer.

Nothing here decides, and nothing heavy is imported: an idle worker starts like a hello-world app.
"""

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

import azure.functions as func

from rotation.events import Envelope
from rotation.model import Pause, clean
from rotation.settings import Mistakes, event_queue, schedule

if TYPE_CHECKING:
    from rotation.app import App

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

_log = logging.getLogger("rotation")


@app.function_name("on_certificate_event")
@app.event_grid_trigger(arg_name="event")
async def on_certificate_event(event: func.EventGridEvent, context: func.Context) -> None:
    """Key Vault announced something: look at the gateways that use the certificate, now.

    Always ends in success, or Event Grid would delay every other delivery: what is left undone here, the
    timer does.
    """
    await _heed(event, event.id, context)


EVENT_QUEUE = event_queue()
if EVENT_QUEUE:

    @app.function_name("on_certificate_message")
    @app.queue_trigger(arg_name="message", queue_name=EVENT_QUEUE, connection="AzureWebJobsStorage")
    async def on_certificate_message(message: func.QueueMessage, context: func.Context) -> None:
        """The same through a queue, for an app without a public address that Event Grid could call."""
        from rotation import events

        try:
            event = events.from_message(message.get_body())
        except ValueError as error:
            _log.warning("Message %s is ignored: %s", clean(message.id), error)
            return
        await _heed(event, event.id, context)


async def _heed(event: Envelope, event_id: str, context: func.Context) -> None:
    from rotation import events
    from rotation.app import current
    from rotation.model import Mode, Scope, Trigger

    rotation = current()
    if isinstance(rotation, Mistakes):
        _log_mistakes(rotation)
        return
    found = events.read(event, rotation.settings.cloud.vault_suffix, rotation.settings.vaults)
    if isinstance(found, events.Ignored):
        _log.warning("Event %s is ignored: %s", clean(event_id), found.why)
        return
    level = logging.INFO if found.occasion is events.Occasion.NEW_VERSION else logging.WARNING
    _log.log(level, "Event %s: %s of %s", clean(event_id), found.occasion, found.certificate)
    try:
        report = await rotation.run(
            Scope(certificate=found.certificate),
            Mode.REPAIR,
            Trigger.EVENT,
            context.trace_context.trace_parent,
        )
    except TimeoutError:
        _log.error("%s: not done within the event's budget; the timer will do it", found.certificate)
        return
    if not report.gateways:
        _log.info("%s: no gateway in scope uses it", found.certificate)


@app.function_name("check_drift")
@app.timer_trigger(arg_name="timer", schedule=schedule())
async def check_drift(timer: func.TimerRequest, context: func.Context) -> None:
    """Everything in scope: finds and mends what no event told, proves what was told."""
    from rotation.app import current
    from rotation.model import Mode, Scope, Trigger

    rotation = current()
    if isinstance(rotation, Mistakes):
        _log_mistakes(rotation)
        return
    if timer.past_due:
        _log.warning("The timer is late")
    await rotation.run(Scope(), Mode.REPAIR, Trigger.TIMER, context.trace_context.trace_parent)


@app.function_name("resync")
@app.route(route="resync", methods=["POST"])
async def resync(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """The same by hand: 202 with the report so far; what follows is to be seen in /api/status."""
    from rotation import api, report
    from rotation.app import current
    from rotation.model import Scope, Trigger

    trace_parent = context.trace_context.trace_parent
    rotation = current()
    if isinstance(rotation, Mistakes):
        return _misconfigured(rotation, trace_parent)
    asked = api.read_resync(
        req.headers.get("content-type", ""), req.get_body(), rotation.settings.cloud.vault_suffix
    )
    if isinstance(asked, api.Problem):
        return _problem(asked.status, asked.detail, trace_parent)
    try:
        result = await rotation.run(asked.scope, asked.mode, Trigger.HAND, trace_parent, asked.overrides)
    except TimeoutError:
        detail = "Not done in time; the timer goes on with it. Look at /api/status."
        return _problem(HTTPStatus.GATEWAY_TIMEOUT, detail, trace_parent)
    if not result.gateways and asked.scope != Scope():
        detail = " ".join((f"No gateway in scope matches {clean(asked.scope)}.", *result.problems))
        return _problem(HTTPStatus.NOT_FOUND, detail, trace_parent)
    return _json(
        report.to_json(result), HTTPStatus.ACCEPTED, {"Location": "/api/status", "Retry-After": "60"}
    )


@app.function_name("pause")
@app.route(route="pause", methods=["POST"])
async def pause(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """The kill switch: from the next pass on nothing is synced, by whatever worker; verdicts go on."""
    from rotation import api
    from rotation.app import current

    trace_parent = context.trace_context.trace_parent
    rotation = current()
    if isinstance(rotation, Mistakes):
        return _misconfigured(rotation, trace_parent)
    asked = api.read_pause(req.headers.get("content-type", ""), req.get_body(), rotation.world.now())
    if isinstance(asked, api.Problem):
        return _problem(asked.status, asked.detail, trace_parent)
    return await _set_pause(rotation, asked, trace_parent)


@app.function_name("resume")
@app.route(route="resume", methods=["POST"])
async def resume(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:  # noqa: ARG001 - bound by the worker
    """Turns the kill switch off."""
    from rotation.app import current

    rotation = current()
    if isinstance(rotation, Mistakes):
        return _misconfigured(rotation, context.trace_context.trace_parent)
    return await _set_pause(rotation, None, context.trace_context.trace_parent)


@app.function_name("status")
@app.route(route="status", methods=["GET"])
async def status(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:  # noqa: ARG001 - bound by the worker
    """The last report over everything, the kill switch, the rotations, and the settings in force."""
    from rotation.app import current
    from rotation.reconcile import LedgerUnavailableError

    rotation = current()
    if isinstance(rotation, Mistakes):
        return _misconfigured(rotation, context.trace_context.trace_parent)
    try:
        view = await _view(rotation)
    except LedgerUnavailableError as error:
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), context.trace_context.trace_parent)
    return _json(view, HTTPStatus.OK, {})


@app.function_name("page")
@app.route(route="page", methods=["GET"])
async def page(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """What /api/status tells, for people."""
    from rotation.app import current
    from rotation.reconcile import LedgerUnavailableError
    from rotation.web import page as web

    def refuse(sentences: tuple[str, ...]) -> func.HttpResponse:
        status_code = HTTPStatus.SERVICE_UNAVAILABLE
        operation_id = _operation_id(context.trace_context.trace_parent)
        return _html(web.render_problem(status_code, sentences, operation_id, req.params), status_code)

    rotation = current()
    if isinstance(rotation, Mistakes):
        return refuse(rotation.sentences)
    try:
        view = await _view(rotation)
    except LedgerUnavailableError as error:
        return refuse((str(error),))
    now = rotation.world.now()
    headers = {"ETag": web.etag(view, now)}
    if req.headers.get("if-none-match") == headers["ETag"]:
        return func.HttpResponse(status_code=HTTPStatus.NOT_MODIFIED, headers={**web.HEADERS, **headers})
    return _html(web.render(view, now, req.params), HTTPStatus.OK, headers)


@app.function_name("page_file")
@app.route(route="page/{name}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def page_file(req: func.HttpRequest) -> func.HttpResponse:
    """The page's stylesheet, script and icon: no secret is in them, so no key has to be in their URLs."""
    from rotation.web import page as web

    name = req.route_params.get("name", "")
    body = web.file(name)
    if body is None:
        return func.HttpResponse(status_code=HTTPStatus.NOT_FOUND)
    return func.HttpResponse(body, headers=dict(web.FILE_HEADERS), mimetype=web.FILES[name])


@app.function_name("health")
@app.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - bound by the worker
    """Alive, and nothing more: whether all is well is in /api/status, for those with a key."""
    return func.HttpResponse("ok", mimetype="text/plain")


async def _set_pause(rotation: "App", wanted: Pause | None, trace_parent: str | None) -> func.HttpResponse:
    from rotation import report
    from rotation.reconcile import LedgerUnavailableError

    try:
        await rotation.world.ledger.set_pause(wanted)
    except LedgerUnavailableError as error:
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), trace_parent)
    _log.warning("All syncs are %s", f"paused: {wanted.reason}" if wanted else "resumed")
    return _json({"paused": report.pause_to_json(wanted)}, HTTPStatus.OK, {})


async def _view(rotation: "App") -> dict[str, object]:
    from rotation import report

    last = await rotation.world.ledger.last_report()
    return {
        "settings": rotation.settings.to_json(),
        "paused": report.pause_to_json(await rotation.world.ledger.paused()),
        "rotations": last.get("rotations", []) if last else [],
        "report": last,
    }


def _html(body: str, status_code: HTTPStatus, headers: dict[str, str] | None = None) -> func.HttpResponse:
    from rotation.web.page import HEADERS

    sent = {**HEADERS, **(headers or {})}
    return func.HttpResponse(body, status_code=status_code, headers=sent, mimetype="text/html")


def _json(body: dict[str, object], status_code: HTTPStatus, headers: dict[str, str]) -> func.HttpResponse:
    return func.HttpResponse(
        json.dumps(body), status_code=status_code, headers=headers, mimetype="application/json"
    )


def _problem(status_code: HTTPStatus, detail: str, trace_parent: str | None) -> func.HttpResponse:
    """Problem JSON; the operation id is the trace id, to be pasted into Application Insights."""
    from rotation.api import Problem

    body = Problem(status_code, detail, _operation_id(trace_parent)).to_json()
    return func.HttpResponse(body, status_code=status_code, mimetype="application/problem+json")


def _operation_id(trace_parent: str | None) -> str:
    return "".join((trace_parent or "").split("-")[1:2])


def _misconfigured(mistakes: Mistakes, trace_parent: str | None) -> func.HttpResponse:
    return _problem(HTTPStatus.SERVICE_UNAVAILABLE, " ".join(mistakes.sentences), trace_parent)


def _log_mistakes(mistakes: Mistakes) -> None:
    for sentence in mistakes.sentences:
        _log.error("Nothing is done until the settings are mended: %s", sentence)
