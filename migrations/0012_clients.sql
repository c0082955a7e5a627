-- Clients end: those made with a token that ends, and unused registrations where there are too many.

alter table clients add column expires_at timestamptz;
comment on column clients.expires_at is 'From then on it gets no tokens: it was made with an API token that ended by then. Null for a client without an end.';

create index clients_unused on clients (created_at) where kind = 'registered' and last_used_at is null;
