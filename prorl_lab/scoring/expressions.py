"""Read arithmetic that a model wrote, without ever evaluating its text.

Python's own parser makes the tree; only the node kinds listed here may occur in it.  A text that passes `parse` can be
given to a scorer that would evaluate anything.
"""

import ast
import operator
import re
from fractions import Fraction

MAX_LENGTH = 2_000
MAX_EXPONENT = 1_000  # of a number or a numeric exponent: 9**9**9 has 370 million digits
_CHARACTERS = re.compile(r"[0-9A-Za-z+\-*/(). \n]*")
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


class NotAnExpression(ValueError):
    """The text is outside the grammar."""


def parse(text: str, names: frozenset[str] = frozenset(), functions: frozenset[str] = frozenset()) -> ast.expr:
    """The syntax tree of numbers, `names`, one-argument calls of `functions`, + - * / ** and parentheses.

    Raises NotAnExpression for anything else: other names, other characters, too much of it, exponents that would
    never finish.

    >>> ast.unparse(parse("(4 - 1) * 8"))
    '(4 - 1) * 8'
    """
    if len(text) > MAX_LENGTH or not _CHARACTERS.fullmatch(text):
        raise NotAnExpression("characters that no expression has, or too many")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree, names, functions)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NotAnExpression(str(error)) from error
    return tree


def _check(node: ast.expr, names: frozenset[str], functions: frozenset[str]) -> None:
    match node:
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            return
        case ast.Name(id=name) if name in names:
            return
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            _check(operand, names, functions)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            _check(left, names, functions)
            _check(right, names, functions)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            _check(left, names, functions)
            _check(right, names, functions)
            if _is_number(right) and abs(value(right)) > MAX_EXPONENT:
                raise NotAnExpression("an exponent out of bounds")
            if _is_number(left) and _is_number(right) and any(isinstance(n, ast.Pow) for n in ast.walk(left)):
                raise NotAnExpression("a power of a power")
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in functions:
            _check(argument, names, functions)
        case _:
            raise NotAnExpression(f"{type(node).__name__} is not arithmetic")


def _is_number(node: ast.expr) -> bool:
    return not any(isinstance(part, ast.Name) for part in ast.walk(node))


def value(node: ast.expr) -> Fraction:
    """The exact value of a tree of numbers and + - * /.  Raises NotAnExpression for others, or a division by zero."""
    match node:
        case ast.Constant(value=number):
            return Fraction(number)
        case ast.UnaryOp(op=sign, operand=operand):
            return -value(operand) if isinstance(sign, ast.USub) else value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            try:
                return _OPERATORS[type(op)](value(left), value(right))
            except ZeroDivisionError:
                raise NotAnExpression("a division by zero") from None
    raise NotAnExpression("not plain arithmetic")


def integers(node: ast.expr) -> list[int]:
    """The numbers a tree is made of.  Raises NotAnExpression if one is no integer.

    >>> integers(parse("4 * (3 + 3)"))
    [4, 3, 3]
    """
    found = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
    if not all(isinstance(number, int) for number in found):
        raise NotAnExpression("a number that is no integer")
    return found
