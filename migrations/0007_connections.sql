-- What clients did on their way to a connection: the one place that answers "it does not connect".

create table connection_steps (
    id bigint generated always as identity primary key,
    project_id uuid references projects on delete cascade,
    step text not null,
    code text,
    client_id text,
    client_name text,
    user_id uuid references users on delete cascade,
    peer bytea not null,
    user_agent text,
    detail text,
    first_at timestamptz not null,
    last_at timestamptz not null,
    count integer not null check (count > 0)
);
create index connection_steps_project on connection_steps (project_id, last_at desc, id desc);
create index connection_steps_client on connection_steps (client_id) where project_id is null;
create index connection_steps_peer on connection_steps (peer, last_at);
comment on table connection_steps is 'Steps of clients that connect, as edges and the authorization server see them. Kept 7 days, and the newest of each project.';
comment on column connection_steps.project_id is 'Null where the step names none, as with a registration; such steps are joined by client, or by peer and user agent, when they are read.';
comment on column connection_steps.code is 'Why it failed, by the catalogue; null for a step that went well.';
comment on column connection_steps.client_id is 'As the client gave it, which need not be a row of clients.';
comment on column connection_steps.peer is 'Stands for the network address: HMAC under a key that is not in the database.';
comment on column connection_steps.detail is 'What exactly was seen, without secrets; the newest.';
comment on column connection_steps.count is 'Like steps within minutes are one row.';
