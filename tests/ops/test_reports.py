"""`headrace settings` and `headrace streams`, as they are read."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from engine import cli, settings
from engine.ops import settings_report, streams_report
from engine.ops.status import Shard, Status, Stream

ENVIRON = {
    "DATABASE_URL": "postgres://me:hunter2@db/x",
    "REDIS_URL": "redis://cache?password=hunter2",
    "INGESTER_MODE": "firehose",
    "RUST_LOG": "warn",
    "BACKFILLER_GROUP": "g",
}


def test_settings_tell_value_and_source(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text("shard_count = 4\n")
    loaded = settings.load_with_sources(path, ENVIRON)
    lines = settings_report.render_text(loaded).splitlines()
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines}
    assert rows["SHARD_COUNT"] == ["4", f"file {path}"]
    assert rows["ROLES"] == [
        "firehose,backfiller,labels,indexer,identity",
        "INGESTER_MODE",
    ]
    assert rows["LOG_LEVEL"] == ["warning", "RUST_LOG"]
    assert rows["METRICS_PORT"] == ["4100", "default"]
    assert rows["NETWORK_ALLOW_PRIVATE"] == ["false", "default"]
    assert rows["DATABASE_URL"] == ["postgres://me:***@db/x", "environment"]
    assert any(line.startswith("BACKFILLER_GROUP: without effect") for line in lines)
    assert len(rows) >= len(list(settings.declared()))


def test_settings_show_no_password() -> None:
    loaded = settings.load_with_sources(environ=ENVIRON)
    assert "hunter2" not in settings_report.render_text(loaded)
    assert b"hunter2" not in settings_report.render_json(loaded)


def test_settings_as_json_have_types() -> None:
    document = orjson.loads(settings_report.render_json(settings.load_with_sources(environ={})))
    values = {item["name"]: item["value"] for item in document["settings"]}
    assert values["database_url"] is None
    assert values["metrics_port"] == 4100
    assert values["network.allow_private"] is False
    assert values["roles"] == []
    assert document["notices"] == []


def test_settings_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INDEXER_PROCESSES", "3")
    assert cli.main(["settings"]) == 0
    assert re.search(r"^INDEXER_PROCESSES +3 +environment$", capsys.readouterr().out, re.M)
    monkeypatch.setenv("INDEXER_PROCESSSES", "3")
    assert cli.main(["settings"]) == 2
    assert "did you mean INDEXER_PROCESSES?" in capsys.readouterr().err


def test_streams_have_a_line_a_shard_and_a_sum() -> None:
    late = Shard(
        entries=12,
        events=30,
        bytes=4000,
        last_id="9-0",
        committed_id="5-0",
        waiting=True,
        lag_entries=10,
        lag_seconds=2.5,
        progress_seconds=61.0,
        owner="indexer/0",
    )
    gone = Shard(committed_id="7-1", waiting=True)
    status = Status(
        streams={
            "firehose_live": Stream(
                events=30, bytes=4000, entries=12, shards={"10": gone, "2": late}
            )
        },
        errors=["Postgres: away"],
    )
    lines = streams_report.render_text(status).splitlines()
    assert [line.split() for line in lines[1:]] == [
        "firehose_live 2 30 4000 12 5-0 10 2.5 61.0 indexer/0".split(),
        "firehose_live 10 - - - 7-1 - - - -".split(),
        "firehose_live all 30 4000 12 10 2.5 61.0 1 owners".split(),
        "error: Postgres: away".split(),
    ]
    document = orjson.loads(streams_report.render_json(status))
    assert set(document) == {"at", "streams", "errors"}
    assert document["streams"]["firehose_live"]["shards"]["2"]["lag_entries"] == 10


def test_streams_command(
    database: str,
    redis_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("REDIS_URL", redis_url)
    assert cli.main(["streams"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 * (16 + 1), "live and fetched, each shard and the sum"
    assert lines[0].split()[:3] == ["source", "shard", "events"]
    assert cli.main(["streams", "--json"]) == 0
    streams = orjson.loads(capsys.readouterr().out)["streams"]
    assert set(streams) == {"firehose_live", "firehose_backfill"}
    for stream in streams.values():
        assert len(stream["shards"]) == 16
        assert all(shard["progress_seconds"] >= 0 for shard in stream["shards"].values())
