//! The small overlays by themselves.

use super::super::duplicates::{Duplicate, Duplicates};
use super::super::feed::{Feed, FeedItem};
use super::super::known::Known;
use super::super::op_threads::OpThreads;
use super::super::posts::{Flags, Gate, Post, Posts};
use super::super::quotes::{Quote, Quotes};
use super::super::tallies::Tallies;
use super::super::told::{is_muted, Notification, Told};
use crate::plan::Tally;

fn post(parent: Option<&str>) -> Post<'_> {
    Post {
        parent,
        root: parent.map(|_| "a"),
        ..Post::default()
    }
}

/// a, and below it b, c, d, e, f, g one after another.
fn thread() -> Posts<'static> {
    let known: &'static Known = Box::leak(Box::default());
    let mut posts = Posts::new(known);
    posts.insert("a", post(None));
    for (uri, parent) in ["b", "c", "d", "e", "f", "g"]
        .into_iter()
        .zip(["a", "b", "c", "d", "e", "f"])
    {
        posts.insert(uri, post(Some(parent)));
    }
    posts
}

#[test]
fn a_chain_goes_so_far_up() {
    let chain = thread().chain("g", 5);
    assert_eq!(
        chain,
        [("g", 0), ("f", 1), ("e", 2), ("d", 3), ("c", 4), ("b", 5)]
    );
}

#[test]
fn a_tree_goes_so_far_down_nearest_first() {
    let mut posts = thread();
    posts.insert("0", post(Some("a")));
    let tree = posts.tree("a", 2);
    assert_eq!(tree, [("0", 1), ("b", 1), ("c", 2)]);
}

#[test]
fn posts_that_answer_each_other_end() {
    let known = Known::default();
    let mut posts = Posts::new(&known);
    posts.insert("a", post(Some("b")));
    posts.insert("b", post(Some("a")));
    assert_eq!(posts.chain("a", 5).len(), 6);
    assert_eq!(posts.tree("a", 5).len(), 5);
}

#[test]
fn a_removed_reply_is_in_no_tree() {
    let mut posts = thread();
    assert!(posts.remove("b").is_some());
    assert_eq!(posts.tree("a", 5), []);
    assert!(posts.remove("b").is_none());
}

#[test]
fn a_new_post_forgets_the_marks_of_another() {
    let mut posts = thread();
    posts.mark("a", Gate::Thread, true);
    posts.mark("elsewhere", Gate::Embedding, false);
    assert_eq!(
        posts.get("a").map(|post| post.flags.has_gate),
        Some([Some(true), None])
    );
    posts.insert("a", post(None));
    assert_eq!(
        posts.get("a").map(|post| post.flags),
        Some(Flags::default())
    );
    assert_eq!(posts.marks(), [("elsewhere", [None, Some(false)])]);
}

fn item<'b>(uri: &'b str, of: &'b str) -> FeedItem<'b> {
    FeedItem {
        uri,
        cid: "",
        kind: "repost",
        post: of,
        did: "",
        sort_at: "",
        by: 0,
    }
}

#[test]
fn a_feed_item_is_inserted_once() {
    let known = Known::default();
    let mut feed = Feed::new(&known);
    assert!(feed.insert(item("r", "p")));
    assert!(!feed.insert(item("r", "q")));
    let (.., fresh) = feed.into_changes();
    assert_eq!(
        fresh.iter().map(|item| item.post).collect::<Vec<_>>(),
        ["p"]
    );
}

#[test]
fn a_feed_item_goes_with_the_post_it_is_of_now() {
    let known = Known::default();
    let mut feed = Feed::new(&known);
    feed.insert(item("r", "p"));
    feed.remove("r");
    feed.insert(item("r", "q"));
    feed.insert(item("s", "p"));
    feed.remove_of_post("p");
    let (posts, gone, fresh) = feed.into_changes();
    assert!(posts.contains("p") && gone.is_empty());
    assert_eq!(fresh.iter().map(|item| item.uri).collect::<Vec<_>>(), ["r"]);
}

#[test]
fn a_known_feed_item_is_deleted_by_itself() {
    let known = Known {
        feed_items: vec![("r".into(), "p".into())],
        ..Known::default()
    };
    let mut feed = Feed::new(&known);
    feed.remove("r");
    feed.remove("never");
    let (posts, gone, fresh) = feed.into_changes();
    assert!(posts.is_empty() && fresh.is_empty());
    assert_eq!(gone.into_iter().collect::<Vec<_>>(), ["r"]);
}

fn quote<'b>(uri: &'b str, subject: &'b str, subject_cid: &'b str) -> Quote<'b> {
    Quote {
        uri,
        cid: "",
        subject,
        subject_cid,
        created_at: "",
        time: "",
        by: 0,
    }
}

/// p is quoted five times as x, twice by posts that are known, and once as y.
fn quoted() -> Known {
    let own = |uri: &str| (uri.into(), None, None, Some("p".into()), Some("x".into()));
    Known {
        quoted: vec![("p".into(), "x".into(), 5), ("p".into(), "y".into(), 1)],
        own: vec![own("1"), own("2")],
        ..Known::default()
    }
}

#[test]
fn a_count_is_that_of_the_moment_it_was_looked_at() {
    let known = quoted();
    let mut quotes = Quotes::new(&known);
    quotes.insert(quote("3", "p", "x"));
    quotes.count("p", "x");
    quotes.insert(quote("4", "p", "x"));
    let changes = quotes.into_changes();
    assert_eq!(changes.counts, [("x", 2)]);
    assert_eq!(changes.counted, [("p", "x", 1)]);
}

#[test]
fn quotes_that_go_with_their_post_count_themselves() {
    let known = quoted();
    let mut quotes = Quotes::new(&known);
    quotes.remove("1");
    quotes.remove_of("p");
    quotes.remove("2");
    quotes.count("q", "x");
    let changes = quotes.into_changes();
    assert_eq!(changes.gone.into_iter().collect::<Vec<_>>(), ["1"]);
    assert_eq!(changes.gone_subjects.into_iter().collect::<Vec<_>>(), ["p"]);
    // By subject and by uri, both are counted by what the database really removes.
    assert_eq!(changes.counts, [("x", 0), ("y", 0)]);
    assert_eq!(changes.counted, [("q", "x", 0)]);
}

#[test]
fn a_quote_made_and_taken_back_leaves_no_row() {
    let known = Known::default();
    let mut quotes = Quotes::new(&known);
    quotes.insert(quote("1", "p", "x"));
    quotes.insert(quote("1", "p", "y"));
    quotes.remove("1");
    let changes = quotes.into_changes();
    assert!(changes.fresh.is_empty() && changes.gone.is_empty());
    assert_eq!(changes.counts, [("x", 0)]);
}

#[test]
fn a_reply_of_the_threads_author_keeps_its_first_parent_and_stays_deleted() {
    let mut threads = OpThreads::default();
    threads.insert("r", "a", "1");
    threads.delete("r", "1");
    threads.insert("r", "b", "1");
    let changes: Vec<_> = threads.changes().collect();
    let [("r", "1", reply)] = changes.as_slice() else {
        panic!("{changes:?}");
    };
    assert_eq!((reply.parent, reply.is_deleted), (Some("a"), true));
}

fn duplicate<'b>(uri: &'b str, of: &'b str, time: &'b str) -> Duplicate<'b> {
    Duplicate {
        uri,
        cid: "",
        of,
        time,
        by: 0,
    }
}

#[test]
fn the_earliest_loser_comes_first_and_of_equals_the_smaller_uri() {
    let known = Known::default();
    let mut duplicates = Duplicates::new(&known);
    for (uri, time) in [("d", "1"), ("b", "2"), ("c", "2"), ("a", "3")] {
        duplicates.insert(duplicate(uri, "w", time));
    }
    assert_eq!(duplicates.of("w").collect::<Vec<_>>(), ["d", "b", "c", "a"]);
}

#[test]
fn a_loser_loses_to_one_at_a_time() {
    let known = Known::default();
    let mut duplicates = Duplicates::new(&known);
    assert!(duplicates.insert(duplicate("a", "w", "1")));
    assert!(!duplicates.insert(duplicate("a", "v", "0")));
    duplicates.update(duplicate("a", "v", "2"));
    duplicates.update(duplicate("b", "v", "2"));
    assert_eq!(duplicates.of("w").count(), 0);
    assert_eq!(duplicates.of("v").collect::<Vec<_>>(), ["a"]);
}

#[test]
fn a_loser_that_is_as_it_was_is_not_written() {
    let row = |uri: &str| (uri.into(), String::new(), "w".into(), "1".into());
    let known = Known {
        duplicates: vec![row("a"), row("b")],
        ..Known::default()
    };
    let mut duplicates = Duplicates::new(&known);
    duplicates.remove("a");
    duplicates.insert(duplicate("a", "w", "1"));
    duplicates.update(duplicate("b", "w", "2"));
    let (gone, fresh) = duplicates.into_changes();
    assert_eq!(gone, ["b"]);
    assert_eq!(fresh, [duplicate("b", "w", "2")]);
}

fn notification<'b>(record_uri: &'b str, did: &'b str) -> Notification<'b> {
    Notification {
        did,
        author: "",
        record_uri,
        record_cid: "",
        reason: "",
        subject: None,
        sort_at: "",
        by: 0,
    }
}

#[test]
fn what_a_record_told_is_taken_back_and_what_it_tells_then_is_not() {
    let mut told = Told::default();
    told.tell(notification("r", "1"));
    told.tell(notification("s", "2"));
    told.take_back("r", false);
    told.tell(notification("r", "3"));
    let (taken_back, _, told) = told.into_changes();
    assert!(taken_back.is_empty(), "nobody knows the record");
    // By record.
    assert_eq!(
        told.iter().map(|each| each.did).collect::<Vec<_>>(),
        ["3", "2"]
    );
}

#[test]
fn what_the_database_told_is_taken_back_where_it_had_the_row() {
    let mut told = Told::default();
    told.take_back("r", true);
    let (taken_back, _, told) = told.into_changes();
    assert_eq!(taken_back.into_iter().collect::<Vec<_>>(), ["r"]);
    assert!(told.is_empty());
}

#[test]
fn a_thread_is_muted_by_its_root() {
    let known = Known {
        mutes: [("me".to_owned(), "a".to_owned())].into(),
        ..Known::default()
    };
    let posts = thread();
    assert!(is_muted(&known, &posts, "me", Some("a")));
    assert!(is_muted(&known, &posts, "me", Some("c")));
    assert!(!is_muted(&known, &posts, "you", Some("c")));
    assert!(!is_muted(&known, &posts, "me", None));
    assert!(!is_muted(&known, &posts, "me", Some("no post")));
}

#[test]
fn a_number_that_came_back_to_itself_still_has_a_row() {
    let mut tallies = Tallies::default();
    tallies.add(Tally::Reposts, "p", 1);
    tallies.add(Tally::Reposts, "p", -1);
    tallies.touch_post("q");
    tallies.add(Tally::Follows, "me", -1);
    assert_eq!(
        tallies.posts.into_iter().collect::<Vec<_>>(),
        [("p", [0; 3]), ("q", [0; 3])]
    );
    assert_eq!(
        tallies.profiles.into_iter().collect::<Vec<_>>(),
        [("me", [0, -1, 0])]
    );
}
