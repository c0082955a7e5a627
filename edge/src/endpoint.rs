//! The MCP session that an HTTP+SSE stream opens (MCP 2024-11-05, basic/transports): its first event
//! names the address to post to, `data: /messages/?session_id=…`.

use std::sync::Arc;

use uuid::Uuid;

use crate::session::{OpenStream, Principal, id_in_query};
use crate::site::Project;

/// As much of a stream as is looked at. The event has some 80 bytes; comments may come before it.
const MOST: usize = 4096;

/// Waits for the first event of a stream, in however many pieces it comes.
#[derive(Debug)]
pub(crate) struct EndpointWatch {
    project: Arc<Project>,
    deployment: Uuid,
    principal: Principal,
    /// What has passed without being a whole event.
    begun: Vec<u8>,
}

/// What a watch makes of a piece.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The event is not whole yet.
    More(Box<EndpointWatch>),
    /// It named a session, which lives as long as this,
    Session(OpenStream),
    /// or none.
    Nothing,
}

impl EndpointWatch {
    /// Waits for the session that an instance of `project` opens for `principal`.
    pub(crate) fn new(project: &Arc<Project>, deployment: Uuid, principal: Principal) -> Self {
        Self {
            project: Arc::clone(project),
            deployment,
            principal,
            begun: Vec::new(),
        }
    }

    /// Hears the next piece, and remembers the session that its event opens.
    pub(crate) fn hear(mut self: Box<Self>, piece: &[u8]) -> Heard {
        // Mostly the event comes whole.
        let text = if self.begun.is_empty() {
            piece
        } else {
            self.begun.extend_from_slice(piece);
            &self.begun
        };
        match first_event(text) {
            Some(event) => {
                let sessions = &self.project.sessions;
                let opened = session_id(&event)
                    .and_then(|id| sessions.learn_stream(id, self.deployment, &self.principal));
                opened.map_or(Heard::Nothing, Heard::Session)
            }
            None if text.len() >= MOST => Heard::Nothing,
            None => {
                if self.begun.is_empty() {
                    self.begun.extend_from_slice(piece);
                }
                Heard::More(self)
            }
        }
    }
}

/// One event of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event<'a> {
    name: &'a str,
    data: &'a str,
}

/// The first event, once it is whole. Comments and events without data are none (HTML, server-sent
/// events, interpretation). Of data in several lines the last one counts: an address has one.
fn first_event(text: &[u8]) -> Option<Event<'_>> {
    let mut event = Event::default();
    let mut rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        let (line, after) = rest.split_at(end);
        let ending = if after.starts_with(b"\r\n") { 2 } else { 1 };
        rest = &after[ending..];
        if line.is_empty() {
            if !event.data.is_empty() {
                return Some(event);
            }
            event = Event::default();
            continue;
        }
        // What is no text is no address either.
        let line = std::str::from_utf8(line).unwrap_or_default();
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.name = value,
            "data" => event.data = value,
            _ => {}
        }
    }
    None
}

/// The session in the address that the event names, as the query of a POST will name it.
fn session_id<'a>(event: &Event<'a>) -> Option<&'a str> {
    if event.name != "endpoint" {
        return None;
    }
    let (_, query) = event.data.split_once('?')?;
    id_in_query(query.split('#').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Owner;

    fn id(text: &str) -> Option<&str> {
        session_id(&first_event(text.as_bytes())?)
    }

    #[test]
    fn the_first_event_names_the_session() {
        for (text, expected) in [
            (
                "event: endpoint\r\ndata: /messages/?session_id=ab12\r\n\r\n",
                Some("ab12"),
            ),
            (
                "event: endpoint\ndata: /messages?sessionId=1-2&x=1\n\n",
                Some("1-2"),
            ),
            (
                "event:endpoint\rdata:/messages?sessionId=1#x\r\r",
                Some("1"),
            ),
            (
                ": ping\n\n\u{feff}: x\n\nretry: 5\n\ndata: /messages?session_id=7\nevent: endpoint\nid: 1\n\n",
                Some("7"),
            ),
            ("event: endpoint\ndata: /messages?session_id=7\n", None),
            ("event: message\ndata: /messages?session_id=x\n\n", None),
            ("data: /messages?session_id=x\n\n", None),
            ("event: endpoint\ndata: /messages\n\n", None),
            ("event: endpoint\ndata: /messages?session_id=\n\n", None),
            (
                "data: first\n\nevent: endpoint\ndata: /messages?session_id=x\n\n",
                None,
            ),
            (": ping\n\n", None),
            ("", None),
        ] {
            assert_eq!(id(text), expected, "{text:?}");
        }
    }

    fn watch(project: &Arc<Project>) -> EndpointWatch {
        EndpointWatch::new(project, Uuid::from_u128(1), None)
    }

    #[test]
    fn it_is_learned_in_however_many_pieces_it_comes() {
        let text = b": ping\r\n\r\nevent: endpoint\r\ndata: /messages/?session_id=ab12\r\n\r\n";
        for first in 1..text.len() {
            for second in first..text.len() {
                let project = Project::new(Uuid::from_u128(7), Uuid::from_u128(7));
                let mut waiting = Some(Box::new(watch(&project)));
                let mut stream = None;
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    match waiting.take().map(|watch| watch.hear(piece)) {
                        Some(Heard::More(watch)) => waiting = Some(watch),
                        Some(Heard::Session(opened)) => stream = Some(opened),
                        Some(Heard::Nothing) => panic!("{first} {second}"),
                        None => {}
                    }
                }
                assert!(stream.is_some(), "{first} {second}");
                assert_eq!(
                    project.sessions.find("ab12", &None),
                    Owner::Deployment(Uuid::from_u128(1))
                );
            }
        }
    }

    #[test]
    fn a_stream_that_opens_none_is_not_kept() {
        let project = Project::new(Uuid::from_u128(7), Uuid::from_u128(7));
        let other = Box::new(watch(&project)).hear(b"event: message\ndata: {}\n\n");
        assert!(matches!(other, Heard::Nothing), "{other:?}");
        let mut waiting = Box::new(watch(&project));
        let mut heard = 0;
        while let Heard::More(watch) = waiting.hear(b": a comment without an end") {
            waiting = watch;
            heard += 26;
            assert!(heard < MOST);
        }
    }
}
