//! One MCP session: one process of the server, and who waits for what it says.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rmcp::model::{ErrorCode, ProgressToken, RequestId};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::child::Child;
use crate::limits::{DRAIN, GRACE, INPUT_MESSAGES, WAITING_MESSAGES};
use crate::lines::{self, Lines};
use crate::message::{self, Kind};
use crate::report;

/// JSON-RPC code of errors that the server, here the bridge, defines (JSON-RPC 2.0 section 5.1).
pub const SERVER_ERROR: ErrorCode = ErrorCode(-32000);

/// A message on its way to a client.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// As the server wrote it.
    pub bytes: Bytes,
    /// Whether it is what its stream was opened for: the answer.
    pub is_last: bool,
}

/// Takes messages to one stream of the client.
pub type Stream = mpsc::Sender<Outgoing>;

/// A session.
pub struct Session {
    /// Its id, which nobody can guess.
    pub id: String,
    input: mpsc::Sender<Vec<u8>>,
    routes: Mutex<Routes>,
    end: CancellationToken,
}

/// A request that the server has not answered yet.
struct Waiting {
    stream: Stream,
    progress: Option<ProgressToken>,
    /// Whether other messages than the answer may go there.
    is_stream: bool,
    number: u64,
}

struct Routes {
    waiting: HashMap<RequestId, Waiting>,
    general: Option<Stream>,
    backlog: VecDeque<Bytes>,
    asked: u64,
    used: Instant,
    ended: Option<String>,
}

impl Session {
    /// A session with the other ends of its process.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Vec<u8>>) {
        let (input, lines) = mpsc::channel(INPUT_MESSAGES);
        let session = Self {
            id: uuid::Uuid::new_v4().simple().to_string(),
            input,
            routes: Mutex::new(Routes {
                waiting: HashMap::new(),
                general: None,
                backlog: VecDeque::new(),
                asked: 0,
                used: Instant::now(),
                ended: None,
            }),
            end: CancellationToken::new(),
        };
        (Arc::new(session), lines)
    }

    /// Lets the process's messages come and go until it ends or the session does.
    pub async fn run(&self, mut child: Child, mut lines: mpsc::Receiver<Vec<u8>>) {
        let mut input = child.take_input();
        let mut output = Lines::new(child.take_output());
        let write = async move {
            while let Some(line) = lines.recv().await {
                // Its end is about to be noticed.
                if input.write_all(&line).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let why = tokio::select! {
            () = write => unreachable!("it never resolves"),
            broke = self.read(&mut output) => match broke {
                Some(why) => why,
                None => match timeout(GRACE, child.how_it_ended()).await {
                    Ok(how) => format!("The server ended {how}; the instance's log says more."),
                    Err(_) => "The server closed its output.".to_owned(),
                },
            },
            how = child.how_it_ended() => {
                // What it wrote last may be an answer.
                let _ = timeout(DRAIN, self.read(&mut output)).await;
                format!("The server ended {how}; the instance's log says more.")
            }
            () = self.end.cancelled() => "The session was ended.".to_owned(),
        };
        if !self.end.is_cancelled() {
            report::say(&format!("A session ends: {why}"));
        }
        self.finish(&why);
        child.end().await;
    }

    /// Reads to the end of the output; gives why it cannot go on, if that is not the end.
    async fn read(&self, output: &mut Lines) -> Option<String> {
        loop {
            match output.next().await {
                Ok(Some(line)) => self.deliver(line),
                Ok(None) => return None,
                Err(error) => return Some(format!("The server cannot be read: {error}.")),
            }
        }
    }

    /// Asks the session to end.
    pub fn close(&self) {
        self.end.cancel();
    }

    /// Notes a request; its answer and what belongs to it will go to `stream`. False when a request
    /// with this id has not been answered yet, or the session has ended.
    pub fn expect(
        &self,
        id: RequestId,
        progress: Option<ProgressToken>,
        stream: Stream,
        is_stream: bool,
    ) -> bool {
        let mut routes = self.routes();
        if routes.ended.is_some() || routes.waiting.contains_key(&id) {
            return false;
        }
        routes.asked += 1;
        routes.used = Instant::now();
        let number = routes.asked;
        let waiting = Waiting {
            stream,
            progress,
            is_stream,
            number,
        };
        routes.waiting.insert(id, waiting);
        true
    }

    /// Gives a message to the server; waits while it has too many to read.
    pub async fn send(&self, message: &[u8]) {
        self.routes().used = Instant::now();
        // One that has ended is told to whoever waits.
        let _ = self.input.send(message::line(message)).await;
    }

    /// Opens the stream for what belongs to no request, in place of an earlier one, and sends what
    /// had to wait for it.
    pub fn listen(&self, stream: Stream) {
        let mut routes = self.routes();
        routes.used = Instant::now();
        for bytes in std::mem::take(&mut routes.backlog) {
            let _ = stream.try_send(Outgoing {
                bytes,
                is_last: false,
            });
        }
        routes.general = routes.ended.is_none().then_some(stream);
    }

    /// Since when nobody has used it; `None` while a request is being answered. The second says
    /// whether a stream is open.
    pub fn unused(&self) -> Option<(Instant, bool)> {
        let routes = self.routes();
        let is_listening = routes.general.as_ref().is_some_and(|s| !s.is_closed());
        routes
            .waiting
            .is_empty()
            .then_some((routes.used, is_listening))
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a line of the server to whom it is for; what is no message is for the log.
    fn deliver(&self, line: Bytes) {
        let Ok(kind) = message::read(&line) else {
            lines::log(&line);
            return;
        };
        let mut routes = self.routes();
        routes.used = Instant::now();
        match kind {
            Kind::Response { id: Some(id) } => {
                // Without one the client has ended the session's use of it.
                if let Some(waiting) = routes.waiting.remove(&id) {
                    let _ = waiting.stream.try_send(Outgoing {
                        bytes: line,
                        is_last: true,
                    });
                }
            }
            Kind::Notification {
                progress: Some(token),
            } => {
                let of = routes
                    .waiting
                    .values()
                    .find(|waiting| waiting.progress.as_ref() == Some(&token));
                let stream = of.filter(|w| w.is_stream).map(|w| w.stream.clone());
                routes.pass(stream.as_ref(), line);
            }
            Kind::Response { id: None } | Kind::Notification { .. } | Kind::Request { .. } => {
                let stream = routes.related();
                routes.pass(stream.as_ref(), line);
            }
        }
    }

    /// Tells everyone who waits that nothing more comes.
    fn finish(&self, why: &str) {
        let mut routes = self.routes();
        routes.ended = Some(why.to_owned());
        routes.general = None;
        for (id, waiting) in routes.waiting.drain() {
            let bytes = message::error(Some(id), SERVER_ERROR, why.to_owned()).into();
            let _ = waiting.stream.try_send(Outgoing {
                bytes,
                is_last: true,
            });
        }
    }

    /// Why it has ended, if it has.
    pub fn ended(&self) -> Option<String> {
        self.routes().ended.clone()
    }
}

impl Routes {
    /// Where a message goes that names no request. Over stdio nothing relates it to one: while a
    /// single request is being answered it belongs to that, else to the general stream.
    fn related(&self) -> Option<Stream> {
        let mut streams: Vec<&Waiting> = self.waiting.values().filter(|w| w.is_stream).collect();
        streams.sort_unstable_by_key(|waiting| waiting.number);
        let newest = streams.last().map(|waiting| waiting.stream.clone());
        match &self.general {
            Some(general) if streams.len() != 1 && !general.is_closed() => Some(general.clone()),
            _ => newest,
        }
    }

    /// Sends to a stream; keeps what has none for the next general stream.
    fn pass(&mut self, stream: Option<&Stream>, bytes: Bytes) {
        for stream in stream.into_iter().chain(&self.general) {
            let outgoing = Outgoing {
                bytes: bytes.clone(),
                is_last: false,
            };
            if stream.try_send(outgoing).is_ok() {
                return;
            }
        }
        if self.backlog.len() == WAITING_MESSAGES {
            self.backlog.pop_front();
        }
        self.backlog.push_back(bytes);
    }
}
