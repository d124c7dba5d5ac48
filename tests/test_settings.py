from __future__ import annotations

from pathlib import Path

import pytest

from engine import settings
from engine.errors import SettingsError
from engine.settings import advice


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


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (
            "indxer=debug",
            r"LOG_LEVEL = 'indxer=debug' .* no role: indxer \(did you mean indexer\?\)",
        ),
        (
            "info, x=debug,firehos=info",
            r"no role: x, firehos \(did you mean firehose\?\); there are",
        ),
    ],
)
def test_log_level_of_a_role_that_does_not_exist_is_refused(level: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(LOG_LEVEL=level)


@pytest.mark.parametrize("level", ["debug", "info, indexer = debug", "up=warning,lister=debug"])
def test_log_level_of_roles_is_kept_as_given(level: str) -> None:
    assert load(LOG_LEVEL=level).log_level == level


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
        ("[ingester]\nrelay_host = 'x'", r"relay_host \(did you mean ingester.relay_hosts\?\)"),
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
    assert load(PATH="/bin", PGHOST="x", MODE="y") == settings.Settings()


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("INGESTER_RELAY_HOST", "INGESTER_RELAY_HOST (did you mean INGESTER_RELAY_HOSTS?)"),
        ("INDEXER_PROCESES", "(did you mean INDEXER_PROCESSES?)"),
        ("BACKFILLER_CONCURENCY", "(did you mean BACKFILLER_CONCURRENCY?)"),
        ("IDENTITY_UNHEARD_OF", "IDENTITY_UNHEARD_OF;"),
        ("NETWORK_ALLOW_PRIVAT", "(did you mean NETWORK_ALLOW_PRIVATE?)"),
        ("LABELS_X", "LABELS_X;"),
        ("DB_POOL_SIZE", "(did you mean DB_POOL_MAX_SIZE?)"),
        ("HEADRACE_CONFG", "(did you mean HEADRACE_CONFIG?)"),
    ],
)
def test_load_variable_that_looks_like_a_setting_is_refused(variable: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**{variable: "1"})
    assert words in str(caught.value)


def test_load_names_every_strange_variable_at_once() -> None:
    with pytest.raises(SettingsError, match=r"INDEXER_A, INDEXER_B;"):
        load(INDEXER_B="", INDEXER_A="1")


def test_load_leaves_the_variables_of_kubernetes_services_alone() -> None:
    environ = {
        "INDEXER_SERVICE_HOST": "10.0.0.1",
        "INDEXER_SERVICE_PORT": "9090",
        "INDEXER_SERVICE_PORT_METRICS": "9090",
        "INDEXER_PORT": "tcp://10.0.0.1:9090",
        "INDEXER_PORT_9090_TCP": "tcp://10.0.0.1:9090",
        "INDEXER_PORT_9090_TCP_PROTO": "tcp",
        "INDEXER_PORT_9090_TCP_PORT": "9090",
        "INDEXER_PORT_9090_TCP_ADDR": "10.0.0.1",
        "HEADRACE_SERVICE_HOST": "10.0.0.2",
    }
    assert settings.load(environ=environ) == settings.Settings()


@pytest.mark.parametrize(
    ("value", "expected"),
    [("indexer, firehose", ("firehose", "indexer")), ("identity", ("identity",)), (" ", ())],
)
def test_roles_are_those_that_there_are(value: str, expected: tuple[str, ...]) -> None:
    assert load(ROLES=value).roles == expected


@pytest.mark.parametrize(("value", "word"), [("x", "no role"), ("indexers", "no role")])
def test_roles_that_are_not_there_are_refused(value: str, word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        load(ROLES=value)


def warned(**environ: str) -> dict[str, str]:
    loaded = settings.load_with_sources(environ=environ)
    return {notice.variable: notice.text for notice in loaded.notices if notice.warns}


def test_low_mark_and_small_batch_are_warned_of() -> None:
    assert warned(INGESTER_HIGH_WATER_MARK="10000", INDEXER_BATCH_SIZE="1000") == {}
    said = warned(INGESTER_HIGH_WATER_MARK="9999", INDEXER_BATCH_SIZE="10")
    assert "9999 events" in said["INGESTER_HIGH_WATER_MARK"]
    assert "at most 10 entries" in said["INDEXER_BATCH_SIZE"]


def test_marks_that_redis_has_no_memory_for_are_named() -> None:
    default = settings.Settings()
    assert advice.memory_notice(default, 0) is None
    assert advice.memory_notice(default, 768 << 20) is None
    notice = advice.memory_notice(default, (768 << 20) - 1)
    assert notice is not None
    assert notice.warns
    assert "maxmemory is 805306367" in notice.text


def test_relay_hosts_named_twice_alike_are_one() -> None:
    assert load(INGESTER_RELAY_HOSTS="a, https://A/ ,b").ingester.relay_hosts == (
        "wss://a",
        "wss://b",
    )
