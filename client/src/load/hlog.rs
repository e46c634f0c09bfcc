//! The HdrHistogram log: latencies since due, second by second, for the tools that read such logs.

use super::tally::Tally;
use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, Tag},
};
use std::time::{Duration, SystemTime};

/// A log that is being written, in memory: a few kilobytes a second.
pub(crate) struct HistogramLog {
    begun: SystemTime,
    seconds: Vec<(u64, Vec<u8>)>,
    text: Vec<u8>,
}

impl HistogramLog {
    /// Begins a log whose first second is `warmup` from now.
    pub(crate) fn begin(warmup: Duration) -> Self {
        let begun = SystemTime::now() + warmup;
        let mut text = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        // Writing to memory can't fail, here and below.
        let _ = IntervalLogWriterBuilder::new()
            .add_comment("trine-load: nanoseconds since requests were due")
            .with_start_time(begun)
            .with_base_time(begun)
            .begin_log_with(&mut text, &mut serializer);
        Self { begun, seconds: Vec::new(), text }
    }

    /// Adds a second: reads and writes apart.
    pub(crate) fn write(&mut self, second: u64, tally: &Tally) {
        let mut lines = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        if let Ok(mut writer) =
            IntervalLogWriterBuilder::new().with_base_time(self.begun).begin_log_with(&mut lines, &mut serializer)
        {
            for (name, latencies) in ["GET", "SET"].into_iter().zip(&tally.since_due) {
                let at = Duration::from_secs(second);
                let _ = writer.write_histogram(latencies, at, Duration::from_secs(1), Tag::new(name));
            }
        }
        self.seconds.push((second, lines));
    }

    /// The whole log.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.seconds.sort_by_key(|(second, _)| *second);
        for (_, lines) in &self.seconds {
            // Each piece begins with headers of its own, which the log has already.
            let text = String::from_utf8_lossy(lines);
            let data =
                text.lines().filter(|line| line.starts_with("Tag=") || line.starts_with(|c: char| c.is_ascii_digit()));
            data.for_each(|line| {
                self.text.extend_from_slice(line.as_bytes());
                self.text.push(b'\n');
            });
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Kind;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use trine_client::pipeline::Nanos;

    /// A log that was written can be read again, second by second.
    #[test]
    fn a_log_can_be_read_again() {
        let mut log = HistogramLog::begin(Duration::ZERO);
        let mut tally = Tally::default();
        tally.latency(Kind::Get, Nanos(0), Nanos(0), Nanos(1500));
        log.write(1, &tally);
        log.write(0, &tally);
        let text = log.end();
        let mut order = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                assert!(!interval.encoded_histogram().is_empty());
                order.push((interval.start_timestamp().as_secs(), interval.tag().unwrap().as_str().to_string()));
            }
        }
        assert_eq!(order, [(0, "GET"), (0, "SET"), (1, "GET"), (1, "SET")].map(|(at, tag)| (at, tag.to_string())));
    }
}
