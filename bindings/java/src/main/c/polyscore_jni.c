/*
 * The functions of io.polyscore.Native: polyscore.h, with addresses as jlong.
 *
 * Nothing here looks at a Java object, but for the address of a buffer: no critical section, no exception, and no callback but
 * that of a pool over an executor. So a call costs what a JNI transition costs, and a thread inside does not hold up the garbage
 * collector.
 *
 * The engine is not linked but loaded, from the directory of this library.
 */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define POLYSCORE_DL_IMPLEMENTATION
#include "polyscore_dl.h"

#include "io_polyscore_Layout.h"
#include "io_polyscore_Native.h"
#include "io_polyscore_Status.h"

#define AT(type, address) ((type)(intptr_t)(address))
#define MODEL(handle) AT(polyscore_model *, handle)
#define SCORER(handle) AT(polyscore_scorer *, handle)
#define ERROR(address) AT(polyscore_error *, address)

#define POOL(handle) AT(polyscore_pool *, handle)

/* Written once, by bind, before any other call. */
static polyscore_api api;

/* The virtual machine and Pool.run. The reference is weak: it does not keep the class loader. */
static JavaVM *machine;
static jweak pool_class;
static jmethodID pool_run;

static int bind_pool(JNIEnv *env) {
    jclass class = (*env)->FindClass(env, "io/polyscore/Pool");
    if (class == NULL) return -1;
    pool_run = (*env)->GetStaticMethodID(env, class, "run", "(IJJ)V");
    pool_class = (*env)->NewWeakGlobalRef(env, class);
    (*env)->DeleteLocalRef(env, class);
    return pool_run == NULL || pool_class == NULL || (*env)->GetJavaVM(env, &machine) != JNI_OK ? -1 : 0;
}

/* On the thread that scores, which is inside of a method of Native: so it is Java's, and the class is there. An exception
 * stays pending until that method returns; the tasks that did not run fail the call. */
static void run_on_executor(void *executor, size_t tasks, polyscore_task task, void *context) {
    JNIEnv *env;
    jclass class;
    (void)executor;
    if ((*machine)->GetEnv(machine, (void **)&env, JNI_VERSION_1_8) != JNI_OK) return;
    class = (*env)->NewLocalRef(env, pool_class);
    if (class == NULL) return;
    (*env)->CallStaticVoidMethod(env, class, pool_run, (jint)tasks, (jlong)(intptr_t)task, (jlong)(intptr_t)context);
    (*env)->DeleteLocalRef(env, class);
    (void)(*env)->ExceptionCheck(env); /* -Xcheck:jni wants to see it. */
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_bind(JNIEnv *env, jclass class, jint version, jlong message,
                                                     jlong capacity) {
    char path[PATH_MAX];
    Dl_info self;
    const char *slash;
    int length;
    (void)class;
    if (version != io_polyscore_Native_VERSION) {
        snprintf(AT(char *, message), (size_t)capacity, "is of another version than the jar: it has interface %d, the jar %d",
                 (int)io_polyscore_Native_VERSION, (int)version);
        return -1;
    }
    if (dladdr(&api, &self) == 0 || (slash = strrchr(self.dli_fname, '/')) == NULL) {
        snprintf(AT(char *, message), (size_t)capacity, "does not know its own path");
        return -1;
    }
    length = snprintf(path, sizeof path, "%.*s/libpolyscore.so", (int)(slash - self.dli_fname), self.dli_fname);
    if (length < 0 || (size_t)length >= sizeof path) {
        snprintf(AT(char *, message), (size_t)capacity, "has a path that is too long");
        return -1;
    }
    if (bind_pool(env) != 0) return -1;
    return polyscore_dl_open(path, &api, AT(char *, message), (size_t)capacity);
}

JNIEXPORT jlong JNICALL Java_io_polyscore_Native_address(JNIEnv *env, jclass class, jobject buffer) {
    (void)class;
    return (jlong)(intptr_t)(*env)->GetDirectBufferAddress(env, buffer);
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_abiVersion(JNIEnv *env, jclass class) {
    (void)env, (void)class;
    return (jint)api.abi_version();
}

JNIEXPORT jstring JNICALL Java_io_polyscore_Native_version(JNIEnv *env, jclass class) {
    (void)class;
    return (*env)->NewStringUTF(env, api.version());
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_modelOpen(JNIEnv *env, jclass class, jlong path, jlong options, jlong out,
                                                          jlong error) {
    (void)env, (void)class;
    return api.model_open(AT(const char *, path), AT(const polyscore_open_options *, options), AT(polyscore_model **, out),
                          ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_modelClose(JNIEnv *env, jclass class, jlong model) {
    (void)env, (void)class;
    return api.model_close(MODEL(model));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_modelInfo(JNIEnv *env, jclass class, jlong model, jlong out, jlong error) {
    (void)env, (void)class;
    return api.model_info_get(MODEL(model), AT(polyscore_model_info *, out), ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_modelFeature(JNIEnv *env, jclass class, jlong model, jint slot, jlong out,
                                                             jlong error) {
    (void)env, (void)class;
    return api.model_feature(MODEL(model), (uint32_t)slot, AT(polyscore_feature_info *, out), ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_modelTask(JNIEnv *env, jclass class, jlong model, jint index, jlong out,
                                                          jlong error) {
    (void)env, (void)class;
    return api.model_task(MODEL(model), (uint32_t)index, AT(polyscore_task_info *, out), ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_modelScenario(JNIEnv *env, jclass class, jlong model, jint index,
                                                              jlong out, jlong error) {
    (void)env, (void)class;
    return api.model_scenario(MODEL(model), (uint32_t)index, AT(polyscore_scenario_info *, out), ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_modelPlan(JNIEnv *env, jclass class, jlong model, jlong buffer,
                                                          jlong capacity, jlong length, jlong error) {
    (void)env, (void)class;
    return api.model_plan(MODEL(model), AT(char *, buffer), (size_t)capacity, AT(size_t *, length), ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_modelDescription(JNIEnv *env, jclass class, jlong model, jlong buffer,
                                                                 jlong capacity, jlong length, jlong error) {
    (void)env, (void)class;
    return api.model_description(MODEL(model), AT(char *, buffer), (size_t)capacity, AT(size_t *, length), ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_scorerNew(JNIEnv *env, jclass class, jlong model, jlong out, jlong error) {
    (void)env, (void)class;
    return api.scorer_new(MODEL(model), AT(polyscore_scorer **, out), ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_scorerNewParallel(JNIEnv *env, jclass class, jlong model, jlong pool,
                                                                  jlong out, jlong error) {
    (void)env, (void)class;
    return api.scorer_new_parallel(MODEL(model), POOL(pool), AT(polyscore_scorer **, out), ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_scorerClose(JNIEnv *env, jclass class, jlong scorer) {
    (void)env, (void)class;
    return api.scorer_close(SCORER(scorer));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_scorerPrepare(JNIEnv *env, jclass class, jlong scorer, jint scenario,
                                                              jlong columns, jlong columns_length, jlong error) {
    (void)env, (void)class;
    return api.scorer_prepare(SCORER(scorer), (uint32_t)scenario, AT(const polyscore_column *, columns),
                              (size_t)columns_length, ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_scorerScore(JNIEnv *env, jclass class, jlong scorer, jlong candidates,
                                                            jlong columns, jlong columns_length, jlong tasks,
                                                            jlong tasks_length, jlong out, jlong out_length, jlong error) {
    (void)env, (void)class;
    return api.scorer_score(SCORER(scorer), (size_t)candidates, AT(const polyscore_column *, columns),
                            (size_t)columns_length, AT(const uint32_t *, tasks), (size_t)tasks_length, AT(float *, out),
                            (size_t)out_length, ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_scorerScoreMixed(JNIEnv *env, jclass class, jlong scorer,
                                                                 jlong candidates, jlong scenarios, jlong columns,
                                                                 jlong columns_length, jlong tasks, jlong tasks_length,
                                                                 jlong out, jlong out_length, jlong error) {
    (void)env, (void)class;
    return api.scorer_score_mixed(SCORER(scorer), (size_t)candidates, AT(const uint32_t *, scenarios),
                                  AT(const polyscore_column *, columns), (size_t)columns_length,
                                  AT(const uint32_t *, tasks), (size_t)tasks_length, AT(float *, out),
                                  (size_t)out_length, ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_scorerScoreEach(JNIEnv *env, jclass class, jlong scorer, jlong candidates,
                                                                jlong scenarios, jlong scenarios_length, jlong columns,
                                                                jlong columns_length, jlong tasks, jlong tasks_length,
                                                                jlong out, jlong out_length, jlong error) {
    (void)env, (void)class;
    return api.scorer_score_each(SCORER(scorer), (size_t)candidates, AT(const uint32_t *, scenarios),
                                 (size_t)scenarios_length, AT(const polyscore_column *, columns), (size_t)columns_length,
                                 AT(const uint32_t *, tasks), (size_t)tasks_length, AT(float *, out),
                                 (size_t)out_length, ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_scorerCounters(JNIEnv *env, jclass class, jlong scorer, jlong out,
                                                               jlong error) {
    (void)env, (void)class;
    return api.scorer_counters(SCORER(scorer), AT(polyscore_counters *, out), ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_scorerFeatureCounters(JNIEnv *env, jclass class, jlong scorer, jint slot,
                                                                      jlong out, jlong error) {
    (void)env, (void)class;
    return api.scorer_feature_counters(SCORER(scorer), (uint32_t)slot, AT(polyscore_feature_counters *, out),
                                       ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_poolNew(JNIEnv *env, jclass class, jint threads, jlong name,
                                                        jboolean is_over, jlong out, jlong error) {
    polyscore_pool_options options;
    (void)env, (void)class;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.threads = (uint32_t)threads;
    options.name = AT(const char *, name);
    options.run = is_over ? run_on_executor : NULL;
    return api.pool_new(&options, AT(polyscore_pool **, out), ERROR(error));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_poolClose(JNIEnv *env, jclass class, jlong pool) {
    (void)env, (void)class;
    return api.pool_close(POOL(pool));
}

JNIEXPORT jint JNICALL Java_io_polyscore_Native_poolThreads(JNIEnv *env, jclass class, jlong pool, jlong out, jlong error) {
    (void)env, (void)class;
    return api.pool_threads(POOL(pool), AT(uint32_t *, out), ERROR(error));
}

JNIEXPORT void JNICALL Java_io_polyscore_Native_runTask(JNIEnv *env, jclass class, jlong task, jlong context, jint index) {
    (void)env, (void)class;
    AT(polyscore_task, task)(AT(void *, context), (size_t)index);
}

/* The numbers that Java has of its own. */
#define SAME(number, java) _Static_assert((number) == (java), "Java has another number for " #number)
#define FIELD(type, field, java) SAME(offsetof(type, field), io_polyscore_Layout_##java)
#define SIZE(type, java) SAME(sizeof(type), io_polyscore_Layout_##java)
#define STATUS(name) SAME(POLYSCORE_##name, io_polyscore_Status_##name)

SAME(sizeof(void *), 8);
SAME(sizeof(size_t), 8);
FIELD(polyscore_error, status, ERROR_STATUS);
FIELD(polyscore_error, subject, ERROR_SUBJECT);
FIELD(polyscore_error, message, ERROR_MESSAGE);
SIZE(polyscore_error, ERROR_SIZE);
FIELD(polyscore_open_options, mode, OPTIONS_MODE);
FIELD(polyscore_open_options, precision, OPTIONS_PRECISION);
FIELD(polyscore_open_options, no_split, OPTIONS_NO_SPLIT);
FIELD(polyscore_open_options, tile, OPTIONS_TILE);
FIELD(polyscore_open_options, isa, OPTIONS_ISA);
FIELD(polyscore_open_options, max_error, OPTIONS_MAX_ERROR);
FIELD(polyscore_open_options, max_bytes, OPTIONS_MAX_BYTES);
FIELD(polyscore_open_options, scenario_bytes, OPTIONS_SCENARIO_BYTES);
FIELD(polyscore_open_options, product_bytes, OPTIONS_PRODUCT_BYTES);
FIELD(polyscore_open_options, item_bytes, OPTIONS_ITEM_BYTES);
FIELD(polyscore_open_options, item_rows, OPTIONS_ITEM_ROWS);
SIZE(polyscore_open_options, OPTIONS_SIZE);
FIELD(polyscore_model_info, features, INFO_FEATURES);
FIELD(polyscore_model_info, tasks, INFO_TASKS);
FIELD(polyscore_model_info, scenarios, INFO_SCENARIOS);
FIELD(polyscore_model_info, tile, INFO_TILE);
FIELD(polyscore_model_info, mapped_bytes, INFO_MAPPED_BYTES);
FIELD(polyscore_model_info, copied_bytes, INFO_COPIED_BYTES);
FIELD(polyscore_model_info, packed_bytes, INFO_PACKED_BYTES);
FIELD(polyscore_model_info, scratch_bytes, INFO_SCRATCH_BYTES);
FIELD(polyscore_model_info, golden_requests, INFO_GOLDEN_REQUESTS);
FIELD(polyscore_model_info, golden_scores, INFO_GOLDEN_SCORES);
FIELD(polyscore_model_info, golden_error, INFO_GOLDEN_ERROR);
FIELD(polyscore_model_info, isa, INFO_ISA);
FIELD(polyscore_model_info, name, INFO_NAME);
FIELD(polyscore_model_info, model_bytes, INFO_MODEL_BYTES);
FIELD(polyscore_model_info, scenario_bytes, INFO_SCENARIO_BYTES);
FIELD(polyscore_model_info, kept_scenarios, INFO_KEPT_SCENARIOS);
FIELD(polyscore_model_info, kept_per_scorer, INFO_KEPT_PER_SCORER);
FIELD(polyscore_model_info, product_bytes, INFO_PRODUCT_BYTES);
FIELD(polyscore_model_info, item_bytes, INFO_ITEM_BYTES);
FIELD(polyscore_model_info, item_room, INFO_ITEM_ROOM);
SIZE(polyscore_model_info, INFO_SIZE);
FIELD(polyscore_feature_info, rate, FEATURE_RATE);
FIELD(polyscore_feature_info, kind, FEATURE_KIND);
FIELD(polyscore_feature_info, value, FEATURE_VALUE);
FIELD(polyscore_feature_info, width, FEATURE_WIDTH);
FIELD(polyscore_feature_info, optional, FEATURE_OPTIONAL);
FIELD(polyscore_feature_info, name, FEATURE_NAME);
SIZE(polyscore_feature_info, FEATURE_SIZE);
FIELD(polyscore_task_info, composed, TASK_COMPOSED);
FIELD(polyscore_task_info, fallback, TASK_FALLBACK);
FIELD(polyscore_task_info, name, TASK_NAME);
SIZE(polyscore_task_info, TASK_SIZE);
FIELD(polyscore_scenario_info, row, SCENARIO_ROW);
FIELD(polyscore_scenario_info, id, SCENARIO_ID);
FIELD(polyscore_scenario_info, name, SCENARIO_NAME);
SIZE(polyscore_scenario_info, SCENARIO_SIZE);
FIELD(polyscore_column, feature, COLUMN_FEATURE);
FIELD(polyscore_column, type, COLUMN_TYPE);
FIELD(polyscore_column, values, COLUMN_VALUES);
FIELD(polyscore_column, values_len, COLUMN_VALUES_LEN);
FIELD(polyscore_column, text_offsets, COLUMN_TEXT_OFFSETS);
FIELD(polyscore_column, text_offsets_len, COLUMN_TEXT_OFFSETS_LEN);
FIELD(polyscore_column, row_offsets, COLUMN_ROW_OFFSETS);
FIELD(polyscore_column, row_offsets_len, COLUMN_ROW_OFFSETS_LEN);
SIZE(polyscore_column, COLUMN_SIZE);
FIELD(polyscore_counters, requests, COUNTERS_REQUESTS);
FIELD(polyscore_counters, candidates, COUNTERS_CANDIDATES);
FIELD(polyscore_counters, unknown_scenarios, COUNTERS_UNKNOWN_SCENARIOS);
FIELD(polyscore_counters, non_finite, COUNTERS_NON_FINITE);
FIELD(polyscore_counters, scenarios_folded, COUNTERS_SCENARIOS_FOLDED);
FIELD(polyscore_counters, item_hits, COUNTERS_ITEM_HITS);
FIELD(polyscore_counters, item_misses, COUNTERS_ITEM_MISSES);
SIZE(polyscore_counters, COUNTERS_SIZE);
FIELD(polyscore_feature_counters, values, FEATURE_COUNTERS_VALUES);
FIELD(polyscore_feature_counters, oov, FEATURE_COUNTERS_OOV);
FIELD(polyscore_feature_counters, missing, FEATURE_COUNTERS_MISSING);
SIZE(polyscore_feature_counters, FEATURE_COUNTERS_SIZE);
SAME(POLYSCORE_COLUMN_I64, io_polyscore_Layout_TYPE_I64);
SAME(POLYSCORE_COLUMN_I32, io_polyscore_Layout_TYPE_I32);
SAME(POLYSCORE_COLUMN_F32, io_polyscore_Layout_TYPE_F32);
SAME(POLYSCORE_COLUMN_TEXT, io_polyscore_Layout_TYPE_TEXT);
STATUS(OK);
STATUS(INVALID_ARGUMENT);
STATUS(NULL_ARGUMENT);
STATUS(INVALID_HANDLE);
STATUS(BUSY);
STATUS(STRUCT_SIZE);
STATUS(BUFFER_TOO_SMALL);
STATUS(OVERLAP);
STATUS(EXECUTOR);
STATUS(IO);
STATUS(FORMAT);
STATUS(DESCRIPTION);
STATUS(TENSOR);
STATUS(LIMIT);
STATUS(GOLDEN);
STATUS(UNSUPPORTED);
STATUS(OUT_OF_MEMORY);
STATUS(UNKNOWN_FEATURE);
STATUS(MISSING_FEATURE);
STATUS(COLUMN_TYPE);
STATUS(COLUMN_LENGTH);
STATUS(COLUMN_OFFSETS);
STATUS(COLUMN_SIDE);
STATUS(DUPLICATE_COLUMN);
STATUS(NOT_PREPARED);
STATUS(UNKNOWN_TASK);
STATUS(DUPLICATE_TASK);
STATUS(INTERNAL);
SAME(POLYSCORE_SCENARIO_UNKNOWN, (uint32_t)-1);
