alter table previews
    add column stays_closed boolean not null default false,
    add constraint previews_stays_closed_check check (not stays_closed or state = 'closed');
comment on column previews.stays_closed is 'Closed although its pull request may be open, until that has another head or is reopened: a member closed it, or the head''s message says that it is not to be deployed.';

-- What GitHub shows says why a preview is closed.
drop trigger previews_change_feedback on previews;
create trigger previews_change_feedback
    after update of state, head, slug, asleep, stays_closed on previews
    for each row when ((old.state, old.head, old.slug, old.asleep, old.stays_closed) is distinct from (new.state, new.head, new.slug, new.asleep, new.stays_closed))
    execute function previews_feedback();
