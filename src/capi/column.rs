//! `polyscore_column`: a borrowed view of one array of the host.

use super::guard::{Failure, check_length, read_slice, read_struct};
use crate::error::ErrorKind;
use crate::request::{Column, ITEM_KEY, Values};
use std::ffi::c_void;

/// `values` holds `int64_t`. A missing value is `INT64_MIN`.
pub const POLYSCORE_COLUMN_I64: u32 = 1;
/// `values` holds `int32_t`. A missing value is `INT32_MIN`.
pub const POLYSCORE_COLUMN_I32: u32 = 2;
/// `values` holds `float`. A missing value is any that is not finite.
pub const POLYSCORE_COLUMN_F32: u32 = 3;
/// `values` holds UTF-8 bytes, cut by `text_offsets`. A missing value is an empty text.
pub const POLYSCORE_COLUMN_TEXT: u32 = 4;

/// In the place of a slot: the column has the item keys of the candidates, `_I64`, for a model that was opened with
/// `item_bytes`; a candidate without a key has `INT64_MIN`. Candidates with the same key have the same item features, also in
/// later calls: a key that tells the version of an ad apart keeps that so.
pub const POLYSCORE_ITEM_KEY: u32 = 4_294_967_294;
const _: () = assert!(POLYSCORE_ITEM_KEY == ITEM_KEY);

/// The values of one feature for the rows of a call: one row for `prepare`, one per candidate for `score`.
///
/// All pointers are borrowed for the call. A pointer with length 0 is not looked at.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct polyscore_column {
    /// `sizeof(polyscore_column)`
    pub struct_size: u32,
    /// The slot of the feature, from `polyscore_model_find_feature`, or `POLYSCORE_ITEM_KEY`.
    pub feature: u32,
    /// `POLYSCORE_COLUMN_I64`, `_I32`, `_F32` or `_TEXT`.
    pub r#type: u32,
    /// Zero.
    pub reserved: u32,
    /// The values of all rows one after the other, aligned to their type.
    pub values: *const c_void,
    /// How many values there are; for text, how many bytes.
    pub values_len: usize,
    /// For text: one more than there are texts; ascending positions in `values`, from 0 to `values_len`. Else null.
    pub text_offsets: *const i64,
    /// How many text offsets there are.
    pub text_offsets_len: usize,
    /// For bags (`ids`) and sequences: one more than there are rows; ascending positions among the values, from 0 to their
    /// number. Else null.
    pub row_offsets: *const i64,
    /// How many row offsets there are.
    pub row_offsets_len: usize,
}

/// The bytes of an array, for the check of overlaps.
pub type Bytes = std::ops::Range<usize>;

/// Where an array lies.
pub fn bytes_of<T>(pointer: *const T, length: usize) -> Bytes {
    let start = pointer as usize;
    start..start.saturating_add(length.saturating_mul(size_of::<T>()))
}

/// Checks the columns of a call, that none overlaps `output`, and puts views of them into `views`, which has room.
///
/// # Safety
/// `columns` is null or points to `length` columns, whose pointers are good for their lengths. The views live as long as
/// the arrays: the caller clears `views` before the call ends.
pub unsafe fn read_columns(
    columns: *const polyscore_column,
    length: usize,
    output: &Bytes,
    views: &mut Vec<Column<'static>>,
) -> Result<(), Failure> {
    views.clear();
    if length == 0 {
        return Ok(());
    }
    if length > views.capacity() {
        let message = "are more than the model has features, and item keys";
        return Err(Failure::new(ErrorKind::InvalidArgument, "columns", message));
    }
    super::guard::check_pointer(columns, "columns")?;
    check_length::<polyscore_column>(length, "columns")?;
    let mut next = columns;
    for _ in 0..length {
        // SAFETY: the caller's promise; `next` is at a column of the array, which states its own size.
        unsafe {
            let column = read_struct(next, "column")?;
            views.push(read_column(&column)?);
            refuse_overlap(&column, output)?;
            next = next.byte_add(column.struct_size as usize);
        }
    }
    refuse(&(columns as usize..next as usize), output)
}

/// Refuses an output that overlaps an input.
pub fn refuse(input: &Bytes, output: &Bytes) -> Result<(), Failure> {
    if input.start < output.end && output.start < input.end && !input.is_empty() {
        return Err(Failure::new(ErrorKind::Overlap, "out", "overlaps an input of the call"));
    }
    Ok(())
}

fn refuse_overlap(column: &polyscore_column, output: &Bytes) -> Result<(), Failure> {
    let width = match column.r#type {
        POLYSCORE_COLUMN_I64 => 8,
        POLYSCORE_COLUMN_TEXT => 1,
        _ => 4,
    };
    refuse(&bytes_of(column.values.cast::<u8>(), column.values_len.saturating_mul(width)), output)?;
    refuse(&bytes_of(column.text_offsets, column.text_offsets_len), output)?;
    refuse(&bytes_of(column.row_offsets, column.row_offsets_len), output)
}

/// # Safety
/// As [`read_columns`].
unsafe fn read_column(column: &polyscore_column) -> Result<Column<'static>, Failure> {
    let invalid = |message| Err(Failure::new(ErrorKind::InvalidArgument, "column", message));
    if column.reserved != 0 {
        return invalid("has a reserved field that is not zero");
    }
    let (values, length) = (column.values, column.values_len);
    let is_text = column.r#type == POLYSCORE_COLUMN_TEXT;
    if !is_text && column.text_offsets_len != 0 {
        return invalid("has text offsets, but is no text");
    }
    // SAFETY: the caller's promise.
    unsafe {
        let values = match column.r#type {
            POLYSCORE_COLUMN_I64 => Values::I64(read_slice(values.cast(), length, "values")?),
            POLYSCORE_COLUMN_I32 => Values::I32(read_slice(values.cast(), length, "values")?),
            POLYSCORE_COLUMN_F32 => Values::F32(read_slice(values.cast(), length, "values")?),
            POLYSCORE_COLUMN_TEXT => Values::Text {
                bytes: read_slice(values.cast(), length, "values")?,
                offsets: read_slice(column.text_offsets, column.text_offsets_len, "text_offsets")?,
            },
            _ => return invalid("has a type that is none of POLYSCORE_COLUMN_*"),
        };
        let row_offsets = match column.row_offsets_len {
            0 => None,
            length => Some(read_slice(column.row_offsets, length, "row_offsets")?),
        };
        Ok(Column { feature: column.feature, values, row_offsets })
    }
}
