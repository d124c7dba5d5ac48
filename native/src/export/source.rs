//! Where the bytes of an export are: in memory, or in a file that is read piece by piece.
//!
//! The only place of the crate that reads a file. It is never mapped: a file that shrinks while
//! it is read is an error, not a signal.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The bytes of an export.
#[derive(Debug)]
pub enum Source<B> {
    Bytes(B),
    /// The length is that at opening; what is appended later is not looked at.
    File(File, u64),
}

impl<B: AsRef<[u8]>> Source<B> {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self::File(file, length))
    }

    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.as_ref().len() as u64,
            Self::File(_, length) => *length,
        }
    }

    /// What begins at `at`: `wanted` bytes or more, or else all that there are.
    pub(super) fn window<'s>(
        &'s self,
        at: u64,
        wanted: usize,
        buffer: &'s mut Vec<u8>,
    ) -> io::Result<&'s [u8]> {
        match self {
            Self::Bytes(bytes) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                Ok(bytes.as_ref().get(at..).unwrap_or_default())
            }
            Self::File(file, length) => {
                let rest = usize::try_from(length.saturating_sub(at)).unwrap_or(usize::MAX);
                buffer.resize(wanted.min(rest), 0);
                file.read_exact_at(buffer, at)?;
                Ok(buffer)
            }
        }
    }

    /// The `length` bytes at `at`, which are known to be there.
    pub(super) fn piece(&self, at: u64, length: usize) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::Bytes(bytes) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                let piece = at
                    .checked_add(length)
                    .and_then(|end| bytes.as_ref().get(at..end));
                let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
                piece.map(Cow::Borrowed).ok_or_else(gone)
            }
            Self::File(file, _) => {
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, at)?;
                Ok(Cow::Owned(piece))
            }
        }
    }

    /// Whether somebody else could change the bytes after they were checked.
    pub(super) const fn may_change(&self) -> bool {
        matches!(self, Self::File(..))
    }
}
