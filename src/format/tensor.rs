//! A named array as the file holds it: borrowed bytes, a type and a shape.

use half::{bf16, f16};

use crate::error::{Error, ErrorKind};

/// The element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE double precision.
    F64,
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single-precision number.
    Bf16,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed byte.
    I8,
    /// Byte.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    /// The bytes of one element, which is also its alignment.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// The name of the type, as safetensors spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
        }
    }

    /// Whether weights and tables may have this type: F32, F16 or BF16.
    pub fn is_weight(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        use Dtype::*;
        [F64, F32, F16, Bf16, I64, I32, I16, I8, U8, Bool].into_iter().find(|dtype| dtype.name() == name)
    }

    pub(super) fn from_container(dtype: safetensors::Dtype) -> Option<Self> {
        Some(match dtype {
            safetensors::Dtype::F64 => Self::F64,
            safetensors::Dtype::F32 => Self::F32,
            safetensors::Dtype::F16 => Self::F16,
            safetensors::Dtype::BF16 => Self::Bf16,
            safetensors::Dtype::I64 => Self::I64,
            safetensors::Dtype::I32 => Self::I32,
            safetensors::Dtype::I16 => Self::I16,
            safetensors::Dtype::I8 => Self::I8,
            safetensors::Dtype::U8 => Self::U8,
            safetensors::Dtype::BOOL => Self::Bool,
            _ => return None,
        })
    }
}

/// The number of a tensor in its [`super::Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId(pub(super) u32);

impl TensorId {
    /// The position of the tensor in the store, below [`super::Store::len`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A borrowed tensor: row-major, little-endian, with `bytes` aligned to the element size when it comes from a store.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// The name.
    pub name: &'a str,
    /// The element type.
    pub dtype: Dtype,
    /// The sizes, outermost first; empty for a single value.
    pub shape: &'a [usize],
    /// The elements.
    pub bytes: &'a [u8],
}

impl<'a> Tensor<'a> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The values of an F32, F16 or BF16 tensor, widened exactly.
    ///
    /// # Errors
    /// `Tensor` if it has another type, `OutOfMemory` if the values do not fit.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        let mut values = reserve(self.name, self.len())?;
        match self.dtype {
            Dtype::F32 => values.extend(words(self.bytes).map(f32::from_le_bytes)),
            Dtype::F16 => values.extend(words(self.bytes).map(|word| f16::from_le_bytes(word).to_f32())),
            Dtype::Bf16 => values.extend(words(self.bytes).map(|word| bf16::from_le_bytes(word).to_f32())),
            _ => return Err(self.wrong_type("F32, F16 or BF16")),
        }
        Ok(values)
    }

    /// The values of an I64 tensor.
    ///
    /// # Errors
    /// `Tensor` if it has another type, `OutOfMemory` if the values do not fit.
    pub fn to_i64(&self) -> Result<Vec<i64>, Error> {
        if self.dtype != Dtype::I64 {
            return Err(self.wrong_type("I64"));
        }
        let mut values = reserve(self.name, self.len())?;
        values.extend(words(self.bytes).map(i64::from_le_bytes));
        Ok(values)
    }

    /// A copy of the bytes.
    ///
    /// # Errors
    /// `OutOfMemory` if it does not fit.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = reserve(self.name, self.bytes.len())?;
        bytes.extend_from_slice(self.bytes);
        Ok(bytes)
    }

    /// Refuses NaN and infinity in an F32, F16 or BF16 tensor. It reads every byte.
    ///
    /// # Errors
    /// `Tensor`, naming the first such element by its position in the flat array, or if it has another type.
    pub fn check_finite(&self) -> Result<(), Error> {
        let bad = match self.dtype {
            Dtype::F32 => first_special::<4, u32>(self.bytes, u32::from_le_bytes, 0x7f80_0000),
            Dtype::F16 => first_special::<2, u16>(self.bytes, u16::from_le_bytes, 0x7c00),
            Dtype::Bf16 => first_special::<2, u16>(self.bytes, u16::from_le_bytes, 0x7f80),
            _ => return Err(self.wrong_type("F32, F16 or BF16")),
        };
        match bad {
            None => Ok(()),
            Some(index) => {
                Err(Error::new(ErrorKind::Tensor, self.name, format!("element {index} is not a finite number")))
            }
        }
    }

    /// Refuses any other shape.
    ///
    /// # Errors
    /// `Tensor`, with both shapes.
    pub fn check_shape(&self, expected: &[usize]) -> Result<(), Error> {
        if self.shape == expected {
            return Ok(());
        }
        let detail = format!("has shape {:?}, expected {expected:?}", self.shape);
        Err(Error::new(ErrorKind::Tensor, self.name, detail))
    }

    /// The error for a tensor of another type than `expected`.
    pub(crate) fn wrong_type(&self, expected: &str) -> Error {
        let detail = format!("has type {}, expected {expected}", self.dtype.name());
        Error::new(ErrorKind::Tensor, self.name, detail)
    }
}

fn reserve<T>(name: &str, count: usize) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    match values.try_reserve_exact(count) {
        Ok(()) => Ok(values),
        Err(_) => Err(Error::new(ErrorKind::OutOfMemory, name, format!("no memory for {count} values"))),
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// The first element whose exponent bits are all ones. Blocks keep the scan free of branches, so that it vectorises.
fn first_special<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T, mask: T) -> Option<usize>
where
    T: Copy + PartialEq + std::ops::BitAnd<Output = T>,
{
    const BLOCK: usize = 1024;
    let elements = bytes.as_chunks::<N>().0;
    let special = |word: &[u8; N]| read(*word) & mask == mask;
    let (number, block) = elements.chunks(BLOCK).enumerate().find(|(_, block)| {
        let found = block.iter().fold(0u8, |found, word| found | u8::from(special(word)));
        found != 0
    })?;
    Some(number * BLOCK + block.iter().position(special)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor<'a>(dtype: Dtype, shape: &'a [usize], bytes: &'a [u8]) -> Tensor<'a> {
        Tensor { name: "t", dtype, shape, bytes }
    }

    #[test]
    fn every_type_is_found_by_its_name() {
        for name in ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"] {
            assert_eq!(Dtype::from_name(name).map(Dtype::name), Some(name));
        }
        assert_eq!(Dtype::from_name("U16"), None);
    }

    #[test]
    fn floats_of_every_width_read_as_f32() {
        let expected = [1.0f32, -2.5, 0.0, 65504.0];
        let f32s: Vec<u8> = expected.iter().flat_map(|value| value.to_le_bytes()).collect();
        let f16s: Vec<u8> = expected.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
        assert_eq!(tensor(Dtype::F32, &[4], &f32s).to_f32().unwrap(), expected);
        assert_eq!(tensor(Dtype::F16, &[4], &f16s).to_f32().unwrap(), expected);
        let bf16s: Vec<u8> = expected[..3].iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect();
        assert_eq!(tensor(Dtype::Bf16, &[3], &bf16s).to_f32().unwrap(), expected[..3]);
        let error = tensor(Dtype::I64, &[2], &[0; 16]).to_f32().unwrap_err();
        assert_eq!(error.to_string(), "t: has type I64, expected F32, F16 or BF16");
    }

    #[test]
    fn the_first_value_that_is_not_finite_is_named_wherever_it_is() {
        for (dtype, nan, infinity) in [
            (Dtype::F32, f32::NAN.to_le_bytes().to_vec(), f32::NEG_INFINITY.to_le_bytes().to_vec()),
            (Dtype::F16, f16::NAN.to_le_bytes().to_vec(), f16::NEG_INFINITY.to_le_bytes().to_vec()),
            (Dtype::Bf16, bf16::NAN.to_le_bytes().to_vec(), bf16::NEG_INFINITY.to_le_bytes().to_vec()),
        ] {
            let size = dtype.size();
            // The largest finite value, everywhere.
            let mut bytes: Vec<u8> = match dtype {
                Dtype::F32 => f32::MAX.to_le_bytes().to_vec(),
                Dtype::F16 => f16::MAX.to_le_bytes().to_vec(),
                _ => bf16::MAX.to_le_bytes().to_vec(),
            };
            bytes = bytes.repeat(2500);
            tensor(dtype, &[2500], &bytes).check_finite().unwrap();
            for index in [0, 1, 1023, 1024, 2047, 2048, 2499] {
                let mut bad = bytes.clone();
                bad[index * size..(index + 1) * size].copy_from_slice(&infinity);
                bad[2499 * size..].copy_from_slice(&nan);
                let error = tensor(dtype, &[2500], &bad).check_finite().unwrap_err();
                assert_eq!(error.to_string(), format!("t: element {index} is not a finite number"), "{dtype:?}");
            }
        }
    }
}
