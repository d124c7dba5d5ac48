//! One valid record to the rows it may become, by its collection's declaration.

use std::borrow::Cow;

use super::batch::{Row, SideRow, Subject};
use super::detail;
use crate::cbor::Value;
use crate::pgcopy::{TooLong, Tuple, OID_TEXT, OID_VARCHAR};
use crate::plan::{Collection, Column, Path, Plan, Role, Source, TableId, Type, RECORD};
use crate::post::{self, EmbedKind};
use crate::reason::Reason;
use crate::{datetime, json, syntax};

/// Why an op is lost.
pub(crate) type Refusal = (Reason, String);

/// What a row says beside the record's own fields.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub uri: &'a str,
    pub cid: &'a str,
    pub did: &'a str,
    pub rkey: &'a str,
    pub time: &'a str,
    pub rev: &'a str,
    /// The clock, as an ISO string.
    pub now: &'a str,
    /// The record's JSON text.
    pub json: &'a str,
}

/// The value of one column.
enum Cell<'a> {
    Null,
    Text(Cow<'a, str>),
    List(Vec<&'a str>),
}

/// Conditions that cost the op whatever rows exist.
pub(crate) fn check(
    collection: &Collection,
    facts: &Facts<'_>,
    record: &Value<'_>,
) -> Result<(), Refusal> {
    for path in &collection.uris {
        if let Some(uri) = text_at(path, record) {
            if !syntax::has_plain_authority(uri) {
                return Err((Reason::BadUri, format!("cannot take {uri} apart")));
            }
        }
    }
    let Some(belongs) = &collection.belongs else {
        return Ok(());
    };
    let uri = text_at(&belongs.path, record).unwrap_or("");
    let own = syntax::authority_of(uri) == facts.did
        && (!belongs.same_rkey || rkey_of(uri) == facts.rkey);
    if own {
        Ok(())
    } else {
        Err((belongs.reason, format!("{uri} is not of {}", facts.uri)))
    }
}

/// The first at-uri that an insert would fail to take apart.
pub(crate) fn bad_insert_uri(
    collection: &Collection,
    facts: &Facts<'_>,
    record: &Value<'_>,
) -> Option<Box<str>> {
    for path in &collection.insert_uris {
        let Some(uri) = text_at(path, record) else {
            continue;
        };
        if !syntax::has_plain_authority(uri) {
            return Some(uri.into());
        }
        if syntax::authority_of(uri) == facts.did {
            return None;
        }
    }
    None
}

/// The collection's own row and its side rows, encoded.
pub(crate) fn prepare(
    plan: &Plan,
    collection: &Collection,
    table: TableId,
    facts: &Facts<'_>,
    record: &Value<'_>,
) -> Result<Row, Refusal> {
    check(collection, facts, record)?;
    let columns = columns_of(plan, table);
    let mut tuple = tuple_of(columns.len(), facts.uri.len() * 4);
    let mut key = vec![""; 0];
    let cells = columns
        .iter()
        .take_while(|column| column.source != Source::Flag)
        .map(|column| cell(column, facts, record))
        .collect::<Result<Vec<_>, _>>()?;
    for (column, cell) in columns.iter().zip(&cells) {
        put(&mut tuple, column, cell)?;
    }
    for position in &collection.unique {
        match cells.get(*position) {
            Some(Cell::Text(text)) => key.push(text),
            _ => return Err((Reason::InvalidRecord, "no value of the unique key".into())),
        }
    }
    let key = (!key.is_empty()).then(|| key.join("\0").into());
    let (sides, quoted) = if collection.embeds.is_empty() {
        (Vec::new(), Vec::new())
    } else {
        sides(plan, &collection.embeds, facts, record)?
    };
    let created_at = if collection.notices.is_some() || collection.role != Role::Plain {
        detail::created_at(record)
    } else {
        None
    };
    let created_at = created_at.as_deref();
    Ok(Row {
        tuple,
        key,
        sides,
        notices: detail::notices(collection, created_at, facts, record),
        detail: detail::detail(collection.role, created_at, facts, record, quoted),
    })
}

/// A row of texts made by the fold. A value that no field can hold becomes NULL, which
/// the database refuses by line.
pub(crate) fn text_row<const N: usize>(cells: [Option<&str>; N]) -> Tuple {
    let mut tuple = tuple_of(N, cells.iter().flatten().map(|cell| cell.len()).sum());
    for cell in cells {
        if tuple.text(cell).is_err() {
            tuple.null();
        }
    }
    tuple
}

/// The row of the generic table. A value that no field can hold becomes NULL, which
/// the database refuses by line.
pub(crate) fn record_row(plan: &Plan, facts: &Facts<'_>) -> Tuple {
    let columns = columns_of(plan, RECORD);
    let mut tuple = tuple_of(columns.len(), facts.json.len() + facts.uri.len() * 4);
    for column in columns {
        if tuple.text(fact(&column.source, facts)).is_err() {
            tuple.null();
        }
    }
    tuple
}

/// The columns that an update of the generic table takes, in order.
pub(crate) fn updated(plan: &Plan) -> impl Iterator<Item = &Column> {
    columns_of(plan, RECORD)
        .iter()
        .filter(|column| column.source != Source::Did)
}

/// A value that does not come from inside the record.
pub(crate) fn fact<'a>(source: &Source, facts: &Facts<'a>) -> Option<&'a str> {
    Some(match source {
        Source::Uri => facts.uri,
        Source::Cid => facts.cid,
        Source::Did => facts.did,
        Source::Rkey => facts.rkey,
        Source::Time => facts.time,
        Source::Rev => facts.rev,
        Source::Json => facts.json,
        _ => return None,
    })
}

fn columns_of(plan: &Plan, table: TableId) -> &[Column] {
    plan.tables.get(table).map_or(&[], |table| &table.columns)
}

fn tuple_of(fields: usize, room: usize) -> Tuple {
    Tuple::new(u16::try_from(fields).unwrap_or(u16::MAX), room)
}

fn cell<'a>(
    column: &Column,
    facts: &Facts<'a>,
    record: &'a Value<'_>,
) -> Result<Cell<'a>, Refusal> {
    let text = match &column.source {
        Source::Text(path) => text_at(path, record).map(Cow::Borrowed),
        Source::TextOrNow(path) => Some(text_at(path, record).unwrap_or(facts.now).into()),
        Source::Datetime(path) => {
            let text = text_at(path, record).and_then(datetime::normalize);
            let no_instant = || {
                (
                    Reason::InvalidRecord,
                    format!("{}: no instant", column.name),
                )
            };
            Some(text.ok_or_else(no_instant)?.into())
        }
        Source::Blob(path) => post::blob_cid(path.find(record)).map(Cow::Owned),
        Source::PlainJson(path) => plain_json(path, record)?,
        Source::Texts(path) => return Ok(texts(path, record)),
        source => fact(source, facts).map(Cow::Borrowed),
    };
    Ok(text.map_or(Cell::Null, Cell::Text))
}

fn plain_json<'a>(path: &Path, record: &Value<'_>) -> Result<Option<Cow<'a, str>>, Refusal> {
    let Some(value) = path.find(record) else {
        return Ok(None);
    };
    let mut text = Vec::new();
    json::write_plain(value, &mut text)
        .map_err(|error| (Reason::UnsafeInteger, error.to_string()))?;
    Ok(String::from_utf8(text).ok().map(Cow::Owned))
}

/// An absent and an empty list are both NULL.
fn texts<'a>(path: &Path, record: &'a Value<'_>) -> Cell<'a> {
    let items = path
        .find(record)
        .and_then(Value::as_list)
        .unwrap_or_default();
    if items.is_empty() {
        return Cell::Null;
    }
    Cell::List(items.iter().filter_map(Value::as_text).collect())
}

/// Encode one value; NUL is what no column can hold.
fn put(tuple: &mut Tuple, column: &Column, cell: &Cell<'_>) -> Result<(), Refusal> {
    let (nul, result) = match cell {
        Cell::Null => {
            tuple.null();
            (false, Ok(()))
        }
        Cell::Text(text) => (text.contains('\0'), tuple.text(Some(text))),
        Cell::List(items) => (
            items.iter().any(|item| item.contains('\0')),
            put_list(tuple, column.kind, items),
        ),
    };
    if nul {
        return Err((Reason::NulInText, format!("NUL in column {}", column.name)));
    }
    result.map_err(|error| (Reason::TooBig, format!("column {}: {error}", column.name)))
}

fn put_list(tuple: &mut Tuple, kind: Type, items: &[&str]) -> Result<(), TooLong> {
    match kind {
        Type::Varchars => tuple.array(OID_VARCHAR, items),
        Type::Texts => tuple.array(OID_TEXT, items),
        Type::Jsonb | Type::Varchar | Type::Text | Type::Boolean => {
            let mut text = vec![b'['];
            for item in items {
                if text.len() > 1 {
                    text.push(b',');
                }
                json::write_text(item, &mut text);
            }
            text.push(b']');
            tuple.jsonb(&text)
        }
    }
}

fn sides(
    plan: &Plan,
    embeds: &[(EmbedKind, TableId)],
    facts: &Facts<'_>,
    record: &Value<'_>,
) -> Result<(Vec<SideRow>, Vec<Subject>), Refusal> {
    let mut sides = Vec::new();
    let mut quoted = Vec::new();
    for row in post::embed_rows(record)? {
        if let (EmbedKind::Record, [Some(uri), Some(cid)]) = (row.kind, row.cells.as_slice()) {
            quoted.push(Subject {
                uri: uri.as_ref().into(),
                cid: cid.as_ref().into(),
            });
        }
        let Some((_, table)) = embeds.iter().find(|(kind, _)| *kind == row.kind) else {
            continue;
        };
        let columns = columns_of(plan, *table);
        let mut tuple = tuple_of(columns.len(), facts.uri.len() * 2);
        let place = row.cells.first().cloned().flatten();
        let cells = std::iter::once(Some(facts.uri.into())).chain(row.cells);
        for (column, cell) in columns.iter().zip(cells) {
            put(&mut tuple, column, &cell.map_or(Cell::Null, Cell::Text))?;
        }
        sides.push((
            place,
            SideRow {
                table: *table,
                tuple,
            },
        ));
    }
    // In the order of the primary key; but what a post quotes first stays first.
    if quoted.len() < 2 {
        sides.sort_by(|(left, _), (right, _)| left.cmp(right));
    }
    let sides = sides.into_iter().map(|(_, side)| side).collect();
    Ok((sides, quoted))
}

pub(crate) fn text_at<'v>(path: &Path, record: &'v Value<'_>) -> Option<&'v str> {
    path.find(record)?.as_text()
}

/// The second segment of an at-uri's path, as the reference takes it apart.
pub(crate) fn rkey_of(uri: &str) -> &str {
    uri.strip_prefix("at://")
        .and_then(|rest| rest.split('#').next())
        .and_then(|rest| rest.split('/').filter(|part| !part.is_empty()).nth(2))
        .unwrap_or("")
}
