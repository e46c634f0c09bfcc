//! The parts of an experiment file. What one value must satisfy is checked by its type, so that the error points to
//! its line.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::point::ValueSize;

/// The dimensions that vary: every combination of their values is a point. A list that is not given is empty.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Vary {
    #[serde(skip_serializing_if = "Choices::is_empty")]
    pub concurrency: Choices<u32>,
    #[serde(skip_serializing_if = "Choices::is_empty")]
    pub pipeline: Choices<u32>,
    #[serde(skip_serializing_if = "Choices::is_empty")]
    pub value_size: Choices<ValueSize>,
    #[serde(skip_serializing_if = "Choices::is_empty")]
    pub read_share: Choices<f64>,
    #[serde(skip_serializing_if = "Choices::is_empty")]
    pub rate: Choices<f64>,
    #[serde(skip_serializing_if = "Choices::is_empty")]
    pub operations: Choices<u64>,
    #[serde(skip_serializing_if = "Choices::is_empty")]
    pub servers: Choices<u16>,
    #[serde(skip_serializing_if = "Choices::is_empty")]
    pub cores: Choices<u16>,
}

/// The settings that do not vary, in `trine-load`'s form. A setting that is not given is the load generator's default.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    pub concurrency: Option<u32>,
    pub pipeline: Option<u32>,
    pub value_size: Option<ValueSize>,
    pub read_share: Option<f64>,
    pub rate: Option<f64>,
    /// Of each client, in place of a warm-up and a duration: so many SETs of new keys, and then as many GETs of these.
    pub operations: Option<u64>,
    pub arrivals: Option<String>,
    pub keys: Option<u64>,
    pub key_size: Option<u64>,
    pub distribution: Option<String>,
    /// The keys of a client's pipeline.
    pub batch: Option<Batch>,
    pub timeout: Option<Span>,
}

impl Workload {
    /// Refuses a setting that is both fixed and varied, or out of its range.
    pub fn check_against(&self, vary: &Vary) -> Result<(), (String, String)> {
        let both = [
            ("concurrency", self.concurrency.is_some() && !vary.concurrency.is_empty()),
            ("pipeline", self.pipeline.is_some() && !vary.pipeline.is_empty()),
            ("value_size", self.value_size.is_some() && !vary.value_size.is_empty()),
            ("read_share", self.read_share.is_some() && !vary.read_share.is_empty()),
            ("rate", self.rate.is_some() && !vary.rate.is_empty()),
            ("operations", self.operations.is_some() && !vary.operations.is_empty()),
        ];
        if let Some((name, _)) = both.iter().find(|(_, both)| *both) {
            let what = format!("`{name}` is fixed under [workload] and varied under [vary]; keep one of the two");
            return Err(((*name).to_owned(), what));
        }
        if self.operations.is_some() || !vary.operations.is_empty() {
            let contradictions = [
                ("read_share", self.read_share.is_some() || !vary.read_share.is_empty()),
                ("rate", self.rate.is_some() || !vary.rate.is_empty()),
                ("keys", self.keys.is_some()),
                ("distribution", self.distribution.is_some()),
                ("batch", self.batch.is_some()),
            ];
            if let Some((name, _)) = contradictions.iter().find(|(_, is_there)| *is_there) {
                let what =
                    format!("with `operations` each client SETs new keys and then makes as many GETs; remove `{name}`");
                return Err(((*name).to_owned(), what));
            }
        }
        let is_open = self.rate.is_some() || !vary.rate.is_empty();
        let is_drawn = !matches!(self.distribution.as_deref(), Some("sequential" | "latest"));
        if self.batch == Some(Batch::Node) && (is_open || !is_drawn) {
            let what = "`batch = \"node\"` is for pipelines of keys that are drawn: remove `rate`, and take a `distribution` \
                        that is uniform, zipf or hotspot";
            return Err(("batch".to_owned(), what.to_owned()));
        }
        if vary.read_share.or(&[]).iter().chain(&self.read_share).any(|share| !(0.0..=1.0).contains(share)) {
            let what = "`read_share` goes from 0 (only SET) to 1 (only GET)".to_owned();
            return Err(("read_share".to_owned(), what));
        }
        if vary.rate.or(&[]).iter().chain(&self.rate).any(|rate| !rate.is_finite() || *rate <= 0.0) {
            return Err(("rate".to_owned(), "`rate` is in operations per second, above 0".to_owned()));
        }
        let zero = [
            ("concurrency", vary.concurrency.or(&[]).iter().chain(&self.concurrency).any(|&n| n == 0)),
            ("pipeline", vary.pipeline.or(&[]).iter().chain(&self.pipeline).any(|&n| n == 0)),
            ("operations", vary.operations.or(&[]).iter().chain(&self.operations).any(|&n| n == 0)),
            ("servers", vary.servers.or(&[]).contains(&0)),
            ("cores", vary.cores.or(&[]).contains(&0)),
        ];
        match zero.iter().find(|(_, zero)| *zero) {
            Some((name, _)) => Err(((*name).to_owned(), format!("`{name}` is at least 1"))),
            None => Ok(()),
        }
    }
}

/// The keys of a client's pipeline.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Batch {
    /// Any: it is split over the nodes, as cluster clients split it.
    Any,
    /// Those of one node, another one each time: it goes there whole, as redis-benchmark --cluster sends it.
    Node,
}

impl Batch {
    pub fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Node => "node",
        }
    }
}

/// The protocol between the load generator and a target.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// The Redis protocol.
    #[default]
    Resp,
    /// The HTTP API: PUT /set/{key}, GET /get/{key}.
    Http,
}

/// A result that was not measured here.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    pub name: String,
    pub ops_per_s: f64,
    pub latency_ms: f64,
}

/// The values of one dimension: none, where it does not vary; else one or more, all different.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Choices<T>(Vec<T>);

impl<T> Default for Choices<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Choices<T> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the values, or `otherwise` where the dimension does not vary.
    pub fn or<'a>(&'a self, otherwise: &'a [T]) -> &'a [T] {
        if self.0.is_empty() { otherwise } else { &self.0 }
    }
}

impl<'de, T: Deserialize<'de> + PartialEq> Deserialize<'de> for Choices<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Vec::<T>::deserialize(deserializer)?;
        if values.is_empty() {
            return Err(D::Error::custom("an empty list leaves nothing to measure; name a value or remove the line"));
        }
        if values.iter().enumerate().any(|(index, value)| values[..index].contains(value)) {
            return Err(D::Error::custom("a value stands here twice; `repeats` says how often points are measured"));
        }
        Ok(Self(values))
    }
}

/// A length of time, written as `300ms`, `5s` or `2m`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span(pub Duration);

impl Span {
    pub fn one_second() -> Self {
        Self(Duration::from_secs(1))
    }

    pub fn five_seconds() -> Self {
        Self(Duration::from_secs(5))
    }
}

/// Writes whole seconds or milliseconds, which is what `trine-load` takes.
impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis if millis % 1000 == 0 => write!(formatter, "{}s", millis / 1000),
            millis => write!(formatter, "{millis}ms"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match humantime::parse_duration(&text) {
            Ok(duration) if 0 < duration.as_millis() => Ok(Self(duration)),
            Ok(_) => Err(D::Error::custom(format!("`{text}` is too short; write for example \"300ms\" or \"5s\""))),
            Err(error) => Err(D::Error::custom(format!("`{text}`: {error}; write for example \"300ms\" or \"5s\""))),
        }
    }
}

/// The CPUs for the servers, and those for the load generator.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cpus {
    pub servers: CpuChoice,
    pub load: CpuChoice,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum CpuChoice {
    /// Any: the program and the kernel choose.
    #[default]
    Any,
    /// A quarter of this machine's CPUs for the load, at least one; the others for the servers.
    Auto,
    /// These.
    List(Vec<usize>),
}

impl Cpus {
    /// Returns the CPUs of the servers and those of the load on a machine that has `available` ones.
    pub fn on(&self, available: &[usize]) -> (Option<Vec<usize>>, Option<Vec<usize>>) {
        let load = (available.len() / 4).max(1);
        let (first, last) = available.split_at(available.len().saturating_sub(load));
        let choose = |choice: &CpuChoice, share: &[usize]| match choice {
            CpuChoice::Any => None,
            // With a single CPU there is nothing to divide.
            CpuChoice::Auto => (!first.is_empty()).then(|| share.to_vec()),
            CpuChoice::List(cpus) => Some(cpus.clone()),
        };
        (choose(&self.servers, first), choose(&self.load, last))
    }
}

impl CpuChoice {
    /// Returns the choice of one who has a machine for himself: there is nothing to divide.
    pub fn unless_auto(self) -> Self {
        if self == Self::Auto { Self::Any } else { self }
    }
}

/// Writes CPUs as `taskset` and `trine-load` take them.
pub fn cpu_list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Display for CpuChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("any"),
            Self::Auto => formatter.write_str("auto"),
            Self::List(cpus) => formatter.write_str(&cpu_list(cpus)),
        }
    }
}

impl Serialize for CpuChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "any" => return Ok(Self::Any),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        let wrong = || D::Error::custom(format!("`{text}`: write \"any\", \"auto\" or CPUs such as \"0-2,5\""));
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| wrong())?;
            let last: usize = last.trim().parse().map_err(|_| wrong())?;
            if last < first || CPUS_MAX <= last {
                return Err(wrong());
            }
            cpus.extend(first..=last);
        }
        Ok(Self::List(cpus))
    }
}

/// The most CPUs that Linux can be built for (CONFIG_NR_CPUS goes up to 8192).
const CPUS_MAX: usize = 8192;
