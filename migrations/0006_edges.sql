-- What edges report: who they are, who still depends on replaced instances, and how much is called.

create table edges (
    kid text primary key,
    public_jwk jsonb not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null
);
comment on table edges is 'Edges that have reported. Each signs what it tells instances about callers; instances find the public key in the authorization server''s JWK set for a day after the last report.';
comment on column edges.kid is 'Its name: the RFC 7638 thumbprint of public_jwk.';

create table edge_instances (
    edge text not null references edges on delete cascade,
    deployment_id uuid not null references deployments on delete cascade,
    sessions integer not null check (sessions >= 0),
    requests integer not null check (requests >= 0),
    primary key (edge, deployment_id)
);
create index edge_instances_deployment on edge_instances (deployment_id);
comment on table edge_instances is 'Who depends on an instance, by the newest report of each edge. An instance that nobody depends on has no row.';
comment on column edge_instances.sessions is 'MCP sessions that the instance owns and that were in use lately or hold a stream open.';
comment on column edge_instances.requests is 'Requests that it is answering.';

alter table deployments add column draining_at timestamptz;
update deployments set draining_at = updated_at where state = 'draining';
comment on column deployments.draining_at is 'When another took its place.';
comment on column deployments.drain_until is 'The latest end of its draining; it ends before, once every edge says that nobody depends on it.';

create table usage_minutes (
    project_id uuid not null references projects on delete cascade,
    minute timestamptz not null,
    calls bigint not null,
    errors bigint not null,
    duration_us bigint not null,
    max_us bigint not null,
    primary key (project_id, minute)
);
create index usage_minutes_minute on usage_minutes (minute);
comment on table usage_minutes is 'Calls per project and minute, kept for 30 days.';
comment on column usage_minutes.errors is 'Of the calls, those answered with 500 or above.';
comment on column usage_minutes.duration_us is 'The sum over all calls; divided by calls it is the mean.';
