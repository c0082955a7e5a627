
CREATE TABLE public.api_tokens (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    name text NOT NULL,
    token_hash bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone
);

COMMENT ON TABLE public.api_tokens IS 'Tokens (brt_…) for the API and the command line; only the SHA-256 kept, shown once.';

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
    CONSTRAINT clients_token_endpoint_auth_method_check CHECK ((token_endpoint_auth_method = ANY (ARRAY['none'::text, 'client_secret_post'::text, 'client_secret_basic'::text])))
);

COMMENT ON TABLE public.clients IS 'OAuth clients, registered dynamically (RFC 7591).';

CREATE TABLE public.consents (
    user_id uuid NOT NULL,
    client_id text NOT NULL,
    project_id uuid NOT NULL,
    scope text NOT NULL,
    redirect_uri text NOT NULL,
    created_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.consents IS 'What a person has allowed, so that it need not be asked again.';

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
    CONSTRAINT deployments_origin_check CHECK ((origin = ANY (ARRAY['page'::text, 'api'::text, 'rollback'::text, 'promote'::text]))),
    CONSTRAINT deployments_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'building'::text, 'starting'::text, 'checking'::text, 'live'::text, 'draining'::text, 'stopped'::text, 'failed'::text, 'canceled'::text])))
);

COMMENT ON TABLE public.deployments IS 'One attempt each to bring a source live. States only move forward.';

COMMENT ON COLUMN public.deployments.lease_until IS 'While it lies ahead the runner owns the deployment; each sync renews it.';

COMMENT ON COLUMN public.deployments.drain_until IS 'Until then a replaced instance keeps serving the MCP sessions it owns.';

COMMENT ON COLUMN public.deployments.unrouted_at IS 'When edges were told to forget the drained instance; it is stopped a moment later.';

CREATE TABLE public.grants (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    client_id text NOT NULL,
    project_id uuid NOT NULL,
    resource text NOT NULL,
    scope text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone
);

COMMENT ON TABLE public.grants IS 'One authorization each: the family of its codes and tokens. Revoking it ends them all.';

CREATE TABLE public.installation (
    only_row boolean DEFAULT true NOT NULL,
    id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT installation_only_row_check CHECK (only_row)
);

COMMENT ON TABLE public.installation IS 'One row: names this platform. The label on everything its runners create.';

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

CREATE TABLE public.organizations (
    id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.organizations IS 'Owns projects. Build caches are never shared across organizations.';

CREATE TABLE public.projects (
    id uuid NOT NULL,
    organization_id uuid NOT NULL,
    name text NOT NULL,
    source_url text,
    source_branch text,
    entrypoint text,
    last_deployment_number integer DEFAULT 0 NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT projects_name_check CHECK ((name ~ '^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$'::text))
);

COMMENT ON TABLE public.projects IS 'One MCP server each. The name is the host label.';

COMMENT ON COLUMN public.projects.source_url IS 'Git URL; null for a project that is deployed by upload.';

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
    used_at timestamp with time zone
);

COMMENT ON TABLE public.setup_links IS 'One-time sign-in links for a first password. Only the SHA-256 of the token is kept.';

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

CREATE TABLE public.users (
    id uuid NOT NULL,
    email text NOT NULL,
    name text NOT NULL,
    password_hash text,
    created_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.users IS 'People.';

COMMENT ON COLUMN public.users.password_hash IS 'Argon2id in PHC form; null until a password is set by the one-time link.';

CREATE TABLE public.variables (
    project_id uuid NOT NULL,
    name text NOT NULL,
    secret boolean NOT NULL,
    value text NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    updated_by text NOT NULL,
    CONSTRAINT variables_name_check CHECK ((name ~ '^[A-Za-z_][A-Za-z0-9_]*$'::text))
);

COMMENT ON TABLE public.variables IS 'Environment variables of a project.';

COMMENT ON COLUMN public.variables.value IS 'Not secret: the value. Secret: a JSON object {runner id: libsodium sealed box, base64}; only that runner can open it.';

CREATE TABLE public.versions (
    name text NOT NULL,
    value bigint NOT NULL,
    CONSTRAINT versions_name_check CHECK ((name = ANY (ARRAY['routes'::text, 'sync'::text])))
);

COMMENT ON TABLE public.versions IS 'Counters that grow with every change to what edges (routes) or runners (sync) must know. Updating a row serialises such changes, so a reader never sees version n+1 without the change of n.';

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_token_hash_key UNIQUE (token_hash);

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.authorization_codes
    ADD CONSTRAINT authorization_codes_pkey PRIMARY KEY (code_hash);

ALTER TABLE ONLY public.clients
    ADD CONSTRAINT clients_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.consents
    ADD CONSTRAINT consents_pkey PRIMARY KEY (user_id, client_id, project_id, scope, redirect_uri);

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_project_id_number_key UNIQUE (project_id, number);

ALTER TABLE ONLY public.grants
    ADD CONSTRAINT grants_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

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

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.variables
    ADD CONSTRAINT variables_pkey PRIMARY KEY (project_id, name);

ALTER TABLE ONLY public.versions
    ADD CONSTRAINT versions_pkey PRIMARY KEY (name);

CREATE INDEX api_tokens_user ON public.api_tokens USING btree (user_id);

CREATE INDEX audit_log_organization ON public.audit_log USING btree (organization_id, id DESC);

CREATE UNIQUE INDEX deployments_one_live ON public.deployments USING btree (project_id) WHERE (state = 'live'::text);

CREATE INDEX deployments_unfinished ON public.deployments USING btree (state) WHERE (state <> ALL (ARRAY['stopped'::text, 'failed'::text, 'canceled'::text]));

CREATE INDEX grants_revoked ON public.grants USING btree (revoked_at) WHERE (revoked_at IS NOT NULL);

CREATE INDEX grants_user ON public.grants USING btree (user_id);

CREATE INDEX members_user ON public.members USING btree (user_id);

CREATE INDEX projects_organization ON public.projects USING btree (organization_id);

CREATE INDEX refresh_tokens_grant ON public.refresh_tokens USING btree (grant_id);

CREATE INDEX sessions_expiry ON public.sessions USING btree (expires_at);

CREATE INDEX uploads_sha256 ON public.uploads USING btree (sha256);

CREATE UNIQUE INDEX users_email ON public.users USING btree (lower(email));

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT api_tokens_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.authorization_codes
    ADD CONSTRAINT authorization_codes_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES public.grants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.consents
    ADD CONSTRAINT consents_client_id_fkey FOREIGN KEY (client_id) REFERENCES public.clients(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.consents
    ADD CONSTRAINT consents_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.consents
    ADD CONSTRAINT consents_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.deployments
    ADD CONSTRAINT deployments_runner_id_fkey FOREIGN KEY (runner_id) REFERENCES public.runners(id);

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

ALTER TABLE ONLY public.projects
    ADD CONSTRAINT projects_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES public.organizations(id);

ALTER TABLE ONLY public.refresh_tokens
    ADD CONSTRAINT refresh_tokens_grant_id_fkey FOREIGN KEY (grant_id) REFERENCES public.grants(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.setup_links
    ADD CONSTRAINT setup_links_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.variables
    ADD CONSTRAINT variables_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

