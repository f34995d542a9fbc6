"""The SQL of filters, for sqlglot: what LanceDB reads after WHERE by DataFusion's parser, and nothing else.

sqlglot has no dialect for DataFusion. This one knows only the keywords of an expression; every other word is the name
of a column, so that columns may be called `order`, `comment` or `year`, as they may be in LanceDB. Importing sqlglot
takes a tenth of a second, so `birder.collection.filter` imports this when there is a filter.
"""

from __future__ import annotations

import itertools
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
}

TOKENS = frozenset(
    [
        *_KEYWORDS.values(),
        *TYPES.values(),
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
    **dict.fromkeys([exp.Like, exp.ILike, exp.Is], _BINARY | {"negate"}),
    **dict.fromkeys([exp.Escape, exp.Dot], _BINARY),
    **dict.fromkeys([exp.Not, exp.Neg, exp.Paren, exp.Boolean], frozenset(["this"])),
    exp.Null: frozenset(),
    exp.Literal: frozenset(["this", "is_string"]),
    exp.Identifier: frozenset(["this", "quoted"]),
    exp.Column: frozenset(["this", "table", "db", "catalog"]),  # a.b.c.d: fields inside a column
    exp.Between: frozenset(["this", "low", "high", "negate"]),
    exp.In: frozenset(["this", "expressions", "negate"]),
    exp.Array: frozenset(["expressions"]),
    exp.Bracket: frozenset(["this", "expressions"]),
    exp.Anonymous: frozenset(["this", "expressions"]),  # any function but CAST
    exp.Cast: frozenset(["this", "to"]),
    exp.DataType: frozenset(["this"]),
}
"""The expressions that a filter may consist of, and the parts that each may have."""


class FilterTokenizer(Tokenizer):
    """Names are quoted by " or `, texts by '; within them, the quotation mark is doubled."""

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
    """A text that does not parse; `place` is the index of the character where it fails."""

    def __init__(self, what: str, place: int) -> None:
        super().__init__(what)
        self.place = place


def tokenize(text: str) -> list[Token]:
    """Split a text into tokens.

    The name of a type is one after AS and ::, and before a text (date '2024-05-01'); elsewhere it names a column.

    Raises
    ------
    FilterSyntaxError
        A quotation mark is not closed, or there is something else where a type must be.
    """
    try:
        tokens = _DIALECT.tokenize(text)
    except TokenError:
        place = _open_quote(text)
        what = "a comment" if text.startswith("/*", place) else "a quotation mark"
        raise FilterSyntaxError(f"{what} is not closed", place) from None
    for index, token in enumerate(tokens):
        is_cast = index > 0 and tokens[index - 1].token_type in (TokenType.ALIAS, TokenType.DCOLON)
        following = tokens[index + 1].token_type if index + 1 < len(tokens) else None
        if is_cast and (token.text.upper() not in TYPES or following is TokenType.L_BRACKET):
            raise FilterSyntaxError(f"not a type that values can be cast to ({', '.join(TYPES)})", token.start)
        if token.token_type is TokenType.VAR and (is_cast or following is TokenType.STRING):
            token.token_type = TYPES.get(token.text.upper(), TokenType.VAR)
    return tokens


def parse(text: str, tokens: list[Token]) -> exp.Expr:
    """Parse the tokens of a text as one expression. ARRAY[1, 2] is [1, 2].

    Raises
    ------
    FilterSyntaxError
        They are not an expression.
    """
    read = [
        token
        for token, following in itertools.zip_longest(tokens, tokens[1:])
        if not (_is_array(token) and following is not None and following.token_type is TokenType.L_BRACKET)
    ]
    most = 100 + 20 * len(tokens)  # nodes: should a form be left that sqlglot tries in exponentially many ways
    try:
        parser = _DIALECT.parser(error_message_context=len(text), max_nodes=most)
        tree = parser.parse_into(exp.Condition, read, text)[0]
    except ParseError as error:
        raise FilterSyntaxError("syntax error", len(str(error.errors[0]["start_context"]))) from None
    if tree is None:
        raise FilterSyntaxError("syntax error", 0)
    return tree


def _is_array(token: Token) -> bool:
    return token.token_type is TokenType.VAR and token.text.upper() == "ARRAY"


def _open_quote(text: str) -> int:
    """The position of the quotation mark that is not closed, or else of the comment."""
    quote, place = "", 0
    for index, char in enumerate(text):
        if not quote and char in "'\"`":
            quote, place = char, index
        elif char == quote:
            quote, place = "", index
    return place if quote else text.find("/*", place)
