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
    /// When the client took it back: an answer may still come, and need not.
    canceled: Option<Instant>,
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

    /// Ends the session for a client that has left it and waits for nothing any more.
    pub fn leave(&self) {
        self.routes().waiting.clear();
        self.close();
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
            canceled: None,
        };
        routes.waiting.insert(id, waiting);
        true
    }

    /// Notes that the client has taken a request back.
    pub fn cancel(&self, id: &RequestId) {
        if let Some(waiting) = self.routes().waiting.get_mut(id) {
            waiting.canceled = Some(Instant::now());
        }
    }

    /// Ends the streams of canceled requests whose answer has not come by now. Many servers send none.
    pub fn forget_canceled(&self, now: Instant) {
        let is_kept = |waiting: &Waiting| waiting.canceled.is_none_or(|at| now < at + GRACE);
        self.routes().waiting.retain(|_, waiting| is_kept(waiting));
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
        let is_used = routes.waiting.values().any(|w| w.canceled.is_none());
        (!is_used).then_some((routes.used, is_listening))
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
                ..
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
        let left = routes.waiting.drain();
        for (id, waiting) in left.filter(|(_, waiting)| waiting.canceled.is_none()) {
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
        let may_take = |waiting: &&Waiting| waiting.is_stream && waiting.canceled.is_none();
        let mut streams: Vec<&Waiting> = self.waiting.values().filter(may_take).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::NumberOrString;

    /// A session with a request of its own for each id.
    fn asked(ids: &[i64]) -> (Arc<Session>, Vec<mpsc::Receiver<Outgoing>>) {
        let (session, _) = Session::new();
        let streams = ids.iter().map(|id| {
            let (stream, receiver) = mpsc::channel(1);
            assert!(session.expect(NumberOrString::Number(*id), None, stream, true));
            receiver
        });
        let streams = streams.collect();
        (session, streams)
    }

    #[test]
    fn a_canceled_request_keeps_nothing_waiting() {
        let (session, mut streams) = asked(&[1, 2]);
        assert!(session.unused().is_none());
        session.cancel(&NumberOrString::Number(1));
        session.deliver(Bytes::from_static(
            br#"{"jsonrpc":"2.0","id":2,"result":{}}"#,
        ));
        assert!(session.unused().is_some());
        assert!(streams[1].try_recv().is_ok_and(|outgoing| outgoing.is_last));
        session.forget_canceled(Instant::now());
        assert!(!streams[0].is_closed(), "an answer may come");
        session.forget_canceled(Instant::now() + GRACE);
        assert!(streams[0].is_closed());
    }

    #[test]
    fn whoever_waits_is_told_of_the_end_and_nobody_else() {
        let (session, mut streams) = asked(&[1, 2]);
        session.cancel(&NumberOrString::Number(1));
        session.finish("The server ended.");
        assert!(streams[0].try_recv().is_err());
        assert!(streams[1].try_recv().is_ok_and(|outgoing| outgoing.is_last));
        let (session, mut streams) = asked(&[1]);
        session.leave();
        session.finish("The session was ended.");
        assert!(streams[0].try_recv().is_err(), "the client has left");
    }
}
