
CREATE FUNCTION public.deployments_feedback() RETURNS trigger
    LANGUAGE plpgsql
    AS $_$
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
$_$;

COMMENT ON FUNCTION public.deployments_feedback() IS 'A restart is shown as the deployment whose build it runs.';

CREATE FUNCTION public.github_feedback_touch(preview uuid, since timestamp with time zone) RETURNS void
    LANGUAGE sql
    AS $_$
    update github_feedback f set wanted = f.wanted + 1,
        due_at = coalesce(f.due_at, greatest($2, f.sent_at + interval '1 second'))
    from (select g.kind, g.deployment_id from github_feedback g join deployments d on d.id = g.deployment_id
          where d.preview_id = $1 and g.remote_id is not null
          order by g.kind, g.deployment_id for update of g) o
    where f.kind = o.kind and f.deployment_id = o.deployment_id
$_$;

COMMENT ON FUNCTION public.github_feedback_touch(preview uuid, since timestamp with time zone) IS 'The same for all deployments of a preview that GitHub has: whether they serve follows from the preview too.';

CREATE FUNCTION public.github_feedback_want(kind text, project uuid, deployment uuid, preview uuid, since timestamp with time zone) RETURNS void
    LANGUAGE sql
    AS $_$
    insert into github_feedback as f (kind, deployment_id, preview_id, project_id, repository_id, due_at)
    select $1, $3, $4, l.project_id, l.repository_id, $5 from github_links l
    where l.project_id = $2 and ($3 is null or exists (
        select from deployments d where d.id = $3 and d.source->>'repository' = l.repository_id::text))
    on conflict (kind, subject_id) do update set wanted = f.wanted + 1,
        due_at = coalesce(f.due_at, greatest(excluded.due_at, f.sent_at + interval '1 second'))
$_$;

COMMENT ON FUNCTION public.github_feedback_want(kind text, project uuid, deployment uuid, preview uuid, since timestamp with time zone) IS 'Has something of a linked project compared with what GitHub shows, if it is of the repository that the project has now; at most once a second.';

CREATE FUNCTION public.github_links_feedback() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    delete from github_feedback where project_id = old.project_id;
    return null;
end
$$;

COMMENT ON FUNCTION public.github_links_feedback() IS 'What was told of another repository is of no use.';

CREATE FUNCTION public.may_call(caller uuid, target uuid) RETURNS boolean
    LANGUAGE sql STABLE
    AS $$
    select exists (
        select 1 from projects p join users u on u.id = caller
        left join members m on m.organization_id = p.organization_id and m.user_id = u.id
        where p.id = target and p.access_mode = 'platform' and case p.callers
            when 'anyone' then u.service_account_of is null or u.service_account_of = p.organization_id
            when 'organization' then m.user_id is not null or u.service_account_of = p.organization_id
            when 'chosen' then (m.user_id is not null or u.service_account_of = p.organization_id)
                and exists (select 1 from project_callers c where c.project_id = p.id and c.user_id = u.id)
            when 'owner' then m.role = 'owner'
            else false
        end)
$$;

COMMENT ON FUNCTION public.may_call(caller uuid, target uuid) IS 'Whether a user may call a project of mode platform.';

CREATE FUNCTION public.previews_feedback() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    perform github_feedback_want('comment', new.project_id, null, new.id, new.opened_at);
    perform github_feedback_touch(new.id, new.opened_at);
    perform pg_notify('berth', 'feedback');
    return null;
end
$$;

CREATE TABLE public.api_tokens (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    name text NOT NULL,
    token_hash bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    good_for text DEFAULT 'everything'::text NOT NULL,
    project_ids uuid[],
    CONSTRAINT api_tokens_good_for_check CHECK ((good_for = ANY (ARRAY['everything'::text, 'calls'::text])))
);

COMMENT ON TABLE public.api_tokens IS 'Tokens (brt_…) for the API and the command line; only the SHA-256 kept, shown once.';

COMMENT ON COLUMN public.api_tokens.good_for IS 'everything: the API and calls, as the person; calls: MCP servers only.';

COMMENT ON COLUMN public.api_tokens.project_ids IS 'With calls: the projects it is good for; null for all that its owner may call.';

CREATE TABLE public.audit_log (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    organization_id uuid,
    project_id uuid,
    subject jsonb NOT NULL
);

COMMENT ON TABLE public.audit_log IS 'Who changed what. Written in the transaction of the change, never updated; holds no values of secrets.';

ALTER TABLE public.audit_log ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.authorization_codes (
    code_hash bytea NOT NULL,
    grant_id uuid NOT NULL,
    redirect_uri text NOT NULL,
    code_challenge text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone
);

COMMENT ON TABLE public.authorization_codes IS 'RFC 6749 section 4.1.2: one use, short-lived, only the SHA-256 kept.';

CREATE TABLE public.build_variables (
    project_id uuid NOT NULL,
    name text NOT NULL,
    secret boolean NOT NULL,
    value text NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    updated_by text NOT NULL,
    CONSTRAINT build_variables_name_check CHECK ((name ~ '^[A-Za-z_][A-Za-z0-9_]*$'::text))
);

COMMENT ON TABLE public.build_variables IS 'Variables that a project''s builds get and its server does not, for example credentials of a package index.';

COMMENT ON COLUMN public.build_variables.value IS 'As in variables: the value, or a sealed box for each runner.';

CREATE TABLE public.client_assertions (
    client_id text NOT NULL,
    jti_hash bytea NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.client_assertions IS 'Assertions that clients have shown (RFC 7523); each is good once. Kept while it could be shown again.';

COMMENT ON COLUMN public.client_assertions.jti_hash IS 'SHA-256 of its jti, which is of any length.';

CREATE TABLE public.clients (
    id text NOT NULL,
    name text NOT NULL,
    redirect_uris text[] NOT NULL,
    grant_types text[] NOT NULL,
    token_endpoint_auth_method text NOT NULL,
    secret_hash bytea,
    metadata jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone,
    kind text NOT NULL,
    jwks jsonb,
    jwks_uri text,
    fetched_at timestamp with time zone,
    fresh_until timestamp with time zone,
    service_account_id uuid,
    deleted_at timestamp with time zone,
    expires_at timestamp with time zone,
    CONSTRAINT clients_document_check CHECK (((kind = 'document'::text) = ((fetched_at IS NOT NULL) AND (fresh_until IS NOT NULL)))),
    CONSTRAINT clients_keys_check CHECK (((token_endpoint_auth_method = 'private_key_jwt'::text) = (num_nonnulls(jwks, jwks_uri) = 1))),
    CONSTRAINT clients_kind_check CHECK ((kind = ANY (ARRAY['registered'::text, 'document'::text, 'built_in'::text, 'service'::text]))),
    CONSTRAINT clients_service_check CHECK (((kind = 'service'::text) = (service_account_id IS NOT NULL))),
    CONSTRAINT clients_token_endpoint_auth_method_check CHECK ((token_endpoint_auth_method = ANY (ARRAY['none'::text, 'client_secret_post'::text, 'client_secret_basic'::text, 'private_key_jwt'::text])))
);

COMMENT ON TABLE public.clients IS 'OAuth clients.';

COMMENT ON COLUMN public.clients.kind IS 'registered: by itself (RFC 7591); document: its id is the URL of a Client ID Metadata Document, of which this is a copy; built_in: our command line; service: made for a service account.';

COMMENT ON COLUMN public.clients.jwks IS 'The public keys that it signs assertions with (RFC 7517), where it gave them itself.';

COMMENT ON COLUMN public.clients.jwks_uri IS 'Where its public keys are, otherwise.';

COMMENT ON COLUMN public.clients.fetched_at IS 'When the document was fetched.';

COMMENT ON COLUMN public.clients.fresh_until IS 'Until when the copy is used without asking again.';

COMMENT ON COLUMN public.clients.service_account_id IS 'As whom a service client calls.';

COMMENT ON COLUMN public.clients.deleted_at IS 'Unusable from then on; kept until edges need not be told of its grants any more.';

COMMENT ON COLUMN public.clients.expires_at IS 'From then on it gets no tokens: it was made with an API token that ended by then. Null for a client without an end.';

CREATE TABLE public.connection_steps (
    id bigint NOT NULL,
    project_id uuid,
    step text NOT NULL,
    code text,
    client_id text,
    client_name text,
    user_id uuid,
    peer bytea NOT NULL,
    user_agent text,
    detail text,
    first_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL,
    count integer NOT NULL,
    CONSTRAINT connection_steps_count_check CHECK ((count > 0))
);

COMMENT ON TABLE public.connection_steps IS 'Steps of clients that connect, as edges and the authorization server see them. Kept 7 days, and the newest of each project.';

COMMENT ON COLUMN public.connection_steps.project_id IS 'Null where the step names none, as with a registration; such steps are joined by client, or by peer and user agent, when they are read.';

COMMENT ON COLUMN public.connection_steps.code IS 'Why it failed, by the catalogue; null for a step that went well.';

COMMENT ON COLUMN public.connection_steps.client_id IS 'As the client gave it, which need not be a row of clients.';

COMMENT ON COLUMN public.connection_steps.peer IS 'Stands for the network address: HMAC under a key that is not in the database.';

COMMENT ON COLUMN public.connection_steps.detail IS 'What exactly was seen, without secrets; the newest.';

COMMENT ON COLUMN public.connection_steps.count IS 'Like steps within minutes are one row.';

ALTER TABLE public.connection_steps ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.connection_steps_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.consents (
    user_id uuid NOT NULL,
    client_id text NOT NULL,
    project_id uuid NOT NULL,
    scope text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    redirect_set bytea NOT NULL
);

COMMENT ON TABLE public.consents IS 'What a person has allowed, so that it need not be asked again.';

COMMENT ON COLUMN public.consents.redirect_set IS 'SHA-256 of the sorted redirect URIs that the client had.';

CREATE TABLE public.deployments (
    id uuid NOT NULL,
    project_id uuid NOT NULL,
    number integer NOT NULL,
    state text NOT NULL,
    source jsonb NOT NULL,
    entrypoint text,
    origin text NOT NULL,
    created_by text NOT NULL,
    commit_id text,
    commit_subject text,
    commit_author text,
    runner_id uuid,
    lease_until timestamp with time zone,
    upstream text,
    plan jsonb,
    surface jsonb,
    diagnosis jsonb,
    timings jsonb DEFAULT '[]'::jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    live_at timestamp with time zone,
    drain_until timestamp with time zone,
    unrouted_at timestamp with time zone,
    stop_requested_at timestamp with time zone,
    finished_at timestamp with time zone,
    draining_at timestamp with time zone,
    host_header text DEFAULT 'public'::text NOT NULL,
    route_version bigint,
    build jsonb DEFAULT '{}'::jsonb NOT NULL,
    lock_sha256 text,
    variables jsonb,
    variables_revision integer DEFAULT 0 NOT NULL,
    build_of uuid,
    redis boolean DEFAULT false NOT NULL,
    preview_id uuid,
    held_for text,
    CONSTRAINT deployments_held_for_check CHECK ((held_for = ANY (ARRAY['breaking'::text, 'promotion'::text]))),
    CONSTRAINT deployments_host_header_check CHECK ((host_header = ANY (ARRAY['public'::text, 'localhost'::text]))),
    CONSTRAINT deployments_origin_check CHECK ((origin = ANY (ARRAY['page'::text, 'api'::text, 'rollback'::text, 'promote'::text, 'variables'::text, 'push'::text, 'preview'::text, 'wake'::text]))),
    CONSTRAINT deployments_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'building'::text, 'starting'::text, 'checking'::text, 'held'::text, 'live'::text, 'draining'::text, 'stopped'::text, 'failed'::text, 'canceled'::text])))
);

COMMENT ON TABLE public.deployments IS 'One attempt each to bring a source live. States only move forward.';

COMMENT ON COLUMN public.deployments.lease_until IS 'While it lies ahead the runner owns the deployment; each sync renews it.';

COMMENT ON COLUMN public.deployments.drain_until IS 'The latest end of its draining; it ends before, once every edge says that nobody depends on it.';

COMMENT ON COLUMN public.deployments.unrouted_at IS 'When edges were told to forget the drained instance; it is stopped a moment later.';

COMMENT ON COLUMN public.deployments.draining_at IS 'When another took its place.';

COMMENT ON COLUMN public.deployments.host_header IS 'What edges tell the instance as Host: the public one, or localhost with its port, as the probe at deploy found.';

COMMENT ON COLUMN public.deployments.route_version IS 'Of the first route snapshot with it as the live one: edges with this or a later one send it their calls.';

COMMENT ON COLUMN public.deployments.build IS 'The project''s column of that name when the deployment was asked for, so that a rollback builds as before.';

COMMENT ON COLUMN public.deployments.lock_sha256 IS 'The lock that its environment was installed from; its text is in locks once the runner has sent it.';

COMMENT ON COLUMN public.deployments.variables IS 'What the instance finds, as rows of variables (name, secret, value), from when a runner first has it; dropped at its end.';

COMMENT ON COLUMN public.deployments.variables_revision IS 'The project''s variables_revision that it has or, while no runner has it, is to have; of a preview preview_variables_revision.';

COMMENT ON COLUMN public.deployments.build_of IS 'The deployment whose source and environment it runs, when nothing was built for it.';

COMMENT ON COLUMN public.deployments.redis IS 'The project''s column of that name from when a runner first has it, as with variables.';

COMMENT ON COLUMN public.deployments.preview_id IS 'The preview that it belongs to; null for production.';

COMMENT ON COLUMN public.deployments.held_for IS 'Why it was held, if it ever was. breaking: it would break callers; promotion: the project has what pushes bring wait for a member.';

CREATE TABLE public.edge_instances (
    edge text NOT NULL,
    deployment_id uuid NOT NULL,
    sessions integer NOT NULL,
    requests integer NOT NULL,
    CONSTRAINT edge_instances_requests_check CHECK ((requests >= 0)),
    CONSTRAINT edge_instances_sessions_check CHECK ((sessions >= 0))
);

COMMENT ON TABLE public.edge_instances IS 'Who depends on an instance, by the newest report of each edge. An instance that nobody depends on has no row.';

COMMENT ON COLUMN public.edge_instances.sessions IS 'MCP sessions that the instance owns and that were in use lately or hold a stream open.';

COMMENT ON COLUMN public.edge_instances.requests IS 'Requests that it is answering.';

CREATE TABLE public.edges (
    kid text NOT NULL,
    public_jwk jsonb NOT NULL,
    first_seen_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    report_run uuid,
    report_number bigint
);

COMMENT ON TABLE public.edges IS 'Edges that have reported. Each signs what it tells instances about callers; instances find the public key in the authorization server''s JWK set for a day after the last report.';

COMMENT ON COLUMN public.edges.kid IS 'Its name: the RFC 7638 thumbprint of public_jwk.';

COMMENT ON COLUMN public.edges.version IS 'Of the route snapshot in use, by its newest report.';

COMMENT ON COLUMN public.edges.report_run IS 'The run of the edge that the newest counted report is of; null before the first that has an id.';

COMMENT ON COLUMN public.edges.report_number IS 'The number of that report within its run: it and those below it were counted.';

CREATE TABLE public.github_access (
    organization_id uuid NOT NULL,
    installation_id bigint NOT NULL,
    user_id uuid NOT NULL,
    repository_id bigint NOT NULL
);

COMMENT ON TABLE public.github_access IS 'Repositories that a person who connected an installation may push to themselves.';

CREATE TABLE public.github_app (
    only_row boolean DEFAULT true NOT NULL,
    id bigint NOT NULL,
    slug text NOT NULL,
    name text NOT NULL,
    page text NOT NULL,
    client_id text NOT NULL,
    client_secret bytea NOT NULL,
    private_key bytea NOT NULL,
    webhook_secret bytea NOT NULL,
    sign_up text DEFAULT 'nobody'::text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT github_app_only_row_check CHECK (only_row),
    CONSTRAINT github_app_sign_up_check CHECK ((sign_up = ANY (ARRAY['nobody'::text, 'listed'::text, 'anyone'::text])))
);

COMMENT ON TABLE public.github_app IS 'One row once it is set up: the App by which Berth works with GitHub. Its secrets are encrypted with the key encryption key.';

COMMENT ON COLUMN public.github_app.page IS 'Its page at GitHub.';

COMMENT ON COLUMN public.github_app.sign_up IS 'Who may sign up by GitHub: nobody, those of github_sign_up, or anyone.';

CREATE TABLE public.github_attempts (
    state_hash bytea NOT NULL,
    browser_hash bytea NOT NULL,
    purpose jsonb NOT NULL,
    verifier bytea,
    expires_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.github_attempts IS 'Ways to GitHub that a browser has gone and not come back from. Each is used once, by the browser that began it. Only the SHA-256 of the state is kept; the PKCE verifier is encrypted.';

CREATE TABLE public.github_connections (
    organization_id uuid NOT NULL,
    installation_id bigint NOT NULL,
    user_id uuid NOT NULL,
    whole boolean NOT NULL,
    connected_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.github_connections IS 'Which organizations may use an installation: a member, user_id, showed GitHub that they may themselves. It ends with their membership.';

COMMENT ON COLUMN public.github_connections.whole IS 'All its repositories, present and future: the installation is of the account of the person who connected it. Otherwise those of github_access.';

CREATE TABLE public.github_deliveries (
    id text NOT NULL,
    number bigint NOT NULL,
    event text NOT NULL,
    action text,
    lane text NOT NULL,
    installation_id bigint,
    repository_id bigint,
    reference text,
    payload bytea,
    state text NOT NULL,
    outcome text,
    attempts integer DEFAULT 0 NOT NULL,
    next_attempt_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    processed_at timestamp with time zone,
    CONSTRAINT github_deliveries_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'done'::text, 'ignored'::text, 'failed'::text])))
);

COMMENT ON TABLE public.github_deliveries IS 'The inbox of webhooks: written before GitHub gets its answer, processed in order within a lane, purged after some days.';

COMMENT ON COLUMN public.github_deliveries.id IS 'X-GitHub-Delivery: a delivery that comes again is not taken again.';

COMMENT ON COLUMN public.github_deliveries.lane IS 'The repository, its pull requests, or else the installation: what must be processed in order.';

COMMENT ON COLUMN public.github_deliveries.payload IS 'The body as it came; null once it is processed.';

COMMENT ON COLUMN public.github_deliveries.outcome IS 'One sentence: what came of it, or why it has not worked yet.';

ALTER TABLE public.github_deliveries ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.github_deliveries_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.github_feedback (
    kind text NOT NULL,
    deployment_id uuid,
    preview_id uuid,
    subject_id uuid GENERATED ALWAYS AS (COALESCE(deployment_id, preview_id)) STORED NOT NULL,
    project_id uuid NOT NULL,
    repository_id bigint NOT NULL,
    remote_id bigint,
    sent bytea,
    sent_at timestamp with time zone,
    annotated boolean DEFAULT false NOT NULL,
    overtaken boolean DEFAULT false NOT NULL,
    deleted_head text,
    wanted bigint DEFAULT 1 NOT NULL,
    due_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    problem text,
    CONSTRAINT github_feedback_kind_check CHECK ((kind = ANY (ARRAY['check'::text, 'deployment'::text, 'comment'::text]))),
    CONSTRAINT github_feedback_subject_check CHECK (((num_nonnulls(deployment_id, preview_id) = 1) AND ((kind = 'comment'::text) = (preview_id IS NOT NULL))))
);

COMMENT ON TABLE public.github_feedback IS 'What GitHub is to show of deployments and previews, one thing each. How it is to look follows from the deployment when it is sent; a row says whether that is due, and what was sent last.';

COMMENT ON COLUMN public.github_feedback.kind IS 'check: a check run; deployment: a deployment of GitHub''s; comment: the comment on a preview''s pull request.';

COMMENT ON COLUMN public.github_feedback.project_id IS 'Its project. It refers to nothing, so that a row locks no project; it goes with the deployment or preview.';

COMMENT ON COLUMN public.github_feedback.remote_id IS 'GitHub''s number of it; null before it is known to be there.';

COMMENT ON COLUMN public.github_feedback.sent IS 'SHA-256 of what was sent last.';

COMMENT ON COLUMN public.github_feedback.annotated IS 'Whether its annotations were sent: GitHub adds those of later requests to them.';

COMMENT ON COLUMN public.github_feedback.overtaken IS 'Somebody asked for it again when its commit was not the branch''s head any more.';

COMMENT ON COLUMN public.github_feedback.deleted_head IS 'The head at which a person had deleted the comment: there is no other before the next one.';

COMMENT ON COLUMN public.github_feedback.wanted IS 'Grows with every change of what it is about, so that one during a request is not lost.';

COMMENT ON COLUMN public.github_feedback.due_at IS 'When it is to be compared and sent; while it is being sent, when that counts as lost; null while nothing is to be done.';

COMMENT ON COLUMN public.github_feedback.attempts IS 'Begun since the last success.';

COMMENT ON COLUMN public.github_feedback.problem IS 'Why it does not show what it should, as one sentence.';

CREATE TABLE public.github_former_secrets (
    number bigint NOT NULL,
    webhook_secret bytea NOT NULL,
    until timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.github_former_secrets IS 'Webhook secrets that are accepted beside the present one until then, so that a change loses no delivery.';

ALTER TABLE public.github_former_secrets ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.github_former_secrets_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.github_host (
    only_row boolean DEFAULT true NOT NULL,
    url text NOT NULL,
    CONSTRAINT github_host_only_row_check CHECK (only_row)
);

COMMENT ON TABLE public.github_host IS 'The GitHub of the App that was set up last. Numbers of accounts and repositories mean something there alone, so what is known by them goes when an App of another GitHub is set up.';

CREATE TABLE public.github_identities (
    user_id uuid NOT NULL,
    github_id bigint NOT NULL,
    login text NOT NULL,
    linked_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.github_identities IS 'Which person an account at GitHub is. The login is for display, as it was at the last sign-in. No token of a person is kept.';

CREATE TABLE public.github_installations (
    id bigint NOT NULL,
    account_id bigint NOT NULL,
    account text NOT NULL,
    account_kind text NOT NULL,
    state text NOT NULL,
    listed_at timestamp with time zone,
    asked_at timestamp with time zone,
    updated_at timestamp with time zone NOT NULL,
    lacks text[] DEFAULT '{}'::text[] NOT NULL,
    lacks_at timestamp with time zone,
    CONSTRAINT github_installations_account_kind_check CHECK ((account_kind = ANY (ARRAY['user'::text, 'organization'::text]))),
    CONSTRAINT github_installations_state_check CHECK ((state = ANY (ARRAY['active'::text, 'suspended'::text, 'deleted'::text])))
);

COMMENT ON TABLE public.github_installations IS 'Where the App is installed, as GitHub last said.';

COMMENT ON COLUMN public.github_installations.listed_at IS 'When its repositories were last read from GitHub as a whole; null when that is due.';

COMMENT ON COLUMN public.github_installations.asked_at IS 'When GitHub was last asked for its repositories, or how it stands, whether or not there was an answer.';

COMMENT ON COLUMN public.github_installations.lacks IS 'Permissions that feedback needs and that its owner did not grant.';

COMMENT ON COLUMN public.github_installations.lacks_at IS 'When GitHub last said so; it is asked again a day later.';

CREATE TABLE public.github_links (
    project_id uuid NOT NULL,
    installation_id bigint NOT NULL,
    repository_id bigint NOT NULL,
    head text,
    problem text,
    problem_at timestamp with time zone,
    checked_at timestamp with time zone,
    skipped text,
    skipped_why text,
    failing_since timestamp with time zone
);

COMMENT ON TABLE public.github_links IS 'Projects whose source is a repository of an installation. The production branch is projects.source_branch.';

COMMENT ON COLUMN public.github_links.head IS 'The newest commit of the production branch that a deployment was queued for, or that was there when the project was linked; null once another branch was chosen.';

COMMENT ON COLUMN public.github_links.problem IS 'Why pushes do not come live, as one sentence; null when all is well.';

COMMENT ON COLUMN public.github_links.checked_at IS 'When the branch was last compared with GitHub.';

COMMENT ON COLUMN public.github_links.skipped IS 'The head of the production branch, when the project''s rules have it not deployed.';

COMMENT ON COLUMN public.github_links.skipped_why IS 'Which rule, as part of a sentence.';

COMMENT ON COLUMN public.github_links.failing_since IS 'Since when the branch could not be compared for a reason that passes by itself; null once it could.';

CREATE TABLE public.github_repositories (
    id bigint NOT NULL,
    installation_id bigint NOT NULL,
    full_name text NOT NULL,
    private boolean NOT NULL,
    default_branch text,
    state text NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT github_repositories_state_check CHECK ((state = ANY (ARRAY['active'::text, 'removed'::text, 'deleted'::text])))
);

COMMENT ON TABLE public.github_repositories IS 'Repositories that installations give access to. removed: the App may not read it any more; deleted: it is gone.';

CREATE TABLE public.organizations (
    id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.organizations IS 'Owns projects. Build caches are never shared across organizations.';

CREATE VIEW public.github_readable AS
 SELECT o.id AS organization_id,
    r.id AS repository_id,
    r.installation_id,
    r.full_name,
    r.private,
    r.default_branch,
    r.state
   FROM (public.organizations o
     CROSS JOIN public.github_repositories r)
  WHERE (EXISTS ( SELECT
           FROM public.github_connections c
          WHERE ((c.organization_id = o.id) AND (c.installation_id = r.installation_id) AND (c.whole OR (EXISTS ( SELECT
                   FROM public.github_access a
                  WHERE ((a.organization_id = c.organization_id) AND (a.installation_id = c.installation_id) AND (a.user_id = c.user_id) AND (a.repository_id = r.id))))))));

COMMENT ON VIEW public.github_readable IS 'The repositories that an organization may use: those that any of its members has shown to be theirs.';

CREATE TABLE public.github_sign_up (
    account_id bigint NOT NULL,
    login text NOT NULL,
    kind text NOT NULL,
    added_at timestamp with time zone NOT NULL,
    CONSTRAINT github_sign_up_kind_check CHECK ((kind = ANY (ARRAY['user'::text, 'organization'::text])))
);

COMMENT ON TABLE public.github_sign_up IS 'Accounts whose people may sign up. Numbers decide: a login passes to others when it is given up.';

CREATE TABLE public.github_tokens (
    installation_id bigint NOT NULL,
    token bytea,
    minted_at timestamp with time zone,
    expires_at timestamp with time zone,
    purpose text DEFAULT 'fetch'::text NOT NULL,
    CONSTRAINT github_tokens_purpose_check CHECK ((purpose = ANY (ARRAY['fetch'::text, 'feedback'::text])))
);

COMMENT ON TABLE public.github_tokens IS 'Tokens of installations, encrypted, until near their end: several processes share one, and whoever mints holds the row.';

COMMENT ON COLUMN public.github_tokens.purpose IS 'fetch: reads the repositories; feedback: writes checks, deployments and comments, and never leaves the control plane.';

CREATE TABLE public.grants (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    client_id text NOT NULL,
    project_id uuid NOT NULL,
    resource text NOT NULL,
    scope text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone,
    standing boolean DEFAULT false NOT NULL
);

COMMENT ON TABLE public.grants IS 'One authorization each: the family of its codes and tokens. Revoking it ends them all.';

COMMENT ON COLUMN public.grants.standing IS 'Made without a code, for the command line or a service account; one each, used again and again.';

CREATE TABLE public.installation (
    only_row boolean DEFAULT true NOT NULL,
    id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT installation_only_row_check CHECK (only_row)
);

COMMENT ON TABLE public.installation IS 'One row: names this platform. The label on everything its runners create.';

CREATE TABLE public.locks (
    sha256 text NOT NULL,
    text text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT locks_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text))
);

COMMENT ON TABLE public.locks IS 'What builds resolved: requirements with hashes, by their SHA-256. Reached through a deployment of the project only.';

CREATE TABLE public.log_lines (
    deployment_id uuid NOT NULL,
    stream text NOT NULL,
    sequence bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    line text NOT NULL,
    CONSTRAINT log_lines_stream_check CHECK ((stream = ANY (ARRAY['build'::text, 'instance'::text])))
);

COMMENT ON TABLE public.log_lines IS 'Output of builds and instances. A line sent twice is kept once.';

CREATE TABLE public.login_codes (
    code_hash bytea NOT NULL,
    user_id uuid NOT NULL,
    redirect_uri text NOT NULL,
    code_challenge text NOT NULL,
    token_name text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    api_token_id uuid
);

COMMENT ON TABLE public.login_codes IS 'Authorization codes of `berth login`: one use, short-lived, only the SHA-256 kept. Redeemed for an API token, so they belong to no grant.';

COMMENT ON COLUMN public.login_codes.api_token_id IS 'What the code was redeemed for; a second use of the code revokes it.';

CREATE TABLE public.members (
    organization_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL,
    CONSTRAINT members_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'editor'::text, 'viewer'::text])))
);

COMMENT ON TABLE public.members IS 'Who belongs to an organization, and as what.';

CREATE TABLE public.pending_authorizations (
    id_hash bytea NOT NULL,
    browser_hash bytea NOT NULL,
    user_id uuid NOT NULL,
    request jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.pending_authorizations IS 'Consent pages that are open: one row each, deleted by the answer.';

COMMENT ON COLUMN public.pending_authorizations.id_hash IS 'SHA-256 of the random id in the page.';

COMMENT ON COLUMN public.pending_authorizations.browser_hash IS 'SHA-256 of the id of the browser session that was asked; only it can answer.';

COMMENT ON COLUMN public.pending_authorizations.request IS 'What is asked, as the consent page wrote it. Holds no code and no token.';

CREATE TABLE public.plans (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    source jsonb NOT NULL,
    entrypoint text,
    build jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    runner_id uuid,
    claimed_at timestamp with time zone,
    answer jsonb,
    answered_at timestamp with time zone
);

COMMENT ON TABLE public.plans IS 'Asked by a person, answered by a runner, shown to that person, and gone after an hour.';

COMMENT ON COLUMN public.plans.answer IS 'A PlanAnswer of the runner protocol.';

CREATE TABLE public.previews (
    id uuid NOT NULL,
    project_id uuid NOT NULL,
    slug text NOT NULL,
    pull_request bigint NOT NULL,
    title text NOT NULL,
    author text NOT NULL,
    branch text NOT NULL,
    head text NOT NULL,
    fork boolean NOT NULL,
    state text NOT NULL,
    approved_commit text,
    approved_by uuid,
    with_secrets boolean DEFAULT false NOT NULL,
    asleep boolean DEFAULT false NOT NULL,
    last_used_at timestamp with time zone NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone,
    stays_closed boolean DEFAULT false NOT NULL,
    CONSTRAINT previews_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'open'::text, 'crowded'::text, 'closed'::text]))),
    CONSTRAINT previews_stays_closed_check CHECK (((NOT stays_closed) OR (state = 'closed'::text)))
);

COMMENT ON TABLE public.previews IS 'One for each pull request of a project''s repository that was opened while the project had previews. A preview that was closed stays for its deployments'' sake; reopening opens the same one again.';

COMMENT ON COLUMN public.previews.slug IS 'What follows PROJECT-- in its address: pr-12.';

COMMENT ON COLUMN public.previews.branch IS 'The head branch, in whatever repository it is.';

COMMENT ON COLUMN public.previews.head IS 'The newest commit that GitHub named.';

COMMENT ON COLUMN public.previews.fork IS 'Its code comes from another repository: it is built only once a member approved the commit.';

COMMENT ON COLUMN public.previews.state IS 'waiting: of a fork, and its head is not approved; open: its head is deployed; crowded: the project has as many open ones as it may; closed: the pull request is closed, and nothing of it runs.';

COMMENT ON COLUMN public.previews.approved_commit IS 'The head that a member let be built; a later one waits again.';

COMMENT ON COLUMN public.previews.with_secrets IS 'Whether whoever approved let the fork''s code have the secret variables of previews.';

COMMENT ON COLUMN public.previews.asleep IS 'Its instance was stopped because nobody called; the next call starts it.';

COMMENT ON COLUMN public.previews.last_used_at IS 'When it was last called, deployed or opened.';

COMMENT ON COLUMN public.previews.stays_closed IS 'Closed although its pull request may be open, until that has another head or is reopened: a member closed it, or the head''s message says that it is not to be deployed.';

CREATE TABLE public.project_callers (
    project_id uuid NOT NULL,
    user_id uuid NOT NULL
);

COMMENT ON TABLE public.project_callers IS 'The chosen users of projects whose callers are chosen.';

CREATE TABLE public.projects (
    id uuid NOT NULL,
    organization_id uuid NOT NULL,
    name text NOT NULL,
    source_url text,
    source_branch text,
    entrypoint text,
    last_deployment_number integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    access_mode text DEFAULT 'platform'::text NOT NULL,
    callers text DEFAULT 'organization'::text NOT NULL,
    public_paths text[] DEFAULT '{}'::text[] NOT NULL,
    allowed_origins text[] DEFAULT '{}'::text[] NOT NULL,
    build jsonb DEFAULT '{}'::jsonb NOT NULL,
    variables_revision integer DEFAULT 0 NOT NULL,
    hold_breaking boolean DEFAULT false NOT NULL,
    redis boolean DEFAULT false NOT NULL,
    previews boolean DEFAULT true NOT NULL,
    preview_variables_revision integer DEFAULT 0 NOT NULL,
    github_comments boolean DEFAULT true NOT NULL,
    auto_promote boolean DEFAULT true NOT NULL,
    watch_paths text[] DEFAULT '{}'::text[] NOT NULL,
    ignored_paths text[] DEFAULT '{}'::text[] NOT NULL,
    CONSTRAINT projects_access_mode_check CHECK ((access_mode = ANY (ARRAY['platform'::text, 'public'::text, 'tenant'::text]))),
    CONSTRAINT projects_callers_check CHECK ((callers = ANY (ARRAY['owner'::text, 'chosen'::text, 'organization'::text, 'anyone'::text]))),
    CONSTRAINT projects_name_check CHECK ((name ~ '^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$'::text))
);

COMMENT ON TABLE public.projects IS 'One MCP server each. The name is the host label.';

COMMENT ON COLUMN public.projects.source_url IS 'Git URL; null for a project that is deployed by upload.';

COMMENT ON COLUMN public.projects.access_mode IS 'platform: a token of the platform is needed; public: nobody is asked; tenant: the server decides itself.';

COMMENT ON COLUMN public.projects.callers IS 'In platform mode: owners of the organization, chosen users of it (project_callers), all of it with its service accounts, or anyone who is signed in.';

COMMENT ON COLUMN public.projects.public_paths IS 'In platform mode: paths that need no token.';

COMMENT ON COLUMN public.projects.allowed_origins IS 'Further origins whose web pages may call.';

COMMENT ON COLUMN public.projects.build IS 'How it is built and started, as far as its owner said: root directory, dependency file, system packages, commands. Applies from the next deployment.';

COMMENT ON COLUMN public.projects.variables_revision IS 'Grows with every change of the variables of scope production.';

COMMENT ON COLUMN public.projects.hold_breaking IS 'Whether a deployment whose server offers less than the live one waits, held, until a member promotes it.';

COMMENT ON COLUMN public.projects.redis IS 'Whether its production deployments get a Redis of the project''s own.';

COMMENT ON COLUMN public.projects.previews IS 'Whether pull requests of its repository get previews.';

COMMENT ON COLUMN public.projects.preview_variables_revision IS 'Grows with every change of the variables of scopes preview and branch; what variables_revision is for production.';

COMMENT ON COLUMN public.projects.github_comments IS 'Whether pull requests with a preview get a comment about it.';

COMMENT ON COLUMN public.projects.auto_promote IS 'Whether what a push brought goes live once it answers; otherwise it is held until a member promotes it.';

COMMENT ON COLUMN public.projects.watch_paths IS 'Patterns as in .gitignore: a push that changes nothing under them is not deployed. Empty means everything.';

COMMENT ON COLUMN public.projects.ignored_paths IS 'Patterns as in .gitignore: changes under them count for nothing.';

CREATE TABLE public.refresh_tokens (
    token_hash bytea NOT NULL,
    grant_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone
);

COMMENT ON TABLE public.refresh_tokens IS 'Rotated at every use; only the SHA-256 kept. A replay revokes the grant.';

CREATE TABLE public.runners (
    id uuid NOT NULL,
    name text NOT NULL,
    public_key text NOT NULL,
    images text[] NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    last_sequence bigint NOT NULL
);

COMMENT ON TABLE public.runners IS 'Runners that have synced. Secrets are sealed to public_key (X25519, base64).';

COMMENT ON COLUMN public.runners.last_sequence IS 'Of the newest sync; what an older one observed is not taken.';

CREATE TABLE public.sessions (
    id_hash bytea NOT NULL,
    data jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.sessions IS 'Browser sessions. Only the SHA-256 of the cookie is kept.';

CREATE TABLE public.setup_links (
    token_hash bytea NOT NULL,
    user_id uuid NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    used_at timestamp with time zone,
    replaces boolean DEFAULT false NOT NULL
);

COMMENT ON TABLE public.setup_links IS 'One-time links by which a password is set. Only the SHA-256 of the token is kept.';

COMMENT ON COLUMN public.setup_links.replaces IS 'It sets another password in the place of one: whoever runs the platform made it.';

CREATE TABLE public.signing_keys (
    kid text NOT NULL,
    public_jwk jsonb NOT NULL,
    private_sealed bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    retired_at timestamp with time zone
);

COMMENT ON TABLE public.signing_keys IS 'ES256 keys that sign access tokens. private_sealed is AES-256-GCM under the key encryption key, which is not in the database.';

CREATE TABLE public.uploads (
    project_id uuid NOT NULL,
    sha256 text NOT NULL,
    size_bytes bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT uploads_sha256_check CHECK ((sha256 ~ '^[0-9a-f]{64}$'::text))
);

COMMENT ON TABLE public.uploads IS 'Archives sent by `berth deploy PATH`; the bytes lie in the data directory under their hash.';

CREATE TABLE public.usage_minutes (
    project_id uuid NOT NULL,
    minute timestamp with time zone NOT NULL,
    calls bigint NOT NULL,
    errors bigint NOT NULL,
    duration_us bigint NOT NULL,
    max_us bigint NOT NULL
);

COMMENT ON TABLE public.usage_minutes IS 'Calls per project and minute, kept for 30 days.';

COMMENT ON COLUMN public.usage_minutes.errors IS 'Of the calls, those answered with 500 or above.';

COMMENT ON COLUMN public.usage_minutes.duration_us IS 'The sum over all calls; divided by calls it is the mean.';

CREATE TABLE public.users (
    id uuid NOT NULL,
    email text NOT NULL,
    name text NOT NULL,
    password_hash text,
    created_at timestamp with time zone NOT NULL,
    service_account_of uuid
);

COMMENT ON TABLE public.users IS 'People and service accounts.';

COMMENT ON COLUMN public.users.password_hash IS 'Argon2id in PHC form; null until a password is set by the one-time link.';

COMMENT ON COLUMN public.users.service_account_of IS 'Set for a service account: the organization it belongs to. It has no password and no membership; its e-mail address is a placeholder under .invalid.';

CREATE TABLE public.variables (
    project_id uuid NOT NULL,
    name text NOT NULL,
    secret boolean NOT NULL,
    value text NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    updated_by text NOT NULL,
    scope text DEFAULT 'production'::text NOT NULL,
    branch text DEFAULT ''::text NOT NULL,
    CONSTRAINT variables_branch_check CHECK (((scope = 'branch'::text) = (branch <> ''::text))),
    CONSTRAINT variables_name_check CHECK ((name ~ '^[A-Za-z_][A-Za-z0-9_]*$'::text)),
    CONSTRAINT variables_scope_check CHECK ((scope = ANY (ARRAY['production'::text, 'preview'::text, 'branch'::text])))
);

COMMENT ON TABLE public.variables IS 'Environment variables of a project.';

COMMENT ON COLUMN public.variables.value IS 'Not secret: the value. Secret: a JSON object {runner id: libsodium sealed box, base64}; only that runner can open it.';

COMMENT ON COLUMN public.variables.scope IS 'production: for production deployments; preview: for previews; branch: for the previews of one branch, before preview.';

COMMENT ON COLUMN public.variables.branch IS 'With scope branch: which; otherwise empty.';

CREATE TABLE public.versions (
    name text NOT NULL,
    value bigint NOT NULL,
    CONSTRAINT versions_name_check CHECK ((name = ANY (ARRAY['routes'::text, 'sync'::text])))
);

COMMENT ON TABLE public.versions IS 'Counters that grow with every change to what edges (routes) or runners (sync) must know. Updating a row serialises such changes, so a reader never sees version n+1 without the change of n.';

CREATE TABLE public.volumes (
    project_id uuid NOT NULL,
    kind text NOT NULL,
    runner_id uuid NOT NULL,
    used_bytes bigint,
    size_bytes bigint,
    watched text,
    reported_at timestamp with time zone NOT NULL,
    CONSTRAINT volumes_kind_check CHECK ((kind = ANY (ARRAY['data'::text, 'redis'::text])))
);

COMMENT ON TABLE public.volumes IS 'Persistent files that runners have, as they last reported them. A row outlives its project, without a reference to it, until the runner has removed the files: only what stood here before is ever removed, so that a database restored from an old copy costs nobody their files.';

COMMENT ON COLUMN public.volumes.used_bytes IS 'What is in it; null until it was seen.';

COMMENT ON COLUMN public.volumes.size_bytes IS 'What it holds at the most; null where nothing enforces it.';

COMMENT ON COLUMN public.volumes.watched IS 'Why its size is only watched, if so.';

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_token_hash_key UNIQUE (token_hash);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.authorization_codes
    ADD CONSTRAINT authorization_codes_pkey PRIMARY KEY (code_hash);

ALTER TABLE ONLY public.build_variables
    ADD CONSTRAINT build_variables_pkey PRIMARY KEY (project_id, name);

ALTER TABLE ONLY public.client_assertions
    ADD CONSTRAINT client_assertions_pkey PRIMARY KEY (client_id, jti_hash);

ALTER TABLE ONLY public.clients
    ADD CONSTRAINT clients_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.connection_steps
    ADD CONSTRAINT connection_steps_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.consents
    ADD CONSTRAINT consents_pkey PRIMARY KEY (user_id, client_id, project_id, redirect_set, scope);

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_project_id_number_key UNIQUE (project_id, number);

ALTER TABLE ONLY public.edge_instances
    ADD CONSTRAINT edge_instances_pkey PRIMARY KEY (edge, deployment_id);

ALTER TABLE ONLY public.edges
    ADD CONSTRAINT edges_pkey PRIMARY KEY (kid);

ALTER TABLE ONLY public.github_access
    ADD CONSTRAINT github_access_pkey PRIMARY KEY (organization_id, installation_id, user_id, repository_id);

ALTER TABLE ONLY public.github_app
    ADD CONSTRAINT github_app_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.github_attempts
    ADD CONSTRAINT github_attempts_pkey PRIMARY KEY (state_hash);

ALTER TABLE ONLY public.github_connections
    ADD CONSTRAINT github_connections_pkey PRIMARY KEY (organization_id, installation_id, user_id);

ALTER TABLE ONLY public.github_deliveries
    ADD CONSTRAINT github_deliveries_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.github_feedback
    ADD CONSTRAINT github_feedback_pkey PRIMARY KEY (kind, subject_id);

ALTER TABLE ONLY public.github_former_secrets
    ADD CONSTRAINT github_former_secrets_pkey PRIMARY KEY (number);

ALTER TABLE ONLY public.github_host
    ADD CONSTRAINT github_host_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.github_identities
    ADD CONSTRAINT github_identities_github_id_key UNIQUE (github_id);

ALTER TABLE ONLY public.github_identities
    ADD CONSTRAINT github_identities_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.github_installations
    ADD CONSTRAINT github_installations_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.github_links
    ADD CONSTRAINT github_links_pkey PRIMARY KEY (project_id);

ALTER TABLE ONLY public.github_repositories
    ADD CONSTRAINT github_repositories_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.github_sign_up
    ADD CONSTRAINT github_sign_up_pkey PRIMARY KEY (account_id);

ALTER TABLE ONLY public.github_tokens
    ADD CONSTRAINT github_tokens_pkey PRIMARY KEY (installation_id, purpose);

ALTER TABLE ONLY public.grants
    ADD CONSTRAINT grants_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.locks
    ADD CONSTRAINT locks_pkey PRIMARY KEY (sha256);

ALTER TABLE ONLY public.log_lines
    ADD CONSTRAINT log_lines_pkey PRIMARY KEY (deployment_id, stream, sequence);

ALTER TABLE ONLY public.login_codes
    ADD CONSTRAINT login_codes_pkey PRIMARY KEY (code_hash);

ALTER TABLE ONLY public.members
    ADD CONSTRAINT members_pkey PRIMARY KEY (organization_id, user_id);

ALTER TABLE ONLY public.organizations
    ADD CONSTRAINT organizations_name_key UNIQUE (name);

ALTER TABLE ONLY public.organizations
    ADD CONSTRAINT organizations_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.pending_authorizations
    ADD CONSTRAINT pending_authorizations_pkey PRIMARY KEY (id_hash);

ALTER TABLE ONLY public.plans
    ADD CONSTRAINT plans_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.previews
    ADD CONSTRAINT previews_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.previews
    ADD CONSTRAINT previews_project_id_pull_request_key UNIQUE (project_id, pull_request);

ALTER TABLE ONLY public.previews
    ADD CONSTRAINT previews_project_id_slug_key UNIQUE (project_id, slug);

ALTER TABLE ONLY public.project_callers
    ADD CONSTRAINT project_callers_pkey PRIMARY KEY (project_id, user_id);

ALTER TABLE ONLY public.projects
    ADD CONSTRAINT projects_name_key UNIQUE (name);

ALTER TABLE ONLY public.projects
    ADD CONSTRAINT projects_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.refresh_tokens
    ADD CONSTRAINT refresh_tokens_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.runners
    ADD CONSTRAINT runners_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (id_hash);

ALTER TABLE ONLY public.setup_links
    ADD CONSTRAINT setup_links_pkey PRIMARY KEY (token_hash);

ALTER TABLE ONLY public.signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (kid);

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_pkey PRIMARY KEY (project_id, sha256);

ALTER TABLE ONLY public.usage_minutes
    ADD CONSTRAINT usage_minutes_pkey PRIMARY KEY (project_id, minute);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.variables
    ADD CONSTRAINT variables_pkey PRIMARY KEY (project_id, scope, branch, name);

ALTER TABLE ONLY public.versions
    ADD CONSTRAINT versions_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.volumes
    ADD CONSTRAINT volumes_pkey PRIMARY KEY (project_id, kind, runner_id);

CREATE INDEX api_tokens_user ON public.api_tokens USING btree (user_id);

CREATE INDEX audit_log_organization ON public.audit_log USING btree (organization_id, id DESC);

CREATE INDEX authorization_codes_grant ON public.authorization_codes USING btree (grant_id);

CREATE INDEX client_assertions_expiry ON public.client_assertions USING btree (expires_at);

CREATE INDEX clients_service_account ON public.clients USING btree (service_account_id) WHERE (service_account_id IS NOT NULL);

CREATE INDEX clients_unused ON public.clients USING btree (created_at) WHERE ((kind = 'registered'::text) AND (last_used_at IS NULL));

CREATE INDEX connection_steps_client ON public.connection_steps USING btree (client_id) WHERE (project_id IS NULL);

CREATE INDEX connection_steps_last_at ON public.connection_steps USING btree (last_at);

CREATE INDEX connection_steps_peer ON public.connection_steps USING btree (peer, last_at);

CREATE INDEX connection_steps_project ON public.connection_steps USING btree (project_id, last_at DESC, id DESC);

CREATE INDEX connection_steps_user ON public.connection_steps USING btree (user_id) WHERE (user_id IS NOT NULL);

CREATE INDEX consents_client ON public.consents USING btree (client_id);

CREATE INDEX deployments_build_of ON public.deployments USING btree (build_of) WHERE (build_of IS NOT NULL);

CREATE INDEX deployments_lock ON public.deployments USING btree (lock_sha256) WHERE (lock_sha256 IS NOT NULL);

CREATE UNIQUE INDEX deployments_one_live ON public.deployments USING btree (project_id, preview_id) NULLS NOT DISTINCT WHERE (state = 'live'::text);

CREATE INDEX deployments_preview ON public.deployments USING btree (preview_id);

CREATE INDEX deployments_unfinished ON public.deployments USING btree (state) WHERE (state <> ALL (ARRAY['stopped'::text, 'failed'::text, 'canceled'::text]));

CREATE INDEX edge_instances_deployment ON public.edge_instances USING btree (deployment_id);

CREATE INDEX github_access_repository ON public.github_access USING btree (repository_id);

CREATE INDEX github_attempts_expiry ON public.github_attempts USING btree (expires_at);

CREATE INDEX github_connections_installation ON public.github_connections USING btree (installation_id);

CREATE INDEX github_connections_user ON public.github_connections USING btree (user_id);

CREATE INDEX github_deliveries_received ON public.github_deliveries USING btree (received_at);

CREATE INDEX github_deliveries_repository ON public.github_deliveries USING btree (repository_id, number);

CREATE INDEX github_deliveries_waiting ON public.github_deliveries USING btree (lane, number) WHERE (state = 'waiting'::text);

CREATE INDEX github_feedback_deployment ON public.github_feedback USING btree (deployment_id);

CREATE INDEX github_feedback_due ON public.github_feedback USING btree (due_at) WHERE (due_at IS NOT NULL);

CREATE INDEX github_feedback_preview ON public.github_feedback USING btree (preview_id);

CREATE INDEX github_feedback_project ON public.github_feedback USING btree (project_id);

CREATE INDEX github_links_checked ON public.github_links USING btree (checked_at);

CREATE INDEX github_links_repository ON public.github_links USING btree (repository_id);

CREATE INDEX github_repositories_installation ON public.github_repositories USING btree (installation_id);

CREATE INDEX grants_client ON public.grants USING btree (client_id);

CREATE INDEX grants_revoked ON public.grants USING btree (revoked_at) WHERE (revoked_at IS NOT NULL);

CREATE UNIQUE INDEX grants_standing ON public.grants USING btree (client_id, project_id, user_id, resource) WHERE (standing AND (revoked_at IS NULL));

CREATE INDEX grants_user ON public.grants USING btree (user_id);

CREATE INDEX members_user ON public.members USING btree (user_id);

CREATE INDEX pending_authorizations_expiry ON public.pending_authorizations USING btree (expires_at);

CREATE INDEX pending_authorizations_user ON public.pending_authorizations USING btree (user_id, created_at);

CREATE INDEX plans_unanswered ON public.plans USING btree (created_at) WHERE (answered_at IS NULL);

CREATE INDEX plans_user ON public.plans USING btree (user_id);

CREATE INDEX project_callers_user ON public.project_callers USING btree (user_id);

CREATE INDEX projects_organization ON public.projects USING btree (organization_id);

CREATE INDEX refresh_tokens_grant ON public.refresh_tokens USING btree (grant_id);

CREATE INDEX sessions_expiry ON public.sessions USING btree (expires_at);

CREATE INDEX uploads_sha256 ON public.uploads USING btree (sha256);

CREATE INDEX usage_minutes_minute ON public.usage_minutes USING btree (minute);

CREATE UNIQUE INDEX users_email ON public.users USING btree (lower(email));

CREATE INDEX users_service_account_of ON public.users USING btree (service_account_of) WHERE (service_account_of IS NOT NULL);

CREATE INDEX volumes_runner ON public.volumes USING btree (runner_id);

CREATE TRIGGER deployments_feedback AFTER INSERT OR UPDATE OF state, commit_id, diagnosis, plan, surface, timings ON public.deployments FOR EACH ROW EXECUTE FUNCTION public.deployments_feedback();

CREATE TRIGGER github_links_change_feedback AFTER UPDATE OF repository_id ON public.github_links FOR EACH ROW WHEN ((old.repository_id IS DISTINCT FROM new.repository_id)) EXECUTE FUNCTION public.github_links_feedback();

CREATE TRIGGER github_links_forget_feedback AFTER DELETE ON public.github_links FOR EACH ROW EXECUTE FUNCTION public.github_links_feedback();

CREATE TRIGGER previews_change_feedback AFTER UPDATE OF state, head, slug, asleep, stays_closed ON public.previews FOR EACH ROW WHEN ((((((old.state IS DISTINCT FROM new.state) OR (old.head IS DISTINCT FROM new.head)) OR (old.slug IS DISTINCT FROM new.slug)) OR (old.asleep IS DISTINCT FROM new.asleep)) OR (old.stays_closed IS DISTINCT FROM new.stays_closed))) EXECUTE FUNCTION public.previews_feedback();

CREATE TRIGGER previews_feedback AFTER INSERT ON public.previews FOR EACH ROW EXECUTE FUNCTION public.previews_feedback();

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.authorization_codes
    ADD CONSTRAINT authorization_codes_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES public.grants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.build_variables
    ADD CONSTRAINT build_variables_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.client_assertions
    ADD CONSTRAINT client_assertions_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.clients
    ADD CONSTRAINT clients_service_account_id_fkey FOREIGN KEY (service_account_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.connection_steps
    ADD CONSTRAINT connection_steps_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.connection_steps
    ADD CONSTRAINT connection_steps_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.consents
    ADD CONSTRAINT consents_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.consents
    ADD CONSTRAINT consents_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.consents
    ADD CONSTRAINT consents_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_build_of_fkey FOREIGN KEY (build_of) REFERENCES public.deployments(id) ON DELETE SET NULL;

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_preview_id_fkey FOREIGN KEY (preview_id) REFERENCES public.previews(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_runner_id_fkey FOREIGN KEY (runner_id) REFERENCES public.runners(id);

ALTER TABLE ONLY public.edge_instances
    ADD CONSTRAINT edge_instances_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES public.deployments(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.edge_instances
    ADD CONSTRAINT edge_instances_edge_fkey FOREIGN KEY (edge) REFERENCES public.edges(kid) ON DELETE CASCADE;

ALTER TABLE ONLY public.github_access
    ADD CONSTRAINT github_access_organization_id_installation_id_user_id_fkey FOREIGN KEY (organization_id, installation_id, user_id) REFERENCES public.github_connections(organization_id, installation_id, user_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.github_access
    ADD CONSTRAINT github_access_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES public.github_repositories(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.github_connections
    ADD CONSTRAINT github_connections_installation_id_fkey FOREIGN KEY (installation_id) REFERENCES public.github_installations(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.github_connections
    ADD CONSTRAINT github_connections_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES public.organizations(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.github_connections
    ADD CONSTRAINT github_connections_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.github_feedback
    ADD CONSTRAINT github_feedback_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES public.deployments(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.github_feedback
    ADD CONSTRAINT github_feedback_preview_id_fkey FOREIGN KEY (preview_id) REFERENCES public.previews(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.github_identities
    ADD CONSTRAINT github_identities_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.github_links
    ADD CONSTRAINT github_links_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.github_repositories
    ADD CONSTRAINT github_repositories_installation_id_fkey FOREIGN KEY (installation_id) REFERENCES public.github_installations(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.grants
    ADD CONSTRAINT grants_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.grants
    ADD CONSTRAINT grants_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.grants
    ADD CONSTRAINT grants_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.log_lines
    ADD CONSTRAINT log_lines_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES public.deployments(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.login_codes
    ADD CONSTRAINT login_codes_api_token_id_fkey FOREIGN KEY (api_token_id) REFERENCES public.api_tokens(id) ON DELETE SET NULL;

ALTER TABLE ONLY public.login_codes
    ADD CONSTRAINT login_codes_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.members
    ADD CONSTRAINT members_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES public.organizations(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.members
    ADD CONSTRAINT members_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.pending_authorizations
    ADD CONSTRAINT pending_authorizations_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.plans
    ADD CONSTRAINT plans_runner_id_fkey FOREIGN KEY (runner_id) REFERENCES public.runners(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.plans
    ADD CONSTRAINT plans_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.previews
    ADD CONSTRAINT previews_approved_by_fkey FOREIGN KEY (approved_by) REFERENCES public.users(id) ON DELETE SET NULL;

ALTER TABLE ONLY public.previews
    ADD CONSTRAINT previews_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.project_callers
    ADD CONSTRAINT project_callers_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.project_callers
    ADD CONSTRAINT project_callers_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.projects
    ADD CONSTRAINT projects_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES public.organizations(id);

ALTER TABLE ONLY public.refresh_tokens
    ADD CONSTRAINT refresh_tokens_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES public.grants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.setup_links
    ADD CONSTRAINT setup_links_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.usage_minutes
    ADD CONSTRAINT usage_minutes_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_service_account_of_fkey FOREIGN KEY (service_account_of) REFERENCES public.organizations(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.variables
    ADD CONSTRAINT variables_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.volumes
    ADD CONSTRAINT volumes_runner_id_fkey FOREIGN KEY (runner_id) REFERENCES public.runners(id) ON DELETE CASCADE;

