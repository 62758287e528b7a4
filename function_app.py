"""The triggers: input to (Scope, Mode), the one reconcile, its report to the trigger's answer.

Nothing here decides, and nothing heavy is imported: an idle worker starts like a hello-world app.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, List, ParamSpec, TypeVar  # noqa: UP035 - see check_drift

import azure.functions as func

from rotation.registration import event_queue, schedule, shard_queue, sign_in

if TYPE_CHECKING:
    from rotation.api import Problem
    from rotation.app import App
    from rotation.model import Pause
    from rotation.settings import Mistakes

SIGN_IN = sign_in()
"""App Service Authentication then stands in front in place of keys, and `_enter` asks for a role."""

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS if SIGN_IN else func.AuthLevel.FUNCTION)

RETRY_AFTER = "60"
"""Seconds: API Management takes minutes, and the timer looks every five."""

BROKEN = "This is a bug, and not yours. The app's log has the details under this operation id."

SENSELESS = (
    "The report in the ledger makes no sense to this version of the app. The next look at everything writes a"
    " new one; the log has the details under this operation id."
)

T = TypeVar("T")
P = ParamSpec("P")

_log = logging.getLogger("rotation")


@dataclass(frozen=True, slots=True)
class Call:
    """An HTTP request of somebody who may send it, and the app that answers."""

    req: func.HttpRequest
    rotation: "App"
    trace_parent: str | None


async def _guarded(work: Awaitable[T], what: str) -> T | None:
    """What the work gives, None where a bug stopped it.

    The doors to the outside need it: Event Grid's failed deliveries carry the text of the exception, and
    delay every other one; an HTTP client would get an empty 500 without an id to ask for.
    """
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - at the two doors; the log has what nobody outside may see
        from rotation.model import trace

        _log.error("%s failed: %s", what, trace(error))
        return None


def _of_a_report(work: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Work on a report that is kept in the ledger, where it makes sense.

    Another version of the app, or whoever can write the ledger, may have made it: no bug of ours.
    """

    @wraps(work)
    async def attempt(*args: P.args, **kwargs: P.kwargs) -> T:
        from rotation.model import trace
        from rotation.reconcile import LedgerUnavailableError

        try:
            return await work(*args, **kwargs)
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            _log.error("%s: the report in the ledger makes no sense: %s", work.__name__, trace(error))
            raise LedgerUnavailableError(SENSELESS) from error

    return attempt


def _refusal(req: func.HttpRequest) -> "Problem | None":
    """Why this person may not do this, where people sign in."""
    from rotation import api

    principal = req.headers.get("x-ms-client-principal")
    return api.refuse_entry(req.method, principal, req.headers.get("sec-fetch-site")) if SIGN_IN else None


def _caller(req: func.HttpRequest) -> str:
    """Who asks, for the record: a function key has no name."""
    from rotation import api

    return api.caller(req.headers.get("x-ms-client-principal")) if SIGN_IN else "a function key"


def _record(req: func.HttpRequest, status_code: int, why: str) -> None:
    """A line for each request that was refused, whoever sent it; the host adds the operation id."""
    from rotation.model import clean

    place = clean(req.url.partition("://")[2].partition("/")[2].partition("?")[0], 120)
    _log.warning(
        "%s /%s by %s was refused: %d %s", clean(req.method, 10), place, _caller(req), status_code, why
    )


def _answered(
    work: "Callable[[Call], Awaitable[func.HttpResponse | Problem]]",
) -> "Callable[[func.HttpRequest, func.Context], Awaitable[func.HttpResponse]]":
    """What every HTTP function has in common: who may enter, and problems with an operation id."""

    async def answer(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
        from rotation.api import Problem
        from rotation.app import current
        from rotation.reconcile import LedgerUnavailableError
        from rotation.settings import Mistakes

        trace_parent = context.trace_context.trace_parent

        async def attempt() -> func.HttpResponse | Problem:
            if refusal := _refusal(req):
                return refusal
            rotation = current()
            if isinstance(rotation, Mistakes):
                return Problem(HTTPStatus.SERVICE_UNAVAILABLE, " ".join(rotation.sentences))
            try:
                return await work(Call(req, rotation, trace_parent))
            except LedgerUnavailableError as error:
                return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

        answered = await _guarded(attempt(), work.__name__)
        if answered is None:
            answered = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, BROKEN)
        if not isinstance(answered, Problem):
            return answered
        _record(req, answered.status, answered.detail)
        return _problem(answered, trace_parent)

    return answer


@app.function_name("on_certificate_event")
@app.event_grid_trigger(arg_name="event")
async def on_certificate_event(event: str, context: func.Context) -> None:
    """Key Vault announced something: look at the gateways that use the certificate, now.

    Always ends in success, or Event Grid would delay every other delivery: what is left undone here, the
    timer does. The event comes as text, because what the SDK cannot convert would fail before it is here.
    """
    await _guarded(_heed("An event", event, context), "on_certificate_event")


EVENT_QUEUE = event_queue()
if EVENT_QUEUE:

    @app.function_name("on_certificate_message")
    @app.queue_trigger(arg_name="message", queue_name=EVENT_QUEUE, connection="AzureWebJobsStorage")
    async def on_certificate_message(message: func.QueueMessage, context: func.Context) -> None:
        """The same through a queue, for an app without a public address that Event Grid could call."""
        from rotation.model import clean

        await _heed(f"Message {clean(message.id)}", message.get_body(), context)


async def _heed(what: str, text: str | bytes, context: func.Context) -> None:
    from rotation import events
    from rotation.app import current
    from rotation.model import Scope, clean
    from rotation.settings import Mistakes

    rotation = current()
    if isinstance(rotation, Mistakes):
        _log_mistakes(rotation)
        return
    try:
        event = events.from_json(text)
    except ValueError as error:
        _log.warning("%s is ignored: %s", what, error)
        return
    found = events.read(event, rotation.settings.cloud.vault_suffix, rotation.settings.vaults)
    if isinstance(found, events.Ignored):
        _log.warning("Event %s is ignored: %s", clean(event.id), found.why)
        return
    level = logging.INFO if found.occasion is events.Occasion.NEW_VERSION else logging.WARNING
    _log.log(level, "Event %s: %s of %s", clean(event.id), found.occasion, found.certificate)
    try:
        report = await rotation.heed(Scope(certificate=found.certificate), context.trace_context.trace_parent)
    except TimeoutError:
        _log.error("%s: not done within the event's budget; the timer will do it", found.certificate)
        return
    if report is None:
        _log.info("%s: a pass that is about to begin looks at it", found.certificate)
    elif not report.gateways and not report.problems:
        _log.info("%s: no gateway in scope uses it", found.certificate)


async def _tick(timer: func.TimerRequest, context: func.Context, *, may_split: bool = False) -> list[str]:
    """Everything in scope: finds and mends what no event told, proves what was told.

    Returns what to put on the queue, in place of looking, where that is too much for one pass.
    """
    from rotation.app import current
    from rotation.model import Mode, Scope, Trigger
    from rotation.settings import Mistakes

    rotation = current()
    if isinstance(rotation, Mistakes):
        _log_mistakes(rotation)
        return []
    if timer.past_due:
        _log.warning("The timer is late")
    parts = await rotation.split() if may_split else []
    if not parts:
        await rotation.run(Scope(), Mode.REPAIR, Trigger.TIMER, context.trace_context.trace_parent)
    return parts


SHARD_QUEUE = shard_queue()
if SHARD_QUEUE:

    @app.function_name("check_drift")
    @app.timer_trigger(arg_name="timer", schedule=schedule())
    @app.queue_output(arg_name="shards", queue_name=SHARD_QUEUE, connection="AzureWebJobsStorage")
    async def check_drift(
        timer: func.TimerRequest,
        shards: func.Out[List[str]],  # noqa: UP006 - the worker does not take list[str] for several messages
        context: func.Context,
    ) -> None:
        """Everything in scope; a large fleet as shards, which Functions scales out over instances."""
        if parts := await _tick(timer, context, may_split=True):
            shards.set(parts)

    @app.function_name("check_shard")
    @app.queue_trigger(arg_name="message", queue_name=SHARD_QUEUE, connection="AzureWebJobsStorage")
    async def check_shard(message: func.QueueMessage, context: func.Context) -> None:
        """A part of everything. What is left undone here, the next tick asks for again."""
        from rotation import shards
        from rotation.app import current
        from rotation.model import clean
        from rotation.settings import Mistakes

        rotation = current()
        if isinstance(rotation, Mistakes):
            _log_mistakes(rotation)
            return
        try:
            part = shards.from_message(message.get_body())
        except ValueError as error:
            _log.warning("Message %s is ignored: %s", clean(message.id), clean(error))
            return
        try:
            report = await rotation.run_part(part, context.trace_context.trace_parent)
        except TimeoutError:
            _log.error("Run %s, %s: not done in its time; the next tick goes on", part.run_id, part.shard)
            return
        if isinstance(report, str):
            _log.warning("Message %s is ignored: %s", clean(message.id), report)

else:

    @app.function_name("check_drift")
    @app.timer_trigger(arg_name="timer", schedule=schedule())
    async def check_drift_alone(timer: func.TimerRequest, context: func.Context) -> None:
        """Everything in scope, in one pass."""
        await _tick(timer, context)


@app.function_name("resync")
@app.route(route="resync", methods=["POST"])
@_answered
async def resync(call: Call) -> "func.HttpResponse | Problem":
    """The same by hand: 202 with the report so far; what becomes of it is to be seen in /api/operations."""
    from rotation import api, report
    from rotation.model import Scope, Trigger, clean

    req, rotation = call.req, call.rotation
    asked = api.read_resync(
        req.headers.get("content-type", ""), req.get_body(), rotation.settings.cloud.vault_suffix
    )
    if isinstance(asked, api.Problem):
        return asked
    if asked.scope == Scope() and (refusal := await rotation.too_many()):
        return api.Problem(HTTPStatus.BAD_REQUEST, refusal)
    try:
        result = await rotation.run(
            asked.scope, asked.mode, Trigger.HAND, call.trace_parent, asked.overrides, asked_by=_caller(req)
        )
    except TimeoutError:
        detail = "Not done in time; the timer goes on with it. Look at /api/status."
        return api.Problem(HTTPStatus.GATEWAY_TIMEOUT, detail)
    if not result.gateways and asked.scope != Scope():
        detail = " ".join((f"No gateway in scope matches {clean(asked.scope)}.", *result.problems))
        return api.Problem(HTTPStatus.NOT_FOUND, detail)
    headers = {"Location": f"/api/operations/{result.run.run_id}", "Retry-After": RETRY_AFTER}
    return _json(report.to_json(result), HTTPStatus.ACCEPTED, headers)


@app.function_name("operation")
@app.route(route="operations/{id}", methods=["GET"])
@_answered
@_of_a_report
async def operation(call: Call) -> "func.HttpResponse | Problem":
    """What became of a run by hand: its report, and the present state of its gateways."""
    from rotation import api, report

    run_id = api.read_run_id(call.req.route_params.get("id"))
    if isinstance(run_id, api.Problem):
        return run_id
    world = call.rotation.world
    written = await world.ledger.operation(run_id)
    if written is None:
        detail = f"No run by hand {run_id} is kept; the newest 50 are."
        return api.Problem(HTTPStatus.NOT_FOUND, detail)
    rows = await world.ledger.read(report.gateways_of(written))
    body = report.operation(written, rows, world.now())
    return _fresh(call.req, body, {"Retry-After": RETRY_AFTER} if body["status"] == "running" else {})


@app.function_name("pause")
@app.route(route="pause", methods=["POST"])
@_answered
async def pause(call: Call) -> "func.HttpResponse | Problem":
    """The kill switch: from the next pass on nothing is synced, by whatever worker; verdicts go on."""
    from rotation import api

    content_type = call.req.headers.get("content-type", "")
    asked = api.read_pause(content_type, call.req.get_body(), call.rotation.world.now())
    return asked if isinstance(asked, api.Problem) else await _set_pause(call, asked)


@app.function_name("resume")
@app.route(route="resume", methods=["POST"])
@_answered
async def resume(call: Call) -> func.HttpResponse:
    """Turns the kill switch off."""
    return await _set_pause(call, None)


@app.function_name("status")
@app.route(route="status", methods=["GET"])
@_answered
@_of_a_report
async def status(call: Call) -> "func.HttpResponse | Problem":
    """The last report over everything, the kill switch, the rotations, and the settings in force."""
    from rotation import api

    query = api.read_query(call.req.params, api.STATUS_FILTERS)
    if isinstance(query, api.Problem):
        return query
    last, paused = await _told(call.rotation)
    shown, part = api.narrowed(last, query) if last else (None, None)
    return _fresh(call.req, {**_view(call.rotation, shown, paused), "page": part})


@app.function_name("page")
@app.route(route="page", methods=["GET"])
async def page(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """What /api/status tells, for people."""
    from rotation.web import page as web

    def refuse(status_code: HTTPStatus, sentences: tuple[str, ...]) -> func.HttpResponse:
        _record(req, status_code, " ".join(sentences))
        operation_id = _operation_id(context.trace_context.trace_parent)
        return _html(web.render_problem(status_code, sentences, operation_id, req.params), status_code)

    shown = await _guarded(_page(req, refuse), "page")
    return shown or refuse(HTTPStatus.INTERNAL_SERVER_ERROR, (BROKEN,))


async def _page(
    req: func.HttpRequest, refuse: Callable[[HTTPStatus, tuple[str, ...]], func.HttpResponse]
) -> func.HttpResponse:
    from rotation.app import current
    from rotation.reconcile import LedgerUnavailableError
    from rotation.settings import Mistakes

    if refusal := _refusal(req):
        return refuse(refusal.status, (refusal.detail,))
    rotation = current()
    if isinstance(rotation, Mistakes):
        return refuse(HTTPStatus.SERVICE_UNAVAILABLE, rotation.sentences)
    try:
        return await status_page(req, rotation)
    except LedgerUnavailableError as error:
        return refuse(HTTPStatus.SERVICE_UNAVAILABLE, (str(error),))


@_of_a_report
async def status_page(req: func.HttpRequest, rotation: "App") -> func.HttpResponse:
    """The page as of now, or 304 where the caller has it already."""
    from rotation.web import page as web

    view = _view(rotation, *await _told(rotation))
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


@app.function_name("gateway")
@app.route(route="gateways/{name}", methods=["GET"])
@_answered
@_of_a_report
async def gateway(call: Call) -> "func.HttpResponse | Problem":
    """All that is known of one gateway."""
    from rotation import report
    from rotation.api import Problem
    from rotation.model import clean

    world, name = call.rotation.world, call.req.route_params["name"].lower()
    last = await call.rotation.last_report()
    keys = [key for key in report.gateways_of(last) if key.rpartition("/")[2] == name]
    if last is None or not keys:
        detail = f"The last report over everything has no gateway {clean(name)}."
        return Problem(HTTPStatus.NOT_FOUND, detail)
    if len(keys) > 1:
        detail = f"{len(keys)} gateways have this name; ask GET /api/status?gateway= with an ARM id."
        return Problem(HTTPStatus.CONFLICT, detail)
    rows = await world.ledger.read(keys)
    return _fresh(call.req, report.gateway(last, rows[keys[0]], world.now()))


@app.function_name("rotations")
@app.route(route="rotations", methods=["GET"])
@_answered
@_of_a_report
async def rotations(call: Call) -> "func.HttpResponse | Problem":
    """The latest rotations of every gateway, with t0 to t4, from the ledger: not older than the last pass."""
    from rotation import api, report

    query = api.read_query(call.req.params, api.ROTATION_FILTERS)
    if isinstance(query, api.Problem):
        return query
    ledger = call.rotation.world.ledger
    rows = await ledger.read(await ledger.known())
    selected = query.select(report.rotations(rows.values(), await call.rotation.last_report()))
    shown, page = query.page(selected, "/api/rotations")
    return _fresh(call.req, {"rotations": shown, "page": page})


@app.function_name("openapi")
@app.route(route="openapi.json", methods=["GET"])
@_answered
async def openapi(call: Call) -> func.HttpResponse:
    """What this API is, for programs."""
    from rotation import app as composition

    return _fresh(call.req, json.loads(composition.openapi()))


@app.function_name("health")
@app.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - bound by the worker
    """Alive, and nothing more: whether all is well is in /api/status, for those with a key."""
    return func.HttpResponse("ok", mimetype="text/plain")


@app.function_name("unknown")
@app.route(route="{*path}")
@_answered
async def unknown(call: Call) -> "Problem":
    """Everywhere else: a problem in place of the host's empty 404, and 405 where the method is wrong.

    The host tries the routes in the order of the functions' names, so that this one must come last.
    """
    from rotation import api
    from rotation import app as composition

    path = f"/api/{call.req.route_params.get('path', '')}"
    return api.unknown_place(call.req.method, path, json.loads(composition.openapi()))


async def _set_pause(call: Call, wanted: "Pause | None") -> func.HttpResponse:
    from rotation import report

    await call.rotation.world.ledger.set_pause(wanted)
    done = f"paused: {wanted.reason}" if wanted else "resumed"
    _log.warning("All syncs are %s, by %s", done, _caller(call.req))
    return _json({"paused": report.pause_to_json(wanted)}, HTTPStatus.OK, {})


async def _told(rotation: "App") -> "tuple[Mapping[str, object] | None, Pause | None]":
    """What the ledger has for whoever asks: the last report over everything, and the kill switch."""
    return await rotation.last_report(), await rotation.world.ledger.paused()


def _view(rotation: "App", last: Mapping[str, object] | None, paused: "Pause | None") -> dict[str, object]:
    from rotation import report

    return {
        "settings": rotation.settings.to_json(),
        "paused": report.pause_to_json(paused),
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


def _fresh(
    req: func.HttpRequest, body: dict[str, object], headers: dict[str, str] | None = None
) -> func.HttpResponse:
    """The body with its validator, or 304 where the caller has it already."""
    from rotation import api

    tag = api.etag(json.dumps(body))
    headers = {**(headers or {}), "ETag": tag, "Cache-Control": "private, no-cache"}
    if api.is_known(req.headers.get("if-none-match"), tag):
        return func.HttpResponse(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return _json(body, HTTPStatus.OK, headers)


def _problem(problem: "Problem", trace_parent: str | None) -> func.HttpResponse:
    """Problem JSON; the operation id is the trace id, to be pasted into Application Insights."""
    body = problem.to_json(_operation_id(trace_parent))
    headers = {"Allow": problem.allow} if problem.allow else {}
    return func.HttpResponse(
        body, status_code=problem.status, headers=headers, mimetype="application/problem+json"
    )


def _operation_id(trace_parent: str | None) -> str:
    return "".join((trace_parent or "").split("-")[1:2])


def _log_mistakes(mistakes: "Mistakes") -> None:
    for sentence in mistakes.sentences:
        _log.error("Nothing is done until the settings are mended: %s", sentence)
