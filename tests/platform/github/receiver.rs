//! A small receiver of webhooks that keeps what it gets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// How long a delivery may take on a busy machine.
const DELIVERY: Duration = Duration::from_secs(30);

/// One request.
pub struct Received {
    /// With names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Listens until the test ends; answers every request with 202.
pub struct Hook {
    pub url: String,
    received: Receiver<Received>,
}

impl Hook {
    pub fn listen() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let (sender, received) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if take(&stream, &sender).is_err() {
                    return;
                }
            }
        });
        Ok(Self { url, received })
    }

    /// The next delivery.
    pub fn next(&self) -> Result<Received> {
        self.received
            .recv_timeout(DELIVERY)
            .context("no delivery came")
    }
}

fn take(stream: &TcpStream, sender: &Sender<Received>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut headers = Vec::new();
    let mut line = String::new();
    reader.read_line(&mut line)?;
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(Ok(0), |(_, value)| value.parse())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    sender.send(Received { headers, body })?;
    Ok(())
}
