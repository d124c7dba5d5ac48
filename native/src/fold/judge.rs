//! Rules about posts that look at other records: as of now, and never again.

use std::rc::Rc;

use super::apply::Fold;
use super::batch::Rules;
use super::detail;
use super::world::{Seen, Version};
use crate::plan::TableId;
use crate::syntax;

impl<'b> Fold<'b, '_> {
    /// Whether a reply's parent is missing, or stands in another thread than the reply says.
    pub(super) fn has_invalid_root(&self, root: &str, parent: &str) -> bool {
        let parent_root: Option<String> = match self.state.world.seen(parent) {
            Seen::Nothing => match self.state.posts.get(parent) {
                // Asked for as a post alone: its record was not looked for by itself.
                Some(row) if !self.is_of_batch(parent) => row.root.map(str::to_owned),
                _ => return true,
            },
            Seen::Content(content) => match self.version(content) {
                Some(version) => self.root_of(&version),
                None => return true,
            },
            Seen::Text(text) => match self.state.posts.get(parent) {
                Some(row) => row.root.map(str::to_owned),
                // It came between the two look-ups: what is judged of it is not known yet.
                None if self.known.is_together() && detail::is_post(parent) => return true,
                None => self.reply_root(text),
            },
        };
        let row = self.state.posts.get(parent);
        if row.is_some_and(|row| row.flags.invalid_root == Some(true)) {
            return true;
        }
        if parent == root {
            return parent_root.is_some();
        }
        parent_root.as_deref() != Some(root)
    }

    /// Whether the thread's gate keeps this replier out.
    pub(super) fn violates_thread_gate(&self, replier: &str, root: &str) -> bool {
        let owner = syntax::authority_of(root);
        if owner == replier {
            return false;
        }
        let Some(rules) = self.rules(&detail::threadgate_uri(root)) else {
            return false;
        };
        if !rules.closed || (rules.mentioned && self.mentions(root, replier)) {
            return false;
        }
        let follows =
            |who: &str, whom: &str| self.is_held(self.tables.follow, &format!("{who}\0{whom}"));
        let lets_in = (rules.followers && follows(replier, owner))
            || (rules.following && follows(owner, replier))
            || rules
                .lists
                .iter()
                .any(|list| self.is_held(self.tables.list_item, &format!("{list}\0{replier}")));
        !lets_in
    }

    /// Whether the quoted post's author keeps others from embedding it.
    pub(super) fn violates_embedding(&self, author: &str, quoted: &str) -> bool {
        syntax::authority_of(quoted) != author
            && self
                .rules(&detail::postgate_uri(quoted))
                .is_some_and(|rules| rules.no_embeds)
    }

    /// What the gate at this uri says now, if there is one.
    pub(super) fn rules(&self, gate: &str) -> Option<Rc<Rules>> {
        let text = self.text(gate)?;
        Some(self.rules.of(text, detail::rules))
    }

    fn mentions(&self, root: &str, did: &str) -> bool {
        self.text(root)
            .is_some_and(|text| self.mentioned.of(text, detail::mentioned).contains(did))
    }

    /// The JSON text of a record as it is now.
    fn text(&self, uri: &str) -> Option<&'b str> {
        match self.state.world.seen(uri) {
            Seen::Nothing => None,
            Seen::Content(content) => Some(&self.version(content)?.written.json),
            Seen::Text(text) => Some(text),
        }
    }

    fn reply_root(&self, text: &'b str) -> Option<String> {
        self.roots.of(text, detail::reply_root).as_ref().clone()
    }

    /// The root that a version of a record replies to, if it is a reply.
    fn root_of(&self, version: &Version<'b>) -> Option<String> {
        match version.row().and_then(|row| row.detail.post()) {
            Some(post) => post.root.as_deref().map(str::to_owned),
            None => self.reply_root(&version.written.json),
        }
    }

    fn is_held(&self, table: Option<TableId>, key: &str) -> bool {
        table.is_some_and(|table| self.state.world.holder(table, Some(key)).is_some())
    }

    fn is_of_batch(&self, uri: &str) -> bool {
        self.state.world.is_slot(uri)
    }
}
