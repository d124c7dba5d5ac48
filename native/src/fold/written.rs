//! One record's bytes to what it would be written as.

use super::batch::Written;
use super::decode::Validate;
use super::rows::{self, Facts, Refusal};
use crate::plan::{Collection, Plan};
use crate::reason::Reason;
use crate::{cbor, dag_json, json, syntax};

/// Validate a record and prepare its rows; `facts.json` is not looked at.
pub(super) fn read(
    plan: &Plan,
    lexicons: &impl Validate,
    collection: &Collection,
    facts: &Facts<'_>,
    block: &[u8],
) -> Result<Written, Refusal> {
    let record =
        cbor::decode_record(block).map_err(|error| (Reason::BadCbor, error.to_string()))?;
    if collection.validated {
        lexicons
            .validate(&collection.nsid, &record)
            .map_err(|error| (Reason::InvalidRecord, error))?;
    }
    let mut text = Vec::with_capacity(block.len() * 2);
    json::write_record(&record, &mut text)
        .map_err(|error| (Reason::UnsafeInteger, error.to_string()))?;
    let text = String::from_utf8(text)
        .map_err(|_| (Reason::BadCbor, "record text is not UTF-8".into()))?;
    let facts = Facts {
        json: &text,
        ..*facts
    };
    let has_row = !collection.self_only || facts.rkey == "self";
    let (row, bad_insert_uri) = match collection.table {
        Some(table) if has_row => (
            Some(rows::prepare(plan, collection, table, &facts, &record)?),
            rows::bad_insert_uri(collection, &facts, &record),
        ),
        _ => {
            rows::check(collection, &facts, &record)?;
            (None, None)
        }
    };
    Ok(Written {
        cid: facts.cid.into(),
        rkey: facts.rkey.into(),
        json: text.into(),
        row,
        bad_insert_uri,
    })
}

/// The collection and the DID of a record's uri.
pub(super) fn place<'u>(plan: &Plan, uri: &'u str) -> Option<(usize, &'u str)> {
    let collection = plan.collection(syntax::collection_of(uri)?)?;
    Some((collection, syntax::authority_of(uri)))
}

/// A record read from its row again: uri, CID, `indexedAt`, JSON text. `None` if it would
/// not be accepted.
pub(super) fn again(
    plan: &Plan,
    lexicons: &impl Validate,
    now: &str,
    [uri, cid, time, text]: [&str; 4],
) -> Option<Written> {
    let (collection, did) = place(plan, uri)?;
    let facts = Facts {
        uri,
        cid,
        did,
        rkey: rows::rkey_of(uri),
        time,
        rev: "",
        now,
        json: "",
    };
    let block = dag_json::to_cbor(text)?;
    let collection = plan.collections.get(collection)?;
    read(plan, lexicons, collection, &facts, &block).ok()
}
