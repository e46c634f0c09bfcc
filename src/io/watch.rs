//! Looks at the topology file while the server runs, and offers what it says.
//!
//! The text is read anew once a second, and compared with the last: nothing that the file system may say of a file's age has to be
//! believed, whether it was written in place, renamed to, or is a link that points elsewhere now.

use super::control::Control;
use crate::topology::Topology;
use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

/// The time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest topology file: thousands of servers, or a range for every slot.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Begins to look at the file, on a thread of its own that ends with the server.
///
/// # Errors
/// There can be no more threads.
pub(super) fn begin(path: PathBuf, control: Arc<Control>) -> io::Result<()> {
    let watch = move || {
        let mut file = TopologyFile::new(path);
        while !control.stopping.load(Ordering::Relaxed) {
            if let Some(found) = file.look(&read(&file.path)) {
                match found {
                    Ok(topology) => control.offer_from(topology, &file.path.display()),
                    Err(problem) => tracing::error!(
                        file = %file.path.display(),
                        "the topology file is not taken, and the server goes on by the topology that it has: {problem}"
                    ),
                }
            }
            thread::sleep(LOOK_EVERY);
        }
    };
    thread::Builder::new().name("topology".into()).spawn(watch).map(drop)
}

/// Reads a topology file, if it is a file and no longer than one can be.
fn read(path: &Path) -> io::Result<String> {
    // A pipe would keep who opens it waiting.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    let mut text = String::new();
    let bytes = fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)? as u64;
    if FILE_BYTES_MAX < bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// A topology file, as it was seen last.
struct TopologyFile {
    path: PathBuf,
    /// The text that was judged last, or the reason for which there was none.
    judged: Option<String>,
    /// The text of the last look, if it was no topology: it may be half written.
    doubtful: Option<String>,
}

impl TopologyFile {
    fn new(path: PathBuf) -> Self {
        Self { path, judged: None, doubtful: None }
    }

    /// Takes what was read. Returns the topology if the text has changed, or what is wrong with it if that has been so twice: once
    /// for each text.
    fn look(&mut self, read: &io::Result<String>) -> Option<Result<Topology, String>> {
        let (seen, found) = match read {
            Ok(text) if self.judged.as_ref() == Some(text) => return None,
            Ok(text) => (text.clone(), Topology::from_toml(text).map_err(|error| error.to_string())),
            Err(error) => (error.to_string(), Err(error.to_string())),
        };
        if self.judged.as_ref() == Some(&seen) {
            return None;
        }
        if found.is_err() && self.doubtful.replace(seen.clone()).as_ref() != Some(&seen) {
            return None;
        }
        self.judged = Some(seen);
        self.doubtful = None;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Server;

    /// A text is judged once. What is wrong may be half written: it is told when it stays.
    #[test]
    fn each_text_is_judged_once_and_what_is_wrong_when_it_stays() {
        let server = Server { name: "one".into(), host: "h".into(), port: 7000, core_port: 7001, cores: 1 };
        let topology = Topology::single(server).expect("it fits");
        let (text, mut file) = (topology.to_toml(), TopologyFile::new("f".into()));
        let half = &text[..text.len() / 2];
        let gone = || Err(io::Error::from(io::ErrorKind::NotFound));
        let steps: [(io::Result<String>, &str); 10] = [
            (Ok(text.clone()), "taken"),
            (Ok(text.clone()), ""),
            (Ok(half.into()), ""),
            (Ok(format!("# A comment.\n{text}")), "taken"),
            (Ok(half.into()), ""),
            (Ok(half.into()), "wrong"),
            (Ok(half.into()), ""),
            (gone(), ""),
            (gone(), "wrong"),
            (gone(), ""),
        ];
        for (number, (read, expected)) in steps.iter().enumerate() {
            let said = match file.look(read) {
                None => "",
                Some(Ok(found)) => {
                    assert_eq!(found, topology);
                    "taken"
                }
                Some(Err(_)) => "wrong",
            };
            assert_eq!(said, *expected, "step {number}");
        }
    }
}
