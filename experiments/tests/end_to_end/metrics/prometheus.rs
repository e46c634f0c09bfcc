//! A Prometheus that scrapes a server, and answers queries.

use crate::harness::{Process, eventually, free_ports};
use serde_json::Value;
use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
};

/// A running Prometheus.
pub struct Prometheus {
    /// Killed with it.
    _process: Process,
    port: u16,
}

impl Prometheus {
    /// Starts one that scrapes this port every second; `None` where it is not installed.
    pub fn start(directory: &tempfile::TempDir, target: u16) -> Option<Self> {
        Command::new("prometheus").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
        let config = directory.path().join("prometheus.yml");
        let jobs =
            format!("scrape_configs:\n- job_name: trine\n  static_configs:\n  - targets: ['127.0.0.1:{target}']\n");
        fs::write(&config, format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n{jobs}")).expect("a file");
        let port = free_ports(&[0]);
        let process = Process::start(
            Command::new("prometheus")
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", directory.path().join("prometheus").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"))
                .stdout(Stdio::null()),
        );
        let this = Self { _process: process, port };
        eventually("prometheus has scraped", || this.ask("up == 1").ok().filter(|values| !values.is_empty()));
        Some(this)
    }

    /// The values of what a query finds now.
    pub fn ask(&self, query: &str) -> Result<Vec<f64>, String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        if answer["status"] != "success" {
            return Err(answer["error"].to_string());
        }
        let found = answer["data"]["result"].as_array().expect("a vector");
        let value = |sample: &Value| sample["value"][1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        Ok(found.iter().map(value).collect())
    }

    fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        // This version asks for a body that is not in chunks.
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        Ok(body.to_owned())
    }
}
