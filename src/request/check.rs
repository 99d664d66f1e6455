//! The one check of a call's columns. What passes here needs no further check: operations index without asking again.

use super::columns::{Column, ITEM_KEY, Values};
use crate::error::{ErrorKind, Fault, Subject};
use crate::format::{Feature, FeatureKind, Rate, ValueKind};

/// What a feature's columns must look like.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Whether the column comes with the request (one row) or with the candidates.
    pub is_request: bool,
    pub value: ValueKind,
    /// Values per row; bags have their offsets instead.
    pub width: usize,
    pub is_bag: bool,
    /// The most values of a row of a bag or sequence.
    pub longest: usize,
    /// Whether the column may be left out: then every row is missing.
    pub is_optional: bool,
}

impl Slot {
    /// The rules of a described feature.
    pub fn of(feature: &Feature) -> Self {
        Self {
            is_request: feature.rate == Rate::Request,
            value: feature.value_kind(),
            width: feature.width(),
            is_bag: feature.is_ragged(),
            longest: match feature.kind {
                FeatureKind::Sequence { length, .. } => length,
                _ => MAX_BAG,
            },
            is_optional: feature.is_optional(),
        }
    }
}

/// The longest bag of a row. It bounds a scorer's scratch.
pub const MAX_BAG: usize = 65_536;

const ABSENT: u32 = u32::MAX;

/// The rules of item keys; those of 32 bits are refused beyond them.
const KEYS: Slot =
    Slot { is_request: false, value: ValueKind::Integer, width: 1, is_bag: false, longest: MAX_BAG, is_optional: true };

/// Which column of the call holds each feature.
#[derive(Clone, Debug)]
pub struct Bound {
    columns: Vec<u32>,
    /// The column of item keys.
    keys: u32,
}

impl Bound {
    /// Room for `features` features: the only allocation.
    pub fn new(features: usize) -> Self {
        Self { columns: vec![ABSENT; features], keys: ABSENT }
    }

    /// Checks `columns` for one side of a call of `rows` rows, and remembers where each feature is.
    ///
    /// # Errors
    /// The first column (by its position, then missing features by slot) that breaks a rule.
    pub fn bind(&mut self, slots: &[Slot], is_request: bool, rows: usize, columns: &[Column<'_>]) -> Result<(), Fault> {
        self.columns.fill(ABSENT);
        self.keys = ABSENT;
        for (position, column) in columns.iter().enumerate() {
            let place = Subject::Column(u32::try_from(position).unwrap_or(u32::MAX));
            let (bound, checked) = match slots.get(column.feature as usize) {
                Some(slot) => (&mut self.columns[column.feature as usize], check(slot, is_request, rows, column)),
                None if column.feature == ITEM_KEY => (&mut self.keys, check(&KEYS, is_request, rows, column)),
                None => return Err(Fault::new(ErrorKind::UnknownFeature, place)),
            };
            checked.map_err(|kind| Fault::new(kind, Subject::Feature(column.feature)))?;
            if *bound != ABSENT {
                return Err(Fault::new(ErrorKind::DuplicateColumn, Subject::Feature(column.feature)));
            }
            *bound = position as u32;
        }
        let missing = slots
            .iter()
            .zip(&self.columns)
            .position(|(slot, bound)| slot.is_request == is_request && !slot.is_optional && *bound == ABSENT);
        match missing {
            Some(slot) => Err(Fault::new(ErrorKind::MissingFeature, Subject::Feature(slot as u32))),
            None => Ok(()),
        }
    }

    /// Takes over where the features of another call of the same model are.
    pub fn copy(&mut self, from: &Bound) {
        self.columns.copy_from_slice(&from.columns);
        self.keys = from.keys;
    }

    /// The item keys of the candidates, if the call has them.
    pub fn item_keys<'a>(&self, columns: &'a [Column<'a>]) -> Option<&'a [i64]> {
        match columns.get(self.keys as usize)?.values {
            Values::I64(keys) => Some(keys),
            _ => None,
        }
    }

    /// How many values the sequences of a group have, which must be as many for all that the call has.
    ///
    /// # Errors
    /// `ColumnLength` for the first that has another number.
    pub fn positions(&self, columns: &[Column<'_>], group: &[usize]) -> Result<usize, Fault> {
        let mut positions = None;
        for slot in group {
            if let Some(column) = self.column(columns, *slot)
                && *positions.get_or_insert(column.values.len()) != column.values.len()
            {
                return Err(Fault::new(ErrorKind::ColumnLength, Subject::Feature(*slot as u32)));
            }
        }
        Ok(positions.unwrap_or(0))
    }

    /// The column of a feature, if the call has one.
    pub fn column<'a>(&self, columns: &'a [Column<'a>], feature: usize) -> Option<&'a Column<'a>> {
        columns.get(self.columns[feature] as usize)
    }
}

fn check(slot: &Slot, is_request: bool, rows: usize, column: &Column<'_>) -> Result<(), ErrorKind> {
    if slot.is_request != is_request {
        return Err(ErrorKind::ColumnSide);
    }
    if column.feature == ITEM_KEY && !matches!(column.values, Values::I64(_)) {
        return Err(ErrorKind::ColumnType);
    }
    let fits = match (&column.values, slot.value) {
        (Values::I64(_) | Values::I32(_), kind) => matches!(kind, ValueKind::Integer | ValueKind::IntegerOrText),
        (Values::F32(_), kind) => kind == ValueKind::Number,
        (Values::Text { .. }, kind) => matches!(kind, ValueKind::Text | ValueKind::IntegerOrText),
    };
    if !fits {
        return Err(ErrorKind::ColumnType);
    }
    if let Values::Text { bytes, offsets } = &column.values {
        check_offsets(offsets, bytes.len(), usize::MAX)?;
    }
    let values = column.values.len();
    match (slot.is_bag, column.row_offsets) {
        (true, Some(offsets)) => {
            if offsets.len() != rows.checked_add(1).ok_or(ErrorKind::ColumnLength)? {
                return Err(ErrorKind::ColumnLength);
            }
            check_offsets(offsets, values, MAX_BAG)?;
            if slot.longest < MAX_BAG && values > slot.longest { Err(ErrorKind::ColumnLength) } else { Ok(()) }
        }
        (false, None) => {
            let expected = rows.checked_mul(slot.width).ok_or(ErrorKind::ColumnLength)?;
            if values == expected { Ok(()) } else { Err(ErrorKind::ColumnLength) }
        }
        _ => Err(ErrorKind::ColumnOffsets),
    }
}

/// Offsets start at 0, end at `end`, and ascend by at most `longest`.
fn check_offsets(offsets: &[i64], end: usize, longest: usize) -> Result<(), ErrorKind> {
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
        return Err(ErrorKind::ColumnOffsets);
    };
    if first != 0 || usize::try_from(last) != Ok(end) {
        return Err(ErrorKind::ColumnOffsets);
    }
    let is_ascending = offsets.windows(2).all(|pair| {
        pair[1]
            .checked_sub(pair[0])
            .and_then(|length| usize::try_from(length).ok())
            .is_some_and(|length| length <= longest)
    });
    if is_ascending { Ok(()) } else { Err(ErrorKind::ColumnOffsets) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Slot = Slot {
        is_request: false,
        value: ValueKind::Integer,
        width: 1,
        is_bag: false,
        longest: MAX_BAG,
        is_optional: false,
    };

    fn bind(slots: &[Slot], rows: usize, columns: &[Column<'_>]) -> Result<(), Fault> {
        Bound::new(slots.len()).bind(slots, false, rows, columns)
    }

    fn column(values: Values<'_>) -> Column<'_> {
        Column { feature: 0, values, row_offsets: None }
    }

    #[test]
    fn each_rule_has_its_error() {
        let ids = [1, 2, 3];
        let feature = Subject::Feature(0);
        assert_eq!(bind(&[ID], 3, &[column(Values::I64(&ids))]), Ok(()));
        assert_eq!(bind(&[ID], 2, &[column(Values::I64(&ids))]), Err(Fault::new(ErrorKind::ColumnLength, feature)));
        assert_eq!(bind(&[ID], 3, &[]), Err(Fault::new(ErrorKind::MissingFeature, feature)));
        assert_eq!(bind(&[ID], 3, &[column(Values::F32(&[0.0; 3]))]), Err(Fault::new(ErrorKind::ColumnType, feature)));
        let twice = [column(Values::I64(&ids)), column(Values::I64(&ids))];
        assert_eq!(bind(&[ID], 3, &twice), Err(Fault::new(ErrorKind::DuplicateColumn, feature)));
        let request = Slot { is_request: true, ..ID };
        let side = bind(&[request], 3, &[column(Values::I64(&ids))]);
        assert_eq!(side, Err(Fault::new(ErrorKind::ColumnSide, feature)));
        let unknown = Column { feature: 9, ..column(Values::I64(&ids)) };
        assert_eq!(bind(&[ID], 3, &[unknown]), Err(Fault::new(ErrorKind::UnknownFeature, Subject::Column(0))));
    }

    #[test]
    fn offsets_must_ascend_from_zero_to_the_end() {
        let bag = Slot { is_bag: true, ..ID };
        let ids = [1i64, 2, 3];
        let with = |offsets: &[i64]| {
            bind(
                std::slice::from_ref(&bag),
                2,
                &[Column { feature: 0, values: Values::I64(&ids), row_offsets: Some(offsets) }],
            )
        };
        assert_eq!(with(&[0, 1, 3]), Ok(()));
        assert_eq!(with(&[0, 0, 3]), Ok(()));
        for bad in [&[0, 4, 3][..], &[1, 2, 3], &[0, 2, 2], &[0, -1, 3], &[0, i64::MAX, 3], &[i64::MIN, 0, 3]] {
            assert_eq!(with(bad), Err(Fault::new(ErrorKind::ColumnOffsets, Subject::Feature(0))), "{bad:?}");
        }
        assert_eq!(with(&[0, 3]), Err(Fault::new(ErrorKind::ColumnLength, Subject::Feature(0))));
    }
}
