//! Promise 1: opening and scoring make no thread. The only test of its process, so that nothing else makes one.
#![cfg(target_os = "linux")]

mod zoo;

use polyscore::OpenOptions;
use zoo::Request;

#[test]
fn opening_and_scoring_make_no_thread() {
    let threads = || std::fs::read_dir("/proc/self/task").expect("procfs").count();
    let before = threads();
    for zoo in zoo::all() {
        let model = zoo.open(&OpenOptions::default());
        Request::random(&model, 1, 200).scores(&model, None);
        assert_eq!(threads(), before, "{}", zoo.name);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(threads(), before + 1, "the count sees a new thread"));
    });
}
