-- Which host an instance is told, for servers that refuse their public one.

alter table deployments
    add column host_header text not null default 'public'
        constraint deployments_host_header_check check (host_header in ('public', 'localhost'));
comment on column deployments.host_header is 'What edges tell the instance as Host: the public one, or localhost with its port, as the probe at deploy found.';
