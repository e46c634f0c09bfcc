//! Ports, and how many connections may wait.

use super::{
    Finding, Readings,
    readings::{Owner, Port},
};
use crate::config::Config;

pub(super) fn backlog(readings: &Readings) -> Finding {
    let wanted = u64::from(Config::default().tcp_backlog);
    let Some(limit) = readings.connections_waiting_max else { return Finding::ok("backlog", "not visible") };
    if wanted <= limit {
        return Finding::ok("backlog", limit.to_string());
    }
    Finding::warn("backlog", limit.to_string())
        .because(format!(
            "net.core.somaxconn cuts the {wanted} connections that may wait to be accepted; when many clients come at \
             once, some are refused or wait a second"
        ))
        .fix(format!("sysctl -w net.core.somaxconn={wanted}"))
}

pub(super) fn ports(readings: &Readings) -> Finding {
    let numbers = |ports: &[&Port]| ports.iter().map(|port| port.number.to_string()).collect::<Vec<_>>().join(", ");
    let (free, taken): (Vec<_>, Vec<_>) = readings.ports.iter().partition(|port| port.refused.is_none());
    if let Some(first) = taken.first() {
        let error = first.refused.as_deref().unwrap_or_default();
        let value = format!("{} can't be had", numbers(&taken));
        let finding =
            if readings.ports_were_named { Finding::fail("ports", value) } else { Finding::warn("ports", value) };
        let owned = owners(&taken);
        if !owned.is_empty() {
            let said: Vec<String> = owned
                .iter()
                .map(|(owner, ports)| format!("process {} ({}) listens on {}", owner.pid, owner.name, numbers(ports)))
                .collect();
            let pids: Vec<String> = owned.iter().map(|(owner, _)| owner.pid.to_string()).collect();
            let fix = format!("stop process {}, or take other ports: trine serve --port", pids.join(", "));
            return finding.because(said.join("; ")).fix(fix);
        }
        return finding
            .because(format!("port {}: {error}", first.number))
            .fix(format!("ss -ltnp 'sport = :{}' says who has it; trine serve --port takes others", first.number));
    }
    let is_outgoing =
        |number: u16| readings.outgoing_ports.is_some_and(|(first, last)| first <= number && number <= last);
    let at_risk: Vec<_> = free.iter().copied().filter(|port| is_outgoing(port.number)).collect();
    match (at_risk.as_slice(), readings.outgoing_ports) {
        ([_, ..], Some((first, last))) => Finding::warn("ports", format!("{} are free now", numbers(&free)))
            .because(format!(
                "the kernel gives {first} to {last} to outgoing connections: at a later start one may be taken"
            ))
            .fix("choose ports below that range, or reserve these: sysctl -w net.ipv4.ip_local_reserved_ports=…"),
        _ if free.is_empty() => Finding::ok("ports", "none tried"),
        _ => Finding::ok("ports", format!("{} free", numbers(&free))),
    }
}

/// Returns the known owners of taken ports, each with its ports.
fn owners<'a>(taken: &[&'a Port]) -> Vec<(&'a Owner, Vec<&'a Port>)> {
    let mut owners: Vec<(&Owner, Vec<&Port>)> = Vec::new();
    for &port in taken {
        let Some(owner) = &port.owner else { continue };
        match owners.iter_mut().find(|(known, _)| *known == owner) {
            Some((_, ports)) => ports.push(port),
            None => owners.push((owner, vec![port])),
        }
    }
    owners
}
