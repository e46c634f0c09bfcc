//! The verdict on a measurement: valid, doubtful or void, with reasons.

use super::crew::Due;

/// From here on a CPU of ours is saturated: the server might have answered faster than it was asked.
const BUSY_MAX: f64 = 0.95;
/// The share of a CPU that other programs may take before the latencies are theirs as well.
pub(crate) const STARVED_MAX: f64 = 0.05;
/// A rate may be missed by this share, for what is just being sent at the end.
const MISSED_SUSPECT: f64 = 0.01;
const MISSED_INVALID: f64 = 0.05;

/// The degree to which a result can be trusted.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Verdict {
    /// It shows the server.
    Ok,
    /// It may show the generator.
    Suspect,
    /// It does not show what was asked for.
    Invalid,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Suspect => "SUSPECT",
            Self::Invalid => "INVALID",
        }
    }

    pub(crate) fn exit_status(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Suspect => 3,
            Self::Invalid => 4,
        }
    }
}

/// A CPU of ours.
#[derive(Clone, Debug)]
pub(crate) struct LoadCpu {
    pub(crate) cpu: usize,
    pub(crate) busy: f64,
    pub(crate) starved: f64,
    /// The processes that used it too, the busiest first: `process 4711 (trine serve)`.
    pub(crate) others: Vec<String>,
}

/// The facts that a verdict depends on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The number of replies, if anything was measured.
    pub(crate) operations: Option<u64>,
    /// Requests that failed, by the phase in which they did.
    pub(crate) errors: Vec<Failed>,
    pub(crate) wrong_values: u64,
    /// Of the wrong values: those that a run in the other protocol wrote.
    pub(crate) foreign_values: u64,
    /// In an open loop: the requests that were due while measuring.
    pub(crate) due: Option<Due>,
    /// The CPUs of the load generator.
    pub(crate) cpus: Vec<LoadCpu>,
    /// An objective that no rate met.
    pub(crate) unmet_objective: Option<String>,
    /// The rate at which a search ended because requests failed, if it did.
    pub(crate) failed_at: Option<f64>,
    /// Why a search can't tell, if it can't.
    pub(crate) too_few: Option<String>,
    /// The progress at which it was interrupted, if it was.
    pub(crate) interrupted: Option<String>,
}

/// Requests that failed in one phase.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// The phase, for "while verifying".
    pub(crate) phase: &'static str,
    pub(crate) count: u64,
    /// The most frequent error.
    pub(crate) most: String,
}

/// Judges, and says why.
pub(crate) fn judge(facts: &Facts) -> (Verdict, Vec<String>) {
    let mut verdict = Verdict::Ok;
    let mut reasons = Vec::new();
    let mut find = |found: Verdict, reason: String| {
        verdict = verdict.max(found);
        reasons.push(reason);
    };
    if facts.operations == Some(0) {
        find(Verdict::Invalid, "no request was answered while measuring".into());
    }
    let (foreign, wrong) = (facts.foreign_values, facts.wrong_values.saturating_sub(facts.foreign_values));
    if 0 < foreign {
        let reason = format!(
            "{foreign} reads got what an earlier run in the other protocol wrote, which these keys keep: empty the server \
             (FLUSHALL), overwrite the keys (--api store), or take others (another --key-size)"
        );
        find(Verdict::Invalid, reason);
    }
    if 0 < wrong {
        find(Verdict::Invalid, format!("{wrong} reads got a wrong value"));
    }
    for Failed { phase, count, most } in &facts.errors {
        find(Verdict::Invalid, format!("{count} requests failed while {phase} ({most})"));
    }
    if let Some(Due { all, unsent }) = facts.due {
        let missed = unsent as f64 / all.max(1) as f64;
        let found = if MISSED_INVALID < missed { Verdict::Invalid } else { Verdict::Suspect };
        if MISSED_SUSPECT < missed && 1 < unsent {
            let percent = missed * 100.0;
            find(
                found,
                format!("the rate was missed: {unsent} of {all} requests ({percent:.0} %) could not be sent in time"),
            );
        }
    }
    for LoadCpu { cpu, busy, starved, others } in &facts.cpus {
        let (busy, starved) = (*busy, *starved);
        let others = by(others);
        if BUSY_MAX <= busy {
            let percent = busy * 100.0;
            find(
                Verdict::Suspect,
                format!("load CPU {cpu} was {percent:.0} % busy: the server may be faster than this shows"),
            );
        } else if BUSY_MAX <= busy + starved {
            let (busy, starved) = (busy * 100.0, starved * 100.0);
            let reason = format!(
                "load CPU {cpu} was {busy:.0} % busy and taken for {starved:.0} % by {others}: the server may be faster than this shows"
            );
            find(Verdict::Suspect, reason);
        } else if STARVED_MAX < starved {
            let reason =
                format!("load CPU {cpu} was taken for {:.0} % by {others}, which latencies include", starved * 100.0);
            find(Verdict::Suspect, reason);
        }
    }
    if let Some(objective) = &facts.unmet_objective {
        find(Verdict::Invalid, format!("no rate that was tried met {objective}"));
    }
    if let Some(rate) = facts.failed_at {
        find(Verdict::Invalid, format!("the search ended with that, at {rate:.0} requests/s"));
    }
    if let Some(reason) = &facts.too_few {
        find(Verdict::Invalid, reason.clone());
    }
    if let Some(how_far) = &facts.interrupted {
        find(Verdict::Suspect, format!("interrupted {how_far}"));
    }
    (verdict, reasons)
}

/// Returns the processes that took a CPU, for "taken by".
pub(crate) fn by(others: &[String]) -> String {
    if others.is_empty() { "others".into() } else { others.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(cpu: usize, busy: f64, starved: f64) -> LoadCpu {
        LoadCpu { cpu, busy, starved, others: Vec::new() }
    }

    /// A CPU that others took is told with these.
    #[test]
    fn who_took_a_cpu_is_told() {
        let others = vec!["process 4711 (trine serve)".to_owned(), "process 9 (rustc)".to_owned()];
        let facts = Facts { cpus: vec![LoadCpu { others, ..cpu(1, 0.5, 0.41) }], ..Facts::default() };
        let expected =
            "load CPU 1 was taken for 41 % by process 4711 (trine serve), process 9 (rustc), which latencies include";
        assert_eq!(judge(&facts).1, [expected]);
    }

    fn failed() -> Vec<Failed> {
        vec![Failed { phase: "verifying", count: 317, most: "connection closed".into() }]
    }

    /// A reason says in which phase requests failed and with what, and which way out there is of keys that another run wrote.
    #[test]
    fn reasons_say_where_and_what() {
        let facts = Facts { errors: failed(), wrong_values: 9, foreign_values: 7, ..Facts::default() };
        let (_, reasons) = judge(&facts);
        assert!(reasons[0].starts_with("7 reads") && reasons[0].contains("FLUSHALL"), "{reasons:?}");
        assert_eq!(
            reasons[1..],
            ["2 reads got a wrong value", "317 requests failed while verifying (connection closed)"]
        );
    }

    /// Facts make a result doubtful or void.
    #[test]
    fn verdicts_follow_from_facts() {
        let good = Facts { operations: Some(1000), cpus: vec![cpu(1, 0.9, 0.01)], ..Facts::default() };
        for (facts, expected) in [
            (good.clone(), Verdict::Ok),
            (Facts { operations: None, ..good.clone() }, Verdict::Ok),
            (Facts { operations: Some(0), ..good.clone() }, Verdict::Invalid),
            (Facts { errors: failed(), ..good.clone() }, Verdict::Invalid),
            (Facts { interrupted: Some("after 1 s of 5 s".into()), ..good.clone() }, Verdict::Suspect),
            (Facts { wrong_values: 2, foreign_values: 2, ..good.clone() }, Verdict::Invalid),
            (Facts { cpus: vec![cpu(1, 0.3, 0.05)], ..good.clone() }, Verdict::Ok),
            (Facts { cpus: vec![cpu(1, 0.3, 0.06)], ..good.clone() }, Verdict::Suspect),
            (Facts { wrong_values: 1, ..good.clone() }, Verdict::Invalid),
            (Facts { cpus: vec![cpu(0, 0.1, 0.0), cpu(1, 0.95, 0.0)], ..good.clone() }, Verdict::Suspect),
            (Facts { cpus: vec![cpu(1, 0.6, 0.4)], ..good.clone() }, Verdict::Suspect),
            (Facts { due: Some(Due { all: 1000, unsent: 10 }), ..good.clone() }, Verdict::Ok),
            (Facts { due: Some(Due { all: 1000, unsent: 20 }), ..good.clone() }, Verdict::Suspect),
            (Facts { due: Some(Due { all: 1000, unsent: 60 }), ..good.clone() }, Verdict::Invalid),
            (Facts { due: Some(Due { all: 10, unsent: 1 }), ..good.clone() }, Verdict::Ok),
            (Facts { too_few: Some("too few requests".into()), ..good.clone() }, Verdict::Invalid),
            (Facts { failed_at: Some(20_000.0), ..good.clone() }, Verdict::Invalid),
            (Facts { unmet_objective: Some("p99<1ns".into()), ..good.clone() }, Verdict::Invalid),
            (Facts { errors: failed(), cpus: vec![cpu(1, 1.0, 0.0)], ..good }, Verdict::Invalid),
        ] {
            let (verdict, reasons) = judge(&facts);
            assert_eq!(verdict, expected, "{facts:?}");
            assert_eq!(reasons.is_empty(), verdict == Verdict::Ok, "{facts:?}");
        }
    }
}
