//! What every database that folds wrote must look like, whatever they folded.

use std::collections::{BTreeMap, BTreeSet};

use _native::plan::Plan;
use _native::syntax;

use crate::database::{column_of, Database};
use crate::wire::{text, Cells};

type Sums = BTreeMap<String, i64>;

impl Database {
    pub fn is_sound(&self, plan: &Plan) {
        self.rows_are_of_records();
        self.posts_have_what_they_make(plan);
        self.numbers_are_sums(plan);
    }

    fn uris(&self, table: &str) -> BTreeSet<&str> {
        self.rows(table).map(|(uri, _)| uri).collect()
    }

    fn column(&self, plan: &Plan, table: &str, column: &str) -> Vec<String> {
        let place = column_of(plan, table, column);
        let values = self.rows(table).map(|(_, cells)| text(cells.get(place)));
        values.flatten().collect()
    }

    /// Every row of a collection's own has its record; every embed its post.
    fn rows_are_of_records(&self) {
        let records = self.uris("record");
        let posts = self.uris("post");
        for table in self.tables.keys() {
            let is_of_posts = table.starts_with("post_embed") || table == "quote";
            let parents = if is_of_posts { &posts } else { &records };
            assert!(self.uris(table).is_subset(parents), "{table}");
        }
        let embedding = self.embedded.keys().map(String::as_str);
        assert!(embedding.eq(self.uris("post_embed_record")));
    }

    /// A post has a feed item, and a place in the thread if that is its author's own.
    fn posts_have_what_they_make(&self, plan: &Plan) {
        assert!(self.uris("post").is_subset(&self.uris("feed_item")));
        let root = column_of(plan, "post", "replyRoot");
        for (uri, cells) in self.rows("post") {
            let root = text(cells.get(root));
            let own = root.filter(|root| syntax::authority_of(root) == syntax::authority_of(uri));
            if let Some(root) = own {
                assert!(self.op_threads.contains_key(&(root, uri.to_owned())));
            }
        }
    }

    fn numbers_are_sums(&self, plan: &Plan) {
        let sums = |table: &str, column: &str| sums(self.column(plan, table, column));
        let post = |place: usize| -> Sums { numbers(&self.post_agg, place) };
        let profile = |place: usize| -> Sums { numbers(&self.profile_agg, place) };
        assert_eq!(post(0), sums("like", "subject"), "likes");
        assert_eq!(post(1), self.replies(plan), "replies");
        assert_eq!(post(2), sums("repost", "subject"), "reposts");
        assert_eq!(profile(0), sums("follow", "subjectDid"), "followers");
        assert_eq!(profile(1), sums("follow", "creator"), "follows");
        assert_eq!(profile(2), sums("post", "creator"), "posts");
        let quotes = self.quote_count.iter();
        let quotes = quotes.map(|(cid, quotes)| (cid.clone(), *quotes));
        assert_eq!(without_zeros(quotes), sums("quote", "subjectCid"), "quotes");
    }

    /// Replies that no gate keeps out.
    fn replies(&self, plan: &Plan) -> Sums {
        let parent = column_of(plan, "post", "replyParent");
        let counted = |cells: &&Cells| !self.violates_gate(plan, cells);
        let replies = self.rows("post").map(|(_, cells)| cells).filter(counted);
        let parents = replies.filter_map(|cells| text(cells.get(parent)));
        sums(parents.collect())
    }
}

fn sums(keys: Vec<String>) -> Sums {
    let mut sums = Sums::new();
    for key in keys {
        *sums.entry(key).or_default() += 1;
    }
    sums
}

fn numbers<const N: usize>(rows: &BTreeMap<String, [i64; N]>, place: usize) -> Sums {
    without_zeros(rows.iter().map(|(key, row)| (key.clone(), row[place])))
}

fn without_zeros(numbers: impl Iterator<Item = (String, i64)>) -> Sums {
    numbers.filter(|(_, number)| *number != 0).collect()
}
