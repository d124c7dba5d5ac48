//! The overlay over replies of a thread's own author.

use std::collections::BTreeMap;

/// What becomes of one row, by root and reply.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpReply<'b> {
    /// Insert it with this parent, if it is not there.
    pub parent: Option<&'b str>,
    /// It was deleted, if it was there: and stays so.
    pub is_deleted: bool,
}

/// Rows that the batch touches. They are only ever added, or marked as deleted.
#[derive(Debug, Default)]
pub(crate) struct OpThreads<'b>(BTreeMap<(&'b str, &'b str), OpReply<'b>>);

impl<'b> OpThreads<'b> {
    /// Insert-or-nothing: a row that is there keeps its parent, and stays deleted.
    pub fn insert(&mut self, root: &'b str, parent: &'b str, uri: &'b str) {
        let reply = self.0.entry((root, uri)).or_default();
        reply.parent.get_or_insert(parent);
    }

    pub fn delete(&mut self, root: &'b str, uri: &'b str) {
        self.0.entry((root, uri)).or_default().is_deleted = true;
    }

    /// Root, reply, change; sorted.
    pub fn changes(&self) -> impl Iterator<Item = (&'b str, &'b str, OpReply<'b>)> + '_ {
        self.0
            .iter()
            .map(|((root, uri), reply)| (*root, *uri, *reply))
    }
}
