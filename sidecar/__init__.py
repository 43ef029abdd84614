"""Watch what AI calls cost, how long they take and how they fail, from the logs that their clients write."""

from . import fields
from .compiled import compile_table
from .request import Memory, ParseError, Parser, Record, Request
from .table import Table

__all__ = [
    "Memory",
    "ParseError",
    "Parser",
    "Record",
    "Request",
    "Table",
    "compile_table",
    "fields",
]
