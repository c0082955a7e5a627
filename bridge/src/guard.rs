//! `berth guard -- PROGRAM …`: the first process of a container whose image may hold anything, so
//! that nothing of the image can be relied on, Python included.
//!
//! What a program writes is copied by the container engine, line by line, outside the container's
//! own bounds: without a limit, one that prints in a loop keeps a core of the host busy. So it goes
//! through pipes to this process, which belongs to the container and pays from its share. What is
//! too much is counted and left out; the program is never held up. The bounds are those of the
//! runner's `guard.py`, which does the same where the platform's own Python starts a server.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, kill_process, set_dumpable_behavior,
    wait,
};
use tokio::net::unix::pipe::Receiver;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval, timeout};

/// Well above what anyone reads, and far below what costs the host anything.
const LINES_PER_SECOND: f64 = 1_000.0;
const BYTES_PER_SECOND: f64 = 1024.0 * 1024.0;
/// A long traceback, a chatty start.
const BURST_SECONDS: f64 = 3.0;
/// Engines cut a line here into several.
const MAX_LINE_BYTES: usize = 16 * 1024;
const LINE_CUT: &[u8] = " … (line cut)\n".as_bytes();
/// Lines for the runner are passed on even then, up to this much in all.
const MARKER: &[u8] = b"@@berth ";
const MAX_MARKED_BYTES: usize = 256 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;
/// A flood that goes on is told of this often.
const TELL: Duration = Duration::from_secs(1);
/// What is left in the pipes when the program has ended: a process of its own may hold them open.
const LAST_BYTES: usize = 1024 * 1024;
const LAST_WAIT: Duration = Duration::from_millis(100);

/// A link whose text jemalloc, which allocates for this program, takes for settings: an image could
/// have it print its figures without end, past every limit here. Nothing turns that off.
const ALLOCATOR_SETTINGS: &str = "/etc/_rjem_malloc.conf";

/// `berth guard -- PROGRAM [ARGUMENT…]`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

/// Starts the program and passes its output on; gives the code to end with.
///
/// # Errors
/// One sentence for the log.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // From now on another process of the same user, root included, finds no way to this one's
    // descriptors: it could write past every limit otherwise.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("hiding the guard")?;
    refuse_settings(Path::new(ALLOCATOR_SETTINGS))?;
    let mut ended = signal(SignalKind::child())?;
    let mut stops = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    ];
    let (pid, mut outputs) = start(&arguments.command)?;
    let mut guard = Guard::new(Instant::now());
    let mut told = interval(TELL);
    let (first, second) = stops.split_at_mut(1);
    loop {
        let [out, error] = &mut outputs;
        tokio::select! {
            () = out.readable(), if out.is_open => guard.pass_on(out),
            () = error.readable(), if error.is_open => guard.pass_on(error),
            _ = ended.recv() => if let Some(status) = reap(pid) {
                guard.finish(&mut outputs).await;
                return Ok(code(status));
            },
            _ = first[0].recv() => { let _ = kill_process(pid, Signal::TERM); }
            _ = second[0].recv() => { let _ = kill_process(pid, Signal::INT); }
            _ = told.tick() => guard.tell(Instant::now()),
        }
    }
}

/// An image that sets how this program allocates is not run.
fn refuse_settings(link: &Path) -> anyhow::Result<()> {
    if link.is_symlink() {
        bail!(
            "the image has {}, which would change how the platform's own program allocates memory: remove it, and set _RJEM_MALLOC_CONF for your program instead",
            link.display()
        );
    }
    Ok(())
}

fn start(command: &[std::ffi::OsString]) -> anyhow::Result<(Pid, [Stream; 2])> {
    let (program, arguments) = command.split_first().context("no command was given")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| anyhow!("{} cannot be started: {error}", program.to_string_lossy()))?;
    let pid = Pid::from_raw(child.id().cast_signed()).context("a process has a number")?;
    let out = child.stdout.take().context("it was asked for")?;
    let error = child.stderr.take().context("it was asked for")?;
    let outputs = [
        Stream::new(out.into(), Target::Out)?,
        Stream::new(error.into(), Target::Error)?,
    ];
    Ok((pid, outputs))
}

/// Collects every process that has ended, since the first one of a container inherits the orphans;
/// tells how the program did, if it is among them.
fn reap(pid: Pid) -> Option<WaitStatus> {
    let mut found = None;
    while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
        if ended == pid {
            found = Some(status);
        }
    }
    found
}

/// As shells say it: the first process of a container cannot end by a signal itself.
fn code(status: WaitStatus) -> ExitCode {
    let code = status
        .exit_status()
        .or_else(|| Some(128 + status.terminating_signal()?))
        .unwrap_or(1);
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Out,
    Error,
}

/// One of the two outputs: the line that is being read.
struct Stream {
    input: Receiver,
    target: Target,
    line: Vec<u8>,
    /// The rest of this line is left out: it was too long, or came too fast.
    skipping: bool,
    /// It came too fast, and is still to be counted.
    uncounted: bool,
    is_open: bool,
}

impl Stream {
    fn new(input: OwnedFd, target: Target) -> io::Result<Self> {
        Ok(Self {
            input: Receiver::from_owned_fd(input)?,
            target,
            line: Vec::new(),
            skipping: false,
            uncounted: false,
            is_open: true,
        })
    }

    async fn readable(&self) {
        if self.input.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// How much may be passed on now: a bucket of lines and one of bytes.
struct Limit {
    since: Instant,
    lines: f64,
    bytes: f64,
}

impl Limit {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            lines: LINES_PER_SECOND * BURST_SECONDS,
            bytes: BYTES_PER_SECOND * BURST_SECONDS,
        }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.since).as_secs_f64();
        self.since = now;
        self.lines =
            (self.lines + elapsed * LINES_PER_SECOND).min(LINES_PER_SECOND * BURST_SECONDS);
        self.bytes =
            (self.bytes + elapsed * BYTES_PER_SECOND).min(BYTES_PER_SECOND * BURST_SECONDS);
    }

    fn is_spent(&self) -> bool {
        self.lines < 1.0 || self.bytes < size(MAX_LINE_BYTES)
    }

    /// Whether a line of this size passes.
    fn take(&mut self, bytes: usize) -> bool {
        if self.lines < 1.0 || self.bytes < size(bytes) {
            return false;
        }
        self.lines -= 1.0;
        self.bytes -= size(bytes);
        true
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes of lines")]
fn size(bytes: usize) -> f64 {
    bytes as f64
}

/// What passes.
struct Guard {
    limit: Limit,
    marked: usize,
    dropped_lines: usize,
    dropped_bytes: usize,
}

impl Guard {
    fn new(now: Instant) -> Self {
        Self {
            limit: Limit::new(now),
            marked: 0,
            dropped_lines: 0,
            dropped_bytes: 0,
        }
    }

    /// Reads once.
    fn pass_on(&mut self, stream: &mut Stream) {
        let mut chunk = vec![0; CHUNK_BYTES];
        match stream.input.try_read(&mut chunk) {
            Ok(0) => stream.is_open = false,
            Ok(read) => {
                self.limit.refill(Instant::now());
                let passed = self.pass(stream, &chunk[..read]);
                write(stream.target, &passed);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => stream.is_open = false,
        }
    }

    /// What of a chunk goes on.
    fn pass(&mut self, stream: &mut Stream, chunk: &[u8]) -> Vec<u8> {
        if self.limit.is_spent() && !holds_marker(&stream.line, chunk) {
            // The quick way for a flood: nothing is taken apart.
            self.dropped_lines += chunk.split(|byte| *byte == b'\n').count() - 1;
            self.dropped_bytes += stream.line.len() + chunk.len();
            stream.line.clear();
            stream.skipping = chunk.last() != Some(&b'\n');
            stream.uncounted = stream.skipping;
            return Vec::new();
        }
        let mut passed = Vec::new();
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.pass_piece(stream, piece, &mut passed);
        }
        passed
    }

    fn pass_piece(&mut self, stream: &mut Stream, piece: &[u8], passed: &mut Vec<u8>) {
        let ends = piece.last() == Some(&b'\n');
        if stream.skipping {
            stream.skipping = !ends;
            if ends && stream.uncounted {
                self.dropped_lines += 1;
                stream.uncounted = false;
            }
            return;
        }
        stream.line.extend_from_slice(piece);
        if !ends && stream.line.len() < MAX_LINE_BYTES {
            return;
        }
        let mut line = std::mem::take(&mut stream.line);
        stream.skipping = !ends;
        if !ends || line.len() > MAX_LINE_BYTES {
            line.truncate(MAX_LINE_BYTES - LINE_CUT.len());
            line.extend_from_slice(LINE_CUT);
        }
        if self.passes(&line) {
            passed.extend_from_slice(&line);
        } else {
            self.dropped_lines += 1;
            self.dropped_bytes += line.len();
        }
    }

    fn passes(&mut self, line: &[u8]) -> bool {
        if self.limit.take(line.len()) {
            return true;
        }
        let is_marked =
            holds_marker(line, &[]) && self.marked.saturating_add(line.len()) <= MAX_MARKED_BYTES;
        if is_marked {
            self.marked += line.len();
        }
        is_marked
    }

    /// Tells what was left out, once there is room to.
    fn tell(&mut self, now: Instant) {
        self.limit.refill(now);
        if self.dropped_lines == 0 || self.limit.is_spent() {
            return;
        }
        let (lines, bytes) = (self.dropped_lines, self.dropped_bytes);
        // For the runner, whose own limit would leave out a plain line right behind a flood.
        let text =
            format!("@@berth {{\"phase\":\"left_out\",\"lines\":{lines},\"bytes\":{bytes}}}\n");
        write(Target::Out, text.as_bytes());
        self.dropped_lines = 0;
        self.dropped_bytes = 0;
    }

    /// The last output.
    async fn finish(&mut self, outputs: &mut [Stream; 2]) {
        for stream in outputs {
            for _ in 0..LAST_BYTES / CHUNK_BYTES {
                if !stream.is_open || timeout(LAST_WAIT, stream.readable()).await.is_err() {
                    break;
                }
                self.pass_on(stream);
            }
            let line = std::mem::take(&mut stream.line);
            write(stream.target, &line);
        }
        self.limit = Limit::new(Instant::now());
        self.tell(Instant::now());
    }
}

fn holds_marker(line: &[u8], chunk: &[u8]) -> bool {
    let text = [line, chunk].concat();
    text.windows(MARKER.len()).any(|window| window == MARKER)
}

/// A log that nobody takes is no reason to end a program.
fn write(target: Target, bytes: &[u8]) {
    let _ = match target {
        Target::Out => io::stdout()
            .write_all(bytes)
            .and_then(|()| io::stdout().flush()),
        Target::Error => io::stderr().write_all(bytes),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        let (_, input) = io::pipe().map(|(reader, writer)| (writer, reader)).unwrap();
        Stream::new(input.into(), Target::Out).unwrap()
    }

    #[tokio::test]
    async fn a_flood_is_left_out_and_counted_and_the_runner_is_told() {
        let mut guard = Guard::new(Instant::now());
        let mut stream = stream();
        let flood = b"x\n".repeat(5_000);
        let passed = guard.pass(&mut stream, &flood);
        assert_eq!(passed.len(), 6_000, "three seconds of a thousand lines");
        assert_eq!(guard.dropped_lines, 2_000);
        let told = guard.pass(&mut stream, b"@@berth {\"phase\":\"done\"}\n");
        assert!(told.starts_with(MARKER), "what is for the runner passes");
        assert!(guard.pass(&mut stream, b"y\nhalf").is_empty());
        assert!(guard.pass(&mut stream, b" a line\n").is_empty());
        assert_eq!(guard.dropped_lines, 2_002);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let mut guard = Guard::new(Instant::now());
        let mut stream = stream();
        let passed = guard.pass(&mut stream, &vec![b'a'; MAX_LINE_BYTES + 10]);
        assert_eq!(passed.len(), MAX_LINE_BYTES);
        assert!(passed.ends_with(LINE_CUT));
        assert!(guard.pass(&mut stream, b"aaa").is_empty());
        assert_eq!(guard.pass(&mut stream, b"a\nnext\n"), b"next\n");
    }

    #[test]
    fn an_image_does_not_set_how_the_guard_allocates() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("malloc.conf");
        refuse_settings(&link).unwrap();
        std::os::unix::fs::symlink("stats_print:true,stats_interval:1", &link).unwrap();
        let error = refuse_settings(&link).unwrap_err().to_string();
        assert!(error.contains("remove it"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let arguments = Arguments {
            command: vec!["/no/such/program".into()],
        };
        let error = format!("{:#}", run(arguments).await.unwrap_err());
        assert!(error.contains("/no/such/program"), "{error}");
    }
}
