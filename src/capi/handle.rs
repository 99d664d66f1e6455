//! The table that handles point into.
//!
//! A handle is `generation (32 bits) | place (20) | table (4)`, never zero, never dereferenced; the table tells a model from
//! a scorer. Each place has one atomic word:
//! ```text
//! generation (32 bits) | closing (1) | exclusive (1) | pins (30)
//! ```
//! A call pins its handle by one compare-and-swap, and unpins it by another: no lock, no allocation. Closing marks the
//! place; whoever unpins last drops the object and gives the place to the next generation. So a handle may be closed while
//! other threads are inside calls on it, and a closed one is known as such until its place was used 2^32 times.
//!
//! Places come in chunks that are never freed: what is allocated is bounded by the largest number of handles open at once.

use super::guard::Failure;
use crate::error::ErrorKind;
use std::cell::UnsafeCell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

const TAG_BITS: u32 = 4;
const PLACE_BITS: u32 = 20;
const CHUNK: usize = 1024;
const CHUNKS: usize = (1 << PLACE_BITS) / CHUNK;

const CLOSING: u64 = 1 << 31;
const EXCLUSIVE: u64 = 1 << 30;
const PINS: u64 = EXCLUSIVE - 1;

struct Place<T> {
    /// Odd generations are in use.
    state: AtomicU64,
    value: UnsafeCell<Option<Box<T>>>,
}

/// A table of objects of one type.
pub struct Table<T> {
    tag: usize,
    chunks: [AtomicPtr<Place<T>>; CHUNKS],
    /// Free places, and how many were ever made.
    free: Mutex<(Vec<usize>, usize)>,
}

// SAFETY: `value` is reached only through a pin, which excludes the writers (`insert` owns a free place, the last unpin
// owns a closing one); shared pins give `&T` and exclusive ones `&mut T`, so `T` must be both.
unsafe impl<T: Send + Sync> Sync for Table<T> {}

/// A handle in use: the object stays until this is dropped.
pub struct Pin<'a, T> {
    table: &'a Table<T>,
    place: &'a Place<T>,
    index: usize,
    is_exclusive: bool,
}

fn stale() -> Failure {
    Failure::new(ErrorKind::InvalidHandle, "handle", "was never given out, or is closed")
}

impl<T> Table<T> {
    /// `tag`, below 16, tells the handles of this table from those of others.
    pub const fn new(tag: usize) -> Self {
        Self {
            tag,
            chunks: [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS],
            free: Mutex::new((Vec::new(), 0)),
        }
    }

    /// Takes an object in and gives its handle.
    pub fn insert(&self, value: Box<T>) -> Result<usize, Failure> {
        let full = || Failure::new(ErrorKind::OutOfMemory, "handle", "too many handles are open");
        let mut free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if free.0.is_empty() {
            let chunk = free.1 / CHUNK;
            let slot = self.chunks.get(chunk).ok_or_else(full)?;
            let mut places: Vec<Place<T>> = Vec::new();
            places.try_reserve_exact(CHUNK).map_err(|_| full())?;
            free.0.try_reserve(CHUNK).map_err(|_| full())?;
            places.extend((0..CHUNK).map(|_| Place { state: AtomicU64::new(0), value: UnsafeCell::new(None) }));
            slot.store(Box::leak(places.into_boxed_slice()).as_mut_ptr(), Ordering::Release);
            free.0.extend((0..CHUNK).rev().map(|place| chunk * CHUNK + place));
            free.1 += CHUNK;
        }
        let index = free.0.pop().ok_or_else(full)?;
        let place = self.place(index).ok_or_else(full)?;
        // SAFETY: the place is free: no handle of its even generation exists, so nobody can pin it.
        unsafe { *place.value.get() = Some(value) };
        let generation = (place.state.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        place.state.store(generation << 32, Ordering::Release);
        Ok(((generation as usize) << PLACE_BITS | index) << TAG_BITS | self.tag)
    }

    fn place(&self, index: usize) -> Option<&Place<T>> {
        let chunk = self.chunks.get(index / CHUNK)?.load(Ordering::Acquire);
        // SAFETY: a chunk that is not null has `CHUNK` places and is never freed.
        if chunk.is_null() { None } else { Some(unsafe { &*chunk.add(index % CHUNK) }) }
    }

    /// Changes the state of a live handle by `change`, which may refuse it.
    fn update(
        &self,
        handle: usize,
        change: impl Fn(u64) -> Result<u64, Failure>,
    ) -> Result<(&Place<T>, usize), Failure> {
        let index = handle >> TAG_BITS & ((1 << PLACE_BITS) - 1);
        let generation = (handle >> TAG_BITS >> PLACE_BITS) as u64;
        if handle & ((1 << TAG_BITS) - 1) != self.tag {
            return Err(stale());
        }
        let place = self.place(index).ok_or_else(stale)?;
        let mut state = place.state.load(Ordering::Acquire);
        loop {
            if state >> 32 != generation || generation & 1 == 0 || state & CLOSING != 0 {
                return Err(stale());
            }
            match place.state.compare_exchange_weak(state, change(state)?, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok((place, index)),
                Err(current) => state = current,
            }
        }
    }

    /// Pins for reading, beside other readers.
    pub fn pin(&self, handle: usize) -> Result<Pin<'_, T>, Failure> {
        let (place, index) = self.update(handle, |state| {
            if state & EXCLUSIVE != 0 || state & PINS == PINS {
                return Err(Failure::new(ErrorKind::Busy, "handle", "is in use by another thread"));
            }
            Ok(state + 1)
        })?;
        Ok(Pin { table: self, place, index, is_exclusive: false })
    }

    /// Pins for writing; refused while any other call is inside.
    pub fn pin_exclusive(&self, handle: usize) -> Result<Pin<'_, T>, Failure> {
        let (place, index) = self.update(handle, |state| {
            if state & (EXCLUSIVE | PINS) != 0 {
                return Err(Failure::new(ErrorKind::Busy, "handle", "is in use by another thread"));
            }
            Ok(state | EXCLUSIVE)
        })?;
        Ok(Pin { table: self, place, index, is_exclusive: true })
    }

    /// Closes a handle. The object goes when the last call on it has left: here, if there is none.
    pub fn close(&self, handle: usize) -> Result<(), Failure> {
        let (place, index) = self.update(handle, |state| Ok((state | CLOSING) + 1))?;
        drop(Pin { table: self, place, index, is_exclusive: false });
        Ok(())
    }

    fn release(&self, place: &Place<T>, index: usize) {
        // SAFETY: the place is closing and this was its last pin, so nobody else reaches it.
        let value = unsafe { (*place.value.get()).take() };
        let generation = (place.state.load(Ordering::Relaxed) >> 32).wrapping_add(1) & u64::from(u32::MAX);
        place.state.store(generation << 32, Ordering::Release);
        let mut free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        free.0.push(index);
        drop(free);
        drop(value);
    }
}

impl<T> Pin<'_, T> {
    pub fn get(&self) -> Option<&T> {
        // SAFETY: pinned: nobody takes the object out, and an exclusive pin is the only one.
        unsafe { (*self.place.value.get()).as_deref() }
    }

    pub fn get_mut(&mut self) -> Option<&mut T> {
        if !self.is_exclusive {
            return None;
        }
        // SAFETY: an exclusive pin is the only one, and `self` is borrowed mutably.
        unsafe { (*self.place.value.get()).as_deref_mut() }
    }
}

impl<T> Drop for Pin<'_, T> {
    fn drop(&mut self) {
        let held = if self.is_exclusive { EXCLUSIVE } else { 1 };
        let before = self.place.state.fetch_sub(held, Ordering::AcqRel);
        let after = before - held;
        if after & CLOSING != 0 && after & (EXCLUSIVE | PINS) == 0 {
            self.table.release(self.place, self.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    static DROPPED: AtomicUsize = AtomicUsize::new(0);

    struct Counted;

    impl Drop for Counted {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_handle_lives_until_its_last_pin_and_is_stale_after() {
        let table = Table::new(3);
        let handle = table.insert(Box::new(Counted)).ok().expect("room");
        let first = table.pin(handle).ok().expect("open");
        let second = table.pin(handle).ok().expect("shared");
        assert!(matches!(table.pin_exclusive(handle), Err(Failure { kind: ErrorKind::Busy, .. })));
        assert!(table.close(handle).is_ok());
        assert!(table.pin(handle).is_err() && table.close(handle).is_err());
        drop(first);
        assert_eq!(DROPPED.load(Ordering::SeqCst), 0);
        assert!(second.get().is_some());
        drop(second);
        assert_eq!(DROPPED.load(Ordering::SeqCst), 1);
        let next = table.insert(Box::new(Counted)).ok().expect("room");
        assert_ne!(next, handle);
        assert!(table.pin(handle).is_err(), "the place has a new generation");
        assert!(table.pin(0).is_err() && table.pin(usize::MAX).is_err());
    }

    #[test]
    fn threads_that_open_use_and_close_never_meet_a_dead_object() {
        let table: Table<u64> = Table::new(3);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let table = &table;
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let value = thread << 32 | round;
                        let handle = table.insert(Box::new(value)).ok().expect("room");
                        let pin = table.pin(handle).ok().expect("open");
                        assert!(table.close(handle).is_ok());
                        assert_eq!(pin.get(), Some(&value));
                        drop(pin);
                        assert!(table.pin_exclusive(handle).is_err());
                    }
                });
            }
        });
    }
}
