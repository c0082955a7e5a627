//! GitHub as a small stand-in plays it: what the platform asks, and what it makes of the answers.

mod inbox;
mod people;
mod previews;
mod reach;
mod rounds;
mod setup;
mod stand_in;
mod tokens;
