//! JSON texts that many records are judged by, each read once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// What was read of each text, by where it lies: texts stay where they are while a batch is folded.
#[derive(Debug)]
pub(super) struct Readings<'b, T>(RefCell<HashMap<usize, (&'b str, Rc<T>)>>);

impl<T> Default for Readings<'_, T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<'b, T> Readings<'b, T> {
    pub fn of(&self, text: &'b str, read: impl FnOnce(&str) -> T) -> Rc<T> {
        let mut readings = self.0.borrow_mut();
        match readings.get(&text.as_ptr().addr()) {
            Some((known, reading)) if known.len() == text.len() => Rc::clone(reading),
            _ => {
                let reading = Rc::new(read(text));
                readings.insert(text.as_ptr().addr(), (text, Rc::clone(&reading)));
                reading
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_once() {
        let texts = [String::from("a"), String::from("a"), String::new()];
        let readings = Readings::default();
        let mut read = 0;
        for _ in 0..3 {
            for text in &texts {
                let length = readings.of(text, |text| {
                    read += 1;
                    text.len()
                });
                assert_eq!(*length, text.len());
            }
        }
        assert_eq!(read, texts.len());
    }
}
