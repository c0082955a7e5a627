-- What an edge reports counts once, although it may be sent again.

alter table edges add column report_run uuid;
alter table edges add column report_number bigint;
comment on column edges.report_run is 'The run of the edge that the newest counted report is of; null before the first that has an id.';
comment on column edges.report_number is 'The number of that report within its run: it and those below it were counted.';
