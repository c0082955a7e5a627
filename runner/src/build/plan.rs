//! Plan: what to start, with which Python and which packages, decided from the source alone and
//! before anything of it runs. Pure.

use std::collections::BTreeMap;

use super::configuration;
use super::debian;
use super::dependencies;
use super::entrypoint::{self, Entrypoint};
use super::environment_reads;
use super::names::MAX_PATH_BYTES;
use super::python::{self, Wish};
use super::tree::{directory_of, join, upwards};
use crate::diagnose::{Code, diagnosis};
use crate::protocol::{self, BuildSettings, Diagnosis};

pub use super::dependencies::{Dependencies, Kind};
pub use super::tree::FileTree;

/// How to build and start a source.
#[derive(Debug)]
pub struct BuildPlan {
    /// `3.11`: the runtime image is `python:<this>`.
    pub python: String,
    /// The root directory, relative to the source: empty for the whole.
    pub root: String,
    /// What the launcher gets as `BERTH_ENTRYPOINT`, relative to the root directory; empty when a
    /// start command stands in its place.
    pub entrypoint: String,
    /// What to install.
    pub dependencies: Dependencies,
    /// What the launcher needs besides: `BERTH_FASTMCP_JSON` where the source has one.
    pub environment: BTreeMap<String, String>,
    /// The same for people, with a sentence for each choice.
    pub plan: protocol::Plan,
}

/// Plans a source. `entrypoint` and `settings` are what the user said, `images` the runtime images
/// present.
pub fn plan(
    tree: &FileTree,
    entrypoint: Option<&str>,
    settings: &BuildSettings,
    images: &[String],
) -> Result<BuildPlan, Diagnosis> {
    let (root, view) = root_of(tree, settings)?;
    let mut reasons: Vec<String> = root_reason(&root).into_iter().collect();
    let start = start(&view, entrypoint, settings)?;
    reasons.push(start.reason);
    let configuration = start.configuration.map(|found| found.within(&root));
    let directory = start.file.as_deref().map_or("", directory_of);
    let directory = join(&root, directory).unwrap_or_default();
    let set = settings.dependency_file.as_deref();
    let set = set.map(|file| dependency_file(&root, file)).transpose()?;
    let found = dependencies::find(tree, set.as_deref(), configuration.as_ref(), &directory)?;
    let asked = configuration.as_ref().and_then(|configuration| {
        Some(Wish {
            text: configuration.environment.python.clone()?,
            file: configuration.path.clone(),
        })
    });
    let wish = asked
        .or_else(|| version_file(tree, &directory))
        .or_else(|| {
            found
                .requires_python
                .map(|(text, file)| Wish { text, file })
        });
    let (version, python_reason) = python::choose(wish.as_ref(), images)?;
    reasons.push(python_reason);
    reasons.extend(found.reasons);
    if found.dependencies.lock.is_none() {
        reasons.push(NO_LOCK.to_owned());
    }
    let (system_packages, reason) = debian::find(tree, &root, settings)?;
    reasons.extend(reason);
    if !settings.build_command.is_empty() {
        reasons.push(BUILD_COMMAND.to_owned());
    }
    let environment = configuration
        .map(|configuration| {
            // The launcher's paths begin at the root directory.
            let path = configuration
                .path
                .strip_prefix(&root)
                .unwrap_or(&configuration.path);
            let path = path.trim_start_matches('/').to_owned();
            ("BERTH_FASTMCP_JSON".to_owned(), path)
        })
        .into_iter()
        .collect();
    Ok(BuildPlan {
        python: version.to_string(),
        plan: protocol::Plan {
            runtime: format!("python:{version}"),
            entrypoint: start.text.clone(),
            dependencies: found.dependencies.describe(),
            system_packages,
            build_command: settings.build_command.clone(),
            start_command: settings.start_command.clone(),
            reasons,
            reads: environment_reads::scan(&view),
            example: environment_reads::example(tree, &directory),
        },
        root,
        entrypoint: start.text,
        dependencies: found.dependencies,
        environment,
    })
}

/// Said of a build whose dependencies nothing fixes.
const NO_LOCK: &str = "No lock fixes the versions, so what is resolved is kept with the deployment, to be downloaded as a lock file.";

/// Said of a build with a build command.
pub(super) const BUILD_COMMAND: &str =
    "The build command is run once the dependencies are installed: it was set.";

/// Said of a server that is a start command.
pub(super) const START_COMMAND: &str =
    "The start command is the server: it was set, so no entrypoint is looked for.";

/// The root directory, and the part of the tree in it.
pub(super) fn root_of(
    tree: &FileTree,
    settings: &BuildSettings,
) -> Result<(String, FileTree), Diagnosis> {
    let root = root_directory(settings.root_directory.as_deref())?;
    let view = tree.below(&root).ok_or_else(|| no_such_directory(&root))?;
    Ok((root, view))
}

/// Says that a root directory was set, if one was.
pub(super) fn root_reason(root: &str) -> Option<String> {
    (!root.is_empty()).then(|| format!("Root directory {root}: it was set."))
}

/// The entrypoint; or the start command, which needs none.
fn start(
    view: &FileTree,
    entrypoint: Option<&str>,
    settings: &BuildSettings,
) -> Result<Entrypoint, Diagnosis> {
    if settings.start_command.is_empty() {
        return entrypoint::find(view, entrypoint);
    }
    let there = view.has(configuration::FILE);
    let read = there.then(|| configuration::read(view, configuration::FILE));
    Ok(Entrypoint {
        text: String::new(),
        file: None,
        reason: START_COMMAND.to_owned(),
        configuration: read.transpose()?,
    })
}

fn root_directory(set: Option<&str>) -> Result<String, Diagnosis> {
    let set = set.unwrap_or_default();
    path_within("", set).ok_or_else(|| {
        diagnosis(
            Code::ConfigurationInvalid,
            format!("The root directory {set} is not inside the source."),
            "Write it from the top of the source, without a leading slash and without `..`, like services/weather.",
        )
    })
}

fn no_such_directory(root: &str) -> Diagnosis {
    diagnosis(
        Code::ConfigurationInvalid,
        format!("The root directory {root} does not exist in the source, or holds no file."),
        "Correct the root directory in the project's settings, or clear it.",
    )
}

fn dependency_file(root: &str, set: &str) -> Result<String, Diagnosis> {
    path_within(root, set)
        .filter(|path| !path.is_empty())
        .ok_or_else(|| {
            diagnosis(
                Code::ConfigurationInvalid,
                format!("The dependency file {set} is not inside the source."),
                "Write it from the root directory, without a leading slash, like requirements/base.txt.",
            )
        })
}

/// A path that a user set; absolute ones and those that lead out are refused.
pub(super) fn path_within(root: &str, set: &str) -> Option<String> {
    let set = set.trim();
    let usable = set.len() <= MAX_PATH_BYTES
        && !set.starts_with(['/', '~'])
        && !set.contains('\\')
        && !set.chars().any(char::is_control);
    usable.then(|| join(root, set)).flatten()
}

/// `.python-version`, the nearest one; its first line that is not a comment.
fn version_file(tree: &FileTree, directory: &str) -> Option<Wish> {
    upwards(directory).find_map(|directory| {
        let file = join(directory, ".python-version")?;
        let text = tree.text(&file)?;
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty() && !line.starts_with('#'))?;
        Some(Wish {
            text: line.to_owned(),
            file,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "from fastmcp import FastMCP\nmcp = FastMCP('x')\n";

    fn planned(files: &[(&str, &str)], entrypoint: Option<&str>) -> Result<BuildPlan, Diagnosis> {
        let images = ["python:3.11".to_owned(), "python:3.12".to_owned()];
        plan(
            &FileTree::from_files(files.iter().copied()),
            entrypoint,
            &BuildSettings::default(),
            &images,
        )
    }

    fn ok(files: &[(&str, &str)]) -> BuildPlan {
        planned(files, None).expect("a plan")
    }

    fn source(files: &[(&str, &str)]) -> String {
        declared(&ok(files))
    }

    /// Its members by name, whether or not serde_json keeps the order they were given in.
    fn declared(plan: &BuildPlan) -> String {
        let text = plan.dependencies.to_json().to_string();
        let members: BTreeMap<String, serde_json::Value> =
            serde_json::from_str(&text).expect("an object");
        serde_json::to_string(&members).expect("writes")
    }

    #[test]
    fn nothing_declared_installs_what_the_code_imports() {
        let main = |text| [("main.py", text)];
        let found = ok(&main(SERVER));
        assert_eq!(
            declared(&found),
            r#"{"kind":"none","packages":["fastmcp"],"path":null}"#
        );
        assert_eq!(found.plan.dependencies, "fastmcp (nothing declared)");
        assert_eq!(
            (found.plan.runtime.as_str(), found.plan.entrypoint.as_str()),
            ("python:3.11", "main.py")
        );
        assert_eq!(found.plan.reasons.len(), 4);
        for (text, package) in [
            (
                "from mcp.server.fastmcp import FastMCP\nmcp = FastMCP('x')",
                "mcp<2",
            ),
            (
                "from mcp.server.mcpserver import MCPServer\nmcp = MCPServer('x')",
                "mcp>=2",
            ),
            (
                "from mcp.server.lowlevel import Server\nserver = Server('x')",
                "mcp",
            ),
            ("import os, fastmcp\nmcp = 1", "fastmcp"),
            (
                "import fastmcp.server as s\nfrom mcp.server.fastmcp import FastMCP",
                "fastmcp",
            ),
        ] {
            let expected = if text.starts_with("import os") {
                "fastmcp"
            } else {
                package
            };
            assert_eq!(ok(&main(text)).dependencies.packages, [expected], "{text}");
        }
    }

    #[test]
    fn files_are_believed_in_order() {
        let project = (
            "pyproject.toml",
            "[project]\nname = 'x'\nversion = '1'\nrequires-python = '>=3.12'\n",
        );
        let requirements = ("requirements.txt", "fastmcp==4.1.2\n");
        let main = ("main.py", SERVER);
        assert_eq!(
            source(&[main, requirements, project]),
            r#"{"kind":"requirements","packages":[],"path":"requirements.txt"}"#
        );
        assert_eq!(
            source(&[main, project, ("uv.lock", "version = 1")]),
            r#"{"kind":"uv-lock","packages":[],"path":"pyproject.toml"}"#
        );
        assert_eq!(
            source(&[main, project]),
            r#"{"kind":"pyproject","packages":[],"path":"pyproject.toml"}"#
        );
        assert_eq!(ok(&[main, project]).python, "3.12");
        assert_eq!(
            ok(&[main, requirements, project]).python,
            "3.12",
            "requires-python counts beside requirements.txt"
        );
        assert_eq!(
            ok(&[main, project, (".python-version", "# pinned\n3.12\n")]).python,
            "3.12"
        );
    }

    #[test]
    fn the_nearest_declaration_wins() {
        let files = [
            ("servers/a/main.py", SERVER),
            (
                "servers/a/pyproject.toml",
                "[project]\nname='a'\nversion='1'",
            ),
            ("requirements.txt", "other"),
        ];
        let found = planned(&files, Some("servers/a/main.py:mcp")).expect("a plan");
        assert_eq!(
            found.dependencies.path.as_deref(),
            Some("servers/a/pyproject.toml")
        );
        let found = planned(&[files[0], files[2]], Some("servers/a/main.py")).expect("a plan");
        assert_eq!(found.dependencies.path.as_deref(), Some("requirements.txt"));
    }

    #[test]
    fn a_pyproject_for_tools_only_is_passed_over() {
        let found = ok(&[
            ("main.py", SERVER),
            ("pyproject.toml", "[tool.ruff]\nline-length = 100\n"),
        ]);
        assert_eq!(found.dependencies.kind, Kind::None);
        assert!(
            found
                .plan
                .reasons
                .iter()
                .any(|reason| reason.contains("declares no project"))
        );
    }

    #[test]
    fn includes_are_inputs() {
        let files = [
            ("main.py", SERVER),
            (
                "requirements.txt",
                "-r requirements/base.txt\n--constraint=limits.txt\nhttpx # -r no.txt\n",
            ),
            ("requirements/base.txt", "fastmcp\n-r ../requirements.txt\n"),
            ("limits.txt", "fastmcp<5\n"),
        ];
        let found = ok(&files);
        let names: Vec<&String> = found.dependencies.inputs.keys().collect();
        assert_eq!(
            names,
            ["limits.txt", "requirements.txt", "requirements/base.txt"]
        );
        let mut changed = files;
        changed[3] = ("limits.txt", "fastmcp<4\n");
        assert_ne!(
            found.dependencies.inputs(),
            ok(&changed).dependencies.inputs()
        );
        let mut code = files;
        code[0] = (
            "main.py",
            "from fastmcp import FastMCP\nmcp = FastMCP('changed')\n",
        );
        assert_eq!(
            found.dependencies.inputs(),
            ok(&code).dependencies.inputs(),
            "code decides nothing"
        );
        let gone = planned(
            &[("main.py", SERVER), ("requirements.txt", "-r base.txt")],
            None,
        )
        .expect_err("missing");
        assert_eq!(
            gone.cause,
            "requirements.txt names base.txt, which is not in the source."
        );
        let out = planned(
            &[
                ("main.py", SERVER),
                ("requirements.txt", "-r ../../etc/passwd"),
            ],
            None,
        )
        .expect_err("outside");
        assert_eq!(out.code, "dependency_file_not_found");
    }

    #[test]
    fn local_packages_are_inputs() {
        let files = [
            ("main.py", SERVER),
            (
                "requirements.txt",
                "-e .\n./libs/thing[extra] ; python_version > '3'\nfastmcp\n",
            ),
            ("pyproject.toml", "[project]\nname='x'"),
            ("libs/thing/setup.py", "x"),
            ("libs/thing/thing/__init__.py", "y"),
            ("libs/other/o.py", "z"),
        ];
        let names: Vec<String> = ok(&files).dependencies.inputs.into_keys().collect();
        assert_eq!(
            names,
            [
                "libs/thing/setup.py",
                "libs/thing/thing/__init__.py",
                "pyproject.toml",
                "requirements.txt"
            ]
        );
    }

    #[test]
    fn fastmcp_json_is_authoritative() {
        let json = r#"{
            "source": {"type": "filesystem", "path": "server.py", "entrypoint": "mcp"},
            "environment": {"type": "uv", "python": "3.12", "dependencies": ["fastmcp==4.1.2"], "requirements": "deps.txt"},
            "deployment": {"transport": "http", "env": {"LEVEL": "${LEVEL}"}, "cwd": "data"}
        }"#;
        let files = [
            ("fastmcp.json", json),
            ("server.py", SERVER),
            ("deps.txt", "httpx"),
            ("requirements.txt", "other"),
        ];
        let found = ok(&files);
        assert_eq!(found.python, "3.12");
        assert_eq!(found.entrypoint, "server.py:mcp");
        assert_eq!(
            declared(&found),
            r#"{"kind":"fastmcp-json","packages":["fastmcp==4.1.2"],"path":"deps.txt"}"#
        );
        assert_eq!(found.environment["BERTH_FASTMCP_JSON"], "fastmcp.json");
        let silent = r#"{"source": {"path": "server.py"}}"#;
        assert_eq!(
            ok(&[("fastmcp.json", silent), files[1], files[3]])
                .dependencies
                .kind,
            Kind::Requirements
        );
        let project = r#"{"source": {"path": "server.py"}, "environment": {"project": "."}}"#;
        let found = ok(&[
            ("fastmcp.json", project),
            files[1],
            ("pyproject.toml", "[project]\nname='x'"),
        ]);
        assert_eq!(found.dependencies.path.as_deref(), Some("pyproject.toml"));
    }

    #[test]
    fn broken_files_say_what_and_where() {
        let found = planned(
            &[
                ("main.py", SERVER),
                ("pyproject.toml", "[project]\nname = \n"),
            ],
            None,
        )
        .expect_err("broken");
        assert_eq!(
            (found.code.as_str(), found.location.as_deref()),
            ("configuration_invalid", Some("pyproject.toml:2"))
        );
        let found =
            planned(&[("main.py", SERVER), (".python-version", "3.9")], None).expect_err("absent");
        assert_eq!(found.code, "python_version_unavailable");
        assert!(found.cause.contains("3.11 and 3.12"), "{}", found.cause);
    }

    fn with(settings: &BuildSettings, files: &[(&str, &str)]) -> Result<BuildPlan, Diagnosis> {
        let images = ["python:3.11".to_owned(), "python:3.12".to_owned()];
        plan(
            &FileTree::from_files(files.iter().copied()),
            None,
            settings,
            &images,
        )
    }

    fn set(root: &str, dependency_file: &str) -> BuildSettings {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        BuildSettings {
            root_directory: some(root),
            dependency_file: some(dependency_file),
            ..BuildSettings::default()
        }
    }

    #[test]
    fn r43_a_root_directory_is_where_everything_is_looked_for() {
        let json = r#"{"source": {"path": "app.py", "entrypoint": "mcp"}, "environment": {"requirements": "../deps.txt"}}"#;
        let files = [
            ("main.py", SERVER),
            ("requirements.txt", "other"),
            ("services/a/server.py", SERVER),
            ("services/b/fastmcp.json", json),
            ("services/b/app.py", SERVER),
            ("services/deps.txt", "fastmcp"),
        ];
        let found = with(&set("./services/a/", ""), &files).expect("a plan");
        assert_eq!(
            (found.root.as_str(), found.entrypoint.as_str()),
            ("services/a", "server.py")
        );
        assert_eq!(
            found.dependencies.path.as_deref(),
            Some("requirements.txt"),
            "looked for upwards"
        );
        let found = with(&set("services/b", ""), &files).expect("a plan");
        assert_eq!(found.entrypoint, "app.py:mcp");
        assert_eq!(
            found.dependencies.path.as_deref(),
            Some("services/deps.txt")
        );
        assert_eq!(found.environment["BERTH_FASTMCP_JSON"], "fastmcp.json");
        for bad in [
            "..",
            "/etc",
            "services/../../x",
            "~",
            "services/none",
            "a\\b",
            "a\u{7}b",
        ] {
            let found = with(&set(bad, ""), &files).expect_err(bad);
            assert_eq!(found.code, "configuration_invalid", "{bad}");
        }
        let found = plan(
            &FileTree::from_files(files),
            Some("../../main.py"),
            &set("services/a", ""),
            &["python:3.11".into()],
        );
        assert_eq!(found.expect_err("outside").code, "entrypoint_invalid");
    }

    #[test]
    fn r46_a_dependency_file_that_was_set_comes_first() {
        let json =
            r#"{"source": {"path": "main.py"}, "environment": {"dependencies": ["fastmcp<4"]}}"#;
        let files = [
            ("main.py", SERVER),
            ("fastmcp.json", json),
            ("requirements.txt", "fastmcp"),
            ("deps/prod.in", "fastmcp==4.1.2"),
            ("deps/hashed.txt", "fastmcp==4.1.2 --hash=sha256:00"),
            (
                "py/pyproject.toml",
                "[project]\nname='x'\nversion='1'\nrequires-python='>=3.12'",
            ),
            ("py/uv.lock", "version = 1"),
            ("notes.md", "x"),
        ];
        let kind = |file: &str| {
            let found = with(&set("", file), &files).expect(file);
            (
                found.dependencies.kind,
                found.plan.reasons.iter().any(|r| r == NO_LOCK),
            )
        };
        assert_eq!(kind(""), (Kind::FastmcpJson, true));
        assert_eq!(kind("deps/prod.in"), (Kind::Requirements, true));
        assert_eq!(kind("deps/hashed.txt"), (Kind::Requirements, false));
        assert_eq!(kind("py/uv.lock"), (Kind::UvLock, false));
        assert_eq!(kind("py/pyproject.toml"), (Kind::UvLock, false));
        assert_eq!(kind("fastmcp.json"), (Kind::FastmcpJson, true));
        assert_eq!(
            with(&set("", "py/uv.lock"), &files).expect("a plan").python,
            "3.12"
        );
        for (bad, code) in [
            ("gone.txt", "dependency_file_not_found"),
            ("notes.md", "configuration_invalid"),
            ("../x.txt", "configuration_invalid"),
            ("/etc/passwd", "configuration_invalid"),
        ] {
            assert_eq!(
                with(&set("", bad), &files).expect_err(bad).code,
                code,
                "{bad}"
            );
        }
    }

    #[test]
    fn r46_poetry_and_pdm_projects_are_resolved() {
        let poetry = "[tool.poetry]\nname='x'\n[tool.poetry.dependencies]\npython='>=3.12'\nfastmcp='^4.1'\n";
        let found = ok(&[
            ("main.py", SERVER),
            ("pyproject.toml", poetry),
            ("poetry.lock", ""),
        ]);
        assert_eq!(found.python, "3.12");
        assert_eq!(
            declared(&found),
            r#"{"kind":"poetry","packages":["fastmcp>=4.1,<5"],"path":"pyproject.toml"}"#
        );
        assert!(
            found
                .plan
                .reasons
                .iter()
                .any(|reason| reason.starts_with("poetry.lock is not read"))
        );
        let pdm = "[project]\nname='x'\nversion='1'\ndependencies=['fastmcp']\n[tool.pdm]\ndistribution=false\n";
        let found = ok(&[
            ("main.py", SERVER),
            ("pyproject.toml", pdm),
            ("pdm.lock", ""),
        ]);
        assert_eq!(found.dependencies.kind, Kind::Pyproject);
        assert!(
            found
                .plan
                .reasons
                .iter()
                .any(|reason| reason.starts_with("pdm.lock is not read"))
        );
    }

    #[test]
    fn a_start_command_needs_no_entrypoint() {
        let settings = BuildSettings {
            start_command: vec!["python".into(), "run.py".into()],
            ..BuildSettings::default()
        };
        let found = with(
            &settings,
            &[("run.py", "x = 1"), ("requirements.txt", "mcp")],
        )
        .expect("a plan");
        assert_eq!(found.entrypoint, "");
        assert_eq!(found.plan.start_command, ["python", "run.py"]);
        assert_eq!(found.dependencies.path.as_deref(), Some("requirements.txt"));
    }
}
