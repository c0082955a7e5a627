-- Branch rules: which pushes are deployed, and whether what they bring goes live by itself.

alter table projects
    add column auto_promote boolean not null default true,
    add column watch_paths text[] not null default '{}',
    add column ignored_paths text[] not null default '{}';
comment on column projects.auto_promote is 'Whether what a push brought goes live once it answers; otherwise it is held until a member promotes it.';
comment on column projects.watch_paths is 'Patterns as in .gitignore: a push that changes nothing under them is not deployed. Empty means everything.';
comment on column projects.ignored_paths is 'Patterns as in .gitignore: changes under them count for nothing.';

alter table deployments
    add column held_for text
        constraint deployments_held_for_check check (held_for in ('breaking', 'promotion'));
comment on column deployments.held_for is 'Why it was held, if it ever was. breaking: it would break callers; promotion: the project has what pushes bring wait for a member.';
update deployments set held_for = 'breaking' where state = 'held';

alter table github_links
    add column skipped text,
    add column skipped_why text,
    add column failing_since timestamptz;
comment on column github_links.skipped is 'The head of the production branch, when the project''s rules have it not deployed.';
comment on column github_links.skipped_why is 'Which rule, as part of a sentence.';
comment on column github_links.failing_since is 'Since when the branch could not be compared for a reason that passes by itself; null once it could.';
comment on column github_links.head is 'The newest commit of the production branch that a deployment was queued for, or that was there when the project was linked; null once another branch was chosen.';

create index github_deliveries_repository on github_deliveries (repository_id, number);
