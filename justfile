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
    . deploy/lib/postgres.sh
    LOG=$(mktemp /var/tmp/berth-prepare.XXXXXX)
    export LOG
    trap 'stop_child; undo_machine_changes; stop_scratch_postgres; rm -f -- "$LOG"' EXIT
    need_postgres
    start_scratch_postgres
    for migration in migrations/[0-9]*.sql; do
      psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --single-transaction --dbname "$DATABASE_URL" --file "$migration"
    done
    "$(postgres_bin)/pg_dump" --schema-only --no-owner --no-privileges --dbname "$DATABASE_URL" |
      grep -v -e '^--' -e '^SET ' -e '^SELECT pg_catalog' -e '^\\' | cat -s >migrations/schema.sql
    # The checked queries write what they learn to this directory; the touch makes them ask again.
    rm -rf .sqlx && mkdir .sqlx
    touch control-plane/src/lib.rs
    SQLX_OFFLINE=false SQLX_OFFLINE_DIR="$PWD/.sqlx" cargo check -p control-plane --all-targets
