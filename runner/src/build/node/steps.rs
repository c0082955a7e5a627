//! Builds a planned Node project: its packages, kept for all versions of the code, and where
//! something is to be built, a copy of this version of the code.

use std::path::Path;

use serde_json::Value;

use super::{NodePlan, Packages};
use crate::agent::Agent;
use crate::build::command;
use crate::build::container::Site;
use crate::build::environment::{Layout, Obtained, Request};
use crate::build::pipeline::{self, Stop};
use crate::diagnose::{EnvironmentFailure, from_node_failure};
use crate::hash::Hash;
use crate::protocol::Diagnosis;
use crate::record::Built;
use crate::runtime::{Image, Runtime};
use crate::verdict;

/// The build program.
pub const PROGRAM: &str = "node.py";

/// Where and for whom a build is done.
pub struct Work<'a, R: Runtime> {
    /// The runner.
    pub agent: &'a Agent<R>,
    /// Whose build this is, and where it runs.
    pub site: &'a Site<'a>,
    /// The runtime image, with the system packages in it.
    pub image: &'a Image,
    /// Longest build, seconds, for people.
    pub seconds: u64,
}

impl<R: Runtime> Work<'_, R> {
    /// Finds or makes what a request describes. `said` explains the build program's account.
    pub async fn obtain(
        &self,
        request: &Request<'_>,
        said: impl FnOnce(Value) -> Diagnosis,
    ) -> Result<Obtained, Stop> {
        let agent = self.agent;
        let obtained = agent
            .environments
            .obtain(&agent.runtime, &agent.build_host, self.site, request)
            .await;
        obtained.map_err(|failure| {
            pipeline::stop(failure, self.seconds, |failed| match failed {
                Ok(account) => said(account),
                Err((exit, tail)) => verdict::environment_ended(exit, &tail),
            })
        })
    }
}

/// From the build program's account to what the owner reads.
fn said(account: Value, packages: &Packages) -> Diagnosis {
    if matches!(
        account["code"].as_str(),
        Some("command_not_found" | "command_failed")
    ) {
        return command::said(&account, &packages.command);
    }
    let failure: EnvironmentFailure = serde_json::from_value(account).unwrap_or_default();
    from_node_failure(&failure, packages.installer.lock_file())
}

/// Builds the project.
pub async fn build<R: Runtime>(
    work: &Work<'_, R>,
    source: &Path,
    plan: NodePlan,
) -> Result<(Built, Vec<(String, u64)>), Stop> {
    let packages = &plan.packages;
    let request = |declared, inputs, layout| Request {
        image: work.image,
        wheels_on: None,
        program: PROGRAM,
        layout,
        version: &plan.version,
        declared,
        inputs,
        source,
    };
    let explain = |account| said(account, packages);
    let installed = if packages.in_place {
        None
    } else {
        let declared = packages.stage("dependencies", None);
        let inputs = packages.inputs();
        let request = request(declared, inputs, Layout::Beside);
        Some(work.obtain(&request, explain).await?)
    };
    let mut timings = installed
        .as_ref()
        .map(|i| i.timings.clone())
        .unwrap_or_default();
    let environment = installed.map(|installed| installed.path);
    let app = if packages.is_built() {
        let mark = code_mark(packages, work.site, source, environment.as_deref());
        let request = request(
            packages.stage("app", Some(&mark)),
            mark.clone().into_bytes(),
            Layout::Built(environment.as_deref()),
        );
        let built = work.obtain(&request, explain).await?;
        timings.extend(built.timings);
        built.path
    } else {
        source.to_owned()
    };
    let built = Built {
        environment: environment.unwrap_or_else(|| app.clone()),
        source: app,
        // It is the installer's own, with a line of ours in front.
        lock: String::new(),
        image: work.image.name.clone(),
        variables: plan.variables,
        entrypoint: plan.plan.entrypoint,
        root: String::new(),
        start_command: Vec::new(),
        start: Some(plan.start),
        own_image: None,
    };
    Ok((built, timings))
}

/// What a built copy of the code stands for: this source with these packages, built with these
/// variables. A source's path names its content, and a packages' directory too.
fn code_mark(
    packages: &Packages,
    site: &Site<'_>,
    source: &Path,
    environment: Option<&Path>,
) -> String {
    let hash = Hash::new()
        .part(b"app")
        .part(source.as_os_str().as_encoded_bytes())
        .part(environment.map_or(&[][..], |path| path.as_os_str().as_encoded_bytes()))
        .part(packages.stage("app", None).to_string().as_bytes())
        .part(site.variables_mark);
    format!("# berth:app {}", hash.hex())
}
