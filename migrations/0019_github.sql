-- GitHub: the platform's App, who signs in by it, its installations and repositories, and the inbox
-- of webhooks.

create table github_app (
    only_row boolean primary key default true constraint github_app_only_row_check check (only_row),
    id bigint not null,
    slug text not null,
    name text not null,
    page text not null,
    client_id text not null,
    client_secret bytea not null,
    private_key bytea not null,
    webhook_secret bytea not null,
    former_webhook_secret bytea,
    former_webhook_secret_until timestamptz,
    sign_up text not null default 'nobody'
        constraint github_app_sign_up_check check (sign_up in ('nobody', 'listed', 'anyone')),
    created_at timestamptz not null
);
comment on table github_app is 'One row once it is set up: the App by which Berth works with GitHub. Its secrets are encrypted with the key encryption key.';
comment on column github_app.page is 'Its page at GitHub.';
comment on column github_app.former_webhook_secret is 'Accepted beside the present one until former_webhook_secret_until, so that a change loses no delivery.';
comment on column github_app.sign_up is 'Who may sign up by GitHub: nobody, those of github_sign_up, or anyone.';

create table github_sign_up (
    account_id bigint primary key,
    login text not null,
    kind text not null constraint github_sign_up_kind_check check (kind in ('user', 'organization')),
    added_at timestamptz not null
);
comment on table github_sign_up is 'Accounts whose people may sign up. Numbers decide: a login passes to others when it is given up.';

create table github_identities (
    user_id uuid primary key references users on delete cascade,
    github_id bigint not null constraint github_identities_github_id_key unique,
    login text not null,
    linked_at timestamptz not null
);
comment on table github_identities is 'Which person an account at GitHub is. The login is for display, as it was at the last sign-in. No token of a person is kept.';

create table github_attempts (
    state_hash bytea primary key,
    browser_hash bytea not null,
    purpose jsonb not null,
    verifier bytea,
    expires_at timestamptz not null
);
create index github_attempts_expiry on github_attempts (expires_at);
comment on table github_attempts is 'Ways to GitHub that a browser has gone and not come back from. Each is used once, by the browser that began it. Only the SHA-256 of the state is kept; the PKCE verifier is encrypted.';

create table github_installations (
    id bigint primary key,
    account_id bigint not null,
    account text not null,
    account_kind text not null constraint github_installations_account_kind_check check (account_kind in ('user', 'organization')),
    state text not null constraint github_installations_state_check check (state in ('active', 'suspended', 'deleted')),
    listed_at timestamptz,
    updated_at timestamptz not null
);
comment on table github_installations is 'Where the App is installed, as GitHub last said.';
comment on column github_installations.listed_at is 'When its repositories were last read from GitHub as a whole; null when that is due.';

create table github_repositories (
    id bigint primary key,
    installation_id bigint not null references github_installations on delete cascade,
    full_name text not null,
    private boolean not null,
    default_branch text,
    state text not null constraint github_repositories_state_check check (state in ('active', 'removed', 'deleted')),
    updated_at timestamptz not null
);
create index github_repositories_installation on github_repositories (installation_id);
comment on table github_repositories is 'Repositories that installations give access to. removed: the App may not read it any more; deleted: it is gone.';

create table github_connections (
    organization_id uuid not null references organizations on delete cascade,
    installation_id bigint not null references github_installations on delete cascade,
    whole boolean not null,
    connected_by uuid references users on delete set null,
    connected_at timestamptz not null,
    primary key (organization_id, installation_id)
);
create index github_connections_installation on github_connections (installation_id);
comment on table github_connections is 'Which organizations may use an installation: one of their members showed GitHub that they may themselves.';
comment on column github_connections.whole is 'All its repositories, present and future: the installation is of the account of the person who connected it. Otherwise those of github_access.';

create table github_access (
    organization_id uuid not null,
    installation_id bigint not null,
    repository_id bigint not null references github_repositories on delete cascade,
    primary key (organization_id, repository_id),
    foreign key (organization_id, installation_id) references github_connections on delete cascade
);
create index github_access_repository on github_access (repository_id);
create index github_access_connection on github_access (organization_id, installation_id);
comment on table github_access is 'Repositories that the person who connected an installation may push to themselves.';

create view github_readable as
    select c.organization_id, r.id as repository_id, r.installation_id, r.full_name, r.private, r.default_branch, r.state
    from github_connections c join github_repositories r on r.installation_id = c.installation_id
    where c.whole or exists (
        select from github_access a where a.organization_id = c.organization_id and a.repository_id = r.id);
comment on view github_readable is 'The repositories that an organization may use.';

create table github_tokens (
    installation_id bigint primary key,
    token bytea,
    minted_at timestamptz,
    expires_at timestamptz
);
comment on table github_tokens is 'Tokens of installations, encrypted, until near their end: several processes share one, and whoever mints holds the row.';

create table github_links (
    project_id uuid primary key references projects on delete cascade,
    installation_id bigint not null,
    repository_id bigint not null,
    head text,
    problem text,
    problem_at timestamptz,
    checked_at timestamptz
);
create index github_links_repository on github_links (repository_id);
create index github_links_checked on github_links (checked_at);
comment on table github_links is 'Projects whose source is a repository of an installation. The production branch is projects.source_branch.';
comment on column github_links.head is 'The newest commit of the production branch that a deployment was queued for, or that was there when the project was linked.';
comment on column github_links.problem is 'Why pushes do not come live, as one sentence; null when all is well.';
comment on column github_links.checked_at is 'When the branch was last compared with GitHub.';

create table github_deliveries (
    id text primary key,
    number bigint generated always as identity,
    event text not null,
    action text,
    lane text not null,
    installation_id bigint,
    repository_id bigint,
    reference text,
    payload bytea,
    state text not null constraint github_deliveries_state_check check (state in ('waiting', 'done', 'ignored', 'failed')),
    outcome text,
    attempts integer not null default 0,
    next_attempt_at timestamptz not null,
    received_at timestamptz not null,
    processed_at timestamptz
);
create index github_deliveries_waiting on github_deliveries (lane, number) where state = 'waiting';
create index github_deliveries_received on github_deliveries (received_at);
comment on table github_deliveries is 'The inbox of webhooks: written before GitHub gets its answer, processed in order within a lane, purged after some days.';
comment on column github_deliveries.id is 'X-GitHub-Delivery: a delivery that comes again is not taken again.';
comment on column github_deliveries.lane is 'The repository, or else the installation: what must be processed in order.';
comment on column github_deliveries.payload is 'The body as it came; null once it is processed.';
comment on column github_deliveries.outcome is 'One sentence: what came of it, or why it has not worked yet.';

alter table deployments
    drop constraint deployments_origin_check,
    add constraint deployments_origin_check
        check (origin in ('page', 'api', 'rollback', 'promote', 'variables', 'push'));
