//! One suite for every way in which a program can be intercepted: small real programs in many languages each do one thing
//! that programs do, and print what they saw; one table says what that must be.
//!
//! [`table`] is the source of truth: the tests and docs/conformance.md are made from it.

pub mod cells;
pub mod document;
pub mod guests;
pub mod language;
pub mod programs;
pub mod run;
pub mod site;
pub mod slow;
pub mod soak;
pub mod table;
pub mod trouble;
pub mod world;
