//! Borrowed views of the host's arrays. Nothing here is copied; a view lives as long as the call.

/// In the place of a slot: the column has the item keys of the candidates, [`Values::I64`] with one value each. Candidates with the
/// same key have the same item features, also in later calls; a key that tells the version of an ad apart keeps that so. See
/// [`crate::OpenOptions::item_bytes`].
pub const ITEM_KEY: u32 = u32::MAX - 1;

/// The item key of a candidate that has none.
pub const NO_KEY: i64 = i64::MIN;

/// The values of one feature for the rows of a call: one row for `prepare`, one per candidate for `score`.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// The slot of the feature, from [`crate::Model::feature`], or [`ITEM_KEY`].
    pub feature: u32,
    /// The values, all rows one after the other.
    pub values: Values<'a>,
    /// For bags (`ids`): `rows + 1` ascending positions into the values, from 0 to their number. `None` otherwise.
    pub row_offsets: Option<&'a [i64]>,
}

/// The values of a column, by type.
///
/// Missing values are `i64::MIN`, `i32::MIN`, any float that is not finite, and the empty text.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Integer ids.
    I64(&'a [i64]),
    /// Integer ids in 32 bits.
    I32(&'a [i32]),
    /// Dense values, or values to bucketize; `width` of them per row.
    F32(&'a [f32]),
    /// Texts, as UTF-8.
    Text {
        /// All texts one after the other.
        bytes: &'a [u8],
        /// `texts + 1` ascending positions into `bytes`, from 0 to its length.
        offsets: &'a [i64],
    },
}

impl Values<'_> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Values::I64(values) => values.len(),
            Values::I32(values) => values.len(),
            Values::F32(values) => values.len(),
            Values::Text { offsets, .. } => offsets.len().saturating_sub(1),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
