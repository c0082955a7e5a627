//! GitHub as a small stand-in plays it: what the platform asks, and what it makes of the answers.

mod creation;
mod inbox;
mod making;
mod people;
mod reach;
mod rounds;
mod setup;
mod stand_in;
mod tokens;
