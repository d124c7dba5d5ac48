use super::*;
use crate::cbor::decode_record;
use crate::filter::Filter;

const SOURCE: Source<'static> = Source {
    relay: "relay.example",
    generation: 1,
};

/// `{"op": 1, "t": "#account"}`, then an account event.
const ACCOUNT: &[u8] = b"\xa2\x61t\x68#account\x62op\x01\
    \xa4\x63did\x78\x20did:plc:ragtjsm2j2vknwkz3zp4oxrd\x63seq\x07\
    \x64time\x742026-11-21T00:00:00Z\x66active\xf5";

fn read_one(bytes: &[u8]) -> Frame<'_> {
    read(bytes, SOURCE, &Filter::new(["app.bsky.*"]))
}

#[test]
fn account_is_read() {
    let frame = read_one(ACCOUNT);
    assert_eq!(
        (frame.seq, frame.time),
        (Some(7), Some("2026-11-21T00:00:00Z"))
    );
    let Outcome::Entry(Entry::Account(account)) = frame.outcome else {
        panic!("{:?}", frame.outcome);
    };
    assert_eq!(account.origin.did, "did:plc:ragtjsm2j2vknwkz3zp4oxrd");
    assert_eq!((account.active, account.status), (true, None));
}

#[test]
fn every_truncation_and_every_changed_byte_is_an_outcome() {
    let mut rejected = 0;
    for position in 0..ACCOUNT.len() {
        let frame = read_one(&ACCOUNT[..position]);
        let Outcome::Entry(Entry::RejectedFrame(_)) = frame.outcome else {
            panic!("{position}: {:?}", frame.outcome);
        };
        for change in 1..=255 {
            let mut bytes = ACCOUNT.to_vec();
            bytes[position] ^= change;
            let outcome = read_one(&bytes).outcome;
            rejected += usize::from(matches!(outcome, Outcome::Entry(Entry::RejectedFrame(_))));
        }
    }
    assert!(rejected > 10_000, "{rejected}");
}

#[test]
fn what_was_readable_before_an_error_is_kept() {
    let cut = ACCOUNT.len() - 1;
    let frame = read_one(&ACCOUNT[..cut]);
    let Outcome::Entry(Entry::RejectedFrame(letter)) = frame.outcome else {
        panic!("{:?}", frame.outcome);
    };
    assert_eq!(letter.reason, Reason::BadBody);
    assert_eq!(letter.seq, Some(7));
    assert_eq!(
        letter.did.as_deref(),
        Some("did:plc:ragtjsm2j2vknwkz3zp4oxrd")
    );
    assert_eq!((letter.ops, letter.raw.len()), (1, cut));
}

#[test]
fn collections_are_first_segments_with_something_behind() {
    for (path, collection) in [
        ("a.b.c/x", Some("a.b.c")),
        ("a.b.c/x/y", Some("a.b.c")),
        ("a.b.c/x/", Some("a.b.c")),
        ("a.b.c/", None),
        ("a.b.c//x", None),
        ("a.b.c", None),
        ("/x", None),
        ("", None),
    ] {
        assert_eq!(commit::collection_of(path), collection, "{path}");
    }
}

#[test]
fn ops_are_read_as_the_reader_of_whole_trees_reads_them() {
    let body = |op: &[u8]| {
        let mut frame = b"\xa2\x61t\x67#commit\x62op\x01\xa1\x63ops\x81".to_vec();
        frame.extend_from_slice(op);
        frame
    };
    let nested = |levels: usize| {
        let mut op = b"\xa1\x61x".to_vec();
        op.extend(std::iter::repeat_n(0x81, levels));
        op.push(0);
        op
    };
    // Message, list and op are three levels.
    for (op, is_good) in [
        (b"\xa1\x69__proto__\x01".to_vec(), true),
        (b"\xa2\x69__proto__\x01\x69__proto__\x02".to_vec(), true),
        (b"\xa2\x61x\x01\x61x\x02".to_vec(), false),
        (nested(253), true),
        (nested(254), false),
    ] {
        let frame = body(&op);
        let Outcome::Entry(Entry::RejectedFrame(letter)) = read_one(&frame).outcome else {
            panic!("a commit without fields");
        };
        assert_eq!(
            letter.reason != Reason::BadBody,
            is_good,
            "{}",
            letter.detail
        );
        let (_, length) = crate::cbor::decode_prefix(&frame).unwrap();
        assert_eq!(decode_record(&frame[length..]).is_ok(), is_good);
    }
}
