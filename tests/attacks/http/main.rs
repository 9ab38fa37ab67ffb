//! Attacks over HTTP on a server in this process: each is answered exactly, and the server serves its neighbours after.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bodies;
mod escapes;
mod flood;
mod guests;
mod heads;
mod house;
mod keys;
mod load;
mod pages;
mod paths;
mod sides;
mod slow;
mod strangers;
mod uploads;
