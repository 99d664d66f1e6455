//! Every failure of the engine: a stable kind, the guilty subject, and a message.
//!
//! Opening a model fails rarely and may allocate: [`Error`] owns its text. The hot path never allocates:
//! it returns [`Fault`], a kind and an index, which [`crate::Scorer::explain`] turns into an [`Error`].

use std::fmt;

/// What went wrong. The numbers are the C ABI's status codes: they never change and are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum ErrorKind {
    /// An argument has a value that the call does not accept.
    InvalidArgument = 100,
    /// A pointer that must not be null is null.
    NullArgument = 101,
    /// A handle was never given out, or is closed.
    InvalidHandle = 102,
    /// Another thread is inside a call on this scorer.
    Busy = 103,
    /// A sized struct is smaller than its first version, or uses fields that this library does not know.
    StructSize = 104,
    /// The output buffer is too small.
    BufferTooSmall = 105,
    /// The output buffer overlaps an input.
    Overlap = 106,
    /// The host's executor did not run every task of a call exactly once.
    Executor = 107,
    /// The operating system refused: no such file, no permission, read error.
    Io = 200,
    /// The container is damaged or breaks the rules of the format.
    Format = 201,
    /// The description inside the file is wrong; the subject is its JSON path.
    Description = 202,
    /// A tensor is missing, unexpected, or has the wrong type, shape or values.
    Tensor = 203,
    /// The file asks for more than the limits allow.
    Limit = 204,
    /// The scores of the golden requests differ from the recorded ones by more than the bound.
    Golden = 205,
    /// A known feature of the format that this build or machine cannot run.
    Unsupported = 206,
    /// Memory for the model or the scorer could not be reserved.
    OutOfMemory = 207,
    /// No feature of that name or slot.
    UnknownFeature = 300,
    /// A column without which the request cannot be scored was not given.
    MissingFeature = 301,
    /// A column holds values of another type than its feature.
    ColumnType = 302,
    /// A column has another number of rows than the call.
    ColumnLength = 303,
    /// Offsets of a ragged or text column do not start at 0, descend, or pass the end of the values.
    ColumnOffsets = 304,
    /// A request column was given with the candidates, or the other way round.
    ColumnSide = 305,
    /// Two columns name the same feature.
    DuplicateColumn = 306,
    /// `score` was called before `prepare`.
    NotPrepared = 307,
    /// No task of that name or index.
    UnknownTask = 308,
    /// A task was asked for twice.
    DuplicateTask = 309,
    /// A defect of polyscore itself: please report it.
    Internal = 900,
}

impl ErrorKind {
    /// The name of the kind, as the C ABI spells it without its prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::NullArgument => "NULL_ARGUMENT",
            Self::InvalidHandle => "INVALID_HANDLE",
            Self::Busy => "BUSY",
            Self::StructSize => "STRUCT_SIZE",
            Self::BufferTooSmall => "BUFFER_TOO_SMALL",
            Self::Overlap => "OVERLAP",
            Self::Executor => "EXECUTOR",
            Self::Io => "IO",
            Self::Format => "FORMAT",
            Self::Description => "DESCRIPTION",
            Self::Tensor => "TENSOR",
            Self::Limit => "LIMIT",
            Self::Golden => "GOLDEN",
            Self::Unsupported => "UNSUPPORTED",
            Self::OutOfMemory => "OUT_OF_MEMORY",
            Self::UnknownFeature => "UNKNOWN_FEATURE",
            Self::MissingFeature => "MISSING_FEATURE",
            Self::ColumnType => "COLUMN_TYPE",
            Self::ColumnLength => "COLUMN_LENGTH",
            Self::ColumnOffsets => "COLUMN_OFFSETS",
            Self::ColumnSide => "COLUMN_SIDE",
            Self::DuplicateColumn => "DUPLICATE_COLUMN",
            Self::NotPrepared => "NOT_PREPARED",
            Self::UnknownTask => "UNKNOWN_TASK",
            Self::DuplicateTask => "DUPLICATE_TASK",
            Self::Internal => "INTERNAL",
        }
    }

    /// The kind as a sentence about its subject, for faults of the hot path.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::BufferTooSmall => "the output is smaller than tasks x candidates",
            Self::Executor => "the host's executor did not run every task exactly once",
            Self::OutOfMemory => "room for the scores of a parallel call cannot be reserved",
            Self::Internal => "a defect of polyscore: please report it",
            Self::UnknownFeature => "names a feature slot that the model does not have",
            Self::MissingFeature => "has no column, and its description declares no row or value for missing ones",
            Self::ColumnType => "has a column of another type than the feature takes",
            Self::ColumnLength => "has a column of another length than the rows of the call need",
            Self::ColumnOffsets => {
                "has offsets where the feature takes none, none where it takes some, or offsets that do not ascend from 0 \
                 to the number of values (a bag holds at most 65,536)"
            }
            Self::ColumnSide => "has its column on the wrong side: request columns go to prepare, all others to score",
            Self::DuplicateColumn => "has two columns",
            Self::NotPrepared => "score needs a successful prepare before it",
            Self::UnknownTask => "is not a task of the model",
            Self::DuplicateTask => "was asked for twice",
            other => other.name(),
        }
    }
}

/// A failure with the name of the guilty thing: a file, a JSON path, a tensor, a feature, a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    subject: String,
    detail: String,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), detail: detail.into() }
    }

    /// The kind, for matching.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The guilty thing: a file name, a JSON path, a tensor, a feature or a task.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// What is wrong with it.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subject.is_empty() { f.write_str(&self.detail) } else { write!(f, "{}: {}", self.subject, self.detail) }
    }
}

impl std::error::Error for Error {}

/// The guilty thing of a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The call as a whole.
    Call,
    /// A feature, by its slot.
    Feature(u32),
    /// A task, by its index.
    Task(u32),
    /// A column of the call, by its position.
    Column(u32),
}

/// A failure on the hot path: `Copy`, made without allocation. [`crate::Scorer::explain`] writes it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind, for matching.
    pub kind: ErrorKind,
    /// The guilty thing.
    pub subject: Subject,
}

impl Fault {
    pub(crate) fn new(kind: ErrorKind, subject: Subject) -> Self {
        Self { kind, subject }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.kind.name(), self.subject)
    }
}

impl std::error::Error for Fault {}
