//! Requests to addresses that strangers choose: which of them may be reached ([`Reach`]), a
//! resolver that gives out nothing else ([`CheckedResolver`]), and JSON documents fetched through
//! it ([`Fetcher`]).
//!
//! The control plane and the runner both fetch what people they do not know name: the description
//! of a client, the source of a server. Without a check they would read for them whatever answers
//! on their own networks.

pub mod address;
pub mod fetch;
mod freshness;
pub mod resolver;

pub use address::{AllowedAddress, Reach, is_global};
pub use fetch::{Document, Fault, Fetcher, Options, check_url};
pub use resolver::{CheckedResolver, Forbidden, Lookup, PinnedHost};

#[cfg(test)]
mod tests;
