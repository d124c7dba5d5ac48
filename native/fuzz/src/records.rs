//! Valid records of most collections, for seeds. `{did}` and `{rkey}` become the writer's,
//! `{peer}`, `{to}` and `{root}` anybody's.

use serde_json::Value as Json;

use crate::cbor;

/// What stands for the writer's own DID in a record.
pub const RECORDS: &[(&str, &str)] = &[
    (
        "app.bsky.feed.like",
        r#"{"subject":{"uri":"at://did:plc:ragtjsm2j2vknwkz3zp4oxrd/app.bsky.feed.post/a","cid":"{cid}"},"createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.feed.like",
        r#"{"subject":{"uri":"at://did:plc:ragtjsm2j2vknwkz3zp4oxrd/app.bsky.feed.post/b","cid":"{cid}"},"createdAt":"2026-01-01T00:00:00.5+02:00","via":{"uri":"at://{did}/app.bsky.feed.repost/a","cid":"{cid}"}}"#,
    ),
    (
        "app.bsky.feed.repost",
        r#"{"subject":{"uri":"at://{did}/app.bsky.feed.post/a","cid":"{cid}"},"createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"one","createdAt":"2026-01-01T00:00:00Z","langs":["en","de-AT"],"tags":["a"]}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"a \u0000","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"","createdAt":"2026-01-01T00:00:00.123456Z","reply":{"root":{"uri":"at://{did}/app.bsky.feed.post/a","cid":"{cid}"},"parent":{"uri":"at://{did}/app.bsky.feed.post/b","cid":"{cid}"}},"facets":[{"index":{"byteStart":0,"byteEnd":1},"features":[{"$type":"app.bsky.richtext.facet#tag","tag":"x"}]}]}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"two","createdAt":"2026-01-01T00:00:00Z","embed":{"$type":"app.bsky.embed.images","images":[{"image":{"$type":"blob","ref":{"$link":"{raw}"},"mimeType":"image/png","size":9},"alt":"one"},{"image":{"$type":"blob","ref":{"$link":"{raw}"},"mimeType":"image/png","size":9},"alt":""}]}}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"three","createdAt":"2026-01-01T00:00:00Z","embed":{"$type":"app.bsky.embed.record","record":{"uri":"at://{did}/app.bsky.feed.post/a","cid":"{cid}"}}}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"four","createdAt":"2026-01-01T00:00:00Z","embed":{"$type":"app.bsky.embed.recordWithMedia","record":{"record":{"uri":"at://{did}/app.bsky.feed.post/a","cid":"{cid}"}},"media":{"$type":"app.bsky.embed.external","external":{"uri":"https://a.b","title":"t","description":"d","thumb":{"$type":"blob","ref":{"$link":"{raw}"},"mimeType":"image/png","size":9}}}}}"#,
    ),
    (
        "app.bsky.feed.threadgate",
        r#"{"post":"at://{did}/app.bsky.feed.post/{rkey}","createdAt":"2026-01-01T00:00:00Z","allow":[{"$type":"app.bsky.feed.threadgate#mentionRule"}]}"#,
    ),
    (
        "app.bsky.feed.threadgate",
        r#"{"post":"at://{did}/app.bsky.feed.post/a","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.feed.postgate",
        r#"{"post":"at://{did}/app.bsky.feed.post/{rkey}","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.feed.generator",
        r#"{"did":"did:web:feed.test","displayName":"f","createdAt":"2026-01-01T00:00:00Z","descriptionFacets":[{"index":{"byteStart":0,"byteEnd":1},"features":[]}]}"#,
    ),
    (
        "app.bsky.graph.follow",
        r#"{"subject":"did:plc:ragtjsm2j2vknwkz3zp4oxrd","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.graph.follow",
        r#"{"subject":"did:web:a.test","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.graph.block",
        r#"{"subject":"did:plc:ragtjsm2j2vknwkz3zp4oxrd","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.graph.list",
        r#"{"purpose":"app.bsky.graph.defs#modlist","name":"l","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.graph.listitem",
        r#"{"subject":"did:web:a.test","list":"at://{did}/app.bsky.graph.list/a","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.graph.listitem",
        r#"{"subject":"did:web:a.test","list":"at://did:web:b.test/app.bsky.graph.list/a","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.graph.listblock",
        r#"{"subject":"at://{did}/app.bsky.graph.list/a","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.graph.starterpack",
        r#"{"name":"s","list":"at://{did}/app.bsky.graph.list/a","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.graph.verification",
        r#"{"subject":"did:web:a.test","handle":"a.test","displayName":"a","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.actor.profile",
        r#"{"displayName":"p","description":"d","avatar":{"$type":"blob","ref":{"$link":"{raw}"},"mimeType":"image/png","size":9}}"#,
    ),
    (
        "app.bsky.actor.status",
        r#"{"status":"app.bsky.actor.status#live","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.labeler.service",
        r#"{"policies":{"labelValues":["spam"]},"createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"top","createdAt":"2026-01-01T00:00:00Z","reply":{"root":{"uri":"at://{peer}/app.bsky.feed.post/{to}","cid":"{cid}"},"parent":{"uri":"at://{peer}/app.bsky.feed.post/{to}","cid":"{cid}"}}}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"below","createdAt":"2026-01-01T00:00:00Z","reply":{"root":{"uri":"at://{peer}/app.bsky.feed.post/a","cid":"{cid}"},"parent":{"uri":"at://{did}/app.bsky.feed.post/{to}","cid":"{cid}"}}}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"reply","createdAt":"2026-01-01T00:00:00Z","reply":{"root":{"uri":"at://did:plc:ragtjsm2j2vknwkz3zp4oxrd/app.bsky.feed.post/{root}","cid":"{cid}"},"parent":{"uri":"at://{peer}/app.bsky.feed.post/{to}","cid":"{cid}"}}}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"reply","createdAt":"2026-12-01T00:00:00Z","reply":{"root":{"uri":"at://{peer}/app.bsky.feed.post/{root}","cid":"{cid}"},"parent":{"uri":"at://{peer}/app.bsky.feed.post/{to}","cid":"{cid}"}},"embed":{"$type":"app.bsky.embed.record","record":{"uri":"at://{peer}/app.bsky.feed.post/{to}","cid":"{quoted}"}}}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"first","createdAt":"2026-01-01T00:00:00Z","facets":[{"index":{"byteStart":0,"byteEnd":1},"features":[{"$type":"app.bsky.richtext.facet#mention","did":"{peer}"}]}],"embed":{"$type":"app.bsky.embed.record","record":{"uri":"at://{peer}/app.bsky.feed.post/{to}","cid":"{quoted}"}}}"#,
    ),
    (
        "app.bsky.feed.post",
        r#"{"text":"both","createdAt":"2026-01-01T00:00:00Z","embed":{"$type":"app.bsky.embed.recordWithMedia","record":{"record":{"uri":"at://{peer}/app.bsky.feed.post/{to}","cid":"{quoted}"}},"media":{"$type":"app.bsky.embed.record","record":{"uri":"at://{did}/app.bsky.feed.post/{root}","cid":"{cid}"}}}}"#,
    ),
    (
        "app.bsky.feed.like",
        r#"{"subject":{"uri":"at://{peer}/app.bsky.feed.post/{to}","cid":"{quoted}"},"createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.feed.repost",
        r#"{"subject":{"uri":"at://{peer}/app.bsky.feed.post/{to}","cid":"{quoted}"},"createdAt":"2026-01-01T00:00:00Z","via":{"uri":"at://{peer}/app.bsky.feed.repost/{root}","cid":"{cid}"}}"#,
    ),
    (
        "app.bsky.feed.threadgate",
        r#"{"post":"at://{did}/app.bsky.feed.post/{rkey}","createdAt":"2026-01-01T00:00:00Z","allow":[{"$type":"app.bsky.feed.threadgate#followerRule"},{"$type":"app.bsky.feed.threadgate#followingRule"},{"$type":"app.bsky.feed.threadgate#listRule","list":"at://{peer}/app.bsky.graph.list/{to}"}],"hiddenReplies":["at://{peer}/app.bsky.feed.post/{to}"]}"#,
    ),
    (
        "app.bsky.feed.threadgate",
        r#"{"post":"at://{did}/app.bsky.feed.post/{rkey}","createdAt":"2026-01-01T00:00:00Z","allow":[],"hiddenReplies":["at://{did}/app.bsky.feed.post/{to}"]}"#,
    ),
    (
        "app.bsky.feed.postgate",
        r#"{"post":"at://{did}/app.bsky.feed.post/{rkey}","createdAt":"2026-01-01T00:00:00Z","embeddingRules":[{"$type":"app.bsky.feed.postgate#disableRule"}],"detachedEmbeddingUris":[]}"#,
    ),
    (
        "app.bsky.graph.follow",
        r#"{"subject":"{peer}","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.graph.listitem",
        r#"{"subject":"{peer}","list":"at://{did}/app.bsky.graph.list/{to}","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.graph.verification",
        r#"{"subject":"{peer}","handle":"a.test","displayName":"a","createdAt":"2026-01-01T00:00:00Z"}"#,
    ),
    (
        "app.bsky.actor.profile",
        r#"{"displayName":"p","joinedViaStarterPack":{"uri":"at://{peer}/app.bsky.graph.starterpack/{to}","cid":"{cid}"}}"#,
    ),
    (
        "chat.bsky.actor.declaration",
        r#"{"allowIncoming":"all","odd":[1.5,null,true,-7]}"#,
    ),
];

/// Those of `RECORDS` that have to do with others' records.
pub const SOCIAL: std::ops::Range<usize> = 25..40;

const CID: &str = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a";
const RAW: &str = "bafkreigy5p3xxceipk2o6nqtnugpft26ol6yleqhboqziino7axvdngtci";

/// What a record names.
pub struct Names<'n> {
    pub did: &'n str,
    pub rkey: &'n str,
    /// Whom it is about,
    pub peer: &'n str,
    /// which record of theirs,
    pub to: &'n str,
    /// and in which thread.
    pub root: &'n str,
    /// It quotes the other of two versions.
    pub is_other_version: bool,
}

/// The n-th record's collection and its DAG-CBOR.
pub fn record(number: usize, did: &str, rkey: &str) -> (&'static str, Vec<u8>) {
    let names = Names {
        did,
        rkey,
        peer: did,
        to: "a",
        root: "b",
        is_other_version: false,
    };
    record_of(number, &names)
}

/// The same with everything that it names.
pub fn record_of(number: usize, names: &Names<'_>) -> (&'static str, Vec<u8>) {
    let (nsid, text) = RECORDS[number % RECORDS.len()];
    let quoted = if names.is_other_version { RAW } else { CID };
    let text = text
        .replace("{did}", names.did)
        .replace("{rkey}", names.rkey)
        .replace("{peer}", names.peer)
        .replace("{to}", names.to)
        .replace("{root}", names.root)
        .replace("{quoted}", quoted)
        .replace("{cid}", CID)
        .replace("{raw}", RAW);
    let mut json: Json = serde_json::from_str(&text).expect("JSON");
    json["$type"] = Json::from(nsid);
    let mut out = Vec::new();
    write(&json, &mut out);
    (nsid, out)
}

/// DAG-CBOR of JSON with `$link`.
fn write(json: &Json, out: &mut Vec<u8>) {
    match json {
        Json::Null => out.push(0xf6),
        Json::Bool(truth) => out.push(0xf4 + u8::from(*truth)),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => cbor::head(0, number, out),
            (None, Some(number)) => cbor::head(1, number.unsigned_abs() - 1, out),
            (None, None) => {
                out.push(0xfb);
                out.extend_from_slice(&number.as_f64().unwrap_or_default().to_be_bytes());
            }
        },
        Json::String(text) => write_text(text, out),
        Json::Array(items) => {
            cbor::head(4, items.len() as u64, out);
            for item in items {
                write(item, out);
            }
        }
        Json::Object(entries) => {
            if let Some(link) = entries.get("$link").and_then(Json::as_str) {
                let cid = _native::cid::parse_str(link).expect("a CID");
                return cbor::write_link(_native::cid::Cid::exact(&cid).expect("a CID"), out);
            }
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by_key(|(key, _)| (key.len(), key.as_str()));
            cbor::head(5, entries.len() as u64, out);
            for (key, item) in entries {
                write_text(key, out);
                write(item, out);
            }
        }
    }
}

pub fn write_text(text: &str, out: &mut Vec<u8>) {
    cbor::head(3, text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}
