use super::*;

const CID: [u8; 36] = {
    let mut cid = [7; 36];
    cid[0] = 1;
    cid[1] = 0x71;
    cid[2] = 0x12;
    cid[3] = 0x20;
    cid
};

fn origin() -> Origin<'static> {
    Origin {
        relay: "relay.example",
        generation: 1,
        seq: 1 << 40,
        did: "did:plc:alice",
        time: "2026-11-21T00:00:00.000Z",
    }
}

fn entries() -> Vec<Entry<'static>> {
    let cid = Cid::exact(&CID).unwrap();
    let block = Block { cid, data: b"data" };
    vec![
        Entry::Commit(Commit {
            origin: origin(),
            rev: "3mabc2222222a",
            since: None,
            commit: cid,
            data: Some(cid),
            prev_data: None,
            part: 0,
            parts: 1,
            filtered: 2,
            ops: vec![Op {
                action: Action::Update,
                path: "a.b.c/é".into(),
                cid: Some(cid),
                prev: None,
                record: Some(&[0xa0; 300]),
            }],
            rejected: vec![RejectedOp {
                reason: Reason::MissingBlock,
                path: "a.b.c/x".into(),
                cid: None,
            }],
            blocks: vec![block.clone()],
        }),
        Entry::Sync(Sync {
            origin: origin(),
            rev: "any".into(),
            commit: cid,
            blocks: vec![block],
        }),
        Entry::Identity(Identity {
            origin: origin(),
            handle: Some("alice.example".into()),
        }),
        Entry::Account(Account {
            origin: origin(),
            active: false,
            status: Some("deleted".into()),
        }),
        Entry::RejectedFrame(RejectedFrame {
            relay: "relay.example",
            generation: 2,
            seq: None,
            did: None,
            reason: Reason::BadHeader,
            detail: "not a map".into(),
            ops: 1,
            raw: b"\xff",
        }),
        Entry::Slice(Slice {
            did: "did:plc:alice",
            fetch_id: 1 << 33,
            rev: "3mabc2222222a",
            after: None,
            through: Some("a.b.c/é"),
            collections: vec!["a.b.*", "a.b.c"],
            filtered: 3,
            notify: true,
            records: vec![SliceRecord {
                path: "a.b.c/é",
                cid,
                record: &[0xa0; 300],
            }],
            rejected: vec![RejectedOp {
                reason: Reason::TooBig,
                path: "a.b.c/x".into(),
                cid: Some(cid),
            }],
        }),
        Entry::Closing(Closing {
            did: "did:plc:alice",
            fetch_id: 7,
            rev: "3mabc2222222a",
            commit: cid,
            data: cid,
            records: 70_000,
        }),
    ]
}

fn encode(entry: &Entry<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    entry.encode(&mut out);
    out
}

#[test]
fn every_kind_comes_back() {
    for entry in entries() {
        assert_eq!(Entry::decode(&encode(&entry)), Ok(entry));
    }
}

#[test]
fn another_version_is_its_own_error() {
    let mut bytes = encode(&entries()[2]);
    bytes[0] = VERSION + 1;
    assert_eq!(Entry::decode(&bytes), Err(EntryError::Version(VERSION + 1)));
    assert_eq!(Entry::decode(b""), Err(EntryError::Malformed));
}

#[test]
fn truncated_entries_and_tails_are_malformed() {
    for entry in entries() {
        let mut bytes = encode(&entry);
        for end in 1..bytes.len() {
            assert_eq!(Entry::decode(&bytes[..end]), Err(EntryError::Malformed));
        }
        bytes.push(0xc0);
        assert_eq!(Entry::decode(&bytes), Err(EntryError::Malformed));
    }
}

#[test]
fn fields_added_at_the_end_are_skipped() {
    let entry = &entries()[2];
    let mut bytes = encode(entry);
    bytes[1] += 2;
    bytes.extend(b"\x92\xa1x\xc4\x01y\x81\xa1k\xcb\x00\x00\x00\x00\x00\x00\x00\x00");
    assert_eq!(Entry::decode(&bytes), Ok(entry.clone()));
}

#[test]
fn flipped_bytes_never_panic() {
    let mut read = 0;
    for entry in entries() {
        let bytes = encode(&entry);
        for position in 0..bytes.len() {
            for flip in [0x01, 0x40, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[position] ^= flip;
                read += usize::from(Entry::decode(&bytes).is_ok());
            }
        }
    }
    assert!(read > 500, "{read}");
}

#[test]
fn shards_are_those_of_the_declaration() {
    // int.from_bytes(sha256(b"did:plc:alice")[:8], "big") % 16 and % 7
    assert_eq!(shard_of("did:plc:alice", 1), 0);
    let digest = Sha256::digest(b"did:plc:alice");
    let head = u64::from_be_bytes(digest[..8].try_into().unwrap());
    for shards in [2, 7, 16, 1 << 20] {
        assert_eq!(
            u64::from(shard_of("did:plc:alice", shards)),
            head % u64::from(shards)
        );
    }
    assert_eq!(shard_of("did:plc:alice", 0), 0);
}
