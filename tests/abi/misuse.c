/*
 * Misuse of every function of the C ABI, each with the status that it must give, and after all of it the same scores.
 * usage: misuse MODEL (the zoo's mmoe). Prints "N passed, N failed".
 */
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "polyscore.h"

static int passed, failed;

static void check(int ok, const char *what, long actual, long expected) {
    if (ok) {
        passed++;
    } else {
        failed++;
        printf("FAILED: %s: %ld, expected %ld\n", what, actual, expected);
    }
}

#define EXPECT(status, call)                                    \
    do {                                                        \
        long status_ = (call);                                  \
        check(status_ == (status), #call, status_, (status));   \
    } while (0)

enum { N = 5, TASKS = 3, REQUEST = 5, CANDIDATE = 5, SCENARIOS = 3 };

static int64_t user[1] = {42}, history[3] = {1, 39, 77}, ad[N] = {1, 2, 39, 40, -1}, tags[6] = {3, 5, 8, 13, 4, 3};
static int64_t match[4] = {1, 2, 3, 29};
static float context[3] = {1, 2, 3}, age[1] = {33}, seen[N] = {0, 1, 2, 3, 4}, price[2 * N] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
static char city[] = "Delft";
static int64_t city_ends[2] = {0, 5}, history_rows[2] = {0, 3}, tag_rows[N + 1] = {0, 2, 2, 3, 6, 6};
static int64_t match_rows[N + 1] = {0, 1, 1, 2, 3, 4};
static uint32_t mixed[N] = {2, 0, POLYSCORE_SCENARIO_UNKNOWN, 1, 1000};
static uint32_t each[SCENARIOS] = {1, POLYSCORE_SCENARIO_UNKNOWN, 0};

static polyscore_model *model;
static polyscore_scorer *scorer;
static polyscore_column request[REQUEST], candidates[CANDIDATE];
static float out[TASKS * N], expected[TASKS * N];

static polyscore_error error_of(void) {
    polyscore_error error;
    memset(&error, 0, sizeof error);
    error.struct_size = sizeof error;
    return error;
}

static polyscore_column column(const char *name, uint32_t type, const void *values, size_t length) {
    polyscore_column c;
    memset(&c, 0, sizeof c);
    c.struct_size = sizeof c;
    c.type = type;
    c.values = values;
    c.values_len = length;
    EXPECT(POLYSCORE_OK, polyscore_model_find_feature(model, name, &c.feature, NULL));
    return c;
}

static polyscore_column bag(polyscore_column c, const int64_t *rows, size_t length) {
    c.row_offsets = rows;
    c.row_offsets_len = length;
    return c;
}

static void fill_columns(void) {
    request[0] = column("user", POLYSCORE_COLUMN_I64, user, 1);
    request[1] = column("context", POLYSCORE_COLUMN_F32, context, 3);
    request[2] = bag(column("history", POLYSCORE_COLUMN_I64, history, 3), history_rows, 2);
    request[3] = column("city", POLYSCORE_COLUMN_TEXT, city, 5);
    request[3].text_offsets = city_ends;
    request[3].text_offsets_len = 2;
    request[4] = column("age", POLYSCORE_COLUMN_F32, age, 1);
    candidates[0] = column("ad", POLYSCORE_COLUMN_I64, ad, N);
    candidates[1] = bag(column("tags", POLYSCORE_COLUMN_I64, tags, 6), tag_rows, N + 1);
    candidates[2] = column("seen", POLYSCORE_COLUMN_F32, seen, N);
    candidates[3] = column("price", POLYSCORE_COLUMN_F32, price, 2 * N);
    candidates[4] = bag(column("match", POLYSCORE_COLUMN_I64, match, 4), match_rows, N + 1);
}

static int32_t prepare(void) { return polyscore_scorer_prepare(scorer, 0, request, REQUEST, NULL); }

static int32_t score(void) {
    return polyscore_scorer_score(scorer, N, candidates, CANDIDATE, NULL, 0, out, TASKS * N, NULL);
}

/* After a refused call: nothing was written, and the right call still gives the same bits. */
static void still_scores(const char *after) {
    for (int i = 0; i < TASKS * N; i++) check(isnan(out[i]), after, i, -1);
    EXPECT(POLYSCORE_OK, prepare());
    EXPECT(POLYSCORE_OK, score());
    check(memcmp(out, expected, sizeof out) == 0, after, 0, 1);
    for (int i = 0; i < TASKS * N; i++) out[i] = NAN;
}

/* One broken column in one call. */
static void broken(const char *what, int32_t status, int is_request, size_t at, polyscore_column c) {
    polyscore_column columns[REQUEST + CANDIDATE];
    polyscore_error error = error_of();
    int32_t actual;
    EXPECT(POLYSCORE_OK, prepare());
    if (is_request) {
        memcpy(columns, request, sizeof request);
        columns[at] = c;
        actual = polyscore_scorer_prepare(scorer, 0, columns, REQUEST, &error);
        EXPECT(POLYSCORE_NOT_PREPARED, score());
    } else {
        memcpy(columns, candidates, sizeof candidates);
        columns[at] = c;
        actual = polyscore_scorer_score(scorer, N, columns, CANDIDATE, NULL, 0, out, TASKS * N, &error);
    }
    check(actual == status, what, actual, status);
    check(error.status == status, "error.status", error.status, status);
    check(error.subject[0] != 0 && error.message[0] != 0, "error texts", 0, 1);
    still_scores(what);
}

static void columns(void) {
    for (int side = 0; side < 2; side++) {
        size_t count = side ? REQUEST : CANDIDATE;
        for (size_t at = 0; at < count; at++) {
            polyscore_column good = side ? request[at] : candidates[at], c;
            char what[64];
            snprintf(what, sizeof what, "%s column %d", side ? "request" : "candidate", (int)at);
#define BREAK(status, change) \
    do {                      \
        c = good;             \
        change;               \
        broken(what, status, side, at, c); \
    } while (0)
            BREAK(POLYSCORE_NULL_ARGUMENT, c.values = NULL);
            BREAK(POLYSCORE_UNKNOWN_FEATURE, c.feature = 99);
            BREAK(POLYSCORE_UNKNOWN_FEATURE, c.feature = UINT32_MAX);
            BREAK(POLYSCORE_COLUMN_SIDE, c = side ? candidates[at] : request[at % REQUEST]);
            BREAK(POLYSCORE_DUPLICATE_COLUMN, c = side ? request[(at + 1) % count] : candidates[(at + 1) % count]);
            BREAK(POLYSCORE_INVALID_ARGUMENT, c.type = 0);
            BREAK(POLYSCORE_INVALID_ARGUMENT, c.type = 5);
            BREAK(POLYSCORE_INVALID_ARGUMENT, c.type = UINT32_MAX);
            BREAK(POLYSCORE_INVALID_ARGUMENT, c.reserved = 1);
            BREAK(POLYSCORE_STRUCT_SIZE, c.struct_size = 0);
            BREAK(POLYSCORE_STRUCT_SIZE, c.struct_size = sizeof c - 1);
            BREAK(POLYSCORE_STRUCT_SIZE, c.struct_size = UINT32_MAX);
            BREAK(POLYSCORE_INVALID_ARGUMENT, c.values_len = SIZE_MAX);
            BREAK(POLYSCORE_INVALID_ARGUMENT, c.row_offsets = history_rows; c.row_offsets_len = SIZE_MAX);
            if (good.type != POLYSCORE_COLUMN_TEXT) {
                BREAK(POLYSCORE_INVALID_ARGUMENT, c.values = (const char *)good.values + 1);
                BREAK(POLYSCORE_INVALID_ARGUMENT, c.text_offsets = city_ends; c.text_offsets_len = 2);
                BREAK(good.row_offsets_len ? POLYSCORE_COLUMN_OFFSETS : POLYSCORE_COLUMN_LENGTH, c.values_len--);
                BREAK(good.row_offsets_len ? POLYSCORE_COLUMN_OFFSETS : POLYSCORE_COLUMN_LENGTH, c.values_len = 0);
            }
            if (good.row_offsets_len) {
                BREAK(POLYSCORE_COLUMN_OFFSETS, c.row_offsets_len = 0);
                BREAK(POLYSCORE_COLUMN_LENGTH, c.row_offsets_len--);
                BREAK(POLYSCORE_NULL_ARGUMENT, c.row_offsets = NULL);
                BREAK(POLYSCORE_INVALID_ARGUMENT, c.row_offsets = (const int64_t *)((const char *)c.row_offsets + 4));
            } else if (good.type == POLYSCORE_COLUMN_I64) {
                BREAK(POLYSCORE_COLUMN_OFFSETS, c.row_offsets = history_rows; c.row_offsets_len = 2);
                BREAK(POLYSCORE_COLUMN_TYPE, c.type = POLYSCORE_COLUMN_F32);
            } else if (good.type == POLYSCORE_COLUMN_F32) {
                BREAK(POLYSCORE_COLUMN_TYPE, c.type = POLYSCORE_COLUMN_I32);
            }
        }
    }
    /* Offsets that descend, start late, end early, are negative or huge. */
    int64_t bad[][2] = {{1, 3}, {0, 2}, {0, 4}, {3, 0}, {-1, 3}, {INT64_MIN, 3}, {0, INT64_MAX}, {0, -3}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        broken("history offsets", POLYSCORE_COLUMN_OFFSETS, 1, 2, bag(request[2], bad[i], 2));
        polyscore_column c = request[3];
        c.text_offsets = bad[i];
        broken("city offsets", POLYSCORE_COLUMN_OFFSETS, 1, 3, c);
    }
    int64_t zigzag[N + 1] = {0, 5, 2, 3, 6, 6};
    broken("tag offsets", POLYSCORE_COLUMN_OFFSETS, 0, 1, bag(candidates[1], zigzag, N + 1));
}

static void handles(void) {
    polyscore_model *models[] = {NULL, (polyscore_model *)scorer, (polyscore_model *)(uintptr_t)8,
                                 (polyscore_model *)(uintptr_t)-1, (polyscore_model *)((uintptr_t)model + 16)};
    for (int i = 0; i < 5; i++) {
        polyscore_model *m = models[i];
        int32_t status = m == NULL ? POLYSCORE_NULL_ARGUMENT : POLYSCORE_INVALID_HANDLE;
        polyscore_model_info info = {.struct_size = sizeof info};
        polyscore_feature_info feature = {.struct_size = sizeof feature};
        polyscore_task_info task = {.struct_size = sizeof task};
        polyscore_scenario_info scenario = {.struct_size = sizeof scenario};
        polyscore_scorer *made = NULL;
        uint32_t index = 77;
        size_t length = 77;
        char text[8];
        EXPECT(status, polyscore_model_info_get(m, &info, NULL));
        EXPECT(status, polyscore_model_feature(m, 0, &feature, NULL));
        EXPECT(status, polyscore_model_task(m, 0, &task, NULL));
        EXPECT(status, polyscore_model_scenario(m, 0, &scenario, NULL));
        EXPECT(status, polyscore_model_find_feature(m, "ad", &index, NULL));
        EXPECT(status, polyscore_model_find_task(m, "ctr", &index, NULL));
        EXPECT(status, polyscore_model_find_scenario(m, "feed", &index, NULL));
        EXPECT(status, polyscore_model_find_scenario_id(m, 10, &index, NULL));
        EXPECT(status, polyscore_model_plan(m, text, sizeof text, &length, NULL));
        EXPECT(status, polyscore_model_description(m, text, sizeof text, &length, NULL));
        EXPECT(status, polyscore_model_write_packed(m, "never.safetensors", NULL));
        EXPECT(status, polyscore_scorer_new(m, &made, NULL));
        EXPECT(m == NULL ? POLYSCORE_OK : POLYSCORE_INVALID_HANDLE, polyscore_model_close(m));
        check(index == 77 && length == 77 && made == NULL && info.features == 0, "outputs stay", 0, 1);
    }
    polyscore_scorer *scorers[] = {NULL, (polyscore_scorer *)model, (polyscore_scorer *)(uintptr_t)8,
                                   (polyscore_scorer *)(uintptr_t)-1, (polyscore_scorer *)((uintptr_t)scorer + 16)};
    for (int i = 0; i < 5; i++) {
        polyscore_scorer *s = scorers[i];
        int32_t status = s == NULL ? POLYSCORE_NULL_ARGUMENT : POLYSCORE_INVALID_HANDLE;
        polyscore_counters counters = {.struct_size = sizeof counters};
        polyscore_feature_counters feature = {.struct_size = sizeof feature};
        EXPECT(status, polyscore_scorer_prepare(s, 0, request, REQUEST, NULL));
        EXPECT(status, polyscore_scorer_score(s, N, candidates, CANDIDATE, NULL, 0, out, TASKS * N, NULL));
        EXPECT(status, polyscore_scorer_score_mixed(s, N, mixed, candidates, CANDIDATE, NULL, 0, out, TASKS * N, NULL));
        EXPECT(status, polyscore_scorer_score_each(s, N, each, 1, candidates, CANDIDATE, NULL, 0, out, TASKS * N, NULL));
        EXPECT(status, polyscore_scorer_counters(s, &counters, NULL));
        EXPECT(status, polyscore_scorer_feature_counters(s, 0, &feature, NULL));
        EXPECT(s == NULL ? POLYSCORE_OK : POLYSCORE_INVALID_HANDLE, polyscore_scorer_close(s));
    }
    still_scores("handles");
}

static void pointers_and_sizes(const char *path) {
    polyscore_model *m = NULL;
    polyscore_scorer *s = NULL;
    uint32_t index = 0;
    size_t length = 0;
    char text[8];
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_open(NULL, NULL, &m, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_open(path, NULL, NULL, NULL));
    EXPECT(POLYSCORE_IO, polyscore_model_open("no-such-file.safetensors", NULL, &m, NULL));
    EXPECT(POLYSCORE_IO, polyscore_model_open("", NULL, &m, NULL));
    EXPECT(POLYSCORE_INVALID_ARGUMENT, polyscore_model_open("\xff\xfe", NULL, &m, NULL));
    EXPECT(POLYSCORE_INVALID_ARGUMENT, polyscore_model_open(path, NULL, (polyscore_model **)((char *)&m + 1), NULL));
    struct { uint32_t field, value; int32_t status; } fields[] = {
        {0, 0, POLYSCORE_STRUCT_SIZE}, {0, 1, POLYSCORE_STRUCT_SIZE}, {0, UINT32_MAX, POLYSCORE_STRUCT_SIZE},
        {1, 3, POLYSCORE_INVALID_ARGUMENT}, {1, UINT32_MAX, POLYSCORE_INVALID_ARGUMENT},
        {2, 8, POLYSCORE_INVALID_ARGUMENT}, {2, UINT32_MAX, POLYSCORE_INVALID_ARGUMENT},
        {3, 2, POLYSCORE_INVALID_ARGUMENT}, {4, 5000, POLYSCORE_INVALID_ARGUMENT},
        {4, UINT32_MAX, POLYSCORE_INVALID_ARGUMENT}, {5, 4, POLYSCORE_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        polyscore_open_options options = {.struct_size = sizeof options};
        uint32_t words[6] = {options.struct_size, 0, 0, 0, 0, 0};
        words[fields[i].field] = fields[i].value;
        memcpy(&options, words, sizeof words);
        EXPECT(fields[i].status, polyscore_model_open(path, &options, &m, NULL));
    }
    double errors[] = {-1.0, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        polyscore_open_options options = {.struct_size = sizeof options, .max_error = errors[i]};
        EXPECT(POLYSCORE_INVALID_ARGUMENT, polyscore_model_open(path, &options, &m, NULL));
    }
    const char *isas[] = {"", "AVX2", "avx9", "scalar "};
    for (int i = 0; i < 4; i++) {
        polyscore_open_options options = {.struct_size = sizeof options, .isa = isas[i]};
        EXPECT(POLYSCORE_UNSUPPORTED, polyscore_model_open(path, &options, &m, NULL));
    }
    polyscore_open_options small = {.struct_size = sizeof small, .max_bytes = 100};
    EXPECT(POLYSCORE_LIMIT, polyscore_model_open(path, &small, &m, NULL));
    check(m == NULL, "no handle was written", 0, 1);

    /* A larger struct of a later header: fine while its tail is zero. */
    struct { polyscore_open_options known; uint64_t later; } larger;
    memset(&larger, 0, sizeof larger);
    larger.known.struct_size = sizeof larger;
    larger.later = 1;
    EXPECT(POLYSCORE_STRUCT_SIZE, polyscore_model_open(path, &larger.known, &m, NULL));
    larger.later = 0;
    EXPECT(POLYSCORE_OK, polyscore_model_open(path, &larger.known, &m, NULL));
    EXPECT(POLYSCORE_OK, polyscore_model_close(m));
    EXPECT(POLYSCORE_INVALID_HANDLE, polyscore_model_close(m));

    /* A smaller struct of an older header, down to the first one: what it lacks is neither read nor written. */
    polyscore_open_options older = {.struct_size = offsetof(polyscore_open_options, scenario_bytes)};
    EXPECT(POLYSCORE_OK, polyscore_model_open(path, &older, &m, NULL));
    EXPECT(POLYSCORE_OK, polyscore_model_close(m));
    older.struct_size--;
    EXPECT(POLYSCORE_STRUCT_SIZE, polyscore_model_open(path, &older, &m, NULL));
    uint64_t budgets[] = {1, 1000, UINT64_MAX};
    for (int i = 0; i < 3; i++) {
        polyscore_open_options options = {.struct_size = sizeof options, .scenario_bytes = budgets[i]};
        polyscore_model_info info = {.struct_size = sizeof info};
        EXPECT(POLYSCORE_OK, polyscore_model_open(path, &options, &m, NULL));
        EXPECT(POLYSCORE_OK, polyscore_model_info_get(m, &info, NULL));
        check(info.scenario_bytes <= budgets[i], "scenario bytes", (long)info.scenario_bytes, (long)budgets[i]);
        EXPECT(POLYSCORE_OK, polyscore_model_close(m));
    }
    polyscore_model_info known = {.struct_size = offsetof(polyscore_model_info, model_bytes), .scenario_bytes = 77};
    EXPECT(POLYSCORE_OK, polyscore_model_info_get(model, &known, NULL));
    check(known.features == 10 && known.scenario_bytes == 77 && known.model_bytes == 0, "older info", 0, 1);
    check(known.struct_size == offsetof(polyscore_model_info, model_bytes), "the size stays", known.struct_size, 0);
    known.struct_size--;
    EXPECT(POLYSCORE_STRUCT_SIZE, polyscore_model_info_get(model, &known, NULL));
    polyscore_counters seen = {.struct_size = offsetof(polyscore_counters, scenarios_folded), .scenarios_folded = 77};
    EXPECT(POLYSCORE_OK, polyscore_scorer_counters(scorer, &seen, NULL));
    check(seen.requests > 0 && seen.scenarios_folded == 77, "older counters", 0, 1);

    polyscore_error tiny = {.struct_size = 8};
    EXPECT(POLYSCORE_STRUCT_SIZE, polyscore_model_open("no-such-file", NULL, &m, &tiny));
    polyscore_model_info info = {.struct_size = 4};
    EXPECT(POLYSCORE_STRUCT_SIZE, polyscore_model_info_get(model, &info, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_info_get(model, NULL, NULL));
    polyscore_feature_info feature = {.struct_size = sizeof feature};
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_feature(model, 0, NULL, NULL));
    EXPECT(POLYSCORE_UNKNOWN_FEATURE, polyscore_model_feature(model, 10, &feature, NULL));
    EXPECT(POLYSCORE_UNKNOWN_FEATURE, polyscore_model_feature(model, UINT32_MAX, &feature, NULL));
    polyscore_task_info task = {.struct_size = sizeof task};
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_task(model, 0, NULL, NULL));
    EXPECT(POLYSCORE_UNKNOWN_TASK, polyscore_model_task(model, 3, &task, NULL));
    polyscore_scenario_info scenario = {.struct_size = sizeof scenario};
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_scenario(model, 0, NULL, NULL));
    EXPECT(POLYSCORE_INVALID_ARGUMENT, polyscore_model_scenario(model, 3, &scenario, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_find_feature(model, NULL, &index, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_find_feature(model, "ad", NULL, NULL));
    EXPECT(POLYSCORE_UNKNOWN_FEATURE, polyscore_model_find_feature(model, "adx", &index, NULL));
    EXPECT(POLYSCORE_UNKNOWN_FEATURE, polyscore_model_find_feature(model, "", &index, NULL));
    EXPECT(POLYSCORE_INVALID_ARGUMENT, polyscore_model_find_feature(model, "\xc3", &index, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_find_task(model, NULL, &index, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_find_task(model, "ctr", NULL, NULL));
    EXPECT(POLYSCORE_UNKNOWN_TASK, polyscore_model_find_task(model, "CTR", &index, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_find_scenario(model, NULL, &index, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_find_scenario(model, "feed", NULL, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_find_scenario_id(model, 10, NULL, NULL));
    EXPECT(POLYSCORE_OK, polyscore_model_find_scenario(model, "nowhere", &index, NULL));
    check(index == POLYSCORE_SCENARIO_UNKNOWN, "unknown scenario", index, POLYSCORE_SCENARIO_UNKNOWN);
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_plan(model, text, sizeof text, NULL, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_plan(model, NULL, 8, &length, NULL));
    EXPECT(POLYSCORE_BUFFER_TOO_SMALL, polyscore_model_plan(model, text, sizeof text, &length, NULL));
    EXPECT(POLYSCORE_BUFFER_TOO_SMALL, polyscore_model_plan(model, NULL, 0, &length, NULL));
    EXPECT(POLYSCORE_BUFFER_TOO_SMALL, polyscore_model_description(model, NULL, 0, &length, NULL));
    char *description = malloc(length + 1);
    EXPECT(POLYSCORE_BUFFER_TOO_SMALL, polyscore_model_description(model, description, length, &length, NULL));
    EXPECT(POLYSCORE_OK, polyscore_model_description(model, description, length + 1, &length, NULL));
    check(strlen(description) == length && description[0] == '{', "description", (long)length, 0);
    free(description);
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_model_write_packed(model, NULL, NULL));
    EXPECT(POLYSCORE_INVALID_ARGUMENT, polyscore_model_write_packed(model, "\xc3", NULL));
    EXPECT(POLYSCORE_IO, polyscore_model_write_packed(model, "no-such-folder/model.safetensors", NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_scorer_new(model, NULL, NULL));
    EXPECT(POLYSCORE_INVALID_ARGUMENT, polyscore_scorer_new(model, (polyscore_scorer **)((char *)&s + 1), NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_scorer_counters(scorer, NULL, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_scorer_feature_counters(scorer, 0, NULL, NULL));
    polyscore_feature_counters counters = {.struct_size = sizeof counters};
    EXPECT(POLYSCORE_UNKNOWN_FEATURE, polyscore_scorer_feature_counters(scorer, 10, &counters, NULL));
    check(strcmp(polyscore_status_name(POLYSCORE_BUSY), "POLYSCORE_BUSY") == 0, "status name", 0, 1);
    check(strcmp(polyscore_status_name(12345), "unknown") == 0, "status name", 0, 1);
    still_scores("pointers");
}

static void calls(void) {
    uint32_t tasks[3] = {0, 0, 3};
    size_t huge[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 4, SIZE_MAX / 12 + 2};
    polyscore_scorer *fresh = NULL;
    EXPECT(POLYSCORE_OK, polyscore_scorer_new(model, &fresh, NULL));
    EXPECT(POLYSCORE_NOT_PREPARED,
           polyscore_scorer_score(fresh, N, candidates, CANDIDATE, NULL, 0, out, TASKS * N, NULL));
    EXPECT(POLYSCORE_OK, polyscore_scorer_close(fresh));
    EXPECT(POLYSCORE_INVALID_HANDLE, polyscore_scorer_close(fresh));

    EXPECT(POLYSCORE_OK, prepare());
    for (int i = 0; i < 4; i++) {
        EXPECT(POLYSCORE_BUFFER_TOO_SMALL,
               polyscore_scorer_score(scorer, huge[i], candidates, CANDIDATE, NULL, 0, out, TASKS * N, NULL));
        EXPECT(POLYSCORE_INVALID_ARGUMENT,
               polyscore_scorer_score(scorer, N, candidates, huge[i], NULL, 0, out, TASKS * N, NULL));
        EXPECT(POLYSCORE_INVALID_ARGUMENT, polyscore_scorer_prepare(scorer, 0, request, huge[i], NULL));
        EXPECT(POLYSCORE_OK, prepare());
    }
    EXPECT(POLYSCORE_BUFFER_TOO_SMALL,
           polyscore_scorer_score(scorer, N, candidates, CANDIDATE, NULL, 0, out, TASKS * N - 1, NULL));
    EXPECT(POLYSCORE_BUFFER_TOO_SMALL, polyscore_scorer_score(scorer, N, candidates, CANDIDATE, NULL, 0, out, 0, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT,
           polyscore_scorer_score(scorer, N, candidates, CANDIDATE, NULL, 0, NULL, TASKS * N, NULL));
    EXPECT(POLYSCORE_INVALID_ARGUMENT, polyscore_scorer_score(scorer, N, candidates, CANDIDATE, NULL, 0,
                                                              (float *)((char *)out + 1), TASKS * N, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT,
           polyscore_scorer_score(scorer, N, NULL, CANDIDATE, NULL, 0, out, TASKS * N, NULL));
    EXPECT(POLYSCORE_INVALID_ARGUMENT,
           polyscore_scorer_score(scorer, N, (const polyscore_column *)((char *)candidates + 4), CANDIDATE, NULL, 0, out,
                                  TASKS * N, NULL));
    EXPECT(POLYSCORE_MISSING_FEATURE, polyscore_scorer_score(scorer, N, NULL, 0, NULL, 0, out, TASKS * N, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT,
           polyscore_scorer_score(scorer, N, candidates, CANDIDATE, NULL, 1, out, TASKS * N, NULL));
    EXPECT(POLYSCORE_DUPLICATE_TASK,
           polyscore_scorer_score(scorer, N, candidates, CANDIDATE, tasks, 2, out, TASKS * N, NULL));
    EXPECT(POLYSCORE_UNKNOWN_TASK,
           polyscore_scorer_score(scorer, N, candidates, CANDIDATE, tasks + 2, 1, out, TASKS * N, NULL));
    EXPECT(POLYSCORE_INVALID_ARGUMENT,
           polyscore_scorer_score(scorer, N, candidates, CANDIDATE, tasks, huge[2], out, TASKS * N, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_scorer_prepare(scorer, 0, NULL, REQUEST, NULL));
    EXPECT(POLYSCORE_MISSING_FEATURE, polyscore_scorer_prepare(scorer, 0, NULL, 0, NULL));

    /* No candidates: nothing to do, nothing written, columns still checked. */
    polyscore_column none[CANDIDATE];
    int64_t zero[1] = {0};
    memcpy(none, candidates, sizeof none);
    for (int i = 0; i < CANDIDATE; i++) {
        none[i].values = NULL;
        none[i].values_len = 0;
        if (none[i].row_offsets_len) none[i] = bag(none[i], zero, 1);
    }
    EXPECT(POLYSCORE_OK, prepare());
    EXPECT(POLYSCORE_OK, polyscore_scorer_score(scorer, 0, none, CANDIDATE, NULL, 0, NULL, 0, NULL));
    EXPECT(POLYSCORE_COLUMN_LENGTH,
           polyscore_scorer_score(scorer, 0, candidates, CANDIDATE, NULL, 0, NULL, 0, NULL));
    /* Unknown scenarios fall back. */
    EXPECT(POLYSCORE_OK, polyscore_scorer_prepare(scorer, POLYSCORE_SCENARIO_UNKNOWN, request, REQUEST, NULL));
    EXPECT(POLYSCORE_OK, polyscore_scorer_prepare(scorer, 1000, request, REQUEST, NULL));
    still_scores("calls");

    /* The output over each input. */
    union { float out[64]; int64_t ids[32]; } shared;
    const struct { size_t at; int part; } places[] = {{0, 0}, {1, 0}, {1, 1}, {2, 0}, {3, 0}, {4, 0}, {4, 1}};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        polyscore_column over[CANDIDATE];
        memcpy(over, candidates, sizeof over);
        memset(&shared, 0, sizeof shared);
        if (places[i].part) {
            over[places[i].at].row_offsets = shared.ids;
        } else {
            over[places[i].at].values = shared.ids;
        }
        EXPECT(POLYSCORE_OVERLAP,
               polyscore_scorer_score(scorer, N, over, CANDIDATE, NULL, 0, shared.out, TASKS * N, NULL));
    }
    polyscore_column moved[CANDIDATE];
    memcpy(moved, candidates, sizeof moved);
    EXPECT(POLYSCORE_OVERLAP, polyscore_scorer_score(scorer, N, moved, CANDIDATE, NULL, 0, (float *)(void *)moved,
                                                     TASKS * N, NULL));
    check(memcmp(moved, candidates, sizeof moved) == 0, "columns stay", 0, 1);
    shared.ids[0] = 0;
    EXPECT(POLYSCORE_OVERLAP, polyscore_scorer_score(scorer, N, candidates, CANDIDATE, (uint32_t *)&shared, 1,
                                                     shared.out, TASKS * N, NULL));
    still_scores("overlap");
}

static int32_t score_mixed(size_t count, const uint32_t *scenarios, float *to, size_t room) {
    return polyscore_scorer_score_mixed(scorer, count, scenarios, candidates, CANDIDATE, NULL, 0, to, room, NULL);
}

static int32_t score_each(size_t count, const uint32_t *scenarios, size_t length, float *to, size_t room) {
    return polyscore_scorer_score_each(scorer, count, scenarios, length, candidates, CANDIDATE, NULL, 0, to, room, NULL);
}

static uint64_t unknown_scenarios(void) {
    polyscore_counters counters = {.struct_size = sizeof counters};
    EXPECT(POLYSCORE_OK, polyscore_scorer_counters(scorer, &counters, NULL));
    return counters.unknown_scenarios;
}

/* The calls that name scenarios. The network has none in it, so that each of them has the expected scores. */
static void scenarios(void) {
    enum { ALL = SCENARIOS * TASKS * N };
    size_t huge[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 4, SIZE_MAX / 12 + 2};
    uint32_t tasks[2] = {0, 0};
    float all[ALL];
    union { float out[64]; uint32_t scenarios[64]; } shared = {{0}};
    polyscore_scorer *fresh = NULL;
    for (int i = 0; i < ALL; i++) all[i] = NAN;
    EXPECT(POLYSCORE_OK, polyscore_scorer_new(model, &fresh, NULL));
    EXPECT(POLYSCORE_NOT_PREPARED,
           polyscore_scorer_score_mixed(fresh, N, mixed, candidates, CANDIDATE, NULL, 0, out, TASKS * N, NULL));
    EXPECT(POLYSCORE_NOT_PREPARED,
           polyscore_scorer_score_each(fresh, N, each, SCENARIOS, candidates, CANDIDATE, NULL, 0, all, ALL, NULL));
    EXPECT(POLYSCORE_OK, polyscore_scorer_close(fresh));
    EXPECT(POLYSCORE_OK, prepare());

    EXPECT(POLYSCORE_NULL_ARGUMENT, score_mixed(N, NULL, out, TASKS * N));
    EXPECT(POLYSCORE_NULL_ARGUMENT, score_mixed(N, mixed, NULL, TASKS * N));
    EXPECT(POLYSCORE_INVALID_ARGUMENT, score_mixed(N, (uint32_t *)(void *)((char *)mixed + 1), out, TASKS * N));
    EXPECT(POLYSCORE_INVALID_ARGUMENT, score_mixed(N, mixed, (float *)(void *)((char *)out + 1), TASKS * N));
    EXPECT(POLYSCORE_BUFFER_TOO_SMALL, score_mixed(N, mixed, out, TASKS * N - 1));
    EXPECT(POLYSCORE_COLUMN_LENGTH, score_mixed(N - 1, mixed, out, TASKS * N));
    EXPECT(POLYSCORE_OVERLAP, score_mixed(N, shared.scenarios, shared.out, TASKS * N));
    EXPECT(POLYSCORE_OVERLAP, score_mixed(N, shared.scenarios + TASKS * N - 1, shared.out, TASKS * N));
    EXPECT(POLYSCORE_DUPLICATE_TASK,
           polyscore_scorer_score_mixed(scorer, N, mixed, candidates, CANDIDATE, tasks, 2, out, TASKS * N, NULL));
    EXPECT(POLYSCORE_MISSING_FEATURE,
           polyscore_scorer_score_mixed(scorer, N, mixed, NULL, 0, NULL, 0, out, TASKS * N, NULL));

    EXPECT(POLYSCORE_NULL_ARGUMENT, score_each(N, NULL, SCENARIOS, all, ALL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, score_each(N, each, SCENARIOS, NULL, ALL));
    EXPECT(POLYSCORE_INVALID_ARGUMENT, score_each(N, (uint32_t *)(void *)((char *)each + 1), 1, all, ALL));
    EXPECT(POLYSCORE_BUFFER_TOO_SMALL, score_each(N, each, SCENARIOS, all, ALL - 1));
    EXPECT(POLYSCORE_COLUMN_LENGTH, score_each(N - 1, each, SCENARIOS, all, ALL));
    EXPECT(POLYSCORE_COLUMN_LENGTH, score_each(huge[2], each, 0, all, ALL));
    EXPECT(POLYSCORE_OVERLAP, score_each(N, shared.scenarios, 1, shared.out, TASKS * N));
    EXPECT(POLYSCORE_DUPLICATE_TASK, polyscore_scorer_score_each(scorer, N, each, SCENARIOS, candidates, CANDIDATE, tasks,
                                                                 2, all, ALL, NULL));
    EXPECT(POLYSCORE_MISSING_FEATURE,
           polyscore_scorer_score_each(scorer, N, each, SCENARIOS, NULL, 0, NULL, 0, all, ALL, NULL));
    for (int i = 0; i < 4; i++) {
        EXPECT(POLYSCORE_BUFFER_TOO_SMALL, score_mixed(huge[i], mixed, out, TASKS * N));
        EXPECT(POLYSCORE_BUFFER_TOO_SMALL, score_each(huge[i], each, SCENARIOS, all, ALL));
        EXPECT(POLYSCORE_BUFFER_TOO_SMALL, score_each(N, each, huge[i], all, ALL));
        if (i < 3) EXPECT(POLYSCORE_INVALID_ARGUMENT, score_each(0, each, huge[i], all, ALL));
    }
    for (int i = 0; i < ALL; i++) check(isnan(all[i]), "nothing is written", i, -1);
    still_scores("refused scenarios");

    uint64_t before = unknown_scenarios();
    EXPECT(POLYSCORE_OK, score_mixed(N, mixed, out, TASKS * N));
    check(memcmp(out, expected, sizeof out) == 0, "mixed scenarios", 0, 1);
    check(unknown_scenarios() == before + 2, "unknown candidates", (long)(unknown_scenarios() - before), 2);
    EXPECT(POLYSCORE_OK, score_each(N, each, SCENARIOS, all, ALL));
    for (int i = 0; i < SCENARIOS; i++) {
        check(memcmp(all + i * TASKS * N, expected, sizeof expected) == 0, "each scenario", i, -1);
    }
    check(unknown_scenarios() == before + 3, "unknown scenarios", (long)(unknown_scenarios() - before), 3);
    EXPECT(POLYSCORE_OK, score_each(N, NULL, 0, NULL, 0));
    EXPECT(POLYSCORE_OK, score());
    check(memcmp(out, expected, sizeof out) == 0, "the request stays", 0, 1);
    for (int i = 0; i < TASKS * N; i++) out[i] = NAN;
    still_scores("scenarios");
}

/* Random opening, scoring and closing: every call is either right or INVALID_HANDLE. */
static void sequences(const char *path) {
    enum { HANDLES = 16 };
    polyscore_model *models[HANDLES] = {NULL};
    polyscore_scorer *scorers[HANDLES] = {NULL};
    int model_open[HANDLES] = {0}, scorer_open[HANDLES] = {0}, wrong = 0;
    unsigned state = 1;
    for (int i = 0; i < 100000; i++) {
        state = state * 1664525u + 1013904223u;
        int a = state >> 8 & (HANDLES - 1), b = state >> 16 & (HANDLES - 1);
        polyscore_counters counters = {.struct_size = sizeof counters};
        switch (state >> 24 & 7) {
        case 0:
            if (!model_open[a] && (i & 255) == 0) {
                model_open[a] = polyscore_model_open(path, NULL, &models[a], NULL) == POLYSCORE_OK;
                wrong += !model_open[a];
            }
            break;
        case 1:
            if ((i & 63) == 0) {
                int32_t status = polyscore_model_close(models[a]);
                wrong += status != (model_open[a] || models[a] == NULL ? POLYSCORE_OK : POLYSCORE_INVALID_HANDLE);
                model_open[a] = 0;
            }
            break;
        case 2:
            if (!scorer_open[b]) {
                int32_t status = polyscore_scorer_new(models[a], &scorers[b], NULL);
                wrong += (status == POLYSCORE_OK) != model_open[a];
                scorer_open[b] = status == POLYSCORE_OK;
            }
            break;
        case 3: {
            int32_t status = polyscore_scorer_close(scorers[b]);
            wrong += status != (scorer_open[b] || scorers[b] == NULL ? POLYSCORE_OK : POLYSCORE_INVALID_HANDLE);
            scorer_open[b] = 0;
            break;
        }
        default: {
            int32_t status = polyscore_scorer_counters(scorers[b], &counters, NULL);
            wrong += (status == POLYSCORE_OK) != scorer_open[b];
        }
        }
    }
    for (int i = 0; i < HANDLES; i++) {
        if (model_open[i]) polyscore_model_close(models[i]);
        if (scorer_open[i]) polyscore_scorer_close(scorers[i]);
    }
    check(wrong == 0, "handle sequences", wrong, 0);
}

static void *score_until_closed(void *given) {
    polyscore_scorer *shared = given;
    float scores[TASKS * N];
    for (;;) {
        int32_t status = polyscore_scorer_prepare(shared, 0, request, REQUEST, NULL);
        if (status == POLYSCORE_OK) {
            status = polyscore_scorer_score(shared, N, candidates, CANDIDATE, NULL, 0, scores, TASKS * N, NULL);
        }
        if (status == POLYSCORE_INVALID_HANDLE) return NULL;
        if (status == POLYSCORE_OK && memcmp(scores, expected, sizeof scores) != 0) return given;
        if (status != POLYSCORE_OK && status != POLYSCORE_BUSY && status != POLYSCORE_NOT_PREPARED) return given;
        sched_yield();
    }
}

static void closing_while_scoring(void) {
    int wrong = 0;
    for (int round = 0; round < 50; round++) {
        pthread_t threads[2];
        polyscore_scorer *shared = NULL;
        EXPECT(POLYSCORE_OK, polyscore_scorer_new(model, &shared, NULL));
        for (int i = 0; i < 2; i++) pthread_create(&threads[i], NULL, score_until_closed, shared);
        for (int i = 0; i < round % 7; i++) EXPECT(POLYSCORE_OK, prepare());
        EXPECT(POLYSCORE_OK, polyscore_scorer_close(shared));
        for (int i = 0; i < 2; i++) {
            void *result = NULL;
            pthread_join(threads[i], &result);
            wrong += result != NULL;
        }
    }
    check(wrong == 0, "closing while scoring", wrong, 0);
}

/* The keys of candidates: refused where they break a rule, and a row that is found gives the bits of one that is computed. */
static void item_keys(const char *path) {
    polyscore_open_options options = {.struct_size = sizeof options, .item_bytes = 1 << 20, .item_rows = 3};
    polyscore_model_info info = {.struct_size = sizeof info};
    polyscore_counters counters = {.struct_size = sizeof counters};
    polyscore_model *cached = NULL, *usual = model;
    polyscore_scorer *own = scorer;
    int64_t keys[N] = {1, 2, INT64_MIN, 1LL << 40, -1}, ends[N + 1] = {0, 1, 2, 3, 4, 5};
    polyscore_column keyed[CANDIDATE + 2], good = column("ad", POLYSCORE_COLUMN_I64, keys, N), c;
    good.feature = POLYSCORE_ITEM_KEY;
    EXPECT(POLYSCORE_OK, polyscore_model_open(path, &options, &cached, NULL));
    EXPECT(POLYSCORE_OK, polyscore_model_info_get(cached, &info, NULL));
    check(info.item_room > N && info.item_bytes <= 1 << 20, "item room", (long)info.item_room, N);
    EXPECT(POLYSCORE_OK, polyscore_scorer_new(cached, &scorer, NULL));
    memcpy(keyed, candidates, sizeof candidates);
#define KEYS(status, change)                                                                                    \
    do {                                                                                                        \
        c = good;                                                                                               \
        change;                                                                                                 \
        keyed[CANDIDATE] = keyed[CANDIDATE + 1] = c;                                                            \
        EXPECT(POLYSCORE_OK, prepare());                                                                        \
        EXPECT(status, polyscore_scorer_score(scorer, N, keyed, CANDIDATE + 1, NULL, 0, out, TASKS * N, NULL)); \
    } while (0)
    for (int turn = 0; turn < 2; turn++) {
        KEYS(POLYSCORE_OK, (void)c);
        check(memcmp(out, expected, sizeof out) == 0, "with item keys", turn, 0);
        for (int i = 0; i < TASKS * N; i++) out[i] = NAN;
    }
    KEYS(POLYSCORE_COLUMN_LENGTH, c.values_len--);
    KEYS(POLYSCORE_COLUMN_TYPE, c.type = POLYSCORE_COLUMN_I32);
    KEYS(POLYSCORE_COLUMN_TYPE, c.type = POLYSCORE_COLUMN_F32);
    KEYS(POLYSCORE_COLUMN_OFFSETS, c.row_offsets = ends; c.row_offsets_len = N + 1);
    KEYS(POLYSCORE_NULL_ARGUMENT, c.values = NULL);
    KEYS(POLYSCORE_UNKNOWN_FEATURE, c.feature = POLYSCORE_ITEM_KEY + 1);
    KEYS(POLYSCORE_UNKNOWN_FEATURE, c.feature = POLYSCORE_ITEM_KEY - 1);
    keyed[CANDIDATE] = keyed[CANDIDATE + 1] = good;
    EXPECT(POLYSCORE_DUPLICATE_COLUMN,
           polyscore_scorer_score(scorer, N, keyed, CANDIDATE + 2, NULL, 0, out, TASKS * N, NULL));
    memcpy(keyed, request, sizeof request);
    keyed[0] = good;
    EXPECT(POLYSCORE_COLUMN_SIDE, polyscore_scorer_prepare(scorer, 0, keyed, REQUEST, NULL));
    EXPECT(POLYSCORE_OK, polyscore_scorer_counters(scorer, &counters, NULL));
    check(counters.item_hits == N - 1 && counters.item_misses == N - 1, "hits", (long)counters.item_hits, N - 1);
    EXPECT(POLYSCORE_OK, polyscore_model_close(cached));
    still_scores("item keys");
    EXPECT(POLYSCORE_OK, polyscore_scorer_close(scorer));
    scorer = own;
    model = usual;
    options.item_bytes = UINT64_MAX;
    EXPECT(POLYSCORE_OUT_OF_MEMORY, polyscore_model_open(path, &options, &cached, NULL));
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    polyscore_error error = error_of();
    check(polyscore_abi_version() == POLYSCORE_ABI_VERSION, "abi", polyscore_abi_version(), POLYSCORE_ABI_VERSION);
    EXPECT(POLYSCORE_OK, polyscore_model_open(argv[1], NULL, &model, &error));
    if (model == NULL) {
        printf("%s: %s\n", error.subject, error.message);
        return 1;
    }
    EXPECT(POLYSCORE_OK, polyscore_scorer_new(model, &scorer, &error));
    fill_columns();
    EXPECT(POLYSCORE_OK, prepare());
    EXPECT(POLYSCORE_OK, score());
    memcpy(expected, out, sizeof out);
    check(expected[0] > 0 && expected[0] < 1 && expected[0] != expected[1], "scores", 0, 1);
    for (int i = 0; i < TASKS * N; i++) out[i] = NAN;

    pointers_and_sizes(argv[1]);
    handles();
    columns();
    calls();
    scenarios();
    item_keys(argv[1]);
    sequences(argv[1]);
    closing_while_scoring();

    EXPECT(POLYSCORE_OK, polyscore_model_close(model));
    EXPECT(POLYSCORE_OK, prepare());
    EXPECT(POLYSCORE_OK, score());
    check(memcmp(out, expected, sizeof out) == 0, "a scorer outlives its model's handle", 0, 1);
    EXPECT(POLYSCORE_OK, polyscore_scorer_close(scorer));
    EXPECT(POLYSCORE_INVALID_HANDLE, prepare());
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
