// The C++ header: both forms of every call, moves, and errors. Compiled with and without exceptions.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <thread>
#include <vector>

#include "polyscore.hpp"

int second_unit();

static int failures = 0;

static void check(bool ok, const char *what) {
    if (!ok) std::printf("FAILED: %s\n", what), ++failures;
}

// A host with a thread for every task.
struct Spawning {
    void operator()(std::size_t tasks, polyscore::Task task) const {
        std::vector<std::thread> threads;
        for (std::size_t i = 0; i < tasks; ++i) threads.emplace_back([task, i] { task(i); });
        for (auto &thread : threads) thread.join();
    }
};

// Scores many candidates over pools: the bits of a serial scorer.
static void pools(const polyscore::Model &model, const polyscore::Columns &request) {
    constexpr std::size_t n = 4000;
    std::vector<std::int64_t> ads(n), none, rows(n + 1);
    std::vector<float> seen(n), price(2 * n), expected(3 * n), out(3 * n);
    for (std::size_t i = 0; i < n; ++i) ads[i] = static_cast<std::int64_t>(i % 41), seen[i] = static_cast<float>(i % 7);
    auto slot = [&](const char *name) { return model.try_feature(name).value(); };
    polyscore::Columns candidates;
    candidates.i64(slot("ad"), ads).i64(slot("tags"), none, rows).f32(slot("seen"), seen);
    candidates.f32(slot("price"), price).i64(slot("match"), none, rows);
    auto score = [&](polyscore::Scorer scorer, std::vector<float> &to) {
        check(scorer.try_prepare(0, request).ok(), "prepare many");
        return scorer.try_score(n, candidates, to);
    };
    check(score(model.try_scorer().value(), expected).ok() && expected[0] != expected[1], "many, serial");

    polyscore::Pool first = polyscore::Pool::try_own(3, "wrapper").value();
    polyscore::Pool own = std::move(first);
    check(own.try_threads().value() == 3, "threads");
    check(score(model.try_scorer(own).value(), out).ok() && out == expected, "many, own threads");
    check(polyscore::Pool::try_own(257).error().subject() == "threads", "too many threads");

    const Spawning spawning;
    polyscore::Pool over = polyscore::Pool::try_over(spawning, 3).value();
    std::fill(out.begin(), out.end(), 0.0f);
    check(score(model.try_scorer(over).value(), out).ok() && out == expected, "many, the host's threads");

    auto nothing = [](std::size_t, polyscore::Task) {};
    std::fill(out.begin(), out.end(), 0.5f);
    auto broken = score(model.try_scorer(polyscore::Pool::try_over(nothing, 3).value()).value(), out);
    check(broken.error().status() == POLYSCORE_EXECUTOR && out[0] == 0.5f, "a host that does nothing");
#if POLYSCORE_EXCEPTIONS
    auto throwing = [](std::size_t, polyscore::Task) { throw std::runtime_error("a host that throws"); };
    polyscore::Pool thrower = polyscore::Pool::over(throwing, 2);
    check(score(model.scorer(thrower), out).error().status() == POLYSCORE_EXECUTOR, "a host that throws");
    check(polyscore::Pool::own(2).threads() == 2, "own");
#endif
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    auto opened = polyscore::Model::try_open(argv[1]);
    check(opened.ok(), "open");
    if (!opened) return 1;
    polyscore::Model model = std::move(opened).value();
    auto missing = polyscore::Model::try_open("no-such-file");
    check(!missing.ok() && missing.error().status() == POLYSCORE_IO, "missing file");
    check(missing.error().subject() == "no-such-file", "missing file's name");
    check(model.try_feature("nothing").error().status() == POLYSCORE_UNKNOWN_FEATURE, "unknown feature");

    polyscore::Scorer first = model.try_scorer().value();
    polyscore::Scorer scorer = std::move(first);
    auto slot = [&](const char *name) { return model.try_feature(name).value(); };
    const std::vector<std::int64_t> user{42}, history{1, 39, 77}, ads{1, 2, 39}, tags{3, 5}, matches{};
    const std::vector<float> seen{0, 1, 2}, price{1, 2, 3, 4, 5, 6}, age{33};
    const std::array<std::int64_t, 2> city_ends{0, 5}, history_rows{0, 3};
    const std::int64_t tag_rows[] = {0, 1, 1, 2}, match_rows[] = {0, 0, 0, 0};
    polyscore::Columns request, candidates;
    request.i64(slot("user"), user).text(slot("city"), "Delft", city_ends).i64(slot("history"), history, history_rows);
    request.f32(slot("age"), age);
    candidates.i64(slot("ad"), ads).i64(slot("tags"), tags, tag_rows).f32(slot("seen"), seen);
    candidates.f32(slot("price"), price).i64(slot("match"), matches, match_rows);
    std::array<float, 9> out{};
    auto early = scorer.try_score(3, candidates, out);
    check(!early && early.error().status() == POLYSCORE_NOT_PREPARED, "score before prepare");
    check(scorer.try_prepare(model.try_scenario("feed").value(), request).ok(), "prepare");
    check(scorer.try_score(3, candidates, out).ok(), "score");
    check(out[0] > 0 && out[0] < 1 && out[0] != out[1] && std::isfinite(out[8]), "scores");
    const std::uint32_t tasks[] = {2};
    std::array<float, 3> one{};
    check(scorer.try_score(3, candidates, one, tasks).ok() && one[2] == out[8], "one task");
    check(scorer.try_counters().value().candidates == 6, "counters");
    // The network has no scenario in it: each gives the same scores.
    const std::uint32_t scenarios[] = {2, POLYSCORE_SCENARIO_UNKNOWN, 0};
    std::array<float, 9> mixed{};
    check(scorer.try_score_mixed(scenarios, candidates, mixed).ok() && mixed == out, "mixed scenarios");
    check(scorer.try_score_mixed(scenarios, candidates, one, tasks).ok() && one[2] == out[8], "mixed, one task");
    std::array<float, 6> each{};
    const std::vector<std::uint32_t> two{1, 0};
    check(scorer.try_score_each(3, two, candidates, each, tasks).ok() && each[5] == out[8], "each scenario");
    check(scorer.try_score_each(3, two, candidates, one, tasks).error().status() == POLYSCORE_BUFFER_TOO_SMALL, "too small");
    check(scorer.try_counters().value().unknown_scenarios == 2, "unknown scenarios");
    polyscore::Options with_cache;
    with_cache.item_bytes = 1 << 20;
    with_cache.item_rows = 3;
    polyscore::Model cached = polyscore::Model::try_open(argv[1], with_cache).value();
    polyscore::Scorer keyed = cached.try_scorer().value();
    const std::vector<std::int64_t> keys{7, 8, INT64_MIN};
    polyscore::Columns with_keys = candidates;
    with_keys.item_keys(keys);
    for (int turn = 0; turn < 2; ++turn) {
        std::array<float, 9> found{};
        check(keyed.try_prepare(0, request).ok() && keyed.try_score(3, with_keys, found).ok() && found == out, "item keys");
    }
    check(keyed.try_counters().value().item_hits == 2 && cached.try_info().value().item_room >= 3, "item hits");
    check(model.try_scenario(std::int64_t{20}).value() == 1, "scenario by id");
    check(model.try_info().value().features == 10, "info");
    pools(model, request);
#if POLYSCORE_EXCEPTIONS
    try {
        polyscore::Model::open("no-such-file");
        check(false, "an exception");
    } catch (const polyscore::Exception &exception) {
        check(exception.status() == POLYSCORE_IO, "the exception's status");
    }
    scorer.prepare(model.scenario("feed"), request);
    std::array<float, 9> again{};
    scorer.score(3, candidates, again);
    check(again == out, "the same scores");
    scorer.score_mixed(scenarios, candidates, again);
    scorer.score_each(3, two, candidates, each, tasks);
    check(again == out && each[5] == out[8], "the same scores of scenarios");
    try {
        scorer.score_each(4, two, candidates, each, tasks);
        check(false, "an exception");
    } catch (const polyscore::Exception &exception) {
        check(exception.status() == POLYSCORE_BUFFER_TOO_SMALL, "the exception's status");
    }
    check(model.plan().find("multiply-adds") != std::string::npos, "plan");
    check(model.description().front() == '{', "description");
    polyscore::Options options;
    options.isa = "scalar";
    options.scenario_bytes = 1;
    check(std::string(polyscore::Model::open(argv[1], options).info().isa) == "scalar", "isa");
    const std::string packed = std::string(argv[0]) + ".safetensors";
    model.write_packed(packed.c_str());
    const polyscore::Model mapped = polyscore::Model::open(packed.c_str());
    check(mapped.info().packed_bytes < model.info().packed_bytes, "packed layers are mapped");
    polyscore::Scorer other = mapped.scorer();
    other.prepare(mapped.scenario("feed"), request);
    other.score(3, candidates, again);
    check(again == out, "the same scores of packed layers");
    std::remove(packed.c_str());
#endif
    return failures + second_unit();
}
