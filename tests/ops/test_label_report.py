"""`headrace label`: what is known of a subject, and where from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine import simulate
from engine.ops import label_report
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
    assert "takes back 'spam' since" in text[1]
    assert "until 2100-01-01T00:00:00Z" in text[1]
    assert "before Headrace came" in text[2]
    assert label_report.render_json(found).startswith(b"{")


def async_rows(work: Work, count: int) -> Callable[[], Awaitable[bool]]:
    """Whether the table has so many rows, for `Work.until`."""

    async def holds() -> bool:
        return len(await work.rows()) == count

    return holds
