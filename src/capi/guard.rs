//! What every entry does: catch panics, check pointers, report.

use super::column::polyscore_column;
use super::error::{POLYSCORE_OK, polyscore_error, polyscore_status};
use super::model::{
    polyscore_feature_info, polyscore_model_info, polyscore_open_options, polyscore_scenario_info, polyscore_task_info,
};
use super::pool::polyscore_pool_options;
use super::scorer::{polyscore_counters, polyscore_feature_counters};
use crate::error::{Error, ErrorKind};
use std::borrow::Cow;
use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, offset_of};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A failure on its way to the caller. Static texts need no allocation: the hot path has only those.
pub struct Failure {
    pub kind: ErrorKind,
    pub subject: Cow<'static, str>,
    pub message: Cow<'static, str>,
}

impl Failure {
    pub fn new(kind: ErrorKind, subject: &'static str, message: &'static str) -> Self {
        Self { kind, subject: subject.into(), message: message.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (subject, message) = (error.subject().to_owned(), error.detail().to_owned());
        Self { kind: error.kind(), subject: subject.into(), message: message.into() }
    }
}

/// Runs `body`; its failure, or its panic, goes into `error` (which may be null) and becomes the status.
///
/// # Safety
/// `error` is null or points to a struct of at least the `struct_size` that it states.
pub unsafe fn entry(error: *mut polyscore_error, body: impl FnOnce() -> Result<(), Failure>) -> polyscore_status {
    // SAFETY: the caller's promise.
    if let Err(failure) = unsafe { check_output(error, "error", true) } {
        return failure.kind as polyscore_status;
    }
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return POLYSCORE_OK,
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new(ErrorKind::Internal, "polyscore", "a defect of polyscore: please report it"),
    };
    // SAFETY: `error` is null or was checked above.
    if let Some(error) = unsafe { error.as_mut() } {
        error.fill(&failure);
    }
    failure.kind as polyscore_status
}

/// A C struct that begins with its size.
///
/// # Safety
/// `repr(C)`, begins with a `u32` of its size, and any bytes are a valid value.
pub unsafe trait Sized: Copy {
    /// The size of its first version, which every later one begins with.
    const FIRST: usize;
}

macro_rules! sized {
    ($($name:ty: $first:expr,)*) => {$(
        // SAFETY: `repr(C)`, begins with `struct_size: u32`, made of numbers, pointers (null or not) and arrays of them.
        unsafe impl Sized for $name {
            const FIRST: usize = $first;
        }
        const _: () = assert!($first <= size_of::<$name>());
    )*};
}
sized! {
    polyscore_error: size_of::<polyscore_error>(),
    polyscore_open_options: offset_of!(polyscore_open_options, scenario_bytes),
    polyscore_model_info: offset_of!(polyscore_model_info, model_bytes),
    polyscore_feature_info: size_of::<polyscore_feature_info>(),
    polyscore_task_info: size_of::<polyscore_task_info>(),
    polyscore_scenario_info: size_of::<polyscore_scenario_info>(),
    polyscore_counters: offset_of!(polyscore_counters, scenarios_folded),
    polyscore_feature_counters: size_of::<polyscore_feature_counters>(),
    polyscore_column: size_of::<polyscore_column>(),
    polyscore_pool_options: size_of::<polyscore_pool_options>(),
}

fn null(subject: &'static str) -> Failure {
    Failure::new(ErrorKind::NullArgument, subject, "is null")
}

/// Refuses null and misaligned pointers.
pub fn check_pointer<T>(pointer: *const T, subject: &'static str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(null(subject));
    }
    if !pointer.is_aligned() {
        return Err(Failure::new(ErrorKind::InvalidArgument, subject, "is not aligned to its type"));
    }
    Ok(())
}

/// Checks the stated size of a struct, and that what this library does not know of it is zero.
///
/// # Safety
/// `pointer` is not null, aligned, and points to as many bytes as its first field states.
unsafe fn check_size<T: Sized>(pointer: *const T, subject: &'static str) -> Result<(), Failure> {
    // SAFETY: every sized struct begins with its size.
    let stated = unsafe { *pointer.cast::<u32>() } as usize;
    if stated < T::FIRST {
        return Err(Failure::new(ErrorKind::StructSize, subject, "struct_size is smaller than the struct"));
    }
    // No struct of this ABI will ever be larger; a size like this is an uninitialised one.
    if stated > 65_536 {
        return Err(Failure::new(ErrorKind::StructSize, subject, "struct_size is not the size of the struct"));
    }
    for place in size_of::<T>()..stated {
        // SAFETY: the caller's promise: the struct has `stated` bytes.
        if unsafe { *pointer.cast::<u8>().add(place) } != 0 {
            let message = "has fields that this version of the library does not know";
            return Err(Failure::new(ErrorKind::StructSize, subject, message));
        }
    }
    Ok(())
}

/// A sized input struct; what an older, smaller one lacks is zero.
///
/// # Safety
/// `pointer` is null or points to as many bytes as its first field states.
pub unsafe fn read_struct<T: Sized>(pointer: *const T, subject: &'static str) -> Result<T, Failure> {
    check_pointer(pointer, subject)?;
    // SAFETY: checked above, and the caller's promise.
    unsafe {
        check_size(pointer, subject)?;
        let mut value = MaybeUninit::<T>::zeroed();
        copy_known(pointer, value.as_mut_ptr(), pointer);
        Ok(value.assume_init())
    }
}

/// Copies what both this library and the struct at `sized` know of `T`.
///
/// # Safety
/// `sized` passed [`check_size`]; `from` and `to` are good for that many bytes, and no overlap.
unsafe fn copy_known<T: Sized>(from: *const T, to: *mut T, sized: *const T) {
    // SAFETY: the caller's promise; every sized struct begins with its size.
    unsafe {
        let known = size_of::<T>().min(*sized.cast::<u32>() as usize);
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.cast::<u8>(), known);
    }
}

/// Checks an output struct before anything is done.
///
/// # Safety
/// As [`read_struct`].
pub unsafe fn check_output<T: Sized>(pointer: *mut T, subject: &'static str, may_be_null: bool) -> Result<(), Failure> {
    if pointer.is_null() && may_be_null {
        return Ok(());
    }
    check_pointer(pointer, subject)?;
    // SAFETY: checked above, and the caller's promise.
    unsafe { check_size(pointer, subject) }
}

/// Writes an output struct but for its size, which stays as the caller set it, and for what an older, smaller one lacks.
///
/// # Safety
/// `pointer` passed [`check_output`].
pub unsafe fn write_struct<T: Sized>(pointer: *mut T, value: T) {
    // SAFETY: the caller's promise; every sized struct begins with its size.
    unsafe {
        let size = *pointer.cast::<u32>();
        copy_known(&value, pointer, pointer);
        *pointer.cast::<u32>() = size;
    }
}

/// An input array. No elements: the pointer is not looked at.
///
/// # Safety
/// `pointer` is null or points to `length` elements that nobody writes during the call.
pub unsafe fn read_slice<'a, T>(pointer: *const T, length: usize, subject: &'static str) -> Result<&'a [T], Failure> {
    if length == 0 {
        return Ok(&[]);
    }
    check_pointer(pointer, subject)?;
    check_length::<T>(length, subject)?;
    // SAFETY: not null, aligned, not longer than memory can be, and the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length) })
}

/// Refuses lengths that no array can have.
pub fn check_length<T>(length: usize, subject: &'static str) -> Result<(), Failure> {
    match length.checked_mul(size_of::<T>()) {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
        _ => Err(Failure::new(ErrorKind::InvalidArgument, subject, "is longer than memory can be")),
    }
}

/// A NUL-terminated UTF-8 text.
///
/// # Safety
/// `pointer` is null or points to a NUL-terminated text that nobody writes during the call.
pub unsafe fn read_text<'a>(pointer: *const c_char, subject: &'static str) -> Result<&'a str, Failure> {
    check_pointer(pointer, subject)?;
    // SAFETY: not null, and the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| Failure::new(ErrorKind::InvalidArgument, subject, "is not UTF-8"))
}

/// Writes `text` with its NUL, cut at a character so that it fits, and zeros behind it.
pub fn write_text(to: &mut [c_char], text: &str) {
    let mut end = text.len().min(to.len() - 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    to.fill(0);
    for (to, byte) in to.iter_mut().zip(text[..end].bytes()) {
        *to = byte as c_char;
    }
}
