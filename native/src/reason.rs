//! Why an op, event or frame was rejected: a closed set, mirrored from `engine/core/wire.py`.

macro_rules! reasons {
    ($($name:ident = $word:literal,)*) => {
        /// One reason; the position in the declaration is the wire code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason {
            $($name,)*
        }

        impl Reason {
            /// All of them, in wire order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in dead letters, metrics and logs.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

reasons! {
    BadHeader = "bad_header",
    BadBody = "bad_body",
    BadField = "bad_field",
    TooBig = "too_big",
    TooManyOps = "too_many_ops",
    BadCar = "bad_car",
    BadBlockHash = "bad_block_hash",
    UnknownAction = "unknown_action",
    BadPath = "bad_path",
    MissingBlock = "missing_block",
    BadCbor = "bad_cbor",
    InvalidRecord = "invalid_record",
    UnsafeInteger = "unsafe_integer",
    NulInText = "nul_in_text",
    BadUri = "bad_uri",
    CreatorMismatch = "creator_mismatch",
    GateMismatch = "gate_mismatch",
    KeyOccupied = "key_occupied",
    RevInFuture = "rev_in_future",
    BadStatus = "bad_status",
    RefusedByDatabase = "refused_by_database",
    BadSignature = "bad_signature",
    ForeignSource = "foreign_source",
}

impl Reason {
    pub const fn code(self) -> u64 {
        self as u64
    }

    /// By its word in the plan.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.word() == word)
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_positions() {
        for (position, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.code(), position as u64);
            let code = i64::try_from(position).unwrap();
            assert_eq!(Reason::from_code(code), Some(*reason));
        }
        assert_eq!(Reason::from_code(-1), None);
        assert_eq!(Reason::from_code(1_000), None);
    }
}
