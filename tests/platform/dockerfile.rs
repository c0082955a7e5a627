//! A repository's own Dockerfile: built without the engine's builder, run as every instance is.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::platform::{self, Options, Platform};
use tests::repository::Repository;

use crate::Test;
use crate::servers::{FASTMCP, list_and_call};

pub const TESTS: &[Test] = &[
    (
        "dockerfile::a_python_server_with_pip",
        a_python_server_with_pip,
    ),
    ("dockerfile::a_node_server", a_node_server),
    (
        "dockerfile::stages_and_uv_of_the_platform",
        stages_and_uv_of_the_platform,
    ),
    (
        "dockerfile::a_debian_package_and_a_user_of_the_image",
        a_debian_package_and_a_user_of_the_image,
    ),
    (
        "dockerfile::steps_that_did_not_change_are_not_run_again",
        steps_that_did_not_change_are_not_run_again,
    ),
    (
        "dockerfile::hostile_settings_of_an_image_do_not_count",
        hostile_settings_of_an_image_do_not_count,
    ),
    (
        "dockerfile::hostile_paths_stay_in_the_image",
        hostile_paths_stay_in_the_image,
    ),
    (
        "dockerfile::a_library_for_every_process_gets_into_none_of_ours",
        a_library_for_every_process_gets_into_none_of_ours,
    ),
    (
        "dockerfile::variables_of_builds_stay_in_no_image",
        variables_of_builds_stay_in_no_image,
    ),
    (
        "dockerfile::a_base_that_is_allowed_is_pulled_and_stripped",
        a_base_that_is_allowed_is_pulled_and_stripped,
    ),
    (
        "dockerfile::a_source_is_not_copied_without_end",
        a_source_is_not_copied_without_end,
    ),
    (
        "dockerfile::what_cannot_be_built_says_why",
        what_cannot_be_built_says_why,
    ),
];

/// A server that serves itself on the port that it is told. MORE stands for more of what it tells.
const SERVES_ITSELF: &str = r#"
import os
from fastmcp import FastMCP

mcp = FastMCP("own")

@mcp.tool
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b

@mcp.tool
def tells() -> dict:
    """What this process is."""
    def writes(path):
        try:
            with open(path, "w"):
                return True
        except OSError:
            return False
    def text(path):
        with open(path) as file:
            return file.read()
    status = text("/proc/self/status").splitlines()
    return {
        "uid": os.getuid(),
        "capabilities": [int(line.split()[1], 16) for line in status if line.startswith("CapEff")],
        "root_writable": writes("/marked"),
        "app_writable": writes(os.path.join(os.getcwd(), "marked")),
        "home_writable": writes(os.path.join(os.environ["HOME"], "marked")),
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        MORE
    }

if __name__ == "__main__":
    mcp.run(transport="http", host="0.0.0.0", port=int(os.environ["PORT"]))
"#;

fn server(more: &str) -> String {
    SERVES_ITSELF.replace("MORE", more)
}

fn build_log(platform: &Platform, project: &str) -> Result<String> {
    let log = platform.berth(&["logs", project, "--build"])?;
    Ok(log.success()?.stdout)
}

fn tells(platform: &Platform, project: &str) -> Result<Value> {
    let done = platform
        .berth(&["call", project, "tells", "{}", "--json"])?
        .success()?
        .json()?;
    Ok(done["structuredContent"].clone())
}

const BY_DOCKERFILE: [&str; 2] = ["--dockerfile", "Dockerfile"];

/// Deploys by a Dockerfile that is set.
fn deploy(platform: &Platform, project: &str, repository: &Repository) -> Result<Value> {
    platform.deploy_live(project, &repository.url(), &BY_DOCKERFILE)
}

fn fails(platform: &Platform, project: &str, files: &[(&str, &str)]) -> Result<Value> {
    let repository = Repository::new(files)?;
    let done = platform.deploy(project, &repository.url(), &BY_DOCKERFILE)?;
    ensure!(done["state"] == "failed", "{done:#}");
    Ok(done["diagnosis"].clone())
}

fn engine(arguments: &[&str]) -> Result<String> {
    let output = Command::new("docker").args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "docker {arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Beside a Dockerfile that nobody asked for, a server is served as without it.
fn a_python_server_with_pip() -> Result<()> {
    let platform = platform::shared()?;
    let dockerfile = "# syntax=docker/dockerfile:1
FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 LEVEL=high
WORKDIR /srv/app
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip pip install -r requirements.txt
COPY . .
EXPOSE 8000
CMD [\"python\", \"server.py\"]
";
    let repository = Repository::new(&[
        ("Dockerfile", dockerfile),
        ("requirements.txt", "fastmcp==4.1.2\n"),
        ("server.py", &server("")),
    ])?;
    platform.deploy_live("docker-beside", &repository.url(), &[])?;
    let usual = platform.newest("docker-beside")?;
    ensure!(
        usual["plan"]["dependencies"] == "requirements.txt",
        "{usual}"
    );
    deploy(&platform, "docker-pip", &repository)?;
    let answer = list_and_call(&platform, "docker-pip", "add", r#"{"a":20,"b":22}"#)?;
    ensure!(answer["text"] == json!(["42"]), "{answer}");
    let found = platform.newest("docker-pip")?;
    ensure!(found["plan"]["dependencies"] == "Dockerfile", "{found}");
    let reasons = found["plan"]["reasons"].to_string();
    for part in [
        "it was set",
        "platform's own python:3.11",
        "port 8000: EXPOSE",
    ] {
        ensure!(reasons.contains(part), "{part}: {reasons}");
    }
    let tells = tells(&platform, "docker-pip")?;
    let environment = &tells["environment"];
    ensure!(environment["PORT"] == "8000", "{tells:#}");
    ensure!(environment["LEVEL"] == "high", "{tells:#}");
    ensure!(tells["cwd"] == "/srv/app", "{tells:#}");
    ensure!(tells["uid"] == 10001, "{tells:#}");
    ensure!(tells["home_writable"] == true, "{tells:#}");
    ensure!(tells["app_writable"] == false, "{tells:#}");
    let log = build_log(&platform, "docker-pip")?;
    let step = "Step 2/3: RUN pip install -r requirements.txt";
    ensure!(log.contains(step), "{log}");
    Ok(())
}

/// Taken by itself, since nothing else is found to start; over stdio.
fn a_node_server() -> Result<()> {
    let platform = platform::shared()?;
    let manifest = r#"{"name": "own-node", "type": "module", "dependencies": {"@modelcontextprotocol/sdk": "1.30.0", "zod": "^3.25.0"}}"#;
    let dockerfile = "FROM node:22-slim AS build
WORKDIR /made
COPY lib/package.json ./
RUN npm install --no-audit --no-fund
FROM node:22-slim
WORKDIR /home/app/server
COPY --from=build /made/node_modules ./node_modules
COPY --chown=node:node --chmod=640 lib .
USER node
RUN id -un | grep -x node && test \"$HOME\" = /home/node
ENTRYPOINT [\"node\"]
CMD [\"server.mjs\"]
";
    let repository = Repository::new(&[
        ("Dockerfile", dockerfile),
        ("lib/package.json", manifest),
        (
            "lib/server.mjs",
            include_str!("../servers/stdio/server.mjs"),
        ),
    ])?;
    platform.deploy_live("docker-node", &repository.url(), &[])?;
    let found = platform.newest("docker-node")?;
    ensure!(found["plan"]["runtime"] == "node:22", "{found}");
    let reasons = found["plan"]["reasons"].to_string();
    ensure!(
        reasons.contains("nothing else to start was found"),
        "{reasons}"
    );
    let answer = list_and_call(&platform, "docker-node", "add", r#"{"a":20,"b":22}"#)?;
    ensure!(answer["text"] == json!(["42"]), "{answer}");
    Ok(())
}

/// The form that uv's own guide gives, with its bind mounts and caches.
fn stages_and_uv_of_the_platform() -> Result<()> {
    let platform = platform::shared()?;
    let dockerfile = r#"FROM python:3.11-slim AS builder
COPY --from=ghcr.io/astral-sh/uv:latest /uv /uvx /bin/
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
WORKDIR /app
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    uv sync --no-install-project --no-dev && uvx --version
RUN test ! -e pyproject.toml && test -z "$(ls -A /root/.cache/uv 2>/dev/null)"
COPY . /app

FROM python:3.11-slim AS unused
RUN exit 1

FROM python:3.11-slim
COPY --from=builder /app /app
COPY <<EOF /app/note.txt
made of ${HOSTNAME:-texts}
EOF
WORKDIR /app
ENV PATH="/app/.venv/bin:$PATH"
CMD python server.py --port "$PORT"
"#;
    let project = "[project]
name = \"own\"
version = \"1\"
requires-python = \">=3.10\"
dependencies = [\"fastmcp==4.1.2\"]

[tool.uv]
package = false
";
    let repository = Repository::new(&[
        ("Dockerfile", dockerfile),
        ("pyproject.toml", project),
        ("server.py", &server("\"note\": text(\"note.txt\"),")),
        (".dockerignore", ".venv\n.git\n"),
    ])?;
    deploy(&platform, "docker-uv", &repository)?;
    let answer = list_and_call(&platform, "docker-uv", "add", r#"{"a":1,"b":2}"#)?;
    ensure!(answer["text"] == json!(["3"]), "{answer}");
    let tells = tells(&platform, "docker-uv")?;
    ensure!(tells["note"] == "made of texts\n", "{tells:#}");
    ensure!(tells["environment"]["PORT"] == "8080", "{tells:#}");
    let log = build_log(&platform, "docker-uv")?;
    ensure!(log.contains("answered by the uv of this platform"), "{log}");
    ensure!(!log.contains("RUN exit 1"), "{log}");
    Ok(())
}

fn a_debian_package_and_a_user_of_the_image() -> Result<()> {
    let platform = platform::shared()?;
    let dockerfile = "FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends cowsay ca-certificates \\
    # why not
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home app && mkdir /srv/own && chown app:app /srv/own
USER app
RUN id -un > /srv/own/who && pip install --user --no-warn-script-location fastmcp==4.1.2
ENV PATH=/home/app/.local/bin:$PATH PYTHONPATH=/home/app/.local/lib/python3.11/site-packages
WORKDIR /srv/own
COPY server.py .
CMD [\"python\", \"server.py\"]
";
    let more = "\"who\": text(\"who\"), \"says\": __import__(\"subprocess\").run([\"/usr/games/cowsay\", \"moo\"], capture_output=True, text=True).stdout,";
    let repository = Repository::new(&[("Dockerfile", dockerfile), ("server.py", &server(more))])?;
    deploy(&platform, "docker-apt", &repository)?;
    let tells = tells(&platform, "docker-apt")?;
    ensure!(tells["who"] == "app\n", "{tells:#}");
    ensure!(tells["uid"] == 10001, "{tells:#}");
    ensure!(tells["says"].to_string().contains("< moo >"), "{tells:#}");
    Ok(())
}

fn steps_that_did_not_change_are_not_run_again() -> Result<()> {
    let platform = platform::shared()?;
    let dockerfile = "FROM python:3.11-slim
COPY requirements.txt /
RUN pip install -r /requirements.txt && date +%N > /when
COPY server.py /srv/
CMD [\"python\", \"/srv/server.py\"]
";
    let code = server("\"when\": text(\"/when\"),");
    let repository = Repository::new(&[
        ("Dockerfile", dockerfile),
        ("requirements.txt", "fastmcp==4.1.2\n"),
        ("server.py", &code),
    ])?;
    deploy(&platform, "docker-cache", &repository)?;
    let first = tells(&platform, "docker-cache")?;
    repository.commit(&[("server.py", &code.replace("a + b", "a * b"))])?;
    deploy(&platform, "docker-cache", &repository)?;
    let second = tells(&platform, "docker-cache")?;
    ensure!(first["when"] == second["when"], "{first} {second}");
    let answer = list_and_call(&platform, "docker-cache", "add", r#"{"a":6,"b":7}"#)?;
    ensure!(answer["text"] == json!(["42"]), "{answer}");
    let log = build_log(&platform, "docker-cache")?;
    ensure!(log.contains("date +%N > /when: unchanged"), "{log}");
    ensure!(!log.contains("COPY server.py /srv/: unchanged"), "{log}");
    // Another project shares nothing of it.
    deploy(&platform, "docker-cache-other", &repository)?;
    let other = tells(&platform, "docker-cache-other")?;
    ensure!(other["when"] != second["when"], "{other}");
    Ok(())
}

/// What an image says of how it is to be run is not done.
fn hostile_settings_of_an_image_do_not_count() -> Result<()> {
    let platform = platform::shared()?;
    let dockerfile = "FROM python:3.11-slim
RUN pip install fastmcp==4.1.2
LABEL berth.role=build berth.installation=x
VOLUME [\"/srv\", \"/anything\"]
HEALTHCHECK --interval=1s CMD touch /data/checked
STOPSIGNAL SIGSTOP
USER root
ONBUILD RUN rm -rf /
ENV PORT=8123 BERTH_PROJECT=forged LD_PRELOAD=/nowhere.so
RUN rm -f /usr/bin/python3 && printf '#!/bin/sh\\nwhile :; do echo flood; done\\n' > /usr/bin/python3 \\
    && chmod 4755 /usr/bin/python3
COPY server.py /srv/
CMD [\"/usr/local/bin/python\", \"/srv/server.py\"]
";
    let repository = Repository::new(&[("Dockerfile", dockerfile), ("server.py", &server(""))])?;
    deploy(&platform, "docker-hostile", &repository)?;
    let tells = tells(&platform, "docker-hostile")?;
    ensure!(tells["uid"] == 10001, "{tells:#}");
    ensure!(tells["capabilities"] == json!([0]), "{tells:#}");
    ensure!(tells["root_writable"] == false, "{tells:#}");
    ensure!(tells["app_writable"] == false, "{tells:#}");
    let environment = &tells["environment"];
    ensure!(environment["PORT"] == "8123", "{environment:#}");
    let project = &environment["BERTH_PROJECT"];
    ensure!(project == "docker-hostile", "{environment:#}");
    let deployment = environment["BERTH_DEPLOYMENT"]
        .as_str()
        .context("no id")?
        .to_owned();
    let filter = format!("label=berth.deployment={deployment}");
    let container = engine(&["ps", "--quiet", "--filter", &filter])?;
    let detail: Value = serde_json::from_str(&engine(&["inspect", container.trim()])?)?;
    let (config, host) = (&detail[0]["Config"], &detail[0]["HostConfig"]);
    ensure!(config["Healthcheck"]["Test"] == json!(["NONE"]), "{config}");
    ensure!(config["StopSignal"] == "SIGTERM", "{config}");
    ensure!(config["Volumes"].is_null(), "{config}");
    ensure!(config["User"] == "10001:10001", "{config}");
    ensure!(config["Labels"]["berth.role"] == "instance", "{config}");
    ensure!(
        !config["Env"].to_string().contains("LD_PRELOAD"),
        "{config}"
    );
    ensure!(host["ReadonlyRootfs"] == true, "{host}");
    ensure!(host["CapDrop"] == json!(["ALL"]), "{host}");
    let mounts = detail[0]["Mounts"].as_array().context("no mounts")?;
    let all_ours = mounts.iter().all(|mount| mount["Type"] == "bind");
    ensure!(all_ours, "{mounts:?}");
    Ok(())
}

/// Links of the image lead through the image, and no step reaches the host.
fn hostile_paths_stay_in_the_image() -> Result<()> {
    let platform = platform::shared()?;
    let dockerfile = r#"FROM python:3.11-slim AS links
RUN ln -s / /link && ln -s ../../../../../../.. /up && ln -s /etc /srv/etc
COPY canary.txt /link/berth-canary/
COPY canary.txt /up/berth-canary/up.txt
COPY canary.txt /srv/etc/canary.txt
RUN ! mount -t tmpfs none /mnt
RUN ! mknod /disk b 8 0
RUN test ! -S /var/run/docker.sock && test "$(ls /link/berth-canary | wc -l)" = 2
RUN grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status > /status
RUN cut -d ' ' -f 5 /proc/self/mountinfo | grep -v -e '^/$' -e ^/proc -e ^/dev -e ^/sys > /mounts
FROM python:3.11-slim
RUN pip install fastmcp==4.1.2
COPY --from=links /link/up/status /up/etc/canary.txt /link/mounts /seen/
COPY server.py /srv/
CMD ["python", "/srv/server.py"]
"#;
    let more = "\"seen\": {name: text(\"/seen/\" + name) for name in os.listdir(\"/seen\")},";
    let repository = Repository::new(&[
        ("Dockerfile", dockerfile),
        ("server.py", &server(more)),
        ("canary.txt", "canary"),
    ])?;
    deploy(&platform, "docker-paths", &repository)?;
    let seen = tells(&platform, "docker-paths")?["seen"].clone();
    ensure!(seen["canary.txt"] == "canary", "{seen:#}");
    // CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID.
    let status = seen["status"].as_str().unwrap_or_default();
    for line in [
        "CapEff:\t00000000000000cb",
        "CapBnd:\t00000000000000cb",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        ensure!(status.contains(line), "{line}: {status}");
    }
    let mounts = seen["mounts"].as_str().unwrap_or_default();
    let mut mounts: Vec<&str> = mounts.lines().collect();
    mounts.sort_unstable();
    let expected = [
        "/etc/hostname",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/run/berth/ca-certificates.crt",
        "/run/berth/step.json",
        "/run/bridge",
    ];
    ensure!(mounts == expected, "{mounts:?}");
    for path in ["/berth-canary", "/etc/canary.txt", "/up.txt"] {
        ensure!(!Path::new(path).exists(), "{path} is on the host");
    }
    Ok(())
}

/// What gets into every process of an image. In one of ours it says so, and where `COPY --from`
/// packs files for the runner, which is the host's root, it leaves a link to a file of the host.
const INTRUDER: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void intrude(void) {
    char command[4096];
    int file = open("/proc/self/cmdline", O_RDONLY);
    ssize_t size = read(file, command, sizeof command);
    close(file);
    if (size <= 0 || !memmem(command, size, "/run/bridge", 11))
        return;
    write(2, "TAKEN OVER\n", 11);
    close(open("/taken", O_CREAT | O_WRONLY, 0644));
    if (symlink(CANARY, "/out/files.tar"))
        return;
    file = open("/out/sources.json", O_CREAT | O_WRONLY, 0644);
    write(file, "[]", 2);
    _exit(0);
}
"#;

/// The intruder as text, since a repository of tests holds nothing else.
fn intruder(directory: &Path, canary: &Path) -> Result<String> {
    let (code, library) = (directory.join("intruder.c"), directory.join("intruder.so"));
    std::fs::write(&code, INTRUDER)?;
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-O1", "-s", "-o"])
        .arg(&library)
        .arg(format!("-DCANARY=\"{}\"", canary.display()))
        .arg(&code)
        .output()
        .context("starting cc")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cc: {said}");
    let bytes = std::fs::read(library)?;
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

/// glibc loads what `/etc/ld.so.preload` names into every process. The platform's own, which are
/// root in containers, must not heed an image's.
fn a_library_for_every_process_gets_into_none_of_ours() -> Result<()> {
    let platform = platform::shared()?;
    let place = tempfile::tempdir()?;
    let canary = place.path().join("canary");
    std::fs::write(&canary, "of the host")?;
    std::fs::set_permissions(&canary, std::fs::Permissions::from_mode(0o600))?;
    let dockerfile = r#"FROM python:3.11-slim AS planted
COPY intruder.hex server.py /srv/
RUN python -c "open('/lib/intruder.so', 'wb').write(bytes.fromhex(open('/srv/intruder.hex').read()))"
RUN pip install fastmcp==4.1.2
RUN echo /lib/intruder.so > /etc/ld.so.preload
RUN grep -q intruder /proc/self/maps && echo it is in the commands
COPY server.py /srv/later.py
FROM planted
COPY --from=planted /srv/server.py /packed/
CMD ["python", "/packed/server.py"]
"#;
    let more = "\"intruded\": \"intruder\" in text(\"/proc/self/maps\"), \"taken\": os.path.exists(\"/taken\"),";
    let repository = Repository::new(&[
        ("Dockerfile", dockerfile),
        ("intruder.hex", &intruder(place.path(), &canary)?),
        ("server.py", &server(more)),
    ])?;
    let done = platform.deploy("docker-preload", &repository.url(), &BY_DOCKERFILE)?;
    let untouched = std::fs::symlink_metadata(&canary)?;
    ensure!(
        untouched.permissions().mode() & 0o777 == 0o600,
        "the mode of a file of the host was changed: {untouched:?}"
    );
    ensure!(std::fs::read_to_string(&canary)? == "of the host");
    ensure!(done["state"] == "live", "{done:#}");
    let tells = tells(&platform, "docker-preload")?;
    ensure!(tells["intruded"] == true, "nothing was tried: {tells:#}");
    ensure!(tells["taken"] == false, "{tells:#}");
    let log = build_log(&platform, "docker-preload")?;
    ensure!(log.contains("it is in the commands"), "{log}");
    let instance = platform.berth(&["logs", "docker-preload"])?.success()?;
    for said in [log, instance.stdout] {
        ensure!(!said.contains("TAKEN OVER"), "{said}");
    }
    Ok(())
}

/// A command reads them, and nothing of what is kept holds them.
fn variables_of_builds_stay_in_no_image() -> Result<()> {
    const SECRET: &str = "hunter2-of-a-dockerfile";
    const RUNTIME: &str = "swordfish-of-an-instance";
    let platform = platform::shared()?;
    let dockerfile = "FROM python:3.11-slim
ARG TOKEN
ENV COPIED=$TOKEN
RUN pip install fastmcp==4.1.2
RUN echo \"the token is $TOKEN\" && test -z \"$KEY\" && test -z \"$COPIED\" && printf %s \"$TOKEN\" | sha256sum > /sum
COPY server.py /srv/
CMD [\"python\", \"/srv/server.py\"]
";
    let more = "\"sum\": text(\"/sum\"),";
    let repository = Repository::new(&[("Dockerfile", dockerfile), ("server.py", &server(more))])?;
    // The project has to be there before it has variables.
    let nothing = deploy(&platform, "docker-secret", &repository)?;
    ensure!(nothing["state"] == "live", "{nothing}");
    let before = tells(&platform, "docker-secret")?["sum"].clone();
    let set = |arguments: &[&str]| {
        let all = [&["env", "docker-secret", "set"], arguments].concat();
        platform.berth(&all)?.success()
    };
    set(&["--build", &format!("TOKEN={SECRET}")])?;
    set(&[&format!("KEY={RUNTIME}")])?;
    deploy(&platform, "docker-secret", &repository)?;
    let tells = tells(&platform, "docker-secret")?;
    ensure!(tells["sum"] != before, "the command did not see it");
    ensure!(tells["environment"]["KEY"] == RUNTIME, "{tells:#}");
    ensure!(tells["environment"]["TOKEN"].is_null(), "{tells:#}");
    let log = build_log(&platform, "docker-secret")?;
    ensure!(log.contains("the token is "), "{log}");
    ensure!(!log.contains(SECRET), "{log}");
    let installation = platform.installation()?;
    let filter = format!("label=berth.installation={installation}");
    let images = engine(&["images", "--all", "--quiet", "--filter", &filter])?;
    for image in images.split_whitespace() {
        let config = engine(&["image", "inspect", image])?;
        let history = engine(&["history", "--no-trunc", image])?;
        let kept = [config, history].concat();
        for secret in [SECRET, RUNTIME] {
            ensure!(!kept.contains(secret), "{image} holds {secret}");
        }
    }
    Ok(())
}

/// A registry with one image, which says all that an image can say of how it is to be run.
struct Registry {
    child: Child,
    port: String,
}

impl Registry {
    fn start() -> Result<Self> {
        const NAME: &str = "berth-test-hostile:1";
        let base = "berth/python:3.11";
        let container = engine(&["create", "--stop-signal", "SIGSTOP", base, "/bin/true"])?;
        let container = container.trim();
        let mut commit = vec!["commit"];
        for change in [
            "VOLUME [\"/vol\", \"/base\"]",
            "HEALTHCHECK --interval=1s CMD touch /tmp/checked",
            "ONBUILD RUN touch /onbuild",
            "LABEL berth.installation=forged berth.role=instance",
            "USER 0:0",
            "ENV FROM_BASE=yes LD_PRELOAD=/nowhere.so",
            "WORKDIR /base",
            "EXPOSE 8765",
            "ENTRYPOINT [\"/usr/bin/python3\"]",
            "CMD [\"server.py\"]",
        ] {
            commit.extend(["--change", change]);
        }
        commit.extend([container, NAME]);
        engine(&commit)?;
        engine(&["rm", container])?;
        let archive = tempfile::NamedTempFile::new()?;
        let path = archive.path().to_str().context("a path in UTF-8")?;
        engine(&["save", "--output", path, NAME])?;
        engine(&["rmi", NAME])?;
        let mut child = Command::new("/usr/bin/python3")
            .arg(tests::root().join("tests/servers/registry.py"))
            .args([path, "hostile", "1"])
            .stdout(Stdio::piped())
            .spawn()?;
        // It says its port once it has read the archive.
        let mut port = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut port)?;
        Ok(Self {
            child,
            port: port.trim().to_owned(),
        })
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn a_base_that_is_allowed_is_pulled_and_stripped() -> Result<()> {
    let registry = Registry::start()?;
    let place = format!("127.0.0.1:{}", registry.port);
    let setting = ("BERTH_PULL_IMAGES".to_owned(), format!("{place}/*"));
    let platform = Platform::start(Options {
        settings: vec![setting],
    })?;
    let gone = format!("FROM {place}/gone:1\n");
    let found = fails(&platform, "docker-gone", &[("Dockerfile", &gone)])?;
    ensure!(found["code"] == "base_image_unavailable", "{found:#}");
    ensure!(
        found["cause"].to_string().contains("could not be pulled"),
        "{found:#}"
    );
    let found = fails(
        &platform,
        "docker-other",
        &[("Dockerfile", "FROM alpine:3\n")],
    )?;
    ensure!(found["cause"].to_string().contains(&place), "{found:#}");
    let dockerfile = format!(
        "FROM {place}/hostile:1
RUN test ! -e /onbuild && test \"$FROM_BASE\" = yes && env -u LD_PRELOAD uv pip install --system --break-system-packages fastmcp==4.1.2
COPY server.py .
"
    );
    let repository = Repository::new(&[("Dockerfile", &dockerfile), ("server.py", &server(""))])?;
    deploy(&platform, "docker-pulled", &repository)?;
    let tells = tells(&platform, "docker-pulled")?;
    let environment = &tells["environment"];
    ensure!(environment["FROM_BASE"] == "yes", "{tells:#}");
    ensure!(environment["PORT"] == "8765", "{tells:#}");
    ensure!(tells["cwd"] == "/base", "{tells:#}");
    ensure!(tells["uid"] == 10001, "{tells:#}");
    ensure!(tells["app_writable"] == false, "{tells:#}");
    let pulled = format!("{place}/hostile:1");
    let left = engine(&["images", "--quiet", &pulled])?;
    ensure!(left.is_empty(), "{pulled} is left on the machine");
    let installation = platform.installation()?;
    let filter = format!("label=berth.installation={installation}");
    let images = engine(&["images", "--quiet", "--filter", &filter])?;
    ensure!(images.lines().count() > 3, "{images}");
    for image in images.split_whitespace() {
        let found: Value = serde_json::from_str(&engine(&["image", "inspect", image])?)?;
        let config = &found[0]["Config"];
        ensure!(config["Volumes"].is_null(), "{config:#}");
        ensure!(
            config["OnBuild"].is_null() || config["OnBuild"] == json!([]),
            "{config:#}"
        );
        ensure!(config["StopSignal"] != "SIGSTOP", "{config:#}");
        ensure!(
            !config["Env"].to_string().contains("LD_PRELOAD"),
            "{config:#}"
        );
    }
    let container = engine(&[
        "ps",
        "--quiet",
        "--filter",
        &filter,
        "--filter",
        "label=berth.role=instance",
    ])?;
    let detail: Value = serde_json::from_str(&engine(&["inspect", container.trim()])?)?;
    let mounts = detail[0]["Mounts"].as_array().context("no mounts")?;
    let all_ours = mounts.iter().all(|mount| mount["Type"] == "bind");
    ensure!(all_ours, "{mounts:?}");
    Ok(())
}

/// Few lines can name a large file many times.
fn a_source_is_not_copied_without_end() -> Result<()> {
    const LARGE: u64 = 20 << 20;
    let platform = platform::shared()?;
    let repository = Repository::new(&[
        ("Dockerfile", "FROM python:3.11\nCOPY links/* /x/\nCMD x\n"),
        ("server.py", FASTMCP),
        ("links/server.py", FASTMCP),
    ])?;
    let large = repository.path().join("large");
    std::fs::File::create(large)?.set_len(LARGE)?;
    for number in 0..60 {
        let link = repository.path().join(format!("links/{number}"));
        std::os::unix::fs::symlink("../large", link)?;
    }
    repository.commit(&[])?;
    let done = platform.deploy("docker-links", &repository.url(), &BY_DOCKERFILE)?;
    let found = &done["diagnosis"];
    ensure!(found["code"] == "dockerfile_invalid", "{done:#}");
    ensure!(found["location"] == "Dockerfile:2", "{found:#}");
    ensure!(found["cause"].to_string().contains("links"), "{found:#}");
    // The same file ten thousand times is one, and so is a directory in several places.
    let many = format!(
        "FROM python:3.11
COPY{} /x/
RUN{} test \"$(stat -c %s /x/large /a/large /b/large | sort -u)\" = {LARGE} && touch /passed
RUN test -e /passed && ! test -e /a
CMD [\"/no/such/program\"]
",
        " large ./large".repeat(10_000),
        ["/a", "/b"]
            .map(|at| format!(" --mount=type=bind,source=.,target={at}"))
            .concat(),
    );
    repository.commit(&[("Dockerfile", &many)])?;
    let done = platform.deploy("docker-links", &repository.url(), &BY_DOCKERFILE)?;
    ensure!(
        done["diagnosis"]["code"] == "exited",
        "it was built: {done:#}"
    );
    let log = build_log(&platform, "docker-links")?;
    ensure!(log.contains("Step 3/3"), "{log}");
    let rules = "*.x\n".repeat(1_001);
    let files = [
        ("Dockerfile", "FROM python:3.11\nCMD x\n"),
        (".dockerignore", rules.as_str()),
    ];
    let found = fails(&platform, "docker-rules", &files)?;
    ensure!(found["code"] == "configuration_invalid", "{found:#}");
    ensure!(
        found["cause"].to_string().contains("1000 rules"),
        "{found:#}"
    );
    Ok(())
}

/// Each says what to do next.
fn what_cannot_be_built_says_why() -> Result<()> {
    let platform = platform::shared()?;
    for (project, dockerfile, code, part) in [
        (
            "docker-alpine",
            "FROM alpine:3.20\nCMD x\n",
            "base_image_unavailable",
            "BERTH_PULL_IMAGES",
        ),
        (
            "docker-add",
            "FROM python:3.11\nADD https://example.com/x /x\nCMD x\n",
            "dockerfile_invalid",
            "RUN curl",
        ),
        (
            "docker-frontend",
            "# syntax=evil/frontend:1\nFROM python:3.11\nCMD x\n",
            "dockerfile_invalid",
            "Remove the line",
        ),
        (
            "docker-outside",
            "FROM python:3.11\nCOPY ../../etc/passwd /x\nCMD x\n",
            "copy_source_missing",
            "root directory",
        ),
        (
            "docker-stage",
            "FROM python:3.11 AS a\nFROM python:3.11\nCOPY --from=a /gone /x\nCMD x\n",
            "copy_source_missing",
            "root of the image",
        ),
        (
            "docker-step",
            "FROM python:3.11\nRUN echo why >&2; exit 3\nCMD x\n",
            "dockerfile_step_failed",
            "last lines",
        ),
        (
            "docker-nothing",
            "FROM python:3.11\nRUN true\n",
            "dockerfile_nothing_to_start",
            "CMD",
        ),
        (
            "docker-program",
            "FROM python:3.11\nCMD [\"/no/such/program\"]\n",
            "exited",
            "",
        ),
    ] {
        let files = [("Dockerfile", dockerfile), ("server.py", FASTMCP)];
        let found = fails(&platform, project, &files)?;
        ensure!(found["code"] == code, "{project}: {found:#}");
        let fix = found["fix"].as_str().unwrap_or_default();
        ensure!(fix.contains(part), "{project}: {found:#}");
    }
    Ok(())
}
