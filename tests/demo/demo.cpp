// The demo of tests/demo/README.md in C++. usage: demo MODEL
#include <algorithm>
#include <array>
#include <cstdio>
#include <numeric>
#include <string_view>
#include <vector>

#include "polyscore.hpp"

struct Customer {
    const char *scenario;
    float recency;
    std::string_view history_segment;
    float history;
    std::int64_t mens, womens;
    std::string_view zip_code;
    std::int64_t newbie;
};

static const std::array<Customer, 3> customers{{
    {"Web", 2, "2) $100 - $200", 150.0f, 1, 0, "Urban", 0},
    {"Phone", 11, "1) $0 - $100", 33.5f, 0, 1, "Rural", 1},
    {"Multichannel", 5, "7) $1,000 +", 1750.0f, 1, 1, "Surburban", 0},
}};

static constexpr std::string_view emails = "No E-MailMens E-MailWomens E-Mail";
static const std::array<std::int64_t, 4> offsets{0, 9, 20, 33};
static const std::array<double, 3> costs{0.0, 0.10, 0.10};

static void run(const char *path) {
    polyscore::Model model = polyscore::Model::open(path);
    polyscore::Scorer scorer = model.scorer();
    const std::array<std::uint32_t, 2> tasks{model.task("visit"), model.task("conversion")};
    polyscore::Columns candidates, request;
    candidates.text(model.feature("email"), emails, offsets);
    for (const Customer &c : customers) {
        const auto one = [](const auto &value) { return polyscore::span<std::remove_reference_t<decltype(value)>>(&value, 1); };
        const std::array<std::int64_t, 2> segment{0, std::int64_t(c.history_segment.size())};
        const std::array<std::int64_t, 2> zip{0, std::int64_t(c.zip_code.size())};
        request.clear();
        request.f32(model.feature("recency"), one(c.recency)).f32(model.feature("history"), one(c.history));
        request.i64(model.feature("mens"), one(c.mens)).i64(model.feature("womens"), one(c.womens));
        request.i64(model.feature("newbie"), one(c.newbie)).text(model.feature("history_segment"), c.history_segment, segment);
        request.text(model.feature("zip_code"), c.zip_code, zip);
        scorer.prepare(model.scenario(c.scenario), request);
        std::array<float, 6> scores{};
        scorer.score(3, candidates, scores, tasks);

        std::array<double, 3> values{};
        for (int e = 0; e < 3; ++e) values[e] = 100.0 * scores[3 + e] - costs[e];
        std::array<int, 3> order{};
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return values[a] > values[b]; });
        for (int rank = 0; rank < 3; ++rank) {
            const int e = order[rank];
            const auto email = emails.substr(offsets[e], offsets[e + 1] - offsets[e]);
            std::printf("%s\t%d\t%.*s\t%.6f\t%.6f\t%.4f\n", c.scenario, rank + 1, int(email.size()), email.data(), scores[e],
                        scores[3 + e], values[e]);
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    try {
        run(argv[1]);
    } catch (const polyscore::Exception &exception) {
        std::fprintf(stderr, "%s: %s\n", exception.error().name(), exception.what());
        return 1;
    }
}
