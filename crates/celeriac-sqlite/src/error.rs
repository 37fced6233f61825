//! What SQLite and the file system answer, in celeriac's terms.

use std::io;
use std::path::Path;

use celeriac_core::{Error, ErrorKind};
use rusqlite::ErrorCode;

/// Why a piece of work on the database failed: not yet in a caller's terms, which need the operation and the path.
#[derive(Debug)]
pub(crate) enum Fault {
    Sql(rusqlite::Error),
    Io(io::Error),
    Said(Error),
}

pub(crate) type Outcome<T = ()> = Result<T, Fault>;

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Said(error)
    }
}

impl Fault {
    /// The caller's error: what `operation` met at the database `path`.
    pub(crate) fn explain(self, operation: &'static str, path: &Path) -> Error {
        let path = path.display();
        let error = match self {
            Self::Said(error) => return error,
            Self::Io(error) => {
                let kind = match error.kind() {
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Config,
                    _ => ErrorKind::Unavailable,
                };
                return Error::new(kind, operation, format!("cannot write beside `{path}`")).with_source(error);
            }
            Self::Sql(error) => error,
        };
        let (kind, message) = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
                ErrorKind::Unavailable,
                format!("`{path}` is locked by another program for longer than `busy_timeout`"),
            ),
            Some(ErrorCode::DiskFull) => (ErrorKind::Unavailable, format!("the disk of `{path}` is full")),
            Some(ErrorCode::ReadOnly) => (ErrorKind::Unavailable, format!("`{path}` cannot be written to")),
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                (ErrorKind::Unavailable, format!("`{path}` cannot be opened"))
            }
            Some(ErrorCode::SystemIoFailure) => (ErrorKind::Unavailable, format!("the disk of `{path}` fails")),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                (ErrorKind::Unexpected, format!("`{path}` is damaged"))
            }
            Some(ErrorCode::TooBig) => (ErrorKind::TooLarge, format!("larger than `{path}` can keep")),
            _ => (ErrorKind::Unexpected, format!("SQLite refused an operation on `{path}`")),
        };
        Error::new(kind, operation, message).with_source(error)
    }
}

/// The same error once more, for each who waited on one commit. Sources become text.
pub(crate) fn again(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.operation(), error.message().to_owned());
    match std::error::Error::source(error) {
        Some(source) => copy.with_source(source.to_string()),
        None => copy,
    }
}

pub(crate) fn closed(operation: &'static str) -> Error {
    Error::unavailable(operation, "the database is closed")
}
