"""The words in which a collection says what it means in Postgres.

Declarations are data with two interpreters: ``native/src/plan.rs`` turns records
into rows, ``statements.py`` writes the SQL. Neither knows a collection by name
(a post alone has side rows that need code: ``native/src/post.rs``). Adding a plain
collection takes one declaration, one golden record and its lexicon.

Rules come from the reference's collection plug-ins; each declaration names only
what differs. Declarations are checked when they are made, so a wrong one stops
every process at import and not at a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from engine.core.wire import Reason


class Source(StrEnum):
    """Where the value of a column comes from."""

    URI = "uri"  # of the record
    CID = "cid"
    DID = "did"  # of the repository
    RKEY = "rkey"
    TIME = "time"  # of the event, verbatim
    REV = "rev"  # of the commit
    JSON = "json"  # the record's JSON text
    TEXT = "text"  # text at a path, NULL where absent
    DATETIME = "datetime"  # datetime at a path, re-printed in UTC with milliseconds
    TEXT_OR_NOW = "text_or_now"  # text at a path verbatim, the wall clock where absent
    BLOB = "blob"  # CID of the blob at a path, NULL where absent
    PLAIN_JSON = "plain_json"  # JSON.stringify of the value at a path, NULL where absent
    TEXTS = "texts"  # list of text at a path, NULL where absent or empty
    EMBED = "embed"  # filled by the row code of a post
    FOLD = "fold"  # made by the fold
    FLAG = "flag"  # judged by the fold, after the record's own columns


class Type(StrEnum):
    """Column types, as the catalogue prints them."""

    VARCHAR = "character varying"
    TEXT = "text"
    JSONB = "jsonb"
    VARCHARS = "character varying[]"
    TEXTS = "text[]"
    BOOLEAN = "boolean"


_PATH_SOURCES = {
    Source.TEXT,
    Source.DATETIME,
    Source.TEXT_OR_NOW,
    Source.BLOB,
    Source.PLAIN_JSON,
    Source.TEXTS,
}


_LIST_TYPES = {Type.JSONB, Type.VARCHARS, Type.TEXTS}


class Column(msgspec.Struct, frozen=True):
    """One column that COPY fills; columns that are not declared stay at their default."""

    name: str
    source: Source
    path: str = ""  # dotted, inside the record
    type: Type = Type.VARCHAR
    variants: tuple[Type, ...] = ()  # other types that operators' databases have

    def __post_init__(self) -> None:
        """Refuse a path where none is used, and none where one is."""
        if bool(self.path) != (self.source in _PATH_SOURCES):
            raise ValueError(f"column {self.name}: source {self.source} and path {self.path!r}")
        lists = (self.source is Source.TEXTS) != (self.type in _LIST_TYPES)
        flags = (self.source is Source.FLAG) != (self.type is Type.BOOLEAN)
        if lists or flags:
            raise ValueError(f"column {self.name}: {self.source} cannot be {self.type}")


def text(name: str, path: str | None = None) -> Column:
    """Text of the record; the path is the column's name unless given."""
    return Column(name, Source.TEXT, path or name)


def blob(name: str, path: str) -> Column:
    """The CID of a blob of the record."""
    return Column(name, Source.BLOB, path)


def plain_json(name: str) -> Column:
    """A value of the record as JSON text, in the reference's lossy form."""
    return Column(name, Source.PLAIN_JSON, name)


def texts(name: str) -> Column:
    """A list of text; ``jsonb`` in the reference's schema, an array in some databases."""
    return Column(name, Source.TEXTS, name, Type.JSONB, (Type.VARCHARS, Type.TEXTS))


def flag(name: str) -> Column:
    """A judgement about the record: true, false or NULL."""
    return Column(name, Source.FLAG, type=Type.BOOLEAN)


def record_key() -> tuple[Column, Column, Column]:
    """What every collection's row starts with."""
    return (
        Column("uri", Source.URI),
        Column("cid", Source.CID),
        Column("creator", Source.DID),
    )


CREATED_AT = Column("createdAt", Source.DATETIME, "createdAt")
INDEXED_AT = Column("indexedAt", Source.TIME)


class Table(msgspec.Struct, frozen=True):
    """A table and the columns of it that are written, in COPY order."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ("uri",)  # primary key: rows are copied in its order

    def __post_init__(self) -> None:
        """Refuse doubled columns and keys that are not columns."""
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"table {self.name}: a column twice")
        missing = [name for name in self.key if name not in names]
        if missing:
            raise ValueError(f"table {self.name}: key {missing} is no column")


class Belongs(msgspec.Struct, frozen=True):
    """A reference that must point into the record's own repository."""

    path: str
    reason: Reason  # of the rejection otherwise
    same_rkey: bool = False  # and must have the record's own rkey


class Count(msgspec.Struct, frozen=True):
    """A number that the rows of a collection add up to."""

    table: str  # post_agg or profile_agg
    column: str
    key: str  # column of the collection's unique key that names whose number it is


class Skip(StrEnum):
    """What is left unsaid when the recipient is the author."""

    NOTHING = "nothing"
    THIS = "this"
    ALL = "all"  # this notification, and those declared after it


class Notice(msgspec.Struct, frozen=True):
    """A notification that an inserted row makes."""

    reason: str
    path: str  # inside the record: an at-uri, whose host is told; or a DID
    about: bool = True  # the at-uri is the subject; False: a DID, and there is none
    own: Skip = Skip.NOTHING
    at_event: bool = False  # dated by the event, not by the earlier of event and record


class Notices(msgspec.Struct, frozen=True):
    """What a collection tells whom."""

    made: tuple[Notice, ...]
    stay: bool = False  # what was told stays told when the record goes
    undone: str | None = None  # reason of what the first recipient is told when the row goes


class Role(StrEnum):
    """Collections whose effects on other rows need code (``native/src/fold``)."""

    PLAIN = "plain"
    POST = "post"
    REPOST = "repost"
    THREADGATE = "threadgate"
    POSTGATE = "postgate"


class Embed(msgspec.Struct, frozen=True):
    """A side table of a post; ``kind`` is the word that ``native/src/post.rs`` knows."""

    kind: str
    table: Table


class Collection(msgspec.Struct, frozen=True):
    """What the records of one collection become, beside their row in ``record``."""

    nsid: str
    table: Table | None = None  # None: record only
    unique: tuple[str, ...] = ()  # columns of the unique key beyond the uri
    self_only: bool = False  # only rkey ``self`` has a row; other rkeys are record only
    validated: bool = True  # against its lexicon
    belongs: Belongs | None = None
    uris: tuple[str, ...] = ()  # paths to at-uris that every write takes apart
    # Paths to at-uris that only an inserted row takes apart, in order, ending at one whose
    # host is the repository itself: nobody is notified of his own doing.
    insert_uris: tuple[str, ...] = ()
    embeds: tuple[Embed, ...] = ()
    counts: tuple[Count, ...] = ()
    notices: Notices | None = None
    role: Role = Role.PLAIN

    def __post_init__(self) -> None:
        """Refuse keys that are not columns, and counts of what is not in the key."""
        names = [column.name for column in self.table.columns] if self.table else []
        missing = [name for name in self.unique if name not in names]
        if missing:
            raise ValueError(f"{self.nsid}: unique key {missing} is no column")
        strange = [count.key for count in self.counts if count.key not in self.unique]
        if strange:
            raise ValueError(f"{self.nsid}: counts by {strange}, which is not in the unique key")


def plain(
    nsid: str,
    table: str,
    *columns: Column,
    unique: tuple[str, ...] = (),
    self_only: bool = False,
    belongs: Belongs | None = None,
    insert_uris: tuple[str, ...] = (),
    counts: tuple[Count, ...] = (),
    notices: Notices | None = None,
    role: Role = Role.PLAIN,
) -> Collection:
    """A collection whose row is the record's key, these columns and the two times."""
    every = (*record_key(), *columns)
    if all(column.name != "createdAt" for column in columns):
        every = (*every, CREATED_AT)
    return Collection(
        nsid,
        Table(table, (*every, INDEXED_AT)),
        unique=unique,
        self_only=self_only,
        belongs=belongs,
        uris=(belongs.path,) if belongs else (),
        insert_uris=insert_uris,
        counts=counts,
        notices=notices,
        role=role,
    )


RECORD = Table(
    "record",
    (
        Column("uri", Source.URI),
        Column("cid", Source.CID),
        Column("did", Source.DID),
        Column("json", Source.JSON, type=Type.TEXT),
        Column("indexedAt", Source.TIME),
    ),
)
"""The generic row of every record. Some databases have a column ``rev`` beside these."""


DERIVED = (
    Table(
        "feed_item",
        tuple(
            Column(name, Source.FOLD)
            for name in ("uri", "cid", "type", "postUri", "originatorDid", "sortAt")
        ),
    ),
    Table(
        "quote",
        tuple(
            Column(name, Source.FOLD)
            for name in ("uri", "cid", "subject", "subjectCid", "createdAt", "indexedAt")
        ),
    ),
    Table(
        "duplicate_record",
        tuple(Column(name, Source.FOLD) for name in ("uri", "cid", "duplicateOf", "indexedAt")),
    ),
    Table(
        "notification",
        tuple(
            Column(name, Source.FOLD)
            for name in (
                "did", "author", "recordUri", "recordCid", "reason", "reasonSubject", "sortAt",
            )
        ),
        key=(),
    ),
)  # fmt: skip
"""Tables whose rows are made of several records; ``native/src/fold`` fills these columns."""


class Plan(msgspec.Struct, frozen=True):
    """Everything that the crate and the SQL need to know, for one database."""

    record: Table
    collections: tuple[Collection, ...]
    derived: tuple[Table, ...] = DERIVED
    gives_way: tuple[str, ...] = ()  # tables with a unique index that is not the reference's

    def encode(self) -> bytes:
        """The plan as the crate reads it."""
        return msgspec.json.encode(self)

    def tables(self) -> dict[str, Table]:
        """Every table of the plan by name, ``record`` first."""
        found = {self.record.name: self.record}
        for collection in self.collections:
            if collection.table:
                found[collection.table.name] = collection.table
            found.update((embed.table.name, embed.table) for embed in collection.embeds)
        found.update((table.name, table) for table in self.derived)
        return found


def _typed(table: Table, variants: Mapping[str, str | bool]) -> Table:
    columns = []
    for column in table.columns:
        found = variants.get(f"{table.name}.{column.name}", column.type)
        if found == column.type:
            columns.append(column)
        elif found in column.variants:
            columns.append(msgspec.structs.replace(column, type=Type(found)))
        else:
            raise ValueError(f"column {table.name}.{column.name} cannot be written as {found}")
    return msgspec.structs.replace(table, columns=tuple(columns))


def to_plan(collections: tuple[Collection, ...], variants: Mapping[str, str | bool]) -> Plan:
    """The plan for one database.

    Args:
        collections: the declarations.
        variants: what the database's catalogue says where databases differ:
            ``{"post.langs": "jsonb", "record.rev": False}``; types as the catalogue
            prints them, ``varchar[]`` also in short; ``"notification.unique": True`` where rows
            of ours may be refused. A missing key means the reference's schema.

    Raises:
        ValueError: a type that cannot be written.
    """
    longer = {
        key: value.replace("varchar", Type.VARCHAR.value) if isinstance(value, str) else value
        for key, value in variants.items()
    }
    record = RECORD
    if longer.get("record.rev"):
        columns = (*record.columns, Column("rev", Source.REV))
        record = msgspec.structs.replace(record, columns=columns)
    return Plan(
        record,
        tuple(
            msgspec.structs.replace(
                collection, table=collection.table and _typed(collection.table, longer)
            )
            for collection in collections
        ),
        gives_way=("notification",) if longer.get("notification.unique") else (),
    )
