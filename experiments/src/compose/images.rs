//! Images for containers: made when a run first needs one, and gone with it.

use std::cell::{Cell, OnceCell};
use std::path::Path;

use super::guard::Guard;
use super::{UP_TIMEOUT, project, run_to_end};
use crate::cluster_error::ClusterError;
use crate::process::Interrupt;

/// Removes images when whoever made them says so, or is gone: then their containers may go only now, and an image may be in the
/// making that the first look does not see.
const GUARD: &str = "remove() { for image; do \
                         left=30; \
                         while docker image inspect \"$image\" && ! docker rmi \"$image\" && [ $left -gt 0 ]; do \
                             left=$((left - 1)); sleep 1; \
                         done; \
                     done; }; \
                     read -r word; remove \"$@\"; [ \"$word\" = done ] || { sleep 3; remove \"$@\"; }";

/// The images that a run has made so far.
#[derive(Debug, Default)]
pub struct Images {
    guard: OnceCell<Guard>,
    has_ours: Cell<bool>,
    has_empty: Cell<bool>,
}

impl Images {
    /// The image of Trine: that of TRINE_IMAGE, or else one built from the working tree in `folder`.
    pub(super) fn ours(&self, folder: &Path, log: &Path, interrupt: &Interrupt) -> Result<String, ClusterError> {
        if let Some(given) = std::env::var_os("TRINE_IMAGE").filter(|image| !image.is_empty()) {
            let problem = |_| ClusterError::Compose("TRINE_IMAGE: its value must be text in UTF-8".to_owned());
            return given.into_string().map_err(problem);
        }
        if !self.has_ours.get() {
            self.watch()?;
            eprintln!(
                "trine-lab: building the image: experiments/compose/image {}; the first time takes minutes, and {} has the output",
                project(),
                log.display()
            );
            let words = ["env", "--chdir"].map(str::to_owned).into_iter();
            let words = words.chain([folder.display().to_string(), "experiments/compose/image".to_owned(), project()]);
            run_to_end(words.collect(), log, interrupt, None)?;
            self.has_ours.set(true);
        }
        Ok(project())
    }

    /// An image in which there is nothing.
    pub(super) fn empty(&self, log: &Path, interrupt: &Interrupt) -> Result<String, ClusterError> {
        if !self.has_empty.get() {
            self.watch()?;
            let script = format!("tar --create --files-from /dev/null | docker import - {}", empty());
            run_to_end(["sh", "-c", &script].map(str::to_owned).into(), log, interrupt, Some(UP_TIMEOUT))?;
            self.has_empty.set(true);
        }
        Ok(empty())
    }

    /// Nothing is made before there is somebody to remove it.
    fn watch(&self) -> Result<(), ClusterError> {
        if self.guard.get().is_none() {
            let guard = Guard::start(GUARD, &[project(), empty()], Path::new("/"), &[])?;
            self.guard.set(guard).expect("nobody else has set it since");
        }
        Ok(())
    }
}

fn empty() -> String {
    format!("{}-empty", project())
}
