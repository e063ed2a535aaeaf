"""Arithmetic expressions of a small grammar: draws, parses (by recursive descent) and evaluates them, without `eval`.

    S -> S + T | S * T | S / T | T        T -> ( S ) | sin( S ) | exp( S ) | x | 1 | 2 | 3

Which strings belong to the language the grammar says; their values follow the usual precedence of * and / over +, as
the published code has it, which hands them to Python. Source: Kusner et al. (2017), arXiv:1703.01925, sec. 4.1.
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from lso.vae.errors import UsageError

TOKEN = re.compile(r"\s*(?:(sin|exp)\s*(?=\()|([()+*/x123])|(\S))")
OPERATORS = ("+", "*", "/")
FUNCTIONS = ("sin", "exp")
CONSTANTS = ("1", "2", "3")
MAX_TOKENS = 500  # tokens; of more an expression counts as unreadable, as of deeper brackets
MAX_DEPTH = 50
WORDS = ("(", ")", "*", "+", "/", "1", "2", "3", "exp(", "sin(", "x")  # as the data file writes them

Tree = Any  # "x", "1", or (operator or function, tree[, tree])


class _Unreadable(Exception):
    """The text is not of the grammar."""


def parse(text: str) -> Tree | None:
    """The tree of an expression, spaces or none between its tokens.

    Args:
        text: anything.
    Returns:
        Nested tuples ``(operator, left, right)`` or ``(function, argument)`` with leaves ``"x"``, ``"1"``, ``"2"``,
        ``"3"``; None where the text is not of the grammar, is longer than 500 tokens or nested deeper than 50.
    """
    tokens = _tokens(text)
    try:
        tree, end = _parse_sum(tokens, 0, 0)
    except _Unreadable:
        return None
    return tree if end == len(tokens) - 1 else None


def _tokens(text: str) -> list[str]:
    """Tokens, and an empty one at the end; the parser refuses tokens that are not of the grammar."""
    if len(text) > 8 * MAX_TOKENS:
        return ["?", ""]
    found = ["".join(match) for match in TOKEN.findall(text)]
    return [*found, ""] if len(found) <= MAX_TOKENS else ["?", ""]


def _parse_sum(tokens: Sequence[str], at: int, depth: int) -> tuple[Tree, int]:
    if depth > MAX_DEPTH:
        raise _Unreadable
    tree, at = _parse_product(tokens, at, depth)
    while tokens[at] == "+":
        right, at = _parse_product(tokens, at + 1, depth)
        tree = ("+", tree, right)
    return tree, at


def _parse_product(tokens: Sequence[str], at: int, depth: int) -> tuple[Tree, int]:
    tree, at = _parse_factor(tokens, at, depth)
    while (operator := tokens[at]) in ("*", "/"):
        right, at = _parse_factor(tokens, at + 1, depth)
        tree = (operator, tree, right)
    return tree, at


def _parse_factor(tokens: Sequence[str], at: int, depth: int) -> tuple[Tree, int]:
    token = tokens[at]
    if token == "x" or token in CONSTANTS:
        return token, at + 1
    function = token if token in FUNCTIONS else ""
    at += bool(function)
    if tokens[at] != "(":
        raise _Unreadable
    tree, at = _parse_sum(tokens, at + 1, depth + 1)
    if tokens[at] != ")":
        raise _Unreadable
    return ((function, tree) if function else tree), at + 1


class Evaluator:
    """Evaluates trees on given values of x, in double; values of the latest ``remember`` subtrees are cached."""

    def __init__(self, points: np.ndarray[Any, np.dtype[np.float64]], remember: int = 4096) -> None:
        self.points = points
        self._known = lru_cache(maxsize=remember)(self._values)

    def __call__(self, tree: Tree) -> Any:
        """``(n,)`` values of a tree, or one number if x does not occur; infinite on overflow, NaN where undefined."""
        if isinstance(tree, str):
            return self.points if tree == "x" else np.float64(tree)
        return self._known(tree)

    def _values(self, tree: Tree) -> Any:
        operator, *parts = tree
        values = [self(part) for part in parts]
        with np.errstate(all="ignore"):
            return _APPLY[operator](*values)


_APPLY: dict[str, Any] = {"+": np.add, "*": np.multiply, "/": np.divide, "sin": np.sin, "exp": np.exp}


@cache
def count_expressions(symbol: str, productions: int) -> int:
    """How many expressions of the grammar have exactly so many productions; the grammar is unambiguous."""
    if productions < 1:
        return 0
    if symbol == "T":
        leaves = 1 + len(CONSTANTS) if productions == 1 else 0
        return leaves + (1 + len(FUNCTIONS)) * count_expressions("S", productions - 1)
    return count_expressions("T", productions - 1) + len(OPERATORS) * _count_binary(productions)


def _count_binary(productions: int) -> int:
    """Ways to share the productions of S -> S o T among S and T."""
    return sum(
        count_expressions("S", left) * count_expressions("T", productions - 1 - left)
        for left in range(1, productions - 1)
    )


def draw_expressions(number: int, most: int, stream: np.random.RandomState) -> list[str]:
    """Distinct expressions, each drawn uniformly from all that have at most so many productions.

    Args:
        number: how many.
        most: productions, at most.
        stream: of numpy's frozen legacy generator, so that they are the same in every version.
    Returns:
        Texts with spaces between the tokens of `WORDS`, in the order drawn.
    Raises:
        UsageError: if there are not twice as many.
    """
    sizes = [count_expressions("S", productions) for productions in range(1, most + 1)]
    if sum(sizes) < 2 * number:
        raise UsageError(f"{number:,} distinct expressions of {sum(sizes):,}", "Allow more productions, or ask fewer.")
    shares = np.array(sizes, dtype=np.float64) / sum(sizes)
    expressions: dict[str, None] = {}
    while len(expressions) < number:
        productions = 1 + int(stream.choice(most, p=shares))
        expressions[" ".join(_derive("S", productions, stream))] = None
    return list(expressions)


def _derive(symbol: str, productions: int, stream: np.random.RandomState) -> list[str]:
    """The tokens of an expression drawn uniformly from those with exactly so many productions."""
    place = stream.random_sample() * count_expressions(symbol, productions)
    if symbol == "T":
        if productions == 1:
            return [("x", *CONSTANTS)[int(place)]]
        opening = ("(", "sin(", "exp(")[min(2, int(place / count_expressions("S", productions - 1)))]
        return [opening, *_derive("S", productions - 1, stream), ")"]
    if place < count_expressions("T", productions - 1):
        return _derive("T", productions - 1, stream)
    weights = [
        count_expressions("S", left) * count_expressions("T", productions - 1 - left)
        for left in range(1, productions - 1)
    ]
    left = 1 + int(stream.choice(len(weights), p=np.array(weights, dtype=np.float64) / sum(weights)))
    operator = OPERATORS[stream.randint(len(OPERATORS))]
    return [*_derive("S", left, stream), operator, *_derive("T", productions - 1 - left, stream)]
