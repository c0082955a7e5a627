-- Plans of sources that somebody wants to see before anything is built.

create table plans (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    source jsonb not null,
    entrypoint text,
    build jsonb not null,
    created_at timestamptz not null,
    runner_id uuid references runners on delete cascade,
    claimed_at timestamptz,
    answer jsonb,
    answered_at timestamptz
);
create index plans_user on plans (user_id);
create index plans_unanswered on plans (created_at) where answered_at is null;
comment on table plans is 'Asked by a person, answered by a runner, shown to that person, and gone after an hour.';
comment on column plans.answer is 'A PlanAnswer of the runner protocol.';
