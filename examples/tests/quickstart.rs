//! The quickstart, as its user sees it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn quickstart(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    command.args(args).current_dir(folder).output().expect("the quickstart can be started")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The columns of the table's line that begins with `extension`; the last are the most frequent word and its count.
fn row(output: &Output, extension: &str) -> Vec<String> {
    let stdout = stdout(output);
    let row = stdout.lines().find(|line| line.split_whitespace().next() == Some(extension));
    let row = row.unwrap_or_else(|| panic!("no row `{extension}` in:\n{stdout}\n{}", stderr(output)));
    row.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_file_is_indexed_in_a_second_process() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("deep/er")).unwrap();
    for n in 0..300 {
        fs::write(folder.path().join(format!("deep/{n}.txt")), "celery celery salt\nwith pepper\n").unwrap();
    }
    fs::write(folder.path().join("deep/er/One.TXT"), "celery").unwrap();
    fs::write(folder.path().join("README"), "").unwrap();
    fs::write(folder.path().join("a.bin"), [0, 1, 2]).unwrap();

    let output = quickstart(folder.path(), &["."]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(row(&output, "txt"), ["txt", "301", "9.1", "KiB", "601", "1501", "celery", "(601)"]);
    assert_eq!(row(&output, "(none)"), ["(none)", "1", "0", "B", "0", "0", "-"]);
    assert_eq!(row(&output, "bin"), ["bin", "1", "3", "B", "0", "0", "-"]);
    assert_eq!(row(&output, "total")[1], "303");
    assert!(stdout(&output).contains("303 tasks in "));
    assert!(stdout(&output).contains("worker stopped: exit status: 0"));
    let (producer, worker) = (row(&output, "producer"), row(&output, "worker"));
    assert_ne!(producer[2], worker[2], "two processes take part");
    assert_eq!(stderr(&output), "", "no progress bar where there is no terminal");

    let file = row(&output, "file").pop().unwrap();
    assert!(!Path::new(&file).exists(), "`{file}` is gone after the run");
}

#[test]
fn what_cannot_be_read_is_told_and_harms_nothing() {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("good.txt"), "celery\n").unwrap();
    symlink("nowhere", folder.path().join("broken.txt")).unwrap();
    symlink("/dev/zero", folder.path().join("endless.txt")).unwrap();
    symlink("..", folder.path().join("circle")).unwrap();
    // Some file systems take UTF-8 only.
    let odd = fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"odd\xff.txt")), "x").is_ok();
    fs::File::create(folder.path().join("huge.log")).unwrap().set_len(33 * 1024 * 1024).unwrap();

    let output = quickstart(folder.path(), &[]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(row(&output, "total")[1], "2", "the good one and the huge one");
    let stdout = stdout(&output);
    assert!(stdout.contains("0 binary, 1 too large to read"), "{stdout}");
    assert!(stdout.contains(&format!("not indexed: {}", 2 + u8::from(odd))), "{stdout}");
    assert!(stdout.contains("broken.txt: No such file or directory"), "{stdout}");
    assert!(stdout.contains("endless.txt: it is neither a file nor a folder"), "{stdout}");
}

#[test]
fn runs_at_the_same_time_do_not_meet() {
    let folders: Vec<TempDir> = (0..3).map(|_| TempDir::new().unwrap()).collect();
    for (at, folder) in folders.iter().enumerate() {
        for n in 0..=at {
            fs::write(folder.path().join(format!("{n}.txt")), "x").unwrap();
        }
    }
    let start = |folder: &TempDir| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
        command.arg(folder.path()).stdout(std::process::Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = folders.iter().map(start).collect();
    for (at, run) in running.into_iter().enumerate() {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(row(&output, "total")[1], (at + 1).to_string());
    }
}

#[test]
fn an_empty_folder_is_fine() {
    let folder = TempDir::new().unwrap();
    let output = quickstart(folder.path(), &[]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(row(&output, "total")[1], "0");
}

#[test]
fn a_wrong_call_is_told_with_code_2() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let cases: [(&[&str], &str); 4] = [
        (&["nowhere"], "`nowhere` cannot be opened: No such file or directory"),
        (&["file"], "`file` is not a folder"),
        (&["--fast"], "usage: quickstart [<folder>]"),
        (&[".", "."], "usage: quickstart [<folder>]"),
    ];
    for (args, message) in cases {
        let output = quickstart(folder.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(message), "{args:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}
