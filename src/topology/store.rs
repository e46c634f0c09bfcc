//! The topology store: the place of a cluster's document, behind one small interface.
//!
//! A [`DocumentStore`] reads the document, replaces it by compare-and-set on its revision, and waits for a newer one. It is
//! never on the path of a request. Everything here decides and nothing does: addresses ([`StoreUrl`]), outcomes, and etcd's
//! requests and answers (`topology/store/etcd.rs`). `io/topology` has the stores themselves.

mod error;
pub mod etcd;
#[cfg(test)]
mod tests;
mod url;

use std::time::Duration;

pub use self::{
    error::StoreError,
    url::{EtcdUrl, StoreUrl, UrlError},
};
use super::document::{Document, Revision};

/// The most bytes of a document's text that a store takes. etcd refuses requests of more than 1.5 MiB unless it is told
/// otherwise. Three servers of eight cores have documents of a few KiB.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;

/// The place where a cluster's document lives.
pub trait DocumentStore: Send {
    /// Returns the document, or `None` if there is none yet.
    ///
    /// # Errors
    /// The store does not answer, or does not hold a document.
    fn read(&mut self) -> Result<Option<Document>, StoreError>;

    /// Replaces the document of the revision `expected` by `next`, which is of the revision after it. `None`: there is no
    /// document yet.
    ///
    /// # Errors
    /// The document was not stored, and will not be.
    fn compare_and_set(&mut self, expected: Option<Revision>, next: &Document) -> Result<Outcome, StoreError>;

    /// Returns the document as soon as its revision is above `known`; `None` if there was no such document for as long as
    /// `patience`. `known` is `None` for whoever knows no document.
    ///
    /// # Errors
    /// The store does not answer, or does not hold a document.
    fn wait_for_newer(&mut self, known: Option<Revision>, patience: Duration) -> Result<Option<Document>, StoreError>;
}

/// The end of a compare-and-set.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The document is stored.
    Stored,
    /// The store holds this document of another revision. The proposed one was not stored, and will not be.
    Conflict(Box<Document>),
    /// There was no answer: the document may be stored, now or later. [`settle`] tells from a document that is read whether
    /// this has been decided.
    Unknown(StoreError),
}

/// The end of a compare-and-set whose outcome was unknown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settled {
    /// The store holds the proposed document.
    Stored,
    /// The store holds another document, of the proposed revision or above: the proposed one can't be stored any more. If its
    /// revision is above the proposed one, that may have been stored in between.
    Overtaken,
}

/// Returns the end of a compare-and-set from the document that a store holds now; `None` while the proposed document may
/// still be stored. A store never goes back, so that one that holds the proposed revision takes no late request for it.
pub fn settle(proposed: &Document, held: Option<&Document>) -> Option<Settled> {
    let held = held.filter(|held| proposed.revision() <= held.revision())?;
    Some(if held == proposed { Settled::Stored } else { Settled::Overtaken })
}

/// Decides on a compare-and-set from the document that a store holds: `None` if `next` may replace it, else the end.
///
/// # Panics
/// `next` is not of the revision after `expected`.
pub fn refuse(
    held: Option<Document>,
    expected: Option<Revision>,
    next: &Document,
    at: &StoreUrl,
) -> Option<Result<Outcome, StoreError>> {
    let following = expected.map_or(Revision::FIRST, Revision::next);
    assert_eq!(next.revision(), following, "each document has the revision after the one that it replaces");
    match (held, expected) {
        (None, None) => None,
        (None, Some(_)) => Some(Err(StoreError::Gone { at: at.clone() })),
        (Some(held), Some(expected)) if held.revision() == expected => None,
        // By an earlier request of the same proposal, whose answer was lost.
        (Some(held), _) if held == *next => Some(Ok(Outcome::Stored)),
        (Some(held), Some(known)) if held.revision() < known => {
            Some(Err(StoreError::WentBack { at: at.clone(), known, found: held.revision() }))
        }
        (Some(held), _) => Some(Ok(Outcome::Conflict(Box::new(held)))),
    }
}

/// Returns the document's text, if a store takes one of its size.
///
/// # Errors
/// It is larger than [`DOCUMENT_BYTES_MAX`].
pub fn text_of(document: &Document, at: &StoreUrl) -> Result<String, StoreError> {
    let text = document.to_toml();
    if DOCUMENT_BYTES_MAX < text.len() {
        return Err(StoreError::TooLarge { at: at.clone(), bytes: text.len() });
    }
    Ok(text)
}

/// Reads the text that a store holds.
///
/// # Errors
/// It is no document. The error has the line.
pub fn document_of(text: &str, at: &StoreUrl) -> Result<Document, StoreError> {
    Document::from_toml(text).map_err(|error| StoreError::Damaged {
        at: at.clone(),
        problem: match error.line_in(text) {
            Some(line) => format!("line {line}: {error}"),
            None => error.to_string(),
        },
    })
}
