/*
 * polyscore without a link step: loads the library at run time.
 *
 * Include it anywhere; in exactly one source file define POLYSCORE_DL_IMPLEMENTATION first. POSIX: link with -ldl where
 * the C library needs it. Generated from polyscore.h by tests/abi/headers.py: `make headers`.
 *
 *     polyscore_api api;
 *     char message[256];
 *     if (polyscore_dl_open("libpolyscore.so.0", &api, message, sizeof message) != 0) { ... }
 *     api.model_open(path, NULL, &model, NULL);
 */
#ifndef POLYSCORE_DL_H
#define POLYSCORE_DL_H

#include "polyscore.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The functions of polyscore.h, without their prefix. */
typedef struct polyscore_api {
    /* What dlopen gave; never closed, since the library stays. */
    void *library;
    uint32_t (*abi_version)(void);
    const char *(*version)(void);
    const char *(*status_name)(polyscore_status status);
    polyscore_status (*model_open)(const char *path, const struct polyscore_open_options *options, struct polyscore_model **out, struct polyscore_error *error);
    polyscore_status (*model_close)(struct polyscore_model *model);
    polyscore_status (*model_info_get)(struct polyscore_model *model, struct polyscore_model_info *out, struct polyscore_error *error);
    polyscore_status (*model_feature)(struct polyscore_model *model, uint32_t slot, struct polyscore_feature_info *out, struct polyscore_error *error);
    polyscore_status (*model_find_feature)(struct polyscore_model *model, const char *name, uint32_t *slot, struct polyscore_error *error);
    polyscore_status (*model_task)(struct polyscore_model *model, uint32_t index, struct polyscore_task_info *out, struct polyscore_error *error);
    polyscore_status (*model_find_task)(struct polyscore_model *model, const char *name, uint32_t *index, struct polyscore_error *error);
    polyscore_status (*model_scenario)(struct polyscore_model *model, uint32_t index, struct polyscore_scenario_info *out, struct polyscore_error *error);
    polyscore_status (*model_find_scenario)(struct polyscore_model *model, const char *name, uint32_t *index, struct polyscore_error *error);
    polyscore_status (*model_find_scenario_id)(struct polyscore_model *model, int64_t id, uint32_t *index, struct polyscore_error *error);
    polyscore_status (*model_write_packed)(struct polyscore_model *model, const char *path, struct polyscore_error *error);
    polyscore_status (*model_plan)(struct polyscore_model *model, char *buffer, size_t capacity, size_t *length, struct polyscore_error *error);
    polyscore_status (*model_description)(struct polyscore_model *model, char *buffer, size_t capacity, size_t *length, struct polyscore_error *error);
    polyscore_status (*pool_new)(const struct polyscore_pool_options *options, struct polyscore_pool **out, struct polyscore_error *error);
    polyscore_status (*pool_close)(struct polyscore_pool *pool);
    polyscore_status (*pool_threads)(struct polyscore_pool *pool, uint32_t *threads, struct polyscore_error *error);
    polyscore_status (*scorer_new)(struct polyscore_model *model, struct polyscore_scorer **out, struct polyscore_error *error);
    polyscore_status (*scorer_new_parallel)(struct polyscore_model *model, struct polyscore_pool *pool, struct polyscore_scorer **out, struct polyscore_error *error);
    polyscore_status (*scorer_close)(struct polyscore_scorer *scorer);
    polyscore_status (*scorer_prepare)(struct polyscore_scorer *scorer, uint32_t scenario, const struct polyscore_column *columns, size_t columns_len, struct polyscore_error *error);
    polyscore_status (*scorer_score)(struct polyscore_scorer *scorer, size_t candidates, const struct polyscore_column *columns, size_t columns_len, const uint32_t *tasks, size_t tasks_len, float *out, size_t out_len, struct polyscore_error *error);
    polyscore_status (*scorer_score_mixed)(struct polyscore_scorer *scorer, size_t candidates, const uint32_t *scenarios, const struct polyscore_column *columns, size_t columns_len, const uint32_t *tasks, size_t tasks_len, float *out, size_t out_len, struct polyscore_error *error);
    polyscore_status (*scorer_score_each)(struct polyscore_scorer *scorer, size_t candidates, const uint32_t *scenarios, size_t scenarios_len, const struct polyscore_column *columns, size_t columns_len, const uint32_t *tasks, size_t tasks_len, float *out, size_t out_len, struct polyscore_error *error);
    polyscore_status (*scorer_counters)(struct polyscore_scorer *scorer, struct polyscore_counters *out, struct polyscore_error *error);
    polyscore_status (*scorer_feature_counters)(struct polyscore_scorer *scorer, uint32_t slot, struct polyscore_feature_counters *out, struct polyscore_error *error);
} polyscore_api;

/*
 * Loads the library at `path` (as dlopen finds it) and fills `api`. Returns 0; or -1 if it cannot be loaded, lacks a
 * function, or has another ABI version than this header, with a NUL-terminated reason in `message` (which may be NULL).
 * On failure `api` is not written. Any thread may call it, any number of times.
 */
int polyscore_dl_open(const char *path, polyscore_api *api, char *message, size_t capacity);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* POLYSCORE_DL_H */

#ifdef POLYSCORE_DL_IMPLEMENTATION
#ifndef POLYSCORE_DL_IMPLEMENTED
#define POLYSCORE_DL_IMPLEMENTED

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

int polyscore_dl_open(const char *path, polyscore_api *api, char *message, size_t capacity) {
    polyscore_api loaded;
    void *symbol;
    if (message != NULL && capacity > 0) message[0] = '\0';
    memset(&loaded, 0, sizeof loaded);
    loaded.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (loaded.library == NULL) {
        const char *reason = dlerror();
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s", reason != NULL ? reason : path);
        return -1;
    }
    symbol = dlsym(loaded.library, "polyscore_abi_version");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_abi_version", path);
        return -1;
    }
    memcpy(&loaded.abi_version, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_version");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_version", path);
        return -1;
    }
    memcpy(&loaded.version, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_status_name");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_status_name", path);
        return -1;
    }
    memcpy(&loaded.status_name, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_open");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_open", path);
        return -1;
    }
    memcpy(&loaded.model_open, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_close");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_close", path);
        return -1;
    }
    memcpy(&loaded.model_close, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_info_get");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_info_get", path);
        return -1;
    }
    memcpy(&loaded.model_info_get, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_feature");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_feature", path);
        return -1;
    }
    memcpy(&loaded.model_feature, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_find_feature");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_find_feature", path);
        return -1;
    }
    memcpy(&loaded.model_find_feature, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_task");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_task", path);
        return -1;
    }
    memcpy(&loaded.model_task, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_find_task");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_find_task", path);
        return -1;
    }
    memcpy(&loaded.model_find_task, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_scenario");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_scenario", path);
        return -1;
    }
    memcpy(&loaded.model_scenario, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_find_scenario");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_find_scenario", path);
        return -1;
    }
    memcpy(&loaded.model_find_scenario, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_find_scenario_id");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_find_scenario_id", path);
        return -1;
    }
    memcpy(&loaded.model_find_scenario_id, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_write_packed");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_write_packed", path);
        return -1;
    }
    memcpy(&loaded.model_write_packed, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_plan");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_plan", path);
        return -1;
    }
    memcpy(&loaded.model_plan, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_model_description");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_model_description", path);
        return -1;
    }
    memcpy(&loaded.model_description, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_pool_new");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_pool_new", path);
        return -1;
    }
    memcpy(&loaded.pool_new, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_pool_close");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_pool_close", path);
        return -1;
    }
    memcpy(&loaded.pool_close, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_pool_threads");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_pool_threads", path);
        return -1;
    }
    memcpy(&loaded.pool_threads, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_scorer_new");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_scorer_new", path);
        return -1;
    }
    memcpy(&loaded.scorer_new, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_scorer_new_parallel");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_scorer_new_parallel", path);
        return -1;
    }
    memcpy(&loaded.scorer_new_parallel, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_scorer_close");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_scorer_close", path);
        return -1;
    }
    memcpy(&loaded.scorer_close, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_scorer_prepare");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_scorer_prepare", path);
        return -1;
    }
    memcpy(&loaded.scorer_prepare, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_scorer_score");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_scorer_score", path);
        return -1;
    }
    memcpy(&loaded.scorer_score, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_scorer_score_mixed");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_scorer_score_mixed", path);
        return -1;
    }
    memcpy(&loaded.scorer_score_mixed, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_scorer_score_each");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_scorer_score_each", path);
        return -1;
    }
    memcpy(&loaded.scorer_score_each, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_scorer_counters");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_scorer_counters", path);
        return -1;
    }
    memcpy(&loaded.scorer_counters, &symbol, sizeof symbol);
    symbol = dlsym(loaded.library, "polyscore_scorer_feature_counters");
    if (symbol == NULL) {
        if (message != NULL && capacity > 0) snprintf(message, capacity, "%s has no polyscore_scorer_feature_counters", path);
        return -1;
    }
    memcpy(&loaded.scorer_feature_counters, &symbol, sizeof symbol);
    if (loaded.abi_version() != POLYSCORE_ABI_VERSION) {
        if (message != NULL && capacity > 0) {
            snprintf(message, capacity, "%s has ABI version %u, this program needs %u", path,
                     (unsigned)loaded.abi_version(), (unsigned)POLYSCORE_ABI_VERSION);
        }
        return -1;
    }
    *api = loaded;
    return 0;
}

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* POLYSCORE_DL_IMPLEMENTED */
#endif /* POLYSCORE_DL_IMPLEMENTATION */
