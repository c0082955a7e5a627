//! Reading from the source what to start and what to install. Their sentences are made where the
//! fault is found, since they name the files.

use crate::diagnose::code::Code;
use crate::diagnose::entry::{Change, Entry, Match, Phase};

/// An entry that the planner finds.
const fn planned(
    code: Code,
    title: &'static str,
    matches: &'static [Match],
    cause: &'static str,
    fix: &'static str,
) -> Entry {
    Entry {
        code,
        phase: Phase::Plan,
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
    planned(
        Code::NoEntrypoint,
        "No file to start was found",
        &[Match::Found(
            "No usual file is there, and not exactly one file makes a server.",
        )],
        "There is no file to start: no `main.py`, no `server.py`, and no other single file that makes a server.",
        "Set the entrypoint, for example `src/app.py:mcp`.",
    ),
    planned(
        Code::EntrypointInvalid,
        "The entrypoint is not written correctly",
        &[Match::Found("The entrypoint is read before the source is.")],
        "The entrypoint is not written as `file.py`, `file.py:object` or `package.module:object`, or leaves the source.",
        "Write it relative to the root of the source.",
    ),
    planned(
        Code::EntrypointExcluded,
        "The entrypoint's file is left out by an ignore file",
        &[Match::Found(
            "The file is missing, and a line of `.gitignore` or `.dockerignore` leaves it out.",
        )],
        "The entrypoint's file {path} is not part of the source, because {ignore} leaves it out.",
        "Remove the line from {ignore}, or add `!{path}` after it, and deploy again.",
    ),
    Entry {
        rows: &["E1"],
        ..planned(
            Code::EntrypointNotFound,
            "The entrypoint's file does not exist",
            &[Match::Found("The source has no file of that name.")],
            "The file that the entrypoint names is not in this commit.",
            "Check the path; the message names files that look like servers.",
        )
    },
    planned(
        Code::ConfigurationInvalid,
        "A configuration file cannot be used",
        &[Match::Found(
            "A file such as `fastmcp.json`, `pyproject.toml` or `requirements.txt` is read before anything is installed.",
        )],
        "A configuration file cannot be read, or asks for something that is not possible.",
        "Correct what the message names.",
    ),
    planned(
        Code::PythonVersionUnavailable,
        "The Python version is not installed here",
        &[Match::Found(
            "No runtime image satisfies what the project asks for.",
        )],
        "The project asks for a Python version that this platform has no runtime image for.",
        "Choose one of those the message names, or ask the operator to build the image.",
    ),
    planned(
        Code::NodeVersionUnavailable,
        "The Node version is not installed here",
        &[Match::Found(
            "No runtime image satisfies `engines.node`, `.node-version` or `.nvmrc`, or a package needs another Node.",
        )],
        "The project, or a package of it, asks for a Node version that this platform has no runtime image for.",
        "Ask for one of those the message names, or ask the operator to build the image with `deploy/images/build node:22`.",
    ),
    planned(
        Code::DependencyFileNotFound,
        "A dependency file does not exist",
        &[
            Match::Found("A file of dependencies names another one that is not there."),
            Match::Build("missing_file", ""),
        ],
        "A file of dependencies that another file names is missing.",
        "Add it to the source, or remove the reference.",
    ),
    planned(
        Code::DockerfileInvalid,
        "The Dockerfile holds what cannot be built here",
        &[Match::Found(
            "The Dockerfile is read before anything of it runs, and what a step takes of the source is counted before it is done.",
        )],
        "The Dockerfile is not well-formed, or asks for what its builder would have to do with more rights than a build has here.",
        "Do what the diagnosis of the line says; the usual instructions are all built here.",
    ),
    planned(
        Code::BaseImageUnavailable,
        "The Dockerfile's base image is not here",
        &[Match::Found(
            "FROM or COPY --from names no runtime of this platform and nothing that its operator allows to be pulled, or the engine cannot pull it.",
        )],
        "There is no such base image here.",
        "Begin with an official Python or Node image in a version that is here; whatever else is for the operator to allow, by BERTH_PULL_IMAGES.",
    ),
    planned(
        Code::CopySourceMissing,
        "The Dockerfile copies a file that is not there",
        &[Match::Found(
            "A source of COPY, ADD or a bind mount is not in the root directory, is left out by .dockerignore, or is not in the image it is copied from.",
        )],
        "The Dockerfile copies what is not in the source.",
        "Correct the path, which begins at the project's root directory, or take it out of .dockerignore.",
    ),
    planned(
        Code::DockerfileNothingToStart,
        "The Dockerfile says nothing of what to start",
        &[Match::Found(
            "Its last stage has neither CMD nor ENTRYPOINT, and no start command is set.",
        )],
        "The Dockerfile's last stage has no CMD and no ENTRYPOINT.",
        "Add a CMD, or set a start command.",
    ),
];
