"""The ``headrace`` command: parses arguments and calls one function.

Every import of a command is inside its function, so that ``headrace --version``
and each role start without the rest.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine import cli_backfill
from engine.errors import HeadraceError

if TYPE_CHECKING:
    from engine.ops.status import Status
    from engine.settings import Loaded, Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        from engine.ops.version import describe

        print(describe())
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    try:
        code: int = arguments.call(arguments)
    except HeadraceError as error:
        print(f"headrace: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `headrace status | head`
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
        return 141
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headrace",
        description="Carries the AT Protocol firehose into an AppView's Postgres.",
        epilog="Settings: docs/SETTINGS.md. Exit codes: 0 done, 1 failed, 2 settings, 3 schema, "
        "4 a process fails again and again, 70 a bug.",
    )
    parser.add_argument("--version", action="store_true", help="version and commit")
    parser.add_argument("--config", metavar="FILE", help="TOML file of settings (HEADRACE_CONFIG)")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    up = commands.add_parser("up", help="run every role on this machine")
    up.add_argument("--until-caught-up", action="store_true", help="end once all is indexed")
    up.add_argument("--roles", metavar="A,B", help="only these roles (ROLES)")
    _host_argument(up)
    up.set_defaults(call=_up)

    run = commands.add_parser("run", help="run one process of one role")
    run.add_argument("role", help="firehose, lister, labels, indexer or identity")
    run.add_argument(
        "--slot", type=int, default=0, metavar="K", help="which of the role on this host, from 0"
    )
    _host_argument(run)
    run.add_argument("--core", type=int, metavar="C", help="pin to this core")
    run.set_defaults(call=_run)

    status = commands.add_parser("status", help="what is received and what is indexed")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(call=_status)

    streams = commands.add_parser("streams", help="each shard: length, position, lag, owner")
    streams.add_argument("--json", action="store_true", help="for programs")
    streams.set_defaults(call=_streams)
    label = commands.add_parser("label", help="what labelers say of a post, list or account")
    label.add_argument("uri", metavar="URI", help="an at-uri or a DID")
    label.add_argument("--json", action="store_true", help="for programs")
    label.set_defaults(call=_label)
    effective = commands.add_parser("settings", help="effective values and where each came from")
    effective.add_argument("--json", action="store_true", help="for programs")
    effective.set_defaults(call=_show_settings)

    demo = commands.add_parser("demo", help="a small network from nothing to rows")
    demo.add_argument("--data-dir", default=".data/demo", help="where it is kept, made anew")
    demo.add_argument("--keep", action="store_true", help="keep running when all is indexed")
    demo.set_defaults(call=_demo)

    cli_backfill.add_commands(commands)
    _schema_parser(commands)
    _reshard_parser(commands)
    _simulate_parser(commands)
    return parser


def _host_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--host",
        metavar="NAME",
        default=socket.gethostname(),
        help="what the deployment calls this host, unlike any other of it (its hostname)",
    )


def _schema_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    schema = commands.add_parser("schema", help="tables of the data plane and of our own")
    actions = schema.add_subparsers(dest="action", metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make all tables in an empty database")
    create.set_defaults(call=_schema_create)
    check = actions.add_parser("check", help="list what differs from what the engine needs")
    check.add_argument("--json", action="store_true", help="for programs")
    check.set_defaults(call=_schema_check)


def _reshard_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    reshard = commands.add_parser(
        "reshard",
        help="change the number of shards",
        description="Changes the number of shards of a deployment. Stop the firehose role first, "
        "keep the indexers running: they drain the streams, then the number changes in one "
        "transaction and they share the new shards. Start the firehose role again afterwards.",
    )
    reshard.add_argument("count", type=int, metavar="N", help="the new number of shards")
    reshard.add_argument(
        "--wait", type=float, default=600.0, metavar="SECONDS", help="for the streams to be drained"
    )
    reshard.set_defaults(call=_reshard)


def _simulate_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    simulate = commands.add_parser(
        "simulate",
        help="serve a recorded or a synthetic network on one port",
        description="Relay, hosts, labelers, PLC and handles of a network on one port. The network "
        "is a recording (FOLDER), or made out of a seed while it is served (--synthetic).",
        epilog="Faults in the frames, each every n-th commit: bad-signature, broken-chain, "
        "missing-block, wrong-cid, far-rev. Faults of the relay, for recordings too: drop and "
        "disconnect (every n-th frame), seq-restart (after each n frames), lag (in seconds).",
    )
    simulate.add_argument("folder", type=Path, nargs="?", help="a recorded network")
    simulate.add_argument("--synthetic", action="store_true", help="make a network, signed")
    simulate.add_argument("--seed", type=int, default=1, help="the same seed, the same network")
    simulate.add_argument("--accounts", type=int, help="how many")
    simulate.add_argument("--ops", type=int, help="record operations; without it, no end")
    simulate.add_argument("--record", metavar="FOLDER", type=Path, help="keep what is made")
    simulate.add_argument(
        "--fault", action="append", default=[], metavar="NAME=EVERY", help="see below"
    )
    simulate.add_argument("--host", default="127.0.0.1")
    simulate.add_argument("--port", type=int, default=0, help="0, the default: any free port")
    simulate.add_argument(
        "--rate", type=float, default=0.0, help="frames a second for a subscriber; 0: no limit"
    )
    simulate.add_argument(
        "--oldest-seq", type=int, default=0, help="frames before it are no longer served"
    )
    simulate.set_defaults(call=_simulate)

    generate = commands.add_parser("generate", help="make a network and do not serve it")
    generate.add_argument("folder", type=Path)
    generate.add_argument("--seed", type=int, default=1, help="the same seed, the same network")
    generate.add_argument("--accounts", type=int, help="how many; by default as OPS asks for")
    generate.add_argument("--ops", type=int, default=3000, help="record operations, at least")
    generate.add_argument(
        "--fault", action="append", default=[], metavar="NAME=EVERY", help="as of simulate"
    )
    generate.set_defaults(call=_generate)


def _settings(arguments: argparse.Namespace) -> Settings:
    return _loaded(arguments).settings


def _loaded(arguments: argparse.Namespace) -> Loaded:
    from engine import settings

    return settings.load_with_sources(arguments.config)


def _up(arguments: argparse.Namespace) -> int:
    from engine.runtime import supervisor

    roles = [role.strip() for role in (arguments.roles or "").split(",") if role.strip()]
    return supervisor.up(
        _loaded(arguments),
        config=arguments.config,
        roles=roles or None,
        until_caught_up=arguments.until_caught_up,
        host=arguments.host,
    )


def _run(arguments: argparse.Namespace) -> int:
    from engine.errors import SettingsError
    from engine.runtime import plan, worker

    role = plan.check_role(arguments.role)
    if arguments.slot < 0:
        raise SettingsError(f"--slot {arguments.slot}: slots count from 0")
    spec = plan.ProcessSpec(role, arguments.slot, arguments.core, arguments.host)
    return worker.main(spec, _loaded(arguments))


def _status(arguments: argparse.Namespace) -> int:
    from engine.ops import status

    found = _read_status(arguments)
    print(status.render_json(found).decode() if arguments.json else status.render_text(found))
    return 1 if found.errors else 0


def _streams(arguments: argparse.Namespace) -> int:
    from engine.ops import streams_report as report

    found = _read_status(arguments)
    print(report.render_json(found).decode() if arguments.json else report.render_text(found))
    return 1 if found.errors else 0


def _read_status(arguments: argparse.Namespace) -> Status:
    import asyncio

    from engine.ops.status_reader import StatusReader
    from engine.runtime import services

    settings = services.with_urls(_settings(arguments))

    async def read() -> Status:
        reader = StatusReader(settings)
        try:
            return await reader.collect()
        finally:
            await reader.close()

    return asyncio.run(read())


def _label(arguments: argparse.Namespace) -> int:
    from engine.ops.label_report import run

    settings = cli_backfill.database_settings(arguments)
    return run(settings, arguments.uri, json=arguments.json)


def _show_settings(arguments: argparse.Namespace) -> int:
    from engine.ops import settings_report as report

    loaded = _loaded(arguments)
    print(report.render_json(loaded).decode() if arguments.json else report.render_text(loaded))
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from engine.runtime import demo

    return demo.run(Path(arguments.data_dir), keep=arguments.keep)


def _schema_create(arguments: argparse.Namespace) -> int:
    import asyncio

    from engine.ops import schema_commands

    return asyncio.run(schema_commands.create(cli_backfill.database_settings(arguments)))


def _schema_check(arguments: argparse.Namespace) -> int:
    import asyncio

    from engine.ops import schema_commands

    return asyncio.run(
        schema_commands.check(cli_backfill.database_settings(arguments), json=arguments.json)
    )


def _reshard(arguments: argparse.Namespace) -> int:
    import asyncio

    from engine import log
    from engine.errors import SettingsError
    from engine.ops import reshard
    from engine.runtime import services

    if not 1 <= arguments.count <= 4096:
        raise SettingsError(f"reshard {arguments.count}: from 1 to 4096 shards")
    settings = services.with_urls(_settings(arguments))
    log.setup("reshard", settings.log_level)
    before = asyncio.run(reshard.reshard(settings, arguments.count, wait_seconds=arguments.wait))
    print(f"{arguments.count} shards instead of {before}; start the firehose role again")
    return 0


def _generate(arguments: argparse.Namespace) -> int:
    from engine import simulate
    from engine.errors import SettingsError
    from engine.simulate import faults

    in_frames, in_serving = faults.parse(arguments.fault)
    if in_serving:
        raise SettingsError(f"{', '.join(in_serving)}: a fault of serving; give it to simulate")
    made = simulate.generate(
        arguments.folder,
        seed=arguments.seed,
        accounts=arguments.accounts,
        ops=arguments.ops,
        faults=in_frames,
    )
    print(" ".join(f"{name}={value}" for name, value in made.items()))
    return 0


def _simulate(arguments: argparse.Namespace) -> int:
    from engine import simulate
    from engine.errors import SettingsError

    if arguments.synthetic == (arguments.folder is not None):
        raise SettingsError("simulate needs either FOLDER or --synthetic")
    return simulate.run(
        arguments.folder,
        host=arguments.host,
        port=arguments.port,
        rate=arguments.rate,
        oldest_seq=arguments.oldest_seq,
        fault=arguments.fault,
        seed=arguments.seed,
        accounts=arguments.accounts,
        ops=arguments.ops,
        record=arguments.record,
    )
