//! The fields of a `subscribeRepos` message, read without building a tree.
//!
//! Types are checked later, by who uses a field: what was read before an error is
//! still there, so that a rejected frame can name its seq and its DID. Fields that
//! nobody uses are decoded as strictly as the others and forgotten.

use std::borrow::Cow;

use crate::cbor::{has_duplicate, CborError, Decoder, Value, PROTO};
use crate::cid::Cid;

/// `com.atproto.sync.subscribeRepos#commit`, `ops.maxLength`.
pub const MAX_OPS: usize = 200;

/// The value has another type than the lexicon says.
pub(crate) struct WrongType;

/// One field as it was found, or absent. Null is read as absent wherever absence is fine.
#[derive(Debug, Default)]
pub(crate) struct Field<'a>(Option<Value<'a>>);

impl<'a> Field<'a> {
    fn fill(&mut self, decoder: &mut Decoder<'a>) -> Result<(), CborError> {
        if self.0.is_some() {
            return Err(CborError::DuplicateKey);
        }
        self.0 = Some(decoder.value()?);
        Ok(())
    }

    pub fn is_absent(&self) -> bool {
        matches!(self.0, None | Some(Value::Null | Value::Undefined))
    }

    pub fn int(&self) -> Option<i64> {
        self.0.as_ref()?.as_int()
    }

    pub fn bool(&self) -> Option<bool> {
        self.0.as_ref()?.as_bool()
    }

    pub fn bytes(&self) -> Option<&'a [u8]> {
        self.0.as_ref()?.as_bytes()
    }

    /// Text as it stands in the frame. Text that had to be repaired is no identifier.
    pub fn identifier(&self) -> Option<&'a str> {
        match self.0 {
            Some(Value::Text(Cow::Borrowed(text))) => Some(text),
            _ => None,
        }
    }

    pub fn text(&self) -> Result<Option<Cow<'a, str>>, WrongType> {
        match &self.0 {
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            _ if self.is_absent() => Ok(None),
            _ => Err(WrongType),
        }
    }

    pub fn link(&self) -> Result<Option<Cid<'a>>, WrongType> {
        match self.0 {
            Some(Value::Link(cid)) => Ok(Some(cid)),
            _ if self.is_absent() => Ok(None),
            _ => Err(WrongType),
        }
    }
}

/// The message fields that matter, of all message types.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    pub seq: Field<'a>,
    pub repo: Field<'a>,
    pub did: Field<'a>,
    pub time: Field<'a>,
    pub rev: Field<'a>,
    pub since: Field<'a>,
    pub commit: Field<'a>,
    pub prev_data: Field<'a>,
    pub blocks: Field<'a>,
    pub too_big: Field<'a>,
    pub handle: Field<'a>,
    pub active: Field<'a>,
    pub status: Field<'a>,
    pub name: Field<'a>,
    pub error: Field<'a>,
    pub message: Field<'a>,
    /// The first `MAX_OPS` ops; `None` if there is no list of maps.
    pub ops: Option<Vec<OpFields<'a>>>,
    /// How many ops were there.
    pub ops_count: usize,
    /// Fields of other names.
    unknown: Vec<Cow<'a, str>>,
    ops_seen: bool,
}

/// The fields of one op.
#[derive(Debug, Default)]
pub(crate) struct OpFields<'a> {
    pub action: Field<'a>,
    pub path: Field<'a>,
    pub cid: Field<'a>,
    pub prev: Field<'a>,
}

impl<'a> Fields<'a> {
    /// Read one message; on an error the fields read so far remain.
    pub fn read(&mut self, decoder: &mut Decoder<'a>) -> Result<(), CborError> {
        for _ in 0..decoder.map_start()? {
            let key = decoder.key()?;
            if key == "ops" {
                if std::mem::replace(&mut self.ops_seen, true) {
                    return Err(CborError::DuplicateKey);
                }
                self.read_ops(decoder)?;
            } else if let Some(slot) = self.slot(&key) {
                slot.fill(decoder)?;
            } else {
                read_unknown(key, &mut self.unknown, decoder)?;
            }
        }
        decoder.end();
        refuse_duplicates(&self.unknown)
    }

    fn slot(&mut self, key: &str) -> Option<&mut Field<'a>> {
        Some(match key {
            "seq" => &mut self.seq,
            "repo" => &mut self.repo,
            "did" => &mut self.did,
            "time" => &mut self.time,
            "rev" => &mut self.rev,
            "since" => &mut self.since,
            "commit" => &mut self.commit,
            "prevData" => &mut self.prev_data,
            "blocks" => &mut self.blocks,
            "tooBig" => &mut self.too_big,
            "handle" => &mut self.handle,
            "active" => &mut self.active,
            "status" => &mut self.status,
            "name" => &mut self.name,
            "error" => &mut self.error,
            "message" => &mut self.message,
            _ => return None,
        })
    }

    fn read_ops(&mut self, decoder: &mut Decoder<'a>) -> Result<(), CborError> {
        if !decoder.at_list() {
            decoder.value()?;
            return Ok(());
        }
        let count = decoder.list_start()?;
        let mut ops = Vec::with_capacity(count.min(MAX_OPS));
        let mut maps = true;
        for _ in 0..count {
            if ops.len() < MAX_OPS && decoder.at_map() {
                ops.push(OpFields::read(decoder)?);
            } else {
                maps &= decoder.at_map();
                decoder.value()?;
            }
            self.ops_count += 1;
        }
        decoder.end();
        self.ops = maps.then_some(ops);
        Ok(())
    }
}

impl<'a> OpFields<'a> {
    fn read(decoder: &mut Decoder<'a>) -> Result<Self, CborError> {
        let mut op = Self::default();
        let mut unknown = Vec::new();
        for _ in 0..decoder.map_start()? {
            let key = decoder.key()?;
            let slot = match key.as_ref() {
                "action" => &mut op.action,
                "path" => &mut op.path,
                "cid" => &mut op.cid,
                "prev" => &mut op.prev,
                // Refused in a whole message only, as ever.
                PROTO => {
                    decoder.value()?;
                    continue;
                }
                _ => {
                    read_unknown(key, &mut unknown, decoder)?;
                    continue;
                }
            };
            slot.fill(decoder)?;
        }
        decoder.end();
        refuse_duplicates(&unknown)?;
        Ok(op)
    }
}

fn read_unknown<'a>(
    key: Cow<'a, str>,
    unknown: &mut Vec<Cow<'a, str>>,
    decoder: &mut Decoder<'a>,
) -> Result<(), CborError> {
    if key == PROTO {
        return Err(CborError::Proto);
    }
    decoder.value()?;
    unknown.push(key);
    Ok(())
}

fn refuse_duplicates(keys: &[Cow<'_, str>]) -> Result<(), CborError> {
    if keys.len() > 1 && has_duplicate(keys.iter().map(AsRef::as_ref).collect()) {
        return Err(CborError::DuplicateKey);
    }
    Ok(())
}
