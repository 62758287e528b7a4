"""ASP.NET route templates: which HTTP function a path belongs to, and with which route values."""

import re
from dataclasses import dataclass

_CONSTRAINTS = {
    "": "[^/]+",
    "int": r"-?\d+",
    "long": r"-?\d+",
    "alpha": "[A-Za-z]+",
    "bool": "(?:true|false)",
    "guid": "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
}
_PARAMETER = re.compile(r"\{(?P<rest>\*{0,2})(?P<name>\w+)(?::(?P<constraint>\w+))?(?P<optional>\?)?\}")


class RouteError(ValueError):
    """A template this host cannot read."""


@dataclass(frozen=True, slots=True)
class Route:
    """A compiled template; routes sort in the order in which ASP.NET tries them."""

    template: str
    pattern: re.Pattern[str]
    precedence: tuple[int, ...]

    @classmethod
    def parse(cls, template: str) -> "Route":
        """Compile a template such as `api/items/{id:int}/{rest?}`.

        Raises:
            RouteError: an unknown constraint, or braces that are no parameter.
        """
        segments = [segment for segment in template.split("/") if segment]
        pattern = "".join(_segment(segment) for segment in segments)
        precedence = tuple(_rank(segment) for segment in segments)
        return cls(template, re.compile(f"{pattern}/?", re.IGNORECASE), precedence)

    def match(self, path: str) -> dict[str, str] | None:
        """The route values if the path fits, without the optional ones that are absent."""
        found = self.pattern.fullmatch(path)
        return found and {name: value for name, value in found.groupdict().items() if value}


def _segment(segment: str) -> str:
    whole = _PARAMETER.fullmatch(segment)
    if whole and whole["rest"]:
        return f"(?:/(?P<{whole['name']}>.*))?"
    if whole and whole["optional"]:
        return f"(?:/{_group(whole)})?"
    pattern, end = "/", 0
    for parameter in _PARAMETER.finditer(segment):
        pattern += _literal(segment[end : parameter.start()]) + _group(parameter)
        end = parameter.end()
    return pattern + _literal(segment[end:])


def _group(parameter: re.Match[str]) -> str:
    constraint = parameter["constraint"] or ""
    if constraint not in _CONSTRAINTS:
        raise RouteError(f"route constraint {constraint!r} is not known to this host")
    return f"(?P<{parameter['name']}>{_CONSTRAINTS[constraint]})"


def _literal(text: str) -> str:
    if "{" in text or "}" in text:
        raise RouteError(f"route part {text!r} is not readable")
    return re.escape(text)


def _rank(segment: str) -> int:
    """Literals before mixed segments, those before constrained, plain and catch-all parameters."""
    whole = _PARAMETER.fullmatch(segment)
    if whole is None:
        return 2 if "{" in segment else 1
    if whole["rest"]:
        return 5
    return 3 if whole["constraint"] else 4
