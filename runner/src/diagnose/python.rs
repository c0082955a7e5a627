//! What Python's and the frameworks' own exceptions mean, and what mends them.
//!
//! Each rule was seen to happen with the release it names; texts are matched as those releases
//! print them. FastMCP 2.14, 3.4 and 4.1 and the SDK 1.30 and 2.3 differ, and so do their rules.

use super::{Code, diagnosis};
use crate::protocol::Diagnosis;

/// An exception as the launcher or a log shows it.
pub(super) struct Exception<'a> {
    /// Its class, without module.
    pub class: &'a str,
    /// Its text.
    pub message: &'a str,
    /// The line of the source that raised it.
    pub code: Option<&'a str>,
    /// Where the dependencies come from.
    pub dependencies: Option<&'a str>,
}

impl Exception<'_> {
    /// The file to which a package is to be added.
    fn declared_in(&self) -> &str {
        match self.dependencies {
            Some("uv.lock") => "pyproject.toml (and run `uv lock`)",
            Some(file) if !file.contains(' ') => file,
            _ => "a requirements.txt",
        }
    }
}

/// Explains a known exception; `None` leaves it to be quoted.
pub(super) fn explain(exception: &Exception<'_>) -> Option<Diagnosis> {
    match exception.class {
        "SyntaxError" | "IndentationError" | "TabError" => Some(syntax(exception)),
        "ModuleNotFoundError" => Some(missing_module(exception)),
        "ImportError" => Some(import(exception)),
        _ => by_text(exception),
    }
}

fn syntax(exception: &Exception<'_>) -> Diagnosis {
    // `invalid syntax (main.py, line 3)`: the place is given apart.
    let message = exception.message.lines().next().unwrap_or_default();
    let what = message.rsplit_once(" (").map_or(message, |(what, _)| what);
    let code = exception
        .code
        .map(|code| format!(" in `{code}`"))
        .unwrap_or_default();
    diagnosis(
        Code::SyntaxError,
        format!("The code is not valid Python: {what}{code}."),
        "Correct the line, check it with `python -m py_compile`, and deploy again.",
    )
}

/// The text between the first two single quotes.
fn quoted(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once('\'')?;
    rest.split_once('\'').map(|(inside, _)| inside)
}

fn missing_module(exception: &Exception<'_>) -> Diagnosis {
    let module = quoted(exception.message).unwrap_or("?");
    let file = exception.declared_in();
    let import_error = |cause: String, fix: String| diagnosis(Code::ImportError, cause, fix);
    if module == "mcp.server.fastmcp" || module.starts_with("mcp.server.fastmcp.") {
        return import_error(
            "The code imports mcp.server.fastmcp, which only mcp 1.x has, and mcp 2.x is installed.".to_owned(),
            format!("Pin `mcp<2` in {file}, or import MCPServer from mcp.server.mcpserver instead."),
        );
    }
    if module == "mcp.server.mcpserver" || module.starts_with("mcp.server.mcpserver.") {
        return import_error(
            "The code imports mcp.server.mcpserver, which only mcp 2.x has, and mcp 1.x is installed.".to_owned(),
            format!("Ask for `mcp>=2` in {file}, or import FastMCP from mcp.server.fastmcp instead."),
        );
    }
    if let Some((_, real)) = MOVED
        .iter()
        .find(|(wrong, _)| module == *wrong || module.starts_with(&format!("{wrong}.")))
    {
        return import_error(
            format!("There is no module {module} in the installed release."),
            format!("Import {real} instead."),
        );
    }
    let top = module.split('.').next().unwrap_or(module);
    if module != top {
        return import_error(
            format!("There is no module {module} in what is installed."),
            format!(
                "Check the name, and that {file} asks for a release of {top} that has it; if it is your own module, push it."
            ),
        );
    }
    let package = package_of(top);
    import_error(
        format!("The code imports {top}, which is not installed."),
        format!(
            "Add `{package}` to {file}; if {top} is your own module, push it or set the entrypoint to a file beside it."
        ),
    )
}

/// Modules that tutorials name and no release has, with where the thing really is.
const MOVED: &[(&str, &str)] = &[
    ("fastmcp.middleware", "from fastmcp.server.middleware"),
    (
        "fastmcp.auth",
        "JWTVerifier from fastmcp.server.auth.providers.jwt",
    ),
    (
        "fastmcp.server.auth.providers.bearer",
        "JWTVerifier from fastmcp.server.auth.providers.jwt",
    ),
    (
        "fastmcp.providers",
        "from fastmcp.server.providers (FastMCP 3 and later)",
    ),
    (
        "fastmcp.transforms",
        "from fastmcp.server.transforms (FastMCP 3 and later)",
    ),
    ("fastmcp.sampling", "from fastmcp.client.sampling"),
    ("key_value.stores", "from key_value.aio.stores"),
    (
        "key_value.encryption",
        "from key_value.aio.wrappers.encryption",
    ),
];

/// Modules whose package has another name.
const PACKAGES: &[(&str, &str)] = &[
    ("PIL", "pillow"),
    ("attr", "attrs"),
    ("bs4", "beautifulsoup4"),
    ("cv2", "opencv-python-headless"),
    ("dateutil", "python-dateutil"),
    ("decouple", "python-decouple"),
    ("discord", "discord.py"),
    ("docx", "python-docx"),
    ("dotenv", "python-dotenv"),
    ("fitz", "pymupdf"),
    ("git", "gitpython"),
    ("github", "pygithub"),
    ("googleapiclient", "google-api-python-client"),
    ("jose", "python-jose"),
    ("jwt", "pyjwt"),
    ("key_value", "py-key-value-aio"),
    ("magic", "python-magic"),
    ("multipart", "python-multipart"),
    ("nacl", "pynacl"),
    ("pptx", "python-pptx"),
    ("psycopg2", "psycopg2-binary"),
    ("serial", "pyserial"),
    ("sklearn", "scikit-learn"),
    ("telegram", "python-telegram-bot"),
    ("websocket", "websocket-client"),
    ("yaml", "pyyaml"),
];

fn package_of(module: &str) -> String {
    PACKAGES
        .iter()
        .find(|(name, _)| *name == module)
        .map_or_else(
            || module.replace('_', "-"),
            |(_, package)| (*package).to_owned(),
        )
}

fn import(exception: &Exception<'_>) -> Diagnosis {
    let message = exception.message;
    let file = exception.declared_in();
    let found = |cause: String, fix: String| diagnosis(Code::ImportError, cause, fix);
    if message.contains("most likely due to a circular import") {
        let name = quoted(message).unwrap_or("a name");
        return found(
            format!(
                "Two modules import each other, so {name} is not there yet when it is asked for."
            ),
            "Move what both need into a third module, or import inside the function that uses it."
                .to_owned(),
        );
    }
    if message.contains("attempted relative import") {
        return found(
            "A relative import (from . import …) is used in a file that is not part of a package.".to_owned(),
            "Import by name without the dot, or add an __init__.py beside the file and set the entrypoint to package.module:object.".to_owned(),
        );
    }
    if let Some(extra) = message
        .split("py-key-value-aio[")
        .nth(1)
        .and_then(|rest| rest.split(']').next())
    {
        return found(
            format!("The code uses a store of py-key-value-aio that needs its extra {extra}."),
            format!("Add `py-key-value-aio[{extra}]` to {file}."),
        );
    }
    if message.contains("require the `tasks` extra") || message.contains("fastmcp[tasks]") {
        return found(
            "The code uses background tasks, which need FastMCP's extra `tasks`.".to_owned(),
            format!("Add `fastmcp[tasks]` to {file}."),
        );
    }
    if message.contains("cannot open shared object file") {
        let library = message.split(':').next().unwrap_or("a system library");
        return found(
            format!("A package needs the system library {library}, which the runtime does not have."),
            "Use a package whose wheel brings it along (often one that ends in -binary or -headless).".to_owned(),
        );
    }
    if let Some(rest) = message.strip_prefix("cannot import name ") {
        let name = quoted(message).unwrap_or("a name");
        let module = rest
            .split(" from ")
            .nth(1)
            .and_then(quoted)
            .unwrap_or("its module");
        let fix = RENAMED
            .iter()
            .find(|(wrong, of, _)| *wrong == name && module.starts_with(of))
            .map_or_else(
                || {
                    format!(
                        "Correct the name, or ask in {file} for the release of {} that has it.",
                        module.split('.').next().unwrap_or(module)
                    )
                },
                |(_, _, fix)| (*fix).to_owned(),
            );
        return found(
            format!("There is no {name} in {module} as it is installed."),
            fix,
        );
    }
    let first = message
        .lines()
        .next()
        .unwrap_or_default()
        .trim_end_matches('.');
    found(
        format!("A module cannot be imported: {first}."),
        format!("Install what it names through {file}, or correct the import."),
    )
}

/// Names that were renamed or never existed: name, module, fix.
const RENAMED: &[(&str, &str, &str)] = &[
    (
        "Image",
        "fastmcp",
        "Import Image from fastmcp.utilities.types.",
    ),
    ("Icon", "fastmcp", "Import Icon from mcp.types."),
    (
        "BearerAuthProvider",
        "fastmcp",
        "Use JWTVerifier from fastmcp.server.auth.providers.jwt.",
    ),
    (
        "FastMCP",
        "mcp.server",
        "Import FastMCP from mcp.server.fastmcp with `mcp<2`, or MCPServer from mcp.server.mcpserver with `mcp>=2`.",
    ),
];

/// A rule: all of `texts` occur in the message.
struct Rule {
    texts: &'static [&'static str],
    code: Code,
    cause: &'static str,
    fix: &'static str,
}

const fn rule(
    texts: &'static [&'static str],
    code: Code,
    cause: &'static str,
    fix: &'static str,
) -> Rule {
    Rule {
        texts,
        code,
        cause,
        fix,
    }
}

const RULES: &[Rule] = &[
    rule(
        &["FastMCP() no longer accepts"],
        Code::ImportFailed,
        "FastMCP(…) is given arguments that FastMCP 3 and later do not take, such as host or port.",
        "Remove host, port and other transport arguments from FastMCP(…); the platform sets them.",
    ),
    rule(
        &["got unexpected keyword argument(s)", "dependencies"],
        Code::ImportFailed,
        "FastMCP(…) is given dependencies, which this release does not take.",
        "Move the list into requirements.txt or fastmcp.json and remove the argument.",
    ),
    rule(
        &["Already running asyncio in this thread"],
        Code::ImportFailed,
        "The code starts the server itself while it is imported.",
        "Put mcp.run() below `if __name__ == \"__main__\":`; the platform starts the server.",
    ),
    rule(
        &["asyncio.run() cannot be called from a running event loop"],
        Code::ImportFailed,
        "The code calls asyncio.run() inside a running event loop.",
        "Await the coroutine instead, or make the factory async.",
    ),
    rule(
        &["relative URL without a base"],
        Code::ImportFailed,
        "A resource's address has no scheme.",
        "Write it with one, for example @mcp.resource(\"config://app\").",
    ),
    rule(
        &["must be a subset of the"],
        Code::ImportFailed,
        "The parameters of a resource template and of its function have different names.",
        "Give the function the same parameter names as stand in braces in the template.",
    ),
    rule(
        &["URI template must contain at least one parameter"],
        Code::ImportFailed,
        "A function with parameters is registered as a resource without a template.",
        "Put its parameters in braces into the resource's address, for example user://{user_id}.",
    ),
    rule(
        &["decorator was used incorrectly"],
        Code::ImportFailed,
        "A decorator such as @mcp.resource is used without its argument.",
        "Call it with its argument, for example @mcp.resource(\"config://app\").",
    ),
    rule(
        &["Functions with *", "are not supported as"],
        Code::ImportFailed,
        "A tool takes *args or **kwargs, for which no schema can be made.",
        "Name the tool's parameters and their types.",
    ),
    rule(
        &["Unable to generate pydantic-core schema"],
        Code::ImportFailed,
        "A tool has a parameter of a type for which no schema can be made.",
        "Use plain types, dataclasses or pydantic models for the tool's parameters.",
    ),
    rule(
        &["object has no attribute 'import_server'"],
        Code::ImportFailed,
        "import_server is gone since FastMCP 4.",
        "Use mcp.mount(server, namespace=\"…\") instead, or pin `fastmcp<4`.",
    ),
    rule(
        &["mount() got an unexpected keyword argument 'prefix'"],
        Code::ImportFailed,
        "mount(prefix=…) is gone since FastMCP 4.",
        "Write mount(server, namespace=\"…\") instead, or pin `fastmcp<4`.",
    ),
    rule(
        &["object has no attribute 'settings'"],
        Code::ImportFailed,
        "mcp.settings is gone since FastMCP 3.",
        "Remove the access; the platform sets host, port and path.",
    ),
    rule(
        &["enable_consent_screen"],
        Code::ImportFailed,
        "OAuthProxy has no argument enable_consent_screen.",
        "Use require_authorization_consent, which is on by default.",
    ),
    rule(
        &["jwt_signing_key is required"],
        Code::ImportFailed,
        "The server's own OAuth needs a signing key when there is no upstream client secret.",
        "Pass jwt_signing_key, read from a variable of the project.",
    ),
    rule(
        &["require the tasks extension"],
        Code::ServeFailed,
        "Some tools are tasks, and the server has no tasks extension.",
        "Install `fastmcp[tasks]` and call mcp.add_extension(TasksExtension()).",
    ),
    rule(
        &["task group was not initialized"],
        Code::ServeFailed,
        "The web application does not run the lifespan of the FastMCP application inside it.",
        "Pass it on: sub = mcp.http_app(path=\"/mcp\"); app = FastAPI(lifespan=sub.lifespan); app.mount(\"/\", sub).",
    ),
    rule(
        &["'FastMCP' object is not callable"],
        Code::ServeFailed,
        "A FastMCP object is mounted as if it were a web application.",
        "Mount mcp.http_app() instead of mcp, or name the FastMCP object in the entrypoint.",
    ),
    rule(
        &["address already in use"],
        Code::ServeFailed,
        "Something in the code already listens on the port that the platform gives.",
        "Remove the code that starts a server itself, such as mcp.run() or uvicorn.run() outside `if __name__ == \"__main__\":`.",
    ),
];

fn by_text(exception: &Exception<'_>) -> Option<Diagnosis> {
    let message = exception.message;
    if let Some(rule) = RULES
        .iter()
        .find(|rule| rule.texts.iter().all(|text| message.contains(text)))
    {
        return Some(diagnosis(rule.code, rule.cause, rule.fix));
    }
    match exception.class {
        "FileNotFoundError" => {
            let path = message.split("directory: ").nth(1).and_then(quoted)?;
            Some(diagnosis(
                Code::ImportFailed,
                format!("The code opens {path}, which does not exist."),
                "Push the file and open it relative to the code with Path(__file__).parent, or keep data in /data.",
            ))
        }
        "PermissionError" => Some(read_only(message)),
        "OSError" if message.contains("Errno 30") => Some(read_only(message)),
        _ => None,
    }
}

fn read_only(message: &str) -> Diagnosis {
    let path = message
        .split(": ")
        .nth(1)
        .and_then(quoted)
        .unwrap_or("a file");
    diagnosis(
        Code::ImportFailed,
        format!("The code writes {path}, where it may not."),
        "Write to /data for what is to stay, or to /tmp for what is not; everything else is read-only.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(class: &str, message: &str) -> Diagnosis {
        explained_in(class, message, Some("requirements.txt"))
    }

    fn explained_in(class: &str, message: &str, dependencies: Option<&str>) -> Diagnosis {
        explain(&Exception {
            class,
            message,
            code: None,
            dependencies,
        })
        .expect("a known exception")
    }

    #[test]
    fn the_sdks_two_majors_are_told_apart() {
        let found = explained(
            "ModuleNotFoundError",
            "No module named 'mcp.server.fastmcp'. This is mcp 2.x, where FastMCP was renamed to MCPServer",
        );
        assert_eq!(found.code, "import_error");
        assert_eq!(
            found.fix,
            "Pin `mcp<2` in requirements.txt, or import MCPServer from mcp.server.mcpserver instead."
        );
        let found = explained(
            "ModuleNotFoundError",
            "No module named 'mcp.server.mcpserver'",
        );
        assert!(found.fix.contains("`mcp>=2`"), "{}", found.fix);
    }

    #[test]
    fn missing_packages_are_named_as_the_index_does() {
        let found = explained("ModuleNotFoundError", "No module named 'yaml'");
        assert_eq!(
            found.cause,
            "The code imports yaml, which is not installed."
        );
        assert!(
            found.fix.starts_with("Add `pyyaml` to requirements.txt;"),
            "{}",
            found.fix
        );
        let found = explained_in(
            "ModuleNotFoundError",
            "No module named 'slack_sdk'",
            Some("uv.lock"),
        );
        assert!(
            found
                .fix
                .starts_with("Add `slack-sdk` to pyproject.toml (and run `uv lock`);"),
            "{}",
            found.fix
        );
        let found = explained_in(
            "ModuleNotFoundError",
            "No module named 'httpx'",
            Some("fastmcp (nothing declared)"),
        );
        assert!(
            found.fix.starts_with("Add `httpx` to a requirements.txt;"),
            "{}",
            found.fix
        );
        let found = explained(
            "ModuleNotFoundError",
            "No module named 'fastmcp.middleware'",
        );
        assert_eq!(found.fix, "Import from fastmcp.server.middleware instead.");
    }

    #[test]
    fn import_errors() {
        let found = explained(
            "ImportError",
            "cannot import name 'a' from partially initialized module 'x' (most likely due to a circular import) (/app/x.py)",
        );
        assert!(found.cause.contains("import each other"));
        let found = explained(
            "ImportError",
            "attempted relative import with no known parent package",
        );
        assert!(found.cause.contains("relative import"));
        let found = explained(
            "ImportError",
            "cannot import name 'Image' from 'fastmcp' (/env/lib/x.py)",
        );
        assert_eq!(found.fix, "Import Image from fastmcp.utilities.types.");
        let found = explained(
            "ImportError",
            "cannot import name 'gone' from 'httpx._x' (unknown location)",
        );
        assert_eq!(
            found.cause,
            "There is no gone in httpx._x as it is installed."
        );
        let found = explained("ImportError", "DiskStore requires py-key-value-aio[disk]");
        assert_eq!(
            found.fix,
            "Add `py-key-value-aio[disk]` to requirements.txt."
        );
        let found = explained(
            "ImportError",
            "libGL.so.1: cannot open shared object file: No such file or directory",
        );
        assert!(found.cause.contains("libGL.so.1"));
    }

    #[test]
    fn syntax_errors_are_quoted_without_their_place() {
        let found = explain(&Exception {
            class: "SyntaxError",
            message: "'(' was never closed (main.py, line 3)",
            code: Some("mcp = FastMCP('x'"),
            dependencies: None,
        })
        .expect("known");
        assert_eq!(found.code, "syntax_error");
        assert_eq!(
            found.cause,
            "The code is not valid Python: '(' was never closed in `mcp = FastMCP('x'`."
        );
    }

    #[test]
    fn texts_of_the_frameworks() {
        for (class, message, part) in [
            (
                "TypeError",
                "FastMCP() no longer accepts `host`. Pass `host` to `run_http_async()`",
                "Remove host",
            ),
            (
                "RuntimeError",
                "Already running asyncio in this thread",
                "__main__",
            ),
            (
                "ValueError",
                "Required function arguments {'uid'} must be a subset of the URI path parameters {'user_id'}",
                "same parameter names",
            ),
            (
                "PermissionError",
                "[Errno 13] Permission denied: '/var/lib/x'",
                "/data",
            ),
            (
                "OSError",
                "[Errno 30] Read-only file system: '/app/log.txt'",
                "/data",
            ),
            (
                "FileNotFoundError",
                "[Errno 2] No such file or directory: 'data/config.json'",
                "Path(__file__)",
            ),
        ] {
            let found = explained(class, message);
            assert!(found.fix.contains(part), "{message}: {}", found.fix);
        }
        assert!(
            explain(&Exception {
                class: "ValueError",
                message: "x",
                code: None,
                dependencies: None
            })
            .is_none()
        );
    }
}
