//! Which thread mutes a batch must know of: all, where there are few, else those that matter to it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::batch::PostDetail;
use super::wanted::{written_of, Wanted};
use crate::syntax;

/// Fewer thread mutes than these are all read at once.
pub(super) const SOME: usize = 1_000;

impl Wanted<'_> {
    /// Posts that notifications are about, where their recipients mute threads.
    pub(super) fn subjects(&mut self) {
        let known = self.known;
        let muters: HashSet<&str> = known.mutes.iter().map(|(did, _)| did.as_str()).collect();
        if known.all_mutes && muters.is_empty() {
            return;
        }
        let may_mute = |did: &str| !known.all_mutes || muters.contains(did);
        let batch = self.batch;
        for (_, written) in batch.ops.iter().filter_map(written_of) {
            let Some(row) = &written.row else { continue };
            for notice in &row.notices {
                if let Some(subject) = notice.subject.as_deref().filter(|_| may_mute(&notice.did)) {
                    self.add("lookup_posts", subject);
                }
            }
            for quoted in row
                .detail
                .post()
                .into_iter()
                .flat_map(PostDetail::quoted_posts)
            {
                if may_mute(syntax::authority_of(&quoted.uri)) {
                    self.add("lookup_posts", &quoted.uri);
                }
            }
        }
    }

    /// Mutes one by one, where there are too many to know them all.
    pub(super) fn mutes(&mut self) {
        if self.known.all_mutes || self.known.mutes.is_empty() {
            return;
        }
        let mut roots: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        let late = self.known.late.posts.iter().map(|late| &late.post);
        for (uri, _, _, _, root, ..) in self.known.posts.iter().chain(late) {
            let root = root.as_deref().unwrap_or(uri);
            roots.entry(uri).or_default().insert(root);
        }
        for (target, written) in self.batch.ops.iter().filter_map(written_of) {
            if let Some(post) = written.row.as_ref().and_then(|row| row.detail.post()) {
                let root = post.root.as_deref().unwrap_or(&target.uri);
                roots.entry(&target.uri).or_default().insert(root);
            }
        }
        for (uri, roots) in &roots {
            let host = syntax::authority_of(uri);
            self.pairs.extend(
                roots
                    .iter()
                    .map(|root| (host.to_owned(), (*root).to_owned())),
            );
        }
    }
}
