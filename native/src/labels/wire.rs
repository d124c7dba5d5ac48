//! What crosses Redis: one entry of the stream of labels, one frame of a labeler.
//!
//! One version byte, then one `MessagePack` array: host, generation, seq or nil, labels,
//! rejected labels, how many of the labels have no signature that was checked and good (entries
//! from before that was told end earlier). Additional fields at the end are skipped; another
//! version is its own error.

use std::borrow::Cow;

use super::Label;
use crate::entry::EntryError;
use crate::msgpack::{Unpacker, Writer};
use crate::reason::Reason;

/// First byte of every entry.
pub const VERSION: u8 = 1;

/// One frame of one labeler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub host: Cow<'a, str>,
    pub generation: i64,
    /// None where it could not be read.
    pub seq: Option<i64>,
    pub labels: Vec<Label<'a>>,
    pub rejected: Vec<NotCarried<'a>>,
    /// Of the labels, those whose signature nobody checked, or is bad.
    pub unverified: u64,
}

/// A label, or a whole frame, on its way to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCarried<'a> {
    pub reason: Reason,
    pub error: Cow<'a, str>,
    pub src: Option<Cow<'a, str>>,
    pub uri: Option<Cow<'a, str>>,
    pub cid: Option<Cow<'a, str>>,
    pub raw: &'a [u8],
}

impl<'a> Entry<'a> {
    /// How much the entry weighs against the high water mark.
    pub fn events(&self) -> u64 {
        (self.labels.len() as u64).max(1)
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        let mut writer = Writer::new(out);
        writer.array(6);
        writer.text(&self.host);
        writer.int(self.generation);
        match self.seq {
            Some(seq) => writer.int(seq),
            None => writer.nil(),
        }
        writer.array(self.labels.len());
        for label in &self.labels {
            writer.array(7);
            writer.text(label.src);
            writer.text(label.uri);
            writer.text_or_nil(label.cid);
            writer.text(label.val);
            writer.bool(label.neg);
            writer.text(label.cts);
            writer.text_or_nil(label.exp);
        }
        writer.array(self.rejected.len());
        for label in &self.rejected {
            writer.array(6);
            writer.uint(label.reason.code());
            writer.text(&label.error);
            writer.text_or_nil(label.src.as_deref());
            writer.text_or_nil(label.uri.as_deref());
            writer.text_or_nil(label.cid.as_deref());
            writer.bytes(label.raw);
        }
        writer.uint(self.unverified);
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Self, EntryError> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => read(rest).ok_or(EntryError::Malformed),
            Some((&version, _)) => Err(EntryError::Version(version)),
            None => Err(EntryError::Malformed),
        }
    }
}

fn read(bytes: &[u8]) -> Option<Entry<'_>> {
    let mut unpacker = Unpacker::new(bytes);
    let fields = unpacker.array()?;
    let mut entry = Entry {
        host: unpacker.text()?.into(),
        generation: unpacker.int()?,
        seq: unpacker.or_nil(Unpacker::int)?,
        labels: unpacker.list(7, label)?,
        rejected: unpacker.list(6, not_carried)?,
        unverified: 0,
    };
    if fields > 5 {
        entry.unverified = u64::try_from(unpacker.int()?).ok()?;
    }
    unpacker.skip_fields(fields.max(6), 6)?;
    (fields >= 5 && unpacker.is_empty()).then_some(entry)
}

fn label<'a>(unpacker: &mut Unpacker<'a>) -> Option<Label<'a>> {
    Some(Label {
        src: unpacker.text()?,
        uri: unpacker.text()?,
        cid: unpacker.or_nil(Unpacker::text)?,
        val: unpacker.text()?,
        neg: unpacker.bool()?,
        cts: unpacker.text()?,
        exp: unpacker.or_nil(Unpacker::text)?,
    })
}

fn not_carried<'a>(unpacker: &mut Unpacker<'a>) -> Option<NotCarried<'a>> {
    Some(NotCarried {
        reason: Reason::from_code(unpacker.int()?)?,
        error: unpacker.text()?.into(),
        src: unpacker.or_nil(Unpacker::text)?.map(Cow::Borrowed),
        uri: unpacker.or_nil(Unpacker::text)?.map(Cow::Borrowed),
        cid: unpacker.or_nil(Unpacker::text)?.map(Cow::Borrowed),
        raw: unpacker.bytes()?,
    })
}
