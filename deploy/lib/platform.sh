# shellcheck shell=bash
# The running platform of a data directory: is it there, stop it. Sourced after talk.sh and machine.sh.

# Draining takes up to 30 s, then instances get 10 s after SIGTERM, then Postgres stops.
readonly PLATFORM_STOP_SECONDS=90

# The `berth` of this checkout, or the one on PATH; nothing when there is neither. $1: root.
berth_program() {
  local root=$1 target
  target=$(target_dir "$root")
  if [[ -x $target/release/berth && ! $target/debug/berth -nt $target/release/berth ]]; then
    printf '%s' "$target/release/berth"
  elif [[ -x $target/debug/berth ]]; then
    printf '%s' "$target/debug/berth"
  else
    command -v berth || true
  fi
}

# Where cargo puts what it builds. $1: root.
target_dir() {
  case ${CARGO_TARGET_DIR:-target} in
    /*) printf '%s' "$CARGO_TARGET_DIR" ;;
    *) printf '%s/%s' "$1" "${CARGO_TARGET_DIR:-target}" ;;
  esac
}

# The process id of the platform of data directory $1 (absolute), or nothing. A stale pid file, or
# one whose number now belongs to another program, does not count.
platform_pid() {
  local data=$1 pid i
  local -a args=()
  [[ -f $data/berth.pid ]] || return 0
  pid=$(<"$data/berth.pid")
  process_runs "$pid" || return 0
  mapfile -d '' -t args <"/proc/$pid/cmdline" || return 0
  [[ ${args[0]:-} == berth || ${args[0]:-} == */berth ]] || return 0
  for ((i = 1; i + 1 < ${#args[@]}; i++)); do
    if [[ ${args[i]} == --data && ${args[i + 1]} == "$data" ]]; then
      printf '%s' "$pid"
      return 0
    fi
  done
}

# The value that the running platform $1 (process id) was given for option $2.
platform_option() {
  local i
  local -a args=()
  mapfile -d '' -t args <"/proc/$1/cmdline"
  for ((i = 1; i + 1 < ${#args[@]}; i++)); do
    if [[ ${args[i]} == "$2" ]]; then
      printf '%s' "${args[i + 1]}"
      return 0
    fi
  done
}

# Forgets the variables that belong to these scripts or to another server: `berth` refuses those it
# does not know, and obeys those it does.
forget_settings() { unset BERTH_BUILD_PROFILE TEST_CACHE BERTH_TOKEN BERTH_SERVER; }

# Ends the process of the platform and waits for it.
stop_process() {
  local data=$1 pid
  pid=$(platform_pid "$data")
  if [[ -n $pid ]]; then
    kill -TERM "$pid" 2>/dev/null || true
    # shellcheck disable=SC2317 # called by wait_until
    platform_gone() { ! process_runs "$pid"; }
    if ! wait_until "$PLATFORM_STOP_SECONDS" platform_gone; then
      say "berth did not stop within $PLATFORM_STOP_SECONDS s and is killed; its log is $data/berth.log."
      kill -KILL "$pid" 2>/dev/null || true
      wait_until 10 platform_gone || die "process $pid does not end."
    fi
  fi
  rm -f -- "$data/berth.pid"
}

# Stops everything of data directory $1: the process, what it left (instances, networks, its
# Postgres), and a dockerd that deploy/up started. $2: the berth program.
stop_platform() {
  local data=$1 berth=$2
  stop_process "$data"
  if [[ -n $berth ]]; then
    if engine_answers; then
      BERTH_DATA="$data" "$berth" admin down || die "'berth admin down' failed for $data; what still runs is named above."
    else
      # Without an engine there is no container to remove; the database may still be there.
      BERTH_DATA="$data" "$berth" admin down >/dev/null 2>&1 || true
    fi
  fi
  stop_engine "$data"
}
