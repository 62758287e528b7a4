"""Loads function_app.py and indexes its functions as the Python worker does, refusing what it refuses.

An app that only works in unit tests must not start here: the checks below are those of the worker's
functions.py, in its order. Bindings beside a trigger, an HTTP answer and messages put on a queue are not run
by this host, so their annotations are not looked at.
"""

import importlib
import inspect
import json
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Half of the SDK carries no annotations; Any keeps the strict type checker out of that half only.
_sdk: Any = importlib.import_module("azure.functions")

HTTP, TIMER, EVENT_GRID, QUEUE = "httpTrigger", "timerTrigger", "eventGridTrigger", "queueTrigger"
OUTPUT = "queue"
RUN_HERE = (
    HTTP,
    TIMER,
    EVENT_GRID,
    QUEUE,
)  # a new trigger type needs its name here and someone who invokes it


class IndexingError(Exception):
    """The app cannot be indexed: the real worker would refuse to start it."""


@dataclass(frozen=True, slots=True)
class Function:
    """One indexed function: what the host has to know to route to it and to call it."""

    name: str
    call: Callable[..., Any]
    raw_bindings: tuple[str, ...]
    trigger: Mapping[str, Any]
    parameter: str
    annotation: type | None
    wants_context: bool
    returns: str | None
    outputs: tuple[Mapping[str, Any], ...] = ()

    @property
    def kind(self) -> str:
        """The trigger type, as in the binding."""
        return str(self.trigger["type"])

    @property
    def is_async(self) -> bool:
        """Whether it runs on the event loop; an async function behind a sync decorator does not."""
        return inspect.iscoroutinefunction(self.call)

    @property
    def directory(self) -> str:
        """The folder of the file that defines it."""
        return str(Path(inspect.getfile(self.call)).parent)

    @property
    def disabled(self) -> bool:
        """Whether an app setting switches it off."""
        return os.environ.get(f"AzureWebJobs.{self.name}.Disabled", "").casefold() in {"1", "true"}

    @property
    def not_run(self) -> str | None:
        """Why this host will not run it, if so."""
        others = {json.loads(raw)["type"] for raw in self.raw_bindings} - {self.kind, "http", OUTPUT}
        if self.kind not in RUN_HERE:
            return f"not run by this host: {self.kind}"
        if others:
            return f"not run by this host: binding {', '.join(sorted(others))}"
        return None


def load(app_directory: Path) -> list[Function]:
    """Import function_app.py from the directory and index it.

    Raises:
        IndexingError: with the function and the cause, where the worker would refuse the app.
    """
    sys.path.insert(0, str(app_directory))
    if not (app_directory / "function_app.py").is_file():
        raise IndexingError(f"{app_directory} holds no function_app.py")
    try:
        module = importlib.import_module("function_app")
    except Exception as error:
        raise IndexingError(f"function_app.py cannot be imported: {type(error).__name__}: {error}") from error
    apps = [value for value in vars(module).values() if isinstance(value, _sdk.FunctionRegister)]
    if len(apps) != 1:
        raise IndexingError(f"function_app.py must define one FunctionApp at top level, it has {len(apps)}")
    try:
        built = apps[0].get_functions()
    except ValueError as error:  # two functions of one name, a function without a trigger
        raise IndexingError(str(error)) from error
    return [_index(function) for function in built]


def _index(built: Any) -> Function:
    name, call = built.get_function_name(), built.get_user_function()
    raw_bindings = tuple(built.get_raw_bindings())
    bindings = {binding["name"]: binding for binding in map(json.loads, raw_bindings)}
    returns = bindings.pop("$return", None)
    parameters = set(inspect.signature(call).parameters)
    try:
        annotations = typing.get_type_hints(call)
    except NameError as error:
        raise IndexingError(f"function {name!r}: {error} (imported only under TYPE_CHECKING?)") from error
    wants_context = "context" in parameters and "context" not in bindings
    if wants_context:
        parameters.remove("context")
        _check_context(name, annotations)
    _check_names(name, parameters, set(bindings))
    trigger = built.get_trigger().name
    _check_input(name, bindings[trigger], annotations)
    if returns is not None and "return" in annotations:
        _check_return(name, returns["type"], annotations["return"])
    outputs = tuple(binding for binding in bindings.values() if binding["type"] == OUTPUT)
    for output in outputs:
        _check_output(name, output["name"], annotations)
    return Function(
        name=name,
        call=call,
        raw_bindings=raw_bindings,
        trigger=bindings[trigger],
        parameter=trigger,
        annotation=annotations.get(trigger),
        wants_context=wants_context,
        returns=None if returns is None else returns["type"],
        outputs=outputs,
    )


def _check_context(name: str, annotations: Mapping[str, Any]) -> None:
    annotation = annotations.get("context")
    named_context = isinstance(annotation, type) and annotation.__name__ == "Context"
    if "context" in annotations and not named_context:
        raise IndexingError(f"function {name!r}: 'context' must be a func.Context, not {annotation!r}")


def _check_names(name: str, parameters: set[str], bound: set[str]) -> None:
    if unbound := parameters - bound:
        raise IndexingError(f"function {name!r}: parameters without a binding: {sorted(unbound)}")
    if extra := bound - parameters:
        raise IndexingError(f"function {name!r}: bindings without a parameter: {sorted(extra)}")


def _check_input(name: str, binding: Mapping[str, Any], annotations: Mapping[str, Any]) -> None:
    parameter, kind = binding["name"], binding["type"]
    if parameter not in annotations:
        return
    annotation = annotations[parameter]
    is_generic = typing.get_origin(annotation) is not None and isinstance(typing.get_origin(annotation), type)
    if _is_union(annotation) or not (isinstance(annotation, type) or is_generic):
        raise IndexingError(
            f"function {name!r}: {parameter!r} has invalid non-type annotation {annotation!r}"
        )
    if annotation in (str, bytes):
        return
    converter = _sdk.get_binding_registry().get(kind)
    if converter is not None and not (
        isinstance(annotation, type) and converter.check_input_type_annotation(annotation)
    ):
        raise IndexingError(f"function {name!r}: {kind} does not fit the annotation {annotation!r}")


def _check_return(name: str, kind: str, annotation: Any) -> None:
    if not isinstance(annotation, type):
        raise IndexingError(f"function {name!r}: invalid non-type return annotation {annotation!r}")
    converter = _sdk.get_binding_registry().get(kind)
    if converter is not None and not converter.check_output_type_annotation(annotation):
        raise IndexingError(f"function {name!r}: return annotation {annotation!r} does not fit {kind!r}")


def _check_output(name: str, parameter: str, annotations: Mapping[str, Any]) -> None:
    annotation = annotations.get(parameter)
    if annotation is None or typing.get_origin(annotation) is not _sdk.Out:
        raise IndexingError(f"function {name!r}: {parameter!r} must be a func.Out")
    (inner,) = typing.get_args(annotation)
    if not _sdk.get_binding_registry().get(OUTPUT).check_output_type_annotation(inner):
        raise IndexingError(f"function {name!r}: func.Out of {inner!r} does not fit {OUTPUT!r}")


def _is_union(annotation: object) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)
