//! Bounds of the bridge, each with its reason.

use std::fs;
use std::time::Duration;

/// Largest message either way, bytes. The edge takes 10 MiB from a client; a server's answer may
/// hold an image of that size in Base64.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Messages that wait for one stream of a client. A client that reads none of so many has gone.
pub const STREAM_MESSAGES: usize = 1024;
/// Messages for a client that has no stream open at the moment; the oldest go.
pub const WAITING_MESSAGES: usize = 256;
/// Messages that wait for a server to read them.
pub const INPUT_MESSAGES: usize = 64;
/// After this long without a message and without an open stream a session ends with its process.
pub const IDLE: Duration = Duration::from_mins(30);
/// A session that was used this lately is not ended for another one.
pub const FRESH: Duration = Duration::from_secs(30);
/// How often idle sessions are looked for.
pub const SWEEP: Duration = Duration::from_secs(15);
/// An answer that comes within this time goes out as one JSON document, a later one on a stream,
/// whose head tells every proxy at once that the server is at work.
pub const PATIENCE: Duration = Duration::from_millis(500);
/// Between comments on a quiet stream, so that no proxy takes it for dead.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// From the end of its input to SIGTERM, and from there to SIGKILL (MCP 2025-11-25,
/// basic/lifecycle, "Shutdown").
pub const GRACE: Duration = Duration::from_secs(2);
/// How long the last output of an ended server may take to arrive.
pub const DRAIN: Duration = Duration::from_secs(1);
/// From SIGTERM to the end of the bridge: an instance gets 10 s.
pub const SHUTDOWN: Duration = Duration::from_secs(8);
/// How often open ports are looked for while the server starts.
pub const LOOK: Duration = Duration::from_millis(100);
/// How long a server may listen elsewhere than on its port before its connections are relayed:
/// it may be about to open that as well, or be a stdio server with a port for its debugger.
pub const SETTLE: Duration = Duration::from_secs(3);

/// Memory that one process of a small stdio server takes, bytes: Python and Node need 40 to 60 MiB
/// of their own.
const MEMORY_PER_SESSION: u64 = 48 * 1024 * 1024;
/// Processes and threads of one: Node has eleven.
const PIDS_PER_SESSION: u64 = 12;
/// Kept for the bridge itself.
const OWN_PIDS: u64 = 8;
/// More is no use to an instance of the usual size.
const MOST_SESSIONS: u64 = 256;

/// How many sessions, and with them processes, the instance has room for.
pub fn most_sessions() -> usize {
    let read = |paths: [&str; 2]| {
        paths
            .iter()
            .find_map(|path| fs::read_to_string(path).ok())
            .and_then(|text| text.trim().parse::<u64>().ok())
    };
    // Control groups of version 2, then of version 1; no number means no limit.
    let memory = read([
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ]);
    let pids = read(["/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"]);
    sessions_in(memory, pids)
}

fn sessions_in(memory: Option<u64>, pids: Option<u64>) -> usize {
    let by_memory = memory.map_or(MOST_SESSIONS, |bytes| bytes / MEMORY_PER_SESSION);
    let by_pids = pids.map_or(MOST_SESSIONS, |pids| {
        pids.saturating_sub(OWN_PIDS) / PIDS_PER_SESSION
    });
    let most = by_memory.min(by_pids).clamp(1, MOST_SESSIONS);
    usize::try_from(most).expect("it is at most 256")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_holds_what_its_limits_allow() {
        const MIB: u64 = 1024 * 1024;
        assert_eq!(sessions_in(Some(512 * MIB), Some(256)), 10);
        assert_eq!(sessions_in(Some(4096 * MIB), Some(128)), 10);
        assert_eq!(sessions_in(Some(32 * MIB), Some(16)), 1, "never none");
        assert_eq!(sessions_in(None, None), 256);
    }
}
