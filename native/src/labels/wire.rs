//! What crosses Redis: one entry of the stream of labels, one frame of a labeler.
//!
//! One version byte, then one `MessagePack` array: host, generation, seq or nil, labels,
//! rejected labels. Additional fields at the end are skipped; another version is its own error.

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
        writer.array(5);
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
    let host = unpacker.text()?.into();
    let generation = unpacker.int()?;
    let seq = if unpacker.is_nil() {
        None
    } else {
        Some(unpacker.int()?)
    };
    let mut labels = Vec::new();
    for _ in 0..unpacker.array()? {
        labels.push(label(&mut unpacker)?);
    }
    let mut rejected = Vec::new();
    for _ in 0..unpacker.array()? {
        rejected.push(not_carried(&mut unpacker)?);
    }
    skip(&mut unpacker, fields.checked_sub(5)?)?;
    unpacker.is_empty().then_some(Entry {
        host,
        generation,
        seq,
        labels,
        rejected,
    })
}

fn label<'a>(unpacker: &mut Unpacker<'a>) -> Option<Label<'a>> {
    let fields = unpacker.array()?;
    let label = Label {
        src: unpacker.text()?,
        uri: unpacker.text()?,
        cid: text_or_nil(unpacker)?,
        val: unpacker.text()?,
        neg: unpacker.bool()?,
        cts: unpacker.text()?,
        exp: text_or_nil(unpacker)?,
    };
    skip(unpacker, fields.checked_sub(7)?)?;
    Some(label)
}

fn not_carried<'a>(unpacker: &mut Unpacker<'a>) -> Option<NotCarried<'a>> {
    let fields = unpacker.array()?;
    let label = NotCarried {
        reason: Reason::from_code(unpacker.int()?)?,
        error: unpacker.text()?.into(),
        src: text_or_nil(unpacker)?.map(Cow::Borrowed),
        uri: text_or_nil(unpacker)?.map(Cow::Borrowed),
        cid: text_or_nil(unpacker)?.map(Cow::Borrowed),
        raw: unpacker.bytes()?,
    };
    skip(unpacker, fields.checked_sub(6)?)?;
    Some(label)
}

fn skip(unpacker: &mut Unpacker<'_>, fields: usize) -> Option<()> {
    (0..fields).try_for_each(|_| unpacker.skip())
}

#[allow(clippy::option_option)] // malformed, nil, text
fn text_or_nil<'a>(unpacker: &mut Unpacker<'a>) -> Option<Option<&'a str>> {
    if unpacker.is_nil() {
        return Some(None);
    }
    unpacker.text().map(Some)
}
