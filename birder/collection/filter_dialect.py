"""The SQL of filters, for sqlglot: what LanceDB reads after WHERE by DataFusion's parser, and nothing else.

sqlglot has no dialect for DataFusion. This one knows only the keywords of an expression; every other word is the name
of a column, so that columns may be called `order`, `comment` or `year`, as they may be in LanceDB. Importing sqlglot
takes a tenth of a second, so `birder.collection.filter` imports this when there is a filter.
"""

from __future__ import annotations

from typing import Any, ClassVar

from sqlglot import Token, Tokenizer, TokenType, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ParseError, TokenError
from sqlglot.parser import Parser

__all__ = ["NODES", "TOKENS", "TYPES", "FilterSyntaxError", "Token", "TokenType", "exp", "parse", "tokenize"]

TYPES = {
    "BIGINT": TokenType.BIGINT,
    "BINARY": TokenType.BINARY,
    "BOOLEAN": TokenType.BOOLEAN,
    "DATE": TokenType.DATE,
    "DATETIME": TokenType.DATETIME,
    "DOUBLE": TokenType.DOUBLE,
    "FLOAT": TokenType.FLOAT,
    "INT": TokenType.INT,
    "INTEGER": TokenType.INT,
    "SMALLINT": TokenType.SMALLINT,
    "STRING": TokenType.TEXT,
    "TIMESTAMP": TokenType.TIMESTAMP,
    "TINYINT": TokenType.TINYINT,
}
"""The types that LanceDB casts to; those of integers may be followed by UNSIGNED."""

_KEYWORDS = {
    "AND": TokenType.AND,
    "ARRAY": TokenType.ARRAY,
    "AS": TokenType.ALIAS,
    "BETWEEN": TokenType.BETWEEN,
    "ESCAPE": TokenType.ESCAPE,
    "FALSE": TokenType.FALSE,
    "ILIKE": TokenType.ILIKE,
    "IN": TokenType.IN,
    "IS": TokenType.IS,
    "LIKE": TokenType.LIKE,
    "NOT": TokenType.NOT,
    "NULL": TokenType.NULL,
    "OR": TokenType.OR,
    "TRUE": TokenType.TRUE,
    "||": TokenType.DPIPE,
    "::": TokenType.DCOLON,
    "!=": TokenType.NEQ,
    "<>": TokenType.NEQ,
    "<=": TokenType.LTE,
    ">=": TokenType.GTE,
    "==": TokenType.EQ,
    **TYPES,
}

TOKENS = frozenset(
    [
        *_KEYWORDS.values(),
        *(TokenType.VAR, TokenType.IDENTIFIER, TokenType.STRING, TokenType.NUMBER),
        *(TokenType.L_PAREN, TokenType.R_PAREN, TokenType.L_BRACKET, TokenType.R_BRACKET),
        *(TokenType.COMMA, TokenType.DOT, TokenType.EQ, TokenType.LT, TokenType.GT),
        *(TokenType.PLUS, TokenType.DASH, TokenType.STAR, TokenType.SLASH, TokenType.MOD),
    ]
)
"""The kinds of tokens that a filter may have."""

_BINARY = frozenset(["this", "expression"])
NODES: dict[type[exp.Expr], frozenset[str]] = {
    **dict.fromkeys([exp.And, exp.Or, exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE], _BINARY),
    **dict.fromkeys([exp.Add, exp.Sub, exp.Mul, exp.Mod], _BINARY),
    **dict.fromkeys([exp.Div, exp.DPipe], _BINARY | {"typed", "safe"}),  # what sqlglot notes of its dialects
    **dict.fromkeys([exp.Like, exp.ILike, exp.Escape, exp.Is, exp.Dot], _BINARY),
    **dict.fromkeys([exp.Not, exp.Neg, exp.Paren, exp.Boolean], frozenset(["this"])),
    exp.Null: frozenset(),
    exp.Literal: frozenset(["this", "is_string"]),
    exp.Identifier: frozenset(["this", "quoted"]),
    exp.Column: frozenset(["this", "table", "db", "catalog"]),  # a.b.c.d: fields inside a column
    exp.Between: frozenset(["this", "low", "high"]),
    exp.In: frozenset(["this", "expressions"]),
    exp.Array: frozenset(["expressions"]),
    exp.Bracket: frozenset(["this", "expressions"]),
    exp.Anonymous: frozenset(["this", "expressions"]),  # any function but CAST
    exp.Cast: frozenset(["this", "to"]),
    exp.DataType: frozenset(["this"]),
}
"""The expressions that a filter may consist of, and the parts that each may have."""


class FilterTokenizer(Tokenizer):
    """Names stand between " or `, texts between '; inside a pair, its character is doubled."""

    IDENTIFIERS: ClassVar[list[str | tuple[str, str]]] = ['"', "`"]
    KEYWORDS: ClassVar[dict[str, TokenType]] = _KEYWORDS
    SINGLE_TOKENS: ClassVar[dict[str, TokenType]] = {**Tokenizer.SINGLE_TOKENS, "!": TokenType.UNKNOWN}


class FilterParser(Parser):
    """A function keeps the name it was called by; only CAST has a grammar of its own."""

    FUNCTIONS: ClassVar[dict[str, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {"CAST": Parser.FUNCTION_PARSERS["CAST"]}
    NO_PAREN_FUNCTIONS: ClassVar[dict[TokenType, Any]] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {}


class FilterDialect(Dialect):
    """An expression over the columns of one row."""

    Tokenizer = FilterTokenizer
    Parser = FilterParser


_DIALECT = FilterDialect()


class FilterSyntaxError(ValueError):
    """What is wrong with a text that does not parse; `place` is the index of the character where."""

    def __init__(self, what: str, place: int) -> None:
        super().__init__(what)
        self.place = place


def tokenize(text: str) -> list[Token]:
    """Split a text into tokens.

    Raises
    ------
    FilterSyntaxError
        A quotation mark is not closed.
    """
    try:
        return _DIALECT.tokenize(text)
    except TokenError:
        raise FilterSyntaxError("a quotation mark is not closed", _open_quote(text)) from None


def parse(text: str, tokens: list[Token]) -> exp.Expr:
    """Parse the tokens of a text as one expression.

    Raises
    ------
    FilterSyntaxError
        They are not an expression.
    """
    try:
        tree = _DIALECT.parser(error_message_context=len(text)).parse_into(exp.Condition, tokens, text)[0]
    except ParseError as error:
        raise FilterSyntaxError("syntax error", len(str(error.errors[0]["start_context"]))) from None
    if tree is None:
        raise FilterSyntaxError("syntax error", 0)
    return tree


def _open_quote(text: str) -> int:
    """Where the quotation mark stands that is not closed."""
    quote, place = "", 0
    for index, char in enumerate(text):
        if not quote and char in "'\"`":
            quote, place = char, index
        elif char == quote:
            quote = ""
    return place
