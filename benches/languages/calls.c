/* Times of calls from C; see languages.py. usage: calls MODEL IDS REQUEST_FIELDS ITEM_FIELDS CANDIDATES SECONDS */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "polyscore.h"

static polyscore_error error;

static int fail(void) {
    fprintf(stderr, "%s: %s: %s\n", polyscore_status_name(error.status), error.subject, error.message);
    return 1;
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Slots of the features `side`0, `side`1 and so on; NULL if the model lacks one. */
static uint32_t *slots(polyscore_model *model, char side, size_t count) {
    uint32_t *found = calloc(count, sizeof *found);
    for (size_t k = 0; found && k < count; k++) {
        char name[16];
        snprintf(name, sizeof name, "%c%zu", side, k);
        if (polyscore_model_find_feature(model, name, &found[k], &error) != POLYSCORE_OK) {
            free(found);
            return NULL;
        }
    }
    return found;
}

static void fill(polyscore_column *columns, const uint32_t *slot, size_t count, const int64_t *ids, size_t rows) {
    for (size_t k = 0; k < count; k++) {
        memset(&columns[k], 0, sizeof columns[k]);
        columns[k].struct_size = sizeof columns[k];
        columns[k].feature = slot[k];
        columns[k].type = POLYSCORE_COLUMN_I64;
        columns[k].values = ids + k * rows;
        columns[k].values_len = rows;
    }
}

int main(int argc, char **argv) {
    enum { TASKS = 3, TIMES = 1 << 22 };
    polyscore_model *model = NULL;
    polyscore_scorer *scorer = NULL;
    if (argc != 7) return 2;
    error.struct_size = sizeof error;
    const size_t user = strtoul(argv[3], NULL, 10), items = strtoul(argv[4], NULL, 10), n = strtoul(argv[5], NULL, 10);
    const int64_t limit = (int64_t)(strtod(argv[6], NULL) * 1e9);
    const size_t size = user + items * n;

    FILE *file = fopen(argv[2], "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) return 2;
    const size_t requests = (size_t)ftell(file) / (size * sizeof(int64_t));
    int64_t *ids = malloc(requests * size * sizeof *ids);
    rewind(file);
    if (!ids || requests == 0 || fread(ids, size * sizeof *ids, requests, file) != requests) return 2;
    fclose(file);

    if (polyscore_model_open(argv[1], NULL, &model, &error) != POLYSCORE_OK) return fail();
    if (polyscore_scorer_new(model, &scorer, &error) != POLYSCORE_OK) return fail();
    uint32_t *user_slots = slots(model, 'u', user), *item_slots = slots(model, 'i', items);
    if (!user_slots || !item_slots) return fail();
    polyscore_column *request = malloc(user * sizeof *request), *ads = malloc(items * sizeof *ads);
    float *out = malloc(TASKS * n * sizeof *out);
    int64_t *times = malloc(TIMES * sizeof *times);
    if (!request || !ads || !out || !times) return 2;

    size_t count = 0;
    for (const int64_t begin = now(); count < TIMES; count++) {
        const int64_t start = now(), *of_user = ids + count % requests * size;
        if (start - begin > limit) break;
        fill(request, user_slots, user, of_user, 1);
        fill(ads, item_slots, items, of_user + user, n);
        if (polyscore_scorer_prepare(scorer, POLYSCORE_SCENARIO_UNKNOWN, request, user, &error) != POLYSCORE_OK) return fail();
        if (polyscore_scorer_score(scorer, n, ads, items, NULL, 0, out, TASKS * n, &error) != POLYSCORE_OK) return fail();
        times[count] = now() - start;
    }
    printf("%.9g\n", out[0]);
    for (size_t k = 0; k < count; k++) printf("%" PRId64 "\n", times[k]);
    polyscore_scorer_close(scorer);
    polyscore_model_close(model);
    return 0;
}
