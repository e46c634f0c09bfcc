//! Errors of a topology store.

use std::fmt;

use super::{DOCUMENT_BYTES_MAX, StoreUrl};
use crate::topology::document::Revision;

/// Why a topology store was of no help. Each says what happened where, and the way out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StoreError {
    /// Nobody answered in time. Start the store, or name one that can be reached.
    NoAnswer {
        /// The store.
        at: StoreUrl,
        /// The problem at each endpoint.
        problem: String,
    },
    /// The store refuses what it was asked: a password, a permission, its disk.
    Refused {
        /// The store.
        at: StoreUrl,
        /// The store's own words.
        problem: String,
    },
    /// The system refuses to read or write the store's file.
    File {
        /// The store.
        at: StoreUrl,
        /// The action that failed, and the system's words.
        problem: String,
    },
    /// Another process holds the lock of the store's file, and does not release it.
    Locked {
        /// The store.
        at: StoreUrl,
    },
    /// The store holds something that is no document, or a part of one.
    Damaged {
        /// The store.
        at: StoreUrl,
        /// The mistake, with its line.
        problem: String,
    },
    /// The store held a document, and holds none any more.
    Gone {
        /// The store.
        at: StoreUrl,
    },
    /// The store holds an older document than it did: an old copy was put back.
    WentBack {
        /// The store.
        at: StoreUrl,
        /// The revision that it has held.
        known: Revision,
        /// The revision that it holds.
        found: Revision,
    },
    /// The document is larger than a store takes.
    TooLarge {
        /// The store.
        at: StoreUrl,
        /// The bytes of its text.
        bytes: usize,
    },
}

impl std::error::Error for StoreError {}

impl fmt::Display for StoreError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer { at, problem } => {
                write!(out, "topology store {at}: no answer ({problem}): start it, or name one that can be reached")
            }
            Self::Refused { at, problem } => write!(out, "topology store {at}: {problem}"),
            Self::File { at, problem } => write!(out, "topology store {at}: {problem}"),
            Self::Locked { at } => {
                write!(
                    out,
                    "topology store {at}: another process holds the lock on the .lock file beside it and does "
                )?;
                write!(out, "not release it: end that process (lsof shows it)")
            }
            Self::Damaged { at, problem } => {
                write!(
                    out,
                    "topology store {at} holds no whole document: {problem}. Servers keep the topology that they "
                )?;
                write!(out, "have; put a whole document back")
            }
            Self::Gone { at } => {
                write!(out, "topology store {at}: the document is gone: put it back, from a backup if need be")
            }
            Self::WentBack { at, known, found } => {
                write!(
                    out,
                    "topology store {at} went back from revision {known} to {found}: an old document was put "
                )?;
                write!(out, "back; put one of revision {known} or above there")
            }
            Self::TooLarge { at, bytes } => {
                write!(
                    out,
                    "topology store {at}: a document of {bytes} bytes, and a store takes {DOCUMENT_BYTES_MAX}: "
                )?;
                write!(out, "wait until the copies that move have arrived, so that ranges of slots merge")
            }
        }
    }
}
