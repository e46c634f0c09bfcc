use super::{
    etcd::{Held, Problem, PutAnswer, RangeAnswer, WatchLine},
    *,
};
use crate::topology::{document::strategies::started, steps::Step};

fn url() -> StoreUrl {
    StoreUrl::File("/x".into())
}

/// Three documents of one cluster, each made from the one before.
fn documents() -> [Document; 3] {
    let one = started(&[1, 1], 1);
    let two = one.with(&Step::SetCopies(2)).unwrap();
    let three = two.with(&Step::SetCopies(1)).unwrap();
    [one, two, three]
}

/// An address that was read is written as it was, with the port that was left out.
#[test]
fn addresses_are_read() {
    for (text, written) in [
        ("file:cluster.toml", "file:cluster.toml"),
        ("file:/var/lib/x.toml", "file:/var/lib/x.toml"),
        ("file:///var/lib/x.toml", "file:/var/lib/x.toml"),
        ("etcd://h/c", "etcd://h:2379/c"),
        (
            "etcd://h:1,10.0.0.1:2,[fd00::6]:3,[fd00::7]/my-c.1_x",
            "etcd://h:1,10.0.0.1:2,[fd00::6]:3,[fd00::7]:2379/my-c.1_x",
        ),
        ("etcds://me@h/c?ca=/etc/ca.pem", "etcds://me@h:2379/c?ca=/etc/ca.pem"),
    ] {
        let url: StoreUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(url.to_string(), written);
        assert_eq!(written.parse(), Ok(url));
    }
}

/// Each mistake is refused with the way out.
#[test]
fn wrong_addresses_are_refused() {
    let endpoint = |text: &str| UrlError::Endpoint { text: text.into() };
    for (text, error) in [
        ("cluster.toml", UrlError::Scheme),
        ("http://h/c", UrlError::Scheme),
        ("file:", UrlError::NoPath),
        ("file:folder/", UrlError::NoPath),
        ("file://host/x", UrlError::FileHost),
        ("etcd://", endpoint("")),
        ("etcd://h:0/c", endpoint("h:0")),
        ("etcd://h:x/c", endpoint("h:x")),
        ("etcd://h,,i/c", endpoint("")),
        ("etcd://fd00::6/c", endpoint("fd00::6")),
        ("etcd://h", UrlError::Name { text: String::new() }),
        ("etcd://h/a/b", UrlError::Name { text: "a/b".into() }),
        ("etcd://h/c?ca=x", UrlError::Parameter { text: "ca".into() }),
        ("etcds://h/c?password=x", UrlError::Parameter { text: "password".into() }),
    ] {
        assert_eq!(text.parse::<StoreUrl>(), Err(error), "{text}");
    }
}

/// A password in an address is refused, and is not repeated in the error.
#[test]
fn a_password_in_an_address_is_not_shown() {
    for text in [
        "etcd://me:hunter2@h/c",
        "etcd://:hunter2@h/c",
        "etcds://h/c?password=hunter2",
        "etcd://me:hunter2@@h/c",
        "etcd://me:hunter2?@h/c",
        "etcd://me:1/hunter2@h/c",
    ] {
        let error = text.parse::<StoreUrl>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

/// A document replaces the one that it was made from, and no other.
#[test]
fn a_document_replaces_the_one_before_it() {
    let [one, two, three] = documents();
    let refuse = |held: Option<&Document>, expected, next| refuse(held.cloned(), expected, next, &url());
    let first = Document::plan(one.members().iter().map(|member| member.server.clone()).collect(), 1).unwrap();
    assert_eq!(refuse(None, None, &first), None);
    assert_eq!(refuse(Some(&one), Some(one.revision()), &two), None);
    assert_eq!(refuse(Some(&three), Some(one.revision()), &two), Some(Ok(Outcome::Conflict(Box::new(three.clone())))));
    assert_eq!(refuse(Some(&one), None, &first), Some(Ok(Outcome::Conflict(Box::new(one.clone())))));
    assert_eq!(refuse(None, Some(one.revision()), &two), Some(Err(StoreError::Gone { at: url() })));
    let (known, found) = (two.revision(), one.revision());
    assert_eq!(refuse(Some(&one), Some(known), &three), Some(Err(StoreError::WentBack { at: url(), known, found })));
}

/// A proposal whose answer was lost is found to be stored by the next try.
#[test]
fn the_same_document_again_is_stored_already() {
    let [one, two, _] = documents();
    assert_eq!(refuse(Some(two.clone()), Some(one.revision()), &two, &url()), Some(Ok(Outcome::Stored)));
}

/// An outcome is unknown until the store holds the proposed revision or one above it.
#[test]
fn an_unknown_outcome_is_settled_by_the_revision() {
    let [one, two, three] = documents();
    let other = one.with(&Step::SetCopies(1)).unwrap();
    assert_eq!(other.revision(), two.revision());
    assert_eq!(settle(&two, None), None);
    assert_eq!(settle(&two, Some(&one)), None);
    assert_eq!(settle(&two, Some(&two)), Some(Settled::Stored));
    assert_eq!(settle(&two, Some(&other)), Some(Settled::Overtaken));
    assert_eq!(settle(&two, Some(&three)), Some(Settled::Overtaken));
}

/// Requests are as etcd's gateway wants them.
#[test]
fn requests_to_etcd() {
    expect_test::expect![[r#"
        {"key":"L2E="}
        {"compare":[{"key":"L2E=","mod_revision":"7","result":"EQUAL","target":"MOD"}],"failure":[{"request_range":{"key":"L2E="}}],"success":[{"request_put":{"key":"L2E=","value":"djE="}}]}
        {"create_request":{"key":"L2E=","start_revision":"8"}}
        {"name":"me","password":"\"x"}
    "#]]
    .assert_eq(&format!(
        "{}\n{}\n{}\n{}\n",
        etcd::range("/a"),
        etcd::put_if("/a", 7, "v1"),
        etcd::watch("/a", 8),
        etcd::authenticate("me", "\"x")
    ));
}

/// Answers as etcd 3.4 has given them.
#[test]
fn answers_of_etcd_are_read() {
    let header = r#""header":{"cluster_id":"1","member_id":"2","revision":"9","raft_term":"2"}"#;
    let kv = r#"{"key":"L2E=","create_revision":"2","mod_revision":"7","version":"3","value":"djE="}"#;
    let held = Held { mod_revision: 7, text: "v1".into() };
    let range = |text: String| etcd::range_answer(&text).unwrap();
    assert_eq!(range(format!("{{{header}}}")), RangeAnswer { revision: 9, held: None });
    assert_eq!(range(format!("{{{header},\"kvs\":[{kv}],\"count\":\"1\"}}")).held, Some(held.clone()));
    let put = |text: String| etcd::put_answer(&text).unwrap();
    assert_eq!(
        put(format!("{{{header},\"succeeded\":true,\"responses\":[{{\"response_put\":{{{header}}}}}]}}")),
        PutAnswer::Put
    );
    let failed =
        format!("{{{header},\"responses\":[{{\"response_range\":{{{header},\"kvs\":[{kv}],\"count\":\"1\"}}}}]}}");
    assert_eq!(put(failed), PutAnswer::Changed(Some(held.clone())));
    assert_eq!(
        put(format!("{{{header},\"responses\":[{{\"response_range\":{{{header}}}}}]}}")),
        PutAnswer::Changed(None)
    );
    let line = |text: String| etcd::watch_line(&text).unwrap();
    assert_eq!(line(format!("{{\"result\":{{{header},\"created\":true}}}}")), WatchLine::Nothing);
    assert_eq!(line(format!("{{\"result\":{{{header},\"events\":[{{\"kv\":{kv}}}]}}}}")), WatchLine::Put(held));
    let removed = format!(
        "{{\"result\":{{{header},\"events\":[{{\"kv\":{kv}}},{{\"type\":\"DELETE\",\"kv\":{{\"key\":\"L2E=\"}}}}]}}}}"
    );
    assert_eq!(line(removed), WatchLine::Removed);
    let compacted = format!("{{\"result\":{{{header},\"canceled\":true,\"compact_revision\":\"5\"}}}}");
    assert_eq!(line(compacted), WatchLine::Ended("cancelled".into()));
    assert_eq!(line(r#"{"error":{"grpc_code":14,"message":"gone"}}"#.into()), WatchLine::Ended("gone".into()));
}

/// An error says whether the request may have been carried out.
#[test]
fn errors_of_etcd_are_told_apart() {
    let problem = |status, code: i64, message: &str| {
        etcd::problem(status, &format!(r#"{{"error":"{message}","code":{code},"message":"{message}"}}"#))
    };
    let timed_out = "etcdserver: request timed out";
    assert_eq!(problem(503, 14, timed_out), Problem::Undecided(timed_out.into()));
    assert_eq!(
        problem(403, 7, "etcdserver: permission denied"),
        Problem::Refused("etcdserver: permission denied".into())
    );
    assert_eq!(problem(401, 16, "invalid auth token"), Problem::NotAuthenticated("invalid auth token".into()));
    assert_eq!(etcd::problem(502, "<html>"), Problem::Undecided("HTTP status 502".into()));
    assert_eq!(etcd::problem(404, "404 page not found"), Problem::Refused("HTTP status 404".into()));
}

/// Nothing that a server sends makes the reader panic.
#[test]
fn answers_that_are_none_are_refused() {
    for text in [
        "",
        "{}",
        "[]",
        "null",
        "{\"header\":{\"revision\":\"x\"}}",
        "{\"header\":{\"revision\":\"1\"},\"kvs\":[{\"value\":\"%\"}]}",
    ] {
        assert!(etcd::range_answer(text).is_err(), "{text}");
        assert!(etcd::put_answer(text).is_err(), "{text}");
        assert!(etcd::token(text).is_err(), "{text}");
        let _ = etcd::watch_line(text);
    }
}
