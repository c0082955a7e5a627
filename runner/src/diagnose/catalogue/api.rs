//! What FastMCP refuses while the code is imported: renamed, removed and misused parts of it.

use super::{ALL_FASTMCP, FASTMCP_2, FASTMCP_4, SINCE_FASTMCP_3, SINCE_FASTMCP_4};
use crate::diagnose::code::Code;
use crate::diagnose::entry::{Change, Entry, Match, Phase, raised};

const TYPE: &[&str] = &["TypeError"];
const VALUE: &[&str] = &["ValueError"];
const ATTRIBUTE: &[&str] = &["AttributeError"];

/// Arguments that say where to listen; the platform sets all of it.
const TRANSPORT_ARGUMENTS: &[&str] = &[
    "host",
    "port",
    "sse_path",
    "message_path",
    "streamable_http_path",
    "json_response",
    "stateless_http",
    "debug",
    "log_level",
];

/// An entry of the phase.
const fn refused(
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
        verified: ALL_FASTMCP,
        rows: &[],
    }
}

pub const ENTRIES: &[Entry] = &[
    Entry {
        change: Change::Drop(TRANSPORT_ARGUMENTS),
        verified: SINCE_FASTMCP_3,
        rows: &["E9"],
        ..refused(
            Code::FastmcpTransportArgument,
            "FastMCP(…) is told where to listen",
            &[raised(TYPE, &["FastMCP() no longer accepts `{argument}`"])],
            "FastMCP(…) is given {argument}, which FastMCP 3 and later do not take.",
            "Remove host, port and other transport arguments from FastMCP(…); the platform sets them.",
        )
    },
    Entry {
        change: Change::Drop(&["{argument}"]),
        rows: &["E9", "E16", "E21"],
        ..refused(
            Code::FastmcpUnknownArgument,
            "FastMCP(…) is given an argument that it does not have",
            &[raised(
                TYPE,
                &[
                    "FastMCP() got unexpected keyword argument(s): {arguments}",
                    "FastMCP.__init__() got an unexpected keyword argument {arguments}",
                ],
            )],
            "FastMCP(…) is given {arguments}, which this release does not take.",
            "Remove the argument; dependencies belong into requirements.txt or fastmcp.json.",
        )
    },
    Entry {
        verified: SINCE_FASTMCP_3,
        rows: &["E9"],
        ..refused(
            Code::FastmcpSettingsRemoved,
            "mcp.settings is gone",
            &[raised(
                ATTRIBUTE,
                &["'FastMCP' object has no attribute 'settings'"],
            )],
            "The code uses mcp.settings, which is gone since FastMCP 3{code}.",
            "Remove the line; the platform sets host, port and path.",
        )
    },
    Entry {
        change: Change::Replace(&[
            ("'{uri}'", "'resource://{uri}'"),
            ("\"{uri}\"", "\"resource://{uri}\""),
        ]),
        rows: &["E4"],
        ..refused(
            Code::ResourceUriWithoutScheme,
            "A resource's address has no scheme",
            &[raised(
                &["ValidationError"],
                &["relative URL without a base [type=url_parsing, input_value='{uri}'"],
            )],
            "The resource's address {uri} has no scheme.",
            "Write it with one, for example resource://{uri}.",
        )
    },
    Entry {
        change: Change::Replace(&[(".resource", ".resource(\"resource://value\")")]),
        rows: &["E4"],
        ..refused(
            Code::DecoratorWithoutCall,
            "A decorator is used without its argument",
            &[raised(
                TYPE,
                &["The @{decorator} decorator was used incorrectly"],
            )],
            "The decorator @{decorator} is used without its argument.",
            "Call it with its argument.",
        )
    },
    Entry {
        change: Change::Replace(&[("{{inside}}", "{{outside}}")]),
        rows: &["E5"],
        ..refused(
            Code::ResourceParametersDiffer,
            "A resource template and its function have different parameters",
            &[raised(
                VALUE,
                &[
                    "Required function arguments {'{outside}'} must be a subset of the URI path parameters {'{inside}'}",
                    "URI parameters {{names}} must be a subset of the function arguments",
                    "must be a subset of the URI path parameters",
                ],
            )],
            "The parameters of a resource template and of its function have different names.",
            "Give the function the same parameter names as stand in braces in the template.",
        )
    },
    Entry {
        rows: &["E5"],
        ..refused(
            Code::ResourceTemplateWithoutParameter,
            "A function with parameters is a resource without a template",
            &[raised(
                VALUE,
                &["URI template must contain at least one parameter"],
            )],
            "A function with parameters is registered as a resource whose address has none.",
            "Put the function's parameters in braces into the address, for example user://{user_id}.",
        )
    },
    Entry {
        rows: &["E11"],
        ..refused(
            Code::ToolVariadic,
            "A tool takes any arguments",
            &[raised(
                VALUE,
                &["Functions with {stars} are not supported as"],
            )],
            "A tool, prompt or resource takes {stars}, for which no schema can be made.",
            "Name its parameters and their types.",
        )
    },
    Entry {
        change: Change::Replace(&[(".tool(lambda", ".tool(name=\"tool\")(lambda")]),
        rows: &["E11"],
        ..refused(
            Code::LambdaWithoutName,
            "A lambda is a tool without a name",
            &[raised(
                VALUE,
                &["You must provide a name for lambda functions"],
            )],
            "A lambda function is registered without a name.",
            "Give it one: mcp.tool(name=\"…\")(lambda …), or write a function.",
        )
    },
    Entry {
        rows: &["E11"],
        ..refused(
            Code::TypeWithoutSchema,
            "A parameter has a type without a schema",
            &[raised(
                &["PydanticSchemaGenerationError"],
                &[
                    "Unable to generate pydantic-core schema for <class '{type}'>",
                    "Unable to generate pydantic-core schema for {type}.",
                ],
            )],
            "A tool has a parameter of the type {type}, for which no schema can be made.",
            "Use plain types, dataclasses or pydantic models for the parameters of tools.",
        )
    },
    Entry {
        verified: SINCE_FASTMCP_4,
        rows: &["E20"],
        ..refused(
            Code::ImportServerRemoved,
            "import_server is gone",
            &[raised(
                ATTRIBUTE,
                &["object has no attribute 'import_server'"],
            )],
            "The code uses import_server, which is gone since FastMCP 4.",
            "Write mcp.mount(server, namespace=\"…\") instead, without await, or pin `fastmcp<4`.",
        )
    },
    Entry {
        change: Change::Replace(&[("prefix=", "namespace=")]),
        verified: SINCE_FASTMCP_4,
        rows: &["E20"],
        ..refused(
            Code::MountPrefixRemoved,
            "mount(prefix=…) is gone",
            &[raised(
                TYPE,
                &["mount() got an unexpected keyword argument 'prefix'"],
            )],
            "mount is given prefix, which is called namespace since FastMCP 4.",
            "Write namespace instead of prefix, or pin `fastmcp<4`.",
        )
    },
    Entry {
        change: Change::Drop(&[
            "max_requests",
            "window_seconds",
            "ttl_seconds",
            "{argument}",
        ]),
        rows: &["E18"],
        ..refused(
            Code::MiddlewareArgument,
            "A middleware is given an argument that it does not have",
            &[raised(
                TYPE,
                &[
                    "{class_name}Middleware.__init__() got an unexpected keyword argument {arguments}",
                ],
            )],
            "{class_name}Middleware is given {arguments}, which it does not take.",
            "Leave it out, or write what the installed release has: max_requests_per_second for rate limiting, call_tool_settings and its like for caching.",
        )
    },
    Entry {
        phase: Phase::Check,
        rows: &["E19"],
        ..refused(
            Code::MiddlewareSignature,
            "A middleware's method has other parameters",
            &[raised(
                &[],
                &["{method}() got an unexpected keyword argument 'call_next'"],
            )],
            "The middleware's method {method} does not take what FastMCP gives it.",
            "Declare it as async def method(self, context, call_next), and return await call_next(context).",
        )
    },
    Entry {
        change: Change::Replace(&[("enable_consent_screen", "require_authorization_consent")]),
        rows: &["E22"],
        ..refused(
            Code::OauthConsentArgument,
            "OAuthProxy has no enable_consent_screen",
            &[raised(
                TYPE,
                &["got an unexpected keyword argument 'enable_consent_screen'"],
            )],
            "The OAuth proxy is given enable_consent_screen, which no release takes.",
            "Write require_authorization_consent, which is on by default.",
        )
    },
    Entry {
        verified: SINCE_FASTMCP_3,
        rows: &["E23"],
        ..refused(
            Code::OauthSigningKeyMissing,
            "The server's own OAuth has no signing key",
            &[raised(
                VALUE,
                &[
                    "jwt_signing_key is required",
                    "Either high_entropy_material or low_entropy_material must be provided",
                ],
            )],
            "The server's own OAuth needs a signing key, since it has no upstream client secret to derive one from.",
            "Pass jwt_signing_key=os.environ[\"JWT_SIGNING_KEY\"], and set that variable on the project's page.",
        )
    },
    Entry {
        verified: ALL_FASTMCP,
        rows: &["E23"],
        ..refused(
            Code::OauthArgumentMissing,
            "The server's own OAuth lacks an argument",
            &[raised(
                TYPE,
                &[
                    "Provider.__init__() missing {count} required keyword-only argument{s}: {arguments}",
                    "OAuthProxy.__init__() missing {count} required keyword-only argument{s}: {arguments}",
                ],
            )],
            "The server's own OAuth is not given {arguments}.",
            "Pass each of them, read from variables of the project; base_url is the project's address, in BERTH_PUBLIC_URL.",
        )
    },
    Entry {
        rows: &["E24"],
        ..refused(
            Code::IconFromFile,
            "Icon has no from_file",
            &[raised(ATTRIBUTE, &["from_file"])],
            "The code uses Icon.from_file, which no release has.",
            "Write Icon(src=\"https://…\", mimeType=\"image/png\", sizes=[\"48x48\"]); src can be a data: address.",
        )
    },
    Entry {
        change: Change::Replace(&[("task=True", "task=False")]),
        verified: &[FASTMCP_2, FASTMCP_4],
        rows: &["E30"],
        ..refused(
            Code::TaskSyncFunction,
            "A background task is not async",
            &[raised(
                VALUE,
                &["'{name}' uses a sync function but has task execution enabled"],
            )],
            "{name} is to run as a background task and is not an async function.",
            "Write async def {name}, or take task=True away.",
        )
    },
];
