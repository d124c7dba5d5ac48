//! The overlay over posts: who replies to what, and what was judged of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::known::{Known, PostRow};

/// A post as its row tells it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Post<'b> {
    pub cid: &'b str,
    pub sort_at: &'b str,
    pub parent: Option<&'b str>,
    pub root: Option<&'b str>,
    pub flags: Flags,
}

impl Post<'_> {
    /// As a look-up would tell it.
    pub fn row(&self, uri: &str) -> PostRow {
        (
            uri.to_owned(),
            self.cid.to_owned(),
            self.sort_at.to_owned(),
            self.parent.map(str::to_owned),
            self.root.map(str::to_owned),
            self.flags.invalid_root,
            self.flags.violates_gate,
        )
    }
}

/// What is judged of a post; `None` is NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub invalid_root: Option<bool>,
    pub violates_gate: Option<bool>,
    pub violates_embedding: Option<bool>,
    pub has_gate: [Option<bool>; 2],
}

impl Flags {
    /// With these verdicts on a reply: both columns are NULL unless one is true.
    pub fn judged(self, invalid: bool, violates: bool) -> Self {
        let is_any = invalid || violates;
        Self {
            invalid_root: is_any.then_some(invalid),
            violates_gate: is_any.then_some(violates),
            ..self
        }
    }
}

/// The columns of a row that a new verdict changed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Judged {
    /// invalidReplyRoot, violatesThreadGate.
    pub reply: Option<(Option<bool>, Option<bool>)>,
    /// violatesEmbeddingRules: true or NULL.
    pub quote: Option<bool>,
}

/// Which of a post's two gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Thread,
    Embedding,
}

/// Every post that the batch can see.
#[derive(Debug)]
pub(crate) struct Posts<'b> {
    rows: HashMap<&'b str, Post<'b>>,
    replies: HashMap<&'b str, BTreeSet<&'b str>>,
    removed: HashSet<&'b str>,
    /// Inserted by the batch.
    fresh: HashSet<&'b str>,
    /// What to set on rows that the database holds.
    marks: HashMap<&'b str, [Option<bool>; 2]>,
    /// Rows that were judged again.
    judged: BTreeMap<&'b str, Judged>,
}

impl<'b> Posts<'b> {
    pub fn new(known: &'b Known) -> Self {
        let mut posts = Self {
            rows: HashMap::with_capacity(known.posts.len()),
            replies: HashMap::new(),
            removed: HashSet::new(),
            fresh: HashSet::new(),
            marks: HashMap::new(),
            judged: BTreeMap::new(),
        };
        let late = known.late.posts.iter();
        let late = late.map(|late| (&late.post, late.violates_embedding));
        // Of two answers the later one counts: others may have judged in between.
        let others = known.posts.iter().rev().map(|post| (post, None));
        for (row, violates_embedding) in late.chain(others) {
            let (uri, cid, sort_at, parent, root, invalid_root, violates_gate) = row;
            let post = Post {
                cid,
                sort_at,
                parent: parent.as_deref(),
                root: root.as_deref(),
                flags: Flags {
                    invalid_root: *invalid_root,
                    violates_gate: *violates_gate,
                    violates_embedding,
                    ..Flags::default()
                },
            };
            if !posts.rows.contains_key(uri.as_str()) {
                posts.put(uri, post);
            }
        }
        posts
    }

    /// Posts that came or were judged again; some may be gone.
    pub fn changed(&self) -> impl Iterator<Item = &'b str> + '_ {
        self.fresh.iter().chain(self.judged.keys()).copied()
    }

    /// Posts that went.
    pub fn removed(&self) -> impl Iterator<Item = &'b str> + '_ {
        self.removed.iter().copied()
    }

    pub fn get(&self, uri: &str) -> Option<&Post<'b>> {
        self.rows.get(uri)
    }

    /// A new row: what was made of another row of this uri is void.
    pub fn insert(&mut self, uri: &'b str, post: Post<'b>) {
        self.marks.remove(uri);
        self.removed.remove(uri);
        self.judged.remove(uri);
        self.fresh.insert(uri);
        self.put(uri, post);
    }

    fn put(&mut self, uri: &'b str, post: Post<'b>) {
        if let Some(parent) = post.parent {
            self.replies.entry(parent).or_default().insert(uri);
        }
        self.rows.insert(uri, post);
    }

    pub fn set_flags(&mut self, uri: &str, flags: Flags) {
        if let Some(post) = self.rows.get_mut(uri) {
            post.flags = flags;
        }
    }

    /// Other flags for a row that exists.
    pub fn judge_again(&mut self, uri: &'b str, flags: Flags) {
        let was = self.get(uri).map_or(flags, |post| post.flags);
        let judged = self.judged.entry(uri).or_default();
        let reply = |flags: Flags| (flags.invalid_root, flags.violates_gate);
        if reply(was) != reply(flags) {
            judged.reply = Some(reply(flags));
        }
        if was.violates_embedding != flags.violates_embedding {
            judged.quote = Some(flags.violates_embedding == Some(true));
        }
        self.set_flags(uri, flags);
    }

    pub fn remove(&mut self, uri: &'b str) -> Option<Post<'b>> {
        self.marks.remove(uri);
        self.judged.remove(uri);
        self.removed.insert(uri);
        let post = self.rows.remove(uri)?;
        if let Some(replies) = post.parent.and_then(|parent| self.replies.get_mut(parent)) {
            replies.remove(uri);
        }
        Some(post)
    }

    /// A gate came (true) or went (false). A post that is not in the batch may exist or not.
    pub fn mark(&mut self, uri: &'b str, gate: Gate, there: bool) {
        if let Some(post) = self.rows.get_mut(uri) {
            if let Some(flag) = post.flags.has_gate.get_mut(gate as usize) {
                *flag = Some(there);
            }
        }
        if let Some(mark) = self.marks.entry(uri).or_default().get_mut(gate as usize) {
            *mark = Some(there);
        }
    }

    /// The post itself (height 0) and those above it, at most `height` up.
    pub fn chain(&self, uri: &'b str, height: usize) -> Vec<(&'b str, usize)> {
        let mut chain = Vec::new();
        let mut next = Some(uri);
        for step in 0..=height {
            let Some((uri, post)) = next.and_then(|uri| Some((uri, self.rows.get(uri)?))) else {
                break;
            };
            chain.push((uri, step));
            next = post.parent;
        }
        chain
    }

    /// The posts below, nearest first, at most `depth` down.
    pub fn tree(&self, uri: &'b str, depth: usize) -> Vec<(&'b str, usize)> {
        let mut found: Vec<(&str, usize)> = Vec::new();
        let mut level = vec![uri];
        for step in 1..=depth {
            let mut below: Vec<&str> = level
                .iter()
                .filter_map(|uri| self.replies.get(uri))
                .flatten()
                .copied()
                .collect();
            below.sort_unstable();
            found.extend(below.iter().map(|uri| (*uri, step)));
            level = below;
        }
        found
    }

    /// Those that answer a post.
    pub fn replies(&self, uri: &str) -> impl Iterator<Item = &'b str> + '_ {
        self.replies.get(uri).into_iter().flatten().copied()
    }

    /// All that hangs on a post, which itself need not be there.
    pub fn thread(&self, uri: &str) -> Vec<&'b str> {
        let mut found: Vec<&str> = self.replies(uri).collect();
        let mut seen: HashSet<&str> = found.iter().copied().collect();
        let mut at = 0;
        while let Some(uri) = found.get(at).copied() {
            found.extend(self.replies(uri).filter(|reply| seen.insert(reply)));
            at += 1;
        }
        found
    }

    /// Rows judged again, sorted by uri.
    pub fn judged(&self) -> &BTreeMap<&'b str, Judged> {
        &self.judged
    }

    /// Gate marks for rows of the database, sorted by uri.
    pub fn marks(&self) -> Vec<(&'b str, [Option<bool>; 2])> {
        let mut marks: Vec<_> = self.marks.iter().map(|(uri, mark)| (*uri, *mark)).collect();
        marks.sort_unstable();
        marks
    }
}
