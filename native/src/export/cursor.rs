//! The records of a proved export one after another, in key order.

use std::io;

use super::{changed, Export};
use crate::cid::Cid;
use crate::mst::parse_node;

/// One step of a node: a key, the record behind it, and the subtree behind that.
struct Step {
    prefix: usize,
    /// Where the suffix ends in [`Frame::suffixes`]; it begins where the one before it ends.
    end: usize,
    value: u32,
    right: Option<u32>,
}

/// A node on the way from the root to the cursor.
struct Frame {
    suffixes: String,
    steps: Vec<Step>,
    next: usize,
    key: String,
    /// A subtree to go through before the next step.
    into: Option<u32>,
}

/// A place between two records.
#[derive(Default)]
pub(super) struct Cursor {
    begun: bool,
    path: Vec<Frame>,
}

impl Cursor {
    /// The key of the next record and the number of its block.
    pub(super) fn next<B: AsRef<[u8]>>(
        &mut self,
        export: &Export<B>,
    ) -> io::Result<Option<(&str, u32)>> {
        let mut into = None;
        if !self.begun {
            self.begun = true;
            into = Some(number_of(export, export.commit.data.get())?);
        }
        loop {
            if let Some(node) = into.take() {
                self.path.push(read_node(export, node)?);
            }
            let Some(frame) = self.path.last_mut() else {
                return Ok(None);
            };
            into = frame.into.take();
            if into.is_some() {
                continue;
            }
            if frame.next == frame.steps.len() {
                self.path.pop();
                continue;
            }
            break;
        }
        Ok(self.path.last_mut().and_then(Frame::step))
    }
}

impl Frame {
    fn step(&mut self) -> Option<(&str, u32)> {
        let begin = match self.next.checked_sub(1) {
            Some(before) => self.steps.get(before)?.end,
            None => 0,
        };
        let step = self.steps.get(self.next)?;
        self.next += 1;
        self.into = step.right;
        self.key.truncate(step.prefix);
        self.key.push_str(self.suffixes.get(begin..step.end)?);
        Some((&self.key, step.value))
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
            value: number_of(export, entry.value)?,
            right: entry
                .right
                .map(|node| number_of(export, node))
                .transpose()?,
        });
    }
    Ok(Frame {
        suffixes,
        steps,
        next: 0,
        key,
        into: node.left.map(|node| number_of(export, node)).transpose()?,
    })
}

/// The number of a block that was there when the tree was proved.
fn number_of<B: AsRef<[u8]>>(export: &Export<B>, cid: Cid<'_>) -> io::Result<u32> {
    export.index.find(cid).ok_or_else(changed)
}
