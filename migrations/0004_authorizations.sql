-- Authorizations: those that wait for a person, what is remembered of an answer, and grants that
-- need no code.

create table pending_authorizations (
    id_hash bytea primary key,
    browser_hash bytea not null,
    user_id uuid not null references users on delete cascade,
    request jsonb not null,
    created_at timestamptz not null,
    expires_at timestamptz not null
);
create index pending_authorizations_user on pending_authorizations (user_id, created_at);
create index pending_authorizations_expiry on pending_authorizations (expires_at);
comment on table pending_authorizations is 'Consent pages that are open: one row each, deleted by the answer.';
comment on column pending_authorizations.id_hash is 'SHA-256 of the random id in the page.';
comment on column pending_authorizations.browser_hash is 'SHA-256 of the id of the browser session that was asked; only it can answer.';
comment on column pending_authorizations.request is 'What is asked, as the consent page wrote it. Holds no code and no token.';

-- What was allowed is remembered for all of a client's redirect URIs as they were then, so that a
-- client that changes them is asked for again. Earlier answers do not say it: people are asked once
-- more.
delete from consents;
alter table consents
    drop constraint consents_pkey,
    drop column redirect_uri,
    add column redirect_set bytea not null,
    add primary key (user_id, client_id, project_id, redirect_set, scope);
comment on column consents.redirect_set is 'SHA-256 of the sorted redirect URIs that the client had.';

alter table grants add column standing boolean not null default false;
create unique index grants_standing on grants (client_id, project_id, user_id, resource)
    where standing and revoked_at is null;
create index grants_client on grants (client_id);
comment on column grants.standing is 'Made without a code, for the command line or a service account; one each, used again and again.';
