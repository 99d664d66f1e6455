//! What every entry does: catch panics, check pointers, report.

use super::error::{POLYSCORE_OK, polyscore_error, polyscore_status};
use crate::error::{Error, ErrorKind};
use std::borrow::Cow;
use std::ffi::{CStr, c_char};
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
pub unsafe trait Sized: Copy {}

macro_rules! sized {
    ($($name:ty),*) => {$(
        // SAFETY: `repr(C)`, begins with `struct_size: u32`, made of numbers, pointers and arrays of them.
        unsafe impl Sized for $name {}
    )*};
}
sized!(
    polyscore_error,
    super::model::polyscore_open_options,
    super::model::polyscore_model_info,
    super::model::polyscore_feature_info,
    super::model::polyscore_task_info,
    super::model::polyscore_scenario_info,
    super::scorer::polyscore_counters,
    super::scorer::polyscore_feature_counters,
    super::column::polyscore_column
);

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
    if stated < size_of::<T>() {
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

/// A sized input struct.
///
/// # Safety
/// `pointer` is null or points to as many bytes as its first field states.
pub unsafe fn read_struct<T: Sized>(pointer: *const T, subject: &'static str) -> Result<T, Failure> {
    check_pointer(pointer, subject)?;
    // SAFETY: checked above, and the caller's promise.
    unsafe {
        check_size(pointer, subject)?;
        Ok(*pointer)
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

/// Writes an output struct but for its size, which stays as the caller set it.
///
/// # Safety
/// `pointer` passed [`check_output`].
pub unsafe fn write_struct<T: Sized>(pointer: *mut T, value: T) {
    // SAFETY: the caller's promise; every sized struct begins with its size.
    unsafe {
        let size = *pointer.cast::<u32>();
        pointer.write(value);
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
