//! Lines of a server's output, each bounded.

use std::io::{self, Write as _};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;

use crate::limits::MAX_MESSAGE_BYTES;

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// Reads lines.
pub struct Lines {
    input: ChildStdout,
    read: BytesMut,
    /// How much of `read` is known to hold no newline.
    searched: usize,
}

impl Lines {
    /// Of a server's standard output.
    pub fn new(input: ChildStdout) -> Self {
        Self {
            input,
            read: BytesMut::new(),
            searched: 0,
        }
    }

    /// The output again; the line that was begun goes to the log.
    pub fn into_inner(self) -> ChildStdout {
        if !self.read.is_empty() {
            log(&self.read);
        }
        self.input
    }

    /// The next line without its newline; `None` at the end. May be dropped and called again.
    ///
    /// # Errors
    /// A line longer than [`MAX_MESSAGE_BYTES`], or a pipe that breaks.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let new = &self.read[self.searched..];
            if let Some(at) = new.iter().position(|byte| *byte == b'\n') {
                let mut line = self.read.split_to(self.searched + at + 1);
                self.searched = 0;
                line.truncate(line.len() - 1);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                return Ok(Some(line.freeze()));
            }
            self.searched = self.read.len();
            if self.searched > MAX_MESSAGE_BYTES {
                return Err(io::Error::other(
                    "the server wrote a line of more than 16 MiB",
                ));
            }
            self.read.reserve(CHUNK);
            if self.input.read_buf(&mut self.read).await? == 0 {
                self.searched = 0;
                let rest = self.read.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            }
        }
    }
}

/// Writes a line to the instance's log.
pub fn log(line: &[u8]) {
    let mut out = io::stdout().lock();
    // A log that nobody takes is no reason to end a server.
    let _ = out.write_all(line).and_then(|()| out.write_all(b"\n"));
    let _ = out.flush();
}

/// Passes a server's output on to the instance's log, to its end.
pub async fn pass_on(mut output: ChildStdout) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(read) = output.read(&mut chunk).await {
        if read == 0 {
            return;
        }
        let mut out = io::stdout().lock();
        let _ = out.write_all(&chunk[..read]);
        let _ = out.flush();
    }
}
