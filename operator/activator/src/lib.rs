//! The activator: carries every request, holds those that find no pod, wakes and scales the
//! Functions that it owns.

pub mod admission;
pub mod function;
pub mod pod;
