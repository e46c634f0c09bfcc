use super::*;
use expect_test::expect;

/// A path for a test's directory: nothing is there at first, and it is removed on drop.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trine-{}-{test}", std::process::id()));
        let _none = fs::remove_dir_all(&path);
        Self(path)
    }

    /// Returns a message with the path replaced by `DIR`.
    fn without_path(&self, message: &str) -> String {
        message.replace(self.0.to_str().unwrap(), "DIR")
    }

    fn refusal(&self, owner: &Owner) -> String {
        self.without_path(&Directory::open(&self.0, owner).unwrap_err())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn owner() -> Owner {
    Owner { server: "one".into(), cluster: String::new(), slots: vec![vec![0..=8191], vec![8192..=16383]] }
}

#[test]
fn a_directory_is_found_as_it_was_left() {
    let place = Place::new("again");
    let path = place.0.join("deep/er");
    let directory = Directory::open(&path, &owner()).unwrap();
    let id = directory.id();
    assert_eq!((directory.shards(), directory.server()), (2, "one"));
    let files = directory.shard(1);
    assert_eq!(files.list().unwrap(), vec![]);
    for (kind, number) in [(FileKind::Segment, 2), (FileKind::Segment, 1), (FileKind::Snapshot, 0xa3f00)] {
        fs::write(files.path_of(kind, number), vec![0; number as usize % 100]).unwrap();
        fs::write(files.path().join(names::unfinished(&names::name_of(kind, number + 10))), "half of it").unwrap();
    }
    fs::write(files.path().join(names::spare_name(7)), "").unwrap();
    fs::write(files.path().join(names::unfinished(&names::spare_name(8))), "").unwrap();
    fs::write(files.path().join("notes.tmp"), "somebody else's").unwrap();
    files.sync().unwrap();
    drop(directory);

    // `look` removes nothing.
    let looked_at = Directory::look(&path).unwrap();
    assert_eq!((looked_at.id(), names_in(&files.path).unwrap().len()), (id, 9));
    let directory = Directory::open(&path, &owner()).unwrap();
    assert_eq!(directory.id(), id);
    let listed: Vec<_> =
        directory.shard(1).list().unwrap().into_iter().map(|file| (file.kind, file.number, file.bytes)).collect();
    assert_eq!(
        listed,
        [(FileKind::Segment, 1, 1), (FileKind::Segment, 2, 2), (FileKind::Snapshot, 0xa3f00, 0xa3f00 % 100)]
    );
    assert!(directory.shard(1).names().unwrap().contains(&names::spare_name(7)));
    assert_eq!(names_in(&files.path).unwrap().len(), 5);
}

#[test]
fn one_server_at_a_time_uses_a_directory() {
    let place = Place::new("lock");
    let first = Directory::open(&place.0, &owner()).unwrap();
    let message = place.refusal(&owner());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let process = format!("process {} on {host}", std::process::id());
    expect!["data directory DIR: in use by PROCESS: stop that one first, or choose another directory"]
        .assert_eq(&message.replace(&process, "PROCESS"));
    let looked_at = Directory::look(&place.0).unwrap();
    assert_eq!(looked_at.used_by(), Some(process), "looking needs no lock");
    drop(first);
    assert_eq!((looked_at.used_by(), looked_at.used_by()), (None, None), "nor does it leave one behind");
    Directory::open(&place.0, &owner()).unwrap();
}

#[test]
fn another_owner_is_refused_and_other_neighbours_are_noted() {
    let place = Place::new("owner");
    drop(Directory::open(&place.0, &owner()).unwrap());
    expect![
        "data directory DIR: belongs to server one, and this is two: start with --name one, or begin another directory"
    ]
    .assert_eq(&place.refusal(&Owner { server: "two".into(), ..owner() }));
    let joined = Owner { cluster: "one,two".into(), ..owner() };
    let id = Directory::open(&place.0, &joined).unwrap().id();
    let text = fs::read_to_string(place.0.join(IDENTITY)).unwrap();
    assert!(text.contains("cluster = \"one,two\""), "{text}");
    assert_eq!(Directory::look(&place.0).unwrap().id(), id);
}

/// A start that ended at any point of creating a directory leaves one that the next start completes.
#[test]
fn a_directory_that_was_half_made_is_made() {
    let place = Place::new("half");
    let steps: [&dyn Fn(); 5] = [
        &|| fs::create_dir(&place.0).unwrap(),
        &|| fs::write(place.0.join(LOCK), "").unwrap(),
        &|| fs::create_dir(place.0.join("shard-0")).unwrap(),
        &|| fs::create_dir(place.0.join("shard-1")).unwrap(),
        &|| fs::write(place.0.join("trine.toml.tmp"), "# Whose").unwrap(),
    ];
    for count in 0..=steps.len() {
        let _none = fs::remove_dir_all(&place.0);
        steps[..count].iter().for_each(|step| step());
        assert_eq!(Directory::open(&place.0, &owner()).map(|directory| directory.shards()), Ok(2));
        assert!(!place.0.join("trine.toml.tmp").exists());
    }
}

#[test]
fn what_is_missing_is_not_made_anew() {
    let place = Place::new("missing");
    drop(Directory::open(&place.0, &owner()).unwrap());
    fs::write(place.0.join("shard-0/log-0000000000000001"), "").unwrap();
    fs::remove_dir(place.0.join("shard-1")).unwrap();
    expect!["data directory DIR: DIR/shard-1 is missing: restore it from a backup"].assert_eq(&place.refusal(&owner()));
    fs::remove_file(place.0.join(IDENTITY)).unwrap();
    expect!["data directory DIR: there is data in shard-0 and no trine.toml: restore that from a backup"]
        .assert_eq(&place.refusal(&owner()));
    fs::write(place.0.join(IDENTITY), "version = 7").unwrap();
    expect!["data directory DIR: trine.toml: written by a newer Trine (format 7, this one knows 1): start that one"]
        .assert_eq(&place.refusal(&owner()));
}

#[test]
fn a_place_that_cannot_be_used_is_refused_in_one_line() {
    let place = Place::new("file");
    fs::write(&place.0, "").unwrap();
    let look = |path: &Path| place.without_path(&Directory::look(path).unwrap_err());
    expect!["data directory DIR: a file is in the way: choose another directory"].assert_eq(&place.refusal(&owner()));
    expect!["data directory DIR: this is a file, and a directory is needed"].assert_eq(&look(&place.0));
    let below = Place(place.0.join("below"));
    expect!["data directory DIR: a file is in the way: choose another directory"].assert_eq(&below.refusal(&owner()));
    fs::remove_file(&place.0).unwrap();
    expect!["data directory DIR: No such file or directory (os error 2)"].assert_eq(&look(&place.0));
    fs::create_dir(&place.0).unwrap();
    expect!["data directory DIR: there is no trine.toml: no data of Trine"].assert_eq(&look(&place.0));
    for (error, message) in [
        (Errno::ACCESS, "this process may not write there: give its user the directory, or choose another"),
        (Errno::ROFS, "the file system is read-only: mount it for writing, or choose another directory"),
        (Errno::NOSPC, "the disk is full: make room, or choose another directory"),
    ] {
        assert_eq!(unusable(Path::new("/d"), &error.into()), format!("data directory /d: {message}"));
    }
}
