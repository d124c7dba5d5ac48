//! `MessagePack`, as much of it as entries need: nil, bool, integers, text, bytes, arrays.
//!
//! Written in the shortest forms, as `msgspec` does, so that both sides make the
//! same bytes. Read from borrowed bytes; lengths are checked before anything is used.

use crate::read::Reader;

/// How deep an unknown value may nest before it is not worth skipping.
const MAX_SKIP_DEPTH: usize = 16;

/// Appends values to a buffer.
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Writer<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    pub fn nil(&mut self) {
        self.out.push(0xc0);
    }

    pub fn bool(&mut self, value: bool) {
        self.out.push(0xc2 + u8::from(value));
    }

    pub fn int(&mut self, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            self.uint(value);
        } else if value >= -32 {
            self.out.extend_from_slice(&low::<1>(value));
        } else if i8::try_from(value).is_ok() {
            self.marked(0xd0, low::<1>(value));
        } else if i16::try_from(value).is_ok() {
            self.marked(0xd1, low::<2>(value));
        } else if i32::try_from(value).is_ok() {
            self.marked(0xd2, low::<4>(value));
        } else {
            self.marked(0xd3, value.to_be_bytes());
        }
    }

    pub fn uint(&mut self, value: u64) {
        if let Ok(value) = u8::try_from(value) {
            if value < 0x80 {
                self.out.push(value);
            } else {
                self.marked(0xcc, [value]);
            }
        } else if let Ok(value) = u16::try_from(value) {
            self.marked(0xcd, value.to_be_bytes());
        } else if let Ok(value) = u32::try_from(value) {
            self.marked(0xce, value.to_be_bytes());
        } else {
            self.marked(0xcf, value.to_be_bytes());
        }
    }

    pub fn array(&mut self, count: usize) {
        self.length(count, Some((0x90, 16)), None, 0xdc);
    }

    pub fn text(&mut self, text: &str) {
        self.length(text.len(), Some((0xa0, 32)), Some(0xd9), 0xda);
        self.out.extend_from_slice(text.as_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len(), None, Some(0xc4), 0xc5);
        self.out.extend_from_slice(bytes);
    }

    pub fn text_or_nil(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.nil(),
        }
    }

    pub fn bytes_or_nil(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self.nil(),
        }
    }

    fn marked<const N: usize>(&mut self, marker: u8, bytes: [u8; N]) {
        self.out.push(marker);
        self.out.extend_from_slice(&bytes);
    }

    /// The shortest of the forms that the type has: inside the marker, 8, 16 or 32 bits.
    fn length(&mut self, length: usize, inside: Option<(u8, u8)>, short: Option<u8>, middle: u8) {
        match (u8::try_from(length), inside, short) {
            (Ok(length), Some((marker, limit)), _) if length < limit => {
                self.out.push(marker | length);
            }
            (Ok(length), _, Some(marker)) => self.marked(marker, [length]),
            _ => match u16::try_from(length) {
                Ok(length) => self.marked(middle, length.to_be_bytes()),
                // Frames are megabytes at most: 32 bits always hold their parts.
                Err(_) => self.marked(
                    middle + 1,
                    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes(),
                ),
            },
        }
    }
}

/// The low bytes of a number that is known to fit.
fn low<const N: usize>(value: i64) -> [u8; N] {
    value.to_be_bytes().last_chunk().copied().unwrap_or([0; N])
}

/// Reads values from borrowed bytes; `None` is anything but the value asked for.
pub struct Unpacker<'a> {
    reader: Reader<'a>,
}

impl<'a> Unpacker<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(bytes),
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// Consume a nil if one is next.
    pub fn is_nil(&mut self) -> bool {
        let nil = self.reader.peek() == Some(0xc0);
        if nil {
            self.reader.byte();
        }
        nil
    }

    pub fn bool(&mut self) -> Option<bool> {
        match self.reader.byte()? {
            0xc2 => Some(false),
            0xc3 => Some(true),
            _ => None,
        }
    }

    pub fn int(&mut self) -> Option<i64> {
        let marker = self.reader.byte()?;
        match marker {
            0x00..=0x7f => Some(i64::from(marker)),
            0xe0..=0xff => Some(i64::from(i8::from_be_bytes([marker]))),
            0xcc => self.reader.byte().map(i64::from),
            0xcd => self.number().map(u16::from_be_bytes).map(i64::from),
            0xce => self.number().map(u32::from_be_bytes).map(i64::from),
            0xcf => i64::try_from(u64::from_be_bytes(self.number()?)).ok(),
            0xd0 => self.number().map(i8::from_be_bytes).map(i64::from),
            0xd1 => self.number().map(i16::from_be_bytes).map(i64::from),
            0xd2 => self.number().map(i32::from_be_bytes).map(i64::from),
            0xd3 => self.number().map(i64::from_be_bytes),
            _ => None,
        }
    }

    /// A count of items that the rest of the input can hold.
    pub fn array(&mut self) -> Option<usize> {
        let count = match self.reader.byte()? {
            marker @ 0x90..=0x9f => usize::from(marker & 0x0f),
            0xdc => self.length16()?,
            0xdd => self.length32()?,
            _ => return None,
        };
        (count <= self.reader.remaining()).then_some(count)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        let length = match self.reader.byte()? {
            marker @ 0xa0..=0xbf => usize::from(marker & 0x1f),
            0xd9 => usize::from(self.reader.byte()?),
            0xda => self.length16()?,
            0xdb => self.length32()?,
            _ => return None,
        };
        std::str::from_utf8(self.reader.take(length)?).ok()
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = match self.reader.byte()? {
            0xc4 => usize::from(self.reader.byte()?),
            0xc5 => self.length16()?,
            0xc6 => self.length32()?,
            _ => return None,
        };
        self.reader.take(length)
    }

    /// Pass over one value of any type: a field that this build does not know.
    pub fn skip(&mut self) -> Option<()> {
        self.skip_nested(MAX_SKIP_DEPTH)
    }

    /// Pass over fields that a newer producer added at the end of an array of `fields`, of which
    /// this build knows `known`.
    pub fn skip_fields(&mut self, fields: usize, known: usize) -> Option<()> {
        (0..fields.checked_sub(known)?).try_for_each(|_| self.skip())
    }

    /// A value that may be nil; the outer `None` is a malformed one.
    #[allow(clippy::option_option)]
    pub fn or_nil<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.is_nil() {
            return Some(None);
        }
        read(self).map(Some)
    }

    /// A list of arrays that have `known` fields each, or more.
    pub fn list<T>(
        &mut self,
        known: usize,
        read: impl Fn(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = self.array()?;
        // A count is only a claim; most lists are short.
        let mut items = Vec::with_capacity(count.min(256));
        for _ in 0..count {
            let fields = self.array()?;
            items.push(read(self)?);
            self.skip_fields(fields, known)?;
        }
        Some(items)
    }

    fn skip_nested(&mut self, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let marker = self.reader.peek()?;
        let (ahead, items) = match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (1, 0),
            0xcc | 0xd0 => (2, 0),
            0xcd | 0xd1 => (3, 0),
            0xca | 0xce | 0xd2 => (5, 0),
            0xcb | 0xcf | 0xd3 => (9, 0),
            0xd4..=0xd8 => (2 + (1 << (marker - 0xd4)), 0),
            0xa0..=0xbf | 0xd9..=0xdb => return self.text().map(|_| ()),
            0xc4..=0xc6 => return self.bytes().map(|_| ()),
            0x90..=0x9f | 0xdc | 0xdd => (0, self.array()?),
            0x80..=0x8f => (1, 2 * usize::from(marker & 0x0f)),
            _ => return None,
        };
        self.reader.take(ahead)?;
        for _ in 0..items {
            self.skip_nested(depth)?;
        }
        Some(())
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.reader.array()
    }

    fn length16(&mut self) -> Option<usize> {
        Some(usize::from(u16::from_be_bytes(self.number()?)))
    }

    fn length32(&mut self) -> Option<usize> {
        usize::try_from(u32::from_be_bytes(self.number()?)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_their_shortest_form_and_come_back() {
        for (value, length) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (255, 2),
            (256, 3),
            (65_535, 3),
            (65_536, 5),
            (1 << 32, 9),
            (i64::MAX, 9),
            (-1, 1),
            (-32, 1),
            (-33, 2),
            (-128, 2),
            (-129, 3),
            (-32_769, 5),
            (i64::MIN, 9),
        ] {
            let mut out = Vec::new();
            Writer::new(&mut out).int(value);
            assert_eq!(out.len(), length, "{value}");
            assert_eq!(Unpacker::new(&out).int(), Some(value));
        }
    }

    #[test]
    fn text_and_bytes_of_every_length_class_come_back() {
        for length in [0, 1, 31, 32, 255, 256, 65_535, 65_536] {
            let text = "x".repeat(length);
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out);
            writer.text(&text);
            writer.bytes(text.as_bytes());
            let mut unpacker = Unpacker::new(&out);
            assert_eq!(unpacker.text(), Some(text.as_str()));
            assert_eq!(unpacker.bytes(), Some(text.as_bytes()));
            assert!(unpacker.is_empty());
            let mut unpacker = Unpacker::new(&out);
            assert_eq!((unpacker.skip(), unpacker.skip()), (Some(()), Some(())));
            assert!(unpacker.is_empty());
        }
    }

    #[test]
    fn claims_beyond_the_input_are_refused() {
        for bytes in [&b"\xdd\xff\xff\xff\xff"[..], b"\x93\x01", b"\xdc\x00\x01"] {
            assert_eq!(Unpacker::new(bytes).array(), None);
        }
        assert_eq!(Unpacker::new(b"\xdb\xff\xff\xff\xffa").text(), None);
        assert_eq!(Unpacker::new(b"\xa2\xc3\x28").text(), None);
        assert_eq!(Unpacker::new(b"\xc6\x00\x00\x00\x02a").bytes(), None);
        assert_eq!(Unpacker::new(&[0x91; 64]).skip(), None);
    }
}
