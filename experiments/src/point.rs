//! A point: one combination of everything that an experiment may vary.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// The settings of one measurement.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Point {
    pub target: String,
    /// Known for our own clusters only.
    pub servers: Option<u16>,
    /// Of each server; known for our own clusters only.
    pub cores: Option<u16>,
    /// Connections.
    pub concurrency: u32,
    /// Requests in flight on each connection.
    pub pipeline: u32,
    pub value_size: ValueSize,
    /// 0 is SET only, 1 is GET only.
    pub read_share: f64,
    /// Requests per second in an open loop; none means a closed loop.
    pub rate: Option<f64>,
    /// SETs of each client, and then GETs, in place of a time; none means that a time was measured.
    #[serde(default)]
    pub operations: Option<u64>,
}

/// One of the things that differ between points, in the order they are named in labels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dimension {
    Target,
    Servers,
    Cores,
    ReadShare,
    ValueSize,
    Pipeline,
    Rate,
    Operations,
    Concurrency,
}

impl Dimension {
    pub const ALL: [Self; 9] = [
        Self::Target,
        Self::Servers,
        Self::Cores,
        Self::ReadShare,
        Self::ValueSize,
        Self::Pipeline,
        Self::Rate,
        Self::Operations,
        Self::Concurrency,
    ];

    /// Returns the title of an axis over this dimension, with its unit.
    pub fn title(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Servers => "servers",
            Self::Cores => "cores per server",
            Self::ReadShare => "share of GET",
            Self::ValueSize => "value size (bytes)",
            Self::Pipeline => "pipeline (requests that each client sends together)",
            Self::Rate => "requested rate (operations per second)",
            Self::Operations => "operations (SETs of each client, and as many GETs)",
            Self::Concurrency => "concurrency (connections)",
        }
    }
}

impl Point {
    /// Returns what tells this point from every other of its experiment. Results are found again by it.
    pub fn id(&self) -> String {
        use fmt::Write;
        let mut id = self.target.clone();
        for dimension in Dimension::ALL {
            if let (Some(name), Some(value)) = (key(dimension), self.value(dimension)) {
                write!(id, " {name}={value}").expect("writing to a string succeeds");
            }
        }
        id
    }

    /// Returns the value in one dimension as exact text, or `None` where the point has none.
    pub fn value(&self, dimension: Dimension) -> Option<String> {
        match dimension {
            Dimension::Target => Some(self.target.clone()),
            Dimension::Servers => self.servers.map(|servers| servers.to_string()),
            Dimension::Cores => self.cores.map(|cores| cores.to_string()),
            Dimension::ReadShare => Some(self.read_share.to_string()),
            Dimension::ValueSize => Some(self.value_size.to_string()),
            Dimension::Pipeline => Some(self.pipeline.to_string()),
            Dimension::Rate => self.rate.map(|rate| rate.to_string()),
            Dimension::Operations => self.operations.map(|operations| operations.to_string()),
            Dimension::Concurrency => Some(self.concurrency.to_string()),
        }
    }

    /// Returns the value in one dimension as a number to place on an axis.
    pub fn number(&self, dimension: Dimension) -> Option<f64> {
        self.value(dimension)?.parse().ok()
    }

    /// Returns the value in one dimension as a reader would say it.
    pub fn label(&self, dimension: Dimension) -> Option<String> {
        let value = self.value(dimension)?;
        Some(match dimension {
            Dimension::Target => value,
            Dimension::Servers => counted(&value, "server"),
            Dimension::Cores => counted(&value, "core"),
            Dimension::ReadShare => self.operation(),
            Dimension::ValueSize if value.parse::<u64>().is_ok() => format!("{value} B"),
            Dimension::ValueSize => format!("values {value}"),
            Dimension::Pipeline => format!("pipeline {value}"),
            Dimension::Rate => format!("{value} ops/s asked"),
            Dimension::Operations => format!("{value} SETs and GETs each"),
            Dimension::Concurrency => counted(&value, "connection"),
        })
    }

    /// Returns what tells this point from others that differ in these dimensions.
    pub fn describe(&self, dimensions: &[Dimension]) -> String {
        let labels: Vec<String> = dimensions.iter().filter_map(|&dimension| self.label(dimension)).collect();
        if labels.is_empty() { self.target.clone() } else { labels.join(", ") }
    }

    /// Returns which operations the point asks for.
    pub fn operation(&self) -> String {
        match self.read_share {
            _ if self.operations.is_some() => "SETs, then GETs".to_owned(),
            0.0 => "SET".to_owned(),
            1.0 => "GET".to_owned(),
            share => format!("{:.0} % GET", share * 100.0),
        }
    }
}

/// Returns the dimensions in which points differ. A dimension that some points do not have, such as the cores of a
/// server that is not ours, tells the others apart only if their values differ.
pub fn varying<'a>(points: impl Iterator<Item = &'a Point> + Clone) -> Vec<Dimension> {
    let differs = |dimension: &Dimension| {
        let mut values = points.clone().filter_map(|point| point.value(*dimension));
        let first = values.next();
        values.any(|value| Some(&value) != first.as_ref())
    };
    Dimension::ALL.into_iter().filter(differs).collect()
}

fn key(dimension: Dimension) -> Option<&'static str> {
    match dimension {
        Dimension::Target => None,
        Dimension::Servers => Some("servers"),
        Dimension::Cores => Some("cores"),
        Dimension::ReadShare => Some("read_share"),
        Dimension::ValueSize => Some("value_size"),
        Dimension::Pipeline => Some("pipeline"),
        Dimension::Rate => Some("rate"),
        Dimension::Operations => Some("operations"),
        Dimension::Concurrency => Some("concurrency"),
    }
}

fn counted(value: &str, noun: &str) -> String {
    format!("{value} {noun}{}", if value == "1" { "" } else { "s" })
}

/// An argument of `trine-load --value-size`: a number of bytes, or text such as `10..1000` or `lognormal:5.0:0.5`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct ValueSize(String);

impl ValueSize {
    /// The size that nobody chose.
    pub fn usual() -> Self {
        Self("64".to_owned())
    }
}

impl fmt::Display for ValueSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<'de> Deserialize<'de> for ValueSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ValueSize;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number of bytes, or text such as \"10..1000\" or \"lognormal:5.0:0.5\"")
            }

            fn visit_u64<E>(self, bytes: u64) -> Result<ValueSize, E> {
                Ok(ValueSize(bytes.to_string()))
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<ValueSize, E> {
                match u64::try_from(bytes) {
                    Ok(bytes) => self.visit_u64(bytes),
                    Err(_) => Err(E::invalid_value(serde::de::Unexpected::Signed(bytes), &self)),
                }
            }

            fn visit_str<E>(self, text: &str) -> Result<ValueSize, E> {
                Ok(ValueSize(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
