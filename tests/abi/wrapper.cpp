// The C++ header: both forms of every call, moves, and errors. Compiled with and without exceptions.
#include <array>
#include <cmath>
#include <cstdio>
#include <vector>

#include "polyscore.hpp"

int second_unit();

static int failures = 0;

static void check(bool ok, const char *what) {
    if (!ok) std::printf("FAILED: %s\n", what), ++failures;
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
    const std::vector<float> seen{0, 1, 2}, price{1, 2, 3, 4, 5, 6};
    const std::array<std::int64_t, 2> city_ends{0, 5}, history_rows{0, 3};
    const std::int64_t tag_rows[] = {0, 1, 1, 2}, match_rows[] = {0, 0, 0, 0};
    polyscore::Columns request, candidates;
    request.i64(slot("user"), user).text(slot("city"), "Delft", city_ends).i64(slot("history"), history, history_rows);
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
    check(model.try_scenario(std::int64_t{20}).value() == 1, "scenario by id");
    check(model.try_info().value().features == 9, "info");
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
    check(model.plan().find("multiply-adds") != std::string::npos, "plan");
    check(model.description().front() == '{', "description");
    polyscore::Options options;
    options.isa = "scalar";
    check(std::string(polyscore::Model::open(argv[1], options).info().isa) == "scalar", "isa");
#endif
    return failures + second_unit();
}
