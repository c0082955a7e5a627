//! Resolving and installing dependencies, from the build program's stable codes and what the
//! installer (uv 0.9) prints.

use crate::diagnose::code::Code;
use crate::diagnose::entry::{Change, Entry, Match, Phase};

/// An entry that the build program's report leads to.
const fn installed(
    code: Code,
    title: &'static str,
    matches: &'static [Match],
    cause: &'static str,
    fix: &'static str,
) -> Entry {
    Entry {
        code,
        phase: Phase::Install,
        title,
        matches,
        cause,
        fix,
        change: Change::None,
        verified: &[],
        rows: &[],
    }
}

pub const ENTRIES: &[Entry] = &[
    Entry {
        change: Change::Unpin("{package}"),
        rows: &["X2"],
        ..installed(
            Code::DependencyVersionNotFound,
            "A dependency has no such version",
            &[
                Match::Build(
                    "no_solution",
                    "there is no version of {package}=={version} and",
                ),
                Match::Build(
                    "no_solution",
                    "there is no version of {package}=={version}, we",
                ),
            ],
            "The package index has {package}, but no version {version} of it.",
            "Ask for a version of {package} that exists.",
        )
    },
    Entry {
        rows: &["X2"],
        ..installed(
            Code::DependencyPythonConflict,
            "A dependency needs another Python",
            &[
                Match::Build(
                    "no_solution",
                    "current Python version ({python}) does not satisfy Python{wanted} and",
                ),
                Match::Build("python_version", ""),
            ],
            "The dependencies need another Python than the project runs with: {why}.",
            "Ask for a Python that they support in .python-version or requires-python, or choose another release of the package.",
        )
    },
    Entry {
        rows: &["X2"],
        ..installed(
            Code::DependenciesUnresolvable,
            "The dependencies contradict each other",
            &[Match::Build("no_solution", "")],
            "The dependencies cannot be installed together: {why}.",
            "Loosen the versions in {file} that contradict each other and deploy again.",
        )
    },
    Entry {
        change: Change::Forgo("{package}"),
        ..installed(
            Code::DependencyNotFound,
            "A dependency does not exist",
            &[Match::Build("not_found", "")],
            "The package index has no {package}.",
            "Correct the name in {file}; the name to install can differ from the name to import.",
        )
    },
    installed(
        Code::BuildOutOfMemory,
        "A build used more memory than it has",
        &[
            Match::Build("out_of_memory", ""),
            Match::Found("The kernel ended the build for its memory, or it was killed (137)."),
        ],
        "The build used more than its {limit} of memory and was ended.",
        "Choose releases that have a wheel, so that nothing is compiled, or depend on smaller packages.",
    ),
    Entry {
        change: Change::Unpin("{package}"),
        ..installed(
            Code::CompilerMissing,
            "A dependency has to be compiled, and there is no compiler",
            &[
                Match::Build(
                    "build_failed",
                    "command '{compiler}' failed: No such file or directory",
                ),
                Match::Build("build_failed", "error: command '{compiler}' failed: None"),
                Match::Build(
                    "build_failed",
                    "No such file or directory: 'x86_64-linux-gnu-{compiler}'",
                ),
                Match::Build(
                    "build_failed",
                    "No such file or directory: 'aarch64-linux-gnu-{compiler}'",
                ),
                Match::Build("build_failed", "No such file or directory: 'gcc'"),
                Match::Build("build_failed", "No such file or directory: 'cc'"),
                Match::Build("build_failed", "Unknown compiler(s)"),
                Match::Build("build_failed", "can't find Rust compiler"),
            ],
            "{package} has no ready-made wheel for this Python and would have to be compiled; there is no compiler here.",
            "Choose a release of {package} that has a wheel, often the newest one, or a package ending in -binary.",
        )
    },
    Entry {
        change: Change::Swap(&[("psycopg2", "psycopg2-binary")]),
        ..installed(
            Code::BuildLibraryMissing,
            "A dependency needs a system library to be built",
            &[
                Match::Build("build_failed", "{program} executable not found"),
                Match::Build(
                    "build_failed",
                    "fatal error: {program}: No such file or directory",
                ),
            ],
            "{package} has no ready-made wheel for this Python, and building it needs {program}, which is not here.",
            "Choose a package that brings it along, such as one ending in -binary, or a release that has a wheel.",
        )
    },
    installed(
        Code::DependencyBuildFailed,
        "A dependency could not be built",
        &[Match::Build("build_failed", "")],
        "{package} has no ready-made wheel for this Python and could not be built: {why}.",
        "Choose a release of it that has a wheel, or a package ending in -binary.",
    ),
    installed(
        Code::DependencyFromGit,
        "A dependency comes straight from a Git repository",
        &[Match::Build("git_missing", "")],
        "{file} asks for a package straight from a Git repository, and builds have no Git.",
        "Depend on a released version, or on the repository's archive address (…/archive/COMMIT.zip).",
    ),
    installed(
        Code::DependencyHashMismatch,
        "A dependency's file is not the expected one",
        &[Match::Build("hash_mismatch", "")],
        "The file of {package} that the index gives is not the one that {file} expects.",
        "Lock again if the package was published anew on purpose; otherwise find out who changed it.",
    ),
    installed(
        Code::RequirementInvalid,
        "A requirement cannot be understood",
        &[Match::Build("invalid_requirement", "")],
        "{file} cannot be understood: {why}.",
        "Correct the line it names and deploy again.",
    ),
    installed(
        Code::LockOutdated,
        "The lock file does not match the project",
        &[Match::Build("lock_outdated", "")],
        "uv.lock does not match pyproject.toml.",
        "Run `uv lock`, commit uv.lock, and deploy again.",
    ),
    installed(
        Code::RegistryUnreachable,
        "The package index does not answer",
        &[Match::Build("network", "")],
        "The package index could not be reached: {why}.",
        "Deploy again in a few minutes; if it stays, ask the operator whether builds can reach the index.",
    ),
    installed(
        Code::BuildDiskFull,
        "A build used more disk than it has",
        &[Match::Build("disk", "")],
        "The disk for builds is full, or a package needs more temporary space to be built than there is.",
        "Depend on fewer or smaller packages, or on releases that have a wheel; if that is not it, ask the operator to make room.",
    ),
    installed(
        Code::DockerfileStepFailed,
        "A step of the Dockerfile failed",
        &[Match::Found(
            "A command of RUN ended with another status than 0 or was not there, or COPY could not put a file where it says.",
        )],
        "The step {step} failed: {why}.",
        "Correct what the last lines name; the whole output is in the build's log.",
    ),
    installed(
        Code::BuildScriptFailed,
        "The project's build script failed",
        &[Match::Found(
            "The script `build` of package.json ended with another status than 0.",
        )],
        "The script {script} failed: {why}.",
        "Run it where you develop after a clean install (`npm ci && npm run build`), correct what it names, and deploy again.",
    ),
    installed(
        Code::BuildCommandFailed,
        "The build command failed",
        &[Match::Found(
            "The command that the project's settings name was not found, or ended with another status than 0.",
        )],
        "The build command {command} failed: {why}.",
        "Read what the command wrote in the build's log. It runs without a shell, in the root directory, with the dependencies' programs in front of the runtime's.",
    ),
    installed(
        Code::BuildTimeout,
        "The build took too long",
        &[Match::Found("The time that a build may take is over.")],
        "The build took longer than {seconds} seconds.",
        "Deploy again, since what was downloaded is kept; if it stays, depend on fewer or smaller packages.",
    ),
];
