//! Redis commands as bytes, ready for the socket.

/// Arguments of an append besides stream and entry.
const HEAD: &[u8] = b"*6\r\n$4\r\nXADD\r\n";
const MIDDLE: &[u8] = b"$10\r\nNOMKSTREAM\r\n$1\r\n*\r\n$5\r\nevent\r\n";

/// Room that one command takes beyond the entry, for reserving.
pub const COMMAND_BYTES: usize = HEAD.len() + MIDDLE.len() + 48;

/// Append `XADD {stream}:{shard} NOMKSTREAM * event {entry}`: a stream that is gone
/// answers nil instead of starting afresh.
pub fn write_xadd(stream: &[u8], shard: u32, entry: &[u8], out: &mut Vec<u8>) {
    let shard = shard.to_string();
    out.extend_from_slice(HEAD);
    write_length(stream.len() + 1 + shard.len(), out);
    out.extend_from_slice(stream);
    out.push(b':');
    out.extend_from_slice(shard.as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(MIDDLE);
    write_length(entry.len(), out);
    out.extend_from_slice(entry);
    out.extend_from_slice(b"\r\n");
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    out.push(b'$');
    out.extend_from_slice(length.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        write_xadd(b"p:firehose_live", 12, b"\x01\r\n", &mut out);
        assert_eq!(
            out,
            b"*6\r\n$4\r\nXADD\r\n$18\r\np:firehose_live:12\r\n$10\r\nNOMKSTREAM\r\n\
              $1\r\n*\r\n$5\r\nevent\r\n$3\r\n\x01\r\n\r\n"
        );
        assert!(out.len() <= COMMAND_BYTES + b"p:firehose_live".len() + 3);
    }
}
