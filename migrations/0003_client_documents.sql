-- Clients by where what is known of them comes from, and clients that show keys instead of secrets.

alter table clients
    add column kind text not null default 'registered'
        constraint clients_kind_check check (kind in ('registered', 'document', 'built_in', 'service')),
    add column jwks jsonb,
    add column jwks_uri text,
    add column fetched_at timestamptz,
    add column fresh_until timestamptz,
    add column service_account_id uuid references users (id) on delete cascade,
    add column deleted_at timestamptz,
    add constraint clients_document_check
        check ((kind = 'document') = (fetched_at is not null and fresh_until is not null)),
    add constraint clients_service_check check ((kind = 'service') = (service_account_id is not null)),
    add constraint clients_keys_check
        check ((token_endpoint_auth_method = 'private_key_jwt') = (num_nonnulls(jwks, jwks_uri) = 1)),
    drop constraint clients_token_endpoint_auth_method_check,
    add constraint clients_token_endpoint_auth_method_check check (token_endpoint_auth_method in
        ('none', 'client_secret_post', 'client_secret_basic', 'private_key_jwt'));
update clients set kind = 'built_in' where id = 'berth-cli';
alter table clients alter column kind drop default;
create index clients_service_account on clients (service_account_id) where service_account_id is not null;
comment on table clients is 'OAuth clients.';
comment on column clients.kind is 'registered: by itself (RFC 7591); document: its id is the URL of a Client ID Metadata Document, of which this is a copy; built_in: our command line; service: made for a service account.';
comment on column clients.jwks is 'The public keys that it signs assertions with (RFC 7517), where it gave them itself.';
comment on column clients.jwks_uri is 'Where its public keys are, otherwise.';
comment on column clients.fetched_at is 'When the document was fetched.';
comment on column clients.fresh_until is 'Until when the copy is used without asking again.';
comment on column clients.service_account_id is 'As whom a service client calls.';
comment on column clients.deleted_at is 'Unusable from then on; kept until edges need not be told of its grants any more.';

create table client_assertions (
    client_id text not null references clients on delete cascade,
    jti_hash bytea not null,
    expires_at timestamptz not null,
    primary key (client_id, jti_hash)
);
create index client_assertions_expiry on client_assertions (expires_at);
comment on table client_assertions is 'Assertions that clients have shown (RFC 7523); each is good once. Kept while it could be shown again.';
comment on column client_assertions.jti_hash is 'SHA-256 of its jti, which is of any length.';
