# The daily commands. `just` lists them.

set shell := ["bash", "-euo", "pipefail", "-c"]

[private]
default:
    @just --list

# Lints and unit tests.
check:
    ./tests/run --quick

# Everything, or the tests whose name holds NAME.
test *NAME:
    ./tests/run {{ NAME }}

# The platform from this checkout, in the foreground.
up *ARGUMENTS:
    BERTH_BUILD_PROFILE=dev ./deploy/up {{ ARGUMENTS }}

# Stops a detached platform.
down *ARGUMENTS:
    ./deploy/down {{ ARGUMENTS }}

# Formats all code.
fmt:
    cargo fmt --all

# Refreshes .sqlx and migrations/schema.sql after a change of SQL, on a database of its own.
prepare:
    #!/usr/bin/env bash
    set -Eeuo pipefail
    export PROGRAM="just prepare"
    . deploy/lib/talk.sh
    . deploy/lib/machine.sh
    scratch=$(mktemp -d /var/tmp/berth-prepare.XXXXXX)
    chmod 711 "$scratch"
    export LOG="$scratch/log"
    need_postgres
    bin=$(postgres_bin)
    # Postgres refuses to run as root.
    server=(); if ((EUID == 0)); then chown postgres "$scratch"; server=(setpriv --reuid postgres --regid postgres --init-groups); fi
    trap '"${server[@]}" "$bin/pg_ctl" -D "$scratch/data" -m immediate stop >/dev/null; rm -rf -- "$scratch"' EXIT
    "${server[@]}" "$bin/initdb" -D "$scratch/data" -U berth -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
    "${server[@]}" "$bin/pg_ctl" -D "$scratch/data" -w -o "-k $scratch -c listen_addresses= -c fsync=off" -l "$scratch/server.log" start >/dev/null
    export DATABASE_URL="postgres://berth@localhost/postgres?host=$scratch"
    for migration in migrations/[0-9]*.sql; do
      psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --single-transaction --dbname "$DATABASE_URL" --file "$migration"
    done
    "$bin/pg_dump" --schema-only --no-owner --no-privileges --dbname "$DATABASE_URL" |
      grep -v -e '^--' -e '^SET ' -e '^SELECT pg_catalog' -e '^\\' | cat -s >migrations/schema.sql
    # The checked queries write what they learn to this directory; `touch` makes them all ask again.
    rm -rf .sqlx && mkdir .sqlx
    find control-plane/src -name '*.rs' -exec touch {} +
    SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$PWD/.sqlx" cargo check -p control-plane --all-targets
