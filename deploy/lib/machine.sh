# shellcheck shell=bash
# What the machine must have: packages, a Rust toolchain, a container engine. Sourced after talk.sh.

# How long a container engine may take to answer after its start, in seconds.
readonly ENGINE_START_SECONDS=60
# How long it may take to stop; it ends its containerd first.
readonly ENGINE_STOP_SECONDS=30

# The uv of the runtime images and of the tests.
# shellcheck disable=SC2034 # read by the scripts that source this
readonly UV_VERSION=0.13.9

# --- settings of the machine that change while packages are installed -------------------------

# Forbids the start of services; ours carries the mark.
readonly SERVICE_POLICY=/usr/sbin/policy-rc.d
readonly SERVICE_POLICY_MARK='# Temporary: written by Berth while it installs packages.'
# Says whether the Postgres package creates a cluster.
readonly CLUSTER_CONF=/etc/postgresql-common/createcluster.conf

# True while this script has one of them changed.
MACHINE_CHANGED=false

# Also takes away what a killed run left.
remove_service_policy() {
  if grep -qxF -- "$SERVICE_POLICY_MARK" "$SERVICE_POLICY" 2>/dev/null; then as_root rm -f -- "$SERVICE_POLICY"; fi
}

# Also puts back what a killed run left changed.
restore_cluster_conf() {
  if [[ -e $CLUSTER_CONF.berth ]]; then as_root mv -f -- "$CLUSTER_CONF.berth" "$CLUSTER_CONF"; fi
}

# For the EXIT trap of every script that installs packages, after stop_child.
undo_machine_changes() {
  $MACHINE_CHANGED || return 0
  remove_service_policy || say "$SERVICE_POLICY is left from an installation: remove it." >&2
  restore_cluster_conf || say "$CLUSTER_CONF is changed: put $CLUSTER_CONF.berth back in its place." >&2
  MACHINE_CHANGED=false
}

# --- packages ---------------------------------------------------------------------------------

# The directory of the newest installed Postgres server programs (14 or newer), or nothing.
postgres_bin() {
  local initdb version best=0 found=""
  for initdb in /usr/lib/postgresql/*/bin/initdb; do
    [[ -x $initdb ]] || continue
    version=${initdb#/usr/lib/postgresql/}
    version=${version%%/*}
    if [[ $version =~ ^[0-9]+$ ]] && ((version >= 14 && version > best)); then
      best=$version
      found=${initdb%/initdb}
    fi
  done
  if [[ -z $found ]] && command -v initdb >/dev/null; then
    found=$(dirname "$(command -v initdb)")
  fi
  printf '%s' "$found"
}

# Installs Debian packages; services of new packages are not started where systemd does not run.
apt_install() {
  command -v apt-get >/dev/null || die "please install these first, this is not a Debian or Ubuntu machine: $*."
  note "installing $*"
  remove_service_policy
  if [[ ! -d /run/systemd/system && ! -e $SERVICE_POLICY ]]; then
    MACHINE_CHANGED=true
    printf '#!/bin/sh\n%s\nexit 101\n' "$SERVICE_POLICY_MARK" | as_root tee "$SERVICE_POLICY" >/dev/null
    as_root chmod 755 "$SERVICE_POLICY"
  fi
  local -a apt=(as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
    apt-get -y -o DPkg::Lock::Timeout=300)
  if [[ -z ${APT_UPDATED:-} ]]; then
    run_logged "apt-get update" "${apt[@]}" update
    APT_UPDATED=1
  fi
  run_logged "apt-get install" "${apt[@]}" install --no-install-recommends "$@"
  remove_service_policy
}

# Installs the packages that bring the given commands and are missing: `need git=git cc=build-essential`.
need() {
  local pair
  local -a missing=()
  for pair in "$@"; do
    if ! command -v "${pair%%=*}" >/dev/null && [[ " ${missing[*]} " != *" ${pair#*=} "* ]]; then
      missing+=("${pair#*=}")
    fi
  done
  if ((${#missing[@]})); then apt_install "${missing[@]}"; fi
}

# Postgres' programs without the cluster that the package would create and start.
need_postgres() {
  restore_cluster_conf
  [[ -z $(postgres_bin) ]] || return 0
  if [[ ! -e $CLUSTER_CONF ]]; then apt_install postgresql-common; fi
  MACHINE_CHANGED=true
  # Moved, not copied: the backup is whole at every moment.
  as_root mv -- "$CLUSTER_CONF" "$CLUSTER_CONF.berth"
  { cat -- "$CLUSTER_CONF.berth" && printf '\ncreate_main_cluster = false\n'; } | as_root tee "$CLUSTER_CONF" >/dev/null
  apt_install postgresql
  restore_cluster_conf
  [[ -n $(postgres_bin) ]] || die "Postgres 14 or newer is needed and this system's packages have none; install it and run this again."
}

# `*.localhost` must resolve to this machine for programs, not only for browsers.
need_localhost_names() {
  getent hosts hello.localhost >/dev/null || apt_install libnss-myhostname
}

# What building and running need.
need_packages() {
  remove_service_policy
  need curl=curl git=git jq=jq cc=build-essential make=build-essential pkg-config=pkg-config setsid=util-linux
  # Persistent files lie in file systems of their own.
  need mkfs.ext4=e2fsprogs mount=mount losetup=mount
  [[ -e /etc/ssl/certs/ca-certificates.crt ]] || apt_install ca-certificates
  need_postgres
  need_localhost_names
}

# --- Rust -------------------------------------------------------------------------------------

# Puts a cargo that is new enough on PATH, installing one by rustup where there is none.
# $1: the repository's root.
need_rust() {
  local root=$1 home wanted have
  home=$(person_home)
  command -v cargo >/dev/null || PATH="$home/.cargo/bin:$PATH"
  if ! command -v cargo >/dev/null; then
    note "installing Rust by rustup"
    local installer
    installer=$(mktemp)
    run_logged "download of rustup" curl --proto '=https' --tlsv1.2 -fsSL -o "$installer" https://sh.rustup.rs
    chmod 644 "$installer"
    run_logged "rustup" as_person sh "$installer" -y --profile minimal --no-modify-path
    rm -f -- "$installer"
    hash -r
  fi
  wanted=$(sed -n 's/^rust-version = "\([0-9.]*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
  have=$(rust_version "$root")
  if [[ -z $have || $(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1) != "$wanted" ]]; then
    command -v rustup >/dev/null || die "Rust $wanted or newer is needed, this machine has ${have:-none}; install a newer one."
    run_logged "rustup toolchain install" as_person rustup toolchain install stable --profile minimal
  fi
}

# The compiler's version, asked inside the repository, where rustup obeys its toolchain file.
rust_version() {
  (cd -- "$1" && as_person rustc --version 2>/dev/null) | cut -d ' ' -f 2 || true
}

# --- container engine -------------------------------------------------------------------------

engine_answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# Makes sure that a container engine answers. $1: the directory for the pid file and log of a
# dockerd that has to be started by hand (where systemd does not run the machine).
need_engine() {
  local state=$1
  if ! command -v docker >/dev/null; then apt_install docker.io; fi
  if ! engine_answers; then
    [[ -z ${DOCKER_HOST:-} ]] || die "the container engine at DOCKER_HOST=$DOCKER_HOST does not answer."
    command -v dockerd >/dev/null || [[ -x /usr/sbin/dockerd ]] || apt_install docker.io
    start_engine "$state"
  fi
  note "engine $(docker version --format '{{.Server.Version}}'), API $(docker version --format '{{.Server.APIVersion}}')"
}

start_engine() {
  local state=$1
  if [[ -d /run/systemd/system ]]; then
    note "starting docker.service"
    run_logged "systemctl start docker" as_root systemctl start docker
    wait_until "$ENGINE_START_SECONDS" engine_answers || die "docker.service started and does not answer; see 'journalctl -u docker'."
    return
  fi
  mkdir -p -- "$state"
  local log="$state/dockerd.log" pid="$state/dockerd.pid" dockerd=/usr/sbin/dockerd
  [[ -x $dockerd ]] || dockerd=$(command -v dockerd)
  if ! mountpoint -q /sys/fs/cgroup; then
    need cgroupfs-mount=cgroupfs-mount
    run_logged "cgroupfs-mount" as_root cgroupfs-mount
  fi
  note "starting dockerd (log $log)"
  as_root setsid "$dockerd" --pidfile "$pid" >>"$log" 2>&1 </dev/null 9>&- &
  local starter=$!
  # shellcheck disable=SC2317 # called by wait_until
  engine_up_or_gone() { engine_answers || ! process_runs "$starter"; }
  wait_until "$ENGINE_START_SECONDS" engine_up_or_gone || true
  if ! engine_answers; then
    tail -n "$TAIL_LINES" -- "$log" >&2
    die "dockerd did not start; its log is $log."
  fi
}

# Stops the dockerd that start_engine started, unless somebody else's containers or another
# platform's networks need it.
stop_engine() {
  local state=$1 pid
  [[ -f $state/dockerd.pid ]] || return 0
  pid=$(<"$state/dockerd.pid")
  if ! process_runs "$pid" || [[ $(<"/proc/$pid/comm") != dockerd ]]; then
    as_root rm -f -- "$state/dockerd.pid"
    return 0
  fi
  if [[ -n $(docker ps -q) || -n $(docker network ls -q --filter label=berth.installation) ]]; then
    say "dockerd keeps running: other containers or networks need it."
    return 0
  fi
  as_root kill -TERM "$pid"
  # shellcheck disable=SC2317 # called by wait_until
  engine_gone() { ! process_runs "$pid"; }
  wait_until "$ENGINE_STOP_SECONDS" engine_gone || die "dockerd (process $pid) does not stop; its log is $state/dockerd.log."
  as_root rm -f -- "$state/dockerd.pid"
}
