//! What a record says to other records: read once, when it is decoded.

use serde_json::Value as Json;

use super::batch::{Detail, Mentioned, PostDetail, RowNotice, Rules, Subject};
use super::rows::{self, Facts};
use crate::cbor::Value;
use crate::plan::{Collection, Role, Skip};
use crate::{datetime, syntax};

pub(super) const POST: &str = "app.bsky.feed.post";
const THREADGATE: &str = "app.bsky.feed.threadgate";
const POSTGATE: &str = "app.bsky.feed.postgate";
const MENTION: &str = "app.bsky.richtext.facet#mention";
const RULE_MENTION: &str = "app.bsky.feed.threadgate#mentionRule";
const RULE_FOLLOWER: &str = "app.bsky.feed.threadgate#followerRule";
const RULE_FOLLOWING: &str = "app.bsky.feed.threadgate#followingRule";
const RULE_LIST: &str = "app.bsky.feed.threadgate#listRule";
const RULE_DISABLE: &str = "app.bsky.feed.postgate#disableRule";

/// The earlier of a record's own date and its event's, compared as texts, as the data
/// plane's generated columns do.
pub(super) fn sort_at<'a>(created_at: &'a str, time: &'a str) -> &'a str {
    created_at.min(time)
}

/// `createdAt` as columns hold it.
pub(super) fn created_at(record: &Value<'_>) -> Option<String> {
    datetime::normalize(record.get("createdAt")?.as_text()?)
}

/// What the code of this collection's role needs of the record.
pub(super) fn detail(
    role: Role,
    created_at: Option<&str>,
    facts: &Facts<'_>,
    record: &Value<'_>,
    quoted: Vec<Subject>,
) -> Detail {
    let created_at = created_at.unwrap_or(facts.time);
    match role {
        Role::Plain => Detail::None,
        Role::Post => Detail::Post(Box::new(PostDetail {
            root: text(record, &["reply", "root", "uri"]),
            parent: text(record, &["reply", "parent", "uri"]),
            mentions: mentions(record),
            quoted,
            created_at: created_at.into(),
            sort_at: sort_at(created_at, facts.time).into(),
        })),
        Role::Repost => Detail::Repost {
            subject: text(record, &["subject", "uri"]).unwrap_or_default(),
            sort_at: sort_at(created_at, facts.time).into(),
        },
        Role::Threadgate | Role::Postgate => Detail::Gate {
            post: text(record, &["post"]).unwrap_or_default(),
        },
    }
}

/// The notifications that the record makes if its row is inserted, before any is muted.
pub(super) fn notices(
    collection: &Collection,
    created_at: Option<&str>,
    facts: &Facts<'_>,
    record: &Value<'_>,
) -> Vec<RowNotice> {
    let mut made = Vec::new();
    let Some(notices) = &collection.notices else {
        return made;
    };
    for (position, notice) in notices.made.iter().enumerate() {
        let Some(named) = rows::text_at(&notice.path, record) else {
            continue;
        };
        let did = if notice.about {
            syntax::authority_of(named)
        } else {
            named
        };
        if did == facts.did {
            match notice.own {
                Skip::All => break,
                Skip::This => continue,
                Skip::Nothing => {}
            }
        }
        let subject = notice.about.then(|| named.into());
        let sort_at = match created_at {
            Some(created_at) if !notice.at_event => sort_at(created_at, facts.time),
            _ => facts.time,
        };
        made.push(RowNotice {
            reason: position,
            did: did.into(),
            subject,
            sort_at: sort_at.into(),
        });
    }
    made
}

fn text(record: &Value<'_>, path: &[&str]) -> Option<Box<str>> {
    let found = path
        .iter()
        .try_fold(record, |value, name| value.get(name))?;
    let text = found.as_text()?;
    (!text.is_empty()).then(|| text.into())
}

/// The DIDs of a post's mention facets, in order.
fn mentions(record: &Value<'_>) -> Vec<Box<str>> {
    let facets = record.get("facets").and_then(Value::as_list);
    let features = facets
        .unwrap_or_default()
        .iter()
        .filter_map(|facet| facet.get("features")?.as_list())
        .flatten();
    features
        .filter(|feature| feature.get("$type").and_then(Value::as_text) == Some(MENTION))
        .filter_map(|feature| Some(feature.get("did")?.as_text()?.into()))
        .collect()
}

/// Whether an at-uri names a post.
pub(super) fn is_post(uri: &str) -> bool {
    syntax::collection_of(uri) == Some(POST)
}

/// Where the gate of a thread lies: a post's uri with the other collection, any other
/// uri itself.
pub(super) fn threadgate_uri(post: &str) -> String {
    gate_uri(post, THREADGATE)
}

/// The same for what a post allows to be done with it.
pub(super) fn postgate_uri(post: &str) -> String {
    gate_uri(post, POSTGATE)
}

fn gate_uri(post: &str, collection: &str) -> String {
    if !is_post(post) {
        return post.to_owned();
    }
    // The slash keeps out a host that is named alike.
    post.replacen(&format!("/{POST}"), &format!("/{collection}"), 1)
}

/// The post that a gate is of, by the gate's uri.
pub(super) fn gated(gate: &str) -> String {
    let of = syntax::collection_of(gate).unwrap_or(POST);
    gate.replacen(of, POST, 1)
}

/// What a gate's record allows and hides; unknown rules allow nothing.
pub(super) fn rules(json: &str) -> Rules {
    let record: Json = serde_json::from_str(json).unwrap_or_default();
    let types = |list: &Json, name: &str| {
        list.as_array()
            .is_some_and(|rules| rules.iter().any(|rule| rule["$type"] == name))
    };
    let allow = &record["allow"];
    Rules {
        closed: allow.is_array(),
        mentioned: types(allow, RULE_MENTION),
        followers: types(allow, RULE_FOLLOWER),
        following: types(allow, RULE_FOLLOWING),
        lists: texts(
            allow
                .as_array()
                .into_iter()
                .flatten()
                .filter(|rule| rule["$type"] == RULE_LIST)
                .map(|rule| &rule["list"]),
        ),
        hidden: texts(record["hiddenReplies"].as_array().into_iter().flatten()),
        no_embeds: types(&record["embeddingRules"], RULE_DISABLE),
    }
}

fn texts<'j>(values: impl Iterator<Item = &'j Json>) -> Vec<String> {
    values.filter_map(Json::as_str).map(str::to_owned).collect()
}

/// Whom a record that is any record mentions, as its JSON text says.
pub(super) fn mentioned(json: &str) -> Mentioned {
    let record: Json = serde_json::from_str(json).unwrap_or_default();
    let facets = record["facets"].as_array().into_iter().flatten();
    let features = facets
        .filter_map(|facet| facet["features"].as_array())
        .flatten();
    features
        .filter(|feature| feature["$type"] == MENTION)
        .filter_map(|feature| feature["did"].as_str())
        .map(str::to_owned)
        .collect()
}

/// The root that a record which may be any record replies to, if it is a reply.
pub(super) fn reply_root(json: &str) -> Option<String> {
    let record: Json = serde_json::from_str(json).unwrap_or_default();
    let reply = record.get("reply").filter(|reply| !reply.is_null())?;
    Some(reply["root"]["uri"].as_str().unwrap_or_default().to_owned())
}
