//! Builds a planned Node project: its packages, kept for all versions of the code, and where
//! something is to be built, a copy of this version of the code.

use std::path::Path;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{NodePlan, Packages};
use crate::agent::Agent;
use crate::build::environment::{Layout, Obtained, Request};
use crate::build::pipeline::{self, Stop};
use crate::diagnose::{EnvironmentFailure, from_node_failure};
use crate::hash::Hash;
use crate::logs::LogWriter;
use crate::record::Built;
use crate::runtime::{Image, Owner, Runtime};

/// The build program.
pub const PROGRAM: &str = "node.py";

/// Where and for whom a build is done.
pub struct Work<'a, R: Runtime> {
    /// The runner.
    pub agent: &'a Agent<R>,
    /// Whose build this is.
    pub owner: Owner,
    /// The runtime image.
    pub image: &'a Image,
    /// The project's network.
    pub network: &'a str,
    /// The build's log.
    pub log: &'a LogWriter,
    /// When it is over.
    pub deadline: Instant,
    /// Whether anybody wants it.
    pub canceled: &'a CancellationToken,
    /// Longest build, seconds, for people.
    pub seconds: u64,
}

impl<R: Runtime> Work<'_, R> {
    /// Finds or makes what a request describes.
    pub async fn obtain(&self, request: &Request<'_>, lock: &str) -> Result<Obtained, Stop> {
        pipeline::obtain(self.agent, request, self.log, self.deadline, self.canceled)
            .await
            .map_err(|failure| {
                pipeline::failed(failure, self.seconds, |account| said(account, lock))
            })
    }

    /// A request of this build.
    pub fn request<'r>(
        &'r self,
        version: &'r str,
        source: &'r Path,
        declared: serde_json::Value,
        inputs: Vec<u8>,
        layout: Layout<'r>,
    ) -> Request<'r> {
        Request {
            owner: self.owner,
            image: self.image,
            program: PROGRAM,
            layout,
            version,
            declared,
            inputs,
            source,
            network: self.network,
            programs: &self.agent.programs,
        }
    }
}

/// From the build program's account to what the owner reads.
fn said(account: serde_json::Value, lock: &str) -> crate::protocol::Diagnosis {
    let failure: EnvironmentFailure = serde_json::from_value(account).unwrap_or_default();
    from_node_failure(&failure, lock)
}

/// Builds the project.
pub async fn build<R: Runtime>(
    work: &Work<'_, R>,
    source: &Path,
    plan: NodePlan,
) -> Result<(Built, Vec<(String, u64)>), Stop> {
    let packages = &plan.packages;
    let lock = packages.installer.lock_file();
    let installed = if packages.in_place {
        None
    } else {
        let declared = packages.stage("dependencies", None);
        let inputs = packages.inputs();
        let request = work.request(&plan.version, source, declared, inputs, Layout::Beside);
        Some(work.obtain(&request, lock).await?)
    };
    let mut timings = installed
        .as_ref()
        .map(|i| i.timings.clone())
        .unwrap_or_default();
    let environment = installed.map(|installed| installed.path);
    let app = if packages.is_built() {
        let mark = code_mark(packages, source, environment.as_deref());
        let request = work.request(
            &plan.version,
            source,
            packages.stage("app", Some(&mark)),
            mark.clone().into_bytes(),
            Layout::Built(environment.as_deref()),
        );
        let built = work.obtain(&request, lock).await?;
        timings.extend(built.timings);
        built.path
    } else {
        source.to_owned()
    };
    let built = Built {
        environment: environment.unwrap_or_else(|| app.clone()),
        source: app,
        image: work.image.name.clone(),
        variables: plan.variables,
        entrypoint: plan.plan.entrypoint,
        start: Some(plan.start),
    };
    Ok((built, timings))
}

/// What a built copy of the code stands for: this source with these packages. A source's path names
/// its content, and a packages' directory too.
fn code_mark(packages: &Packages, source: &Path, environment: Option<&Path>) -> String {
    let hash = Hash::new()
        .part(b"app")
        .part(source.as_os_str().as_encoded_bytes())
        .part(environment.map_or(&[][..], |path| path.as_os_str().as_encoded_bytes()))
        .part(packages.stage("app", None).to_string().as_bytes());
    format!("# berth:app {}", hash.hex())
}
