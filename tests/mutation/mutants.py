"""Small changes to a module, each of which a test should notice.

Not changed are message texts (f-strings with all that is in them, and strings of several words), docstrings,
types, decorators, imports and asserts.
"""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import CodeType
from typing import TypeVar

from rotation import model

ENUMS: dict[str, list[str]] = {
    name: list(kind.__members__)
    for name, kind in vars(model).items()
    if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not StrEnum
}
COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
CALCULATED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}
CALLED = {*OPPOSITES, "replace", "reversed", "sorted"}
TYPES = {"Callable", "dict", "list", "tuple"}
TEXT_METHODS = {"lower", "rstrip", "strip"}
ALONE_SAYS_NOTHING = (ast.Constant, ast.keyword, ast.comprehension)
LONGEST = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module with one change, in the function or constant that `name` begins with."""

    module: str
    name: str
    code: CodeType


Parents = dict[ast.AST, ast.AST]


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its source."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    seen: Counter[str] = Counter()
    for node in list(_code(tree)):
        where, in_function = _place(node, parents)
        if in_function and isinstance(node, ast.Tuple):
            continue
        shown = parents[node] if isinstance(node, ALONE_SAYS_NOTHING) else node
        before = _text(shown)
        for replacement in _changed(node):
            _put(parents[node], node, replacement)
            after = _text(replacement if shown is node else shown)
            code = compile(ast.fix_missing_locations(tree), f"rotation/{module}.py", "exec")
            _put(parents[node], replacement, node)
            if after == before:
                continue
            cut = _differing(before, after)
            name = f"{module}.{where}: `{cut[0]}` → `{cut[1]}`"
            seen[name] += 1
            yield Mutant(module, f"{name} ({seen[name]})" if seen[name] > 1 else name, code)


def _code(node: ast.AST, parent: ast.AST | None = None) -> Iterator[ast.AST]:
    """What may be changed, without what is left alone."""
    if isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert | ast.arg):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) in TYPES:
        return
    if parent is not None and not isinstance(node, ast.expr_context):
        yield node
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "type_params", "bases"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _code(child, node)


def _changed(node: ast.AST) -> Sequence[ast.AST]:  # noqa: PLR0911 - one for each kind of node
    """What a node can be replaced by."""
    match node:
        case ast.Compare(left, operators, others):
            return [
                ast.Compare(left, [*operators[:i], other(), *operators[i + 1 :]], others)
                for i, operator in enumerate(operators)
                for other in COMPARED[type(operator)]
            ]
        case ast.BoolOp(operator, values):
            swapped = ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
            return [swapped, *(_boolean(operator, _without(values, i)) for i in range(len(values)))]
        case ast.UnaryOp(ast.Not(), operand):
            return [operand]
        case ast.UnaryOp(ast.USub(), operand):
            return [operand]
        case ast.BinOp(left, operator, right) if type(operator) in CALCULATED:
            return [ast.BinOp(left, CALCULATED[type(operator)](), right)]
        case ast.IfExp(test, body, otherwise):
            return [body, otherwise, *([ast.IfExp(_not(test), body, otherwise)] if _plain(test) else [])]
        case ast.If(test, body, otherwise):
            return [*([ast.If(_not(test), body, otherwise)] if _plain(test) else []), _body(otherwise)]
        case ast.comprehension(target, source, conditions) if conditions:
            return [
                ast.comprehension(target, source, _without(conditions, i), 0) for i in range(len(conditions))
            ]
        case ast.Attribute(ast.Name(kind) as of, member) if member in ENUMS.get(kind, ()):
            members = ENUMS[kind]
            return [ast.Attribute(of, members[(members.index(member) + 1) % len(members)], ast.Load())]
        case _:
            return _changed_value(node)


def _changed_value(node: ast.AST) -> Sequence[ast.AST]:  # noqa: PLR0911 - one for each kind of node
    match node:
        case ast.Constant(bool() as value):
            return [ast.Constant(not value)]
        case ast.Constant(int() | float() as value):
            return [ast.Constant(value + 1), *([ast.Constant(value - 1)] if value else [])]
        case ast.Constant(str() as text) if not _message(text):
            return [ast.Constant(f"{text}X" if text else "X")]
        case ast.Call(ast.Name(name), arguments, keywords) if name in CALLED:
            other = (
                [ast.Call(ast.Name(OPPOSITES[name], ast.Load()), arguments, keywords)]
                if name in OPPOSITES
                else []
            )
            taken = [of for of in arguments[:1] if name in {"sorted", "reversed"}]
            fewer = [ast.Call(node.func, arguments, _without(keywords, i)) for i in range(len(keywords))]
            return [*other, *taken, *fewer]
        case ast.Call(ast.Attribute(of, method)) if method in TEXT_METHODS:
            return [of]
        case ast.Tuple(elements, ast.Load()) if len(elements) > 1:
            fewer_of = [ast.Tuple(_without(elements, i), ast.Load()) for i in range(len(elements))]
            turned = [ast.Tuple(_turned(elements, i), ast.Load()) for i in range(len(elements) - 1)]
            return [*fewer_of, *turned]
        case ast.Set(elements) if len(elements) > 1:
            return [ast.Set(_without(elements, i)) for i in range(len(elements))]
        case ast.Expr() | ast.AugAssign() | ast.Continue():
            return [ast.Pass()]
        case ast.Return(ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            return [ast.Return(None)]
        case _:
            return []


def _message(text: str) -> bool:
    """Words for a person, or what stands between them."""
    return " " in text and text != " "


def _plain(test: ast.expr) -> bool:
    """Whether a condition has no operator that is changed by itself."""
    return not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp)


def _not(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _body(statements: list[ast.stmt]) -> ast.stmt:
    return ast.If(ast.Constant(value=True), statements, []) if statements else ast.Pass()


def _boolean(operator: ast.boolop, values: list[ast.expr]) -> ast.expr:
    return ast.BoolOp(operator, values) if len(values) > 1 else values[0]


def _without(values: list[T], index: int) -> list[T]:
    return [*values[:index], *values[index + 1 :]]


def _turned(values: list[T], index: int) -> list[T]:
    return [*values[:index], values[index + 1], values[index], *values[index + 2 :]]


def _place(node: ast.AST, parents: Parents) -> tuple[str, bool]:
    """The names of the functions, classes or constant that a node is in, and whether it is a function."""
    names: list[str] = []
    in_function = False
    above = node
    while above in parents:
        above = parents[above]
        in_function |= isinstance(above, ast.FunctionDef)
        if isinstance(above, ast.FunctionDef | ast.ClassDef):
            names.append(above.name)
        elif isinstance(above, ast.Assign | ast.AnnAssign) and isinstance(parents[above], ast.Module):
            names.append(ast.unparse(above.targets[0] if isinstance(above, ast.Assign) else above.target))
    return ".".join(reversed(names)), in_function


def _text(node: ast.AST) -> str:
    shown = f"if {ast.unparse(node.test)}: …" if isinstance(node, ast.If) else ast.unparse(node)
    return " ".join(shown.split())


def _differing(before: str, after: str) -> tuple[str, str]:
    """Two texts, cut to where they differ."""
    if max(len(before), len(after)) <= LONGEST:
        return before, after
    same = next((n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
    start = max(0, before.rfind(" ", 0, max(0, same - LONGEST // 4)) + 1)
    return _cut(before, start), _cut(after, start)


def _cut(text: str, start: int) -> str:
    head, tail = "…" * bool(start), "…" * (len(text) > start + LONGEST)
    return head + text[start : start + LONGEST] + tail


def _put(parent: ast.AST, old: ast.AST, new: ast.AST) -> None:
    """Replace a child."""
    for name, value in ast.iter_fields(parent):
        if value is old:
            setattr(parent, name, new)
        elif isinstance(value, list) and any(child is old for child in value):
            setattr(parent, name, [new if child is old else child for child in value])
