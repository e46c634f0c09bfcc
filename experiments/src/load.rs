//! Command lines of the load generator.

use std::path::Path;

use crate::cluster::Cluster;
use crate::experiment::Experiment;
use crate::party::Member;
use crate::point::Point;
use crate::settings::{Protocol, Span, cpu_list};

/// One run of `trine-load`.
pub struct Ask<'a> {
    pub program: &'a Path,
    pub cluster: &'a Cluster,
    pub point: &'a Point,
    /// From 1.
    pub repeat: u32,
    pub warmup: Span,
    pub cpus: Option<&'a [usize]>,
    pub task: Task<'a>,
}

/// The part of a measurement that a run of `trine-load` does.
#[derive(Clone, Copy, Debug)]
pub enum Task<'a> {
    /// All of it.
    Whole,
    /// Writing and verifying the keys, for all load hosts.
    Keys,
    /// The share of one of several load hosts, when there are keys. Its latencies also go to the file `hlog`.
    Part { member: Member, hlog: &'a Path },
}

impl Ask<'_> {
    /// Returns the command line, program first. The report goes to the file `report`.
    pub fn words(&self, experiment: &Experiment, report: &Path) -> Vec<String> {
        let (workload, point) = (&experiment.workload, self.point);
        let mut words = vec![self.program.display().to_string()];
        let prefix = if self.cluster.protocol == Protocol::Http { "http://" } else { "" };
        words.extend(self.cluster.addresses.iter().map(|address| format!("{prefix}{address}")));
        words.extend(self.cluster.mode.map(str::to_owned));
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([format!("--{name}"), value]);
            }
        };
        option("concurrency", Some(point.concurrency.to_string()));
        option("pipeline", Some(point.pipeline.to_string()));
        option("value-size", Some(point.value_size.to_string()));
        let timed = |value: String| point.operations.is_none().then_some(value);
        option("operations", point.operations.map(|operations| operations.to_string()));
        option("read-share", timed(point.read_share.to_string()));
        option("rate", point.rate.map(|rate| rate.to_string()));
        option("arrivals", workload.arrivals.clone().filter(|_| point.rate.is_some()));
        option("keys", workload.keys.map(|keys| keys.to_string()));
        option("key-size", workload.key_size.map(|size| size.to_string()));
        option("distribution", workload.distribution.clone());
        option("batch", workload.batch.map(|batch| batch.name().to_owned()));
        option("timeout", workload.timeout.map(|timeout| timeout.to_string()));
        option("warmup", timed(self.warmup.to_string()));
        let is_measured = !matches!(self.task, Task::Keys);
        let duration = if is_measured { experiment.duration.to_string() } else { "0s".to_owned() };
        option("duration", timed(duration));
        option("cpus", self.cpus.map(cpu_list));
        // Other keys in each repeat, or repeats would agree more than the truth does.
        let seed = experiment.seed.wrapping_add(u64::from(self.repeat) - 1);
        let seed = if let Task::Part { member, .. } = self.task { member.seed(seed) } else { seed };
        option("seed", Some(seed.to_string()));
        option("json", Some(report.display().to_string()));
        if let Task::Part { hlog, .. } = self.task {
            option("hlog", Some(hlog.display().to_string()));
            words.extend(["--no-load".to_owned(), "--no-verify".to_owned()]);
        }
        words.push("--quiet".to_owned());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::Images;
    use crate::process::Interrupt;
    use crate::sample;
    use crate::target::Target;

    /// The command line is the one that `trine-load` documents: what the file fixes, what the point varies, and no
    /// more.
    #[test]
    fn the_command_line_says_it_all() {
        let text = "title = \"t\"\nquestion = \"q\"\nseed = 7\nduration = \"1500ms\"\n[workload]\nkeys = 10\n\
                    batch = \"any\"\narrivals = \"poisson\"\ntimeout = \"2s\"\n[[targets]]\nname = \"lab\"\nkind = \"address\"\n\
                    address = \"10.0.0.1:7000\"\ncluster = true\n";
        let experiment = Experiment::parse(text, Path::new("some.toml")).unwrap();
        let deployment = experiment.deployments().remove(0);
        assert!(matches!(deployment.target, Target::Address { .. }));
        let nowhere = Path::new("/nowhere");
        let site = crate::cluster::Site {
            trine: nowhere,
            port: 1,
            cpus: None,
            log: nowhere,
            data: nowhere,
            build: nowhere,
            images: &Images::default(),
        };
        let cluster = Cluster::start(&deployment, &site, &Interrupt::default()).unwrap();
        let mut point = sample::point(16, 0.25);
        let with = |task, point: &Point, cpus| {
            let ask = Ask {
                task,
                program: Path::new("trine-load"),
                cluster: &cluster,
                point,
                repeat: 3,
                warmup: Span::one_second(),
                cpus,
            };
            ask.words(&experiment, Path::new("out.json")).join(" ")
        };
        let words = |point: &Point, cpus| with(Task::Whole, point, cpus);
        assert_eq!(
            words(&point, None),
            "trine-load 10.0.0.1:7000 --cluster --concurrency 16 --pipeline 1 --value-size 64 --read-share 0.25 \
             --keys 10 --batch any --timeout 2s --warmup 1s --duration 1500ms --seed 9 --json out.json --quiet"
        );
        point.rate = Some(50_000.0);
        let open = words(&point, Some(&[1, 3]));
        assert!(open.contains("--rate 50000 --arrivals poisson") && open.contains("--cpus 1,3"), "{open}");
        let keys = with(Task::Keys, &point, None);
        assert!(keys.contains("--duration 0s") && !keys.contains("--no-load"), "{keys}");
        let member = Member { number: 2, of: 2 };
        let part = with(Task::Part { member, hlog: Path::new("out.hlog") }, &point, None);
        assert!(part.ends_with("--hlog out.hlog --no-load --no-verify --quiet"), "{part}");
        assert!(part.contains("--duration 1500ms") && !part.contains("--seed 9 "), "{part}");
        (point.rate, point.operations) = (None, Some(800));
        let rounds = words(&point, None);
        assert!(rounds.contains("--operations 800"), "{rounds}");
        assert!(["--warmup", "--duration", "--read-share"].iter().all(|word| !rounds.contains(word)), "{rounds}");
    }
}
