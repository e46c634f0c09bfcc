//! Differences that are there are found, chance is not taken for one, and doubt is told.

use super::*;
use crate::sample;
use crate::summary::Percentile;

fn results(runs: Vec<Run>) -> Results {
    Results { runs }
}

fn conditions(texts: &[&str]) -> Vec<Condition> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn conditions_are_read() {
    for (text, metric, below, ratio) in [
        ("throughput<-5%", Metric::Throughput, true, 0.95),
        (" p99 > 10 % ", Metric::Latency(Percentile::P99), false, 1.1),
        ("p999>+2.5%", Metric::Latency(Percentile::P999), false, 1.025),
        ("p50<0%", Metric::Latency(Percentile::P50), true, 1.0),
    ] {
        let condition: Condition = text.parse().unwrap();
        assert_eq!((condition.metric, condition.below), (metric, below), "{text}");
        assert!((condition.ratio - ratio).abs() < 1e-12, "{text}");
        assert_eq!(condition.to_string().parse::<Condition>().unwrap().ratio, condition.ratio, "{text}");
    }
    for text in ["throughput<-5", "speed<-5%", "throughput", "p99>x%", "p99<1%>2%", "p99<-100%", "p99>nan%", ""] {
        assert!(text.parse::<Condition>().is_err(), "{text}");
    }
}

/// A tenth less is found, overall and at each point, and meets only the conditions it should.
#[test]
fn a_regression_is_found() {
    let (a, b) = (results(sample::sweep(5, 1.0)), results(sample::sweep(5, 0.9)));
    let comparison = Comparison::new(&a, &b);
    let judge = |text| comparison.judge(&conditions(&[text])).met.len();
    assert_eq!(judge("throughput<-5%"), 1 + 10, "overall and ten points");
    assert_eq!(judge("p99>5%"), 1 + 10);
    for unmet in ["throughput<-15%", "throughput>0%", "p99>15%", "p50<-1%"] {
        assert_eq!(judge(unmet), 0, "{unmet}");
    }
    let overall = comparison.overall[0].unwrap();
    assert!((overall.ratio - 0.9).abs() < 0.001, "{overall:?}");
    assert!(comparison.table().1[0][1].contains("worse"), "{:?}", comparison.table());
}

/// The same again is no difference, whatever the condition asks.
#[test]
fn equal_results_meet_no_condition() {
    let a = results(sample::sweep(5, 1.0));
    let comparison = Comparison::new(&a, &a);
    let judgement = comparison.judge(&conditions(&["throughput<0%", "throughput<5%", "p99>0%", "p999>-1%"]));
    assert!(judgement.met.is_empty() && judgement.cannot_judge.is_none(), "{:?}", judgement.met);
    assert!(comparison.table().1.iter().all(|row| row[1].contains("no difference shown")));
}

/// With two repeats nothing can be said, and a condition on nothing is an error rather than a pass.
#[test]
fn too_few_repeats_cannot_be_judged() {
    let (a, b) = (results(sample::sweep(2, 1.0)), results(sample::sweep(5, 0.5)));
    let comparison = Comparison::new(&a, &b);
    assert!(comparison.judge(&conditions(&["throughput<-5%"])).cannot_judge.is_some());
    assert!(comparison.judge(&[]).cannot_judge.is_none(), "without a condition there is nothing to judge");
    assert!(comparison.table().1[0][1].contains("too few repeats"));
    let other = results(vec![sample::run(sample::point(999, 0.0), 1, 1.0)]);
    assert!(Comparison::new(&a, &other).judge(&[]).cannot_judge.is_some(), "no point in common");
}

/// A point that can no longer be measured, or not validly, does not slip through.
#[test]
fn lost_points_meet_every_condition() {
    let a = results(sample::sweep(3, 1.0));
    let mut b = a.clone();
    let point = sample::point(64, 0.0);
    for run in b.runs.iter_mut().filter(|run| run.point == point) {
        *run = sample::failed(point.clone(), run.repeat);
    }
    let met = Comparison::new(&a, &b).judge(&conditions(&["throughput<-5%"])).met;
    assert!(met.len() == 1 && met[0].contains("concurrency=64"), "{met:?}");
    for run in b.runs.iter_mut().filter(|run| run.point == point) {
        *run = sample::measured(point.clone(), run.repeat, 1.0, "INVALID");
    }
    let comparison = Comparison::new(&a, &b);
    assert_eq!((comparison.lost.len(), comparison.invalid), (1, 3));
}

/// A sweep whose runs all have this verdict, and repeats that differ by `spread`.
fn sweep(verdict: &str, factor: f64, spread: f64) -> Results {
    let runs = sample::sweep(5, factor).into_iter().map(|run| {
        let rate = run.figures().unwrap().ops_per_s * (1.0 + spread * (f64::from(run.repeat) - 3.0));
        sample::measured(run.point.clone(), run.repeat, rate, verdict)
    });
    results(runs.collect())
}

/// Results whose every point is SUSPECT on a side are not judged, whatever the figures say, and the reader is told what could
/// have been.
#[test]
fn results_in_doubt_are_not_judged() {
    for (a, b, counts) in
        [("SUSPECT", "SUSPECT", "10 of 10 points in A, 10 of 10 in B"), ("OK", "SUSPECT", "0 of 10 points in A")]
    {
        let comparison = Comparison::new(&sweep(a, 1.0, 0.0), &sweep(b, 0.5, 0.0));
        let judgement = comparison.judge(&conditions(&["throughput<-5%"]));
        let why = judgement.cannot_judge.unwrap();
        assert!(why.contains("every point is SUSPECT") && why.contains("the smallest change of throughput"), "{why}");
        assert!(judgement.met[0].contains("10 of 10 points are SUSPECT"), "{:?}", judgement.met);
        assert!(comparison.caveats()[0].contains(counts), "{:?}", comparison.caveats());
        assert!(comparison.table().0.last().unwrap().contains("SUSPECT"));
        assert!(comparison.judge(&[]).cannot_judge.is_none(), "without a condition there is nothing to judge");
    }
}

/// A condition that is met at a point in doubt says so; one that is met elsewhere too stays met.
#[test]
fn doubtful_points_are_named() {
    let (a, mut b) = (sweep("OK", 1.0, 0.0), sweep("OK", 0.8, 0.0));
    for run in b.runs.iter_mut().filter(|run| run.point == sample::point(64, 0.0)) {
        *run = sample::measured(run.point.clone(), run.repeat, run.figures().unwrap().ops_per_s, "SUSPECT");
    }
    let judgement = Comparison::new(&a, &b).judge(&conditions(&["throughput<-5%"]));
    assert!(judgement.cannot_judge.is_none() && judgement.met.len() == 11, "{:?}", judgement.met);
    for met in &judgement.met {
        let is_in_doubt = met.contains("overall") || met.contains(&sample::point(64, 0.0).id());
        assert_eq!(met.contains("SUSPECT"), is_in_doubt, "{met}");
    }
}

/// Repeats that differ by more than the condition can neither meet nor exclude it: that is no pass. One that is far wider
/// than their interval is excluded, and one at 0 % asks for any significant change.
#[test]
fn too_wide_an_interval_cannot_be_judged() {
    let (a, b) = (sweep("OK", 1.0, 0.05), sweep("OK", 0.99, 0.05));
    let comparison = Comparison::new(&a, &b);
    for (text, is_judged) in
        [("throughput<-1%", false), ("throughput<-25%", true), ("throughput<0%", true), ("p99>1%", false)]
    {
        let judgement = comparison.judge(&conditions(&[text]));
        assert!(judgement.met.is_empty(), "{text}: {:?}", judgement.met);
        assert_eq!(judgement.cannot_judge.is_none(), is_judged, "{text}: {:?}", judgement.cannot_judge);
        if let Some(why) = judgement.cannot_judge {
            assert!(why.contains("could have been told is") && why.contains("the interval is"), "{why}");
        }
    }
}

/// Results of one commit differ by chance, or by the machine; the reader is told that they are.
#[test]
fn the_same_commit_is_told() {
    let a = sweep("OK", 1.0, 0.0);
    assert!(Comparison::new(&a, &a).caveats()[0].contains("the same commit (0123abc)"));
    for other in ["4567def", ""] {
        let mut b = a.clone();
        b.runs.iter_mut().for_each(|run| run.commit = other.to_owned());
        assert!(Comparison::new(&a, &b).caveats().is_empty(), "{other}");
    }
    let mut unknown = a.clone();
    unknown.runs.iter_mut().for_each(|run| run.commit.clear());
    assert!(Comparison::new(&unknown, &unknown).caveats().is_empty(), "servers that name no commit may be any");
}
