//! The stable names of diagnoses. What each one means stands in the catalogue, under its name.

macro_rules! codes {
    ($($variant:ident $code:literal)+) => {
        /// What went wrong, as a stable name. The text of [`Code::as_str`] never changes meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $code] $variant,)+
        }

        impl Code {
            /// The stable name, for example `entrypoint_not_found`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }
        }

        /// Every code there is.
        #[cfg(test)]
        pub(super) const ALL: &[Code] = &[$(Code::$variant,)+];
    };
}

codes! {
    SourceUrlInvalid "source_url_invalid"
    AddressForbidden "address_forbidden"
    RepositoryUnreachable "repository_unreachable"
    RepositoryNotFound "repository_not_found"
    RepositoryEmpty "repository_empty"
    RepositoryUnreadable "repository_unreadable"
    RefNotFound "ref_not_found"
    CommitNotFound "commit_not_found"
    FetchTimeout "fetch_timeout"
    SourceTooLarge "source_too_large"
    SymlinkEscapes "symlink_escapes"
    FileNameInvalid "file_name_invalid"
    ArchiveCorrupt "archive_corrupt"
    UploadMissing "upload_missing"

    NoEntrypoint "no_entrypoint"
    EntrypointInvalid "entrypoint_invalid"
    EntrypointNotFound "entrypoint_not_found"
    EntrypointExcluded "entrypoint_excluded"
    ConfigurationInvalid "configuration_invalid"
    PythonVersionUnavailable "python_version_unavailable"
    NodeVersionUnavailable "node_version_unavailable"
    DependencyFileNotFound "dependency_file_not_found"
    DockerfileInvalid "dockerfile_invalid"
    BaseImageUnavailable "base_image_unavailable"
    CopySourceMissing "copy_source_missing"
    DockerfileNothingToStart "dockerfile_nothing_to_start"

    DependenciesUnresolvable "dependencies_unresolvable"
    DependencyVersionNotFound "dependency_version_not_found"
    DependencyNotFound "dependency_not_found"
    DependencyPythonConflict "dependency_python_conflict"
    CompilerMissing "compiler_missing"
    BuildLibraryMissing "build_library_missing"
    DependencyBuildFailed "dependency_build_failed"
    DependencyFromGit "dependency_from_git"
    DependencyHashMismatch "dependency_hash_mismatch"
    RequirementInvalid "requirement_invalid"
    LockOutdated "lock_outdated"
    RegistryUnreachable "registry_unreachable"
    BuildOutOfMemory "build_out_of_memory"
    BuildDiskFull "build_disk_full"
    BuildScriptFailed "build_script_failed"
    BuildCommandFailed "build_command_failed"
    DockerfileStepFailed "dockerfile_step_failed"
    BuildTimeout "build_timeout"

    SyntaxNeedsNewerPython "syntax_needs_newer_python"
    SyntaxError "syntax_error"
    McpUnderFastmcp "mcp_under_fastmcp"
    McpTooNew "mcp_too_new"
    McpTooOld "mcp_too_old"
    BearerAuthRemoved "bearer_auth_removed"
    FastmcpModuleMoved "fastmcp_module_moved"
    StoreModuleMoved "store_module_moved"
    FastmcpNameMoved "fastmcp_name_moved"
    ModuleElsewhere "module_elsewhere"
    SubmoduleMissing "submodule_missing"
    PackageMissing "package_missing"
    CircularImport "circular_import"
    RelativeImport "relative_import"
    NameNotInModule "name_not_in_module"
    StoreExtraMissing "store_extra_missing"
    TasksExtraMissing "tasks_extra_missing"
    SystemLibraryMissing "system_library_missing"
    ImportError "import_error"

    MissingVariable "missing_variable"
    ImportExited "import_exited"
    FileMissing "file_missing"
    PathNotWritable "path_not_writable"
    EventLoopRunning "event_loop_running"

    FastmcpTransportArgument "fastmcp_transport_argument"
    FastmcpUnknownArgument "fastmcp_unknown_argument"
    FastmcpSettingsRemoved "fastmcp_settings_removed"
    ResourceUriWithoutScheme "resource_uri_without_scheme"
    DecoratorWithoutCall "decorator_without_call"
    ResourceParametersDiffer "resource_parameters_differ"
    ResourceTemplateWithoutParameter "resource_template_without_parameter"
    ToolVariadic "tool_variadic"
    LambdaWithoutName "lambda_without_name"
    TypeWithoutSchema "type_without_schema"
    ImportServerRemoved "import_server_removed"
    MountPrefixRemoved "mount_prefix_removed"
    MiddlewareArgument "middleware_argument"
    MiddlewareSignature "middleware_signature"
    OauthConsentArgument "oauth_consent_argument"
    OauthSigningKeyMissing "oauth_signing_key_missing"
    OauthArgumentMissing "oauth_argument_missing"
    IconFromFile "icon_from_file"
    TaskSyncFunction "task_sync_function"
    ImportFailed "import_failed"

    NoServerObject "no_server_object"
    ServerInFunction "server_in_function"
    ServerInMainGuard "server_in_main_guard"
    SeveralServers "several_servers"
    ObjectNotFound "object_not_found"
    NotAServer "not_a_server"
    FactoryNeedsArguments "factory_needs_arguments"
    FactoryReturnedNoServer "factory_returned_no_server"
    FactoryFailed "factory_failed"

    TasksExtensionMissing "tasks_extension_missing"
    LifespanNotPassed "lifespan_not_passed"
    FastmcpMounted "fastmcp_mounted"
    UvicornMissing "uvicorn_missing"
    PortInUse "port_in_use"
    StdioTransport "stdio_transport"
    LoopbackOnly "loopback_only"
    WrongPort "wrong_port"
    PortNotOpened "port_not_opened"
    StartTimeout "start_timeout"
    ServeFailed "serve_failed"

    HostRefused "host_refused"
    SignInRequired "sign_in_required"
    McpElsewhere "mcp_elsewhere"
    NoMcpEndpoint "no_mcp_endpoint"
    NotMcp "not_mcp"
    ServerSilent "server_silent"
    ServerError "server_error"
    McpRefused "mcp_refused"
    McpProbeFailed "mcp_probe_failed"

    OutOfMemory "out_of_memory"
    NativeCrash "native_crash"
    Exited "exited"
    CrashLoop "crash_loop"
    Hung "hung"

    PlatformFailure "platform_failure"
    UnknownFailure "unknown_failure"
}
