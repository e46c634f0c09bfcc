//! With a real etcd, and with a proxy in front of it that loses, delays and doubles requests and answers.

mod proxy;

use std::{
    collections::BTreeMap,
    env, fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use self::proxy::Proxy;
use super::*;
use crate::{
    io::topology::{
        file::tests::{first, with_weight},
        watch::Watch,
    },
    topology::store::{Settled, settle},
};

/// The longest time for anything that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An etcd of a test, which ends with it.
struct Etcd {
    child: Child,
    folder: PathBuf,
    port: u16,
    is_tls: bool,
}

/// Makes a certificate for 127.0.0.1 that signs itself. etcd's own, by `--auto-tls`, are of a curve (P-521) that ring has not.
fn make_certificate(folder: &Path) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=etcd of a test", "-addext", "subjectAltName=IP:127.0.0.1"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.arg("-keyout").arg(folder.join("key.pem")).arg("-out").arg(folder.join("cert.pem"));
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Etcd {
    /// Starts one, or says that there is none.
    fn start(test: &str) -> Option<Self> {
        Self::start_with(test, "http")
    }

    /// Starts one that speaks this scheme, with certificates of its own for https.
    fn start_with(test: &str, scheme: &str) -> Option<Self> {
        if Command::new("etcd").arg("--version").output().is_err() {
            crate::skip::skip("there is no etcd (Debian: etcd-server)");
            return None;
        }
        let folder = env::temp_dir().join(format!("trine-etcd-{}-{test}", std::process::id()));
        // Another process may take a port before etcd does.
        (0..10).find_map(|_| Self::launch(folder.clone(), scheme)).or_else(|| panic!("etcd does not start"))
    }

    fn launch(folder: PathBuf, scheme: &str) -> Option<Self> {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let port = free_port();
        let (clients, peers) = (format!("{scheme}://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
        // It ends with this process, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "etcd", "--logger", "zap", "--data-dir"]).arg(&folder);
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        if scheme == "https" {
            make_certificate(&folder);
            command.arg("--cert-file").arg(folder.join("cert.pem")).arg("--key-file").arg(folder.join("key.pem"));
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut etcd = Self { child, folder, port, is_tls: scheme == "https" };
        let since = Instant::now();
        while since.elapsed() < PATIENCE && etcd.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok()
                && etcd.try_store().is_ok_and(|mut store| store.read().is_ok())
            {
                return Some(etcd);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Returns the file of etcd's certificate.
    fn certificates(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    fn try_store(&self) -> Result<EtcdStore, StoreError> {
        let url = match self.is_tls {
            true => format!("etcds://127.0.0.1:{}/test?ca={}", self.port, self.certificates().display()),
            false => format!("etcd://127.0.0.1:{}/test", self.port),
        };
        let StoreUrl::Etcd(url) = url.parse().unwrap() else { panic!("{url} is etcd's") };
        EtcdStore::with_patience(&url, None, Duration::from_secs(10))
    }

    fn store(&self) -> EtcdStore {
        self.try_store().unwrap()
    }

    /// Returns the answer to a request that the store does not make.
    fn ask(&self, path: &str, body: &str) -> String {
        let (status, text) = self.store().post(path, body).ok().expect("etcd answers");
        assert_eq!(status, 200, "{text}");
        text
    }

    /// Returns every document that the key has ever had.
    fn history(&self) -> Vec<Document> {
        let key = self.store().url.key();
        let last = etcd::range_answer(&self.ask(etcd::RANGE, &etcd::range(&key))).unwrap().revision;
        let mut documents: Vec<Document> = Vec::new();
        for revision in 2..=last {
            let request = etcd::range(&key).replace('}', &format!(",\"revision\":\"{revision}\"}}"));
            let held = etcd::range_answer(&self.ask(etcd::RANGE, &request)).unwrap().held.unwrap();
            assert_eq!(held.mod_revision, revision, "nothing else is in this etcd");
            documents.push(Document::from_toml(&held.text).unwrap());
        }
        documents
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn store(url: &str, password: Option<&str>) -> EtcdStore {
    let StoreUrl::Etcd(url) = url.parse().unwrap() else { panic!("{url} is etcd's") };
    EtcdStore::with_patience(&url, password.map(str::to_owned), Duration::from_secs(10)).unwrap()
}

/// A document is created once, replaced by the next, and refused where the store has another.
#[test]
fn a_document_is_stored_and_read_back() {
    let Some(etcd) = Etcd::start("stored") else { return };
    let mut store = etcd.store();
    let one = first();
    let (two, other) = (with_weight(&one, 50), with_weight(&one, 60));
    assert_eq!(store.read(), Ok(None));
    assert_eq!(store.compare_and_set(Some(one.revision()), &two), Err(StoreError::Gone { at: store.at() }));
    assert_eq!(store.compare_and_set(None, &one), Ok(Outcome::Stored));
    assert_eq!(store.compare_and_set(None, &one), Ok(Outcome::Stored), "the same again");
    assert_eq!(store.compare_and_set(Some(one.revision()), &two), Ok(Outcome::Stored));
    assert_eq!(store.compare_and_set(Some(one.revision()), &other), Ok(Outcome::Conflict(Box::new(two.clone()))));
    assert_eq!(store.read(), Ok(Some(two)));
}

/// The thread that watches is told of each newer document, of one that is there already as of one to come.
#[test]
fn a_watch_is_told_of_newer_documents() {
    let Some(etcd) = Etcd::start("watch") else { return };
    let mut store = etcd.store();
    let (sender, seen) = mpsc::channel();
    let watch = Watch::start(Box::new(etcd.store()), None, move |document| sender.send(document).unwrap()).unwrap();
    let mut document = first();
    store.compare_and_set(None, &document).unwrap();
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(document.clone()));
    for weight in 1..20 {
        let next = with_weight(&document, weight);
        assert_eq!(store.compare_and_set(Some(document.revision()), &next), Ok(Outcome::Stored));
        assert_eq!(seen.recv_timeout(PATIENCE), Ok(next.clone()));
        document = next;
    }
    drop(watch);
}

/// With a user, a password and a role that may write, all is as without; anything less is refused, with the way out.
#[test]
fn a_user_and_a_password_are_asked_for() {
    let Some(etcd) = Etcd::start("user") else { return };
    etcd.ask("/v3/auth/user/add", r#"{"name":"root","password":"r"}"#);
    etcd.ask("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#);
    etcd.ask("/v3/auth/user/add", r#"{"name":"reader","password":"x"}"#);
    etcd.ask("/v3/auth/enable", "{}");
    let url = |user: &str| format!("etcd://{user}127.0.0.1:{}/test", etcd.port);
    let error = |user: &str, password| store(&url(user), password).read().unwrap_err().to_string();
    assert!(error("", None).contains("write etcd://USER@"), "{}", error("", None));
    assert!(error("root@", None).contains("--password-file"), "{}", error("root@", None));
    let wrong = error("root@", Some("hunter2"));
    assert!(wrong.contains("look at the user and the password") && !wrong.contains("hunter2"), "{wrong}");
    let reader = error("reader@", Some("x"));
    assert!(reader.contains("needs readwrite on the key /trine/test/topology"), "{reader}");
    let mut root = store(&url("root@"), Some("r"));
    assert_eq!(root.compare_and_set(None, &first()), Ok(Outcome::Stored));
    assert_eq!(root.wait_for_newer(None, PATIENCE), Ok(Some(first())));
    // A token that etcd has forgotten is replaced by another.
    root.token = Some("forgotten.1".into());
    assert_eq!(root.read(), Ok(Some(first())));
    assert!(!format!("{root:?}").contains("\"r\""), "{root:?}");
}

/// By TLS all is as without, with certificates that are trusted; with others nothing is said to whoever is there.
#[test]
fn certificates_are_checked() {
    if Command::new("openssl").arg("version").output().is_err() {
        return crate::skip::skip("there is no openssl to make certificates");
    }
    let Some(etcd) = Etcd::start_with("tls", "https") else { return };
    let mut trusted = etcd.store();
    assert_eq!(trusted.compare_and_set(None, &first()), Ok(Outcome::Stored));
    assert_eq!(trusted.wait_for_newer(None, PATIENCE), Ok(Some(first())));
    let Some(other) = Etcd::start_with("tls-other", "https") else { return };
    let untrusted = format!("etcds://127.0.0.1:{}/test?ca={}", etcd.port, other.certificates().display());
    let error = store(&untrusted, None).read().unwrap_err();
    assert!(matches!(&error, StoreError::NoAnswer { problem, .. } if problem.contains("certificate")), "{error}");
    let url = format!("etcds://127.0.0.1:{}/test?ca=/dev/null", etcd.port).parse().unwrap();
    let error = crate::io::topology::open(&url, None).err().expect("no certificates").to_string();
    assert!(error.contains("certificates in /dev/null: there are none"), "{error}");
}

/// Endpoints that refuse, or that never answer, are passed over.
#[test]
fn endpoints_are_tried_in_turn() {
    let Some(etcd) = Etcd::start("turn") else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    let url = format!("etcd://127.0.0.1:{},127.0.0.1:{silent_port},127.0.0.1:{}/test", free_port(), etcd.port);
    let StoreUrl::Etcd(url) = url.parse().unwrap() else { panic!("it is etcd's") };
    let mut store = EtcdStore::with_patience(&url, None, Duration::from_millis(200)).unwrap();
    assert_eq!(store.read(), Ok(None));
    assert_eq!(store.first, 2, "the one that answered is asked first from now on");
}

/// An error names each endpoint with its problem, and nothing was stored.
#[test]
fn nobody_there_is_an_error() {
    let mut store = store(&format!("etcd://127.0.0.1:{}/test", free_port()), None);
    let error = store.compare_and_set(None, &first()).unwrap_err();
    assert!(matches!(&error, StoreError::NoAnswer { problem, .. } if problem.contains("refused")), "{error}");
}

/// A lost answer leaves the outcome unknown, until a document of the proposed revision is read.
#[test]
fn a_lost_answer_is_an_unknown_outcome() {
    let Some(etcd) = Etcd::start("lost") else { return };
    let proxy =
        Proxy::start(etcd.port, |path| if path == etcd::TXN { proxy::Fault::LoseAnswer } else { proxy::Fault::None });
    let mut store = store(&format!("etcd://127.0.0.1:{}/test", proxy.port), None);
    let one = first();
    let outcome = store.compare_and_set(None, &one);
    assert!(matches!(outcome, Ok(Outcome::Unknown(_))), "{outcome:?}");
    assert_eq!(settle(&one, store.read().unwrap().as_ref()), Some(Settled::Stored));
}

/// Through a network that loses, delays and doubles requests and answers, several writers make one history: each revision is
/// stored once, and whoever believes that a document was stored, or was not, is right.
#[test]
fn writers_behind_a_bad_network_make_one_history() {
    const WRITERS: u16 = 3;
    const REVISIONS: u64 = 80;
    let Some(etcd) = Etcd::start("network") else { return };
    let seed = env::var("TRINE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("TRINE_TEST_SEED={seed}");
    etcd.store().compare_and_set(None, &first()).unwrap();
    let write = |number: u16| {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(number.into()));
        let proxy = Proxy::start(etcd.port, move |_| proxy::Fault::draw(&mut random));
        // The same twice: the second is a second try.
        let (port, mut beliefs) = (proxy.port, Vec::new());
        let mut store = store(&format!("etcd://127.0.0.1:{port},127.0.0.1:{port}/test"), None);
        let read = |store: &mut EtcdStore| loop {
            if let Ok(document) = store.read() {
                return document.expect("there is a document");
            }
        };
        let (mut document, mut attempt) = (read(&mut store), 0);
        while document.revision().number() < REVISIONS {
            // Another weight for each attempt, so that no two proposals are alike.
            attempt += 1;
            let next = with_weight(&document, attempt * WRITERS + number);
            match store.compare_and_set(Some(document.revision()), &next) {
                Ok(Outcome::Stored) => {
                    beliefs.push((next.clone(), Some(true)));
                    document = next;
                }
                Ok(Outcome::Conflict(newer)) => {
                    beliefs.push((next, Some(false)));
                    document = *newer;
                }
                Ok(Outcome::Unknown(_)) => {
                    let settled = loop {
                        document = read(&mut store);
                        if let Some(settled) = settle(&next, Some(&document)) {
                            break settled;
                        }
                        // Nobody else may write: the same proposal, again.
                        let _ = store.compare_and_set(Some(document.revision()), &next);
                    };
                    let is_same_revision = document.revision() == next.revision();
                    beliefs.push((next, is_same_revision.then_some(settled == Settled::Stored)));
                }
                Err(StoreError::NoAnswer { .. }) => {
                    beliefs.push((next, Some(false)));
                    document = read(&mut store);
                }
                Err(error) => panic!("{error}"),
            }
        }
        beliefs
    };
    let beliefs: Vec<(Document, Option<bool>)> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|number| scope.spawn(move || write(number))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let history: BTreeMap<Revision, Document> =
        etcd.history().into_iter().map(|document| (document.revision(), document)).collect();
    assert_eq!(history.len(), etcd.history().len(), "each revision was stored once");
    assert!(history.keys().copied().eq((1..=history.len() as u64).map(Revision::new)), "one after the other");
    let mut counts = [0; 3];
    for (document, believed) in &beliefs {
        let is_stored = history.get(&document.revision()) == Some(document);
        assert!(believed.is_none_or(|believed| believed == is_stored), "believed {believed:?}: {}", document.to_toml());
        counts[believed.map_or(2, usize::from)] += 1;
    }
    assert!(counts.iter().take(2).all(|&count| 0 < count), "the run got nowhere: {counts:?}");
}
