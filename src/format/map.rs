//! The bytes of a model file: the only place that maps one.
//!
//! # What mapping a file means
//!
//! A mapping is not a copy. The kernel reads a page of the file when the page is first touched, may drop it under
//! memory pressure, and reads it again later. So the file has to stay what it was for as long as a model uses it:
//!
//! * **Replaced by rename**: safe in every mode. The mapping holds the old inode, which lives until the last model on
//!   it is dropped. This is how a model must be updated, and how [`super::write()`] writes.
//! * **Unlinked**: safe in every mode, for the same reason.
//! * **Truncated in place**: in [`Mode::Map`] the next touch of a page past the new end raises SIGBUS, which ends the
//!   process. Private mappings, populating, and locking the pages do not help. `cp new.safetensors model.safetensors`
//!   truncates in place.
//! * **Overwritten in place**: in [`Mode::Map`] the scores change silently, and a Rust `&[u8]` changes under its
//!   reader, which the language does not allow. We read tensors only as integers and floats, for which every bit
//!   pattern is a value, and check every index against the description, which is owned: the harm is a wrong score.
//!
//! [`Mode::Snapshot`] and [`Mode::Copy`] read the file once and let go of it. Nothing that happens to the file after
//! the model is open reaches them; what happens while they read is noticed by [`Map::check_unchanged`], which compares
//! size, modification time and inode before and after. That check also guards a load in [`Mode::Map`], and is as good
//! as the time stamps of the file system: a guard against accidents, not against an opponent who can write the file.
//!
//! The file is opened once, without blocking, and everything else is asked of the descriptor, never again of the path.

use std::alloc::Layout;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind as IoKind, Read};
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, ErrorKind};

/// How the bytes of a model file are held. The head of this module says what each survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Map the file: nothing is copied, and every process that maps it shares its pages. The file may only be replaced
    /// by rename, never written in place.
    #[default]
    Map,
    /// Copy the file into an anonymous file in memory, seal that against change, and map it. Other systems than Linux
    /// do as [`Mode::Copy`] does.
    Snapshot,
    /// Copy the file into private memory.
    Copy,
}

/// The bytes of one file, immutable, at an address that is a multiple of 64.
#[derive(Debug)]
pub struct Map {
    bytes: Bytes,
    mapped: bool,
    /// The file a mapping depends on, and what it looked like when it was opened. None once the bytes are our own.
    origin: Option<(File, Stamp)>,
    name: String,
}

#[derive(Debug)]
enum Bytes {
    Pages(Mmap),
    Memory(AlignedBytes),
}

impl Map {
    /// Opens a regular file of 1 to `max_bytes` bytes. Errors name the file without its folder.
    ///
    /// # Errors
    /// `Io` if the system refuses, or if the path is not a regular file, or if the file changed while it was copied;
    /// `Format` if it is empty; `Limit` if it is larger than `max_bytes`; `OutOfMemory` if a copy does not fit.
    pub fn open(path: &Path, mode: Mode, max_bytes: u64) -> Result<Self, Error> {
        let name = file_name(path);
        let io = |error: std::io::Error| Error::new(ErrorKind::Io, &*name, describe(&error));
        // Opening a device can have effects of its own: it is refused before, and a swap in between below.
        check_regular(&name, &std::fs::metadata(path).map_err(io)?)?;
        let file = open_nonblocking(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        check_regular(&name, &metadata)?;
        let length = metadata.len();
        if length == 0 {
            return Err(Error::new(ErrorKind::Format, name, "is empty"));
        }
        if length > max_bytes {
            let detail = format!("has {length} bytes, the limit is {max_bytes}");
            return Err(Error::new(ErrorKind::Limit, name, detail));
        }
        let Ok(size) = usize::try_from(length) else {
            return Err(Error::new(ErrorKind::Limit, name, format!("has {length} bytes, more than can be addressed")));
        };

        let (bytes, mapped) = match mode {
            Mode::Map => {
                // SAFETY: the mapping is read-only and of a regular file. That nobody writes the file in place is the
                // contract of this mode, which the head of this module spells out.
                let pages = unsafe { MmapOptions::new().len(size).map(&file) }.map_err(io)?;
                (Bytes::Pages(pages), true)
            }
            Mode::Snapshot => (snapshot(&file, size, &name)?, false),
            Mode::Copy => (Bytes::Memory(AlignedBytes::read(&file, size, &name)?), false),
        };
        let mut map = Self { bytes, mapped, origin: Some((file, Stamp::of(&metadata))), name };
        if !mapped {
            map.check_unchanged()?;
            map.origin = None;
        }
        Ok(map)
    }

    /// The content of the file.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Pages(pages) => pages,
            Bytes::Memory(memory) => memory.as_slice(),
        }
    }

    /// The name of the file, without its folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the bytes are the file's own pages.
    pub fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// Refuses a file whose size, modification time or inode differ from what they were when it was opened. Always
    /// succeeds once the bytes are our own.
    ///
    /// # Errors
    /// `Io`.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        let Some((file, before)) = &self.origin else { return Ok(()) };
        let metadata = file.metadata().map_err(|error| Error::new(ErrorKind::Io, &*self.name, describe(&error)))?;
        if Stamp::of(&metadata) == *before {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, &*self.name, "was changed in place while it was read"))
    }
}

/// Memory that starts at a multiple of 64, zeroed when reserved.
#[derive(Debug)]
pub struct AlignedBytes {
    lines: Vec<Line>,
    length: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

const LINE: usize = 64;
const _: () = assert!(size_of::<Line>() == LINE && align_of::<Line>() == LINE);

impl AlignedBytes {
    /// A copy of `bytes`.
    ///
    /// # Errors
    /// `OutOfMemory`, with the subject `name`.
    pub fn copy(bytes: &[u8], name: &str) -> Result<Self, Error> {
        let mut memory = Self::reserve(bytes.len(), name)?;
        memory.as_mut_slice().copy_from_slice(bytes);
        Ok(memory)
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `lines` holds at least `length` initialised bytes in one allocation (see `reserve`), and any
        // alignment suits u8.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast::<u8>(), self.length) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; the exclusive borrow of `self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<u8>(), self.length) }
    }

    fn reserve(length: usize, name: &str) -> Result<Self, Error> {
        let count = length.div_ceil(LINE);
        let mut lines = Vec::new();
        if Layout::array::<Line>(count).is_err() || lines.try_reserve_exact(count).is_err() {
            return Err(Error::new(ErrorKind::OutOfMemory, name, format!("no memory for {length} bytes")));
        }
        lines.resize(count, Line([0; LINE]));
        Ok(Self { lines, length })
    }

    fn read(mut file: &File, length: usize, name: &str) -> Result<Self, Error> {
        let mut memory = Self::reserve(length, name)?;
        file.read_exact(memory.as_mut_slice()).map_err(|error| short_read(&error, name))?;
        Ok(memory)
    }
}

/// What a file looked like: it differs after a write in place.
#[derive(Debug, PartialEq)]
struct Stamp {
    length: u64,
    modified: Option<std::time::SystemTime>,
    #[cfg(unix)]
    inode: (u64, u64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode: {
                use std::os::unix::fs::MetadataExt;
                (metadata.dev(), metadata.ino())
            },
        }
    }
}

/// The last part of a path, which is all of it that an error shows.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The text of an error of the operating system, without its number.
pub(super) fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        IoKind::NotFound => "does not exist".into(),
        IoKind::PermissionDenied => "may not be read or written: permission denied".into(),
        _ => error.to_string(),
    }
}

fn check_regular(name: &str, metadata: &Metadata) -> Result<(), Error> {
    if metadata.is_file() {
        return Ok(());
    }
    let detail = if metadata.is_dir() { "is a directory" } else { "is not a regular file" };
    Err(Error::new(ErrorKind::Io, name, detail))
}

fn open_nonblocking(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    options.open(path)
}

fn short_read(error: &std::io::Error, name: &str) -> Error {
    let detail = match error.kind() {
        IoKind::UnexpectedEof => "was changed in place while it was read".into(),
        _ => describe(error),
    };
    Error::new(ErrorKind::Io, name, detail)
}

#[cfg(not(target_os = "linux"))]
fn snapshot(file: &File, size: usize, name: &str) -> Result<Bytes, Error> {
    Ok(Bytes::Memory(AlignedBytes::read(file, size, name)?))
}

#[cfg(target_os = "linux")]
fn snapshot(mut file: &File, size: usize, name: &str) -> Result<Bytes, Error> {
    use std::os::fd::{AsRawFd, FromRawFd};

    let io = |error: std::io::Error| Error::new(ErrorKind::Io, name, describe(&error));
    // SAFETY: the name is a NUL-terminated literal; the call touches no other memory.
    let descriptor = unsafe { libc::memfd_create(c"polyscore".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if descriptor < 0 {
        return Err(io(std::io::Error::last_os_error()));
    }
    // SAFETY: the descriptor is new and owned by nobody else.
    let mut copy = unsafe { File::from_raw_fd(descriptor) };
    let copied =
        std::io::copy(&mut Read::take(&mut file, size as u64), &mut copy).map_err(|error| match error.kind() {
            IoKind::OutOfMemory | IoKind::StorageFull => {
                Error::new(ErrorKind::OutOfMemory, name, format!("no memory for {size} bytes"))
            }
            _ => io(error),
        })?;
    if copied != size as u64 {
        return Err(short_read(&IoKind::UnexpectedEof.into(), name));
    }
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE | libc::F_SEAL_SEAL;
    // SAFETY: fcntl with F_ADD_SEALS takes an integer and touches no memory; the descriptor is open.
    if unsafe { libc::fcntl(copy.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io(std::io::Error::last_os_error()));
    }
    // A shared mapping of a file sealed against writing is refused before Linux 6.7; a private one never is.
    // SAFETY: the file has `size` bytes and its seals keep it from being written, shrunk or grown.
    let pages = unsafe { MmapOptions::new().len(size).map_copy_read_only(&copy) }.map_err(io)?;
    Ok(Bytes::Pages(pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A folder of its own for each test, removed at the end.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("polyscore-map-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
            let path = self.0.join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const MODES: [Mode; 3] = [Mode::Map, Mode::Snapshot, Mode::Copy];

    #[test]
    fn every_mode_gives_the_bytes_of_the_file_at_a_multiple_of_64() {
        let folder = Folder::new("bytes");
        for length in [1, 63, 64, 65, 5000] {
            let content: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let path = folder.file("m", &content);
            for mode in MODES {
                let map = Map::open(&path, mode, 5000).unwrap();
                assert_eq!(map.bytes(), content, "{mode:?} {length}");
                assert_eq!(map.bytes().as_ptr() as usize % 64, 0, "{mode:?}");
                assert_eq!(map.is_mapped(), mode == Mode::Map);
                assert_eq!(map.name(), "m");
            }
        }
    }

    #[test]
    fn what_is_not_a_file_of_the_right_size_is_refused() {
        let folder = Folder::new("refused");
        let empty = folder.file("empty", b"");
        let large = folder.file("large", &[0; 11]);
        for mode in MODES {
            let refuse = |path: &Path| {
                let error = Map::open(path, mode, 10).unwrap_err();
                (error.kind(), error.to_string())
            };
            assert_eq!(refuse(&folder.0.join("absent")), (ErrorKind::Io, "absent: does not exist".into()));
            assert_eq!(refuse(&empty), (ErrorKind::Format, "empty: is empty".into()));
            assert_eq!(refuse(&large), (ErrorKind::Limit, "large: has 11 bytes, the limit is 10".into()));
            assert!(refuse(&folder.0).1.ends_with(": is a directory"));
            assert_eq!(refuse(Path::new("/")).1, "/: is a directory");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_fifo_and_a_device_are_refused_without_waiting() {
        let folder = Folder::new("fifo");
        let fifo = folder.0.join("fifo");
        let status = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(status.success());
        for path in [&*fifo, Path::new("/dev/null"), Path::new("/dev/zero")] {
            for mode in MODES {
                let error = Map::open(path, mode, u64::MAX).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Io);
                assert_eq!(error.detail(), "is not a regular file");
            }
        }
        // Past the first check, opening still does not wait for a writer.
        assert!(open_nonblocking(&fifo).is_ok());
    }

    #[test]
    fn a_replaced_or_unlinked_file_keeps_its_bytes() {
        let folder = Folder::new("replaced");
        for mode in MODES {
            let path = folder.file("m", &[1; 9000]);
            let map = Map::open(&path, mode, u64::MAX).unwrap();
            let new = folder.file("new", &[2; 9000]);
            std::fs::rename(new, &path).unwrap();
            assert_eq!(map.bytes(), [1; 9000], "{mode:?}");
            std::fs::remove_file(&path).unwrap();
            assert_eq!(map.bytes(), [1; 9000], "{mode:?}");
            map.check_unchanged().unwrap();
        }
    }

    #[test]
    fn snapshot_and_copy_survive_truncation_and_overwriting_in_place() {
        let folder = Folder::new("truncated");
        for mode in [Mode::Snapshot, Mode::Copy] {
            let path = folder.file("m", &[1; 9000]);
            let map = Map::open(&path, mode, u64::MAX).unwrap();
            let mut file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all(&[3; 5000]).unwrap();
            file.set_len(0).unwrap();
            assert_eq!(map.bytes(), [1; 9000], "{mode:?}");
            map.check_unchanged().unwrap();
        }
    }

    #[test]
    fn a_change_in_place_is_noticed_in_map_mode() {
        let folder = Folder::new("changed");
        let path = folder.file("m", &[1; 100]);
        let map = Map::open(&path, Mode::Map, u64::MAX).unwrap();
        map.check_unchanged().unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(200).unwrap();
        let error = map.check_unchanged().unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Io, "m: was changed in place while it was read".into())
        );
    }

    #[test]
    fn a_size_that_no_memory_holds_is_an_error() {
        for size in [usize::MAX, isize::MAX as usize, usize::MAX / 2 - 100] {
            let error = AlignedBytes::reserve(size, "t").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
        }
    }
}
