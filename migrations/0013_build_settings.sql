-- How a project is built and started beside its entrypoint, what its builds alone may know, and what
-- they resolved.

alter table projects add column build jsonb not null default '{}';
comment on column projects.build is 'How it is built and started, as far as its owner said: root directory, dependency file, system packages, commands. Applies from the next deployment.';

alter table deployments
    add column build jsonb not null default '{}',
    add column lock_sha256 text;
comment on column deployments.build is 'The project''s column of that name when the deployment was asked for, so that a rollback builds as before.';
comment on column deployments.lock_sha256 is 'The lock that its environment was installed from; its text is in locks once the runner has sent it.';

create table locks (
    sha256 text primary key check (sha256 ~ '^[0-9a-f]{64}$'),
    text text not null,
    created_at timestamptz not null
);
create index deployments_lock on deployments (lock_sha256) where lock_sha256 is not null;
comment on table locks is 'What builds resolved: requirements with hashes, by their SHA-256. Reached through a deployment of the project only.';

create table build_variables (
    project_id uuid not null references projects on delete cascade,
    name text not null check (name ~ '^[A-Za-z_][A-Za-z0-9_]*$'),
    secret boolean not null,
    value text not null,
    updated_at timestamptz not null,
    updated_by text not null,
    primary key (project_id, name)
);
comment on table build_variables is 'Variables that a project''s builds get and its server does not, for example credentials of a package index.';
comment on column build_variables.value is 'As in variables: the value, or a sealed box for each runner.';
