//! Side rows of a post: its embeds. The one collection whose rows need code.
//!
//! The record passed its lexicon, so a known embed is well formed; whatever the
//! union left open is ignored here. A `recordWithMedia` is its record and its
//! media, each as if it stood alone; a media that is itself a well-formed
//! `app.bsky.embed.record` counts as a second record embed, as in the reference.

use std::borrow::Cow;

use serde::Deserialize;

use crate::cbor::Value;
use crate::reason::Reason;
use crate::syntax;

const IMAGES: &str = "app.bsky.embed.images";
const GALLERY: &str = "app.bsky.embed.gallery";
const GALLERY_IMAGE: &str = "app.bsky.embed.gallery#image";
const EXTERNAL: &str = "app.bsky.embed.external";
const VIDEO: &str = "app.bsky.embed.video";
const RECORD: &str = "app.bsky.embed.record";
const RECORD_WITH_MEDIA: &str = "app.bsky.embed.recordWithMedia";
const STRONG_REF: &str = "com.atproto.repo.strongRef";

/// The five side tables, by the words of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbedKind {
    Images,
    Gallery,
    External,
    Record,
    Video,
}

/// One side row: the cells after the post's own uri, in the order of the plan.
#[derive(Debug, PartialEq, Eq)]
pub struct EmbedRow<'v> {
    pub kind: EmbedKind,
    pub cells: Vec<Option<Cow<'v, str>>>,
}

/// Why a post cannot be stored.
pub type Refusal = (Reason, String);

/// The side rows of a valid post record, in order.
pub fn embed_rows<'v>(record: &'v Value<'_>) -> Result<Vec<EmbedRow<'v>>, Refusal> {
    let mut rows = Vec::new();
    let Some(embed) = record.get("embed") else {
        return Ok(rows);
    };
    if type_of(embed) == Some(RECORD_WITH_MEDIA) {
        if let Some(quoted) = embed.get("record") {
            rows.extend(record_row(quoted));
        }
        if let Some(media) = embed.get("media") {
            media_rows(media, &mut rows);
        }
    } else {
        media_rows(embed, &mut rows);
    }
    check_records(&rows)?;
    Ok(rows)
}

fn media_rows<'v>(embed: &'v Value<'_>, rows: &mut Vec<EmbedRow<'v>>) {
    match type_of(embed) {
        Some(IMAGES) => image_rows(EmbedKind::Images, embed.get("images"), rows),
        Some(GALLERY) => image_rows(EmbedKind::Gallery, embed.get("items"), rows),
        Some(EXTERNAL) => rows.extend(embed.get("external").and_then(external_row)),
        Some(VIDEO) => rows.extend(video_row(embed)),
        Some(RECORD) if is_record_embed(embed) => rows.extend(record_row(embed)),
        _ => {}
    }
}

/// One row an image; items of a gallery that are no images leave their position free.
fn image_rows<'v>(kind: EmbedKind, list: Option<&'v Value<'_>>, rows: &mut Vec<EmbedRow<'v>>) {
    let items = list.and_then(Value::as_list).unwrap_or_default();
    for (position, item) in items.iter().enumerate() {
        if kind == EmbedKind::Gallery && type_of(item) != Some(GALLERY_IMAGE) {
            continue;
        }
        let (Some(image), Some(alt)) = (blob_cid(item.get("image")), text(item, "alt")) else {
            continue;
        };
        rows.push(EmbedRow {
            kind,
            cells: vec![
                Some(position.to_string().into()),
                Some(image.into()),
                Some(alt),
            ],
        });
    }
}

fn external_row<'v>(external: &'v Value<'_>) -> Option<EmbedRow<'v>> {
    Some(EmbedRow {
        kind: EmbedKind::External,
        cells: vec![
            Some(text(external, "uri")?),
            Some(text(external, "title")?),
            Some(text(external, "description")?),
            blob_cid(external.get("thumb")).map(Cow::Owned),
        ],
    })
}

fn video_row<'v>(embed: &'v Value<'_>) -> Option<EmbedRow<'v>> {
    Some(EmbedRow {
        kind: EmbedKind::Video,
        cells: vec![
            Some(blob_cid(embed.get("video"))?.into()),
            text(embed, "alt"),
        ],
    })
}

fn record_row<'v>(embed: &'v Value<'_>) -> Option<EmbedRow<'v>> {
    let quoted = embed.get("record")?;
    Some(EmbedRow {
        kind: EmbedKind::Record,
        cells: vec![Some(text(quoted, "uri")?), Some(text(quoted, "cid")?)],
    })
}

/// An open union did not look inside: `record` must be a strong reference.
fn is_record_embed(embed: &Value<'_>) -> bool {
    let Some(quoted) = embed.get("record") else {
        return false;
    };
    let typed = quoted
        .get("$type")
        .is_none_or(|name| name.as_text() == Some(STRONG_REF));
    let holds = |name, valid: fn(&str) -> bool| {
        quoted.get(name).and_then(Value::as_text).is_some_and(valid)
    };
    typed && holds("uri", syntax::is_at_uri) && holds("cid", syntax::is_cid)
}

/// A quoted uri is taken apart, and a post quotes a record once.
fn check_records(rows: &[EmbedRow<'_>]) -> Result<(), Refusal> {
    let mut quoted = rows
        .iter()
        .filter(|row| row.kind == EmbedKind::Record)
        .filter_map(|row| row.cells.first()?.as_deref());
    let (first, second) = (quoted.next(), quoted.next());
    for uri in first.iter().chain(&second) {
        if !syntax::has_plain_authority(uri) {
            return Err((Reason::BadUri, format!("cannot take {uri} apart")));
        }
    }
    match first {
        Some(uri) if first == second => {
            Err((Reason::KeyOccupied, format!("the post embeds {uri} twice")))
        }
        _ => Ok(()),
    }
}

fn type_of<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    value.get("$type")?.as_text()
}

fn text<'v>(map: &'v Value<'_>, name: &str) -> Option<Cow<'v, str>> {
    map.get(name)?.as_text().map(Cow::Borrowed)
}

/// The text of the CID of a blob.
pub fn blob_cid(blob: Option<&Value<'_>>) -> Option<String> {
    Some(blob?.get("ref")?.as_link()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cid;

    const CID: &str = "bafkreigy5p3xxceipk2o6nqtnugpft26ol6yleqhboqziino7axvdngtci";
    const POST: &str = "at://did:plc:abc/app.bsky.feed.post/1";

    fn map<'a>(entries: Vec<(&'a str, Value<'a>)>) -> Value<'a> {
        Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }

    fn word(text: &str) -> Value<'_> {
        Value::Text(text.into())
    }

    fn blob(bytes: &[u8]) -> Value<'_> {
        map(vec![("ref", Value::Link(cid::Cid::exact(bytes).unwrap()))])
    }

    fn reference(uri: &str) -> Value<'_> {
        map(vec![("uri", word(uri)), ("cid", word(CID))])
    }

    fn quote(uri: &str) -> Value<'_> {
        map(vec![("$type", word(RECORD)), ("record", reference(uri))])
    }

    fn both<'a>(record: Value<'a>, media: Value<'a>) -> Value<'a> {
        let kind = word(RECORD_WITH_MEDIA);
        let embed = map(vec![("$type", kind), ("record", record), ("media", media)]);
        map(vec![("embed", embed)])
    }

    fn cells<'v>(row: &'v EmbedRow<'_>) -> Vec<Option<&'v str>> {
        row.cells.iter().map(Option::as_deref).collect()
    }

    #[test]
    fn gallery_items_keep_their_positions() {
        let bytes = cid::parse_str(CID).unwrap();
        let image = |kind| {
            map(vec![
                ("$type", word(kind)),
                ("image", blob(&bytes)),
                ("alt", word("a")),
            ])
        };
        let items = vec![image(GALLERY_IMAGE), image("x.y#z"), image(GALLERY_IMAGE)];
        let embed = map(vec![
            ("$type", word(GALLERY)),
            ("items", Value::List(items)),
        ]);
        let record = map(vec![("embed", embed)]);
        let rows = embed_rows(&record).unwrap();
        let positions: Vec<_> = rows.iter().map(|row| cells(row)[0]).collect();
        assert_eq!(positions, [Some("0"), Some("2")]);
        assert_eq!(cells(&rows[0]), [Some("0"), Some(CID), Some("a")]);
    }

    #[test]
    fn empty_images_and_unknown_embeds_have_no_rows() {
        for embed in [
            map(vec![
                ("$type", word(IMAGES)),
                ("images", Value::List(vec![])),
            ]),
            map(vec![("$type", word("com.example.unknown"))]),
            Value::Null,
        ] {
            assert_eq!(embed_rows(&map(vec![("embed", embed)])), Ok(vec![]));
        }
    }

    #[test]
    fn record_as_media_is_a_second_record() {
        let other = "at://did:plc:abc/app.bsky.feed.post/2";
        let record = both(quote(POST), quote(other));
        let uris: Vec<_> = embed_rows(&record)
            .unwrap()
            .iter()
            .map(|row| cells(row)[0].unwrap().to_owned())
            .collect();
        assert_eq!(uris, [POST, other]);
        let malformed = both(quote(POST), quote("nothing"));
        assert_eq!(embed_rows(&malformed).unwrap().len(), 1);
    }

    #[test]
    fn the_same_record_twice_costs_the_post() {
        let record = both(quote(POST), quote(POST));
        let (reason, _) = embed_rows(&record).unwrap_err();
        assert_eq!(reason, Reason::KeyOccupied);
    }

    #[test]
    fn a_quoted_uri_that_cannot_be_taken_apart_costs_the_post() {
        let record = map(vec![(
            "embed",
            quote("at://did:web:a_b/app.bsky.feed.post/1"),
        )]);
        assert_eq!(embed_rows(&record).unwrap_err().0, Reason::BadUri);
    }

    #[test]
    fn external_and_video_have_optional_cells() {
        let bytes = cid::parse_str(CID).unwrap();
        let external = map(vec![
            ("uri", word("u")),
            ("title", word("t")),
            ("description", word("")),
        ]);
        let record = both(
            quote(POST),
            map(vec![("$type", word(EXTERNAL)), ("external", external)]),
        );
        let rows = embed_rows(&record).unwrap();
        assert_eq!(cells(&rows[1]), [Some("u"), Some("t"), Some(""), None]);
        let video = map(vec![("$type", word(VIDEO)), ("video", blob(&bytes))]);
        let record = map(vec![("embed", video)]);
        assert_eq!(cells(&embed_rows(&record).unwrap()[0]), [Some(CID), None]);
    }
}
