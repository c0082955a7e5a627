//! Builds a server that is a package of a registry: there is no repository. The newest version is
//! looked up for every deployment that names none, and what came of it is the deployment's commit.
//!
//! A package runs in the Node image where there is one, also a Python package: many servers call
//! Git or `npx`, and that image has them. Its program speaks stdio or HTTP; the bridge finds out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::environment::{Layout, Obtained, Request};
use super::node::steps::Work;
use super::node::{self, Packages};
use super::pipeline::{self, Stop, elapsed_ms};
use super::python::{self, Version};
use super::{debian, tree::FileTree};
use crate::agent::Agent;
use crate::catalogue::{Package, Registry};
use crate::diagnose::{self, Code, Evidence, diagnosis};
use crate::logs::LogWriter;
use crate::protocol::{self, BuildSettings, Commit, DeploymentSpec, Diagnosis};
use crate::record::{Built, Start};
use crate::runtime::Runtime;
use crate::verdict;

/// The Python that Node images stand on (deploy/images/node.sh).
const NODE_IMAGE_PYTHON: Version = Version(3, 11);

/// A package on its way to a deployment.
pub struct PackagePlan {
    package: Package,
    /// The program of the package that is run, and its arguments.
    words: Vec<String>,
    version: String,
    program: &'static str,
    declared: Value,
    inputs: Vec<u8>,
    files: Vec<(&'static str, String)>,
    /// The same for people.
    pub plan: protocol::Plan,
}

/// Plans it, and writes down what its installer reads.
pub async fn prepare<R: Runtime>(
    agent: &Agent<R>,
    spec: &DeploymentSpec,
    package: &Package,
    log: &LogWriter,
) -> Result<(PathBuf, PackagePlan), Stop> {
    let begun = Instant::now();
    let images = agent.image_names().await;
    let asked = Asked {
        package,
        entrypoint: spec.entrypoint.as_deref(),
        settings: &spec.build,
        images: &images,
    };
    let plan = plan(&asked, &spec.deployment.to_string())?;
    for reason in &plan.plan.reasons {
        log.line(reason.clone());
    }
    let source = agent.sources.written(&plan.package, &plan.files).await?;
    agent.update(spec.deployment, |record| {
        record.report.plan = Some(plan.plan.clone());
        record.timing("plan", elapsed_ms(begun));
    });
    Ok((source, plan))
}

/// Builds it.
pub async fn build<R: Runtime>(
    work: &Work<'_, R>,
    spec: &DeploymentSpec,
    source: &Path,
    plan: PackagePlan,
) -> Result<(Built, Vec<(String, u64)>), Stop> {
    let package = &plan.package;
    let request = Request {
        image: work.image,
        wheels_on: (package.registry == Registry::Pypi).then_some(plan.plan.runtime.as_str()),
        program: plan.program,
        layout: Layout::Beside,
        version: &plan.version,
        declared: plan.declared,
        inputs: plan.inputs,
        source,
    };
    let obtained = work
        .obtain(&request, |account| said(account, package))
        .await?;
    let version = resolved(package, &obtained).map_err(|error| pipeline::platform(&error))?;
    let log = work.site.log;
    log.line(format!("Resolved {} to version {version}.", package.name));
    work.agent.update(spec.deployment, |record| {
        record.report.commit = Some(Commit {
            id: version.clone(),
            subject: Some(format!("{} {version}", package.name)),
            author: None,
        });
    });
    let mut command: Vec<String> = [
        "/usr/bin/python3",
        "/berth/package.py",
        package.registry.as_str(),
    ]
    .map(str::to_owned)
    .to_vec();
    command.push(package.name.clone());
    command.extend(plan.words);
    let built = Built {
        source: source.to_owned(),
        environment: obtained.path,
        // npm's own has a line of ours in front.
        lock: match package.registry {
            Registry::Pypi => obtained.lock,
            Registry::Npm => String::new(),
        },
        image: work.image.name.clone(),
        variables: BTreeMap::from([
            ("NODE_ENV".to_owned(), "production".to_owned()),
            ("PATH".to_owned(), node::PATH.to_owned()),
        ]),
        entrypoint: plan.plan.entrypoint,
        root: String::new(),
        start_command: Vec::new(),
        own_image: None,
        start: Some(Start {
            command,
            // The volume of the project: what a server keeps in its working directory stays.
            working_dir: "/data".to_owned(),
        }),
    };
    Ok((built, obtained.timings))
}

/// What a plan is asked of.
pub struct Asked<'a> {
    /// The package, as it came.
    pub package: &'a Package,
    /// The program to run and its arguments, as the user wrote them.
    pub entrypoint: Option<&'a str>,
    /// How else it is to be built and started.
    pub settings: &'a BuildSettings,
    /// The runtime images present.
    pub images: &'a [String],
}

/// Decides how. `fresh` is different for each deployment.
pub fn plan(asked: &Asked<'_>, fresh: &str) -> Result<PackagePlan, Diagnosis> {
    // What the control plane sends was checked there; what goes to an installer is checked here.
    let package = Package::parse(&asked.package.to_string()).map_err(|why| {
        diagnosis(
            Code::SourceUrlInvalid,
            why,
            "Correct the source of the project.",
        )
    })?;
    refuse_settings(asked.settings)?;
    let words = node::words(asked.entrypoint.unwrap_or_default())?;
    let entrypoint = match words.as_slice() {
        [] => package.name.clone(),
        words => words.join(" "),
    };
    let set = match &package.version {
        Some(version) => format!("Version {version} of {}: it was set.", package.name),
        None => format!("The newest version of {}: none was set.", package.name),
    };
    // Without a version what it resolves to may be different today.
    let mark = package.version.as_deref().map_or(fresh, |_| "");
    let (runtime, version, runtime_reason) = runtime(package.registry, asked.images)?;
    let nothing = FileTree::from_files([]);
    let (system_packages, system_reason) = debian::find(&nothing, "", asked.settings)?;
    let mut reasons = vec![set, runtime_reason];
    reasons.extend(system_reason);
    let (program, declared, inputs, files) = match package.registry {
        Registry::Pypi => {
            let requirement = package.version.as_ref().map_or_else(
                || package.name.clone(),
                |version| format!("{}=={version}", package.name),
            );
            (
                "environment.py",
                json!({"kind": "none", "path": null, "packages": [requirement]}),
                format!("catalogue\0{requirement}\0{mark}").into_bytes(),
                vec![("requirements.txt", format!("{requirement}\n"))],
            )
        }
        Registry::Npm => {
            let wanted = package.version.as_deref().unwrap_or("latest");
            let manifest =
                json!({"private": true, "dependencies": {package.name.as_str(): wanted}});
            let manifest = manifest.to_string();
            let packages = Packages::of_registry(&manifest, mark);
            (
                node::steps::PROGRAM,
                packages.stage("dependencies", None),
                packages.inputs(),
                vec![(node::MANIFEST, manifest)],
            )
        }
    };
    Ok(PackagePlan {
        plan: protocol::Plan {
            runtime,
            entrypoint,
            dependencies: package.to_string(),
            system_packages,
            reasons,
            ..protocol::Plan::default()
        },
        package,
        words,
        version,
        program,
        declared,
        inputs,
        files,
    })
}

/// What needs a source's files is not for packages.
fn refuse_settings(settings: &BuildSettings) -> Result<(), Diagnosis> {
    let set = [
        ("root directory", settings.root_directory.is_some()),
        ("dependency file", settings.dependency_file.is_some()),
        ("build command", !settings.build_command.is_empty()),
        ("start command", !settings.start_command.is_empty()),
    ];
    match set.iter().find(|(_, is_set)| *is_set) {
        None => Ok(()),
        Some((name, _)) => Err(diagnosis(
            Code::ConfigurationInvalid,
            format!(
                "A {name} is set, and a package of a registry has no source that it could be for."
            ),
            format!(
                "Clear the {name} in the project's settings; the entrypoint names the package's program and its arguments."
            ),
        )),
    }
}

/// The image, the version that its build program is told, and one sentence of reason.
fn runtime(registry: Registry, images: &[String]) -> Result<(String, String, String), Diagnosis> {
    let node = node::version::usual(images);
    match (registry, node) {
        (Registry::Npm, Some(node)) => {
            let reason = format!("Node {node}: nothing asks for a version.");
            Ok((format!("node:{node}"), node.to_string(), reason))
        }
        (Registry::Npm, None) => Err(diagnosis(
            Code::NodeVersionUnavailable,
            "This platform has no Node runtime image.",
            "Ask the operator to build one with deploy/images/build node:22.",
        )),
        (Registry::Pypi, node) => {
            let (version, reason) = python::choose(None, images)?;
            let image = match node {
                Some(node) if version == NODE_IMAGE_PYTHON => format!("node:{node}"),
                _ => format!("python:{version}"),
            };
            Ok((image, version.to_string(), reason))
        }
    }
}

/// From the build program's account to what the owner reads.
fn said(account: Value, package: &Package) -> Diagnosis {
    let code = account["code"].as_str().unwrap_or_default().to_owned();
    let about = account["package"].as_str();
    let own = about.is_none_or(|name| name.eq_ignore_ascii_case(&package.name));
    if own && matches!(code.as_str(), "not_found" | "no_version" | "no_solution") {
        return diagnosis(
            Code::DependencyNotFound,
            format!("The registry has no package {package} that runs here."),
            "Check its name and version on the registry's page, and set the source again.",
        );
    }
    match package.registry {
        Registry::Pypi => {
            let named = package.to_string();
            let known = Evidence {
                dependencies: Some(&named),
                ..Evidence::default()
            };
            verdict::environment_said(account, &known)
        }
        Registry::Npm => {
            let failure = serde_json::from_value(account).unwrap_or_default();
            diagnose::from_node_failure(&failure, "package-lock.json")
        }
    }
}

/// The version that was installed, from the lock.
fn resolved(package: &Package, obtained: &Obtained) -> anyhow::Result<String> {
    let lock = obtained.read_lock()?;
    let found = match package.registry {
        Registry::Pypi => pypi_version(&lock, &package.name),
        Registry::Npm => npm_version(&lock, &package.name),
    };
    // It becomes a header and a name on pages: only what is a version.
    found
        .filter(|version| package.at(version).is_ok())
        .ok_or_else(|| anyhow::anyhow!("the lock of {package} does not tell its version"))
}

/// `name==1.2.3 \` of a requirements file.
fn pypi_version(lock: &str, name: &str) -> Option<String> {
    lock.lines().find_map(|line| {
        let (found, rest) = line.split_once("==")?;
        let version = rest.split([' ', ';', '\\']).next()?;
        (normal(found) == normal(name)).then(|| version.to_owned())
    })
}

/// A name as PEP 503 compares it.
fn normal(name: &str) -> String {
    let mut normal = String::new();
    for c in name.trim().chars() {
        match c {
            '-' | '_' | '.' if normal.ends_with('-') => {}
            '-' | '_' | '.' => normal.push('-'),
            other => normal.push(other.to_ascii_lowercase()),
        }
    }
    normal
}

/// `packages["node_modules/name"].version` of npm's lock, which stands after our first line.
fn npm_version(lock: &str, name: &str) -> Option<String> {
    let lock: Value = serde_json::from_str(lock.split_once('\n')?.1).ok()?;
    let version = &lock["packages"][format!("node_modules/{name}")]["version"];
    Some(version.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Vec<String> {
        ["node:22", "python:3.11"].map(str::to_owned).to_vec()
    }

    fn planned_by(
        package: &Package,
        entrypoint: &str,
        images: &[String],
        fresh: &str,
    ) -> Result<PackagePlan, Diagnosis> {
        let asked = Asked {
            package,
            entrypoint: Some(entrypoint),
            settings: &BuildSettings::default(),
            images,
        };
        plan(&asked, fresh)
    }

    fn planned(text: &str, entrypoint: &str) -> PackagePlan {
        planned_by(&Package::parse(text).unwrap(), entrypoint, &images(), "d1").unwrap()
    }

    #[test]
    fn a_version_is_looked_up_anew_unless_it_is_set() {
        let package = Package::parse("pypi:mcp-server-time").unwrap();
        let one = planned_by(&package, "", &images(), "d1").unwrap();
        let two = planned_by(&package, "", &images(), "d2").unwrap();
        assert_ne!(one.inputs, two.inputs);
        let pinned = package.at("1.0").unwrap();
        assert_eq!(
            planned_by(&pinned, "", &images(), "d1").unwrap().inputs,
            planned_by(&pinned, "", &images(), "d2").unwrap().inputs
        );
    }

    #[test]
    fn both_registries_run_in_the_node_image() {
        let time = planned(
            "pypi:mcp-server-time==1.0",
            "mcp-server-time --local-timezone UTC",
        );
        assert_eq!(
            (time.plan.runtime.as_str(), time.version.as_str()),
            ("node:22", "3.11")
        );
        assert_eq!(time.plan.entrypoint, "mcp-server-time --local-timezone UTC");
        assert_eq!(time.declared["packages"], json!(["mcp-server-time==1.0"]));
        let everything = planned("npm:@a/b", "");
        assert_eq!(
            (
                everything.plan.runtime.as_str(),
                everything.version.as_str()
            ),
            ("node:22", "22")
        );
        let manifest: Value = serde_json::from_str(&everything.files[0].1).unwrap();
        assert_eq!(
            manifest,
            json!({"private": true, "dependencies": {"@a/b": "latest"}})
        );
        let package = Package::parse("pypi:x").unwrap();
        let python = planned_by(&package, "", &["python:3.11".to_owned()], "d").unwrap();
        assert_eq!(python.plan.runtime, "python:3.11");
        let package = Package::parse("npm:x").unwrap();
        let none = planned_by(&package, "", &["python:3.11".to_owned()], "d");
        assert_eq!(none.err().unwrap().code, "node_version_unavailable");
    }

    #[test]
    fn what_needs_a_source_is_refused_and_system_packages_are_not() {
        let package = Package::parse("pypi:x").unwrap();
        let of = |settings: &BuildSettings| {
            let asked = Asked {
                package: &package,
                entrypoint: None,
                settings,
                images: &images(),
            };
            plan(&asked, "d")
        };
        let found = of(&BuildSettings {
            system_packages: vec!["git".to_owned()],
            ..BuildSettings::default()
        });
        assert_eq!(found.unwrap().plan.system_packages, ["git"]);
        let refused = of(&BuildSettings {
            start_command: vec!["x".to_owned()],
            ..BuildSettings::default()
        });
        assert_eq!(refused.err().unwrap().code, "configuration_invalid");
    }

    #[test]
    fn locks_tell_the_version() {
        let lock = "anyio==4.0 \\\n    --hash=sha256:0\nmcp_server.time==2026.1.2 \\\n    --hash=sha256:1\n";
        assert_eq!(
            pypi_version(lock, "mcp-server-time").as_deref(),
            Some("2026.1.2")
        );
        assert_eq!(pypi_version(lock, "absent"), None);
        let lock =
            "# berth:node x\n{\"packages\": {\"node_modules/@a/b\": {\"version\": \"1.0.0\"}}}";
        assert_eq!(npm_version(lock, "@a/b").as_deref(), Some("1.0.0"));
        assert_eq!(npm_version("{}", "@a/b"), None);
    }

    #[test]
    fn a_package_that_is_not_there_is_named() {
        let package = Package::parse("pypi:mcp-server-tiem").unwrap();
        let found = said(
            json!({"code": "not_found", "package": "mcp-server-tiem"}),
            &package,
        );
        assert_eq!(found.code, "dependency_not_found");
        assert!(found.cause.contains("pypi:mcp-server-tiem"));
        let other = said(
            json!({"code": "not_found", "package": "other", "message": "x"}),
            &package,
        );
        assert_eq!(other.cause, "The package index has no other.");
    }
}
