//! A server of events that says when it sent each one and knows how many listen.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Between two events of a stream that ticks.
const TICK: Duration = Duration::from_secs(1);

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The running server, on a thread of its own.
pub struct Events {
    pub port: u16,
    /// Streams that are open.
    pub open: Arc<AtomicUsize>,
    /// The clock of the times in events.
    pub began: Instant,
}

impl Events {
    pub fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let events = Self {
            port: listener.local_addr()?.port(),
            open: Arc::default(),
            began: Instant::now(),
        };
        let (open, began) = (Arc::clone(&events.open), events.began);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("it does not block");
                while let Ok((stream, _)) = listener.accept().await {
                    let open = Arc::clone(&open);
                    #[expect(clippy::disallowed_methods, reason = "ends with the bench")]
                    tokio::spawn(async move {
                        open.fetch_add(1, Ordering::SeqCst);
                        // Its client left, which is how every stream here ends.
                        let _ = serve(stream, began).await;
                        open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
        });
        Ok(events)
    }
}

async fn serve(mut stream: TcpStream, began: Instant) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let ticks = String::from_utf8_lossy(&head)
        .to_lowercase()
        .contains("x-ticks");
    stream.write_all(HEAD).await?;
    send(&mut stream, began).await?;
    let mut rest = [0_u8; 64];
    loop {
        tokio::select! {
            read = stream.read(&mut rest) => if read? == 0 { return Ok(()) },
            () = tokio::time::sleep(TICK), if ticks => send(&mut stream, began).await?,
        }
    }
}

async fn send(stream: &mut TcpStream, began: Instant) -> std::io::Result<()> {
    let event = format!("data: {}\n\n", began.elapsed().as_micros());
    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
    stream.write_all(chunk.as_bytes()).await
}
