//! Language tags (BCP 47, RFC 5646) in the reference's strict reading.

use std::collections::HashSet;

/// Tags from before the grammar; compared exactly, as the reference does.
const GRANDFATHERED: [&str; 26] = [
    "en-GB-oed",
    "i-ami",
    "i-bnn",
    "i-default",
    "i-enochian",
    "i-hak",
    "i-klingon",
    "i-lux",
    "i-mingo",
    "i-navajo",
    "i-pwn",
    "i-tao",
    "i-tay",
    "i-tsu",
    "sgn-BE-FR",
    "sgn-BE-NL",
    "sgn-CH-DE",
    "art-lojban",
    "cel-gaulish",
    "no-bok",
    "no-nyn",
    "zh-guoyu",
    "zh-hakka",
    "zh-min",
    "zh-min-nan",
    "zh-xiang",
];

/// Whether `text` is a well-formed tag whose language is two or three lower-case letters
/// and which repeats no variant and no extension, or a grandfathered tag, or `x-…`.
pub fn is_language(text: &str) -> bool {
    if GRANDFATHERED.contains(&text) {
        return true;
    }
    let mut subtags = Subtags::of(text);
    let primary = subtags.current();
    if is_private(primary) {
        return subtags.private_use_to_end();
    }
    if !(2..=3).contains(&primary.len()) || !primary.bytes().all(|b| b.is_ascii_lowercase()) {
        return false;
    }
    subtags.advance();
    for _ in 0..3 {
        subtags.skip_if(|tag| tag.len() == 3 && is_alphabetic(tag));
    }
    subtags.skip_if(|tag| tag.len() == 4 && is_alphabetic(tag));
    subtags.skip_if(|tag| (tag.len() == 2 && is_alphabetic(tag)) || is_area(tag));
    subtags.distinct_variants()
        && subtags.distinct_extensions()
        && (subtags.at_end() || subtags.private_use_to_end())
}

struct Subtags<'a> {
    /// None beyond the last subtag.
    current: Option<&'a str>,
    rest: std::str::Split<'a, char>,
}

impl<'a> Subtags<'a> {
    fn of(text: &'a str) -> Self {
        let mut rest = text.split('-');
        Self {
            current: rest.next(),
            rest,
        }
    }

    fn current(&self) -> &'a str {
        self.current.unwrap_or("")
    }

    fn advance(&mut self) {
        self.current = self.rest.next();
    }

    fn at_end(&self) -> bool {
        self.current.is_none()
    }

    fn skip_if(&mut self, wanted: impl Fn(&str) -> bool) -> bool {
        let found = self.current.is_some_and(wanted);
        if found {
            self.advance();
        }
        found
    }

    /// Passes the variants; false if one is repeated in any case.
    fn distinct_variants(&mut self) -> bool {
        let first = self.current();
        if !self.skip_if(is_variant) || !self.current.is_some_and(is_variant) {
            return true;
        }
        // More than one variant is rare, and a hostile tag may have very many.
        let mut seen = HashSet::from([first.to_ascii_lowercase()]);
        while self.current.is_some_and(is_variant) {
            if !seen.insert(self.current().to_ascii_lowercase()) {
                return false;
            }
            self.advance();
        }
        true
    }

    /// Passes the extensions; false if a singleton is repeated in any case, or is empty.
    fn distinct_extensions(&mut self) -> bool {
        let mut seen = 0_u128;
        while let Some(&[singleton]) = self.current.map(str::as_bytes) {
            if !singleton.is_ascii_alphanumeric() || is_private(self.current()) {
                return true;
            }
            let bit = 1 << singleton.to_ascii_lowercase();
            if seen & bit != 0 {
                return false;
            }
            seen |= bit;
            self.advance();
            let value = |tag: &str| (2..=8).contains(&tag.len()) && is_alphanumeric(tag);
            if !self.skip_if(value) {
                return false;
            }
            while self.skip_if(value) {}
        }
        true
    }

    /// `x` and at least one subtag of 1 to 8 letters and digits, to the end.
    fn private_use_to_end(&mut self) -> bool {
        let value = |tag: &str| (1..=8).contains(&tag.len()) && is_alphanumeric(tag);
        if !self.skip_if(is_private) || !self.skip_if(value) {
            return false;
        }
        while self.skip_if(value) {}
        self.at_end()
    }
}

fn is_private(tag: &str) -> bool {
    tag == "x" || tag == "X"
}

fn is_area(tag: &str) -> bool {
    tag.len() == 3 && tag.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_variant(tag: &str) -> bool {
    is_alphanumeric(tag)
        && match tag.len() {
            4 => tag.starts_with(|first: char| first.is_ascii_digit()),
            5..=8 => true,
            _ => false,
        }
}

fn is_alphabetic(tag: &str) -> bool {
    tag.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_alphanumeric(tag: &str) -> bool {
    tag.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_every_shape_pass() {
        for text in [
            "en",
            "ban",
            "pt-BR",
            "zh-Hant",
            "es-419",
            "zh-cmn-Hans-CN",
            "hy-Latn-IT-arevela",
            "de-CH-1901",
            "sl-rozaj-biske",
            "en-u-co-phonebk-t-en-US",
            "en-x-a",
            "X-fr-CH",
            "x-1",
            "en-GB-oed",
            "i-default",
            "sgn-BE-FR",
            "zh-min-nan",
            "en-aaa-bbb-ccc",
        ] {
            assert!(is_language(text), "{text}");
        }
    }

    #[test]
    fn malformed_and_repeating_tags_fail() {
        for text in [
            "",
            "EN",
            "e",
            "english",
            "jaja",
            "en-",
            "-en",
            "en--US",
            "en_US",
            "123",
            "x",
            "x-",
            "en-a",
            "en-a-b",
            "en-x",
            "en-abcdefghi",
            "en-aaa-bbb-ccc-ddd",
            "i-DEFAULT",
            "de-DE-1901-1901",
            "en-rozaj-ROZAJ",
            "en-a-foo-a-bar",
            "en-u-co-U-ca",
            "en-é",
        ] {
            assert!(!is_language(text), "{text}");
        }
    }

    #[test]
    fn very_many_variants_are_read_in_linear_time() {
        let variants: Vec<String> = (0..200_000).map(|n| format!("-{n:06}")).collect();
        let mut text = format!("en{}", variants.concat());
        assert!(is_language(&text));
        text.push_str("-000007");
        assert!(!is_language(&text));
    }
}
