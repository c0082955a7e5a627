-- The foundation: people, organizations, projects, deployments, and what keeps them honest.
-- Forward only. States and kinds are text with a check; every table says what it is for.

create table installation (
    only_row boolean primary key default true check (only_row),
    id uuid not null,
    created_at timestamptz not null default now()
);
comment on table installation is 'One row: names this platform. The label on everything its runners create.';

create table versions (
    name text primary key check (name in ('routes', 'sync')),
    value bigint not null
);
comment on table versions is 'Counters that grow with every change to what edges (routes) or runners (sync) must know. Updating a row serialises such changes, so a reader never sees version n+1 without the change of n.';
insert into versions (name, value) values ('routes', 1), ('sync', 1);

create table users (
    id uuid primary key,
    email text not null,
    name text not null,
    password_hash text,
    created_at timestamptz not null
);
create unique index users_email on users (lower(email));
comment on table users is 'People.';
comment on column users.password_hash is 'Argon2id in PHC form; null until a password is set by the one-time link.';

create table setup_links (
    token_hash bytea primary key,
    user_id uuid not null references users on delete cascade,
    expires_at timestamptz not null,
    used_at timestamptz
);
comment on table setup_links is 'One-time sign-in links for a first password. Only the SHA-256 of the token is kept.';

create table sessions (
    id_hash bytea primary key,
    data jsonb not null,
    created_at timestamptz not null,
    expires_at timestamptz not null
);
create index sessions_expiry on sessions (expires_at);
comment on table sessions is 'Browser sessions. Only the SHA-256 of the cookie is kept.';

create table organizations (
    id uuid primary key,
    name text not null unique,
    created_at timestamptz not null
);
comment on table organizations is 'Owns projects. Build caches are never shared across organizations.';

create table members (
    organization_id uuid not null references organizations on delete cascade,
    user_id uuid not null references users on delete cascade,
    role text not null check (role in ('owner', 'admin', 'editor', 'viewer')),
    primary key (organization_id, user_id)
);
create index members_user on members (user_id);
comment on table members is 'Who belongs to an organization, and as what.';

create table runners (
    id uuid primary key,
    name text not null,
    public_key text not null,
    images text[] not null,
    last_seen_at timestamptz not null,
    last_sequence bigint not null
);
comment on table runners is 'Runners that have synced. Secrets are sealed to public_key (X25519, base64).';
comment on column runners.last_sequence is 'Of the newest sync; what an older one observed is not taken.';

create table projects (
    id uuid primary key,
    organization_id uuid not null references organizations,
    name text not null unique check (name ~ '^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$'),
    source_url text,
    source_branch text,
    entrypoint text,
    last_deployment_number integer not null default 0,
    created_at timestamptz not null
);
create index projects_organization on projects (organization_id);
comment on table projects is 'One MCP server each. The name is the host label.';
comment on column projects.source_url is 'Git URL; null for a project that is deployed by upload.';

create table uploads (
    project_id uuid not null references projects on delete cascade,
    sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes bigint not null,
    created_at timestamptz not null,
    primary key (project_id, sha256)
);
create index uploads_sha256 on uploads (sha256);
comment on table uploads is 'Archives sent by `berth deploy PATH`; the bytes lie in the data directory under their hash.';

create table deployments (
    id uuid primary key,
    project_id uuid not null references projects on delete cascade,
    number integer not null,
    state text not null check (state in
        ('queued', 'building', 'starting', 'checking', 'live', 'draining', 'stopped', 'failed', 'canceled')),
    source jsonb not null,
    entrypoint text,
    origin text not null check (origin in ('page', 'api', 'rollback', 'promote')),
    created_by text not null,
    commit_id text,
    commit_subject text,
    commit_author text,
    runner_id uuid references runners,
    lease_until timestamptz,
    upstream text,
    plan jsonb,
    surface jsonb,
    diagnosis jsonb,
    timings jsonb not null default '[]',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    live_at timestamptz,
    drain_until timestamptz,
    unrouted_at timestamptz,
    stop_requested_at timestamptz,
    finished_at timestamptz,
    unique (project_id, number)
);
create unique index deployments_one_live on deployments (project_id) where state = 'live';
create index deployments_unfinished on deployments (state)
    where state not in ('stopped', 'failed', 'canceled');
comment on table deployments is 'One attempt each to bring a source live. States only move forward.';
comment on column deployments.lease_until is 'While it lies ahead the runner owns the deployment; each sync renews it.';
comment on column deployments.drain_until is 'Until then a replaced instance keeps serving the MCP sessions it owns.';
comment on column deployments.unrouted_at is 'When edges were told to forget the drained instance; it is stopped a moment later.';

create table variables (
    project_id uuid not null references projects on delete cascade,
    name text not null check (name ~ '^[A-Za-z_][A-Za-z0-9_]*$'),
    secret boolean not null,
    value text not null,
    updated_at timestamptz not null,
    updated_by text not null,
    primary key (project_id, name)
);
comment on table variables is 'Environment variables of a project.';
comment on column variables.value is 'Not secret: the value. Secret: a JSON object {runner id: libsodium sealed box, base64}; only that runner can open it.';

create table log_lines (
    deployment_id uuid not null references deployments on delete cascade,
    stream text not null check (stream in ('build', 'instance')),
    sequence bigint not null,
    at timestamptz not null,
    line text not null,
    primary key (deployment_id, stream, sequence)
);
comment on table log_lines is 'Output of builds and instances. A line sent twice is kept once.';

create table audit_log (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    actor text not null,
    action text not null,
    organization_id uuid,
    project_id uuid,
    subject jsonb not null
);
create index audit_log_organization on audit_log (organization_id, id desc);
comment on table audit_log is 'Who changed what. Written in the transaction of the change, never updated; holds no values of secrets.';

create table signing_keys (
    kid text primary key,
    public_jwk jsonb not null,
    private_sealed bytea not null,
    created_at timestamptz not null,
    retired_at timestamptz
);
comment on table signing_keys is 'ES256 keys that sign access tokens. private_sealed is AES-256-GCM under the key encryption key, which is not in the database.';

create table clients (
    id text primary key,
    name text not null,
    redirect_uris text[] not null,
    grant_types text[] not null,
    token_endpoint_auth_method text not null check (token_endpoint_auth_method in
        ('none', 'client_secret_post', 'client_secret_basic')),
    secret_hash bytea,
    metadata jsonb not null,
    created_at timestamptz not null,
    last_used_at timestamptz
);
comment on table clients is 'OAuth clients, registered dynamically (RFC 7591).';

create table consents (
    user_id uuid not null references users on delete cascade,
    client_id text not null references clients on delete cascade,
    project_id uuid not null references projects on delete cascade,
    scope text not null,
    redirect_uri text not null,
    created_at timestamptz not null,
    primary key (user_id, client_id, project_id, scope, redirect_uri)
);
comment on table consents is 'What a person has allowed, so that it need not be asked again.';

create table grants (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    client_id text not null references clients on delete cascade,
    project_id uuid not null references projects on delete cascade,
    resource text not null,
    scope text not null,
    created_at timestamptz not null,
    last_used_at timestamptz,
    revoked_at timestamptz
);
create index grants_user on grants (user_id);
create index grants_revoked on grants (revoked_at) where revoked_at is not null;
comment on table grants is 'One authorization each: the family of its codes and tokens. Revoking it ends them all.';

create table authorization_codes (
    code_hash bytea primary key,
    grant_id uuid not null references grants on delete cascade,
    redirect_uri text not null,
    code_challenge text not null,
    expires_at timestamptz not null,
    used_at timestamptz
);
comment on table authorization_codes is 'RFC 6749 section 4.1.2: one use, short-lived, only the SHA-256 kept.';

create table refresh_tokens (
    token_hash bytea primary key,
    grant_id uuid not null references grants on delete cascade,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz
);
create index refresh_tokens_grant on refresh_tokens (grant_id);
comment on table refresh_tokens is 'Rotated at every use; only the SHA-256 kept. A replay revokes the grant.';

create table api_tokens (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    name text not null,
    token_hash bytea not null unique,
    created_at timestamptz not null,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
create index api_tokens_user on api_tokens (user_id);
comment on table api_tokens is 'Tokens (brt_…) for the API and the command line; only the SHA-256 kept, shown once.';

create table login_codes (
    code_hash bytea primary key,
    user_id uuid not null references users on delete cascade,
    redirect_uri text not null,
    code_challenge text not null,
    token_name text not null,
    expires_at timestamptz not null,
    used_at timestamptz,
    api_token_id uuid references api_tokens on delete set null
);
comment on table login_codes is 'Authorization codes of `berth login`: one use, short-lived, only the SHA-256 kept. Redeemed for an API token, so they belong to no grant.';
comment on column login_codes.api_token_id is 'What the code was redeemed for; a second use of the code revokes it.';
