-- Previews: what a pull request would bring, under an address of its own.

create table previews (
    id uuid primary key,
    project_id uuid not null references projects on delete cascade,
    slug text not null,
    pull_request bigint not null,
    title text not null,
    author text not null,
    branch text not null,
    head text not null,
    fork boolean not null,
    state text not null
        constraint previews_state_check check (state in ('waiting', 'open', 'crowded', 'closed')),
    approved_commit text,
    approved_by uuid references users on delete set null,
    with_secrets boolean not null default false,
    asleep boolean not null default false,
    last_used_at timestamptz not null,
    opened_at timestamptz not null,
    closed_at timestamptz,
    constraint previews_project_id_pull_request_key unique (project_id, pull_request),
    constraint previews_project_id_slug_key unique (project_id, slug)
);
comment on table previews is 'One for each pull request of a project''s repository that was opened while the project had previews. A preview that was closed stays for its deployments'' sake; reopening opens the same one again.';
comment on column previews.slug is 'What follows PROJECT-- in its address: pr-12.';
comment on column previews.branch is 'The head branch, in whatever repository it is.';
comment on column previews.head is 'The newest commit that GitHub named.';
comment on column previews.fork is 'Its code comes from another repository: it is built only once a member approved the commit.';
comment on column previews.state is 'waiting: of a fork, and its head is not approved; open: its head is deployed; crowded: the project has as many open ones as it may; closed: the pull request is closed, and nothing of it runs.';
comment on column previews.approved_commit is 'The head that a member let be built; a later one waits again.';
comment on column previews.with_secrets is 'Whether whoever approved let the fork''s code have the secret variables of previews.';
comment on column previews.asleep is 'Its instance was stopped because nobody called; the next call starts it.';
comment on column previews.last_used_at is 'When it was last called, deployed or opened.';

alter table projects
    add column previews boolean not null default true,
    add column preview_variables_revision integer not null default 0;
comment on column projects.previews is 'Whether pull requests of its repository get previews.';
comment on column projects.preview_variables_revision is 'Grows with every change of the variables of scopes preview and branch; what variables_revision is for production.';

alter table deployments
    add column preview_id uuid references previews on delete cascade,
    drop constraint deployments_origin_check,
    add constraint deployments_origin_check
        check (origin in ('page', 'api', 'rollback', 'promote', 'variables', 'push', 'preview', 'wake'));
comment on column deployments.preview_id is 'The preview that it belongs to; null for production.';
comment on column deployments.variables_revision is 'The project''s variables_revision that it has or, while no runner has it, is to have; of a preview preview_variables_revision.';
create index deployments_preview on deployments (preview_id);

drop index deployments_one_live;
create unique index deployments_one_live on deployments (project_id, preview_id) nulls not distinct where state = 'live';

comment on column github_deliveries.lane is 'The repository, its pull requests, or else the installation: what must be processed in order.';
