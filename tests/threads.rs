//! Promise 1: opening and scoring make no thread. The only test of its process, so that nothing else makes one.
#![cfg(target_os = "linux")]

mod zoo;

use polyscore::OpenOptions;
use zoo::Request;

#[test]
fn opening_and_scoring_make_no_thread() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("threads");
    std::fs::create_dir_all(&folder).expect("a folder for the zoo");
    let threads = || std::fs::read_dir("/proc/self/task").expect("procfs").count();
    let before = threads();
    for zoo in zoo::all() {
        let model = zoo.open(&folder, &OpenOptions::default());
        Request::random(1, 200).scores(&model, None);
        assert_eq!(threads(), before, "{}", zoo.name);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(threads(), before + 1, "the count sees a new thread"));
    });
}
