//! What is longer than the docs of one item, and no less tested.

#[doc = include_str!("composition.md")]
pub mod composition {}

#[doc = include_str!("speed.md")]
pub mod speed {}
