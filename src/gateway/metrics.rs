//! Merges the cores' replies to METRICS, which Prometheus reads.

use super::{bulk, text_like};

/// Returns one text with the samples of all cores, those of a family together, as the format demands. A sample about
/// the whole process comes from several cores with the same name and labels, and is written once: with the value of
/// core `first` if that has it.
pub(super) fn join(replies: &[Vec<u8>], first: usize) -> Vec<u8> {
    let texts: Vec<_> = replies.iter().map(|reply| String::from_utf8_lossy(bulk(reply).1)).collect();
    let mut families = families(&texts[first]);
    for (part, text) in texts.iter().enumerate() {
        if part == first {
            continue;
        }
        let mut others = self::families(text).into_iter();
        for other in &mut others {
            // Nearly always all cores have the same families in the same order.
            match families.iter_mut().find(|family| family.name == other.name) {
                Some(family) => family.parts.extend(other.parts),
                None => families.push(other),
            }
        }
    }
    let mut text = String::with_capacity(texts.iter().map(|text| text.len()).sum());
    for Family { head, parts, .. } in &families {
        text += head;
        let (first, others) = parts.split_first().expect("a family has the part it was found in");
        text += first;
        for samples in others {
            // Few families are about the process; their samples come in the same order from all cores.
            samples.split_inclusive('\n').filter(|sample| !is_told(first, sample)).for_each(|sample| text += sample);
        }
    }
    text_like(&replies[first], text.as_bytes())
}

/// The lines of one family.
struct Family<'a> {
    name: &'a str,
    /// The lines `# HELP` and `# TYPE`.
    head: &'a str,
    /// Each core's samples.
    parts: Vec<&'a str>,
}

/// Cuts a text into families: each begins with its `# HELP`.
fn families(text: &str) -> Vec<Family<'_>> {
    const HELP: &str = "# HELP ";
    let mut starts: Vec<_> =
        text.match_indices(HELP).map(|(at, _)| at).filter(|&at| at == 0 || text.as_bytes()[at - 1] == b'\n').collect();
    starts.push(text.len());
    let blocks = starts.windows(2).map(|pair| &text[pair[0]..pair[1]]);
    blocks
        .map(|block| {
            let name = block[HELP.len()..].split(' ').next().unwrap_or_default();
            let mut lines = block.split_inclusive('\n');
            let head: usize = lines.by_ref().take_while(|line| line.starts_with('#')).map(str::len).sum();
            Family { name, head: &block[..head], parts: vec![&block[head..]] }
        })
        .collect()
}

/// Returns true if `samples` has one of the same name and labels as `sample`.
fn is_told(samples: &str, sample: &str) -> bool {
    // A sample with the label `core` comes from that core alone: no search is needed.
    let Some((series, _)) = sample.rsplit_once(' ') else { return false };
    if series.contains("core=\"") {
        return false;
    }
    samples.lines().any(|told| told.rsplit_once(' ').is_some_and(|(other, _)| other == series))
}
