// Times of calls from C++; see languages.py. usage: calls MODEL IDS REQUEST_FIELDS ITEM_FIELDS CANDIDATES SECONDS
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "polyscore.hpp"

using Clock = std::chrono::steady_clock;

static std::vector<std::uint32_t> slots(const polyscore::Model &model, const char *side, std::size_t count) {
    std::vector<std::uint32_t> found;
    for (std::size_t k = 0; k < count; ++k) found.push_back(model.feature((side + std::to_string(k)).c_str()));
    return found;
}

static void run(char **argv) {
    const std::size_t user = std::stoul(argv[3]), items = std::stoul(argv[4]), n = std::stoul(argv[5]);
    const std::chrono::duration<double> limit(std::stod(argv[6]));
    std::ifstream file(argv[2], std::ios::binary | std::ios::ate);
    std::vector<std::int64_t> ids(static_cast<std::size_t>(file.tellg()) / sizeof(std::int64_t));
    file.seekg(0).read(reinterpret_cast<char *>(ids.data()), static_cast<std::streamsize>(ids.size() * sizeof(std::int64_t)));
    const std::size_t size = user + items * n, requests = ids.size() / size;

    polyscore::Model model = polyscore::Model::open(argv[1]);
    polyscore::Scorer scorer = model.scorer();
    const auto user_slots = slots(model, "u", user), item_slots = slots(model, "i", items);
    polyscore::Columns request, ads;
    std::vector<float> out(3 * n);
    std::vector<std::int64_t> times;
    const auto begin = Clock::now();
    while (Clock::now() - begin < limit) {
        const auto start = Clock::now();
        const std::int64_t *given = ids.data() + times.size() % requests * size;
        request.clear();
        ads.clear();
        for (std::size_t k = 0; k < user; ++k) request.i64(user_slots[k], {given + k, 1});
        for (std::size_t k = 0; k < items; ++k) ads.i64(item_slots[k], {given + user + k * n, n});
        scorer.prepare(POLYSCORE_SCENARIO_UNKNOWN, request);
        scorer.score(n, ads, out);
        times.push_back(std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
    }
    std::printf("%.9g\n", out[0]);
    for (const std::int64_t time : times) std::printf("%lld\n", static_cast<long long>(time));
}

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    try {
        run(argv);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
