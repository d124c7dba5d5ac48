//! The records of a proved export one after another, in key order.

use std::io;

use super::{changed, Export};
use crate::mst::parse_node;

/// One step of a node: a key, and whether a subtree is behind it.
struct Step {
    prefix: usize,
    /// Where the suffix ends in [`Frame::suffixes`]; it begins where the one before it ends.
    end: usize,
    right: bool,
}

/// A node on the way from the root to the cursor.
struct Frame {
    suffixes: String,
    steps: Vec<Step>,
    next: usize,
    key: String,
    /// Whether there is a subtree to go through before the next step.
    into: bool,
}

/// A place between two records.
#[derive(Default)]
pub(super) struct Cursor {
    path: Vec<Frame>,
    /// How many nodes and records lie before it.
    nodes: usize,
    leaves: usize,
}

impl Cursor {
    /// The key of the next record and the number of its block.
    pub(super) fn next<B: AsRef<[u8]>>(
        &mut self,
        export: &Export<B>,
    ) -> io::Result<Option<(&str, u32)>> {
        loop {
            match self.path.last_mut() {
                None if self.nodes > 0 => return Ok(None),
                Some(frame) if !frame.into => {
                    if frame.next < frame.steps.len() {
                        break;
                    }
                    self.path.pop();
                }
                above => {
                    if let Some(frame) = above {
                        frame.into = false;
                    }
                    let node = export.nodes.get(self.nodes).ok_or_else(changed)?;
                    self.path.push(read_node(export, *node)?);
                    self.nodes += 1;
                }
            }
        }
        let leaf = *export.leaves.get(self.leaves).ok_or_else(changed)?;
        self.leaves += 1;
        let key = self.path.last_mut().and_then(Frame::step);
        Ok(key.map(|key| (key, leaf)))
    }
}

impl Frame {
    fn step(&mut self) -> Option<&str> {
        let begin = match self.next.checked_sub(1) {
            Some(before) => self.steps.get(before)?.end,
            None => 0,
        };
        let step = self.steps.get(self.next)?;
        self.next += 1;
        self.into = step.right;
        self.key.truncate(step.prefix);
        self.key.push_str(self.suffixes.get(begin..step.end)?);
        Some(&self.key)
    }
}

fn read_node<B: AsRef<[u8]>>(export: &Export<B>, number: u32) -> io::Result<Frame> {
    let section = export.read(number)?;
    let mut key = String::new();
    let node = parse_node(section.parts().1, &mut key).map_err(|_| changed())?;
    key.clear();
    let mut suffixes = String::new();
    let mut steps = Vec::with_capacity(node.entries.len());
    for entry in &node.entries {
        suffixes.push_str(entry.suffix);
        steps.push(Step {
            prefix: entry.prefix,
            end: suffixes.len(),
            right: entry.right.is_some(),
        });
    }
    Ok(Frame {
        suffixes,
        steps,
        next: 0,
        key,
        into: node.left.is_some(),
    })
}
