//! Each codec behind its cargo feature.

#![cfg_attr(
    not(all(feature = "brotli", feature = "bzip2", feature = "lzma", feature = "zlib", feature = "zstd")),
    allow(unused_imports, unused_variables, dead_code, reason = "depends on which codecs are compiled in")
)]

use std::io::{self, Read, Write};

use super::Compression;

pub(super) fn compress(compression: Compression, data: &[u8]) -> io::Result<Vec<u8>> {
    match compression {
        #[cfg(feature = "brotli")]
        Compression::Brotli => {
            let mut out = Vec::new();
            // Quality 5: a third of the default's time for nearly its size.
            brotli::CompressorWriter::new(&mut out, BUFFER, 5, 22).write_all(data)?;
            Ok(out)
        }
        #[cfg(feature = "bzip2")]
        Compression::Bzip2 => {
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            writer.write_all(data)?;
            writer.finish()
        }
        #[cfg(feature = "lzma")]
        Compression::Lzma => {
            let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(6))?;
            writer.write_all(data)?;
            writer.finish()
        }
        #[cfg(feature = "zlib")]
        Compression::Zlib => {
            let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            writer.write_all(data)?;
            writer.finish()
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => zstd::bulk::compress(data, zstd::DEFAULT_COMPRESSION_LEVEL),
        #[cfg(not(all(feature = "brotli", feature = "bzip2", feature = "lzma", feature = "zlib", feature = "zstd")))]
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

const BUFFER: usize = 4096;

/// Decompresses up to one byte over `limit`, which tells the caller that there is more.
pub(super) fn decompress(compression: Compression, data: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    match compression {
        #[cfg(feature = "brotli")]
        Compression::Brotli => unbrotli(data, limit),
        #[cfg(feature = "bzip2")]
        Compression::Bzip2 => {
            let mut rest = data;
            let mut reader = bzip2::bufread::BzDecoder::new(&mut rest);
            let out = read(&mut reader, limit)?;
            whole(out, rest, limit)
        }
        #[cfg(feature = "lzma")]
        Compression::Lzma => {
            // KiB; enough for the highest preset's dictionary, no more on a header's word.
            const MEMORY: u32 = 80 * 1024;
            let mut rest = data;
            let mut reader = lzma_rust2::XzReader::new_mem_limit(&mut rest, false, MEMORY);
            let out = read(&mut reader, limit)?;
            whole(out, rest, limit)
        }
        #[cfg(feature = "zlib")]
        Compression::Zlib => inflate(data, limit),
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let mut rest = data;
            let mut reader = zstd::stream::read::Decoder::with_buffer(&mut rest)?.single_frame();
            // What a frame asks for is allocated at once. No level of zstd's asks for more than this, save the highest with
            // data that is larger still.
            reader.window_log_max(26)?;
            let out = read(&mut reader, limit)?;
            drop(reader);
            whole(out, rest, limit)
        }
        #[cfg(not(all(feature = "brotli", feature = "bzip2", feature = "lzma", feature = "zlib", feature = "zstd")))]
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn read(reader: &mut impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take((limit as u64).saturating_add(1)).read_to_end(&mut out)?;
    Ok(out)
}

/// Refuses bytes after the stream, unless reading stopped at the limit.
fn whole(out: Vec<u8>, rest: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    if rest.is_empty() || out.len() > limit {
        return Ok(out);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "bytes after the stream"))
}

// By hand, since the reader types take a truncated stream for a whole one.
#[cfg(feature = "zlib")]
fn inflate(data: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    use flate2::{Decompress, FlushDecompress, Status};

    let mut inflater = Decompress::new(true);
    let mut out = Vec::new();
    loop {
        let consumed = usize::try_from(inflater.total_in()).unwrap_or(usize::MAX);
        let rest = data.get(consumed..).unwrap_or_default();
        let length = out.len();
        out.reserve(length.clamp(BUFFER, 1 << 20).min((limit - length.min(limit)).saturating_add(1)));
        let status = inflater.decompress_vec(rest, &mut out, FlushDecompress::None).map_err(io::Error::from)?;
        let consumed_now = usize::try_from(inflater.total_in()).unwrap_or(usize::MAX);
        if out.len() > limit {
            return Ok(out);
        }
        if status == Status::StreamEnd {
            return whole(out, data.get(consumed_now..).unwrap_or_default(), limit);
        }
        if consumed_now == consumed && out.len() == length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

// By hand, since the reader type reads past the stream and does not say so.
#[cfg(feature = "brotli")]
fn unbrotli(data: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    use brotli::enc::StandardAlloc;
    use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};

    let mut state = BrotliState::new(StandardAlloc::default(), StandardAlloc::default(), StandardAlloc::default());
    let (mut left, mut consumed, mut total) = (data.len(), 0, 0);
    let mut out = Vec::new();
    let mut chunk = vec![0; 16 * BUFFER];
    loop {
        let (mut room, mut filled) = (chunk.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut consumed,
            data,
            &mut room,
            &mut filled,
            &mut chunk,
            &mut total,
            &mut state,
        );
        out.extend_from_slice(chunk.get(..filled).unwrap_or_default());
        if out.len() > limit {
            return Ok(out);
        }
        match result {
            BrotliResult::ResultSuccess => return whole(out, data.get(consumed..).unwrap_or_default(), limit),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput => return Err(io::ErrorKind::UnexpectedEof.into()),
            BrotliResult::ResultFailure => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
