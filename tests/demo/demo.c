/* The demo of tests/demo/README.md in C. usage: demo MODEL */
#include <stdio.h>
#include <string.h>

#include "polyscore.h"

enum { EMAILS = 3 };

struct customer {
    const char *scenario, *history_segment, *zip_code;
    float recency, history;
    int64_t mens, womens, newbie;
};

static const struct customer customers[] = {
    {"Web", "2) $100 - $200", "Urban", 2, 150.0f, 1, 0, 0},
    {"Phone", "1) $0 - $100", "Rural", 11, 33.5f, 0, 1, 1},
    {"Multichannel", "7) $1,000 +", "Surburban", 5, 1750.0f, 1, 1, 0},
};

static const char emails[] = "No E-MailMens E-MailWomens E-Mail";
static const int64_t email_offsets[EMAILS + 1] = {0, 9, 20, 33};
static const double costs[EMAILS] = {0.0, 0.10, 0.10};

static polyscore_error error;

static int fail(void) {
    fprintf(stderr, "%s: %s: %s\n", polyscore_status_name(error.status), error.subject, error.message);
    return 1;
}

/* A column of `length` values; text columns get their offsets after this. */
static polyscore_column column(uint32_t feature, uint32_t type, const void *values, size_t length) {
    polyscore_column c;
    memset(&c, 0, sizeof c);
    c.struct_size = sizeof c;
    c.feature = feature;
    c.type = type;
    c.values = values;
    c.values_len = length;
    return c;
}

static polyscore_column text(uint32_t feature, const char *bytes, const int64_t *offsets, size_t texts) {
    polyscore_column c = column(feature, POLYSCORE_COLUMN_TEXT, bytes, (size_t)offsets[texts]);
    c.text_offsets = offsets;
    c.text_offsets_len = texts + 1;
    return c;
}

int main(int argc, char **argv) {
    static const char *names[] = {"recency", "history_segment", "history", "mens", "womens", "zip_code", "newbie", "email"};
    uint32_t slots[8], tasks[2], scenario;
    polyscore_model *model = NULL;
    polyscore_scorer *scorer = NULL;
    if (argc != 2) return 2;
    error.struct_size = sizeof error;

    if (polyscore_model_open(argv[1], NULL, &model, &error) != POLYSCORE_OK) return fail();
    if (polyscore_scorer_new(model, &scorer, &error) != POLYSCORE_OK) return fail();
    for (int i = 0; i < 8; i++) {
        if (polyscore_model_find_feature(model, names[i], &slots[i], &error) != POLYSCORE_OK) return fail();
    }
    if (polyscore_model_find_task(model, "visit", &tasks[0], &error) != POLYSCORE_OK) return fail();
    if (polyscore_model_find_task(model, "conversion", &tasks[1], &error) != POLYSCORE_OK) return fail();

    for (size_t i = 0; i < sizeof customers / sizeof customers[0]; i++) {
        const struct customer *c = &customers[i];
        int64_t segment_offsets[2] = {0, (int64_t)strlen(c->history_segment)};
        int64_t zip_offsets[2] = {0, (int64_t)strlen(c->zip_code)};
        polyscore_column request[7] = {
            column(slots[0], POLYSCORE_COLUMN_F32, &c->recency, 1), text(slots[1], c->history_segment, segment_offsets, 1),
            column(slots[2], POLYSCORE_COLUMN_F32, &c->history, 1), column(slots[3], POLYSCORE_COLUMN_I64, &c->mens, 1),
            column(slots[4], POLYSCORE_COLUMN_I64, &c->womens, 1),  text(slots[5], c->zip_code, zip_offsets, 1),
            column(slots[6], POLYSCORE_COLUMN_I64, &c->newbie, 1),
        };
        polyscore_column candidates[1] = {text(slots[7], emails, email_offsets, EMAILS)};
        float scores[2 * EMAILS];
        double values[EMAILS];
        int order[EMAILS];
        if (polyscore_model_find_scenario(model, c->scenario, &scenario, &error) != POLYSCORE_OK) return fail();
        if (polyscore_scorer_prepare(scorer, scenario, request, 7, &error) != POLYSCORE_OK) return fail();
        if (polyscore_scorer_score(scorer, EMAILS, candidates, 1, tasks, 2, scores, 2 * EMAILS, &error) != POLYSCORE_OK) {
            return fail();
        }
        for (int e = 0; e < EMAILS; e++) {
            int place = e;
            values[e] = 100.0 * scores[EMAILS + e] - costs[e];
            for (; place > 0 && values[order[place - 1]] < values[e]; place--) order[place] = order[place - 1];
            order[place] = e;
        }
        for (int rank = 0; rank < EMAILS; rank++) {
            int e = order[rank];
            printf("%s\t%d\t%.*s\t%.6f\t%.6f\t%.4f\n", c->scenario, rank + 1,
                   (int)(email_offsets[e + 1] - email_offsets[e]), emails + email_offsets[e], scores[e],
                   scores[EMAILS + e], values[e]);
        }
    }
    polyscore_scorer_close(scorer);
    polyscore_model_close(model);
    return 0;
}
