//! Plan: what to start, with which Python and which packages, decided from the source alone and
//! before anything of it runs. Pure.

use std::collections::BTreeMap;

use super::dependencies;
use super::entrypoint;
use super::environment_reads;
use super::python::{self, Wish};
use super::tree::{directory_of, join, upwards};
use crate::protocol::{self, Diagnosis};

pub use super::dependencies::{Dependencies, Kind};
pub use super::tree::FileTree;

/// How to build and start a source.
#[derive(Debug)]
pub struct BuildPlan {
    /// `3.11`: the runtime image is `python:<this>`.
    pub python: String,
    /// What the launcher gets as `BERTH_ENTRYPOINT`.
    pub entrypoint: String,
    /// What to install.
    pub dependencies: Dependencies,
    /// What the launcher needs besides: `BERTH_FASTMCP_JSON` where the source has one.
    pub environment: BTreeMap<String, String>,
    /// The same for people, with a sentence for each choice.
    pub plan: protocol::Plan,
}

/// Plans a source. `entrypoint` is what the user wrote, `images` the runtime images present.
pub fn plan(
    tree: &FileTree,
    entrypoint: Option<&str>,
    images: &[String],
) -> Result<BuildPlan, Diagnosis> {
    let entrypoint = entrypoint::find(tree, entrypoint)?;
    let configuration = entrypoint.configuration.as_ref();
    let directory = entrypoint.file.as_deref().map_or("", directory_of);
    let found = dependencies::find(tree, configuration, directory)?;
    let asked = configuration.and_then(|configuration| {
        Some(Wish {
            text: configuration.environment.python.clone()?,
            file: configuration.path.clone(),
        })
    });
    let wish = asked.or_else(|| version_file(tree, directory)).or_else(|| {
        found
            .requires_python
            .map(|(text, file)| Wish { text, file })
    });
    let (version, python_reason) = python::choose(wish.as_ref(), images)?;
    let mut reasons = vec![entrypoint.reason, python_reason];
    reasons.extend(found.reasons);
    let environment = configuration
        .map(|configuration| ("BERTH_FASTMCP_JSON".to_owned(), configuration.path.clone()))
        .into_iter()
        .collect();
    Ok(BuildPlan {
        python: version.to_string(),
        plan: protocol::Plan {
            runtime: format!("python:{version}"),
            entrypoint: entrypoint.text.clone(),
            dependencies: found.dependencies.describe(),
            reasons,
            reads: environment_reads::scan(tree),
            example: environment_reads::example(tree, directory),
        },
        entrypoint: entrypoint.text,
        dependencies: found.dependencies,
        environment,
    })
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
        assert_eq!(found.plan.reasons.len(), 3);
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
}
