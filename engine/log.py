"""Logs for grep and journald: one line of text a record, on stderr.

``2026-01-31T12:00:00.123Z INFO indexer/3 committed ops=512 seconds=0.041``: time in UTC, level,
process, message. The message begins with stable words; what varies follows as ``key=value``
(``fields`` writes them), so that one grep finds every line of a kind. Each role says in one line
every ten seconds what it did, and in one line that its state changed.
"""

from __future__ import annotations

import json
import logging
import sys
import time

from engine.errors import SettingsError

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


class LineFormatter(logging.Formatter):
    """Formats a record as one line; a traceback follows indented."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The record's line, without a newline at its end."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        # What a stranger's data put into a message must not look like another record.
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = (
            f"{moment}.{int(record.msecs):03d}Z {record.levelname} {self._process} "
            f"{message.translate(_CONTROLS)}"
        )
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "\n" + "\n".join("    " + part for part in trace.splitlines())
        return line


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127) if code != 9}


def level_for(text: str, role: str) -> int:
    """The level that ``LOG_LEVEL`` gives to a role: ``info``, ``indexer=debug``, or both.

    Raises:
        SettingsError: a word that is no level.
    """
    chosen = logging.INFO
    for_role: int | None = None
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, word = part.rpartition("=")
        level = _LEVELS.get(word.strip().lower())
        if level is None:
            raise SettingsError(
                f"LOG_LEVEL={text}: {word.strip() or part!r} is no level; "
                "use debug, info, warning, error or ROLE=LEVEL"
            )
        if not equals:
            chosen = level
        elif name.strip() == role:
            for_role = level
    return chosen if for_role is None else for_role


def setup(process: str, level: str) -> None:
    """Send this process' log to stderr.

    Args:
        process: its name in every line, for instance ``indexer/3``.
        level: the setting ``LOG_LEVEL``; the part of `process` before ``/`` is the role.
    """
    role = process.partition("/")[0]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("engine").setLevel(level_for(level, role))
    logging.captureWarnings(True)


def fields(**values: object) -> str:
    """``key=value key="two words"``: what varies in a message, in the order given."""
    return " ".join(f"{key}={_shown(value)}" for key, value in values.items())


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    if not text or any(char.isspace() or char in '"=' or not char.isprintable() for char in text):
        return json.dumps(text, ensure_ascii=False)
    return text
