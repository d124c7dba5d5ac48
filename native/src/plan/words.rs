//! What a declaration says of a collection beside its table: whom it tells, what it adds to.

use serde::Deserialize;

use super::{Path, TableId};

/// Collections whose effects on other rows need code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    #[default]
    Plain,
    Post,
    Repost,
    Threadgate,
    Postgate,
}

/// What is left unsaid when the recipient is the author.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Skip {
    Nothing,
    This,
    /// This notification, and those declared after it.
    All,
}

/// A notification that an inserted row makes.
#[derive(Debug)]
pub struct Notice {
    pub reason: String,
    /// An at-uri whose host is told; or a DID.
    pub path: Path,
    /// The at-uri is the subject.
    pub about: bool,
    pub own: Skip,
    /// Dated by the event, not by the earlier of event and record.
    pub at_event: bool,
}

#[derive(Debug)]
pub struct Notices {
    pub made: Vec<Notice>,
    /// What was told stays told when the record goes.
    pub stay: bool,
    /// Reason of what the recipient of the first is told when the row goes.
    pub undone: Option<String>,
}

/// A number that rows add up to: which one, and where the unique key names whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub tally: Tally,
    /// Position in the unique key.
    pub key: usize,
}

/// The numbers that are kept, in the order of the statements' parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tally {
    Likes,
    Replies,
    Reposts,
    Followers,
    Follows,
    Posts,
}

impl Tally {
    pub(super) fn named(table: &str, column: &str) -> Option<Self> {
        Some(match (table, column) {
            ("post_agg", "likeCount") => Self::Likes,
            ("post_agg", "replyCount") => Self::Replies,
            ("post_agg", "repostCount") => Self::Reposts,
            ("profile_agg", "followersCount") => Self::Followers,
            ("profile_agg", "followsCount") => Self::Follows,
            ("profile_agg", "postsCount") => Self::Posts,
            _ => return None,
        })
    }
}

/// Tables whose rows are made of several records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Derived {
    pub feed_item: TableId,
    pub quote: TableId,
    pub duplicate_record: TableId,
    pub notification: TableId,
}
