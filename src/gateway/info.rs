//! Merges the cores' replies to INFO into the server's.

use super::{bulk, text_like};

/// Fields that are counted by each core: the server's is their sum. The sum of peaks is an upper bound, since the cores
/// need not have reached theirs at the same moment. A field that ends in `_max` is the highest of the cores'. Every
/// other field is the same on all cores, or is about the core that has the connection.
const ADDED: &[&str] = &[
    "aof_buffer_length",
    "aof_current_size",
    "blocked_clients",
    "connected_clients",
    "evicted_keys",
    "expired_keys",
    "instantaneous_ops_per_sec",
    "keyspace_hits",
    "keyspace_misses",
    "maxclients",
    "rdb_changes_since_last_save",
    "rejected_connections",
    "slowlog_len",
    "total_commands_processed",
    "total_connections_received",
    "total_error_replies",
    "total_net_input_bytes",
    "total_net_output_bytes",
    "trine_busy_usec",
    "trine_log_dead_bytes",
    "trine_log_end",
    "trine_log_live_bytes",
    "trine_log_persisted",
    "trine_passed_on",
    "trine_segments_released",
    "trine_hints_written",
    "trine_segments_hinted",
    "trine_snapshot_bytes",
    "trine_sync_usec",
    "trine_syncs",
    "trine_turns",
    "trine_value_read_bytes",
    "trine_value_read_errors",
    "trine_value_reads",
    "trine_values_away",
    "trine_values_away_bytes",
    "trine_values_fetched",
    "trine_values_moved_bytes",
    "trine_values_sent_away",
    "used_memory",
    "used_memory_dataset",
    "used_memory_overhead",
    "used_memory_peak",
];

/// Fields that hold for the server if they hold for any core: the larger value is taken.
const ANY: &[&str] = &[
    "aof_pending_bio_fsync",
    "loading",
    "rdb_bgsave_in_progress",
    "rdb_current_bgsave_time_sec",
    "rdb_last_bgsave_time_sec",
];
/// Fields that hold for the server only if they hold for all cores: the smaller value is taken.
const ALL: &[&str] = &["loading_loaded_perc", "rdb_last_save_time"];

/// A section: its heading, and its fields with their values.
type Section = (String, Vec<(String, String)>);

/// Returns the server's INFO, made of those of its cores. `first` is the core whose value is taken for fields that are
/// not merged.
pub(super) fn add(replies: Vec<Vec<u8>>, first: usize) -> Vec<u8> {
    let mut sections = sections(&replies[first]);
    let others = replies.iter().enumerate().filter(|&(part, _)| part != first);
    for (_, reply) in others {
        for (heading, fields) in self::sections(reply) {
            let Some((_, sum)) = sections.iter_mut().find(|(known, _)| *known == heading) else {
                sections.push((heading, fields));
                continue;
            };
            for (name, value) in fields {
                match sum.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, total)) => *total = add_field(&name, total, &value),
                    // A command or an error that the cores before had not counted, or a database that was empty there.
                    None => sum.push((name, value)),
                }
            }
        }
    }
    sections.iter_mut().for_each(derive);
    let mut text = String::new();
    for (position, (heading, fields)) in sections.iter().enumerate() {
        if 0 < position {
            text += "\r\n";
        }
        text += &format!("# {heading}\r\n");
        fields.iter().for_each(|(name, value)| text += &format!("{name}:{value}\r\n"));
    }
    text_like(&replies[first], text.as_bytes())
}

fn sections(reply: &[u8]) -> Vec<Section> {
    let text = String::from_utf8_lossy(bulk(reply).1);
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("# ") {
            sections.push((heading.to_owned(), Vec::new()));
        } else if let (Some((name, value)), Some((_, fields))) = (line.split_once(':'), sections.last_mut()) {
            fields.push((name.to_owned(), value.to_owned()));
        }
    }
    sections
}

fn add_field(name: &str, total: &str, value: &str) -> String {
    if value.contains('=') {
        return add_pairs(total, value);
    }
    if value == "err" {
        return value.to_owned();
    }
    if let (Ok(left), Ok(right)) = (total.parse::<f64>(), value.parse::<f64>())
        && (ANY.contains(&name) && left < right || ALL.contains(&name) && right < left)
    {
        return value.to_owned();
    }
    if name.starts_with("instantaneous_")
        && name.ends_with("_kbps")
        && let (Ok(left), Ok(right)) = (total.parse::<f64>(), value.parse::<f64>())
    {
        return format!("{:.2}", left + right);
    }
    let (Ok(left), Ok(right)) = (total.parse::<u64>(), value.parse::<u64>()) else { return total.to_owned() };
    if ADDED.contains(&name) {
        left.saturating_add(right).to_string()
    } else if name.ends_with("_max") {
        left.max(right).to_string()
    } else {
        total.to_owned()
    }
}

/// Adds lists such as `keys=1,expires=0`, name by name. Percentiles can't be added: the highest is taken, so that none
/// is too low.
fn add_pairs(total: &str, value: &str) -> String {
    let mut calls = 0.0;
    let mut us = 0.0;
    // The mean of all keys that expire is the mean of the cores', weighted by the number of these keys.
    let number = |pairs: &str, name: &str| -> u128 {
        let found = pairs.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        found.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let average_ttl = || {
        let [left, right] = [total, value].map(|pairs| (number(pairs, "expires"), number(pairs, "avg_ttl")));
        (left.0 * left.1 + right.0 * right.1).checked_div(left.0 + right.0).unwrap_or_default()
    };
    let mut added = Vec::new();
    for pair in total.split(',') {
        let Some((name, left)) = pair.split_once('=') else { continue };
        let right = value.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or("0");
        let sum = match (left.parse::<u64>(), right.parse::<u64>()) {
            _ if name == "avg_ttl" => average_ttl().to_string(),
            (Ok(left), Ok(right)) => left.saturating_add(right).to_string(),
            _ if name == "usec_per_call" => format!("{:.2}", if calls == 0.0 { 0.0 } else { us / calls }),
            _ => {
                let (left, right) = (left.parse::<f64>().unwrap_or(0.0), right.parse::<f64>().unwrap_or(0.0));
                format!("{:.3}", left.max(right))
            }
        };
        match name {
            "calls" => calls = sum.parse().unwrap_or(0.0),
            "usec" => us = sum.parse().unwrap_or(0.0),
            _ => {}
        }
        added.push(format!("{name}={sum}"));
    }
    added.join(",")
}

/// Recomputes the fields that are derived from others.
fn derive((_, fields): &mut Section) {
    let numbers: Vec<_> = fields.iter().filter_map(|(name, value)| Some((name.clone(), value.parse().ok()?))).collect();
    let find = |name: &str| numbers.iter().find(|(known, _)| known == name).map(|&(_, number): &(_, u64)| number);
    for (name, value) in fields.iter_mut() {
        if let Some(number) = name.strip_suffix("_human").and_then(find) {
            *value = crate::commands::info::human(number);
        } else if name == "trine_sync_usec_mean"
            && let (Some(us), Some(syncs)) = (find("trine_sync_usec"), find("trine_syncs"))
        {
            *value = us.checked_div(syncs).unwrap_or_default().to_string();
        } else if name == "mem_fragmentation_ratio"
            && let (Some(resident), Some(used)) = (find("used_memory_rss"), find("used_memory"))
        {
            *value = crate::commands::info::ratio(resident, used);
        }
    }
}
