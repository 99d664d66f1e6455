//! The C ABI of `include/polyscore.h`, one file per C noun.
//!
//! Conventions, the same for every function:
//! 1. A handle is an opaque pointer that is never dereferenced: it holds a place in a table and a generation, so a handle
//!    that is closed, foreign or made up is `POLYSCORE_INVALID_HANDLE`.
//! 2. Every pointer is checked for null and alignment, every length for overflow, before anything is done.
//! 3. Outputs are written only on success; only the error struct is written on failure.
//! 4. A sized struct begins with `struct_size`. A larger one than this library knows is accepted if its tail is zero; of a
//!    smaller one, down to its first version, what it lacks counts as zero and is not written.
//! 5. No panic leaves a function: it becomes `POLYSCORE_INTERNAL`.
//! 6. Nothing is printed, and `prepare` and `score` neither allocate nor lock, unless the host asked for a parallel scorer.

#![allow(non_camel_case_types, reason = "C names")]

mod column;
mod error;
mod guard;
mod handle;
mod model;
mod pool;
mod scorer;

/// The version of the ABI. It changes only when a program compiled against an older header would break.
pub const POLYSCORE_ABI_VERSION: u32 = 1;

/// A scenario that is not known, or not given.
pub const POLYSCORE_SCENARIO_UNKNOWN: u32 = u32::MAX;

/// The version of the ABI that the library has: compare it with `POLYSCORE_ABI_VERSION` of the header.
#[unsafe(no_mangle)]
pub extern "C" fn polyscore_abi_version() -> u32 {
    POLYSCORE_ABI_VERSION
}

/// The version of the library, such as "0.1.0". A static string.
#[unsafe(no_mangle)]
pub extern "C" fn polyscore_version() -> *const std::ffi::c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
