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
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
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
        trine.toml: not TOML: TOML parse error at line 1, column 6
          |
        1 | port 7000
          |      ^
        key with no value, expected `=`
        trine.toml: prot: there is no such setting (trine serve --help lists all)
        trine.toml: max_memory: there is no such setting; is max-memory meant?
        trine.toml: maxmemory: there is no such setting; is max-memory meant?
        trine.toml: port = 0: argument must be between 1 and 65535 inclusive
        trine.toml: port = 7.5: write a text, a number, true or false, or a list of these
        trine.toml: port = "x": argument couldn't be parsed into an integer
        trine.toml: core-port = 55536: argument must be between 1 and 55535 inclusive
        trine.toml: max-memory = "1 parsec": argument must be a memory value, such as 100mb or 2GiB
        trine.toml: max-memory = "99999999999gb": argument must be a memory value, such as 100mb or 2GiB
        trine.toml: bind = "example.org": "example.org" is not one IP address, such as 127.0.0.1 or 0.0.0.0
        trine.toml: eviction = "lru": argument(s) must be one of the following: noeviction (none), allkeys-lfu (lfu)
        trine.toml: cpus = "3-1": "3-1" is not a list of CPUs: write their numbers, such as 0-3,6
        trine.toml: debug-commands = "perhaps": argument must be 'yes' or 'no'
        trine.toml: proto-max-bulk-len = 1: argument must be between 1 MiB and 512 MiB inclusive
        trine.toml: config = "other.toml": a configuration file cannot name another: put all settings into one
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
        transcript += &format!("CONFIG GET {patterns:?}\n  {:?}\n", config.matching(&bytes));
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

#[test]
fn a_password_is_not_logged() {
    let config = Config { requirepass: Password("secret".into()), ..Config::default() };
    assert!(!format!("{config:?}").contains("secret"));
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

/// What a setting shows, it also takes: CONFIG GET, a restart and a file agree.
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

    /// Whatever is written in a file, it is refused or applied, and what was applied holds.
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

/// What Redis can be set to and Trine cannot is known by its one value, which can be set again, and says why there is no other.
#[test]
fn settings_of_redis_that_are_none_here_say_why() {
    use super::foreign::FOREIGN;
    assert!(FOREIGN.is_sorted_by_key(|foreign| foreign.name));
    for foreign in FOREIGN {
        let mut config = Config::default();
        let found = config.matching(&[foreign.name.as_bytes()]);
        assert_eq!(found, [(foreign.name, foreign.value(&config))], "it is no setting of ours");
        assert_eq!(config.change(&[(foreign.name, &found[0].1)]), Ok(()), "{}", foreign.name);
        let error = config.change(&[(foreign.name, "17 of something")]).expect_err("another value");
        assert!(error.contains(foreign.why) && !error.contains('\n'), "{error}");
    }
    let value = |config: &Config, name: &str| config.matching(&[name.as_bytes()])[0].1.clone();
    let mut config = Config { allow_wide_bind: true, dir: Some("d".into()), ..Config::default() };
    assert_eq!((value(&config, "protected-mode"), value(&config, "appendonly")), ("no".into(), "yes".into()));
    assert_eq!(config.change(&[("tcp-keepalive", "60"), ("hz", "10")]), Ok(()));
    assert_eq!(value(&config, "tcp-keepalive"), "60");
    let refused = config.change(&[("maxmemory-policy", "volatile-ttl")]).expect_err("there is none such");
    assert!(refused.contains("allkeys-lfu"), "{refused}");
}
