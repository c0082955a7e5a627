//! What a build finds as it would elsewhere: an official image's programs in the platform's own
//! runtime, and the machine's way to the package registries.

use std::collections::BTreeMap;

use super::mount::Mounts;
use super::stages::{Config, Run, Step, Work};
use crate::build::container::BuildHost;

/// Makes a runtime of the platform look like the official image that it answers: programs where
/// they are there, pip, which may install into the whole, and the directory of packages under its
/// usual name; the user `node`, and its two further installers, which come when they are first
/// called. What the platform mounts elsewhere has no place in it.
const LIKE_OFFICIAL: &str = r#"
set -e
rm -f /node_modules
for place in /app /berth /cache /data /env /home/app /out /source; do
  [ ! -d "$place" ] || rmdir --ignore-fail-on-non-empty "$place"
done
minor=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
for name in python python3; do
  [ -e "/usr/local/bin/$name" ] || ln -s "/usr/bin/python$minor" "/usr/local/bin/$name"
done
if [ -d "/usr/lib/python3/dist-packages" ] && [ ! -e "/usr/local/lib/python$minor/site-packages" ]; then
  mkdir -p "/usr/local/lib/python$minor/dist-packages"
  ln -s dist-packages "/usr/local/lib/python$minor/site-packages"
fi
if ! command -v pip >/dev/null; then
  wheels=/usr/share/python-wheels
  PYTHONDONTWRITEBYTECODE=1 python3 "$(ls -d $wheels/pip-*.whl)/pip" install --quiet --disable-pip-version-check \
    --root-user-action=ignore --no-index --find-links "$wheels" pip setuptools
fi
if [ -e /usr/local/bin/node ]; then
  getent passwd node >/dev/null || {
    groupadd --gid 1000 node
    useradd --uid 1000 --gid node --shell /bin/sh --create-home node
  }
  for tool in corepack yarn@1; do
    program=/usr/local/bin/${tool%@*}
    [ -e "$program" ] || {
      printf '#!/bin/sh\nrm -f %s\nnpm install --global --force --no-audit --no-fund --loglevel=error %s >&2 && exec %s "$@"\n' \
        "$program" "$tool" "$program" >"$program"
      chmod 755 "$program"
    }
  done
fi
if [ ! -e /usr/local/bin/uvx ]; then
  printf '#!/bin/sh\n[ "$1" = --version ] && exec /usr/local/bin/uv --version\nexec /usr/local/bin/uv tool run "$@"\n' \
    >/usr/local/bin/uvx
  chmod 755 /usr/local/bin/uvx
fi
"#;

/// What made every image of a project must find of this machine's trust, by the names programs know.
const TRUST: &[&str] = &[
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_CAFILE",
];
/// Where its certificates are: not in their usual place, so that a package may write there.
pub const TRUSTED: &str = "/run/berth/ca-certificates.crt";
/// A build asks nobody, and what it writes is read as a log. `ENV` goes before these.
const FOR_A_LOG: [(&str, &str); 6] = [
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("NO_COLOR", "1"),
    ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    ("PIP_PROGRESS_BAR", "off"),
    ("PIP_ROOT_USER_ACTION", "ignore"),
    ("UV_NO_PROGRESS", "1"),
];
/// pip's names for what uv calls otherwise.
const PIP_NAMES: [(&str, &[&str]); 2] = [
    ("PIP_INDEX_URL", &["UV_DEFAULT_INDEX", "UV_INDEX_URL"]),
    ("PIP_EXTRA_INDEX_URL", &["UV_INDEX", "UV_EXTRA_INDEX_URL"]),
];

/// The step that makes a runtime look like the official image; no line of a Dockerfile is its.
pub fn like_official(name: &str) -> Step {
    Step {
        line: 0,
        text: format!("The platform's {name}, made to look like the official image"),
        work: Work::Run(Run {
            command: ["/bin/sh", "-c", LIKE_OFFICIAL].map(str::to_owned).to_vec(),
            environment: Config::default().environment,
            working_dir: "/".to_owned(),
            user: None,
            mounts: Mounts::default(),
        }),
    }
}

/// How a step reaches the machine's package registries. It is in no container's environment, which
/// would become the image's.
pub fn surroundings(host: &BuildHost) -> BTreeMap<String, String> {
    let mut environment = host.variables().clone();
    for (name, others) in PIP_NAMES {
        let value = others.iter().find_map(|other| environment.get(*other));
        if let Some(value) = value.cloned() {
            environment.entry(name.to_owned()).or_insert(value);
        }
    }
    if host.ca_bundle().is_some() {
        for name in TRUST {
            environment.insert((*name).to_owned(), TRUSTED.to_owned());
        }
    }
    for (name, value) in FOR_A_LOG {
        environment.insert(name.to_owned(), value.to_owned());
    }
    environment
}
