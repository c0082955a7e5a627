# shellcheck shell=bash
# How the scripts speak: steps, long commands with progress, one clear sentence on failure.
# Sourced. The sourcing script sets PROGRAM (its name in sentences); LOG may name a file that
# receives what the long commands print.

LOG="${LOG:-}"
STEP=""
CHILD=""

# How often a long command shows that it is alive, in seconds.
readonly PROGRESS_EVERY=10
# How much of a log a failure shows.
readonly TAIL_LINES=20

say() { printf '%s\n' "$*"; }

# A detail below a step.
note() { printf '      %s\n' "$*"; }

# Opens a numbered step: `step 1/7 Packages`.
step() {
  STEP="$*"
  say "$STEP"
}

# Ends the script with one sentence, naming the step it happened in.
die() {
  trap - ERR
  printf '%s: %s%s\n' "$PROGRAM" "${STEP:+$STEP: }" "$*" >&2
  exit 1
}

# ERR trap: for what no sentence was written.
on_error() {
  local status=$1 line=$2
  die "a command on line $line failed (status $status)${LOG:+; the log is $LOG}."
}

# Runs a long command with its output in the log, a line every ten seconds, and the log's tail
# when it fails: `run_logged "apt-get install" apt-get install …`.
run_logged() {
  local what=$1 status=0 began=$SECONDS shown=$SECONDS last
  shift
  printf '\n== %s\n' "$what" >>"$LOG"
  # In a process group of its own, so that an interrupt can end it with all it started.
  set -m
  {
    trap - ERR
    "$@"
  } >>"$LOG" 2>&1 </dev/null 9>&- &
  CHILD=$!
  set +m
  while kill -0 "$CHILD" 2>/dev/null; do
    sleep 0.3
    if ((SECONDS - shown >= PROGRESS_EVERY)); then
      shown=$SECONDS
      last=$(tail -c 4000 -- "$LOG" | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c 1-90 || true)
      note "$((SECONDS - began)) s  ${last#"${last%%[![:space:]]*}"}"
    fi
  done
  wait "$CHILD" || status=$?
  CHILD=""
  if ((status != 0)); then
    tail -n "$TAIL_LINES" -- "$LOG" >&2
    die "$what failed (status $status); the log is $LOG."
  fi
}

# Ends a long command that an interrupt cut short, with all it started.
stop_child() {
  if [[ -n $CHILD ]]; then
    kill -TERM -- "-$CHILD" 2>/dev/null || kill -TERM "$CHILD" 2>/dev/null || true
    wait "$CHILD" 2>/dev/null || true
    CHILD=""
  fi
}

# Starts this script again through sudo where this is not root, with the settings it may have:
# `become_root "$0" "$@"`.
become_root() {
  ((EUID != 0)) || return 0
  command -v sudo >/dev/null || die "this needs root and there is no sudo: run it as root."
  local settings
  settings=$(compgen -e | grep -E '^(BERTH_|CARGO_|RUST|PIP_|UV_|SSL_CERT_|DOCKER_)|_(proxy|PROXY)$' | paste -s -d , || true)
  exec sudo ${settings:+--preserve-env="$settings"} -- "$@"
}

# Runs a command as root, through sudo where this is another user.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -- "$@"
  else
    die "this needs root and there is no sudo: run it as root."
  fi
}

# The user at the keyboard: the one who called sudo, else this one.
person() {
  if ((EUID == 0)) && [[ -n ${SUDO_USER:-} && $SUDO_USER != root ]]; then
    printf '%s' "$SUDO_USER"
  else
    id -un
  fi
}

person_home() { getent passwd "$(person)" | cut -d : -f 6; }

# Runs a command as that user, with this script's PATH and settings: `as_person cargo build`.
as_person() {
  if [[ $(person) == "$(id -un)" ]]; then
    "$@"
  else
    local settings
    settings=$(compgen -e | grep -E '^(BERTH_|CARGO_|RUST|SQLX_)|_(proxy|PROXY)$' | paste -s -d , || true)
    sudo -u "$(person)" -H ${settings:+--preserve-env="$settings"} -- env "PATH=$PATH" "$@"
  fi
}

# True while a process exists and is not a zombie.
process_runs() {
  local pid=$1 stat
  [[ $pid =~ ^[0-9]+$ ]] && read -r stat 2>/dev/null <"/proc/$pid/stat" || return 1
  stat=${stat##*) }
  [[ $stat != Z* ]]
}

# Waits until a command succeeds: `wait_until SECONDS COMMAND…`; false when the time is over.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.2
  done
}
