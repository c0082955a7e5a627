//! GitHub as a small stand-in plays it: what the platform asks, and what it makes of the answers.

mod closing;
mod creation;
mod crowds;
mod feedback;
mod inbox;
mod kept;
mod making;
mod people;
mod previews;
mod reach;
mod references;
mod rounds;
mod rules;
mod setup;
mod sleep;
mod stand_in;
mod tokens;
