//! The C ABI as hosts meet it: headers, symbols, misuse, memcheck, and consumers by every route. Needs gcc, g++, cmake,
//! pkg-config, readelf, nm and valgrind (`make setup`).
#![cfg(all(target_os = "linux", feature = "capi"))]

mod zoo;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder of its own for a test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi").join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// The folder with the shared library that this test run built.
fn library() -> PathBuf {
    let here = std::env::current_exe().expect("a path");
    let folder = here.parent().expect("a folder").to_owned();
    assert!(folder.join("libpolyscore.so").exists(), "cargo built no libpolyscore.so in {}", folder.display());
    let name = folder.join("libpolyscore.so.0");
    if !name.exists() {
        // Another test may have made it meanwhile.
        let _ = std::os::unix::fs::symlink("libpolyscore.so", &name);
    }
    folder
}

/// The zoo's model that the C programs know.
fn model() -> PathBuf {
    zoo::named("mmoe").path
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (make setup installs what is missing)"))
}

/// Runs a command that must succeed; gives what it printed.
fn succeed(command: &mut Command) -> String {
    let output = run(command);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1"];

/// Compiles `sources` of tests/abi into `program`, linked with the library.
fn compile(compiler: &str, standard: &str, extra: &[&str], sources: &[&str], program: &Path) {
    let mut command = Command::new(compiler);
    command.arg(format!("-std={standard}")).args(WARNINGS).args(extra);
    command.arg("-I").arg(root().join("include"));
    command.args(sources.iter().map(|source| root().join("tests/abi").join(source)));
    command.arg("-o").arg(program).arg("-L").arg(library());
    command.args(["-lpolyscore", "-lm", "-pthread", "-ldl"]);
    command.arg(format!("-Wl,-rpath,{}", library().display()));
    succeed(&mut command);
}

#[test]
fn committed_headers_are_what_the_sources_say() {
    let folder = folder("headers");
    succeed(Command::new(root().join("tests/abi/headers.sh")).arg(&folder));
    for header in ["polyscore.h", "polyscore_dl.h"] {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(header)).expect("a header");
        assert!(read(&root().join("include")) == read(&folder), "{header} is out of date: run `make headers`");
    }
}

#[test]
fn headers_compile_in_every_standard_without_a_warning() {
    let folder = folder("standards");
    for standard in ["c99", "c11", "c17"] {
        compile("gcc", standard, &[], &["smoke.c"], &folder.join(standard));
        // POSIX for dlfcn.h; ISO C stays checked.
        let load = ["-DLOAD", "-D_POSIX_C_SOURCE=200809L"];
        compile("gcc", standard, &load, &["smoke.c"], &folder.join(format!("load-{standard}")));
    }
    for standard in ["c++17", "c++20"] {
        let sources = ["wrapper.cpp", "second.cpp"];
        compile("g++", standard, &[], &sources, &folder.join(standard));
        let bare = ["-fno-exceptions", "-fno-rtti"];
        compile("g++", standard, &bare, &sources, &folder.join(format!("bare-{standard}")));
        compile("g++", standard, &["-DLOAD", "-x", "c++"], &["smoke.c"], &folder.join(format!("load-{standard}")));
    }
}

#[test]
fn only_the_listed_symbols_leave_the_library() {
    let table = succeed(Command::new("nm").args(["-D", "--defined-only"]).arg(library().join("libpolyscore.so")));
    let mut symbols: Vec<&str> = table.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    symbols.sort_unstable();
    let listed = std::fs::read_to_string(root().join("tests/abi/symbols.txt")).expect("the list");
    assert_eq!(symbols, listed.lines().collect::<Vec<_>>());
    assert!(symbols.iter().all(|symbol| symbol.starts_with("polyscore_")));
}

#[test]
fn the_library_has_its_soname_and_stays_loaded() {
    let dynamic = succeed(Command::new("readelf").arg("-d").arg(library().join("libpolyscore.so")));
    assert!(dynamic.contains("[libpolyscore.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
}

/// The counts of a program that ends with `N passed, N failed`.
fn counts(text: &str) -> (usize, usize) {
    let line =
        text.lines().rev().find(|line| line.contains(" passed, ")).unwrap_or_else(|| panic!("no counts: {text}"));
    let numbers: Vec<usize> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

#[test]
fn misuse_is_refused_and_memory_stays_clean() {
    let folder = folder("misuse");
    let (program, model) = (folder.join("misuse"), model());
    compile("gcc", "c11", &["-g"], &["misuse.c"], &program);
    let (passed, failed) = counts(&succeed(Command::new(&program).arg(&model)));
    assert!(passed >= 200 && failed == 0, "{passed} passed, {failed} failed");

    let mut memcheck = Command::new("valgrind");
    memcheck.args([
        "-q",
        "--fair-sched=yes",
        "--error-exitcode=9",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite,indirect",
    ]);
    let (passed, failed) = counts(&succeed(memcheck.arg(&program).arg(&model)));
    assert!(passed >= 200 && failed == 0, "under valgrind: {passed} passed, {failed} failed");
}

#[test]
fn pools_share_calls_and_survive_broken_hosts_and_forks() {
    let folder = folder("pool");
    let (program, model) = (folder.join("pool"), model());
    compile("gcc", "c11", &["-g", "-pthread"], &["pool.c"], &program);
    let (passed, failed) = counts(&succeed(Command::new(&program).arg(&model)));
    assert!(passed >= 200 && failed == 0, "{passed} passed, {failed} failed");

    // A fork under valgrind reports what the parent has as lost.
    let mut memcheck = Command::new("valgrind");
    memcheck.args(["-q", "--fair-sched=yes", "--error-exitcode=9"]);
    let (passed, failed) = counts(&succeed(memcheck.arg(&program).arg(&model).arg("nofork")));
    assert!(passed >= 200 && failed == 0, "under valgrind: {passed} passed, {failed} failed");
}

#[test]
fn the_wrapper_works_with_and_without_exceptions() {
    let folder = folder("wrapper");
    let model = model();
    for (name, flags) in [("throwing", &[][..]), ("bare", &["-fno-exceptions", "-fno-rtti"])] {
        let program = folder.join(name);
        compile("g++", "c++17", flags, &["wrapper.cpp", "second.cpp"], &program);
        succeed(Command::new(&program).arg(&model));
    }
}

#[test]
fn a_host_can_load_the_library_at_run_time() {
    let folder = folder("load");
    let (program, model) = (folder.join("load"), model());
    let mut command = Command::new("gcc");
    command.args(["-std=c11", "-DLOAD", "-D_POSIX_C_SOURCE=200809L", "-I"]).arg(root().join("include"));
    succeed(command.arg(root().join("tests/abi/smoke.c")).arg("-o").arg(&program).arg("-ldl"));
    let text = succeed(Command::new(&program).arg(&model).arg(library().join("libpolyscore.so")));
    assert!(text.starts_with("isa "), "{text}");
}

#[test]
fn installed_packages_are_found_by_cmake_and_pkg_config() {
    let folder = folder("install");
    let (prefix, model) = (folder.join("prefix"), model());
    let mut install = Command::new(root().join("bindings/cpp/install.sh"));
    succeed(install.arg("--prefix").arg(&prefix).arg("--library").arg(library().join("libpolyscore.so")));

    let build = folder.join("build");
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(root().join("tests/abi/cmake")).arg("-B").arg(&build);
    succeed(configure.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display())));
    succeed(Command::new("cmake").arg("--build").arg(&build));
    assert!(succeed(Command::new(build.join("smoke")).arg(&model)).starts_with("isa "));
    succeed(Command::new(build.join("wrapper")).arg(&model));

    let mut flags = Command::new("pkg-config");
    flags.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(["--cflags", "--libs", "polyscore"]);
    let flags = succeed(&mut flags);
    let program = folder.join("pkg-config");
    let mut command = Command::new("gcc");
    command.arg(root().join("tests/abi/smoke.c")).arg("-o").arg(&program).args(flags.split_whitespace());
    succeed(command.arg(format!("-Wl,-rpath,{}", prefix.join("lib").display())));
    assert!(succeed(Command::new(&program).arg(&model)).starts_with("isa "));
}
