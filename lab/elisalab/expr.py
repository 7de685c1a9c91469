# SPDX-License-Identifier: BSD-3-Clause
"""Checks over captured values: a small, safe subset of Python expressions."""

import ast
import operator

_BINARY = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}
_COMPARE = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}
_UNARY = {ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos}
_CALLS = {"min": min, "max": max, "len": len, "sum": sum, "abs": abs, "round": round,
          "int": int, "float": float, "str": str, "sorted": sorted}


class ExprError(Exception):
    """The expression is not valid here, or uses a value that nothing captured."""


def evaluate(text: str, values: dict):
    """The value of an expression over names in values. Raises ExprError."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as e:
        raise ExprError(f"'{text}': {e.msg}") from e
    try:
        return _eval(tree.body, values)
    except ExprError as e:
        raise ExprError(f"'{text}': {e}") from e
    except (TypeError, ValueError, ZeroDivisionError, KeyError, IndexError) as e:
        raise ExprError(f"'{text}': {type(e).__name__}: {e}") from e


def _eval(node, values: dict):
    if isinstance(node, ast.Constant):
        if node.value is None or isinstance(node.value, (int, float, str)):
            return node.value
    elif isinstance(node, ast.Name):
        if node.id not in values:
            known = ", ".join(sorted(values)) or "none"
            raise ExprError(f"nothing captured '{node.id}' (captured so far: {known})")
        return values[node.id]
    elif isinstance(node, (ast.List, ast.Tuple)):
        return [_eval(n, values) for n in node.elts]
    elif isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        return _BINARY[type(node.op)](_eval(node.left, values), _eval(node.right, values))
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _UNARY[type(node.op)](_eval(node.operand, values))
    elif isinstance(node, ast.BoolOp):
        return _bool_op(node, values)
    elif isinstance(node, ast.Compare):
        return _compare(node, values)
    elif isinstance(node, ast.Subscript):
        return _eval(node.value, values)[_eval(node.slice, values)]
    elif isinstance(node, ast.IfExp):
        return _eval(node.body if _eval(node.test, values) else node.orelse, values)
    elif isinstance(node, ast.Call):
        return _call(node, values)
    raise ExprError(f"{type(node).__name__} is not allowed in a check")


def _bool_op(node, values: dict):
    result = None
    for part in node.values:
        result = _eval(part, values)
        if bool(result) == isinstance(node.op, ast.Or):
            break
    return result


def _compare(node, values: dict) -> bool:
    left = _eval(node.left, values)
    for op, right_node in zip(node.ops, node.comparators):
        if type(op) not in _COMPARE:
            raise ExprError(f"{type(op).__name__} is not allowed in a check")
        right = _eval(right_node, values)
        if not _COMPARE[type(op)](left, right):
            return False
        left = right
    return True


def _call(node, values: dict):
    if not isinstance(node.func, ast.Name) or node.func.id not in _CALLS or node.keywords:
        raise ExprError(f"only {', '.join(sorted(_CALLS))} may be called")
    return _CALLS[node.func.id](*[_eval(a, values) for a in node.args])
