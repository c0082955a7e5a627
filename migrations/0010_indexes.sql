-- What purges and cascades look for, so that they do not read whole tables.

create index authorization_codes_grant on authorization_codes (grant_id);
create index consents_client on consents (client_id);
create index connection_steps_user on connection_steps (user_id) where user_id is not null;
create index connection_steps_last_at on connection_steps (last_at);
create index users_service_account_of on users (service_account_of) where service_account_of is not null;
create index project_callers_user on project_callers (user_id);
