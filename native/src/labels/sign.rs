//! What a labeler signs: the label's DAG-CBOR without `sig`.

use super::label::Raw;
use crate::cbor::Value;
use crate::crypto::PublicKey;

/// The reference signs these, in this order, `neg` only where it is true, `ver` always.
const SIGNED: [&str; 8] = ["cid", "cts", "exp", "neg", "src", "uri", "val", "ver"];

/// Whether the signature is the key's: over what was sent, or over the form in which the
/// reference signs, for servers may add or leave out what says nothing (`neg: false`, `$type`).
/// The error says why not.
pub(super) fn verify(raw: &Raw<'_>, key: Option<&PublicKey>) -> Result<(), &'static str> {
    let Some(sig) = raw.get("sig").and_then(Value::as_bytes) else {
        return Err("no signature");
    };
    let Some(key) = key else {
        return Err("the labeler's document names no key");
    };
    let sent = as_sent(raw);
    if key.verify(&sent, sig) {
        return Ok(());
    }
    let reference = as_reference(raw);
    if reference != sent && key.verify(&reference, sig) {
        return Ok(());
    }
    Err("not signed by the labeler's key")
}

/// Every field but `sig`, in canonical order.
fn as_sent(raw: &Raw<'_>) -> Vec<u8> {
    let mut parts: Vec<(&str, &[u8])> = raw
        .fields
        .iter()
        .filter(|(key, ..)| key != "sig")
        .map(|(key, _, bytes)| (key.as_ref(), *bytes))
        .collect();
    parts.sort_unstable_by_key(|(key, _)| (key.len(), *key));
    let bytes: Vec<&[u8]> = parts.iter().map(|(_, bytes)| *bytes).collect();
    map(&bytes)
}

fn as_reference(raw: &Raw<'_>) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::with_capacity(SIGNED.len());
    for name in SIGNED {
        let found = raw.fields.iter().find(|(key, ..)| key == name);
        match (name, found) {
            ("neg", Some((_, Value::Bool(true), _))) => parts.push(b"\x63neg\xf5"),
            ("ver", _) => parts.push(b"\x63ver\x01"),
            (_, Some((_, Value::Text(_), bytes))) => parts.push(bytes),
            _ => {}
        }
    }
    map(&parts)
}

fn map(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + parts.iter().map(|part| part.len()).sum::<usize>());
    match u8::try_from(parts.len()) {
        Ok(count @ 0..=23) => out.push(0xa0 | count),
        Ok(count) => out.extend([0xb8, count]),
        // Nobody signs so many fields.
        Err(_) => return out,
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}
