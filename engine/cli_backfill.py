"""The commands about repositories (``enqueue``, ``load``, ``car``, ``plc``); of `engine.cli`."""

from __future__ import annotations

import argparse
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.settings import Settings


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add them."""
    _enqueue_parser(commands)
    _load_parser(commands)
    _car_parser(commands)
    _actor_parser(commands)
    _plc_parser(commands)


def _enqueue_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    enqueue = commands.add_parser(
        "enqueue",
        help="fetch repositories, again or for the first time",
        description="Asks for repositories to be fetched from their hosts, whatever became of them "
        "before. The lister queues them within seconds, before those that were never fetched.",
    )
    enqueue.add_argument("did", nargs="*", metavar="DID", help="these")
    enqueue.add_argument("--csv", type=Path, metavar="FILE", help="those in its first column")
    enqueue.add_argument("--pds", metavar="HOST", help="all of a host, which is listed again")
    enqueue.add_argument(
        "--missing", action="store_true", help="all that failed and are not tried again"
    )
    enqueue.set_defaults(call=_enqueue)


def _load_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    load = commands.add_parser(
        "load",
        help="index repositories that are files",
        description="Proves every *.car of a folder as if a host had sent it, signature included, "
        "and appends it to the streams; running indexers write the rows. A file that is not whole, "
        "not signed by its DID's key, or older than what is indexed is named and left out. Running "
        "it again is harmless. Exit code 1: some were left out.",
    )
    load.add_argument("folder", type=Path, help="with folders in it, if it has any")
    load.set_defaults(call=_load)


def _actor_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    actor = commands.add_parser(
        "actor",
        help="what is known of an account, from where, since when",
        description="One line a fact, `section.field value`: the actor's row, how far its "
        "repository is applied, what is still to be looked up and why it failed last, whether it "
        "is to be deleted, what backfill knows of it, and which process writes it. Exit code 1: "
        "nothing is known.",
    )
    actor.add_argument("who", metavar="DID|HANDLE", help="whose")
    actor.add_argument("--json", action="store_true", help="for programs")
    actor.set_defaults(call=_actor)


def _car_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    car = commands.add_parser(
        "car",
        help="what is in a repository, and whether it is whole",
        description="Reads a repository's export, or fetches that of a DID from its host. Every "
        "hash, the commit and the whole tree are looked at with libipld and plain Python: a second "
        "opinion beside the extension that the pipeline uses. Exit code 1: something is wrong.",
    )
    car.add_argument("place", metavar="FILE|DID", help="a CAR file, or whose repository to fetch")
    car.add_argument("--tree", action="store_true", help="show every node of the tree")
    car.add_argument("--records", action="store_true", help="show every record as JSON")
    car.add_argument(
        "--verify", action="store_true", help="judge the signature by the DID's document"
    )
    car.add_argument("--key", metavar="DID_KEY", help="with --verify: by this key instead")
    car.set_defaults(call=_car)


def _plc_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    plc = commands.add_parser("plc", help="what is known of the directory of did:plc")
    actions = plc.add_subparsers(dest="action", required=True, metavar="ACTION")
    take = actions.add_parser(
        "import",
        help="take documents from a file of the directory's log",
        description="Reads operations as /export of the directory gives them: JSON lines, plain or "
        "gzip. Of each DID the last one counts, in whatever order they come. Cut off or run again, "
        "it goes on where it was; a file that has grown goes on at its old end. From the file's "
        "end on the identity role reads the directory's log by itself. Exit code 1: lines could "
        "not be read; they are named and left out.",
    )
    take.add_argument("file", metavar="FILE", help="- is the standard input")
    take.add_argument("--again", action="store_true", help="from the beginning, whatever is known")
    take.set_defaults(call=_plc_import)


def _settings(arguments: argparse.Namespace) -> Settings:
    from engine import settings

    return settings.load(arguments.config)


def database_settings(arguments: argparse.Namespace) -> Settings:
    """Settings of a command that needs no Redis."""
    from engine.runtime import services

    settings = _settings(arguments)
    return settings if settings.database_url else services.with_urls(settings)


def _enqueue(arguments: argparse.Namespace) -> int:
    import asyncio

    from engine.ops import enqueue

    asked = enqueue.asked(arguments.did, arguments.csv, arguments.pds, arguments.missing)
    print(f"{asyncio.run(enqueue.enqueue(database_settings(arguments), asked))} to fetch")
    return 0


def _load(arguments: argparse.Namespace) -> int:
    import asyncio

    from engine import log
    from engine.roles.backfiller import load
    from engine.runtime import services

    settings = services.with_urls(_settings(arguments))
    log.setup("load", settings.log_level)
    name = f"load@{socket.gethostname()}-{os.getpid()}"
    found = asyncio.run(load.run(settings, name, arguments.folder))
    for path, reason in found.refused:
        print(f"{path}: {reason}")
    print(
        f"{found.repositories} repositories, {found.records} records, {found.filtered} filtered, "
        f"{found.rejected} rejected; {len(found.refused)} files left out"
    )
    return 1 if found.refused else 0


def _car(arguments: argparse.Namespace) -> int:
    import asyncio

    from engine.ops import car

    wanted = car.Wanted(
        arguments.place, arguments.tree, arguments.records, arguments.verify, arguments.key
    )
    found = asyncio.run(car.inspect(_settings(arguments), wanted))
    for line in car.render(found, wanted):
        print(line)
    return car.exit_code(found)


def _plc_import(arguments: argparse.Namespace) -> int:
    import asyncio

    from engine import failpoints, log
    from engine.ops import plc_import

    settings = database_settings(arguments)
    log.setup("plc", settings.log_level)
    failpoints.arm(os.environ.get(failpoints.VARIABLE, ""), "plc_import")
    found = asyncio.run(plc_import.run(settings, arguments.file, again=arguments.again))
    progress, before = found.progress, found.before
    for line in found.named:
        print(line)
    print(
        f"{progress.lines - before.lines} lines, {progress.nullified - before.nullified} "
        f"nullified, {found.bad} bad; {before.lines} were imported before"
    )
    if progress.last_at is not None:
        went = "goes on there" if found.new_cursor else "stays where it was"
        print(f"up to {progress.last_at.isoformat()}; reading the directory's log {went}")
    return 1 if found.bad else 0


def _actor(arguments: argparse.Namespace) -> int:
    from engine.ops.actor_report import run

    return run(database_settings(arguments), arguments.who, json=arguments.json)
