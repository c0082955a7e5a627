//! Berth's control plane: the rules, the database, the authorization server, the pages and the API.
//!
//! Ways in (`pages`, `api`, `oauth`, `signin`, `internal`) call nouns (one file each), nouns call
//! `db`, `crypto`, `ids`, `error`. SQL stands only in nouns and in the session store.

pub mod app;
pub mod changes;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod db;
pub mod error;
pub mod ids;
pub mod shutdown;
pub mod telemetry;
#[cfg(test)]
pub mod testing;

// Nouns.
pub mod access;
pub mod api_tokens;
pub mod audit;
pub mod branch_rules;
pub mod build_settings;
pub mod build_variables;
pub mod clients;
pub mod connect;
pub mod connections;
pub mod deployments;
pub mod edges;
pub mod grants;
pub mod locks;
pub mod login_codes;
pub mod logs;
pub mod members;
pub mod organizations;
pub mod pending_authorizations;
pub mod plans;
pub mod previews;
pub mod projects;
pub mod routes;
pub mod runners;
pub mod service_accounts;
pub mod signing_keys;
pub mod starters;
pub mod surface;
pub mod uploads;
pub mod usage;
pub mod users;
pub mod variables;
pub mod volumes;

// Ways in.
pub mod api;
pub mod cli;
pub mod github;
pub mod internal;
pub mod jobs;
pub mod oauth;
pub mod pages;
pub mod private_postgres;
pub mod server;
pub mod signin;
