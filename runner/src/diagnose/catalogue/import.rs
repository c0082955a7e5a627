//! Importing the project's code: syntax, modules and names that are not there.

use super::{ALL_FASTMCP, FASTMCP_3, FASTMCP_4, MCP_1, MCP_2, SINCE_FASTMCP_3, SINCE_FASTMCP_4};
use crate::diagnose::code::Code;
use crate::diagnose::entry::{Change, Entry, Exception, Match, Phase, class, raised};

const NOT_FOUND: &[&str] = &["ModuleNotFoundError"];
const IMPORT: &[&str] = &["ImportError", "ModuleNotFoundError"];
const SYNTAX: &[&str] = &["SyntaxError", "IndentationError", "TabError"];

/// An entry of the phase.
const fn imported(
    code: Code,
    title: &'static str,
    matches: &'static [Match],
    cause: &'static str,
    fix: &'static str,
) -> Entry {
    Entry {
        code,
        phase: Phase::Import,
        title,
        matches,
        cause,
        fix,
        change: Change::None,
        verified: &[FASTMCP_4],
        rows: &[],
    }
}

pub const ENTRIES: &[Entry] = &[
    Entry {
        change: Change::Replace(&[("type ", "")]),
        rows: &["E14"],
        ..imported(
            Code::SyntaxNeedsNewerPython,
            "The code is written for Python 3.12 or newer",
            &[Match::Exception(Exception {
                classes: SYNTAX,
                texts: &["invalid syntax"],
                line: &["type "],
                with: None,
            })],
            "A `type` statement needs Python 3.12, and the project runs with an older one{code}.",
            "Ask for a newer Python in .python-version, or write the alias without the word type.",
        )
    },
    Entry {
        rows: &["X5"],
        ..imported(
            Code::SyntaxError,
            "The code is not valid Python",
            &[class(SYNTAX)],
            "The code is not valid Python: {syntax}{code}.",
            "Correct the line, check it with `python -m py_compile`, and deploy again.",
        )
    },
    Entry {
        change: Change::Replace(&[("from mcp.server.fastmcp import", "from fastmcp import")]),
        verified: SINCE_FASTMCP_4,
        rows: &["X1"],
        ..imported(
            Code::McpUnderFastmcp,
            "The code imports the SDK's FastMCP, and FastMCP 4 is installed",
            &[Match::Exception(Exception {
                classes: NOT_FOUND,
                texts: &["No module named 'mcp.server.fastmcp"],
                line: &[],
                with: Some("fastmcp"),
            })],
            "The code imports mcp.server.fastmcp, which only mcp 1.x has; FastMCP {fastmcp_version} brings mcp 2.x.",
            "Import FastMCP from the package fastmcp, which has the same class and is installed.",
        )
    },
    Entry {
        change: Change::Require("mcp<2"),
        verified: &[MCP_2],
        rows: &["X1"],
        ..imported(
            Code::McpTooNew,
            "The code is written for mcp 1.x, and mcp 2.x is installed",
            &[raised(NOT_FOUND, &["No module named 'mcp.server.fastmcp"])],
            "The code imports mcp.server.fastmcp, which only mcp 1.x has, and mcp 2.x is installed.",
            "Pin `mcp<2` in {file}, or import MCPServer from mcp.server.mcpserver instead.",
        )
    },
    Entry {
        change: Change::Require("mcp>=2"),
        verified: &[MCP_1],
        rows: &["X1"],
        ..imported(
            Code::McpTooOld,
            "The code is written for mcp 2.x, and mcp 1.x is installed",
            &[raised(
                NOT_FOUND,
                &["No module named 'mcp.server.mcpserver"],
            )],
            "The code imports mcp.server.mcpserver, which only mcp 2.x has, and mcp 1.x is installed.",
            "Ask for `mcp>=2` in {file}, or import FastMCP from mcp.server.fastmcp instead.",
        )
    },
    Entry {
        change: Change::Replace(&[
            (
                "from fastmcp.server.auth.providers.bearer import BearerAuthProvider",
                JWT_VERIFIER,
            ),
            (
                "from fastmcp.server.auth import BearerAuthProvider",
                JWT_VERIFIER,
            ),
            ("from fastmcp.auth import BearerAuthProvider", JWT_VERIFIER),
        ]),
        verified: ALL_FASTMCP,
        rows: &["E26"],
        ..imported(
            Code::BearerAuthRemoved,
            "BearerAuthProvider is gone",
            &[
                raised(
                    NOT_FOUND,
                    &[
                        "No module named 'fastmcp.auth",
                        "No module named 'fastmcp.server.auth.providers.bearer",
                    ],
                ),
                raised(
                    IMPORT,
                    &["cannot import name 'BearerAuthProvider' from 'fastmcp"],
                ),
            ],
            "BearerAuthProvider and its module are gone since FastMCP 2.14.",
            "Use JWTVerifier, which takes the same arguments.",
        )
    },
    Entry {
        change: Change::Replace(&[
            ("fastmcp.middleware", "fastmcp.server.middleware"),
            ("fastmcp.providers", "fastmcp.server.providers"),
            ("fastmcp.transforms", "fastmcp.server.transforms"),
            ("fastmcp.sampling", "fastmcp.client.sampling"),
        ]),
        verified: ALL_FASTMCP,
        rows: &["E18"],
        ..imported(
            Code::FastmcpModuleMoved,
            "A module of FastMCP has another name",
            &[raised(
                NOT_FOUND,
                &[
                    "No module named 'fastmcp.middleware",
                    "No module named 'fastmcp.providers",
                    "No module named 'fastmcp.transforms",
                    "No module named 'fastmcp.sampling",
                ],
            )],
            "The code imports a module that no release of FastMCP has: {message}.",
            "FastMCP keeps middleware, providers and transforms below fastmcp.server, and sampling below fastmcp.client.",
        )
    },
    Entry {
        change: Change::Replace(&[
            ("key_value.stores", "key_value.aio.stores"),
            ("key_value.encryption", "key_value.aio.wrappers.encryption"),
        ]),
        verified: ALL_FASTMCP,
        rows: &["E16"],
        ..imported(
            Code::StoreModuleMoved,
            "A module of py-key-value has another name",
            &[raised(
                NOT_FOUND,
                &[
                    "No module named 'key_value.stores",
                    "No module named 'key_value.encryption",
                ],
            )],
            "py-key-value keeps its stores and wrappers below key_value.aio.",
            "Import stores from key_value.aio.stores, and encryption from key_value.aio.wrappers.encryption.",
        )
    },
    Entry {
        change: Change::Replace(&[
            (
                "from fastmcp import FastMCP, Image",
                "from fastmcp import FastMCP\nfrom fastmcp.utilities.types import Image",
            ),
            (
                "from fastmcp.utilities import Image",
                "from fastmcp.utilities.types import Image",
            ),
            (
                "from fastmcp import Image",
                "from fastmcp.utilities.types import Image",
            ),
            (
                "from fastmcp import FastMCP, Icon",
                "from fastmcp import FastMCP\nfrom mcp.types import Icon",
            ),
            ("from fastmcp import Icon", "from mcp.types import Icon"),
        ]),
        verified: ALL_FASTMCP,
        rows: &["E24", "E28"],
        ..imported(
            Code::FastmcpNameMoved,
            "A name of FastMCP stands in another module",
            &[raised(
                IMPORT,
                &[
                    "cannot import name 'Image' from 'fastmcp",
                    "cannot import name 'Icon' from 'fastmcp",
                ],
            )],
            "FastMCP has no such name where the code imports it from.",
            "Import Image from fastmcp.utilities.types, and Icon from mcp.types.",
        )
    },
    Entry {
        change: Change::Replace(&[
            ("from {top} import", "from {dotted} import"),
            ("from {top}.", "from {dotted}."),
            ("import {top}", "import {dotted} as {top}"),
        ]),
        rows: &["E8"],
        ..imported(
            Code::ModuleElsewhere,
            "A module of the project is not on the import path",
            &[Match::Found(
                "A module is missing, and the source has one of its name in a directory that is not searched.",
            )],
            "The code imports {top}, which is at {place} in the source; only the root, src/ and the entrypoint's directory are searched.",
            "Import it by its whole name, {dotted}, or move {top} to the root.",
        )
    },
    imported(
        Code::SubmoduleMissing,
        "A package has no such module",
        &[raised(NOT_FOUND, &["No module named '{parent}.{child}'"])],
        "There is no module {parent}.{child} in what is installed.",
        "Check the name, and that {file} asks for a release of {parent} that has it; if it is your own module, push it.",
    ),
    Entry {
        change: Change::Require("{package}"),
        rows: &["E8", "E16"],
        ..imported(
            Code::PackageMissing,
            "A package is not installed",
            &[raised(NOT_FOUND, &["No module named '{module}'"])],
            "The code imports {top}, which is not installed.",
            "Add `{package}` to {file}; if {top} is your own module, push it or set the entrypoint to a file beside it.",
        )
    },
    Entry {
        rows: &["E13"],
        ..imported(
            Code::CircularImport,
            "Two modules import each other",
            &[raised(
                IMPORT,
                &[
                    "cannot import name '{name}' from partially initialized module '{other}' (most likely due to a circular import)",
                ],
            )],
            "This module and {other} import each other, so {name} is not there yet when it is asked for.",
            "Move {name} into a third module that both import, or import it inside the function that uses it.",
        )
    },
    Entry {
        change: Change::Replace(&[("from .", "from ")]),
        rows: &["E8"],
        ..imported(
            Code::RelativeImport,
            "A relative import outside a package",
            &[raised(IMPORT, &["attempted relative import"])],
            "A relative import is used in a file that is not part of a package.",
            "Import by name without the dot, or add an __init__.py beside the file.",
        )
    },
    Entry {
        change: Change::Require("py-key-value-aio[{extra}]"),
        verified: SINCE_FASTMCP_3,
        rows: &["E16"],
        ..imported(
            Code::StoreExtraMissing,
            "A store needs an extra",
            &[raised(IMPORT, &["requires py-key-value-aio[{extra}]"])],
            "The code uses a store of py-key-value-aio that needs its extra {extra}.",
            "Add `py-key-value-aio[{extra}]` to {file}.",
        )
    },
    Entry {
        change: Change::Extra("fastmcp", "tasks"),
        verified: &[FASTMCP_3],
        rows: &["E30"],
        ..imported(
            Code::TasksExtraMissing,
            "Background tasks need an extra",
            &[raised(IMPORT, &["require the `tasks` extra"])],
            "The code uses background tasks, which need FastMCP's extra `tasks`.",
            "Ask for `fastmcp[tasks]` in {file}.",
        )
    },
    imported(
        Code::SystemLibraryMissing,
        "A system library is not there",
        &[raised(
            &["ImportError", "OSError"],
            &["{library}: cannot open shared object file"],
        )],
        "A package needs the system library {library}, which the runtime does not have.",
        "Use a package whose wheel brings it along, often one that ends in -binary or -headless.",
    ),
    imported(
        Code::NameNotInModule,
        "A module has no such name",
        &[raised(
            IMPORT,
            &["cannot import name '{name}' from '{module}'"],
        )],
        "There is no {name} in {module} as it is installed.",
        "Correct the name, or ask in {file} for a release of {top} that has it.",
    ),
    imported(
        Code::ImportError,
        "A module cannot be imported",
        &[class(IMPORT)],
        "A module cannot be imported: {message}.",
        "Install what it names through {file}, or correct the import.",
    ),
];

const JWT_VERIFIER: &str =
    "from fastmcp.server.auth.providers.jwt import JWTVerifier as BearerAuthProvider";
