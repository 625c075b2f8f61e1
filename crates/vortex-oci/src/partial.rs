//! As much of a module as has been received.

use std::io::SeekFrom;
use std::path::PathBuf;

use bytes::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::error::OciError;

/// The beginning of a module, in memory or in a file that outlives the process.
#[derive(Debug)]
pub(crate) enum Partial {
    Memory(Vec<u8>),
    File { file: File, path: PathBuf, len: u64 },
}

impl Partial {
    /// Continues a file, whatever is in it.
    pub(crate) async fn of_file(file: std::fs::File, path: PathBuf) -> Result<Self, OciError> {
        let mut file = File::from_std(file);
        let len = file
            .seek(SeekFrom::End(0))
            .await
            .map_err(|error| OciError::io("read", &path, error))?;
        Ok(Self::File { file, path, len })
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { len, .. } => *len,
        }
    }

    pub(crate) async fn append(&mut self, chunk: &Bytes) -> Result<(), OciError> {
        match self {
            Self::Memory(bytes) => bytes.extend_from_slice(chunk),
            Self::File { file, path, len } => {
                file.write_all(chunk)
                    .await
                    .map_err(|error| OciError::io("write", path, error))?;
                *len += chunk.len() as u64;
            }
        }
        Ok(())
    }

    /// Hands what was appended to the operating system, so that another
    /// process may continue it.
    pub(crate) async fn flush(&mut self) -> Result<(), OciError> {
        if let Self::File { file, path, .. } = self {
            file.flush()
                .await
                .map_err(|error| OciError::io("write", path, error))?;
        }
        Ok(())
    }

    /// Begins again from nothing.
    pub(crate) async fn clear(&mut self) -> Result<(), OciError> {
        match self {
            Self::Memory(bytes) => bytes.clear(),
            Self::File { file, path, len } => {
                let cleared = async {
                    file.set_len(0).await?;
                    file.seek(SeekFrom::Start(0)).await
                };
                cleared
                    .await
                    .map_err(|error| OciError::io("write", path, error))?;
                *len = 0;
            }
        }
        Ok(())
    }

    /// Everything received, which the caller has bounded. What was in memory is taken out of it.
    pub(crate) async fn contents(&mut self) -> Result<Vec<u8>, OciError> {
        match self {
            Self::Memory(bytes) => Ok(std::mem::take(bytes)),
            Self::File { file, path, len } => {
                let mut bytes = Vec::new();
                let read = async {
                    file.flush().await?;
                    file.seek(SeekFrom::Start(0)).await?;
                    file.take(*len).read_to_end(&mut bytes).await?;
                    file.seek(SeekFrom::End(0)).await
                };
                read.await
                    .map_err(|error| OciError::io("read", path, error))?;
                Ok(bytes)
            }
        }
    }
}
