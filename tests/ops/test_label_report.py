"""`headrace label`: what is known of a subject, and where from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from engine import simulate
from engine.ops import label_report
from engine.simulate.repository import Plain
from tests.fix_labels import CID, CTS, POST, Work, World, at_work, did, settings_for


async def test_a_report_says_what_is_known_of_a_subject_and_from_where(
    database: str, redis_url: str
) -> None:
    world = World(2)
    world.say(world.label(POST, cid=CID), of=0)
    world.say(world.label(POST, of=1, neg=True, exp="2100-01-01T00:00:00Z"), of=1)
    world.publish(world.labelers[1].message([world.label(POST, "v" * 129, of=1)]), of=1)
    insert = "INSERT INTO label VALUES ('did:plc:other', $1, '', 'old', false, $2, NULL)"
    async with (
        simulate.serve(world.network) as server,
        at_work(settings_for(server, database, redis_url)) as work,
    ):
        await work.conn.execute(insert, POST, CTS)
        await work.until("a dead letter", work.letters)
        await work.until("all of them", async_rows(work, 3))
        hosts = {did(number): server.url_of(did(number))[7:] for number in range(2)}
        found = await label_report.report(work.conn, "headrace", POST)
    assert [(label.src, label.host, label.neg, label.cid) for label in found.labels] == [
        (did(0), hosts[did(0)], False, CID),
        (did(1), hosts[did(1)], True, None),
        ("did:plc:other", None, False, None),
    ]
    assert [letter.reason for letter in found.dead_letters] == ["bad_field"]
    text = label_report.render_text(found).splitlines()
    assert len(text) == 4
    assert all(line.startswith(f"{POST}: ") for line in text)
    assert "takes back 'spam' since" in text[1]
    assert f"read from {hosts[did(1)]}/1 since 20" in text[1]
    assert "held up to seq 2; signature verified" in text[1]
    assert "until 2100-01-01T00:00:00Z" in text[1]
    assert "before Headrace came to this database; signature unknown" in text[2]
    assert ", seq 2, bad_field: val" in text[3]
    assert label_report.render_json(found).startswith(b"{")


def async_rows(work: Work, count: int) -> Callable[[], Awaitable[bool]]:
    """Whether the table has so many rows, for `Work.until`."""

    async def holds() -> bool:
        return len(await work.rows()) == count

    return holds


@pytest.mark.parametrize(
    ("check", "state", "words"),
    [
        ("count", "mixed", "1 of 2 labels of its stream are not"),
        ("off", "unchecked", "signature not verified"),
    ],
)
async def test_a_report_says_whether_signatures_were_good(
    check: str, state: str, words: str, database: str, redis_url: str
) -> None:
    world = World()
    world.say(world.label(POST), {**world.label(POST, "porn"), "sig": Plain(bytes(64))})
    async with simulate.serve(world.network) as server:
        settings = settings_for(server, database, redis_url, signatures=check)
        async with at_work(settings) as work:
            await work.until_rows(world.expected)
            found = await label_report.report(work.conn, "headrace", POST)
    assert [label.signature for label in found.labels] == [state, state]
    assert words in label_report.render_text(found)


async def test_a_report_shows_the_newest_dead_letters_and_counts_the_others(
    database: str, redis_url: str
) -> None:
    world = World()
    bad = [world.label(POST, "v" * 129) for _ in range(label_report.LETTERS_SHOWN + 3)]
    world.publish(world.labelers[0].message(bad))
    async with (
        simulate.serve(world.network) as server,
        at_work(settings_for(server, database, redis_url)) as work,
    ):
        await work.until_seq(1)
        found = await label_report.report(work.conn, "headrace", POST)
    assert len(found.dead_letters) == label_report.LETTERS_SHOWN
    text = label_report.render_text(found).splitlines()
    assert len(text) == label_report.LETTERS_SHOWN + 1
    assert text[-1] == f"{POST}: not indexed, 3 older ones"
