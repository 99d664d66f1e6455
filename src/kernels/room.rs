//! Memory in huge pages, for what is read here and there: an entry of the page table that is not in the caches costs as much as a
//! line of the data, and twice in a virtual machine; there is one for each 4 KiB, or one for each huge page.

use super::panels::LINE;
use memmap2::MmapMut;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;

/// Bytes of a huge page.
pub const HUGE_PAGE: usize = 2 << 20;

/// Bytes of the smallest page.
const PAGE: usize = 4 << 10;

/// Zeros in memory of its own, from a multiple of 64 on; from a huge page's worth on in huge pages, where the kernel has some.
pub struct Room {
    memory: MmapMut,
    place: Range<usize>,
}

impl Room {
    /// All of it is there: no later write waits for a page. `None` if memory lacks.
    pub fn new(bytes: usize) -> Option<Self> {
        let is_huge = bytes >= HUGE_PAGE;
        let mut memory = MmapMut::map_anon(bytes.checked_add(if is_huge { HUGE_PAGE } else { LINE })?).ok()?;
        let first = memory.as_ptr().align_offset(if is_huge { HUGE_PAGE } else { LINE });
        #[cfg(target_os = "linux")]
        if is_huge {
            // Without huge pages it serves as well, and slower.
            let _ = memory.advise(memmap2::Advice::HugePage);
        }
        let place = first..first.checked_add(bytes)?;
        memory.get_mut(place.clone())?.iter_mut().step_by(PAGE).for_each(|byte| *byte = 0);
        Some(Self { memory, place })
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.place.clone()]
    }

    /// As many parts of `bytes` each as there is room for, each from a multiple of 64 on.
    pub fn parts(mut self, bytes: usize) -> impl Iterator<Item = Part> {
        let starts: Vec<_> =
            self.bytes_mut().chunks_exact_mut(bytes.max(1).next_multiple_of(LINE)).map(NonNull::from).collect();
        let owner = Arc::new(self);
        starts.into_iter().map(move |start| Part { start: start.cast(), bytes, _owner: owner.clone() })
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.place.clone()]
    }
}

/// A part of a [`Room`], which lives until its last part does.
pub struct Part {
    start: NonNull<u8>,
    bytes: usize,
    _owner: Arc<Room>,
}

// SAFETY: a part is bytes that nobody else refers to.
unsafe impl Send for Part {}
// SAFETY: as above; shared, it is only read.
unsafe impl Sync for Part {}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `Room::parts` made the pointer of a slice at least as long; the owner keeps the memory and gives no reference to it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Part {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; no other part has these bytes.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_apart_and_outlive_each_other() {
        for bytes in [1, 64, 100, 5000, HUGE_PAGE + 1] {
            let room = Room::new(3 * bytes.next_multiple_of(LINE) + 7).expect("memory");
            assert!(room.as_ref().iter().all(|byte| *byte == 0));
            let mut parts: Vec<_> = room.parts(bytes).collect();
            assert_eq!(parts.len(), 3, "{bytes}");
            for (number, part) in parts.iter_mut().enumerate() {
                assert_eq!((part.len(), part.as_ptr() as usize % LINE), (bytes, 0));
                part.fill(number as u8 + 1);
            }
            let last = parts.pop().expect("three");
            assert!(parts.iter().enumerate().all(|(number, part)| part.iter().all(|byte| *byte == number as u8 + 1)));
            drop(parts);
            std::thread::spawn(move || assert!(last.iter().all(|byte| *byte == 3))).join().expect("no panic");
        }
    }

    #[test]
    fn what_no_memory_holds_is_refused() {
        assert!(Room::new(usize::MAX).is_none() && Room::new(isize::MAX as usize).is_none());
        assert_eq!(Room::new(0).map(|room| room.parts(8).count()), Some(0));
    }
}
