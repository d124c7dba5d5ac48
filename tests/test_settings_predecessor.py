"""What becomes of the variables of the pipeline that Headrace replaces."""

from __future__ import annotations

import pytest

from engine import settings
from engine.errors import SettingsError
from engine.settings import Loaded, predecessor
from engine.settings.predecessor import Fate

VALUES = {
    "REDIS_URL": "redis://redis:6379",
    "DATABASE_URL": "postgres://bsky@db/bsky",
    "PLC_URL": "https://plc.example",
    "METRICS_PORT": "9090",
    "RUST_LOG": "ingester=debug,rsky_ingester=debug",
    "INGESTER_RELAY_HOSTS": "https://relay1.us-east.bsky.network, relay1.us-west.bsky.network",
    "INGESTER_LABELER_HOSTS": "mod.bsky.app",
    "INGESTER_MODE": "firehose",
    "INGESTER_HIGH_WATER_MARK": "100000000",
    "INGESTER_BATCH_SIZE": "500",
    "INGESTER_BATCH_TIMEOUT_MS": "100",
    "BACKFILLER_SKIP_SIGNATURE_VERIFICATION": "True",
    "INDEXER_MODE": "stream",
    "INDEXER_STREAMS": "firehose_live,firehose_backfill",
    "INDEXER_BATCH_SIZE": "5000",
    "ENABLE_DID_RESOLUTION": "false",
}
"""Values as it had them; of a variable without an effect, any."""

HONOURED = {
    "REDIS_URL": "redis://redis:6379",
    "DATABASE_URL": "postgres://bsky@db/bsky",
    "PLC_URL": "https://plc.example",
    "METRICS_PORT": 9090,
    "INGESTER_RELAY_HOSTS": (
        "wss://relay1.us-east.bsky.network",
        "wss://relay1.us-west.bsky.network",
    ),
    "INGESTER_HIGH_WATER_MARK": 100_000_000,
    "INGESTER_BATCH_SIZE": 500,
    "INGESTER_BATCH_TIMEOUT_MS": 100,
    "INDEXER_BATCH_SIZE": 5000,
    "BACKFILLER_CONCURRENCY": 7,
    "BACKFILLER_BATCH_SIZE": 7,
    "BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK": 7,
    "BACKFILLER_HTTP_TIMEOUT_SECS": 7.0,
    "BACKFILLER_MAX_RETRIES": 7,
    "BACKFILLER_RETRY_INITIAL_BACKOFF_MS": 7,
    "BACKFILLER_RETRY_MAX_BACKOFF_MS": 7,
    "BACKFILLER_SKIP_SIGNATURE_VERIFICATION": True,
}

MAPPED = {
    "RUST_LOG": ("log_level", "firehose=debug,lister=debug,labels=debug"),
    "INGESTER_LABELER_HOSTS": ("labels.labelers", ("wss://mod.bsky.app",)),
    "INGESTER_MODE": ("roles", ("firehose", "backfiller", "labels", "indexer", "identity")),
    "INDEXER_MODE": (
        "roles",
        ("firehose", "lister", "backfiller", "labels", "indexer", "identity"),
    ),
    "ENABLE_DID_RESOLUTION": ("roles", ("firehose", "lister", "backfiller", "labels", "indexer")),
}


def load(**environ: str) -> Loaded:
    return settings.load_with_sources(environ=environ)


def value(loaded: Loaded, name: str) -> object:
    section, _, key = name.rpartition(".")
    return getattr(getattr(loaded.settings, section) if section else loaded.settings, key)


def test_every_variable_of_its_programs_is_in_the_table() -> None:
    assert len(predecessor.TABLE) == len(predecessor.NAMES) == 34
    assert {name for name in predecessor.NAMES if name.startswith("BACKFILLER_")} == {
        f"BACKFILLER_{rest}"
        for rest in (
            "BACKFILL_STREAM FIREHOSE_STREAM DLQ_STREAM GROUP CONSUMER CONCURRENCY BATCH_SIZE "
            "FIREHOSE_STREAM_HIGH_WATER_MARK HTTP_TIMEOUT_SECS MAX_RETRIES "
            "RETRY_INITIAL_BACKOFF_MS RETRY_MAX_BACKOFF_MS METRICS_PORT "
            "SKIP_SIGNATURE_VERIFICATION"
        ).split()
    }
    assert VALUES.keys() <= predecessor.NAMES


@pytest.mark.parametrize("variable", predecessor.TABLE, ids=lambda variable: variable.name)
def test_fate_of_each_variable(variable: predecessor.Variable) -> None:
    name = variable.name
    loaded = load(**{name: VALUES.get(name, "7")})
    said = [notice for notice in loaded.notices if notice.variable == name]
    if variable.fate == Fate.HONOURED:
        item = next(item for item in settings.declared() if item.variable == name)
        assert variable.target == item.name
        assert value(loaded, item.name) == HONOURED[name]
        assert loaded.sources[item.name] == "environment"
        assert said == []
    elif variable.fate == Fate.MAPPED:
        target, expected = MAPPED[name]
        assert variable.target == target
        assert value(loaded, target) == expected
        assert loaded.sources[target] == name
        assert [notice.warns for notice in said] == [False]
        assert f"read as {target.replace('.', '_').upper()}=" in said[0].text
    else:
        assert loaded.settings == settings.Settings()
        assert [notice.text for notice in said] == [f"{variable.fate}: {variable.reason}"]
        assert said[0].warns


def test_all_of_them_together_are_accepted_and_named_once() -> None:
    loaded = load(**{name: VALUES.get(name, "7") for name in predecessor.NAMES})
    named = [notice.variable for notice in loaded.notices]
    assert len(named) == len(set(named))
    silent = {variable.name for variable in predecessor.TABLE if variable.fate == Fate.HONOURED}
    assert set(named) == predecessor.NAMES - silent
    assert loaded.settings.roles == ("firehose", "backfiller", "indexer")
    assert loaded.sources["roles"] == "INGESTER_MODE and INDEXER_MODE and ENABLE_DID_RESOLUTION"


@pytest.mark.parametrize(
    ("ingester", "indexer", "resolution", "roles"),
    [
        ("all", "", "", "firehose,lister,backfiller,labels,indexer,identity"),
        ("", "all", "true", "firehose,lister,backfiller,labels,indexer,identity"),
        ("backfill", "", "", "lister,backfiller,labels,indexer,identity"),
        ("labeler", "stream", "false", "backfiller,labels,indexer"),
        ("firehose", "label", "True", "firehose,backfiller,labels"),
        ("firehose", "label", "true", "firehose,backfiller,labels,identity"),
    ],
)
def test_modes_choose_roles(ingester: str, indexer: str, resolution: str, roles: str) -> None:
    loaded = load(
        INGESTER_MODE=ingester, INDEXER_MODE=indexer, ENABLE_DID_RESOLUTION=resolution
    ).settings
    assert ",".join(loaded.roles) == roles


@pytest.mark.parametrize(
    "environ",
    [
        {"INGESTER_MODE": "live"},
        {"INDEXER_MODE": "streams"},
    ],
    ids=["ingester", "indexer"],
)
def test_modes_that_choose_nothing_are_refused(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="|".join(environ)):
        load(**environ)


def test_modes_that_leave_nothing_to_run_are_refused() -> None:
    environ = {"INGESTER_MODE": "labeler", "INDEXER_MODE": "stream"}
    with pytest.raises(SettingsError, match="leave no role"):
        predecessor.mapped(environ, ("firehose",))


def test_our_own_variable_wins_over_what_is_mapped() -> None:
    loaded = load(ROLES="identity", INGESTER_MODE="firehose", LOG_LEVEL="error", RUST_LOG="debug")
    assert loaded.settings.roles == ("identity",)
    assert loaded.settings.log_level == "error"
    texts = {notice.variable: notice.text for notice in loaded.notices}
    assert texts["INGESTER_MODE"] == "without effect: ROLES is set"
    assert texts["RUST_LOG"] == "without effect: LOG_LEVEL is set"


@pytest.mark.parametrize(
    ("directives", "level"),
    [
        ("ingester=info,rsky_ingester=info", "firehose=info,lister=info,labels=info"),
        ("info,rsky_backfiller=debug", "info,backfiller=debug"),
        ("rsky_indexer::stream=trace", "indexer=debug,identity=debug"),
        ("WARN", "warning"),
        ("off", "error"),
        ("hyper=debug,[span]=info,nonsense,,", ""),
    ],
)
def test_log_levels_are_translated(directives: str, level: str) -> None:
    assert predecessor.log_level(directives) == level
    assert load(RUST_LOG=directives).settings.log_level == (level or "info")
