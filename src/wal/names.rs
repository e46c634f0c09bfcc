//! The names of a shard's files.

use super::frame::FileKind;

/// The suffix of the names of unfinished files.
const UNFINISHED: &str = ".tmp";
const SPARE: &str = "spare-";
const DAMAGED: &str = "damaged-";

/// Returns the name of a segment with this number, of its hint, or of a snapshot of this position.
pub(crate) fn name_of(kind: FileKind, number: u64) -> String {
    format!("{}{number:016x}", prefix(kind))
}

/// Returns the kind and the number of the file with this name; `None` if it is none of ours.
pub(crate) fn read(name: &str) -> Option<(FileKind, u64)> {
    [FileKind::Segment, FileKind::Snapshot, FileKind::Hint]
        .into_iter()
        .find_map(|kind| Some((kind, number(name.strip_prefix(prefix(kind))?)?)))
}

/// Returns the name of a spare segment.
pub(crate) fn spare_name(number: u64) -> String {
    format!("{SPARE}{number:016x}")
}

/// Returns the number of the spare segment with this name; `None` if it is none.
pub(crate) fn read_spare(name: &str) -> Option<u64> {
    number(name.strip_prefix(SPARE)?)
}

/// Returns the name that a file has until it is finished.
pub(crate) fn unfinished(name: &str) -> String {
    format!("{name}{UNFINISHED}")
}

/// Returns the name under which a file is kept that could not be read.
pub(crate) fn damaged(name: &str) -> String {
    format!("{DAMAGED}{name}")
}

/// Returns true if this is the name of an unfinished file of ours.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(UNFINISHED).is_some_and(|name| read(name).is_some() || read_spare(name).is_some())
}

fn prefix(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Segment => "log-",
        FileKind::Snapshot => "snapshot-",
        FileKind::Hint => "hint-",
    }
}

/// Parses sixteen lower-case hexadecimal digits, and nothing else: no number has two names.
fn number(digits: &str) -> Option<u64> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (digits.len() == 16 && digits.bytes().all(is_digit)).then(|| u64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_says_what_a_file_holds() {
        for (name, file) in [
            ("log-0000000000000001", Some((FileKind::Segment, 1))),
            ("log-00000000000000ff", Some((FileKind::Segment, 255))),
            ("hint-0000000000000001", Some((FileKind::Hint, 1))),
            ("snapshot-ffffffffffffffff", Some((FileKind::Snapshot, u64::MAX))),
            ("log-00000000000000FF", None),
            ("log-+000000000000001", None),
            ("log-000000000000001", None),
            ("log-00000000000000001", None),
            ("log-0000000000000001.tmp", None),
            ("spare-0000000000000001", None),
            ("Log-0000000000000001", None),
            ("lost+found", None),
            ("", None),
        ] {
            assert_eq!(read(name), file, "{name}");
        }
        assert_eq!(read_spare("spare-000000000000000a"), Some(10));
        assert_eq!(read_spare("log-000000000000000a"), None);
        assert_eq!(read(&damaged("log-000000000000000a")), None);
        assert!(is_unfinished(&unfinished("spare-000000000000000a")));
        assert!(is_unfinished("snapshot-0000000000000001.tmp") && !is_unfinished("notes.tmp"));
    }

    proptest! {
        #[test]
        fn what_is_named_is_found(number: u64) {
            for kind in [FileKind::Segment, FileKind::Snapshot, FileKind::Hint] {
                prop_assert_eq!(read(&name_of(kind, number)), Some((kind, number)));
            }
            prop_assert_eq!(read_spare(&spare_name(number)), Some(number));
        }

        /// Any name is accepted; one that is read as a kind and a number is the name of these.
        #[test]
        fn no_name_is_too_strange(name: String) {
            if let Some((kind, number)) = read(&name) {
                prop_assert_eq!(name_of(kind, number), name);
            }
        }
    }
}
