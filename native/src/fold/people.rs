//! The net effect on DIDs, as statements.

use super::batch::Source;
use super::changes::Statement;
use super::repos::Person;
use crate::pgcopy::{array_texts, ArrayText};

/// Statements about DIDs, each sorted by DID.
pub(super) fn statements(people: &[(&str, Person<'_>)], sources: &[Source]) -> Vec<Statement> {
    let mut repos: [ArrayText; 7] = array_texts();
    let mut actors: [ArrayText; 3] = array_texts();
    let mut statuses: [ArrayText; 2] = array_texts();
    let mut syncs: [ArrayText; 3] = array_texts();
    let mut dues: [ArrayText; 4] = array_texts();
    let mut deletions: [ArrayText; 7] = array_texts();
    for (did, person) in people {
        if person.repo_changed {
            let repo = &person.repo;
            let active = repo.active.map(boolean);
            push(
                &mut repos,
                [
                    Some(*did),
                    repo.rev,
                    repo.resync,
                    repo.account_time,
                    repo.identity_time,
                    active,
                    repo.status,
                ],
            );
        }
        if let Some((time, status)) = person.new_actor() {
            push(&mut actors, [Some(*did), Some(time), status]);
        }
        if let Some(status) = person.new_status() {
            push(&mut statuses, [Some(*did), status.word()]);
        }
        if let Some((commit, rev)) = person.sync {
            push(&mut syncs, [Some(*did), Some(commit), Some(rev)]);
        }
        if let Some(due) = &person.due {
            let seq = due.seq.to_string();
            let forced = boolean(due.forced);
            push(
                &mut dues,
                [Some(*did), Some(&seq), Some(due.time), Some(forced)],
            );
        }
        let deletion = person.deletion.as_ref();
        let source = deletion.and_then(|asked| sources.get(asked.event.source));
        if let Some((asked, source)) = deletion.zip(source) {
            let shard = source.shard.to_string();
            let generation = source.generation.to_string();
            let seq = asked.event.seq.to_string();
            let row = [
                Some(*did),
                Some(&shard),
                Some(&source.relay),
                Some(&generation),
                Some(&seq),
                Some(&asked.event.time),
                asked.rev,
            ];
            push(&mut deletions, row);
        }
    }
    let mut statements = Vec::new();
    add("upsert_repos", repos, &mut statements);
    add("insert_actors", actors, &mut statements);
    add("update_actor_status", statuses, &mut statements);
    add("upsert_actor_sync", syncs, &mut statements);
    add("upsert_identity_due", dues, &mut statements);
    add("upsert_deletions", deletions, &mut statements);
    statements
}

pub(super) fn push<const N: usize>(arrays: &mut [ArrayText; N], row: [Option<&str>; N]) {
    for (array, value) in arrays.iter_mut().zip(row) {
        array.push(value);
    }
}

pub(super) fn add<const N: usize>(
    name: &str,
    arrays: [ArrayText; N],
    statements: &mut Vec<Statement>,
) {
    if arrays.first().is_some_and(|array| !array.is_empty()) {
        let parameters = arrays.map(ArrayText::finish).into();
        statements.push((name.into(), parameters));
    }
}

pub(super) const fn boolean(value: bool) -> &'static str {
    if value {
        "true"
    } else {
        "false"
    }
}
