# shellcheck shell=bash
# A Postgres for tests and for checking SQL, thrown away afterwards. Sourced after machine.sh.

SCRATCH_POSTGRES=""

# Postgres refuses to run as root.
as_postgres() {
  if ((EUID == 0)); then
    setpriv --reuid postgres --regid postgres --init-groups -- "$@"
  else
    "$@"
  fi
}

# Starts one on a unix socket in a directory of its own and sets DATABASE_URL.
start_scratch_postgres() {
  local bin
  bin=$(postgres_bin)
  SCRATCH_POSTGRES=$(mktemp -d /var/tmp/berth-postgres.XXXXXX)
  chmod 711 "$SCRATCH_POSTGRES"
  if ((EUID == 0)); then chown postgres "$SCRATCH_POSTGRES"; fi
  run_logged "initdb" as_postgres "$bin/initdb" --pgdata "$SCRATCH_POSTGRES/data" --username berth --auth trust \
    --encoding UTF8 --locale C.UTF-8 --no-sync
  # Durability is for data that is kept; every test has a pool of its own.
  run_logged "pg_ctl start" as_postgres "$bin/pg_ctl" --pgdata "$SCRATCH_POSTGRES/data" --wait \
    --log "$SCRATCH_POSTGRES/server.log" \
    --options "-k $SCRATCH_POSTGRES -c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=300" start
  export DATABASE_URL="postgres://berth@localhost/postgres?host=$SCRATCH_POSTGRES"
}

stop_scratch_postgres() {
  [[ -n $SCRATCH_POSTGRES ]] || return 0
  as_postgres "$(postgres_bin)/pg_ctl" --pgdata "$SCRATCH_POSTGRES/data" --mode immediate stop >/dev/null 2>&1 || true
  rm -rf -- "$SCRATCH_POSTGRES"
  SCRATCH_POSTGRES=""
}
