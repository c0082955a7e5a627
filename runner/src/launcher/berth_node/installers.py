"""npm, pnpm and yarn: how each installs from its lock, and what it says when it cannot."""

import os
import re

from berth_build.tool import BuildFailure, run
from berth_launcher import command as commands

# Causes by what the installers print, most specific first; `package` is the group where the text names one.
CAUSES = (
    ("disk", r"ENOSPC|EDQUOT|no space left on device"),
    (
        "lock_outdated",
        r"`npm ci` can only install packages when your package\.json|ERR_PNPM_OUTDATED_LOCKFILE|ERR_PNPM_LOCKFILE_"
        r"|lockfile needs to be updated|YN0028|lockfile would have been modified",
    ),
    ("hash_mismatch", r"EINTEGRITY|ERR_PNPM_TARBALL_INTEGRITY|YN0018|Integrity check failed"),
    ("not_found", r"E404|404 Not Found|ERR_PNPM_FETCH_404|YN0035|Couldn't find package \"(?P<package>[^\"]+)\""),
    ("no_version", r"ETARGET|ERR_PNPM_NO_MATCHING_VERSION|YN0082|Couldn't find any versions for \"(?P<package>[^\"]+)\""),
    ("network", r"EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENOTFOUND|UNABLE_TO_|CERT_|ERR_SOCKET_TIMEOUT|YN0001.*RequestError"),
    ("no_solution", r"ERESOLVE|ERR_PNPM_PEER_DEP_ISSUES"),
    ("engine", r"npm (?:error|ERR!) code EBADENGINE|ERR_PNPM_UNSUPPORTED_ENGINE|engine \"node\" is incompatible"),
    ("git_failed", r"(?:fatal|error): .*(?:repository|remote)|git ls-remote"),
    ("build_failed", r"gyp ERR!|node-gyp|prebuild-install"),
    ("script_failed", r"ELIFECYCLE|ERR_PNPM_RECURSIVE_RUN_FIRST_FAIL|npm error Lifecycle script|npm error command"),
    ("invalid_manifest", r"EJSONPARSE|EINVALIDPACKAGENAME|EINVALIDTAGNAME|EUNSUPPORTEDPROTOCOL|ERR_PNPM_JSON_PARSE"),
)

# Ornaments and pointers to log files that nobody can read.
NOISE = re.compile(r"^\s*(npm (?:error|warn|ERR!) A complete log|npm (?:error|ERR!) +/.*\.log$|npm notice|$)")


def cause(lines):
    """The stable code of a failure, and the package it names or None."""
    text = "\n".join(line.strip() for line in lines)
    for code, pattern in CAUSES:
        if match := re.search(pattern, text, re.IGNORECASE if code == "disk" else 0):
            named = re.search(r"'(?P<name>@?[\w./-]+?)@[^']*' is not in this registry|for (?P<other>@?[\w./-]+)@", text)
            package = match.groupdict().get("package") or (named and (named["name"] or named["other"]))
            return code, package
    return "unknown", None


def meaningful(lines):
    """The errors themselves, without the tool's own marks."""
    lines = [line for line in lines if not NOISE.match(line)]
    errors = [re.sub(r"^npm (?:error|ERR!) ?", "", line) for line in lines if re.match(r"npm (error|ERR!)|\s*ERR_PNPM|error |YN\d{4}:|.*error TS\d+", line)]
    return "\n".join(line for line in errors or lines[-12:] if line.strip())


class Installer:
    """One of them, ready to run."""

    def __init__(self, plan, places):
        self._plan, self._places = plan, places
        self._bin, self._registry = None, None

    def environment(self, production):
        """What the tools find in their environment."""
        cache = self._places.cache
        environment = {
            **os.environ,
            "CI": "true",
            "NO_COLOR": "1",
            "FORCE_COLOR": "0",
            "NPM_CONFIG_CACHE": str(cache / "npm"),
            "NPM_CONFIG_AUDIT": "false",
            "NPM_CONFIG_FUND": "false",
            "NPM_CONFIG_PROGRESS": "false",
            "NPM_CONFIG_UPDATE_NOTIFIER": "false",
            "NPM_CONFIG_STORE_DIR": str(cache / "pnpm"),
            # Cache and environment are two mounts, across which there are no hard links.
            "NPM_CONFIG_PACKAGE_IMPORT_METHOD": "copy",
            # The version is chosen by the plan; the tools must not fetch another one by themselves.
            "NPM_CONFIG_MANAGE_PACKAGE_MANAGER_VERSIONS": "false",
            "COREPACK_ENABLE_STRICT": "0",
            "YARN_CACHE_FOLDER": str(cache / self._plan.installer),
            "YARN_ENABLE_TELEMETRY": "0",
            "YARN_ENABLE_GLOBAL_CACHE": "false",
            "YARN_IGNORE_PATH": "1",
            "YARN_NODE_LINKER": "node-modules",
            "YARN_ENABLE_PROGRESS_BARS": "0",
        }
        if bundle := os.environ.get("NODE_EXTRA_CA_CERTS"):
            environment["YARN_HTTPS_CA_FILE_PATH"] = bundle
        if self._registry:
            # yarn has a default of its own; whoever set one for npm meant all of them.
            for name in ("NPM_CONFIG_REGISTRY", "YARN_NPM_REGISTRY_SERVER", "YARN_REGISTRY"):
                environment[name] = self._registry
        if production:
            environment["NODE_ENV"] = "production"
        else:
            environment.pop("NODE_ENV", None)
        if self._bin:
            environment["PATH"] = os.pathsep.join((str(self._bin), os.environ.get("PATH", "")))
        return environment

    def prepare(self):
        """Fetches the installer itself where it is not npm, once for each version of it."""
        plan = self._plan
        if plan.installer == "npm":
            return
        package = {"pnpm": "pnpm", "yarn": "yarn", "yarn-berry": "@yarnpkg/cli-dist"}[plan.installer]
        directory = self._places.cache / "tools" / f"{plan.installer}-{plan.version}"
        self._bin = directory / "node_modules/.bin"
        if not self._bin.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            command = ["npm", "install", "--no-save", "--ignore-scripts", "--prefix", str(directory), "--", f"{package}@{plan.version}"]
            self._run("resolve", command, directory, False)
        lines = []
        self._run("resolve", ["npm", "config", "get", "registry"], directory, False, lines)
        self._registry = lines[-1] if lines else None

    def install(self, directory, production, frozen, step="install"):
        """Installs in `directory`; `production` leaves devDependencies out, `frozen` believes the lock."""
        if self._plan.installer == "npm":
            command = ["npm", "ci" if frozen else "install"]
            command += ["--omit=dev"] if production else ["--include=dev"]
        elif self._plan.installer == "pnpm":
            command = ["pnpm", "install", "--frozen-lockfile" if frozen else "--no-frozen-lockfile"]
            command += ["--prod"] if production else []
        elif self._plan.installer == "yarn":
            command = ["yarn", "install", "--non-interactive", *(["--frozen-lockfile"] if frozen else [])]
            command += ["--production=true" if production else "--production=false"]
        elif production:
            command = ["yarn", "workspaces", "focus", "--production"]
        else:
            command = ["yarn", "install", "--immutable" if frozen else "--no-immutable"]
        self._run(step, command, directory, production)

    def script(self, name, directory):
        """Runs a script of package.json. npm runs those of every installer: it needs no state of its own."""
        try:
            self._run("build", ["npm", "run", "--", name], directory, False)
        except BuildFailure as failure:
            # Whatever a project's own script prints, it is the script that failed.
            code = failure.code if failure.code == "disk" else "script_failed"
            raise BuildFailure("build", code, str(failure), name) from None

    def command(self, arguments, directory):
        """Runs the project's build command, without a shell; the packages' programs are in front."""
        environment = self.environment(False)
        environment["PATH"] = os.pathsep.join((str(directory / "node_modules/.bin"), environment.get("PATH", "")))
        program = commands.find(arguments[0], environment, directory)
        if program is None:
            raise BuildFailure("build", "command_not_found", f"{arguments[0]} is not there", arguments[0])
        try:
            run("build", [program, *arguments[1:]], directory, environment, cause, meaningful)
        except BuildFailure as failure:
            code = failure.code if failure.code == "disk" else "command_failed"
            raise BuildFailure("build", code, str(failure), arguments[0]) from None

    def prune(self, directory):
        """Takes devDependencies out of packages that npm installed."""
        self._run("install", ["npm", "prune", "--omit=dev", "--ignore-scripts"], directory, True)

    def _run(self, step, command, cwd, production, lines=None):
        run(step, command, cwd, self.environment(production), cause, meaningful, lines)
