from __future__ import annotations

from pathlib import Path

import pytest

from engine import settings
from engine.errors import SettingsError


def load(**environ: str) -> settings.Settings:
    return settings.load(environ=environ)


def test_load_without_sources_gives_defaults() -> None:
    assert load() == settings.Settings()
    assert load().filter_collections == (
        "app.bsky.*",
        "chat.bsky.*",
        "com.germnetwork.declaration",
    )


@pytest.mark.parametrize("item", list(settings.declared()), ids=lambda item: item.variable)
def test_declared_default_passes_its_own_checks(item: settings.Declared) -> None:
    if item.default is None or item.default == "":
        return
    text = ",".join(item.default) if item.is_list else str(item.default)
    loaded = load(**{item.variable: text})
    holder = getattr(loaded, item.section) if item.section else loaded
    assert getattr(holder, item.key) == item.default
    assert item.description.endswith(".")


def test_variables_are_unique_and_all_there() -> None:
    names = [item.variable for item in settings.declared()]
    assert len(names) == len(set(names))
    for name in (
        "DATABASE_URL DATABASE_SCHEMA DATABASE_STATE_SCHEMA REDIS_URL REDIS_KEY_PREFIX DATA_DIR "
        "INGESTER_RELAY_HOSTS INGESTER_INITIAL_CURSOR PLC_URL IDENTITY_HANDLE_RESOLVER "
        "NETWORK_ALLOW_PRIVATE INDEXER_PROCESSES SHARD_COUNT METRICS_PORT FILTER_COLLECTIONS"
    ).split():
        assert name in names


def test_load_environment_wins_over_file_wins_over_default(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text('shard_count = 4\nplc_url = "http://a/"\n[indexer]\nprocesses = 2\n')
    loaded = settings.load_with_sources(path, {"SHARD_COUNT": "8", "PLC_URL": ""})
    assert loaded.settings.shard_count == 8
    assert loaded.settings.plc_url == "http://a"
    assert loaded.settings.indexer.processes == 2
    assert loaded.sources["shard_count"] == "environment"
    assert loaded.sources["plc_url"] == f"file {path}"
    assert loaded.sources["indexer.processes"] == f"file {path}"
    assert loaded.sources["indexer.batch_bytes"] == "default"


def test_load_takes_the_file_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text("shard_count = 4\n")
    assert load(HEADRACE_CONFIG=str(path)).shard_count == 4


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sharts = 1", "unknown sharts"),
        ("[ingester]\nrelay_host = 'x'", "unknown ingester.relay_host"),
        ("[nonsense]\na = 1", "unknown nonsense"),
        ("ingester = 1", "ingester is a section"),
        ("shard_count = '8'", "shard_count"),
        ("shard_count = 0", "shard_count"),
        ("[ingester]\nrelay_hosts = [1]", "ingester.relay_hosts"),
        ("a = = b", "headrace.toml"),
    ],
)
def test_load_file_with_a_mistake_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=named) as caught:
        settings.load(path, {})
    assert str(path) in str(caught.value)


def test_load_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        settings.load(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("METRICS_PORT", "65536"),
        ("METRICS_PORT", "http"),
        ("SHARD_COUNT", "0"),
        ("NETWORK_ALLOW_PRIVATE", "maybe"),
        ("INGESTER_INITIAL_CURSOR", "-1"),
        ("INGESTER_INITIAL_CURSOR", "newest"),
        ("INGESTER_INITIAL_CURSOR", "9223372036854775808"),
        ("INGESTER_RELAY_HOSTS", "ftp://relay"),
        ("INGESTER_RELAY_HOSTS", ","),
        ("INGESTER_RELAY_HOSTS", "ws://a,wss://a"),
        ("INGESTER_RELAY_HOSTS", "relay/path"),
        ("INGESTER_RELAY_HOSTS", "relay:port"),
        ("PLC_URL", "plc.directory"),
        ("REDIS_URL", "http://localhost"),
        ("FILTER_COLLECTIONS", "app.*.feed"),
        ("FILTER_COLLECTIONS", "app.bsky*"),
    ],
)
def test_load_impossible_value_names_variable_and_source(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable) as caught:
        load(**{variable: value})
    assert "environment" in str(caught.value)


def test_load_refused_secret_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        load(DATABASE_URL="mysql://user:hunter2@host/x")
    assert "hunter2" not in str(caught.value)


def test_load_ignores_other_programs_variables() -> None:
    assert load(PATH="/bin", INDEXER_UNHEARD_OF="1") == settings.Settings()


def test_relay_hosts_named_twice_alike_are_one() -> None:
    assert load(INGESTER_RELAY_HOSTS="a, https://A/ ,b").ingester.relay_hosts == (
        "wss://a",
        "wss://b",
    )
