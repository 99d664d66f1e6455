//! `polyscore_status` and `polyscore_error`.

use super::guard::{Failure, write_text};
use crate::error::ErrorKind;
use std::ffi::c_char;

/// 0 for success, else one of the `POLYSCORE_` codes below. Numbers never change.
pub type polyscore_status = i32;

/// The call succeeded.
pub const POLYSCORE_OK: polyscore_status = 0;

/// An argument has a value that the call does not accept.
pub const POLYSCORE_INVALID_ARGUMENT: polyscore_status = 100;
/// A pointer that must not be null is null.
pub const POLYSCORE_NULL_ARGUMENT: polyscore_status = 101;
/// A handle was never given out, or is closed.
pub const POLYSCORE_INVALID_HANDLE: polyscore_status = 102;
/// Another thread is inside a call on this scorer.
pub const POLYSCORE_BUSY: polyscore_status = 103;
/// A sized struct is smaller than its first version, or uses fields that this library does not know.
pub const POLYSCORE_STRUCT_SIZE: polyscore_status = 104;
/// The output buffer is too small.
pub const POLYSCORE_BUFFER_TOO_SMALL: polyscore_status = 105;
/// The output buffer overlaps an input.
pub const POLYSCORE_OVERLAP: polyscore_status = 106;
/// The host's executor did not run every task of a call exactly once.
pub const POLYSCORE_EXECUTOR: polyscore_status = 107;
/// The operating system refused: no such file, no permission, read error.
pub const POLYSCORE_IO: polyscore_status = 200;
/// The container is damaged or breaks the rules of the format.
pub const POLYSCORE_FORMAT: polyscore_status = 201;
/// The description inside the file is wrong; the subject is its JSON path.
pub const POLYSCORE_DESCRIPTION: polyscore_status = 202;
/// A tensor is missing, unexpected, or has the wrong type, shape or values.
pub const POLYSCORE_TENSOR: polyscore_status = 203;
/// The file asks for more than the limits allow.
pub const POLYSCORE_LIMIT: polyscore_status = 204;
/// The golden scores of the model are not reproduced within the bound.
pub const POLYSCORE_GOLDEN: polyscore_status = 205;
/// A known feature of the format that this build or machine cannot run.
pub const POLYSCORE_UNSUPPORTED: polyscore_status = 206;
/// Memory could not be reserved.
pub const POLYSCORE_OUT_OF_MEMORY: polyscore_status = 207;
/// No feature of that name or slot.
pub const POLYSCORE_UNKNOWN_FEATURE: polyscore_status = 300;
/// A column without which the request cannot be scored was not given.
pub const POLYSCORE_MISSING_FEATURE: polyscore_status = 301;
/// A column holds values of another type than its feature.
pub const POLYSCORE_COLUMN_TYPE: polyscore_status = 302;
/// A column has another number of rows than the call.
pub const POLYSCORE_COLUMN_LENGTH: polyscore_status = 303;
/// Offsets of a ragged or text column do not start at 0, descend, or pass the end of the values.
pub const POLYSCORE_COLUMN_OFFSETS: polyscore_status = 304;
/// A request column was given with the candidates, or the other way round.
pub const POLYSCORE_COLUMN_SIDE: polyscore_status = 305;
/// Two columns name the same feature.
pub const POLYSCORE_DUPLICATE_COLUMN: polyscore_status = 306;
/// `polyscore_scorer_score`, or one of its kind, was called before `polyscore_scorer_prepare`.
pub const POLYSCORE_NOT_PREPARED: polyscore_status = 307;
/// No task of that name or index.
pub const POLYSCORE_UNKNOWN_TASK: polyscore_status = 308;
/// A task was asked for twice.
pub const POLYSCORE_DUPLICATE_TASK: polyscore_status = 309;
/// A defect of polyscore itself: please report it.
pub const POLYSCORE_INTERNAL: polyscore_status = 900;

/// Ties the codes to `ErrorKind`: numbers must agree, and every kind must have a code.
macro_rules! codes {
    ($($code:ident => $kind:ident,)*) => {
        $(const _: () = assert!($code == ErrorKind::$kind as polyscore_status);)*

        fn kind_of(status: polyscore_status) -> Option<ErrorKind> {
            match status {
                $($code => Some(ErrorKind::$kind),)*
                _ => None,
            }
        }

        /// The C name of a kind, with its NUL.
        fn name_of(kind: ErrorKind) -> &'static str {
            match kind {
                $(ErrorKind::$kind => concat!(stringify!($code), "\0"),)*
            }
        }
    };
}

codes! {
    POLYSCORE_INVALID_ARGUMENT => InvalidArgument,
    POLYSCORE_NULL_ARGUMENT => NullArgument,
    POLYSCORE_INVALID_HANDLE => InvalidHandle,
    POLYSCORE_BUSY => Busy,
    POLYSCORE_STRUCT_SIZE => StructSize,
    POLYSCORE_BUFFER_TOO_SMALL => BufferTooSmall,
    POLYSCORE_OVERLAP => Overlap,
    POLYSCORE_EXECUTOR => Executor,
    POLYSCORE_IO => Io,
    POLYSCORE_FORMAT => Format,
    POLYSCORE_DESCRIPTION => Description,
    POLYSCORE_TENSOR => Tensor,
    POLYSCORE_LIMIT => Limit,
    POLYSCORE_GOLDEN => Golden,
    POLYSCORE_UNSUPPORTED => Unsupported,
    POLYSCORE_OUT_OF_MEMORY => OutOfMemory,
    POLYSCORE_UNKNOWN_FEATURE => UnknownFeature,
    POLYSCORE_MISSING_FEATURE => MissingFeature,
    POLYSCORE_COLUMN_TYPE => ColumnType,
    POLYSCORE_COLUMN_LENGTH => ColumnLength,
    POLYSCORE_COLUMN_OFFSETS => ColumnOffsets,
    POLYSCORE_COLUMN_SIDE => ColumnSide,
    POLYSCORE_DUPLICATE_COLUMN => DuplicateColumn,
    POLYSCORE_NOT_PREPARED => NotPrepared,
    POLYSCORE_UNKNOWN_TASK => UnknownTask,
    POLYSCORE_DUPLICATE_TASK => DuplicateTask,
    POLYSCORE_INTERNAL => Internal,
}

/// What went wrong, in memory of the caller. Set `struct_size` to `sizeof(polyscore_error)` before the call. It is written
/// on failure only.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct polyscore_error {
    /// `sizeof(polyscore_error)`
    pub struct_size: u32,
    /// The status that the call returned.
    pub status: polyscore_status,
    /// The guilty thing: a file, a JSON path, a tensor, a feature, a task, an argument. NUL-terminated UTF-8, cut to fit.
    pub subject: [c_char; 128],
    /// What is wrong with it. NUL-terminated UTF-8, cut to fit.
    pub message: [c_char; 512],
}

impl polyscore_error {
    /// Writes `failure`; the size of the struct is left as the caller set it.
    pub(super) fn fill(&mut self, failure: &Failure) {
        self.status = failure.kind as polyscore_status;
        write_text(&mut self.subject, &failure.subject);
        write_text(&mut self.message, &failure.message);
    }
}

/// The name of a status, such as "POLYSCORE_BUSY"; "unknown" for a number that is none. A static string.
#[unsafe(no_mangle)]
pub extern "C" fn polyscore_status_name(status: polyscore_status) -> *const c_char {
    let name = match kind_of(status) {
        Some(kind) => name_of(kind),
        None if status == POLYSCORE_OK => "POLYSCORE_OK\0",
        None => "unknown\0",
    };
    name.as_ptr().cast()
}
