alter table setup_links
    add column replaces boolean not null default false;
comment on column setup_links.replaces is 'It sets another password in the place of one: whoever runs the platform made it.';
comment on table setup_links is 'One-time links by which a password is set. Only the SHA-256 of the token is kept.';
