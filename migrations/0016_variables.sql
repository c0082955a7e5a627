-- Variables have a scope, their changes are numbered, and a deployment keeps what it was given: an
-- instance that is started again finds what it had, and a restart for new values builds nothing.

alter table projects add column variables_revision integer not null default 0;
comment on column projects.variables_revision is 'Grows with every change of the variables of scope production.';

alter table variables
    add column scope text not null default 'production'
        constraint variables_scope_check check (scope in ('production', 'preview', 'branch')),
    add column branch text not null default '',
    add constraint variables_branch_check check ((scope = 'branch') = (branch <> '')),
    drop constraint variables_pkey,
    add primary key (project_id, scope, branch, name);
comment on column variables.scope is 'production: for production deployments; preview: for previews; branch: for the previews of one branch, before preview.';
comment on column variables.branch is 'With scope branch: which; otherwise empty.';

alter table deployments
    add column variables jsonb,
    add column variables_revision integer not null default 0,
    add column build_of uuid references deployments (id) on delete set null,
    drop constraint deployments_origin_check,
    add constraint deployments_origin_check
        check (origin in ('page', 'api', 'rollback', 'promote', 'variables'));
comment on column deployments.variables is 'What the instance finds, as rows of variables (name, secret, value), from when a runner first has it; dropped at its end.';
comment on column deployments.variables_revision is 'The project''s variables_revision that it has or, while no runner has it, is to have.';
comment on column deployments.build_of is 'The deployment whose source and environment it runs, when nothing was built for it.';

create index deployments_build_of on deployments (build_of) where build_of is not null;
