-- A deployment that answers but would break callers may wait for a member.

alter table projects add column hold_breaking boolean not null default false;
comment on column projects.hold_breaking is 'Whether a deployment whose server offers less than the live one waits, held, until a member promotes it.';

alter table deployments
    drop constraint deployments_state_check,
    add constraint deployments_state_check check (state in
        ('queued', 'building', 'starting', 'checking', 'held', 'live', 'draining', 'stopped', 'failed', 'canceled'));
