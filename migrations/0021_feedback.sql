-- What GitHub shows of deployments: checks, deployments and comments, and what was told of them last.

alter table github_tokens
    add column purpose text not null default 'fetch'
        constraint github_tokens_purpose_check check (purpose in ('fetch', 'feedback')),
    drop constraint github_tokens_pkey,
    add primary key (installation_id, purpose);
comment on column github_tokens.purpose is 'fetch: reads the repositories; feedback: writes checks, deployments and comments, and never leaves the control plane.';

alter table github_installations
    add column lacks text[] not null default '{}',
    add column lacks_at timestamptz;
comment on column github_installations.lacks is 'Permissions that feedback needs and that its owner did not grant.';
comment on column github_installations.lacks_at is 'When GitHub last said so; it is asked again a day later.';

alter table projects
    add column github_comments boolean not null default true;
comment on column projects.github_comments is 'Whether pull requests with a preview get a comment about it.';

create table github_feedback (
    kind text not null constraint github_feedback_kind_check check (kind in ('check', 'deployment', 'comment')),
    deployment_id uuid references deployments on delete cascade,
    preview_id uuid references previews on delete cascade,
    subject_id uuid generated always as (coalesce(deployment_id, preview_id)) stored,
    project_id uuid not null,
    repository_id bigint not null,
    remote_id bigint,
    sent bytea,
    sent_at timestamptz,
    annotated boolean not null default false,
    overtaken boolean not null default false,
    deleted_head text,
    wanted bigint not null default 1,
    due_at timestamptz,
    attempts integer not null default 0,
    problem text,
    primary key (kind, subject_id),
    constraint github_feedback_subject_check
        check (num_nonnulls(deployment_id, preview_id) = 1 and (kind = 'comment') = (preview_id is not null))
);
create index github_feedback_due on github_feedback (due_at) where due_at is not null;
create index github_feedback_project on github_feedback (project_id);
create index github_feedback_deployment on github_feedback (deployment_id);
create index github_feedback_preview on github_feedback (preview_id);
comment on table github_feedback is 'What GitHub is to show of deployments and previews, one thing each. How it is to look follows from the deployment when it is sent; a row says whether that is due, and what was sent last.';
comment on column github_feedback.kind is 'check: a check run; deployment: a deployment of GitHub''s; comment: the comment on a preview''s pull request.';
comment on column github_feedback.project_id is 'Its project. It refers to nothing, so that a row locks no project; it goes with the deployment or preview.';
comment on column github_feedback.remote_id is 'GitHub''s number of it; null before it is known to be there.';
comment on column github_feedback.sent is 'SHA-256 of what was sent last.';
comment on column github_feedback.annotated is 'Whether its annotations were sent: GitHub adds those of later requests to them.';
comment on column github_feedback.overtaken is 'Somebody asked for it again when its commit was not the branch''s head any more.';
comment on column github_feedback.deleted_head is 'The head at which a person had deleted the comment: there is no other before the next one.';
comment on column github_feedback.wanted is 'Grows with every change of what it is about, so that one during a request is not lost.';
comment on column github_feedback.due_at is 'When it is to be compared and sent; while it is being sent, when that counts as lost; null while nothing is to be done.';
comment on column github_feedback.attempts is 'Begun since the last success.';
comment on column github_feedback.problem is 'Why it does not show what it should, as one sentence.';

-- Nobody who changes a deployment has to know of GitHub, and none of these waits for whoever talks to
-- it: nothing is locked while GitHub answers.

create function github_feedback_want(kind text, project uuid, deployment uuid, preview uuid, since timestamptz) returns void
    language sql as $$
    insert into github_feedback as f (kind, deployment_id, preview_id, project_id, repository_id, due_at)
    select $1, $3, $4, l.project_id, l.repository_id, $5 from github_links l
    where l.project_id = $2 and ($3 is null or exists (
        select from deployments d where d.id = $3 and d.source->>'repository' = l.repository_id::text))
    on conflict (kind, subject_id) do update set wanted = f.wanted + 1,
        due_at = coalesce(f.due_at, greatest(excluded.due_at, f.sent_at + interval '1 second'))
$$;
comment on function github_feedback_want is 'Has something of a linked project compared with what GitHub shows, if it is of the repository that the project has now; at most once a second.';

create function github_feedback_touch(preview uuid, since timestamptz) returns void
    language sql as $$
    update github_feedback f set wanted = f.wanted + 1,
        due_at = coalesce(f.due_at, greatest($2, f.sent_at + interval '1 second'))
    from (select g.kind, g.deployment_id from github_feedback g join deployments d on d.id = g.deployment_id
          where d.preview_id = $1 and g.remote_id is not null
          order by g.kind, g.deployment_id for update of g) o
    where f.kind = o.kind and f.deployment_id = o.deployment_id
$$;
comment on function github_feedback_touch is 'The same for all deployments of a preview that GitHub has: whether they serve follows from the preview too.';

create function deployments_feedback() returns trigger
    language plpgsql as $$
begin
    if coalesce(new.commit_id, new.source->>'commit', '') !~ '^[0-9a-f]{40}$' or new.source->>'repository' is null then
        return null;
    end if;
    if new.origin not in ('variables', 'wake') then
        perform github_feedback_want('check', new.project_id, new.id, null, new.updated_at);
        perform github_feedback_want('deployment', new.project_id, new.id, null, new.updated_at);
    elsif new.build_of is not null then
        perform github_feedback_want('check', new.project_id, new.build_of, null, new.updated_at);
        perform github_feedback_want('deployment', new.project_id, new.build_of, null, new.updated_at);
    end if;
    if new.preview_id is not null then
        perform github_feedback_want('comment', new.project_id, null, new.preview_id, new.updated_at);
        if new.state = 'live' or new.origin = 'wake' then
            perform github_feedback_touch(new.preview_id, new.updated_at);
        end if;
    end if;
    perform pg_notify('berth', 'feedback');
    return null;
end
$$;
comment on function deployments_feedback is 'A restart is shown as the deployment whose build it runs.';
create trigger deployments_feedback
    after insert or update of state, commit_id, diagnosis, plan, surface, timings on deployments
    for each row execute function deployments_feedback();

create function previews_feedback() returns trigger
    language plpgsql as $$
begin
    perform github_feedback_want('comment', new.project_id, null, new.id, new.opened_at);
    perform github_feedback_touch(new.id, new.opened_at);
    perform pg_notify('berth', 'feedback');
    return null;
end
$$;
create trigger previews_feedback
    after insert on previews
    for each row execute function previews_feedback();
create trigger previews_change_feedback
    after update of state, head, slug, asleep on previews
    for each row when ((old.state, old.head, old.slug, old.asleep) is distinct from (new.state, new.head, new.slug, new.asleep))
    execute function previews_feedback();

create function github_links_feedback() returns trigger
    language plpgsql as $$
begin
    delete from github_feedback where project_id = old.project_id;
    return null;
end
$$;
comment on function github_links_feedback is 'What was told of another repository is of no use.';
create trigger github_links_forget_feedback
    after delete on github_links
    for each row execute function github_links_feedback();
create trigger github_links_change_feedback
    after update of repository_id on github_links
    for each row when (old.repository_id is distinct from new.repository_id)
    execute function github_links_feedback();
