-- Which snapshot edges have in use, so that a deployment is known to be served.

alter table edges add column version bigint not null default 0;
comment on column edges.version is 'Of the route snapshot in use, by its newest report.';

alter table deployments add column route_version bigint;
comment on column deployments.route_version is 'Of the first route snapshot with it as the live one: edges with this or a later one send it their calls.';
