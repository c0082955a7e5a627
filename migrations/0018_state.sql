-- Persistent files have a size, and a project may have a Redis of its own.

alter table projects add column redis boolean not null default false;
comment on column projects.redis is 'Whether its production deployments get a Redis of the project''s own.';

alter table deployments add column redis boolean not null default false;
comment on column deployments.redis is 'The project''s column of that name from when a runner first has it, as with variables.';

create table volumes (
    project_id uuid not null,
    kind text not null constraint volumes_kind_check check (kind in ('data', 'redis')),
    runner_id uuid not null references runners (id) on delete cascade,
    used_bytes bigint,
    size_bytes bigint,
    watched text,
    reported_at timestamptz not null,
    primary key (project_id, kind, runner_id)
);
comment on table volumes is 'Persistent files that runners have, as they last reported them. A row outlives its project, without a reference to it, until the runner has removed the files: only what stood here before is ever removed, so that a database restored from an old copy costs nobody their files.';
comment on column volumes.used_bytes is 'What is in it; null until it was seen.';
comment on column volumes.size_bytes is 'What it holds at the most; null where nothing enforces it.';
comment on column volumes.watched is 'Why its size is only watched, if so.';
create index volumes_runner on volumes (runner_id);
