"""The least app there is: what a cold start cannot go below."""

import azure.functions as func

app = func.FunctionApp()


@app.route(route="hello")
def hello(req: func.HttpRequest) -> func.HttpResponse:  # noqa: ARG001 - bound by the worker
    """Say so."""
    return func.HttpResponse("hello")
