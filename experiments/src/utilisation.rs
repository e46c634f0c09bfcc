//! The chart of how busy CPUs and servers were.

use std::collections::BTreeMap;

use crate::chart::{Body, Figure, HeatMap};
use crate::figures::{Facet, Series};
use crate::result::Run;
use crate::summary::Summary;

/// Below this a row of a large machine says nothing, and is left out.
const IDLE: f64 = 0.03;
/// From so many CPUs on, idle ones are left out.
const CPUS_SHOWN: usize = 16;

/// Draws one heat map for each series; `None` where nothing was watched.
pub fn figure(facet: &Facet<'_>) -> Option<Figure> {
    let maps: Vec<HeatMap> = facet.series.iter().filter_map(|series| map(facet, series)).collect();
    let caption = "Percent of time busy while measuring, mean over the repeats. CPUs are the whole machine's, load \
                   generator included; a process at 100 uses one full core. A process that \
                   only starts others is left out, and so are idle CPUs of large machines.";
    let title = "Utilisation of each CPU and each server process (% busy)";
    (!maps.is_empty()).then(|| facet.named("utilisation", title, caption, Body::HeatMaps(maps)))
}

fn map(facet: &Facet<'_>, series: &Series<'_>) -> Option<HeatMap> {
    let find = |label: &str| {
        series.members.iter().find(|member| member.point.value(facet.x).as_deref() == Some(label)).copied()
    };
    let columns: Vec<(String, Option<&Summary>)> =
        facet.places.iter().map(|(_, label)| (label.clone(), find(label))).collect();
    let cpus = rows(&columns, |run| run.utilisation.cpus.iter().map(|cpu| (cpu.cpu, cpu.busy)).collect());
    let processes =
        rows(&columns, |run| run.utilisation.target.iter().map(|process| process.busy).enumerate().collect());
    let busy = |values: &[Option<f64>]| values.iter().flatten().any(|value| IDLE < *value);
    let all = cpus.len();
    let mut rows: Vec<(String, Vec<Option<f64>>)> = cpus
        .into_iter()
        .filter(|(_, values)| all <= CPUS_SHOWN || busy(values))
        .map(|(cpu, values)| (format!("CPU {cpu}"), values))
        .collect();
    let name = process_name(series);
    let mut processes: Vec<_> = processes.into_values().collect();
    if 1 < processes.len() && !busy(&processes[0]) {
        // The one that was started, and that started the others.
        processes.remove(0);
    }
    let several = 1 < processes.len();
    for (index, values) in processes.into_iter().enumerate() {
        let label = if several { format!("{name} {}", index + 1) } else { name.clone() };
        rows.push((label, values));
    }
    let columns = columns.into_iter().map(|(label, _)| label).collect();
    let x_title = facet.x.title().to_owned();
    (!rows.is_empty()).then(|| HeatMap { title: series.name.clone(), x_title, columns, rows })
}

/// Collects what is busy by its number, with one value per column: the mean over the repeats.
fn rows(
    columns: &[(String, Option<&Summary>)],
    busy: impl Fn(&Run) -> Vec<(usize, f64)>,
) -> BTreeMap<usize, Vec<Option<f64>>> {
    let mut rows: BTreeMap<usize, Vec<Option<f64>>> = BTreeMap::new();
    for (column, (_, summary)) in columns.iter().enumerate() {
        let runs = summary.iter().flat_map(|summary| &summary.runs).filter(|run| run.figures().is_some());
        let mut sums: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
        for (number, value) in runs.flat_map(&busy) {
            let sum = sums.entry(number).or_default();
            *sum = (sum.0 + value, sum.1 + 1.0);
        }
        for (number, (sum, count)) in sums {
            rows.entry(number).or_insert_with(|| vec![None; columns.len()])[column] = Some(sum / count);
        }
    }
    rows
}

/// Returns the name that most of a target's processes have.
fn process_name(series: &Series<'_>) -> String {
    let runs = series.members.iter().flat_map(|member| &member.runs);
    let last = runs.flat_map(|run| run.utilisation.target.last()).next();
    last.map_or_else(String::new, |process| process.name.clone())
}
