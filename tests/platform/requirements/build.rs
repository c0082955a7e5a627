//! Point Berth at a repository and it works out the rest.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::platform::{self, Options, Platform};
use tests::repository::Repository;

use crate::Test;

pub const TESTS: &[Test] = &[
    (
        "r43_every_form_of_entrypoint_is_served",
        r43_every_form_of_entrypoint_is_served,
    ),
    (
        "r43_what_is_not_named_is_found",
        r43_what_is_not_named_is_found,
    ),
    (
        "r44_a_start_command_is_the_server",
        r44_a_start_command_is_the_server,
    ),
    ("r45_fastmcp_json_is_honoured", r45_fastmcp_json_is_honoured),
    (
        "r46_every_declaration_of_dependencies_is_installed",
        r46_every_declaration_of_dependencies_is_installed,
    ),
    (
        "r46_a_python_that_is_not_there_names_those_that_are",
        r46_a_python_that_is_not_there_names_those_that_are,
    ),
    (
        "r46_what_was_resolved_is_offered_as_a_lock",
        r46_what_was_resolved_is_offered_as_a_lock,
    ),
    (
        "r46_system_packages_are_there",
        r46_system_packages_are_there,
    ),
    (
        "r46_a_build_command_makes_what_is_served",
        r46_a_build_command_makes_what_is_served,
    ),
    (
        "r46_a_build_that_writes_too_much_is_ended",
        r46_a_build_that_writes_too_much_is_ended,
    ),
    (
        "r46_a_private_index_is_read_by_builds_alone",
        r46_a_private_index_is_read_by_builds_alone,
    ),
    (
        "r46_the_plan_is_shown_before_anything_is_built",
        r46_the_plan_is_shown_before_anything_is_built,
    ),
];

const ABOUT: &str = include_str!("../../servers/about.py");

/// What most of these servers need.
const REQUIREMENTS: &str = "fastmcp==4.1.2\n";

/// The server that tells about itself, under a name.
fn about(name: &str) -> String {
    ABOUT.replace("NAME", name)
}

/// A project of these tests, of the platform that tests share.
struct Project {
    platform: Arc<Platform>,
    name: &'static str,
    repository: Repository,
}

impl Project {
    fn new(name: &'static str, files: &[(&str, &str)]) -> Result<Self> {
        Ok(Self {
            platform: platform::shared()?,
            name,
            repository: Repository::new(files)?,
        })
    }

    fn deploy(&self, more: &[&str]) -> Result<Value> {
        self.platform
            .deploy_live(self.name, &self.repository.url(), more)
    }

    /// What the live server tells about itself.
    fn tells(&self) -> Result<Value> {
        let done = self
            .platform
            .berth(&["call", self.name, "about", "{}", "--json"])?
            .success()?
            .json()?;
        Ok(done["structuredContent"].clone())
    }

    /// Asks the API.
    fn api(&self, method: reqwest::Method, path: &str, body: &Value) -> Result<Value> {
        let address = format!(
            "{}/api/v1/projects/{}{path}",
            self.platform.url(),
            self.name
        );
        let request = reqwest::blocking::Client::new()
            .request(method, address)
            .bearer_auth(self.platform.token()?);
        let request = if body.is_null() {
            request
        } else {
            request.json(body)
        };
        let answer = request.send()?;
        let status = answer.status();
        let text = answer.text()?;
        ensure!(status.is_success(), "{status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    fn deployment(&self, done: &Value) -> Result<Value> {
        let id = done["deployment"].as_str().context("no deployment")?;
        self.api(
            reqwest::Method::GET,
            &format!("/deployments/{id}"),
            &Value::Null,
        )
    }

    /// The reasons of a deployment's plan, as one text.
    fn reasons(&self, done: &Value) -> Result<String> {
        let plan = &self.deployment(done)?["plan"];
        let reasons = plan["reasons"].as_array().context("no plan")?;
        Ok(reasons
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join("\n"))
    }

    fn build_log(&self) -> Result<String> {
        Ok(self.platform.berth(&["logs", self.name, "--build"])?.text())
    }
}

fn r43_every_form_of_entrypoint_is_served() -> Result<()> {
    let (file, module) = (about("file"), about("module"));
    let unusual = about("unusual")
        .replace("mcp", "weather_server")
        .replace("fastweather_server", "fastmcp");
    let factory = "from main import mcp\n\ndef create_server():\n    return mcp\n\nasync def later():\n    return mcp\n";
    let relative = format!("from . import names\n{module}\nserver = mcp\ndel mcp\n");
    let below = about("src");
    let project = Project::new(
        "forms",
        &[
            ("requirements.txt", REQUIREMENTS),
            ("main.py", &file),
            ("unusual.py", &unusual),
            ("factory.py", factory),
            ("package/__init__.py", ""),
            ("package/names.py", ""),
            ("package/module.py", &relative),
            ("src/lib/serve.py", &below),
        ],
    )?;
    for (entrypoint, expected) in [
        ("main.py", "file"),
        ("main.py:mcp", "file"),
        ("factory.py:create_server", "file"),
        ("factory.py:create_server()", "file"),
        ("factory.py:later", "file"),
        ("package.module:server", "module"),
        ("package/module.py", "module"),
        ("lib.serve", "src"),
        ("src/lib/serve.py:mcp", "src"),
        ("unusual.py", "unusual"),
    ] {
        let done = project.deploy(&["--entrypoint", entrypoint])?;
        let told = project.tells()?;
        ensure!(told["name"] == expected, "{entrypoint}: {told}");
        let reasons = project.reasons(&done)?;
        ensure!(reasons.contains("it was set"), "{entrypoint}: {reasons}");
        // An object that is found by being the only one is said.
        ensure!(
            reasons.contains("Serving weather_server, the only server") == (expected == "unusual"),
            "{entrypoint}: {reasons}"
        );
    }
    Ok(())
}

fn r43_what_is_not_named_is_found() -> Result<()> {
    let project = Project::new(
        "found",
        &[
            ("requirements.txt", REQUIREMENTS),
            ("app.py", &about("app.py")),
        ],
    )?;
    let served = |expected: &str, reason: &str, more: &[&str]| -> Result<()> {
        let done = project.deploy(more)?;
        let told = project.tells()?;
        ensure!(told["name"] == expected, "{expected}: {told}");
        let reasons = project.reasons(&done)?;
        ensure!(reasons.contains(reason), "{expected}: {reasons}");
        Ok(())
    };
    served("app.py", "Entrypoint app.py: the usual file", &[])?;
    project
        .repository
        .commit(&[("server.py", &about("server.py"))])?;
    served("server.py", "Entrypoint server.py: the usual file", &[])?;
    project
        .repository
        .commit(&[("main.py", &about("main.py"))])?;
    served("main.py", "Entrypoint main.py: the usual file", &[])?;
    // In a directory of a larger repository, with what it depends on above it.
    project
        .repository
        .commit(&[("services/weather/tool.py", &about("service"))])?;
    served(
        "service",
        "Root directory services/weather: it was set.\nEntrypoint tool.py: the only file that makes a server.",
        &["--root-directory", "services/weather"],
    )?;
    let told = project.tells()?;
    ensure!(told["directory"] == "/app/services/weather", "{told}");
    project.repository.commit(&[(
        "services/weather/fastmcp.json",
        r#"{"source": {"path": "tool.py", "entrypoint": "mcp"}, "environment": {"requirements": "../../requirements.txt"}}"#,
    )])?;
    served(
        "service",
        "services/weather/fastmcp.json: it is authoritative",
        &[],
    )
}

/// A server without any package, that listens where it is told.
const BARE: &str = r#"
import http.server, json, os, sys

class Server(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["content-length"])))
        result = {
            "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "bare", "version": "1"}},
            "tools/list": {"tools": [{"name": "about", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [], "structuredContent": {"arguments": sys.argv[1:], "directory": os.getcwd()}},
        }.get(call.get("method"))
        body = json.dumps({"jsonrpc": "2.0", "id": call.get("id"), "result": result}).encode() if result else b""
        if call.get("method") == "server/discover":
            body = json.dumps({"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32601, "message": "Method not found"}}).encode()
        self.send_response(200 if body else 202)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

port = int(sys.argv[1].partition("=")[2])
http.server.ThreadingHTTPServer(("0.0.0.0", port), Server).serve_forever()
"#;

fn r44_a_start_command_is_the_server() -> Result<()> {
    let project = Project::new(
        "started",
        &[
            ("serve/run.py", BARE),
            ("serve/requirements.txt", "idna==3.10\n"),
        ],
    )?;
    let command = "python run.py port=$PORT 'two words' ${HOST} '$(id)' $HOME";
    let done = project.deploy(&["--root-directory", "serve", "--start-command", command])?;
    let told = project.tells()?;
    ensure!(
        told["arguments"] == json!(["port=8080", "two words", "0.0.0.0", "$(id)", "$HOME"]),
        "{told}"
    );
    ensure!(told["directory"] == "/app/serve", "{told}");
    let plan = &project.deployment(&done)?["plan"];
    ensure!(plan["start_command"][0] == "python", "{plan}");
    let page = project
        .platform
        .page(&format!("/projects/{}/build", project.name))?;
    ensure!(page.contains("port=$PORT"), "{page}");
    // A program that is not there.
    let failed = project.platform.deploy(
        project.name,
        &project.repository.url(),
        &["--start-command", "nothing-like-this"],
    )?;
    ensure!(failed["state"] == "failed", "{failed}");
    let cause = failed["diagnosis"]["cause"].as_str().unwrap_or_default();
    ensure!(cause.contains("nothing-like-this"), "{failed}");
    Ok(())
}

fn r45_fastmcp_json_is_honoured() -> Result<()> {
    let configuration = json!({
        "source": {"type": "filesystem", "path": "src/tool.py", "entrypoint": "mcp"},
        "environment": {"type": "uv", "python": ">=3.10", "dependencies": ["fastmcp==4.1.2", "tabulate==0.9.0"]},
        "deployment": {
            "transport": "stdio", "host": "127.0.0.1", "port": 1234, "path": "/elsewhere",
            "cwd": "data", "args": ["--level", "2"],
            "env": {"PLACE": "${BERTH_PROJECT} at ${NOWHERE}", "MINE": "file", "PORT": "9"},
        },
    });
    let project = Project::new(
        "configured",
        &[
            ("fastmcp.json", &configuration.to_string()),
            ("src/tool.py", &about("configured")),
            ("main.py", "raise SystemExit('not this one')\n"),
            ("data/here.txt", "x"),
            ("requirements.txt", "no-such-package-xyzzy==1\n"),
        ],
    )?;
    let begun = json!({"set": [{"name": "MINE", "value": "project", "secret": false}]});
    let done = project.deploy(&[])?;
    let told = project.tells()?;
    ensure!(told["name"] == "configured", "{told}");
    ensure!(told["arguments"] == json!(["--level", "2"]), "{told}");
    ensure!(told["directory"] == "/app/data", "{told}");
    let variables = &told["variables"];
    ensure!(
        variables["PLACE"] == "configured at ${NOWHERE}",
        "{variables}"
    );
    ensure!(
        variables["MINE"] == "file" && variables["PORT"] == "8080",
        "{variables}"
    );
    ensure!(told["packages"]["tabulate"] == "0.9.0", "{told}");
    let reasons = project.reasons(&done)?;
    ensure!(
        reasons.contains("fastmcp.json: it is authoritative"),
        "{reasons}"
    );
    // The project's own variables come before the file's.
    project.api(reqwest::Method::PATCH, "/variables", &begun)?;
    project.deploy(&[])?;
    let told = project.tells()?;
    ensure!(told["variables"]["MINE"] == "project", "{told}");
    Ok(())
}

fn r46_every_declaration_of_dependencies_is_installed() -> Result<()> {
    let project = Project::new(
        "declared",
        &[
            ("main.py", &about("declared")),
            ("requirements.txt", "-r base.txt\ntabulate==0.9.0\n"),
            ("base.txt", REQUIREMENTS),
        ],
    )?;
    let installed = |version: &str, dependencies: &str, more: &[&str]| -> Result<()> {
        let done = project.deploy(more)?;
        let told = project.tells()?;
        ensure!(
            told["packages"]["tabulate"] == version,
            "{dependencies}: {told}"
        );
        ensure!(
            told["packages"]["fastmcp"] == "4.1.2",
            "{dependencies}: {told}"
        );
        let plan = &project.deployment(&done)?["plan"];
        ensure!(plan["dependencies"] == dependencies, "{plan}");
        Ok(())
    };
    installed("0.9.0", "requirements.txt", &[])?;
    // A file that is set comes first.
    project
        .repository
        .commit(&[("deps/more.in", "fastmcp==4.1.2\ntabulate==0.8.10\n")])?;
    installed(
        "0.8.10",
        "deps/more.in",
        &["--dependency-file", "deps/more.in"],
    )?;
    project.api(
        reqwest::Method::PATCH,
        "/build",
        &json!({"dependency_file": null}),
    )?;
    // Beside the entrypoint comes before above it.
    let pyproject = "[project]\nname = 'x'\nversion = '1'\nrequires-python = '>=3.10'\ndependencies = ['fastmcp==4.1.2', 'tabulate==0.8.9']\n";
    project.repository.commit(&[
        ("service/main.py", &about("declared")),
        ("service/pyproject.toml", pyproject),
    ])?;
    installed(
        "0.8.9",
        "service/pyproject.toml",
        &["--root-directory", "service"],
    )?;
    let uv = tests::cache().join("uv/bin/uv");
    let locked = Command::new(uv)
        .args(["lock", "--quiet", "--project"])
        .arg(project.repository.path().join("service"))
        .env("UV_SYSTEM_CERTS", "1")
        .output()?;
    ensure!(
        locked.status.success(),
        "{}",
        String::from_utf8_lossy(&locked.stderr)
    );
    let lock = std::fs::read_to_string(project.repository.path().join("service/uv.lock"))?;
    project.repository.commit(&[("service/uv.lock", &lock)])?;
    installed("0.8.9", "service/uv.lock", &[])?;
    let poetry = "[tool.poetry]\nname = 'x'\npackage-mode = false\n[tool.poetry.dependencies]\npython = '^3.10'\nfastmcp = '4.1.2'\ntabulate = '~0.7.6'\n";
    project.repository.commit(&[
        ("poetry/main.py", &about("declared")),
        ("poetry/pyproject.toml", poetry),
    ])?;
    installed(
        "0.7.7",
        "poetry/pyproject.toml",
        &["--root-directory", "poetry"],
    )
}

fn r46_a_python_that_is_not_there_names_those_that_are() -> Result<()> {
    let project = Project::new(
        "pythons",
        &[("main.py", &about("x")), (".python-version", "3.7\n")],
    )?;
    let answer: Value = reqwest::blocking::Client::new()
        .get(format!("{}/api/v1/runtimes", project.platform.url()))
        .bearer_auth(project.platform.token()?)
        .send()?
        .json()?;
    let there: Vec<&str> = answer["runtimes"]
        .as_array()
        .context("no runtimes")?
        .iter()
        .filter_map(|image| image.as_str()?.strip_prefix("python:"))
        .collect();
    ensure!(!there.is_empty(), "{answer}");
    let failed = project
        .platform
        .deploy(project.name, &project.repository.url(), &[])?;
    ensure!(
        failed["diagnosis"]["code"] == "python_version_unavailable",
        "{failed}"
    );
    let cause = failed["diagnosis"]["cause"].as_str().unwrap_or_default();
    ensure!(
        cause.contains(".python-version asks for Python 3.7"),
        "{cause}"
    );
    ensure!(
        there.iter().all(|version| cause.contains(version)),
        "{cause} names not all of {there:?}"
    );
    Ok(())
}

fn r46_what_was_resolved_is_offered_as_a_lock() -> Result<()> {
    let project = Project::new(
        "resolved",
        &[
            ("main.py", &about("x")),
            ("requirements.txt", "fastmcp==4.1.2\ntabulate\n"),
        ],
    )?;
    let done = project.deploy(&[])?;
    let reasons = project.reasons(&done)?;
    ensure!(reasons.contains("No lock fixes the versions"), "{reasons}");
    let number = project.deployment(&done)?["number"].to_string();
    // The runner sends it when it is asked to.
    let lock = tests::wait::until("the lock", std::time::Duration::from_secs(30), || {
        let printed = project.platform.berth(&["lock", project.name, &number])?;
        Ok((printed.code == 0).then_some(printed.stdout))
    })?;
    ensure!(
        lock.contains("fastmcp==4.1.2") && lock.contains("--hash=sha256:"),
        "{lock}"
    );
    let page = project
        .platform
        .page(&format!("/projects/{}/deployments/{number}", project.name))?;
    ensure!(page.contains("lock.txt"), "no link to the lock");
    let file = project.platform.page(&format!(
        "/projects/{}/deployments/{number}/lock.txt",
        project.name
    ))?;
    ensure!(file.trim() == lock.trim(), "the page gives another lock");
    // It is what it says: with it in the source, the next build installs exactly that.
    project.repository.commit(&[("requirements.txt", &lock)])?;
    let done = project.deploy(&[])?;
    let reasons = project.reasons(&done)?;
    ensure!(
        reasons.contains("it pins every package with its hash"),
        "{reasons}"
    );
    ensure!(!reasons.contains("No lock fixes"), "{reasons}");
    Ok(())
}

fn r46_system_packages_are_there() -> Result<()> {
    let server = r#"
import ctypes, ctypes.util, subprocess
from fastmcp import FastMCP

mcp = FastMCP("system")

@mcp.tool
def about() -> dict:
    """A library found by its name, its data where it was compiled to look, and a program."""
    magic = ctypes.CDLL(ctypes.util.find_library("magic"))
    magic.magic_open.restype = ctypes.c_void_p
    magic.magic_load.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    magic.magic_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
    magic.magic_buffer.restype = ctypes.c_char_p
    cookie = magic.magic_open(0)
    magic.magic_load(cookie, None)
    data = b"%PDF-1.4\n"
    jq = subprocess.run(["jq", "-n", "20+22"], capture_output=True, text=True)
    return {"type": magic.magic_buffer(cookie, data, len(data)).decode(), "sum": jq.stdout.strip()}
"#;
    let project = Project::new(
        "debian",
        &[
            ("main.py", server),
            ("requirements.txt", REQUIREMENTS),
            ("apt.txt", "# file types\nlibmagic1\njq\n"),
        ],
    )?;
    let done = project.deploy(&[])?;
    let told = project.tells()?;
    ensure!(
        told["type"]
            .as_str()
            .is_some_and(|it| it.starts_with("PDF document")),
        "{told}"
    );
    ensure!(told["sum"] == "42", "{told}");
    let plan = &project.deployment(&done)?["plan"];
    ensure!(
        plan["system_packages"] == json!(["jq", "libmagic1"]),
        "{plan}"
    );
    let log = project.build_log()?;
    ensure!(
        log.contains("libmagic-mgc=") && log.contains("libjq1="),
        "{log}"
    );
    // The next build finds the image.
    project.repository.commit(&[("notes.txt", "x")])?;
    project.deploy(&[])?;
    ensure!(
        project
            .build_log()?
            .contains("system packages is already here"),
        "built again"
    );
    // What the distribution has not, and what is no name of a package.
    project
        .repository
        .commit(&[("apt.txt", "no-such-package-xyzzy\n")])?;
    let failed = project
        .platform
        .deploy(project.name, &project.repository.url(), &[])?;
    let cause = failed["diagnosis"]["cause"].as_str().unwrap_or_default();
    ensure!(
        cause.contains("no-such-package-xyzzy cannot be installed"),
        "{failed}"
    );
    for bad in ["jq; id", "-o=Dir::Etc=/x", "jq-", "lib.*"] {
        project.repository.commit(&[("apt.txt", bad)])?;
        let failed = project
            .platform
            .deploy(project.name, &project.repository.url(), &[])?;
        let code = failed["diagnosis"]["code"].as_str().unwrap_or_default();
        ensure!(
            ["configuration_invalid", "dependency_not_found"].contains(&code),
            "{bad}: {failed}"
        );
    }
    Ok(())
}

fn r46_a_build_command_makes_what_is_served() -> Result<()> {
    let generate = "import fastmcp, os, pathlib, sys\n\
        pathlib.Path('made.py').write_text(f'MADE = {sys.argv[1:]!r}\\nBY = {fastmcp.__version__!r}\\nKEY = {os.environ.get(\"KEY\")!r}\\n')\n\
        print('generated')\n";
    let server = "from fastmcp import FastMCP\nimport made\nmcp = FastMCP('made')\n\n\
        @mcp.tool\ndef about() -> dict:\n    \"\"\"What was made.\"\"\"\n    return {'made': made.MADE, 'by': made.BY, 'key': made.KEY}\n";
    let project = Project::new(
        "made",
        &[
            ("main.py", server),
            ("generate.py", generate),
            ("requirements.txt", REQUIREMENTS),
        ],
    )?;
    let command = "python generate.py 'a b' $(id) ;";
    let done = project.deploy(&["--build-command", command])?;
    let told = project.tells()?;
    ensure!(told["made"] == json!(["a b", "$(id)", ";"]), "{told}");
    ensure!(
        told["by"] == "4.1.2" && told["key"] == Value::Null,
        "{told}"
    );
    ensure!(
        project.build_log()?.contains("generated"),
        "its output is not in the log"
    );
    let timings = project.deployment(&done)?["timings"].to_string();
    ensure!(timings.contains("command"), "{timings}");
    // Builds get the variables of builds; and the same again is not run again.
    project
        .platform
        .berth(&["env", project.name, "set", "--build", "KEY=for-builds"])?
        .success()?;
    project.deploy(&[])?;
    ensure!(
        project.tells()?["key"] == "for-builds",
        "{}",
        project.tells()?
    );
    project.deploy(&[])?;
    ensure!(
        project
            .build_log()?
            .contains("has run on exactly this before"),
        "run again"
    );
    let failed = project.platform.deploy(
        project.name,
        &project.repository.url(),
        &["--build-command", "python -c 'raise SystemExit(3)'"],
    )?;
    ensure!(
        failed["diagnosis"]["code"] == "build_command_failed",
        "{failed}"
    );
    let cause = failed["diagnosis"]["cause"].as_str().unwrap_or_default();
    ensure!(cause.contains("it ended with status 3"), "{cause}");
    Ok(())
}

fn r46_a_build_that_writes_too_much_is_ended() -> Result<()> {
    let platform = Platform::start(Options {
        settings: vec![("BERTH_BUILD_DISK_MIB".into(), "512".into())],
    })?;
    let fill = "import time\n\
        for n in range(8):\n    with open(f'part{n}', 'wb') as part:\n        part.write(bytes(100 << 20))\n\
        print('written', flush=True)\ntime.sleep(600)\n";
    let repository = Repository::new(&[
        ("main.py", ABOUT),
        ("requirements.txt", REQUIREMENTS),
        ("fill.py", fill),
    ])?;
    let command = ["--build-command", "python fill.py"];
    let failed = platform.deploy("large", &repository.url(), &command)?;
    let diagnosis = &failed["diagnosis"];
    ensure!(diagnosis["code"] == "build_disk_full", "{failed}");
    let cause = diagnosis["cause"].as_str().unwrap_or_default();
    ensure!(cause.contains("more than 512 MiB"), "{cause}");
    // What it wrote is gone, and a build that writes less is none the worse.
    platform.deploy_live(
        "large",
        &repository.url(),
        &["--build-command", "python -c 1"],
    )?;
    Ok(())
}

/// A package index on this machine, at an address that containers reach.
struct Index {
    child: Child,
    address: String,
}

impl Index {
    fn start(user: &str, password: &str) -> Result<Self> {
        // No packet is sent: the kernel only says which address it would use.
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("192.0.2.1:9")?;
        let host = socket.local_addr()?.ip();
        let mut child = Command::new("/usr/bin/python3")
            .arg(tests::root().join("tests/servers/index.py"))
            .args([&host.to_string(), user, password])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut port = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut port)?;
        Ok(Self {
            child,
            address: format!("{host}:{}", port.trim()),
        })
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn r46_a_private_index_is_read_by_builds_alone() -> Result<()> {
    const PASSWORD: &str = "canary/of the index";
    const ENCODED: &str = "canary%2Fof%20the%20index";
    let index = Index::start("builder", PASSWORD)?;
    let about = ABOUT.replace("\"NAME\"", "private_thing.VALUE");
    let server = format!("import private_thing\n{about}");
    let project = Project::new(
        "private",
        &[
            ("main.py", &server),
            ("requirements.txt", "fastmcp==4.1.2\nprivate-thing==1.0\n"),
        ],
    )?;
    let url = project.repository.url();
    let without = project.platform.deploy(project.name, &url, &[])?;
    ensure!(
        without["diagnosis"]["code"] == "dependency_not_found",
        "{without}"
    );
    let variable = format!("UV_INDEX=http://builder:{ENCODED}@{}/simple", index.address);
    let set = project
        .platform
        .berth(&["env", project.name, "set", "--build", &variable])?
        .success()?;
    let list = project
        .platform
        .berth(&["env", project.name, "list", "--build"])?
        .success()?;
    ensure!(
        list.stdout.contains("UV_INDEX") && list.stdout.contains("(secret)"),
        "{list:?}"
    );
    let done = project.deploy(&[])?;
    let told = project.tells()?;
    ensure!(told["name"] == "from the private index", "{told}");
    let stored = Command::new("grep")
        .args(["--recursive", "--files-with-matches", "private.thing", "--"])
        .arg(project.platform.data().join("runner/wheels"))
        .output()?;
    ensure!(stored.stdout.is_empty(), "shared with everyone: {stored:?}");
    // Neither the instance nor anything that is shown has it.
    let deployment = project.deployment(&done)?;
    let number = deployment["number"].to_string();
    let container = project.platform.containers()?;
    let inspected = Command::new("docker")
        .arg("inspect")
        .arg("--")
        .args(&container)
        .output()?;
    let page = |path: &str| {
        project
            .platform
            .page(&format!("/projects/{}{path}", project.name))
    };
    let shown = [
        ("the instance", told.to_string()),
        (
            "the engine",
            String::from_utf8_lossy(&inspected.stdout).into_owned(),
        ),
        ("the build log", project.build_log()?),
        ("the API", deployment.to_string()),
        ("the command line", format!("{}{}", set.text(), list.text())),
        ("the build page", page("/build")?),
        (
            "the deployment's page",
            page(&format!("/deployments/{number}"))?,
        ),
        (
            "the platform's log",
            std::fs::read_to_string(project.platform.log_path())?,
        ),
    ];
    for (place, text) in &shown {
        for form in [PASSWORD, ENCODED, "UV_INDEX="] {
            ensure!(!text.contains(form), "{place} shows {form}: {text}");
        }
    }
    ensure!(told["variables"].get("UV_INDEX").is_none(), "{told}");
    // pip's name for it works as well, and another value is another resolution.
    let variable = format!(
        "PIP_EXTRA_INDEX_URL=http://builder:wrong-password@{}/simple",
        index.address
    );
    project
        .platform
        .berth(&["env", project.name, "unset", "--build", "UV_INDEX"])?
        .success()?;
    project
        .platform
        .berth(&["env", project.name, "set", "--build", &variable])?
        .success()?;
    let failed = project.platform.deploy(project.name, &url, &[])?;
    ensure!(failed["state"] == "failed", "{failed}");
    ensure!(!failed.to_string().contains("wrong-password"), "{failed}");
    let right = format!(
        "PIP_EXTRA_INDEX_URL=http://builder:{ENCODED}@{}/simple",
        index.address
    );
    project
        .platform
        .berth(&["env", project.name, "set", "--build", &right])?
        .success()?;
    project.deploy(&[])?;
    Ok(())
}

fn r46_the_plan_is_shown_before_anything_is_built() -> Result<()> {
    let project = Project::new(
        "planned",
        &[
            ("services/a/server.py", &about("planned")),
            ("services/a/apt.txt", "jq\n"),
            ("requirements.txt", REQUIREMENTS),
        ],
    )?;
    let platform = &project.platform;
    let url = project.repository.url();
    let git = [
        "plan",
        "--git",
        &url,
        "--root-directory",
        "services/a",
        "--json",
    ];
    let planned = platform.berth(&git)?.success()?.json()?;
    let plan = &planned["plan"];
    ensure!(
        plan["entrypoint"] == "server.py" && plan["dependencies"] == "requirements.txt",
        "{planned}"
    );
    ensure!(plan["system_packages"] == json!(["jq"]), "{planned}");
    ensure!(
        planned["commit"].as_str().is_some_and(|id| id.len() == 40),
        "{planned}"
    );
    // The same of a directory, without a word to a runner.
    let path = project.repository.path().to_str().context("a path")?;
    let here = platform
        .berth(&["plan", path, "--root-directory", "services/a", "--json"])?
        .success()?
        .json()?;
    ensure!(&here["plan"] == plan, "{here} is not {planned}");
    let said = platform
        .berth(&["plan", path, "--root-directory", "services/a"])?
        .success()?;
    ensure!(
        said.stdout
            .contains("- System packages jq: they are listed in services/a/apt.txt."),
        "{said:?}"
    );
    let wrong = platform.berth(&["plan", path, "--root-directory", "services/b"])?;
    ensure!(
        wrong.code == 1 && wrong.stdout.contains("does not exist in the source"),
        "{wrong:?}"
    );
    let wrong = platform.berth(&["plan", "--git", &url, "--branch", "nothing", "--json"])?;
    ensure!(wrong.code == 1, "{wrong:?}");
    ensure!(
        wrong.json()?["diagnosis"]["code"] == "ref_not_found",
        "{wrong:?}"
    );
    // Nothing came of it.
    let projects = platform.berth(&["projects", "--json"])?.success()?.json()?;
    ensure!(!projects.to_string().contains("\"planned\""), "{projects}");
    Ok(())
}
