-- Who may call a project, and by which token.

alter table users add column service_account_of uuid references organizations (id) on delete cascade;
comment on column users.service_account_of is 'Set for a service account: the organization it belongs to. It has no password and no membership; its e-mail address is a placeholder under .invalid.';
comment on table users is 'People and service accounts.';

alter table projects
    add column access_mode text not null default 'platform'
        constraint projects_access_mode_check check (access_mode in ('platform', 'public', 'tenant')),
    add column callers text not null default 'organization'
        constraint projects_callers_check check (callers in ('owner', 'chosen', 'organization', 'anyone')),
    add column public_paths text[] not null default '{}',
    add column allowed_origins text[] not null default '{}';
comment on column projects.access_mode is 'platform: a token of the platform is needed; public: nobody is asked; tenant: the server decides itself.';
comment on column projects.callers is 'In platform mode: owners of the organization, chosen users of it (project_callers), all of it with its service accounts, or anyone who is signed in.';
comment on column projects.public_paths is 'In platform mode: paths that need no token.';
comment on column projects.allowed_origins is 'Further origins whose web pages may call.';

create table project_callers (
    project_id uuid not null references projects (id) on delete cascade,
    user_id uuid not null references users (id) on delete cascade,
    primary key (project_id, user_id)
);
comment on table project_callers is 'The chosen users of projects whose callers are chosen.';

alter table api_tokens
    add column good_for text not null default 'everything'
        constraint api_tokens_good_for_check check (good_for in ('everything', 'calls')),
    add column project_ids uuid[];
comment on column api_tokens.good_for is 'everything: the API and calls, as the person; calls: MCP servers only.';
comment on column api_tokens.project_ids is 'With calls: the projects it is good for; null for all that its owner may call.';

-- The one rule of who may call a project in platform mode; codes, refresh tokens, the consent page
-- and the edges' snapshot all ask here.
create function may_call(caller uuid, target uuid) returns boolean language sql stable as $$
    select exists (
        select 1 from projects p join users u on u.id = caller
        left join members m on m.organization_id = p.organization_id and m.user_id = u.id
        where p.id = target and p.access_mode = 'platform' and case p.callers
            when 'anyone' then u.service_account_of is null or u.service_account_of = p.organization_id
            when 'organization' then m.user_id is not null or u.service_account_of = p.organization_id
            when 'chosen' then (m.user_id is not null or u.service_account_of = p.organization_id)
                and exists (select 1 from project_callers c where c.project_id = p.id and c.user_id = u.id)
            when 'owner' then m.role = 'owner'
            else false
        end)
$$;
comment on function may_call is 'Whether a user may call a project of mode platform.';
