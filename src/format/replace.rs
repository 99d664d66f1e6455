//! Tensors that take the place of those of a file.

use super::scale::scale_name;
use super::store::{Place, Store, Stored};
use super::tensor::{Dtype, Tensor, TensorId};
use crate::error::{Error, ErrorKind};
use std::collections::HashMap;
use std::sync::Arc;

/// A tensor in another type, which takes the place of the one of its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Replacement {
    /// The name.
    pub name: String,
    /// The type.
    pub dtype: Dtype,
    /// The sizes as they are stored: int4 has half the columns.
    pub shape: Vec<usize>,
    /// The elements.
    pub bytes: Vec<u8>,
    /// Of each row, what its integers are multiplied by; `None` for floats.
    pub scales: Option<Vec<f32>>,
}

impl Replacement {
    /// Bytes of the tensor and of its scales.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.scales.as_ref().map_or(0, |scales| size_of_val(scales.as_slice()))
    }

    /// The tensor, without its scales.
    pub fn tensor(&self) -> Tensor<'_> {
        Tensor { name: &self.name, dtype: self.dtype, shape: &self.shape, bytes: &self.bytes }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Store {
    /// The same tensors, but for those that are replaced, each with its companion behind it. Both stores share the files, and
    /// the replacements are held as they are; their numbers are not looked at.
    ///
    /// # Errors
    /// `Tensor` for a replacement that is not in the store or is there twice, whose shape does not fit its bytes, or whose
    /// companion would take the name of another tensor; `OutOfMemory`.
    pub fn replaced(&self, replacements: &[Arc<Replacement>]) -> Result<Store, Error> {
        let mut by_id: HashMap<TensorId, &Arc<Replacement>> = HashMap::new();
        let mut companions = Vec::new();
        for replacement in replacements {
            let refuse = |detail: &str| Err(Error::new(ErrorKind::Tensor, &*replacement.name, detail));
            let Some(id) = self.find(&replacement.name) else {
                return refuse("is not in the model");
            };
            let elements = replacement.shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
            let bytes = elements.and_then(|elements| elements.checked_mul(replacement.dtype.size()));
            if bytes != Some(replacement.bytes.len()) {
                return refuse("has a shape that does not fit its bytes");
            }
            if by_id.insert(id, replacement).is_some() {
                return refuse("is replaced twice");
            }
            companions.extend(self.scale(id));
        }
        let mut store = self.clone();
        store.tensors.clear();
        for (id, _) in self.tensors().filter(|(id, _)| !companions.contains(id)) {
            match by_id.get(&id) {
                Some(replacement) => store.replace(replacement)?,
                None => store.tensors.push(self.tensors[id.index()].clone()),
            }
        }
        store.sort();
        let name = |number: &u32| &*store.tensors[*number as usize].name;
        match store.by_name.windows(2).find(|pair| name(&pair[0]) == name(&pair[1])) {
            Some(pair) => Err(Error::new(ErrorKind::Tensor, name(&pair[0]), "is the name of two tensors")),
            None => Ok(store),
        }
    }

    fn replace(&mut self, replacement: &Arc<Replacement>) -> Result<(), Error> {
        let Replacement { name, dtype, shape, bytes, scales } = &**replacement;
        let place = if (bytes.as_ptr() as usize).is_multiple_of(dtype.size()) {
            self.replacements.push(Arc::clone(replacement));
            Place::Replacement(self.replacements.len() - 1)
        } else {
            self.copy(bytes, name)?
        };
        self.tensors.push(Stored { name: name.clone(), dtype: *dtype, shape: shape.as_slice().into(), place });
        if let Some(scales) = scales {
            let name = scale_name(name);
            let bytes: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
            let place = self.copy(&bytes, &name)?;
            self.tensors.push(Stored { name, dtype: Dtype::F32, shape: [scales.len()].into(), place });
        }
        Ok(())
    }
}
