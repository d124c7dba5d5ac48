from __future__ import annotations

import logging
import sys

import pytest

from engine import log
from engine.errors import SettingsError


def record(message: str, *args: object) -> logging.LogRecord:
    made = logging.LogRecord("engine.x", logging.INFO, __file__, 1, message, args, None)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    return made


def test_format_is_one_line_with_time_level_process_and_message() -> None:
    line = log.LineFormatter("indexer/3").format(record("committed %s", log.fields(ops=5)))
    assert line == "2023-11-14T22:13:20.250Z INFO indexer/3 committed ops=5"


def test_format_cannot_be_split_by_what_a_stranger_sent() -> None:
    line = log.LineFormatter("x").format(record("said %s", "a\nb\r\x1b[2Jc"))
    assert line.endswith("said a\\nb\\r\\x1b[2Jc")


def test_format_keeps_a_traceback_below_its_line() -> None:
    made = record("failed")
    try:
        raise ValueError("x")
    except ValueError:
        made.exc_info = sys.exc_info()
    first, *rest = log.LineFormatter("x").format(made).splitlines()
    assert first.endswith("failed")
    assert rest
    assert all(part.startswith("    ") for part in rest)


def test_fields_quotes_what_would_not_parse() -> None:
    assert log.fields(a=1, b="two words", c=0.12345, d="", e='q"=') == (
        'a=1 b="two words" c=0.123 d="" e="q\\"="'
    )


@pytest.mark.parametrize(
    ("text", "role", "level"),
    [
        ("info", "indexer", logging.INFO),
        ("DEBUG", "indexer", logging.DEBUG),
        ("indexer=debug", "indexer", logging.DEBUG),
        ("indexer=debug", "firehose", logging.INFO),
        ("warning,indexer=debug", "firehose", logging.WARNING),
        ("indexer=debug,warning", "indexer", logging.DEBUG),
        ("", "indexer", logging.INFO),
    ],
)
def test_level_for_role(text: str, role: str, level: int) -> None:
    assert log.level_for(text, role) == level


@pytest.mark.parametrize("text", ["verbose", "indexer=", "indexer=loud"])
def test_level_for_unknown_word_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="LOG_LEVEL"):
        log.level_for(text, "indexer")
