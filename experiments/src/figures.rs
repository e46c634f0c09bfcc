//! The charts of an experiment, and their contents.

use crate::chart::{Axis, Body, Dot, Figure, Line, Mark, Panel, STYLES};
use crate::point::{Dimension, Point, varying};
use crate::result::Verdict;
use crate::statistics::Estimate;
use crate::summary::{Percentile, Summary, order};

/// Points that differ in x alone, in its order.
pub struct Series<'a> {
    pub name: String,
    pub style: usize,
    pub members: Vec<&'a Summary>,
}

/// Series that share their charts.
pub struct Facet<'a> {
    /// The name that tells it from other facets; empty where there is one.
    pub name: String,
    pub x: Dimension,
    pub series: Vec<Series<'a>>,
    /// The values of x, rising: where they stand, and their label.
    pub places: Vec<(f64, String)>,
}

/// More lines than this in one chart cannot be told apart at a glance.
const SERIES_MAX: usize = 4;

/// Arranges points for charts: one dimension along x, the others as series, and where these would be too many, one
/// more as facets.
pub fn facets(summaries: &[Summary]) -> Vec<Facet<'_>> {
    let dimensions = varying(summaries.iter().map(|summary| &summary.point));
    let x = x_dimension(summaries.iter().map(|summary| &summary.point), &dimensions);
    let rest: Vec<Dimension> = dimensions.into_iter().filter(|dimension| *dimension != x).collect();
    let all: Vec<&Summary> = summaries.iter().collect();
    let split = match split(&all, |point| point.describe(&rest)).len() {
        count if count <= SERIES_MAX => None,
        _ => rest.iter().copied().max_by_key(|dimension| facet_fitness(&all, &rest, *dimension)),
    };
    let Some(split_by) = split else {
        return chunks(String::new(), x, &rest, all);
    };
    let rest: Vec<Dimension> = rest.into_iter().filter(|dimension| *dimension != split_by).collect();
    let facets = self::split(&all, |point| point.label(split_by).unwrap_or_default());
    facets.into_iter().flat_map(|(name, members)| chunks(name, x, &rest, members)).collect()
}

/// Makes facets of at most as many series as there are styles. More remain only where one more dimension was not
/// enough to divide them.
fn chunks<'a>(name: String, x: Dimension, rest: &[Dimension], members: Vec<&'a Summary>) -> Vec<Facet<'a>> {
    let mut series: Vec<Series<'a>> = split(&members, |point| point.describe(rest))
        .into_iter()
        .map(|(name, members)| Series { name, style: 0, members })
        .collect();
    let several = STYLES < series.len();
    let mut facets = Vec::new();
    while !series.is_empty() {
        let mut part: Vec<Series<'a>> = series.drain(..series.len().min(STYLES)).collect();
        part.iter_mut().enumerate().for_each(|(index, series)| series.style = index);
        let part_name = match (several, name.is_empty()) {
            (false, _) => name.clone(),
            (true, true) => format!("part {}", facets.len() + 1),
            (true, false) => format!("{name}, part {}", facets.len() + 1),
        };
        let places = places(x, part.iter().flat_map(|series| series.members.iter().copied()).collect());
        facets.push(Facet { name: part_name, x, series: part, places });
    }
    facets
}

/// Few series in each facet, and then few facets.
fn facet_fitness(all: &[&Summary], rest: &[Dimension], dimension: Dimension) -> (bool, std::cmp::Reverse<usize>) {
    let facets = split(all, |point| point.label(dimension).unwrap_or_default());
    let others: Vec<Dimension> = rest.iter().copied().filter(|other| *other != dimension).collect();
    let most = facets.iter().map(|(_, members)| split(members, |point| point.describe(&others)).len()).max();
    (most.unwrap_or(0) <= SERIES_MAX, std::cmp::Reverse(facets.len()))
}

/// Groups points by a name, in the order the names first appear.
fn split<'a>(summaries: &[&'a Summary], name: impl Fn(&Point) -> String) -> Vec<(String, Vec<&'a Summary>)> {
    let mut groups: Vec<(String, Vec<&Summary>)> = Vec::new();
    for &summary in summaries {
        let name = name(&summary.point);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, members)) => members.push(summary),
            None => groups.push((name, vec![summary])),
        }
    }
    groups
}

/// Chooses what goes along x: what a sweep is most often about comes first.
fn x_dimension<'a>(points: impl Iterator<Item = &'a Point> + Clone, dimensions: &[Dimension]) -> Dimension {
    use Dimension::{Concurrency, Cores, Pipeline, Rate, ReadShare, Servers, ValueSize};
    let candidates = [Concurrency, Rate, Pipeline, Cores, Servers, ValueSize, ReadShare];
    let numeric = |dimension: &Dimension| points.clone().all(|point| point.number(*dimension).is_some());
    let best = candidates.into_iter().find(|dimension| dimensions.contains(dimension) && numeric(dimension));
    best.or_else(|| dimensions.contains(&ValueSize).then_some(ValueSize)).unwrap_or(Concurrency)
}

fn places(x: Dimension, mut members: Vec<&Summary>) -> Vec<(f64, String)> {
    members.sort_by(|a, b| order(&a.point, &b.point, x));
    let mut places: Vec<(f64, String)> = Vec::new();
    for member in members {
        let label = member.point.value(x).unwrap_or_default();
        if places.last().is_none_or(|(_, last)| *last != label) {
            // Text such as "10..1000" has no place on a line of numbers; then places are counted.
            let place = member.point.number(x).unwrap_or(places.len() as f64);
            places.push((place, label));
        }
    }
    if places.iter().any(|(_, label)| label.parse::<f64>().is_err()) {
        places.iter_mut().enumerate().for_each(|(index, place)| place.0 = index as f64);
    }
    places
}

/// The point of a series with the highest throughput of all that are valid.
pub struct Top<'a> {
    pub point: &'a Summary,
    pub throughput: Estimate,
    /// Points whose throughput may be as high: what is above them is no more than chance.
    pub near: Vec<&'a Summary>,
    /// Points that failed or are not valid: theirs may be higher.
    pub unknown: usize,
}

impl<'a> Series<'a> {
    /// Returns the highest point; `None` where there is no valid measurement.
    pub fn top(&self) -> Option<Top<'a>> {
        let valid = self.members.iter().filter(|member| member.verdict() != Some(Verdict::Invalid));
        let measured = valid.filter_map(|member| Some((*member, member.throughput()?)));
        let (point, throughput) = measured.clone().max_by(|a, b| a.1.mean.total_cmp(&b.1.mean))?;
        let unknown = self.members.len() - measured.clone().count();
        let others = measured.filter(|(member, _)| member.point != point.point);
        let near = others.filter(|(member, _)| !point.is_above(member)).map(|(member, _)| member).collect();
        Some(Top { point, throughput, near, unknown })
    }
}

impl Top<'_> {
    /// Returns whether it is a peak: beyond doubt, and above every other point, all of them valid, by more than chance.
    pub fn is_peak(&self) -> bool {
        self.point.is_beyond_doubt() && self.near.is_empty() && self.unknown == 0
    }
}

impl Facet<'_> {
    pub fn place(&self, point: &Point) -> f64 {
        let label = point.value(self.x).unwrap_or_default();
        self.places.iter().find(|(_, known)| *known == label).map_or(0.0, |(place, _)| *place)
    }

    fn members(&self) -> impl Iterator<Item = &Summary> {
        self.series.iter().flat_map(|series| series.members.iter().copied())
    }

    /// Returns the charts of throughput and latency of this facet.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = vec![self.throughput_and_latency(), self.throughput(), self.latency()];
        figures.extend(self.percentiles());
        figures
    }

    pub fn named(&self, name: &str, title: &str, caption: &str, body: Body) -> Figure {
        let slug: String =
            self.name.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).collect();
        let (name, title) = match self.name.as_str() {
            "" => (name.to_owned(), title.to_owned()),
            facet => (format!("{name}-{}", slug.to_lowercase()), format!("{title}: {facet}")),
        };
        Figure { name, title, subtitle: Vec::new(), caption: caption.to_owned(), body }
    }

    fn x_axis(&self) -> Axis {
        Axis::of_values(self.x.title(), &self.places)
    }

    fn throughput_axis(&self) -> Axis {
        let tops = self.members().filter_map(Summary::throughput);
        Axis::throughput(tops.map(|top| top.interval.map_or(top.mean, |interval| interval.1)).fold(0.0, f64::max))
    }

    /// Of one percentile, on the scale that all of them share.
    fn latency_axis(&self, percentile: Percentile) -> Axis {
        let title = format!("{} latency (log scale)", percentile.name());
        let of = |member: &Summary| Percentile::ALL.map(|percentile| member.latency_us(percentile));
        Axis::latency(title, self.members().flat_map(of).flatten())
    }

    fn lines(&self, dot: impl Fn(&Summary) -> Option<Dot>) -> Vec<Line> {
        let line = |series: &Series<'_>| {
            let dots = series.members.iter().filter_map(|member| dot(member)).collect();
            Line { name: series.name.clone(), style: series.style, dots }
        };
        self.series.iter().map(line).collect()
    }

    fn throughput_and_latency(&self) -> Figure {
        let panel = |percentile: Percentile| {
            let dot = |member: &Summary| {
                Some(Dot {
                    x: member.throughput()?.mean,
                    y: member.latency_us(percentile)?,
                    interval: None,
                    mark: mark(member),
                    label: member.point.value(self.x),
                })
            };
            let (x, y) = (self.throughput_axis(), self.latency_axis(percentile));
            Panel { title: percentile.name().to_owned(), x, y, lines: self.lines(dot) }
        };
        let caption = format!(
            "Each point is one {}, written beside it where there is room. Down and to the right is better. Where a line \
             turns upwards, more load buys waiting instead of throughput.",
            self.x.title()
        );
        let body = Body::Panels(Percentile::ALL.map(panel).to_vec());
        self.named("throughput-latency", "Latency against throughput", &caption, body)
    }

    fn throughput(&self) -> Figure {
        let dot = |member: &Summary| {
            let throughput = member.throughput();
            let mean = throughput.map_or(0.0, |throughput| throughput.mean);
            let interval = throughput.and_then(|throughput| throughput.interval);
            Some(Dot { x: self.place(&member.point), y: mean, interval, mark: mark(member), label: None })
        };
        let panel = Panel { title: String::new(), x: self.x_axis(), y: self.throughput_axis(), lines: self.lines(dot) };
        let title = format!("Throughput over {}", short(self.x));
        let caption = "Mean over the repeats; bars are 95 % confidence intervals of the mean (Student's t).";
        self.named("throughput", &title, caption, Body::Panels(vec![panel]))
    }

    fn latency(&self) -> Figure {
        let panel = |percentile: Percentile| {
            let dot = |member: &Summary| {
                let (y, mark) = match member.latency_us(percentile) {
                    Some(latency) => (latency, mark(member)),
                    None => (0.0, Mark::Failed),
                };
                Some(Dot { x: self.place(&member.point), y, interval: None, mark, label: None })
            };
            let (x, y) = (self.x_axis(), self.latency_axis(percentile));
            Panel { title: percentile.name().to_owned(), x, y, lines: self.lines(dot) }
        };
        let title = format!("Latency over {}", short(self.x));
        let caption = "Median over the repeats of each percentile, counted from when a request was due. Logarithmic.";
        self.named("latency", &title, caption, Body::Panels(Percentile::ALL.map(panel).to_vec()))
    }

    /// Latency by percentile at the lowest x, at the peak of throughput or the middle, and at the highest x.
    fn percentiles(&self) -> Option<Figure> {
        let tops = self.series.iter().filter_map(Series::top);
        let top = tops.max_by(|a, b| a.throughput.mean.total_cmp(&b.throughput.mean));
        let is_peak = top.as_ref().is_some_and(Top::is_peak);
        let peak = top.and_then(|top| top.point.point.value(self.x)).unwrap_or_default();
        let mut shown = vec![self.places.first()?.1.clone()];
        let last = self.places.last()?.1.clone();
        // Where the peak is at an end, the middle shows what lies between.
        let is_inner = peak != shown[0] && peak != last;
        let middle = if is_inner { peak.clone() } else { self.places[self.places.len() / 2].1.clone() };
        for value in [&middle, &last] {
            if !shown.contains(value) {
                shown.push(value.clone());
            }
        }
        let mut panels: Vec<Panel> =
            shown.iter().map(|value| self.percentile_panel(value, is_peak && *value == peak)).collect();
        share_scale(&mut panels);
        if panels.iter().all(|panel| panel.lines.iter().all(|line| line.dots.is_empty())) {
            return None;
        }
        let caption = "How long the slowest requests took: each nine takes the same room. The requests of all repeats \
                       together; a line ends where fewer than one of them was slower.";
        Some(self.named("percentiles", "Latency by percentile", caption, Body::Panels(panels)))
    }

    fn percentile_panel(&self, value: &str, is_peak: bool) -> Panel {
        let mut lines = Vec::new();
        let mut title = String::new();
        for series in &self.series {
            let member = series.members.iter().find(|member| member.point.value(self.x).as_deref() == Some(value));
            let Some(member) = member else { continue };
            title = member.point.label(self.x).unwrap_or_default();
            let dots = crate::distribution::curve(member);
            let dots = dots.into_iter().map(|(x, y)| Dot { x, y, interval: None, mark: Mark::None, label: None });
            let mut dots: Vec<Dot> = dots.collect();
            // Markers tell lines apart where colours do not, and say how far the line can be believed.
            let (every, mark) = ((dots.len() / 8).max(1), mark(member));
            dots.iter_mut().skip(series.style).step_by(every).for_each(|dot| dot.mark = mark);
            lines.push(Line { name: series.name.clone(), style: series.style, dots });
        }
        if is_peak {
            title += " (peak throughput)";
        }
        Panel { title, x: Axis::percentiles(), y: latency_axis_of(&lines), lines }
    }
}

fn latency_axis_of(lines: &[Line]) -> Axis {
    let values = lines.iter().flat_map(|line| &line.dots).map(|dot| dot.y);
    Axis::latency("latency (log scale)".to_owned(), values)
}

/// Gives all panels the same y axis: side by side, a height means the same in each.
fn share_scale(panels: &mut [Panel]) {
    let lines: Vec<Line> = panels.iter().flat_map(|panel| panel.lines.iter().cloned()).collect();
    panels.iter_mut().for_each(|panel| panel.y = latency_axis_of(&lines));
}

fn mark(summary: &Summary) -> Mark {
    match summary.verdict() {
        None => Mark::Failed,
        Some(Verdict::Ok) if summary.is_beyond_doubt() => Mark::Filled,
        // Some repeats failed: what the others say is in doubt.
        Some(Verdict::Ok | Verdict::Suspect) => Mark::Hollow,
        Some(Verdict::Invalid) => Mark::Crossed,
    }
}

/// Returns the name of a dimension without its unit.
pub fn short(dimension: Dimension) -> &'static str {
    let title = dimension.title();
    title.split_once(" (").map_or(title, |(name, _)| name)
}
