//! The model file: what it holds, read and checked before anything is computed from it.
//!
//! A model is one `.safetensors` file, or a set of them under one `.safetensors.index.json`. The tensors carry the
//! names of the PyTorch `state_dict`; `__metadata__["polyscore"]` (in a set: `metadata.polyscore` of the index) is the
//! description, one JSON text. Bytes come from [`Mode`]'s three ways to hold a file; a strict layer around the
//! `safetensors` crate makes a [`Store`] of them, which finds tensors by name; [`Description`] is the JSON, typed and
//! checked. Whatever fails says which file, tensor or JSON path is at fault. Nothing here knows a network.
//!
//! # Integers
//!
//! Tables may be I8 or U8 (int4, two a byte), weights of dense layers I8 or I16, with a companion `<name>.scale`, F32: what
//! the integers of each row of a table, or of each output of a layer, are multiplied by. `scale.rs` has the rules.
//!
//! # Packed layers
//!
//! Names `packed.` with 16 hexadecimal digits are reserved: U8, a dense layer as kernels read it, so that it is mapped and not made at
//! open. The digits are a hash of all that it is made of (weights, norms, columns, type), so that one that does not belong to
//! the weights of the file is never read. A file without them works too.
//!
//! # Alignment and padding
//!
//! Tables are read where they lie in the file, so each tensor should begin at a multiple of 64 bytes. safetensors
//! allows no gaps between tensors; what fills them are tensors too, named `padding.0`, `padding.1` and so on: U8, zero,
//! shorter than 64 bytes. A reader leaves them out, and names that start with `padding.` are reserved. The header is
//! padded with spaces, so that the data begins at a multiple of 64. [`encode`] writes so. A file without padding works
//! too: what is not aligned to its elements is copied once, and [`Store::copied_bytes`] counts it.

#[cfg(target_endian = "big")]
compile_error!("model files are little-endian, and tables are read in place");

mod description;
mod golden;
mod header;
mod json;
mod map;
mod replace;
mod scale;
mod schema;
mod store;
mod tensor;
mod write;

pub use description::{
    Dense, DenseTransform, Description, Feature, FeatureKind, Golden, GoldenHead, Lookup, Pooling, Rate, RowTransform,
    Scenario, Task, Texts, ValueKind, Vocabulary,
};
pub use golden::{GoldenColumn, GoldenRequest, GoldenValues};
pub use map::Mode;
pub use replace::Replacement;
pub use scale::Integer;
pub use store::{Store, StoreOptions, is_packed, packed_name};
pub use tensor::{Dtype, Tensor, TensorId};
pub use write::{Metadata, encode, rewrite, write};
