//! The points to measure, and the order to measure them in.

use std::time::Duration;

use crate::experiment::Experiment;
use crate::point::{Point, ValueSize};
use crate::target::{Deployment, Size, Target};

/// The points that one deployment serves within one repeat, in the order they are measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub repeat: u32,
    pub deployment: Deployment,
    pub points: Vec<Point>,
}

impl Experiment {
    /// Returns every target at every size it is to have, in the order of the file.
    pub fn deployments(&self) -> Vec<Deployment> {
        let mut deployments = Vec::new();
        for target in &self.targets {
            let Target::Trine { servers, cores, .. } = target else {
                deployments.push(Deployment { target: target.clone(), size: None });
                continue;
            };
            for &servers in self.vary.servers.or(&[servers.unwrap_or(1)]) {
                for &cores in self.vary.cores.or(&[cores.unwrap_or(1)]) {
                    deployments.push(Deployment { target: target.clone(), size: Some(Size { servers, cores }) });
                }
            }
        }
        deployments
    }

    /// Returns the points of a deployment, in the order of the file.
    pub fn points(&self, deployment: &Deployment) -> Vec<Point> {
        let (workload, vary) = (&self.workload, &self.vary);
        let rates: Vec<Option<f64>> = match vary.rate.or(&[]) {
            [] => vec![workload.rate],
            rates => rates.iter().copied().map(Some).collect(),
        };
        let operations: Vec<Option<u64>> = match vary.operations.or(&[]) {
            [] => vec![workload.operations],
            operations => operations.iter().copied().map(Some).collect(),
        };
        let mut points = Vec::new();
        for value_size in vary.value_size.or(&[workload.value_size.clone().unwrap_or_else(ValueSize::usual)]) {
            for &read_share in vary.read_share.or(&[workload.read_share.unwrap_or(0.5)]) {
                for &pipeline in vary.pipeline.or(&[workload.pipeline.unwrap_or(1)]) {
                    for (&rate, &operations) in
                        rates.iter().flat_map(|rate| operations.iter().map(move |operations| (rate, operations)))
                    {
                        for &concurrency in vary.concurrency.or(&[workload.concurrency.unwrap_or(50)]) {
                            points.push(Point {
                                target: deployment.target.name().to_owned(),
                                servers: deployment.size.map(|size| size.servers),
                                cores: deployment.size.map(|size| size.cores),
                                concurrency,
                                pipeline,
                                value_size: value_size.clone(),
                                read_share,
                                rate,
                                operations,
                            });
                        }
                    }
                }
            }
        }
        points
    }

    /// Returns how long the load generator runs in all, if every run is steady at once. How long a number of operations
    /// takes is not known.
    pub fn least_time(&self) -> Duration {
        let timed = |deployment| self.points(deployment).iter().filter(|point| point.operations.is_none()).count();
        let points: usize = self.deployments().iter().map(timed).sum();
        let each = self.warmup.0 + self.duration.0;
        each * self.repeats * u32::try_from(points).unwrap_or(u32::MAX)
    }

    /// Returns what to measure, in order: each repeat visits every deployment once, and each deployment all of its
    /// points. Both orders are shuffled from the seed, so that what drifts over time (heat, neighbours) falls on all
    /// points alike. The same seed gives the same order, also after an interruption.
    pub fn schedule(&self) -> Vec<Group> {
        let mut shuffle = Shuffle(self.seed);
        let mut groups = Vec::new();
        for repeat in 1..=self.repeats {
            let mut deployments = self.deployments();
            shuffle.apply(&mut deployments);
            for deployment in deployments {
                let mut points = self.points(&deployment);
                shuffle.apply(&mut points);
                groups.push(Group { repeat, deployment, points });
            }
        }
        groups
    }
}

/// A Fisher-Yates shuffle from a seed. Written out here so that a file gives the same order with every version
/// of this program, also when a crate of random numbers changes its mind.
struct Shuffle(u64);

impl Shuffle {
    fn apply<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            // The bias of a remainder is below 2⁻⁵⁰ for lists of points.
            let other = (self.next() % (end as u64 + 1)) as usize;
            items.swap(end, other);
        }
    }

    /// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    fn experiment(middle: &str) -> Experiment {
        let target = "[[targets]]\nname = \"trine\"\nkind = \"trine\"\n";
        let text = format!("title = \"t\"\nquestion = \"q\"\n{middle}\n{target}");
        Experiment::parse(&text, Path::new("some.toml")).unwrap()
    }

    /// Every combination is a point, sizes of our clusters are deployments, and other targets have one size.
    #[test]
    fn points_are_all_combinations() {
        let experiment = experiment(
            "repeats = 2\n[vary]\nservers = [1, 3]\ncores = [1, 2]\nconcurrency = [1, 2, 3]\nvalue_size = [64, \"10..20\"]\n\
             [[targets]]\nname = \"redis\"\nkind = \"command\"\ncommand = \"redis-server --port {port} --save ''\"",
        );
        assert_eq!(experiment.deployments().len(), 1 + 4);
        let points: Vec<String> = experiment
            .deployments()
            .iter()
            .flat_map(|deployment| experiment.points(deployment))
            .map(|point| point.id())
            .collect();
        assert_eq!(points.len(), 5 * 6);
        assert_eq!(points[0], "redis read_share=0.5 value_size=64 pipeline=1 concurrency=1");
        assert!(
            points.contains(
                &"trine servers=3 cores=2 read_share=0.5 value_size=10..20 pipeline=1 concurrency=3".to_owned()
            )
        );
    }

    /// The generator is SplitMix64 as published (its reference code from seed 0), and the order it gives is for good.
    #[test]
    fn the_shuffle_never_changes() {
        let mut shuffle = Shuffle(0);
        assert_eq!([shuffle.next(), shuffle.next()], [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
        let mut items: Vec<u32> = (0..8).collect();
        Shuffle(1).apply(&mut items);
        assert_eq!(items, [4, 3, 2, 7, 5, 6, 0, 1]);
    }

    proptest! {
        /// With any seed, each repeat measures each point exactly once, and a seed always gives the same order.
        #[test]
        fn each_repeat_measures_each_point_once(seed: u64, repeats in 1..4u32) {
            let mut experiment = experiment("[vary]\nservers = [1, 2, 3]\nconcurrency = [1, 2, 4, 8]\nread_share = [0, 1]");
            (experiment.seed, experiment.repeats) = (seed, repeats);
            let schedule = experiment.schedule();
            prop_assert_eq!(&schedule, &experiment.schedule());
            let mut expected: Vec<String> = experiment
                .deployments().iter().flat_map(|deployment| experiment.points(deployment)).map(|point| point.id()).collect();
            expected.sort();
            for repeat in 1..=repeats {
                let groups = schedule.iter().filter(|group| group.repeat == repeat);
                let mut ids: Vec<String> = groups.flat_map(|group| &group.points).map(Point::id).collect();
                ids.sort();
                prop_assert_eq!(&ids, &expected);
            }
        }

        /// Order does depend on the seed, and on the repeat.
        #[test]
        fn seeds_and_repeats_change_the_order(seed: u64) {
            let order = |seed| {
                let mut shuffle = Shuffle(seed);
                let mut items: Vec<u32> = (0..40).collect();
                shuffle.apply(&mut items);
                let first = items.clone();
                shuffle.apply(&mut items);
                (first, items)
            };
            let (first, second) = order(seed);
            prop_assert_ne!(&first, &second);
            prop_assert_ne!(&first, &(0..40).collect::<Vec<_>>());
            prop_assert_ne!(&first, &order(seed.wrapping_add(1)).0);
        }
    }
}
