//! What a host hands in for one call: borrowed columns, checked once, found by slot.

mod check;
mod columns;

pub use check::{Bound, MAX_BAG, Slot};
pub use columns::{Column, ITEM_KEY, NO_KEY, Values};
