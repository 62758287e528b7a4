"""A small Azure Functions host on loopback: it runs a real function_app.py without Core Tools and Docker.

It exists so that tests and the demo drive the app as Azure does: over HTTP, through the Event Grid webhook
and by timers. What it answers follows the published source of the Functions host (4.x) and of its Event Grid
and timer extensions.

Known gaps: bindings other than HTTP and storage queues, retry policies, schedule status in blobs, streaming
HTTP.

    python -m sandbox.host --app DIR     the command line                    __main__.py
    loading and indexing function_app    what the worker refuses is refused  index.py
    one invocation, end to end           context, log, decode, call, encode  invocation.py
    routes of HTTP functions             ASP.NET templates                   routes.py
    the listener                         HTTP functions, admin, home page    server.py, keys.py
    Event Grid deliveries                handshakes, one call per event      webhook.py
    storage queues                       batches, dequeue count, poison         queues.py, storage.py
    timers                               NCRONTAB, past due, one at a time   timers.py, clock.py
    the client side for tests and demo   FunctionsHost                       process.py
"""
