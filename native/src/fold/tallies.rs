//! Differences of the numbers that rows add up to.

use std::collections::BTreeMap;

use crate::plan::Tally;

/// By uri or DID, in byte order, so that everybody locks the rows in the same order. A key
/// that was touched has a row, also where nothing changed in the end.
#[derive(Debug, Default)]
pub(crate) struct Tallies<'b> {
    /// Likes, replies, reposts.
    pub posts: BTreeMap<&'b str, [i64; 3]>,
    /// Followers, follows, posts.
    pub profiles: BTreeMap<&'b str, [i64; 3]>,
}

impl<'b> Tallies<'b> {
    pub fn add(&mut self, tally: Tally, key: &'b str, difference: i64) {
        let (counts, place) = match tally {
            Tally::Likes => (self.posts.entry(key), 0),
            Tally::Replies => (self.posts.entry(key), 1),
            Tally::Reposts => (self.posts.entry(key), 2),
            Tally::Followers => (self.profiles.entry(key), 0),
            Tally::Follows => (self.profiles.entry(key), 1),
            Tally::Posts => (self.profiles.entry(key), 2),
        };
        if let Some(count) = counts.or_default().get_mut(place) {
            *count += difference;
        }
    }

    /// The row of a post must be there.
    pub fn touch_post(&mut self, uri: &'b str) {
        self.posts.entry(uri).or_default();
    }
}
