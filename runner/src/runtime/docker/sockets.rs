//! Where the processes of a container listen, from the kernel's table of its network namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::StreamExt;

use super::{RuntimeError, engine};

/// `/proc/net/tcp`: the state of a listening socket.
const LISTEN: &str = "0A";

/// The engine's own resolver, which listens inside every container.
const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// Asks a running container. The table is read inside, so that a distant engine can be asked too.
pub async fn listening(docker: &Docker, id: &str) -> Result<Vec<SocketAddr>, RuntimeError> {
    let config = ExecConfig {
        attach_stdout: Some(true),
        cmd: Some(
            ["/bin/cat", "/proc/net/tcp", "/proc/net/tcp6"]
                .map(String::from)
                .to_vec(),
        ),
        ..ExecConfig::default()
    };
    let exec = docker.create_exec(id, config).await.map_err(engine)?;
    let started = docker.start_exec(&exec.id, None).await.map_err(engine)?;
    let StartExecResults::Attached { mut output, .. } = started else {
        return Ok(Vec::new());
    };
    let mut table = Vec::new();
    while let Some(part) = output.next().await {
        if let LogOutput::StdOut { message } = part.map_err(engine)? {
            table.extend_from_slice(&message);
        }
    }
    Ok(read(&String::from_utf8_lossy(&table)))
}

/// The listening sockets of both tables, one after the other, without the engine's own.
fn read(table: &str) -> Vec<SocketAddr> {
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
            (state == LISTEN).then(|| address(local)).flatten()
        })
        .filter(|address| address.ip() != RESOLVER)
        .collect()
}

/// `0100007F:1F90` is 127.0.0.1:8080: words of four bytes in the machine's order, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Option<Vec<u8>> = (0..ip.len() / 8)
        .map(|at| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok())
        .collect::<Option<Vec<u32>>>()
        .map(|words| words.into_iter().flat_map(u32::to_ne_bytes).collect());
    let bytes = words?;
    let ip = if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        IpAddr::V4(Ipv4Addr::from(four))
    } else {
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?))
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn listening_sockets_are_read_and_the_engines_own_left_out() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000
   1: 0B00007F:9C41 00000000:0000 0A 00000000:00000000 00:00000000 00000000
   2: 0100007F:1F41 0100007F:0050 01 00000000:00000000 00:00000000 00000000
  sl  local_address                         remote_address
   0: 00000000000000000000000000000000:0BB8 00000000000000000000000000000000:0000 0A 00000000
   1: 0000000000000000FFFF00000100007F:0BB9 00000000000000000000000000000000:0000 0A 00000000
";
        let found: Vec<String> = read(table).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.1:8000", "[::]:3000", "127.0.0.1:3001"]);
    }
}
