//! The overlay over feed items: a post's own, and one for each repost.

use std::collections::{BTreeSet, HashMap};

use super::known::Known;

#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedItem<'b> {
    pub uri: &'b str,
    pub cid: &'b str,
    pub kind: &'static str,
    pub post: &'b str,
    pub did: &'b str,
    pub sort_at: &'b str,
    /// The op that made it.
    pub by: usize,
}

#[derive(Clone, Copy, Debug)]
enum State<'b> {
    Absent,
    /// In the database, of this post.
    Known(&'b str),
    Fresh(FeedItem<'b>),
}

#[derive(Debug, Default)]
pub(crate) struct Feed<'b> {
    items: HashMap<&'b str, State<'b>>,
    /// Items in the batch or asked for, by post.
    by_post: HashMap<&'b str, Vec<&'b str>>,
    gone_posts: BTreeSet<&'b str>,
    gone: BTreeSet<&'b str>,
}

impl<'b> Feed<'b> {
    pub fn new(known: &'b Known) -> Self {
        let mut feed = Self::default();
        for (uri, post) in &known.feed_items {
            feed.items.insert(uri, State::Known(post));
            feed.by_post.entry(post).or_default().push(uri);
        }
        feed
    }

    /// Insert-or-nothing; whether it was inserted.
    pub fn insert(&mut self, item: FeedItem<'b>) -> bool {
        if !matches!(self.items.get(item.uri), None | Some(State::Absent)) {
            return false;
        }
        self.items.insert(item.uri, State::Fresh(item));
        self.by_post.entry(item.post).or_default().push(item.uri);
        true
    }

    /// The item of this uri goes.
    pub fn remove(&mut self, uri: &'b str) {
        if let Some(State::Known(_)) = self.items.insert(uri, State::Absent) {
            self.gone.insert(uri);
        }
    }

    /// Every item of this post goes, also those that the batch does not know.
    pub fn remove_of_post(&mut self, post: &'b str) {
        self.gone_posts.insert(post);
        for uri in self.by_post.remove(post).unwrap_or_default() {
            if let Some(state) = self.items.get_mut(uri) {
                let of = match state {
                    State::Known(of) => *of,
                    State::Fresh(item) => item.post,
                    State::Absent => continue,
                };
                if of == post {
                    *state = State::Absent;
                }
            }
        }
    }

    /// The post of the item of this uri.
    pub fn post_of(&self, uri: &str) -> Option<&'b str> {
        match self.items.get(uri)? {
            State::Absent => None,
            State::Known(post) => Some(post),
            State::Fresh(item) => Some(item.post),
        }
    }

    /// Posts whose items went.
    pub fn gone_posts(&self) -> impl Iterator<Item = &'b str> + '_ {
        self.gone_posts.iter().copied()
    }

    /// Posts whose items the database must drop; uris of single ones; items to insert.
    pub fn into_changes(self) -> (BTreeSet<&'b str>, BTreeSet<&'b str>, Vec<FeedItem<'b>>) {
        let mut fresh: Vec<_> = self
            .items
            .into_values()
            .filter_map(|state| match state {
                State::Fresh(item) => Some(item),
                _ => None,
            })
            .collect();
        fresh.sort_unstable_by_key(|item| item.uri);
        (self.gone_posts, self.gone, fresh)
    }
}
