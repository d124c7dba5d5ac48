//! Entries in the making: what a tape of choices lets three repositories do.

use std::collections::{HashMap, HashSet};

use _native::cid::Cid;
use _native::entry::{
    Account, Action, Commit, Entry, Identity, Op, Origin, RejectedFrame, RejectedOp, Sync,
};
use _native::reason::Reason;
use _native::tree::block_cid;

use crate::records::{self, Names, RECORDS, SOCIAL};
use crate::tape::Tape;

const DIDS: [&str; 3] = [
    "did:plc:ragtjsm2j2vknwkz3zp4oxrd",
    "did:web:a.test",
    "did:plc:ewvi7nxzyoun6zhxrhs64oiz",
];
/// Few, so that records meet.
const RKEYS: [&str; 8] = ["a", "b", "a", "self", "a", "b", "a", "3k2222222222a"];
const STATUSES: [Option<&str>; 6] = [
    None,
    Some("takendown"),
    Some("deactivated"),
    Some("suspended"),
    Some("deleted"),
    Some("odd"),
];
/// Microseconds since 1970 of the first rev: some days before `fold::NOW`.
const START: u64 = 1_795_000_000_000_000;

/// The n-th rev.
pub fn rev(number: u64) -> String {
    let value = (START + number) << 10;
    let digits = b"234567abcdefghijklmnopqrstuvwxyz";
    let letter =
        |place: u64| char::from(digits[usize::try_from(value >> (5 * place) & 31).unwrap_or(0)]);
    (0..13).rev().map(letter).collect()
}

/// What the hosts behind a log may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Two relays, and hosts that say anything in any order.
    #[default]
    Wild,
    /// One relay, whose seqs and times ascend; commits follow one another, and every op is true.
    Honest,
}

#[derive(Default)]
pub struct Log {
    pub entries: Vec<Vec<u8>>,
    /// Whose each entry is, by number.
    pub authors: Vec<usize>,
    manner: Manner,
    seqs: [i64; 2],
    revs: HashMap<&'static str, String>,
    /// What the repositories hold, where they are honest.
    held: HashSet<String>,
    made: u64,
}

struct Draft {
    action: Action,
    path: String,
    cid: [u8; 36],
    record: Option<Vec<u8>>,
}

impl Log {
    pub fn new(manner: Manner) -> Self {
        Self {
            manner,
            ..Self::default()
        }
    }

    /// Some mutes of threads: by each bit of the choice one; by the highest very many others'.
    pub fn mutes(choice: u8) -> Vec<(String, String)> {
        let mute = |did: usize, rkey: usize| {
            let root = format!("at://{}/app.bsky.feed.post/{}", DIDS[rkey], RKEYS[did]);
            (DIDS[did].to_owned(), root)
        };
        let bits = (0..7).filter(|bit| choice >> bit & 1 == 1);
        let mut mutes: Vec<_> = bits.map(|bit| mute(bit % 3, bit / 3)).collect();
        if choice >> 5 == 7 {
            let others =
                (0..1_000).map(|number| (format!("did:web:{number}.test"), "at://0".into()));
            mutes.extend(others);
        }
        mutes
    }

    /// One more entry. A tape of zeros makes an ordinary one.
    pub fn event(&mut self, tape: &mut Tape<'_>) {
        let mut choice = tape.byte();
        if self.manner == Manner::Honest {
            choice &= 15;
        }
        let relay = usize::from(choice >> 7);
        self.made += 1;
        // Mostly the next seq; now and then one that was there, or a leap.
        let step = [1, 1, 1, 1, 1, 1, 0, 50];
        self.seqs[relay] += step[usize::from(choice >> 4 & 7)];
        let author = tape.below(DIDS.len());
        let did = DIDS[author];
        self.authors.push(author);
        let time = self.time(tape.byte());
        let origin = Origin {
            relay: ["one.test", "two.test"][relay],
            generation: 1,
            seq: self.seqs[relay],
            did,
            time: &time,
        };
        let commit = block_cid(&self.made.to_be_bytes());
        let commit = Cid::exact(&commit).expect("a CID");
        let mut bytes = Vec::new();
        match choice & 15 {
            0 => Entry::Identity(Identity {
                origin,
                handle: None,
            })
            .encode(&mut bytes),
            1 | 2 => Entry::Account(Account {
                origin,
                active: choice & 2 == 0,
                status: tape.pick(&STATUSES).map(Into::into),
            })
            .encode(&mut bytes),
            3 => Entry::Sync(Sync {
                origin,
                rev: self.rev(did, tape).into(),
                commit,
                blocks: vec![],
            })
            .encode(&mut bytes),
            4 => Entry::RejectedFrame(RejectedFrame {
                relay: origin.relay,
                generation: 1,
                seq: (tape.byte() & 1 == 0).then_some(origin.seq),
                did: Some(did.into()),
                reason: Reason::BadCar,
                detail: "made \0 up".into(),
                ops: i64::from(tape.byte()),
                raw: &[tape.byte(); 3],
            })
            .encode(&mut bytes),
            _ => self.commit(origin, commit, tape, &mut bytes),
        }
        self.entries.push(bytes);
    }

    fn time(&self, choice: u8) -> String {
        let second = self.made % 60;
        match choice {
            _ if self.manner == Manner::Honest => format!("2026-11-21T17:59:{second:02}.500Z"),
            0..=199 => format!("2026-11-21T17:59:{second:02}.{choice:03}Z"),
            200..=219 => format!("2026-11-19T00:00:{second:02}Z"),
            220..=239 => format!("2026-11-21T17:00:{second:02}+00:30"),
            240..=249 => String::from("2036-01-01T00:00:00Z"),
            _ => String::from("no time"),
        }
    }

    fn rev(&mut self, did: &'static str, tape: &mut Tape<'_>) -> String {
        let rev = match tape.byte() {
            _ if self.manner == Manner::Honest => rev(self.made),
            0..=239 => rev(self.made),
            240..=249 => rev(self.made / 2),
            250..=253 => rev(1 << 45),
            _ => String::from("no rev"),
        };
        self.revs.insert(did, rev.clone());
        rev
    }

    fn commit(
        &mut self,
        origin: Origin<'_>,
        commit: Cid<'_>,
        tape: &mut Tape<'_>,
        out: &mut Vec<u8>,
    ) {
        let did = *DIDS
            .iter()
            .find(|did| **did == origin.did)
            .expect("one of them");
        let since = match tape.byte() {
            _ if self.manner == Manner::Honest => self.revs.get(did).cloned(),
            0..=229 => self.revs.get(did).cloned(),
            230..=245 => Some(rev(0)),
            _ => None,
        };
        let rev = self.rev(did, tape);
        let drafts: Vec<Draft> = (0..tape.below(5)).map(|_| self.draft(did, tape)).collect();
        let odd = tape.byte();
        let cid = |draft: &'_ Draft| draft.record.as_ref().map(|_| draft.cid);
        let cids: Vec<_> = drafts.iter().map(cid).collect();
        let ops = drafts.iter().zip(&cids).map(|(draft, cid)| Op {
            action: draft.action,
            path: draft.path.as_str().into(),
            cid: cid.as_ref().map(|cid| Cid::exact(cid).expect("a CID")),
            prev: None,
            record: draft.record.as_deref(),
        });
        let rejected = (odd >= 200).then(|| RejectedOp {
            reason: Reason::ALL[usize::from(odd) % Reason::ALL.len()],
            path: "a/b".into(),
            cid: None,
        });
        let entry = Entry::Commit(Commit {
            origin,
            rev: &rev,
            since: since.as_deref(),
            commit,
            data: None,
            prev_data: None,
            part: 0,
            parts: 1,
            filtered: i64::from(odd & 3),
            ops: ops.collect(),
            rejected: rejected.into_iter().collect(),
            blocks: vec![],
        });
        entry.encode(out);
    }

    fn draft(&mut self, did: &str, tape: &mut Tape<'_>) -> Draft {
        // Half of them are what has to do with others' records.
        let number = match usize::from(tape.byte()) {
            byte @ ..128 => byte % (RECORDS.len() + 2),
            byte => SOCIAL.start + byte % SOCIAL.len(),
        };
        let rkey = *tape.pick(&RKEYS);
        let choice = tape.byte();
        let others = tape.byte();
        let other = |shift: u8, of: usize| usize::from(others >> shift & 3) % of;
        let names = Names {
            did,
            rkey,
            peer: DIDS[other(0, 3)],
            to: RKEYS[other(2, 4)],
            root: RKEYS[other(4, 2)],
            is_other_version: others >> 6 == 3,
        };
        let (nsid, mut record) = records::record_of(number, &names);
        let nsid = if number > RECORDS.len() {
            "com.example.other"
        } else {
            nsid
        };
        if choice >= 240 {
            // Perhaps invalid, perhaps not even DAG-CBOR; perhaps only another value.
            let place = tape.below(256) * record.len() / 256;
            record[place] ^= 1 << (choice & 7);
        }
        let path = format!("{nsid}/{rkey}");
        let mut action = match choice % 8 {
            0..=3 => Action::Create,
            4 | 5 => Action::Update,
            _ => Action::Delete,
        };
        if self.manner == Manner::Honest {
            let place = format!("{did}/{path}");
            let is_there = self.held.contains(&place);
            action = match (is_there, action) {
                (false, _) => Action::Create,
                (true, Action::Delete) => Action::Delete,
                (true, _) => Action::Update,
            };
            if action == Action::Delete {
                self.held.remove(&place);
            } else {
                self.held.insert(place);
            }
        }
        let cid = block_cid(&record);
        let is_there = action != Action::Delete && choice != 239;
        Draft {
            action,
            path,
            cid,
            record: is_there.then_some(record),
        }
    }
}
