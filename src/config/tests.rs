use expect_test::expect;
use proptest::prelude::*;

use super::*;

fn get(config: &Config, name: &str) -> String {
    let setting = SETTINGS.iter().find(|setting| setting.name == name).unwrap();
    (setting.get)(config)
}

/// Flags, variables and the file say the same thing in the same words.
#[test]
fn a_setting_has_one_name_everywhere() {
    let mut by_flag = Config::default();
    by_flag.apply("max-memory", "100mb", "--max-memory").unwrap();
    let mut by_variable = Config::default();
    let variables = [("TRINE_MAX_MEMORY", "104857600"), ("TRINE_SERVICE_HOST", "10.0.0.1"), ("HOME", "/root")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(by_variable.apply_environment(variables).unwrap(), ["TRINE_SERVICE_HOST"]);
    let mut by_file = Config::default();
    by_file.apply_file("max-memory = \"100 MiB\"", "trine.toml").unwrap();
    assert_eq!(by_flag, by_variable);
    assert_eq!(by_flag, by_file);
    assert!(by_flag.is_given("max-memory") && !by_flag.is_given("port"));
}

#[test]
fn a_file_may_use_the_types_of_toml() {
    let mut config = Config::default();
    let text = "port = 7100\ncpus = [0, \"2-3\"]\nallow-wide-bind = true\nbind = \"0.0.0.0\"\n";
    config.apply_file(text, "trine.toml").unwrap();
    assert_eq!((config.port, config.cpus, config.allow_wide_bind), (7100, vec![0, 2, 3], true));
}

/// Each mistake is told with its place and the way out.
#[test]
fn a_mistake_is_refused() {
    let mut answers = String::new();
    for text in [
        "port 7000",
        "prot = 1",
        "max_memory = 1",
        "maxmemory = 1",
        "port = 0",
        "port = 7.5",
        "port = \"x\"",
        "core-port = 55536",
        "max-memory = \"1 parsec\"",
        "max-memory = \"99999999999gb\"",
        "bind = \"example.org\"",
        "eviction = \"lru\"",
        "cpus = \"3-1\"",
        "debug-commands = \"perhaps\"",
        "proto-max-bulk-len = 1",
        "config = \"other.toml\"",
        "http-hosts = \"db:7000\"",
        "\n# A password without quotes.\nrequirepass = hunter2 is it",
        "port = 7000\n\nrequirepass = \"hunter2",
        "requirepass \"hunter2\"",
        "requirepas = \"hunter2\"",
        "port = 7000\nport = 7001",
        "[requirepass]\nis = \"hunter2\"",
        "requirepass = 1979-05-27",
        "hunter2",
    ] {
        answers += &format!("{}\n", Config::default().apply_file(text, "trine.toml").unwrap_err());
    }
    for text in [
        "bind = \"0.0.0.0\"",
        "bind = \"0.0.0.0\"\nrequirepass = \"secret\"",
        "port = 65535",
        "port = 55530\ncores = 8",
        "core-port = 6999\ncores = 2",
        "receive-buffers = 100",
        "output-hard-limit = \"512kb\"",
        "max-request-bytes = \"100mb\"",
    ] {
        let mut config = Config::default();
        config.apply_file(text, "trine.toml").unwrap();
        answers += &format!("{}\n", config.validate().unwrap_err());
    }
    expect![[r#"
        trine.toml: line 1: port: not TOML: write NAME = VALUE, each name once, and texts in quotes
        trine.toml: line 1: prot: there is no such setting (trine serve --help lists all)
        trine.toml: line 1: max_memory: there is no such setting; is max-memory meant?
        trine.toml: line 1: maxmemory = 1: there is no such setting; is max-memory meant?
        trine.toml: line 1: port = 0: argument must be between 1 and 65535 inclusive
        trine.toml: line 1: port: write a text, a number, true or false, or a list of these
        trine.toml: line 1: port = "x": argument couldn't be parsed into an integer
        trine.toml: line 1: core-port = 55536: argument must be between 1 and 55535 inclusive
        trine.toml: line 1: max-memory = "1 parsec": argument must be a memory value, such as 100mb or 2GiB
        trine.toml: line 1: max-memory = "99999999999gb": argument must be a memory value, such as 100mb or 2GiB
        trine.toml: line 1: bind = "example.org": "example.org" is not one IP address, such as 127.0.0.1 or 0.0.0.0
        trine.toml: line 1: eviction = "lru": argument(s) must be one of the following: noeviction (none), allkeys-lfu (lfu)
        trine.toml: line 1: cpus = "3-1": "3-1" is not a list of CPUs: write their numbers, such as 0-3,6
        trine.toml: line 1: debug-commands = "perhaps": argument must be 'yes' or 'no'
        trine.toml: line 1: proto-max-bulk-len = 1: argument must be between 1 MiB and 512 MiB inclusive
        trine.toml: line 1: config: a configuration file cannot name another: put all settings into one
        trine.toml: line 1: http-hosts = "db:7000": argument must be host names, such as db.example.org or *.internal, without ports, and commas between them
        trine.toml: line 3: requirepass: not TOML: write NAME = VALUE, each name once, and texts in quotes
        trine.toml: line 3: requirepass: not TOML: write NAME = VALUE, each name once, and texts in quotes
        trine.toml: line 1: requirepass: not TOML: write NAME = VALUE, each name once, and texts in quotes
        trine.toml: line 1: requirepas: there is no such setting; is requirepass meant?
        trine.toml: line 2: port: not TOML: write NAME = VALUE, each name once, and texts in quotes
        trine.toml: line 1: requirepass: write a text, a number, true or false, or a list of these
        trine.toml: line 1: requirepass: write a text, a number, true or false, or a list of these
        trine.toml: line 1: not TOML: write NAME = VALUE, each name once, and texts in quotes
        --bind 0.0.0.0 lets anyone who reaches this address read and change every key: set a password with --requirepass, or say --allow-wide-bind where the network itself is trusted
        --bind 0.0.0.0 is no address that clients can be sent to: also give --announce HOST, the address or name they reach this server at, or a --topology
        1 core ports from 65535 on reach 65535: core ports end below 55536, because cluster clients add 10000 to them: choose a lower --port or --core-port
        8 core ports from 55531 on reach 55538: core ports end below 55536, because cluster clients add 10000 to them: choose a lower --port or --core-port
        port 7000 is the gateway's and a core's, of 2 from 6999 on: move --core-port
        receive-buffers 100: io_uring wants a power of two, such as 256
        output-hard-limit must be above output-soft-limit: raise it
        max-request-bytes must hold one argument of proto-max-bulk-len: raise it
    "#]].assert_eq(&answers);
}

#[test]
fn what_binds_beyond_loopback_is_protected_or_said_to_be() {
    for text in [
        "bind = \"::1\"",
        "bind = \"10.0.0.7\"\nrequirepass = \"secret\"",
        "bind = \"10.0.0.7\"\nallow-wide-bind = true",
        "bind = \"0.0.0.0\"\nallow-wide-bind = true\nannounce = \"node-7\"",
        "bind = \"0.0.0.0\"\nrequirepass = \"secret\"\ntopology = \"cluster.toml\"",
    ] {
        let mut config = Config::default();
        config.apply_file(text, "trine.toml").unwrap();
        assert_eq!(config.validate(), Ok(()), "{text}");
    }
}

/// CONFIG GET knows Redis's names and patterns; CONFIG SET changes all or nothing.
#[test]
fn clients_configure_as_they_would_redis() {
    let mut config = Config::default();
    let mut transcript = String::new();
    for pairs in [
        &[("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lfu")][..],
        &[("MAXMEMORY", "1gb"), ("maxclients", "0")],
        &[("maxmemory", "lots")],
        &[("maxmemory-policy", "allkeys-lru")],
        &[("maxmemory", "1"), ("maxmemory", "2")],
        &[("port", "1")],
        &[("nonsense", "1")],
        &[("save", "")],
        &[("appendonly", "yes")],
        &[("slowlog-log-slower-than", "-1"), ("requirepass", "secret")],
    ] {
        transcript += &format!("CONFIG SET {pairs:?}\n  {:?}\n", config.change(pairs));
    }
    for patterns in [&["MAXMEMORY*"][..], &["save", "appendonly"], &["slowlog-*", "requirepass"], &["*bulk*"], &["x"]] {
        let bytes: Vec<_> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        let found = config.matching(&bytes).into_iter();
        let found: Vec<_> = found.map(|(name, value)| (name, String::from_utf8(value).unwrap())).collect();
        transcript += &format!("CONFIG GET {patterns:?}\n  {found:?}\n");
    }
    expect![[r#"
        CONFIG SET [("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lfu")]
          Ok(())
        CONFIG SET [("MAXMEMORY", "1gb"), ("maxclients", "0")]
          Err("ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument must be between 1 and 1000000 inclusive")
        CONFIG SET [("maxmemory", "lots")]
          Err("ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value, such as 100mb or 2GiB")
        CONFIG SET [("maxmemory-policy", "allkeys-lru")]
          Err("ERR CONFIG SET failed (possibly related to argument 'maxmemory-policy') - there is noeviction (none) and allkeys-lfu (lfu), which keeps what is used and lets the rest go")
        CONFIG SET [("maxmemory", "1"), ("maxmemory", "2")]
          Err("ERR CONFIG SET failed (possibly related to argument 'maxmemory') - duplicate parameter")
        CONFIG SET [("port", "1")]
          Err("ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config")
        CONFIG SET [("nonsense", "1")]
          Err("ERR Unknown option or number of arguments for CONFIG SET - 'nonsense'")
        CONFIG SET [("save", "")]
          Ok(())
        CONFIG SET [("appendonly", "yes")]
          Err("ERR CONFIG SET failed (possibly related to argument 'appendonly') - this server only knows 'no': it follows from durability: yes with a log")
        CONFIG SET [("slowlog-log-slower-than", "-1"), ("requirepass", "secret")]
          Ok(())
        CONFIG GET ["MAXMEMORY*"]
          [("maxmemory", "104857600"), ("maxmemory-policy", "allkeys-lfu"), ("maxmemory-clients", "0"), ("maxmemory-samples", "12")]
        CONFIG GET ["save", "appendonly"]
          [("appendonly", "no"), ("save", "")]
        CONFIG GET ["slowlog-*", "requirepass"]
          [("requirepass", "secret"), ("slowlog-log-slower-than", "-1"), ("slowlog-max-len", "128")]
        CONFIG GET ["*bulk*"]
          [("proto-max-bulk-len", "536870912")]
        CONFIG GET ["x"]
          []
    "#]].assert_eq(&transcript);
}

/// There are never more clients than descriptors for them, whoever sets it.
#[test]
fn maxclients_is_lowered_to_what_there_are_descriptors_for() {
    let mut config = Config::default();
    assert!(!config.limit_maxclients(200_000) && config.maxclients == 100_000);
    assert!(config.limit_maxclients(7));
    assert_eq!(get(&config, "maxclients"), "7");
    let problem = config.change(&[("maxclients", "8")]).unwrap_err();
    assert!(problem.ends_with("not able to handle the specified number of clients, try with 7"), "{problem}");
    assert_eq!(config.change(&[("maxclients", "6")]), Ok(()));
    assert_eq!((config.change(&[("maxclients", "7")]), config.maxclients), (Ok(()), 7));
}

/// A password may be any bytes, and stays what it is; what must be text is refused where it is none, and the setting is named.
#[test]
fn what_is_no_text_is_taken_as_it_is_or_refused() {
    let bytes = &b"p\xffss"[..];
    let mut config = Config::default();
    assert_eq!(config.apply_environment([("TRINE_REQUIREPASS".to_owned(), bytes)]), Ok(Vec::new()));
    assert_eq!(config.requirepass.0, bytes);
    config.change(&[(&b"requirepass"[..], &b"\xff\xfe"[..])]).unwrap();
    assert_eq!(config.matching(&[b"requirepass"]), [("requirepass", b"\xff\xfe".to_vec())]);
    for setting in SETTINGS.iter().filter(|setting| setting.bytes.is_none()) {
        let mut config = Config::default();
        let error = config.apply_environment([(setting.variable(), bytes)]).unwrap_err().to_string();
        assert!(error.starts_with(&setting.variable()) && error.ends_with("argument must be text in UTF-8"), "{error}");
        assert_eq!(config, Config::default(), "{}", setting.name);
    }
    let answer = config.change(&[(&b"timeout"[..], &b"\xff"[..])]).unwrap_err();
    assert!(answer.contains("'timeout') - argument must be text"), "{answer}");
}

#[test]
fn a_password_is_not_logged() {
    let config = Config { requirepass: Password("secret".into()), ..Config::default() };
    assert!(!format!("{config:?}").contains("secret"));
}

/// Kubernetes and `docker --link` set variables of our settings' names for a service called `trine`.
#[test]
fn variables_of_a_link_are_no_settings() {
    let variables = [("TRINE_PORT", "tcp://10.96.0.7:7000"), ("TRINE_NAME", "/web/trine"), ("TRINE_CORES", "2")];
    let mut config = Config::default();
    let unknown = config.apply_environment(variables.map(|(name, value)| (name.into(), value))).unwrap();
    let link = "(of Kubernetes or docker --link)";
    assert_eq!(unknown, [format!("TRINE_PORT=tcp://10.96.0.7:7000 {link}"), format!("TRINE_NAME=/web/trine {link}")]);
    assert_eq!((config.port, config.name.as_str(), config.cores), (7000, "trine", Some(2)));
}

#[test]
fn a_placement_that_is_of_no_use_is_told() {
    for (cpus, cores, doubt) in [
        ("", None, None),
        ("0-1", None, None),
        ("", Some(2), None),
        ("any", Some(2), None),
        ("", Some(99), Some("99 cores share 2 CPUs: they wait for each other; --cores 2 is faster")),
        ("1", Some(2), Some("2 cores share 1 CPU: they wait for each other; --cores 1 is faster")),
        ("0-1", Some(1), Some("--cpus: 1 will not be used, since --cores is 1")),
    ] {
        let mut config = Config { cores, ..Config::default() };
        config.apply("cpus", cpus, "").unwrap();
        assert_eq!(config.doubt_of_placement(&[0, 1]).as_deref(), doubt);
    }
}

/// A level that is none would log nothing, and say nothing about it.
#[test]
fn a_level_of_the_log_that_is_none_is_refused() {
    for text in ["", "INFO", "warn,trine::io=debug", "trine", "glommio::executor", "off", "trine[span{a=1}]=trace"] {
        assert_eq!(Config::default().apply("log", text, ""), Ok(()), "{text}");
    }
    for text in ["loud", "warn,loud", "verbose"] {
        let problem = Config::default().apply("log", text, "--log").unwrap_err().to_string();
        assert!(problem.contains("is no level"), "{problem}");
    }
}

#[test]
fn cores_may_go_without_a_cpu_of_their_own() {
    let mut config = Config::default();
    config.apply("cpus", "ANY", "").unwrap();
    assert_eq!((config.is_pinned, get(&config, "cpus").as_str()), (false, "any"));
    assert_eq!(config.placement(&[4, 5]), [4, 5]);
    config.apply("cpus", "3", "").unwrap();
    assert_eq!((config.is_pinned, get(&config, "cpus").as_str()), (true, "3"));
}

#[test]
fn cores_share_cpus_where_there_are_too_few() {
    let mut config = Config::default();
    assert_eq!(config.placement(&[4, 5]), [4, 5]);
    config.cores = Some(3);
    assert_eq!(config.placement(&[4, 5]), [4, 5, 4]);
    config.cpus = vec![7];
    assert_eq!(config.placement(&[4, 5]), [7, 7, 7]);
}

/// Every setting takes the value that it shows: CONFIG GET, a restart and a file agree.
#[test]
fn every_setting_takes_what_it_shows() {
    let default = Config::default();
    for setting in SETTINGS {
        let shown = (setting.get)(&default);
        let optional = ["core-port", "cores", "seed"].contains(&setting.name);
        if !(optional && shown.is_empty()) {
            let mut config = Config::default();
            (setting.set)(&mut config, &shown).unwrap();
            assert_eq!(config, default, "{}", setting.name);
        }
        let is_limit = matches!(setting.kind, Kind::Size) && setting.name != "max-memory";
        assert!(!is_limit || !setting.reason.is_empty(), "{} has no reason", setting.name);
        assert!(!setting.help.ends_with('.'), "{}", setting.name);
    }
    let mut names: Vec<_> =
        SETTINGS.iter().flat_map(|row| [Some(row.name), row.redis.as_ref().map(|it| it.name)]).collect();
    names.retain(Option::is_some);
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "no name means two things");
    assert_eq!(default.validate(), Ok(()));
    assert_eq!(CORE_PORT_END, crate::topology::CORE_PORT_END);
}

#[test]
fn the_documentation_names_every_setting_with_its_default() {
    let text = settings_as_markdown();
    assert_eq!(text.lines().count(), SETTINGS.len() + 2);
    assert!(text.contains("| `proto-max-bulk-len` | `512 MiB` | The longest argument"), "{text}");
}

proptest! {
    #[test]
    fn sizes_for_people_can_be_read_back(bytes in any::<u64>(), shift in 0u32..40) {
        let bytes = bytes >> 24 << shift;
        prop_assert_eq!(units::size(&units::size_for_people(bytes)), Ok(bytes));
    }

    /// Any value in a file is refused or applied, and an applied one holds.
    #[test]
    fn any_value_is_refused_or_applied(row in 0..SETTINGS.len(), text in r"[0-9a-z:.,-]{0,12}") {
        let mut config = Config::default();
        let name = SETTINGS[row].name;
        if config.apply(name, &text, name).is_ok() {
            let shown = get(&config, name);
            let mut again = Config::default();
            if !shown.is_empty() {
                again.apply(name, &shown, name).unwrap();
                prop_assert_eq!(again, config);
            }
        }
    }
}

/// A setting that Redis has and Trine lacks is known by its one value, which can be set again, and says why there is no other.
#[test]
fn settings_of_redis_that_are_none_here_say_why() {
    use super::foreign::FOREIGN;
    assert!(FOREIGN.is_sorted_by_key(|foreign| foreign.name));
    for foreign in FOREIGN {
        let mut config = Config::default();
        let found = config.matching(&[foreign.name.as_bytes()]);
        assert_eq!(found, [(foreign.name, foreign.value(&config).into_bytes())], "it is no setting of ours");
        assert_eq!(config.change(&[(foreign.name, &found[0].1)]), Ok(()), "{}", foreign.name);
        let error = config.change(&[(foreign.name, "17 of something")]).expect_err("another value");
        assert!(error.contains(foreign.why) && !error.contains('\n'), "{error}");
    }
    let value =
        |config: &Config, name: &str| String::from_utf8(config.matching(&[name.as_bytes()])[0].1.clone()).unwrap();
    let mut config = Config { allow_wide_bind: true, dir: Some("d".into()), ..Config::default() };
    assert_eq!((value(&config, "protected-mode"), value(&config, "appendonly")), ("no".into(), "yes".into()));
    assert_eq!(config.change(&[("tcp-keepalive", "60"), ("hz", "10")]), Ok(()));
    assert_eq!(value(&config, "tcp-keepalive"), "60");
    let refused = config.change(&[("maxmemory-policy", "volatile-ttl")]).expect_err("there is none such");
    assert!(refused.contains("allkeys-lfu"), "{refused}");
}
