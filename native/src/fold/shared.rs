//! The net effect on rows that several records make together, and on the numbers that many
//! people's records add up to: those come last, by differences, in byte order.

use std::collections::BTreeMap;

use super::changes::Statement;
use super::collect::Rows;
use super::duplicates::Duplicates;
use super::feed::Feed;
use super::op_threads::OpThreads;
use super::people::{add, boolean, push};
use super::posts::Judged;
use super::quotes::QuoteChanges;
use super::rows::text_row;
use super::tallies::Tallies;
use super::told::Told;
use crate::pgcopy::{array_texts, ArrayText};
use crate::plan::Plan;

pub(super) struct Shared<'b> {
    pub feed: Feed<'b>,
    pub duplicates: Duplicates<'b>,
    pub told: Told<'b>,
    pub op_threads: OpThreads<'b>,
    pub tallies: Tallies<'b>,
    pub quotes: QuoteChanges<'b>,
    /// By post: whether it has a thread gate and a post gate, where that changed.
    pub marks: Vec<(&'b str, [Option<bool>; 2])>,
    /// Posts of the database that were judged again.
    pub judged: Vec<(&'b str, Judged)>,
    /// The clock, as an ISO string.
    pub now: &'b str,
}

impl<'b> Shared<'b> {
    /// Put rows among the others; the statements that come after all rows.
    pub fn collect(self, plan: &Plan, rows: &mut Rows<'b>) -> Vec<Statement> {
        let tables = plan.derived;
        let (gone_posts, gone, fresh) = self.feed.into_changes();
        rows.delete_by("delete_feed_items_of", gone_posts.into_iter());
        for uri in gone {
            rows.delete(tables.feed_item, uri);
        }
        for item in fresh {
            let cells = [
                item.uri,
                item.cid,
                item.kind,
                item.post,
                item.did,
                item.sort_at,
            ];
            rows.line(tables.feed_item, text_row(cells.map(Some)), item.by);
        }
        for uri in &self.quotes.gone {
            rows.delete(tables.quote, uri);
        }
        rows.delete_by(
            "delete_quotes_of",
            self.quotes.gone_subjects.iter().copied(),
        );
        for quote in &self.quotes.fresh {
            let (subject, cid) = (quote.subject, quote.subject_cid);
            let cells = [
                quote.uri,
                quote.cid,
                subject,
                cid,
                quote.created_at,
                quote.time,
            ];
            rows.line(tables.quote, text_row(cells.map(Some)), quote.by);
        }
        let (gone, fresh) = self.duplicates.into_changes();
        for uri in gone {
            rows.delete(tables.duplicate_record, uri);
        }
        for loser in fresh {
            let cells = [loser.uri, loser.cid, loser.of, loser.time];
            rows.line(tables.duplicate_record, text_row(cells.map(Some)), loser.by);
        }
        let (taken_back, withdrawn, told) = self.told.into_changes();
        rows.delete_by("delete_told", withdrawn.into_iter());
        rows.delete_by("delete_notifications_of", taken_back.into_iter());
        for each in told {
            let tuple = text_row([
                Some(each.did),
                Some(each.author),
                Some(each.record_uri),
                Some(each.record_cid),
                Some(each.reason),
                each.subject,
                Some(each.sort_at),
            ]);
            rows.line(tables.notification, tuple, each.by);
        }
        let mut statements = Vec::new();
        marks(&self.marks, &mut statements);
        judged(&self.judged, &mut statements);
        op_threads(&self.op_threads, self.now, &mut statements);
        counts("add_post_counts", &self.tallies.posts, &mut statements);
        quote_counts(&self.quotes, &mut statements);
        counts(
            "add_profile_counts",
            &self.tallies.profiles,
            &mut statements,
        );
        statements
    }
}

fn marks(marks: &[(&str, [Option<bool>; 2])], statements: &mut Vec<Statement>) {
    for (place, name) in [(0, "mark_thread_gates"), (1, "mark_post_gates")] {
        let mut arrays: [ArrayText; 2] = array_texts();
        for (uri, marks) in marks {
            if let Some(there) = marks.get(place).copied().flatten() {
                push(&mut arrays, [Some(*uri), Some(boolean(there))]);
            }
        }
        add(name, arrays, statements);
    }
}

fn judged(judged: &[(&str, Judged)], statements: &mut Vec<Statement>) {
    let mut replies: [ArrayText; 3] = array_texts();
    let mut quotes: [ArrayText; 2] = array_texts();
    for (uri, new) in judged {
        if let Some((invalid, violates)) = new.reply {
            let [invalid, violates] = [invalid, violates].map(|flag| flag.map(boolean));
            push(&mut replies, [Some(*uri), invalid, violates]);
        }
        if let Some(violates) = new.quote {
            push(&mut quotes, [Some(*uri), violates.then_some(boolean(true))]);
        }
    }
    add("judge_replies", replies, statements);
    add("judge_quotes", quotes, statements);
}

fn op_threads(op_threads: &OpThreads<'_>, now: &str, statements: &mut Vec<Statement>) {
    let mut inserts: [ArrayText; 4] = array_texts();
    let mut deletes: [ArrayText; 3] = array_texts();
    for (root, uri, reply) in op_threads.changes() {
        let deleted_at = reply.is_deleted.then_some(now);
        if let Some(parent) = reply.parent {
            push(
                &mut inserts,
                [Some(root), Some(parent), Some(uri), deleted_at],
            );
        } else {
            push(&mut deletes, [Some(root), Some(uri), deleted_at]);
        }
    }
    add("delete_op_thread_replies", deletes, statements);
    add("insert_op_thread_replies", inserts, statements);
}

fn counts(name: &str, counts: &BTreeMap<&str, [i64; 3]>, statements: &mut Vec<Statement>) {
    let mut arrays: [ArrayText; 4] = array_texts();
    for (key, counts) in counts {
        let [first, second, third] = counts.map(|count| count.to_string());
        let row = [*key, &first, &second, &third];
        push(&mut arrays, row.map(Some));
    }
    add(name, arrays, statements);
}

fn quote_counts(quotes: &QuoteChanges<'_>, statements: &mut Vec<Statement>) {
    let mut counts: [ArrayText; 2] = array_texts();
    for (cid, difference) in &quotes.counts {
        push(&mut counts, [Some(*cid), Some(&difference.to_string())]);
    }
    let mut counted: [ArrayText; 3] = array_texts();
    for (uri, cid, difference) in &quotes.counted {
        push(
            &mut counted,
            [Some(*uri), Some(*cid), Some(&difference.to_string())],
        );
    }
    // Quotes that nobody knew of may have gone with the posts that they quote.
    let may_change = !quotes.gone_subjects.is_empty();
    if may_change || counts.first().is_some_and(|array| !array.is_empty()) {
        let arrays = counts.into_iter().chain(counted);
        let parameters = arrays.map(ArrayText::finish).collect();
        statements.push(("set_quote_counts".into(), parameters));
    }
}
