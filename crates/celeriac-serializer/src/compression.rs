//! Compression of bodies, under kombu's names.

mod codecs;

use celeriac_core::{Error, ErrorKind, Result};

const COMPRESS: &str = "compress";
const DECOMPRESS: &str = "decompress";

/// A way to compress a body; the header `compression` carries its content type.
///
/// # Wire format
/// `kombu/compression.py`, kombu 5.7. The bodies are compressed after serialization.
///
/// # Examples
/// ```
/// use celeriac_serializer::Compression;
///
/// let gzip = Compression::from_name("gzip")?;
/// assert_eq!(gzip.content_type(), "application/x-gzip");
/// # #[cfg(feature = "zlib")]
/// assert_eq!(gzip.decompress(&gzip.compress(b"body")?, 1024)?, b"body");
/// # Ok::<(), celeriac_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// brotli. A Python peer needs the package `brotli`.
    Brotli,
    /// bzip2.
    Bzip2,
    /// LZMA in an .xz container.
    Lzma,
    /// A zlib stream (RFC 1950), which kombu calls gzip.
    Zlib,
    /// Zstandard. A Python peer needs `backports.zstd` or Python 3.14.
    Zstd,
}

/// What each is called: the name first, then aliases, content type last; and the cargo feature.
const NAMES: [(Compression, &[&str], &str); 5] = [
    (Compression::Brotli, &["brotli", "application/x-brotli"], "brotli"),
    (Compression::Bzip2, &["bzip2", "bzip", "application/x-bz2"], "bzip2"),
    (Compression::Lzma, &["lzma", "xz", "application/x-lzma"], "lzma"),
    (Compression::Zlib, &["zlib", "gzip", "application/x-gzip"], "zlib"),
    (Compression::Zstd, &["zstd", "zstandard", "application/zstd"], "zstd"),
];

impl Compression {
    /// All there are, compiled in or not.
    pub const ALL: [Self; 5] = [Self::Brotli, Self::Bzip2, Self::Lzma, Self::Zlib, Self::Zstd];

    /// The one of that name, alias or content type.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming it and what is known.
    pub fn from_name(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(_, names, _)| names.iter().any(|known| known.eq_ignore_ascii_case(name)));
        found.map(|(compression, ..)| *compression).ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            let known: Vec<String> =
                NAMES.iter().map(|(compression, ..)| format!("`{}`", compression.name())).collect();
            Error::unsupported(DECOMPRESS, format!("compression `{shown}` is not known, only {}", known.join(", ")))
        })
    }

    fn row(self) -> (&'static [&'static str], &'static str) {
        let row = NAMES.iter().find(|(compression, ..)| *compression == self);
        row.map_or((&[], ""), |(_, names, feature)| (names, feature))
    }

    /// The name: `zlib`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().0.first().copied().unwrap_or_default()
    }

    /// What the header `compression` carries.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        self.row().0.last().copied().unwrap_or_default()
    }

    /// The cargo feature that compiles it in.
    #[must_use]
    pub fn feature(self) -> &'static str {
        self.row().1
    }

    /// Whether it is compiled in.
    #[must_use]
    pub const fn is_available(self) -> bool {
        match self {
            Self::Brotli => cfg!(feature = "brotli"),
            Self::Bzip2 => cfg!(feature = "bzip2"),
            Self::Lzma => cfg!(feature = "lzma"),
            Self::Zlib => cfg!(feature = "zlib"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }

    /// Compresses `data`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] naming the cargo feature if it is not compiled in.
    pub fn compress(self, data: &[u8]) -> Result<Vec<u8>> {
        self.check(COMPRESS)?;
        codecs::compress(self, data)
            .map_err(|error| Error::unexpected(COMPRESS, format!("{} failed", self.name())).with_source(error))
    }

    /// Decompresses `data` into at most `limit` bytes.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] if there would be more; [`ErrorKind::Malformed`] if the data is truncated, broken or followed
    /// by more; [`ErrorKind::Unsupported`] naming the cargo feature if it is not compiled in.
    pub fn decompress(self, data: &[u8], limit: usize) -> Result<Vec<u8>> {
        self.check(DECOMPRESS)?;
        let out = codecs::decompress(self, data, limit).map_err(|error| {
            Error::malformed(DECOMPRESS, format!("not a whole {} stream", self.name())).with_source(error)
        })?;
        if out.len() > limit {
            let message = format!("a {} body of more than {limit} bytes", self.name());
            return Err(Error::new(ErrorKind::TooLarge, DECOMPRESS, message));
        }
        Ok(out)
    }

    fn check(self, operation: &'static str) -> Result<()> {
        if self.is_available() {
            return Ok(());
        }
        let message = format!("{} needs the cargo feature `{}`", self.name(), self.feature());
        Err(Error::unsupported(operation, message))
    }
}
