//! From an engine's pieces of output to lines.

use bollard::container::LogOutput;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::runtime::OutputLine;

/// The longest line kept of a container's output; the rest of it is dropped as it is read.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// Puts an engine's pieces of output together to lines. A long line comes in pieces of 16 KiB,
/// each with a time of its own, and only the last ends in a newline; the two streams interleave.
#[derive(Default)]
pub struct Lines {
    stdout: Option<OutputLine>,
    stderr: Option<OutputLine>,
}

impl Lines {
    /// Adds a piece; gives the line it ends.
    pub fn add(&mut self, piece: &LogOutput) -> Option<OutputLine> {
        let unfinished = match piece {
            LogOutput::StdErr { .. } => &mut self.stderr,
            _ => &mut self.stdout,
        };
        let bytes = piece.as_ref();
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let at = std::str::from_utf8(&bytes[..space]).ok()?;
        let at = OffsetDateTime::parse(at, &Rfc3339).ok()?;
        let text = &bytes[space + 1..];
        let (text, ends) = match text.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let line = unfinished.get_or_insert_with(|| OutputLine {
            at,
            bytes: Vec::new(),
        });
        // One byte more than the cap, so that the reader sees that something is missing.
        let room = (MAX_LINE_BYTES + 1).saturating_sub(line.bytes.len());
        line.bytes.extend_from_slice(&text[..text.len().min(room)]);
        if ends { unfinished.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(text: &str) -> LogOutput {
        LogOutput::StdOut {
            message: text.to_owned().into(),
        }
    }

    #[test]
    fn pieces_become_lines() {
        let mut lines = Lines::default();
        let at = "2026-01-01T00:00:00.000001Z";
        let err = LogOutput::StdErr {
            message: format!("{at} other\n").into(),
        };
        assert_eq!(lines.add(&out(&format!("{at} one "))), None);
        assert_eq!(lines.add(&err).unwrap().bytes, b"other");
        let whole = lines.add(&out("2026-01-01T00:00:09Z line\n")).unwrap();
        assert_eq!(whole.bytes, b"one line");
        assert_eq!(whole.at.second(), 0, "the time of its beginning");
        assert_eq!(lines.add(&out(&format!("{at} \n"))).unwrap().bytes, b"");
        assert_eq!(lines.add(&out("nonsense")), None);
    }

    #[test]
    fn endless_lines_do_not_fill_memory() {
        let mut lines = Lines::default();
        let piece = format!("2026-01-01T00:00:00Z {}", "x".repeat(16_384));
        for _ in 0..100 {
            assert_eq!(lines.add(&out(&piece)), None);
        }
        let line = lines.add(&out("2026-01-01T00:00:00Z end\n")).unwrap();
        assert_eq!(line.bytes.len(), MAX_LINE_BYTES + 1);
    }
}
