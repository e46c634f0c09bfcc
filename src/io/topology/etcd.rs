//! A topology store in etcd, by its JSON gateway: HTTP and JSON, so that the build needs no compiler of protocol buffers.
//!
//! All calls block, with a timeout; whoever has a core keeps this on another thread. Endpoints are tried in turn, the one that
//! answered last first.

use std::{
    fmt, fs,
    io::{self, BufRead as _, BufReader, ErrorKind, Read as _},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use ureq::{
    Agent, Timeout,
    tls::{PemItem, RootCerts, TlsConfig},
};

use crate::topology::{
    document::{Document, Revision},
    store::{
        self, DOCUMENT_BYTES_MAX, DocumentStore, EtcdUrl, Outcome, StoreError, StoreUrl,
        etcd::{self, Held, Problem, PutAnswer, WatchLine},
    },
};

/// The longest time for an endpoint to accept a connection. One that is far away takes a few round trips.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// The longest time for an endpoint to answer. etcd takes milliseconds, and about a second while it elects a leader.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// The most bytes of an answer: a document in base64, and what is around it.
const ANSWER_BYTES_MAX: u64 = 2 * DOCUMENT_BYTES_MAX as u64;

/// The files in which systems keep the certificates of the authorities that they trust: Debian and Alpine, Red Hat, SUSE.
const SYSTEM_CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// A topology store in etcd.
pub struct EtcdStore {
    url: EtcdUrl,
    agent: Agent,
    /// The position of the endpoint that is asked first.
    first: usize,
    password: Option<String>,
    /// The token that etcd gave for the password.
    token: Option<String>,
}

impl fmt::Debug for EtcdStore {
    /// Shows no secret.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("EtcdStore").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Why a call brought no answer.
enum CallError {
    /// The request was not carried out at any endpoint, and will not be.
    NotSent(String),
    /// A request may have been carried out, or may be later.
    Undecided(String),
    /// etcd says no.
    Refused(String),
}

impl EtcdStore {
    /// Returns the store at this address, and connects to nothing yet.
    ///
    /// # Errors
    /// The certificates to trust can't be read.
    pub fn new(url: &EtcdUrl, password: Option<String>) -> Result<Self, StoreError> {
        Self::with_patience(url, password, ANSWER_WITHIN)
    }

    /// Returns the store with another limit than [`ANSWER_WITHIN`].
    fn with_patience(url: &EtcdUrl, password: Option<String>, answer_within: Duration) -> Result<Self, StoreError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy for the world is none for this.
            .proxy(None)
            .user_agent("trine")
            .timeout_resolve(Some(CONNECT_WITHIN))
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_send_request(Some(answer_within))
            .timeout_send_body(Some(answer_within))
            .timeout_recv_response(Some(answer_within))
            .timeout_recv_body(Some(answer_within));
        let config = if url.is_tls { config.tls_config(tls(url)?) } else { config };
        let config = config.build();
        Ok(Self { url: url.clone(), agent: config.into(), first: 0, password, token: None })
    }

    fn at(&self) -> StoreUrl {
        StoreUrl::Etcd(Box::new(self.url.clone()))
    }

    /// Returns the address of a path at the endpoint that is asked first.
    fn address(&self, path: &str) -> String {
        let scheme = if self.url.is_tls { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.url.endpoints[self.first])
    }

    /// Asks the next endpoint first from now on.
    fn turn_to_next(&mut self) {
        self.first = (self.first + 1) % self.url.endpoints.len();
    }

    /// Asks one endpoint after the other until one answers. A request must do no harm where it is carried out twice.
    fn call(&mut self, path: &str, body: &str) -> Result<String, CallError> {
        let (mut problems, mut is_undecided) = (Vec::new(), false);
        for _ in 0..self.url.endpoints.len() {
            let endpoint = self.url.endpoints[self.first].clone();
            match self.call_authenticated(path, body) {
                Ok(answer) => return Ok(answer),
                Err(CallError::Refused(problem)) if !is_undecided => return Err(CallError::Refused(problem)),
                Err(CallError::NotSent(problem)) => problems.push(format!("{endpoint}: {problem}")),
                Err(CallError::Undecided(problem) | CallError::Refused(problem)) => {
                    is_undecided = true;
                    problems.push(format!("{endpoint}: {problem}"));
                }
            }
            self.turn_to_next();
        }
        let problems = problems.join("; ");
        Err(if is_undecided { CallError::Undecided(problems) } else { CallError::NotSent(problems) })
    }

    /// Asks one endpoint, with a token if etcd wants one.
    fn call_authenticated(&mut self, path: &str, body: &str) -> Result<String, CallError> {
        // A token expires, so that a second one may be needed.
        for is_last in [false, true] {
            self.authenticate()?;
            let (status, text) = self.post(path, body)?;
            match (status, problem(status, &text)) {
                (_, None) => return Ok(text),
                (_, Some(Problem::NotAuthenticated(_))) if !is_last && self.url.user.is_some() => self.token = None,
                (_, Some(Problem::Undecided(problem))) => return Err(CallError::Undecided(problem)),
                (_, Some(Problem::NotAuthenticated(problem) | Problem::Refused(problem))) => {
                    return Err(CallError::Refused(self.with_way_out(problem)));
                }
            }
        }
        unreachable!("the second round returns")
    }

    /// Gets a token, if there is a user and no token yet.
    fn authenticate(&mut self) -> Result<(), CallError> {
        let (Some(user), None) = (&self.url.user, &self.token) else { return Ok(()) };
        let password = self.password.as_deref().ok_or_else(|| {
            CallError::Refused(format!(
                "user {user} has no password: give it by --password-file or TRINE_CLUSTER_PASSWORD"
            ))
        })?;
        let body = etcd::authenticate(user, password);
        // Whatever happens here, the request itself was not sent.
        let (status, text) = self.post(etcd::AUTHENTICATE, &body).map_err(|error| match error {
            CallError::Undecided(problem) => CallError::NotSent(problem),
            other => other,
        })?;
        match problem(status, &text) {
            None => {}
            Some(Problem::Undecided(problem)) => return Err(CallError::NotSent(problem)),
            Some(Problem::NotAuthenticated(problem) | Problem::Refused(problem)) => {
                return Err(CallError::Refused(self.with_way_out(problem)));
            }
        }
        self.token = Some(etcd::token(&text).map_err(CallError::NotSent)?);
        Ok(())
    }

    /// Says what to do about etcd's most usual complaints.
    fn with_way_out(&self, problem: String) -> String {
        let way_out = if problem.contains("user name is empty") {
            "etcd wants a user: write etcd://USER@HOST:PORT/NAME"
        } else if problem.contains("authentication failed") {
            "look at the user and the password"
        } else if problem.contains("authentication is not enabled") {
            "leave the user out of the address"
        } else if problem.contains("permission denied") {
            return format!("{problem}: the user needs readwrite on the key {}", self.url.key());
        } else if problem.contains("space exceeded") {
            "compact and defragment etcd, then disarm its alarm (etcdctl alarm disarm)"
        } else {
            return problem;
        };
        format!("{problem}: {way_out}")
    }

    /// Sends a request to the endpoint that is asked first. Returns status and text of the answer.
    fn post(&self, path: &str, body: &str) -> Result<(u16, String), CallError> {
        let request = self.agent.post(self.address(path)).content_type("application/json");
        let request = match &self.token {
            Some(token) => request.header("Authorization", token),
            None => request,
        };
        let mut response = request.send(body).map_err(unsent_or_undecided)?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).lossy_utf8(true).read_to_string();
        text.map(|text| (status, text)).map_err(|error| CallError::Undecided(error.to_string()))
    }

    /// Returns etcd's revision and the value of the document's key.
    fn range(&mut self) -> Result<etcd::RangeAnswer, StoreError> {
        let text = self.call(etcd::RANGE, &etcd::range(&self.url.key())).map_err(|error| self.error(error))?;
        etcd::range_answer(&text).map_err(|problem| StoreError::NoAnswer { at: self.at(), problem })
    }

    fn error(&self, error: CallError) -> StoreError {
        let at = self.at();
        match error {
            CallError::NotSent(problem) | CallError::Undecided(problem) => StoreError::NoAnswer { at, problem },
            CallError::Refused(problem) => StoreError::Refused { at, problem },
        }
    }

    fn document(&self, held: Option<&Held>) -> Result<Option<Document>, StoreError> {
        held.map(|held| store::document_of(&held.text, &self.at())).transpose()
    }

    /// Returns the document that a value is if it is newer than what is known.
    fn newer(&self, held: Option<&Held>, known: Option<Revision>) -> Result<Option<Document>, StoreError> {
        match (self.document(held)?, known) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(StoreError::Gone { at: self.at() }),
            (Some(document), Some(known)) if document.revision() < known => {
                Err(StoreError::WentBack { at: self.at(), known, found: document.revision() })
            }
            (Some(document), known) => Ok(Some(document).filter(|document| known < Some(document.revision()))),
        }
    }

    /// Waits for a change of the key after this revision of etcd. The first change counts, since it is newer than what was
    /// read at that revision.
    fn wait_for_change(&mut self, revision: i64, patience: Duration) -> Result<Option<WatchLine>, String> {
        let until = Instant::now() + patience;
        let request = self.agent.post(self.address(etcd::WATCH)).content_type("application/json");
        let request = match &self.token {
            Some(token) => request.header("Authorization", token),
            None => request,
        };
        let request = request.config().timeout_recv_body(Some(patience)).build();
        let response = request.send(etcd::watch(&self.url.key(), revision + 1)).map_err(|error| error.to_string())?;
        let mut lines = BufReader::new(response.into_body().into_reader().take(ANSWER_BYTES_MAX));
        let mut line = Vec::new();
        loop {
            line.clear();
            match lines.read_until(b'\n', &mut line) {
                Ok(0) => return Err("it closed the connection".into()),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => return Ok(None),
                Err(error) => return Err(error.to_string()),
            }
            match etcd::watch_line(&String::from_utf8_lossy(&line))? {
                WatchLine::Nothing if until <= Instant::now() => return Ok(None),
                WatchLine::Nothing => {}
                changed => return Ok(Some(changed)),
            }
        }
    }
}

impl DocumentStore for EtcdStore {
    fn read(&mut self) -> Result<Option<Document>, StoreError> {
        let answer = self.range()?;
        self.document(answer.held.as_ref())
    }

    fn compare_and_set(&mut self, expected: Option<Revision>, next: &Document) -> Result<Outcome, StoreError> {
        let at = self.at();
        let text = store::text_of(next, &at)?;
        // Read each time: etcd's revisions begin anew where it was restored from a backup, so that one from before proves
        // nothing. What was read now has the document's revision, and the comparison in etcd holds the value to it.
        let held = self.range()?.held;
        let mod_revision = held.as_ref().map_or(0, |held| held.mod_revision);
        if let Some(end) = store::refuse(self.document(held.as_ref())?, expected, next, &at) {
            return end;
        }
        let request = etcd::put_if(&self.url.key(), mod_revision, &text);
        // Twice does no harm: where the first is carried out, the others find another revision.
        let answer = match self.call(etcd::TXN, &request) {
            Ok(answer) => etcd::put_answer(&answer),
            Err(CallError::Undecided(problem)) => Err(problem),
            Err(error) => return Err(self.error(error)),
        };
        match answer {
            Ok(PutAnswer::Put) => Ok(Outcome::Stored),
            Ok(PutAnswer::Changed(held)) => {
                // The key has another revision of etcd than the one compared, so that no late request is carried out either.
                let held = self.document(held.as_ref())?;
                // Carried out before, perhaps, by a request that was sent twice, and overtaken since.
                if held.as_ref().is_some_and(|held| next.revision() < held.revision()) {
                    let problem = "a later document is there, and this one may have been before".into();
                    return Ok(Outcome::Unknown(StoreError::NoAnswer { at, problem }));
                }
                store::refuse(held, expected, next, &at).unwrap_or_else(|| {
                    let problem = "the same document was put there again meanwhile: try again".into();
                    Err(StoreError::Refused { at, problem })
                })
            }
            Err(problem) => Ok(Outcome::Unknown(StoreError::NoAnswer { at, problem })),
        }
    }

    fn wait_for_newer(&mut self, known: Option<Revision>, patience: Duration) -> Result<Option<Document>, StoreError> {
        let answer = self.range()?;
        if let Some(document) = self.newer(answer.held.as_ref(), known)? {
            return Ok(Some(document));
        }
        match self.wait_for_change(answer.revision, patience) {
            Ok(None) => Ok(None),
            Ok(Some(WatchLine::Put(held))) => self.newer(Some(&held), known),
            Ok(Some(WatchLine::Removed)) => self.newer(None, known),
            Ok(Some(WatchLine::Nothing | WatchLine::Ended(_))) | Err(_) => {
                // Another endpoint may do better; reading it will tell.
                self.turn_to_next();
                Err(StoreError::NoAnswer { at: self.at(), problem: "the watch has ended".into() })
            }
        }
    }
}

/// Returns what is trusted for TLS: the certificates of the address's file, or the system's.
fn tls(url: &EtcdUrl) -> Result<TlsConfig, StoreError> {
    let system = || SYSTEM_CERTIFICATES.iter().map(Path::new).find(|path| path.exists()).map(Path::to_owned);
    let path = url.ca.clone().or_else(system);
    let failed = |problem: String| StoreError::File { at: StoreUrl::Etcd(Box::new(url.clone())), problem };
    let path = path.ok_or_else(|| {
        failed(
            "this system has no certificates of authorities: name a file with ?ca=FILE, or install ca-certificates"
                .into(),
        )
    })?;
    let problem = |problem: &dyn fmt::Display| failed(format!("certificates in {}: {problem}", path.display()));
    let pem = fs::read(&path).map_err(|error| problem(&error))?;
    let items = ureq::tls::parse_pem(&pem).collect::<Result<Vec<_>, _>>().map_err(|error| problem(&error))?;
    let certificates = items.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return Err(problem(&"there are none: it ought to be a file in PEM"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = RootCerts::new_with_certs(&certificates);
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build())
}

/// Reads an answer whose status is an error's.
fn problem(status: u16, text: &str) -> Option<Problem> {
    (status != 200).then(|| etcd::problem(status, text))
}

/// Tells a request that can't have reached anybody from one that may have.
fn unsent_or_undecided(error: ureq::Error) -> CallError {
    let is_unsent = match &error {
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) | ureq::Error::Tls(_) => {
            true
        }
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => true,
        ureq::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
        ),
        _ => false,
    };
    let problem = error.to_string();
    if is_unsent { CallError::NotSent(problem) } else { CallError::Undecided(problem) }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests;
