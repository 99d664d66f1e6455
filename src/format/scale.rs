//! Integers that stand for numbers: `value = integer * scale[row]`.
//!
//! | integers | stored as | within | for |
//! |---|---|---|---|
//! | `int4` | U8, two a byte along the last axis, the lower half first, two's complement | 7 | tables |
//! | `int8` | I8 | 127 | tables, weights of dense layers |
//! | `int12` | I16 | 2047, or 16383 where the squares of an output's integers add up to 46340^2 at most | weights of dense layers |
//! | `int16` | I16, other ones | 16383 | weights of dense layers |
//!
//! Half of the bits of a sum are an output's of int12, so that the inputs of the layer have the other half, and nothing is carried.
//!
//! The scales of a tensor `<name>` are its companion `<name>.scale`: F32, one for each row of a table, and for each output of
//! a layer, whichever axis that is. They are finite and not negative, and no product with an integer is infinite. Rows and
//! integers that are too many to be read at open are not looked at: then -128, or -8, stands for itself times the scale.

use super::store::Store;
use super::tensor::{Dtype, Tensor, TensorId};
use crate::error::{Error, ErrorKind};

/// What the names of companions end in.
const SCALE_SUFFIX: &str = ".scale";

/// The integers of int12, whatever their norm.
const ALWAYS_INT12: i16 = 2047;

/// Integers with scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integer {
    /// Four bits, two a byte: tables of an even width.
    Int4,
    /// Eight bits: tables and dense weights.
    Int8,
    /// Twelve bits and more, in 16: dense weights whose sums fit 32 bits.
    Int12,
    /// Fifteen bits, in 16: dense weights.
    Int16,
}

impl Integer {
    /// The largest one; the smallest is as far from 0.
    pub fn largest(self) -> i16 {
        match self {
            Integer::Int4 => 7,
            Integer::Int8 => 127,
            Integer::Int12 | Integer::Int16 => 16383,
        }
    }

    /// The most squares of the integers of an output, or of the row of a table.
    pub fn most_squares(self) -> f64 {
        if self == Integer::Int12 { 46340.0 * 46340.0 } else { f64::INFINITY }
    }

    /// The type of the tensors that hold them.
    pub fn dtype(self) -> Dtype {
        match self {
            Integer::Int4 => Dtype::U8,
            Integer::Int8 => Dtype::I8,
            Integer::Int12 | Integer::Int16 => Dtype::I16,
        }
    }

    /// As a description or an option calls them.
    pub fn name(self) -> &'static str {
        match self {
            Integer::Int4 => "int4",
            Integer::Int8 => "int8",
            Integer::Int12 => "int12",
            Integer::Int16 => "int16",
        }
    }
}

/// The widest integers that tensors of a type hold.
fn widest(dtype: Dtype) -> Option<Integer> {
    [Integer::Int4, Integer::Int8, Integer::Int16].into_iter().find(|integer| integer.dtype() == dtype)
}

/// The name of the companion of a tensor.
pub fn scale_name(tensor: &str) -> String {
    format!("{tensor}{SCALE_SUFFIX}")
}

impl Tensor<'_> {
    /// The width of the rows of a table: twice the last axis of int4.
    pub fn table_width(&self) -> usize {
        let stored = self.shape.last().copied().unwrap_or(0);
        if self.dtype == Dtype::U8 { 2 * stored } else { stored }
    }

    /// The integers of a table or of the weight of a layer, with scales along `axis`; `None` for floats. All those of I16 are looked
    /// at.
    pub fn integer(&self, axis: usize) -> Option<Integer> {
        match widest(self.dtype)? {
            Integer::Int16 if self.is_int12(axis) => Some(Integer::Int12),
            integer => Some(integer),
        }
    }

    fn is_int12(&self, axis: usize) -> bool {
        if self.words().all(|word| (-ALWAYS_INT12..=ALWAYS_INT12).contains(&word)) {
            return true;
        }
        let &[rows, columns] = self.shape else { return false };
        let mut squares = vec![0.0; [rows, columns][axis]];
        for (place, word) in self.words().enumerate() {
            squares[[place / columns, place % columns][axis]] += f64::from(word).powi(2);
        }
        squares.iter().all(|squares| *squares <= Integer::Int12.most_squares())
    }

    /// The elements of an I16 tensor.
    fn words(&self) -> impl Iterator<Item = i16> {
        self.bytes.as_chunks().0.iter().map(|word| i16::from_le_bytes(*word))
    }

    /// The integers of an I8 or I16 tensor.
    ///
    /// # Errors
    /// `Tensor` if it has another type, `OutOfMemory` if they do not fit.
    pub fn to_integers(&self) -> Result<Vec<i16>, Error> {
        let mut integers = Vec::new();
        if integers.try_reserve_exact(self.len()).is_err() {
            return Err(Error::new(ErrorKind::OutOfMemory, self.name, format!("no memory for {} values", self.len())));
        }
        match self.dtype {
            Dtype::I8 => integers.extend(self.bytes.iter().map(|byte| i16::from(*byte as i8))),
            Dtype::I16 => integers.extend(self.words()),
            _ => return Err(self.wrong_type("I8 or I16")),
        }
        Ok(integers)
    }

    /// Refuses integers that the type could hold, but a tensor of it may not.
    fn check_integers(&self, integer: Integer) -> Result<(), Error> {
        let largest = integer.largest();
        let outside = match integer {
            Integer::Int8 => self.bytes.iter().position(|byte| *byte == 0x80).map(|at| (at, -128)),
            Integer::Int12 | Integer::Int16 => {
                self.words().enumerate().find(|(_, word)| !(-largest..=largest).contains(word))
            }
            Integer::Int4 => {
                let is_bad = |byte: &u8| byte & 0x0f == 0x08 || byte & 0xf0 == 0x80;
                let at = self.bytes.iter().position(is_bad);
                at.map(|at| (2 * at + usize::from(self.bytes[at] & 0x0f != 0x08), -8))
            }
        };
        match outside {
            None => Ok(()),
            Some((at, value)) => {
                let detail = format!("element {at} is {value}, {} ends at {largest}", integer.name());
                Err(Error::new(ErrorKind::Tensor, self.name, detail))
            }
        }
    }
}

impl Store {
    /// The companion of a tensor of integers, if it has one.
    pub fn scale(&self, id: TensorId) -> Option<TensorId> {
        let tensor = self.tensor(id);
        widest(tensor.dtype)?;
        self.find(&scale_name(tensor.name))
    }

    /// The rows and the width of a table: floats, or int8 or int4 with a companion. Its numbers are not looked at.
    ///
    /// # Errors
    /// `Tensor`, for the table or its companion.
    pub fn table(&self, id: TensorId) -> Result<[usize; 2], Error> {
        let table = self.tensor(id);
        let is_scaled = matches!(table.dtype, Dtype::I8 | Dtype::U8);
        if !is_scaled && !table.dtype.is_weight() {
            return Err(table.wrong_type("F32, F16, BF16, I8 or U8"));
        }
        let &[rows, _] = table.shape else {
            let detail = format!("has shape {:?}, a table has [rows, dim]", table.shape);
            return Err(Error::new(ErrorKind::Tensor, table.name, detail));
        };
        if is_scaled {
            self.require_scale(table.name, rows)?;
        }
        Ok([rows, table.table_width()])
    }

    /// The weight of a dense layer: floats, or int8, int12 or int16 with a companion. It has two dimensions, `output_axis` is that of
    /// the outputs, and all its numbers are looked at.
    ///
    /// # Errors
    /// `Tensor`, for the weight or its companion.
    pub fn layer(&self, name: &str, output_axis: usize) -> Result<(TensorId, [usize; 2]), Error> {
        let id = self.require(name)?;
        let weight = self.tensor(id);
        let is_scaled = matches!(weight.dtype, Dtype::I8 | Dtype::I16);
        if !is_scaled && !weight.dtype.is_weight() {
            return Err(weight.wrong_type("F32, F16, BF16, I8 or I16"));
        }
        let &[first, second] = weight.shape else {
            let detail = format!("has shape {:?}, the weight of a layer has two dimensions", weight.shape);
            return Err(Error::new(ErrorKind::Tensor, name, detail));
        };
        if is_scaled {
            self.require_scale(name, [first, second][output_axis])?;
        }
        self.check_numbers(id, usize::MAX)?;
        Ok((id, [first, second]))
    }

    /// Refuses a table or weight, or its companion, with numbers that it may not have. Tensors of more than `largest` bytes
    /// are not read.
    ///
    /// # Errors
    /// `Tensor`, naming the first such element.
    pub fn check_numbers(&self, id: TensorId, largest: usize) -> Result<(), Error> {
        let tensor = self.tensor(id);
        let is_read = |tensor: &Tensor<'_>| tensor.bytes.len() <= largest;
        let Some(integer) = widest(tensor.dtype) else {
            return if is_read(&tensor) { tensor.check_finite() } else { Ok(()) };
        };
        if let Some(scale) = self.scale(id).map(|id| self.tensor(id)).filter(is_read) {
            let most = f32::MAX / (f32::from(integer.largest()) + 1.0);
            let values = scale.to_f32()?;
            if let Some(row) = values.iter().position(|value| !(0.0..=most).contains(value)) {
                let detail = format!("element {row} is {}, a scale is at least 0 and at most {most:e}", values[row]);
                return Err(Error::new(ErrorKind::Tensor, scale.name, detail));
            }
        }
        if is_read(&tensor) { tensor.check_integers(integer) } else { Ok(()) }
    }

    fn require_scale(&self, name: &str, rows: usize) -> Result<TensorId, Error> {
        let scale_name = scale_name(name);
        let Some(id) = self.find(&scale_name) else {
            let detail = format!("is missing; `{name}` has integers, and these are their scales");
            return Err(Error::new(ErrorKind::Tensor, scale_name, detail));
        };
        let scale = self.tensor(id);
        if scale.dtype != Dtype::F32 {
            return Err(scale.wrong_type("F32"));
        }
        scale.check_shape(&[rows])?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_int12_where_they_are_small_or_the_squares_of_an_output_few() {
        let most = [Integer::Int12.largest(); 8];
        // Squares of eight of the largest leave room for 417.
        for (row, integer) in [
            (vec![2047; 4000], Integer::Int12),
            ([&most[..], &[417]].concat(), Integer::Int12),
            ([&most[..], &[-418]].concat(), Integer::Int16),
        ] {
            let both = [row.clone(), vec![0; row.len()]];
            let bytes = |words: &mut dyn Iterator<Item = i16>| words.flat_map(i16::to_le_bytes).collect::<Vec<u8>>();
            let rows = bytes(&mut both.iter().flatten().copied());
            let columns = bytes(&mut (0..row.len()).flat_map(|at| [both[0][at], both[1][at]]));
            for (shape, bytes, axis) in [([2, row.len()], rows, 0), ([row.len(), 2], columns, 1)] {
                let tensor = Tensor { name: "t", dtype: Dtype::I16, shape: &shape, bytes: &bytes };
                assert_eq!(tensor.integer(axis), Some(integer), "{shape:?}");
            }
        }
    }
}
