"""Writes a function's body anew for a place where some of what it reads is known: partial evaluation.

`Meter.add` is ordinary Python for any request. Where a log's shape of record can only have some of a request's
fields, the rest of it is dead: what is left, `inlined`, counts a record without making a request of it.
"""

from __future__ import annotations

import ast
import linecache
import textwrap
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import takewhile
from typing import Any


def inlined(
    method: Callable[..., Any], first: str, known: Mapping[str, str], constants: Mapping[str, Any]
) -> list[str]:
    """Give the lines of a method's body from the statement `first` on.

    An attribute of the name `request` is the expression that `known` has for it, or `None`; one of `self` may be
    a constant; a `return` goes on with the next turn of the loop around.
    """
    return [*_inlined(method, first, tuple(known.items()), tuple(constants.items()))]


@lru_cache(maxsize=16)
def _inlined(
    method: Callable[..., Any],
    first: str,
    known: tuple[tuple[str, str], ...],
    constants: tuple[tuple[str, Any], ...],
) -> list[str]:
    tree = ast.parse(_source(method)).body[0]
    assert isinstance(tree, ast.FunctionDef)  # noqa: S101 - a method is one
    place = next(at for at, statement in enumerate(tree.body) if ast.unparse(statement) == first)
    folded = _Folder(dict(known), dict(constants)).block(tree.body[place:])
    module = ast.fix_missing_locations(ast.Module(body=folded, type_ignores=[]))
    return ast.unparse(module).splitlines()


def _source(method: Callable[..., Any]) -> str:
    """Give the text of a method; `inspect.getsource` reads every word of it first, which takes ten times as long."""
    lines = linecache.getlines(method.__code__.co_filename)[method.__code__.co_firstlineno - 1 :]
    indent = len(lines[0]) - len(lines[0].lstrip())
    body = takewhile(lambda line: not line.strip() or line[indent].isspace(), lines[1:])
    return textwrap.dedent(lines[0] + "".join(body))


class _Folder(ast.NodeTransformer):
    def __init__(self, known: Mapping[str, str], constants: Mapping[str, Any]) -> None:
        self._known, self._constants = known, constants
        self._nothing: set[str] = set()
        """Local names that are `None` here."""
        self._depth = 0

    def block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        """Fold statements, one after the other."""
        out: list[ast.stmt] = []
        for statement in statements:
            found = self.visit(statement)
            out += found if isinstance(found, list) else [found] if found is not None else []
        return out

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if isinstance(node.value, ast.Name):
            if node.value.id == "request":
                return ast.parse(self._known.get(node.attr, "None"), mode="eval").body
            if node.value.id == "self" and node.attr in self._constants:
                return ast.Constant(self._constants[node.attr])
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id in self._nothing:
            return ast.Constant(None)
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        target = node.targets[0]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = zip(target.elts, node.value.elts, strict=True)
            return self.block([ast.Assign([one], value) for one, value in pairs])
        node.value = self.visit(node.value)
        if len(node.targets) == 1 and isinstance(target, ast.Name):
            if isinstance(node.value, ast.Name) and node.value.id == target.id:
                return None
            if _is_constant(node.value, None) and not self._depth:
                self._nothing.add(target.id)
                return None
            self._nothing.discard(target.id)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        is_and = isinstance(node.op, ast.And)
        values: list[ast.expr] = []
        for value in node.values:
            folded = self.visit(value)
            if isinstance(folded, ast.Constant):
                if bool(folded.value) is not is_and:
                    # it decides: what comes after is never asked
                    values.append(folded)
                    break
                if value is not node.values[-1]:
                    continue
            values.append(folded)
        if len(values) == 1:
            return values[0]
        node.values = values
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        node.operand = self.visit(node.operand)
        if isinstance(node.op, ast.Not) and isinstance(node.operand, ast.Constant):
            return ast.Constant(not node.operand.value)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        node.left = self.visit(node.left)
        node.comparators = [self.visit(one) for one in node.comparators]
        right = node.comparators[0]
        if isinstance(node.ops[0], ast.Is) and _is_constant(right, ...):
            # a cell's price has been asked for
            return ast.Constant(False)
        if isinstance(node.ops[0], (ast.Is, ast.IsNot)) and isinstance(node.left, ast.Constant):
            is_same = _is_constant(right, None) and node.left.value is None
            return ast.Constant(is_same is isinstance(node.ops[0], ast.Is))
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        node.test = self.visit(node.test)
        if isinstance(node.test, ast.Constant):
            chosen: ast.expr = self.visit(node.body if node.test.value else node.orelse)
            return chosen
        node.body, node.orelse = self.visit(node.body), self.visit(node.orelse)
        return node

    def visit_If(self, node: ast.If) -> Any:
        node.test = self.visit(node.test)
        if isinstance(node.test, ast.Constant):
            return self.block(node.body if node.test.value else node.orelse)
        self._depth += 1
        node.body, node.orelse = self.block(node.body), self.block(node.orelse)
        self._depth -= 1
        if not node.body and not node.orelse:
            return None
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        return ast.Continue()


def _is_constant(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
