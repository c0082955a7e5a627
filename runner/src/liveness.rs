//! Whether an instance that was healthy still answers. One that does not is only reported: it may
//! be busy with calls that nobody should lose.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use crate::agent::Agent;
use crate::diagnose;
use crate::health::Liveness;
use crate::protocol::LogStream;
use crate::runtime::{Runtime, State};

/// How often a live instance is asked: rarely enough to cost nothing.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// Watches until the instance is replaced or gone, or the runner ends.
pub fn watch<R: Runtime>(
    agent: &Arc<Agent<R>>,
    deployment: Uuid,
    container: String,
    address: SocketAddr,
) {
    let watching = Arc::clone(agent);
    let shutdown = agent.shutdown.clone();
    agent.tasks.spawn(async move {
        tokio::select! {
            () = look(&watching, deployment, &container, address) => {}
            () = shutdown.cancelled() => {}
        }
    });
}

async fn look<R: Runtime>(
    agent: &Agent<R>,
    deployment: Uuid,
    container: &str,
    address: SocketAddr,
) {
    let mut is_silent = false;
    loop {
        sleep(ASK_EVERY).await;
        if !agent.is_healthy_instance(deployment, container) {
            return;
        }
        let answers = agent.prober.is_alive(address).await;
        match (answers, is_silent) {
            (Liveness::Answers, true) => {
                let log = agent.log(deployment, LogStream::Instance);
                log.line("The server answers again.");
            }
            (Liveness::Silent(waited), false) => {
                if !runs(agent, container).await {
                    continue;
                }
                agent.note(deployment, diagnose::stopped_answering(waited.as_secs()));
            }
            _ => {}
        }
        is_silent = matches!(answers, Liveness::Silent(_));
    }
}

/// One that is frozen or has ended owes no answer.
async fn runs<R: Runtime>(agent: &Agent<R>, container: &str) -> bool {
    let detail = agent.runtime.inspect(container).await;
    matches!(detail, Ok(Some(detail)) if detail.state == State::Running)
}
