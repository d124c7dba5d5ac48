//! Base58 with the Bitcoin alphabet: version 0 CIDs and the multibase text of keys.
//!
//! The conversion is quadratic, so callers limit the length first.

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// Append the text of `bytes`, ASCII.
pub fn write(bytes: &[u8], out: &mut Vec<u8>) {
    let mut digits: Vec<u8> = Vec::with_capacity(bytes.len() * 2);
    for &byte in bytes {
        let mut carry = u32::from(byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 58) as u8;
            carry /= 58;
        }
        while carry > 0 {
            digits.push((carry % 58) as u8);
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    out.extend(std::iter::repeat_n(ALPHABET[0], zeros));
    out.extend(
        digits
            .iter()
            .rev()
            .map(|digit| ALPHABET[usize::from(*digit)]),
    );
}

/// The bytes that `text` stands for, at the end of `buffer`; `None` for a foreign character
/// and for what does not fit. The buffer must be zero.
#[allow(clippy::cast_possible_truncation)] // masked
pub fn read<'a>(text: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    // The number grows towards the front of the buffer; it is shorter than its text.
    let mut start = buffer.len();
    for letter in text {
        let mut carry = ALPHABET.iter().position(|known| known == letter)?;
        for byte in buffer.get_mut(start..)?.iter_mut().rev() {
            carry += usize::from(*byte) * 58;
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        while carry > 0 {
            start = start.checked_sub(1)?;
            *buffer.get_mut(start)? = (carry & 0xff) as u8;
            carry >>= 8;
        }
    }
    // Each leading zero digit is a zero byte; the buffer is zero there.
    let zeros = text.iter().take_while(|letter| **letter == ALPHABET[0]);
    buffer.get(start.checked_sub(zeros.count())?..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_pairs_convert_both_ways() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"\0", "1"),
            (b"\0\0\x01", "112"),
            (b"Hello World!", "2NEpo7TZRRrLZSi2U"),
        ] {
            let mut written = Vec::new();
            write(bytes, &mut written);
            assert_eq!(written, text.as_bytes());
            assert_eq!(read(text.as_bytes(), &mut [0; 16]), Some(bytes));
        }
    }

    #[test]
    fn foreign_characters_and_long_text_are_refused() {
        for text in ["0", "O", "I", "l", "a b", "é", "22222222222222222222222222"] {
            assert_eq!(read(text.as_bytes(), &mut [0; 16]), None, "{text}");
        }
    }
}
