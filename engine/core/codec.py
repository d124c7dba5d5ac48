"""The only door to the extension: typed wrappers and what they promise.

Bytes go in, bytes and counts come out. Bad data from the network is a result, never an
exception; only misuse raises. The GIL is released while the extension works, except in
calls on a single short text.
"""

from __future__ import annotations

from pathlib import Path

from engine import _native

VERSION: str = _native.VERSION

REASONS: tuple[str, ...] = tuple(_native.REASONS)
"""The extension's reasons in wire order: what ``wire.Reason`` must equal."""

ENTRY_VERSION: int = _native.ENTRY_VERSION
"""The extension's entry version: what ``wire.VERSION`` must equal."""

FrameBatch = _native.FrameBatch
"""What became of a batch of frames; immutable.

``ops`` is what was received, in ops: ``filtered`` and ``rejected`` included; an identity,
account or sync event counts one, a rejected frame the ops that were readable in it (one at
least). ``counts`` splits it by ``create``, ``update``, ``delete``, ``identity``,
``account``, ``sync``, ``filtered`` and ``rejected``, and adds ``frames``, which is none of it.

``last_seq`` is the highest seq of the frames that had one, ``last_time`` the time of that
frame or, if it had no valid one, of the highest before it. ``notices`` are what the
relay says about itself: ``("info" | "error" | "unknown", name or message type, message)``.
``rejected`` lists the frames that became dead letters: index in the batch, reason
word, detail.

``entries()`` are all entries with their shard, in the order of the frames. ``weights()``
sums them for each touched shard, ascending: shard, entries, events (the ops carried,
but one at least for each entry), bytes of entries. ``xadd(stream)`` is the RESP of ``XADD
{stream}:{shard} NOMKSTREAM * event ENTRY`` for every entry, in the order of the frames.
"""

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


def decode_frames(
    frames: list[bytes], *, relay: str, generation: int, shards: int, allow: list[str]
) -> FrameBatch:
    """Read raw ``subscribeRepos`` messages, in order, into stream entries.

    Never raises for what is in a frame: bad frames become entries for the dead
    letters. Every CAR block is hashed against its CID. Records are neither decoded nor
    validated; ops outside of the allow-list are left out and counted.

    Args:
        frames: Whole websocket messages; copied into the entries, not kept.
        relay: Canonical host, which also places frames without a readable DID.
        generation: Of the relay's seq numbers.
        shards: How many shards there are.
        allow: Collections (``com.germnetwork.declaration``) and prefixes (``app.bsky.*``).

    Raises:
        ValueError: There are no shards.
    """
    return _native.decode_frames(
        frames, relay=relay, generation=generation, shards=shards, allow=allow
    )


LabelBatch = _native.LabelBatch
"""What became of a labeler's frames; immutable.

``ops`` counts the labels received, ``rejected`` those that became dead letters (reason -> count,
the first one's words), ``unverified`` those whose signature does not verify, by source. Sources in
``unknown`` nobody judged: nothing of the batch may then be used. The rest is as of `FrameBatch`.
"""

LabelRows = _native.LabelRows
"""The rows that entries of the labels' stream become; immutable.

``streams`` are host, generation, highest seq then held, labels by outcome, and how many of those
applied have no signature that was checked and good; ``sources`` pairs of a labeler's DID and the
place of its stream there. ``columns(without)`` are array literals of the rows
sorted by key (src, uri, cid, val, neg, cts, exp), without those of some sources; ``rows(of)`` are
the others, in the order in which they came, each with the place of its stream.
``letters`` are the labels that cannot be rows, each the place of its stream and the bytes to keep
of it; ``letter_columns(kept)`` the parameters of ``insert_dead_letters`` for some, by their places.
"""


def decode_labels(
    frames: list[bytes],
    *,
    host: str,
    generation: int,
    keys: dict[str, str | None],
    foreign: set[str],
    closed: bool,
    check: str,
) -> LabelBatch:
    """Read raw ``subscribeLabels`` messages, in order, into stream entries.

    Never raises for what is in a frame: labels are checked one by one against their lexicon, and
    against the key of the source that they name; what fails is carried for the dead letters.

    Args:
        frames: Whole websocket messages; copied into the entries, not kept.
        host: Canonical host of the labeler.
        generation: Of its seq numbers.
        keys: The ``did:key`` of each source whose labels may come, None where it has none.
        foreign: Sources whose labels may not.
        closed: Whether every other source is foreign, too; else it is ``unknown``.
        check: ``enforce``, ``count`` or ``off``.

    Raises:
        ValueError: There is no such check.
    """
    return _native.decode_labels(
        frames,
        host=host,
        generation=generation,
        keys=keys,
        foreign=foreign,
        closed=closed,
        check=check,
    )


def gather_labels(entries: list[bytes], held: dict[str, int]) -> LabelRows:
    """Read entries of the labels' stream, in order, into rows.

    Args:
        entries: As they are in the stream.
        held: The highest seq held of each ``host/generation``; labels up to it are duplicates.

    Raises:
        UnknownEnvelopeError: An unknown version, or bytes that are no entry.
    """
    return _native.gather_labels(entries, held)


def datetime_instant(text: str) -> tuple[int, int] | None:
    """Seconds since 1970 and nanoseconds of a record's datetime; None if it is none."""
    return _native.datetime_instant(text)


def record_json(record: bytes) -> bytes:
    """The JSON text of one DAG-CBOR record, byte for byte as ``record.json`` holds it.

    For tools and tests: the indexer prints records inside the extension.

    Raises:
        ValueError: Not DAG-CBOR, not a map, or with an integer beyond 2^53-1.
    """
    return _native.record_json(record)


def recode_entry(data: bytes) -> bytes:
    """Read a stream entry in the extension and write it again: a test of the mirror.

    Fields that a newer producer added are lost.

    Raises:
        ValueError: An unknown version, or bytes that are not an entry.
    """
    return _native.recode_entry(data)


def shard_of(did: str, shard_count: int) -> int:
    """The extension's mirror of ``streams.shard_of``."""
    return _native.shard_of(did, shard_count)


UnknownEnvelopeError = _native.UnknownEnvelopeError
"""An entry of another version, or bytes that are no entry: nothing of the batch was decoded."""

Plan = _native.Plan
"""The declarations and lexicons of one database, compiled; immutable.

``Plan(plan, lexicons)`` takes the documents of ``collections.declare.Plan.encode`` and
``lexicons.documents``; ``ValueError`` names what is wrong with them.

``decode(shards, now=...)`` reads what waits in some shards: per shard its number, the
highest seq already held of each ``host/generation``, entries in stream order, and whether more
waits in the stream. They are copied. What comes after the last entry of a shard where more waits
is left out, whatever its shard, so that batches follow one another in order of effect. ``now``,
in seconds since 1970, is the clock that judges revs and dates undated profiles. Raises
``UnknownEnvelopeError``; what is wrong with a record is an outcome.
"""

Batch = _native.Batch
"""Decoded entries in order of effect; immutable, so it can be folded again.

``ops`` is everything in it in the accounts' sense, repetitions included; ``entries`` counts
stream entries; ``weights()`` is what each shard's stream is relieved of: shard, entries (as many
from the first on are taken), events (the ops carried, one at least for each entry), bytes.

``known(trusting=...)`` begins to gather the rows that matter to it; what is known then goes to
``fold(known, voided)`` (``ValueError`` for another batch's). ``voided`` are ops that Postgres
refused, by number, with its words: they fold as if they had never been there.
"""

Fetched = _native.Fetched
"""Slices and closing entries of fetched repositories, in stream order; immutable.

``Plan.decode_fetched(shards, now=...)`` reads them like ``decode``, and all that it is given.
``ops``, ``entries`` and ``weights()`` are as a batch's. ``wanted()`` names what to look up about
their ranges; ``resolve(answers, before=...)`` is the `Batch` of what makes the database equal to
them, where ``before`` are changes that are still being written. ``blocked(before=...)`` says that
those must be written first. Ops of records are numbered alike whatever the answers are.
"""

Known = _native.Known
"""The rows that exist, of those that matter to one batch; learned in rounds, then only read.

``wanted()`` names what to look up now, with one array literal for each parameter, and is empty
when everything is known; the answers go to ``learn([(name, answer), ...])``, each the JSON text
that the look-up returned (``ValueError`` if it is none). If it is ``trusting``, a record is not
looked up where the protocol proves that it did not exist: its repository may lie, and Postgres
then refuses the row as one that exists.

``before`` are changes that are still being written: what they touch is taken from them, whichever
of the two states a look-up saw. Where that does not do, ``blocked`` is true, at once or after an
answer: they must be written first, and everything be learned anew.
"""

Changes = _native.Changes
"""What a batch changes; immutable.

``deletes()``, ``copies()`` and ``statements()`` are to be done in this order, in one transaction.

A delete or statement is its name (``collections.statements``) and its array literals. A copy
is a table, a complete binary COPY sorted by the primary key's bytes, and its rows.
``op_of(copy, line)`` is the op that wrote a line (from 1) of ``copies[copy]``, -1 if none;
``part(copy, first, count)`` a complete COPY of at most ``count`` of its lines, from ``first`` on.
``fetches()`` are the repositories that ``upsert_repos`` names and of which a snapshot was on its
way, with its fetch: what the statement answers must be the same.

``tally()`` says for each shard and ``host/generation`` the highest seq that is then held (None if
no entry had one), and the ops by outcome: ``applied``, ``duplicate``, ``filtered``,
``no_effect:WORD``, ``rejected:WORD``; over all it sums to the batch's ``ops``.
"""

Export = _native.Export
"""A repository export that is whole and consistent; `read_repo` makes it. Immutable.

``did``, ``rev`` (None in commits of version 2), ``version``, ``cid`` (of the commit), ``data``
(root of the tree), ``prev``, ``sig`` and ``signed`` (the bytes that ``sig`` signs) are the
commit's; ``length`` is in bytes. ``len()`` counts the records, ``nodes`` the blocks of the tree,
``blocks`` all different ones. ``leaves()`` copies every record: (key, CID, DAG-CBOR) in ascending
key order. ``signed_by(did_key)`` tells whether that key made the signature; a text that is no key
made none. CIDs are binary.

``slices(...)`` begins to cut it into stream entries, ``closing(fetch_id)`` is the entry that comes
after them; both raise ``ValueError`` for a commit without a rev.
"""

Slices = _native.Slices
"""The slices of an `Export`, made one by one in key order; an iterator for one caller.

Each is (events, entry): what it weighs against the high water mark, and a ``wire.Slice`` as
bytes. ``max_bytes`` bounds keys and blocks in one slice, ``max_records`` their number; a larger
record has a slice of its own, which goes to the dead letters if no commit could have carried it.
Records outside of ``collections`` (all, if empty) are not decoded or copied. An export without
records is one empty slice.

``records``, ``filtered`` and ``rejected`` count those of the slices made so far; after the last
they sum to the export's ``len()``. Raises ``OSError`` where the file was changed meanwhile.
"""

RepoFault = _native.RepoFault
"""Why bytes are not a repository or a tree: ``kind`` to count and act by, ``detail`` to read.

``incomplete`` is an export that was cut or lacks a block, where nothing present is wrong:
fetch it again. ``hash`` is a block that is not what its CID says. ``car``, ``commit`` and
``tree`` name the part that is malformed at its source.
"""


def read_repo(source: bytes | Path) -> Export | RepoFault:
    """Prove a whole ``getRepo`` response: hashes, commit, tree, and that every record is there.

    The signature is left to `Export.signed_by`, for the key comes from the DID document. Rules
    from the repository specification; blocks may come in any order, commits of version 2 are
    read too. The GIL is released.

    Args:
        source: The response, which the result keeps alive; or a file that holds it, which stays
            open with the result and is read again for its records. Of a file only the
            places of its blocks are held, 48 bytes each. It must not be changed meanwhile: that
            is noticed, since every block is hashed again.

    Raises:
        OSError: The file cannot be read, or was changed while it was.
    """
    return _native.read_repo(source)


def did_key(kind: str, multibase: str) -> str | None:
    """The ``did:key`` of a verification method, or None if it holds no key of the protocol.

    ``kind`` is the method's ``type``: ``Multikey``, or ``EcdsaSecp256k1VerificationKey2019`` and
    ``EcdsaSecp256r1VerificationKey2019``, whose ``publicKeyMultibase`` has no codec.
    """
    return _native.did_key(kind, multibase)


def verify_signature(key: str, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is that of ``message`` by the ``did:key`` given.

    It must be 64 bytes, ``r`` and ``s``, over the SHA-256, with a low ``s``. What is not a
    key verifies nothing.
    """
    return _native.verify_signature(key, message, signature)


def public_key(algorithm: str, secret: bytes) -> str:
    """The ``did:key`` of a 32-byte private key; ``algorithm`` is ``ES256K`` or ``ES256``.

    Raises:
        ValueError: Another algorithm, or bytes that are no private key of its curve.
    """
    return _native.public_key(algorithm, secret)


def sign(algorithm: str, secret: bytes, message: bytes) -> bytes:
    """Sign for a simulated repository: 64 bytes, low ``s``; ES256K always signs the same way.

    Raises:
        ValueError: As for `public_key`.
    """
    return _native.sign(algorithm, secret, message)


def build_mst(entries: list[tuple[str, bytes]]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The tree of (key, record CID) pairs: its root's CID, and (CID, block) of every node.

    Children come before their parents, so the root is last.

    Raises:
        ValueError: Keys not strictly ascending or not ``collection/record key``, or a bad CID.
    """
    return _native.build_mst(entries)


def mst_proof(
    root: bytes, blocks: list[tuple[bytes, bytes]], keys: list[str]
) -> list[bytes] | RepoFault:
    """The CIDs of the nodes that a commit on ``keys`` must carry for `invert_mst`.

    They are the paths to each key, or to where it would stand, and to its neighbours.
    """
    return _native.mst_proof(root, blocks, keys)


def invert_mst(
    root: bytes,
    blocks: list[tuple[bytes, bytes]],
    operations: list[tuple[str, bytes | None, bytes | None]],
) -> bytes | RepoFault:
    """The root before a commit, from its tree and its operations: compare it with ``prevData``.

    ``blocks`` need hold no more than the proof; others may be there and all are hashed.
    An operation is (key, CID after, CID before), None where there is no record; it must agree
    with the tree. A node that is missing is fault ``incomplete``.
    """
    return _native.invert_mst(root, blocks, operations)
