"""The only door to the extension: typed wrappers and what they promise.

Bytes go in, bytes and counts come out. Bad data from the network is a result, never an
exception; only misuse raises. The GIL is released while the extension works, except in
calls on a single short text.
"""

from __future__ import annotations

from engine import _native

VERSION: str = _native.VERSION

Lexicons = _native.Lexicons
"""A compiled, immutable set of lexicon documents.

``Lexicons(documents)`` takes a JSON array of documents, each reference of which must lead
to one of them; ``ValueError`` names the document and what is wrong with it.
``record_types`` are the NSIDs that ``validate(collection, record)`` knows. ``validate``
takes the record's DAG-CBOR and returns None, or what is wrong and where:
``invalid datetime at $.createdAt (got "yesterday")``. Undecodable bytes are wrong too.
"""


def check_syntax(format: str, text: str) -> bool:
    """Whether ``text`` has a string format of the lexicon language, in strict mode.

    The formats are ``at-identifier``, ``at-uri``, ``cid``, ``datetime``, ``did``,
    ``handle``, ``language``, ``nsid``, ``record-key``, ``tid`` and ``uri``.

    Raises:
        ValueError: Another format is named.
    """
    return _native.check_syntax(format, text)


def normalize_datetime(text: str) -> str | None:
    """A record's datetime as ``createdAt`` columns hold it, or None if it is none.

    That is UTC with exactly three digits of fraction, truncated, and ``Z``; a day that
    its month does not have rolls over into the next one.
    """
    return _native.normalize_datetime(text)
