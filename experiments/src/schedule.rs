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
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut groups = Vec::new();
        for repeat in 1..=self.repeats {
            let mut deployments = self.deployments();
            random.shuffle(&mut deployments);
            for deployment in deployments {
                let mut points = self.points(&deployment);
                random.shuffle(&mut points);
                groups.push(Group { repeat, deployment, points });
            }
        }
        groups
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

    fn order(seed: u64, repeats: u32) -> Vec<Vec<u32>> {
        let mut experiment =
            experiment("[vary]\nconcurrency = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]");
        (experiment.seed, experiment.repeats) = (seed, repeats);
        experiment.schedule().iter().map(|group| group.points.iter().map(|point| point.concurrency).collect()).collect()
    }

    /// An order is for good: load hosts of different versions measure the same points at the same time.
    #[test]
    fn the_order_never_changes() {
        assert_eq!(order(1, 1), [vec![14, 16, 13, 5, 1, 7, 10, 9, 4, 8, 3, 6, 15, 12, 2, 11]]);
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
            let orders = order(seed, 2);
            prop_assert_ne!(&orders[0], &orders[1]);
            prop_assert_ne!(&orders[0], &(1..=16).collect::<Vec<_>>());
            prop_assert_ne!(&orders[0], &order(seed.wrapping_add(1), 1)[0]);
        }
    }
}
