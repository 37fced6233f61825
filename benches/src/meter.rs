//! What a run costs: time on the clock, of the processors, and allocations. This process's own processor time is told in nanoseconds, that of others in hundredths
//! of a second.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::number;

/// Measures runs.
#[derive(Debug, Clone)]
pub struct Meter {
    servers: Vec<u32>,
    allocations: fn() -> usize,
}

/// What a run has cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// From its begin to its end.
    pub wall: Duration,
    /// Processor time of this process, all threads.
    pub own: Duration,
    /// Processor time of the servers.
    pub server: Duration,
    /// Allocations of this process; 0 where nobody counts them.
    pub allocations: usize,
}

impl Spent {
    /// How many a second, if the run did so many.
    #[must_use]
    pub fn rate(&self, count: usize) -> f64 {
        number(count) / self.wall.as_secs_f64()
    }

    /// What it costs beyond another run; never nothing at all on the clock.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        Self {
            wall: self.wall.saturating_sub(other.wall).max(Duration::from_micros(1)),
            own: self.own.saturating_sub(other.own),
            server: self.server.saturating_sub(other.server),
            allocations: self.allocations.saturating_sub(other.allocations),
        }
    }
}

/// A run that is measured.
#[derive(Debug)]
pub struct Running<'a> {
    meter: &'a Meter,
    before: Spent,
    start: Instant,
}

impl Meter {
    /// For a process that has its server's processes beside it.
    #[must_use]
    pub fn new(servers: Vec<u32>) -> Self {
        Self { servers, allocations: || 0 }
    }

    /// Counts allocations too, as `allocations` tells of them.
    #[must_use]
    pub fn counting(self, allocations: fn() -> usize) -> Self {
        Self { allocations, ..self }
    }

    /// Begins a run.
    #[must_use]
    pub fn start(&self) -> Running<'_> {
        let before = self.so_far();
        Running { meter: self, before, start: Instant::now() }
    }

    fn so_far(&self) -> Spent {
        let allocations = (self.allocations)();
        let server = self.servers.iter().map(|pid| process_time(*pid)).sum();
        Spent { wall: Duration::ZERO, own: own_time(), server, allocations }
    }
}

impl Running<'_> {
    /// Ends the run.
    #[must_use]
    pub fn stop(self) -> Spent {
        let wall = self.start.elapsed();
        let now = self.meter.so_far();
        Spent {
            wall,
            own: now.own - self.before.own,
            server: now.server - self.before.server,
            allocations: now.allocations - self.before.allocations,
        }
    }
}

/// The fields of `/proc/PID/stat` behind the process's name; `None` if it is gone.
fn stat(pid: &str) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit(')').next()?.split_whitespace().map(str::to_owned).collect())
}

/// User and system time, which are counted in hundredths of a second.
fn busy(stat: &[String]) -> Duration {
    let ticks: u64 = stat[11].parse::<u64>().unwrap() + stat[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// The processor time that this process has used, all threads.
fn own_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

/// The processor time that another process has used, all threads.
#[must_use]
pub fn process_time(pid: u32) -> Duration {
    busy(&stat(&pid.to_string()).unwrap())
}

/// The processor time that the living processes of a group have used.
#[must_use]
pub fn group_time(group: u32) -> Duration {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let stats = processes.filter(|name| name.bytes().all(|digit| digit.is_ascii_digit())).filter_map(|pid| stat(&pid));
    stats.filter(|stat| stat[2] == group.to_string()).map(|stat| busy(&stat)).sum()
}

/// The most memory that this process has ever held, in kibibytes.
#[must_use]
pub fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_the_process_and_its_group() {
        let (before, own) = (process_time(std::process::id()), own_time());
        while process_time(std::process::id()) < before + Duration::from_millis(30) {}
        assert!(own_time() >= own + Duration::from_millis(10));
        let group = stat("self").unwrap()[2].parse().unwrap();
        assert!(group_time(group) >= before + Duration::from_millis(30));
    }

    #[test]
    fn a_run_costs_what_was_spent_since_its_start() {
        let meter = Meter::new(vec![std::process::id()]).counting(|| 7);
        let spent = meter.start().stop();
        assert_eq!(spent.allocations, 0);
        assert!(spent.wall < Duration::from_secs(60) && spent.own < Duration::from_secs(60));
    }
}
