"""ASP.NET route templates, as the table of what matches what."""

import pytest

from sandbox.host.routes import Route, RouteError

MATCHES: list[tuple[str, str, str, dict[str, str] | None]] = [
    ("a literal", "api/items", "/api/items", {}),
    ("a literal in another case", "api/items", "/API/Items", {}),
    ("a longer path", "api/items", "/api/items/1", None),
    ("a value", "api/{id}", "/api/a-b", {"id": "a-b"}),
    ("a value of another segment count", "api/{id}", "/api", None),
    ("a number", "api/{id:int}", "/api/-12", {"id": "-12"}),
    ("no number", "api/{id:int}", "/api/12a", None),
    ("an optional value that is there", "api/{id?}", "/api/1", {"id": "1"}),
    ("an optional value that is not", "api/{id?}", "/api", {}),
    ("an optional number that is none", "api/{id:int?}", "/api/x", None),
    ("the rest of the path", "api/{*rest}", "/api/a/b", {"rest": "a/b"}),
    ("no rest at all", "api/{*rest}", "/api", {}),
    ("a value inside a segment", "api/v{version}.json", "/api/v2.json", {"version": "2"}),
    ("a dot is a dot", "api/a.b", "/api/axb", None),
    (
        "a GUID",
        "{id:guid}",
        "/00000000-0000-0000-0000-00000000000f",
        {"id": "00000000-0000-0000-0000-00000000000f"},
    ),
]


@pytest.mark.parametrize(
    ("template", "path", "values"), [m[1:] for m in MATCHES], ids=[m[0] for m in MATCHES]
)
def test_a_template_matches_as_in_asp_net(template: str, path: str, values: dict[str, str] | None) -> None:
    """Proves literals, constraints, optional and catch-all parameters."""
    assert Route.parse(template).match(path) == values


def test_the_more_specific_template_is_tried_first() -> None:
    """Proves the order: literal, mixed, constrained, plain, catch-all."""
    shuffled = ["a/{*rest}", "a/{id:int}", "a/b", "a/{id}", "a/x{id}"]
    ordered = ["a/b", "a/x{id}", "a/{id:int}", "a/{id}", "a/{*rest}"]
    assert sorted(shuffled, key=lambda template: Route.parse(template).precedence) == ordered


@pytest.mark.parametrize("template", ["api/{id:range(1,2)}", "api/{id", "api/{id:weekday}"])
def test_a_template_this_host_cannot_read_is_refused(template: str) -> None:
    """Proves that an unknown constraint is not silently a match for everything."""
    with pytest.raises(RouteError):
        Route.parse(template)
