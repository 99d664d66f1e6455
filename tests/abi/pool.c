/*
 * Parallel scoring through the C ABI: pools of their own threads and of the host's, misuse, hosts that break their contract,
 * and forks.
 * usage: pool MODEL [nofork] (the zoo's mmoe). Prints "N passed, N failed".
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

#define EXPECT(status, call)                                  \
    do {                                                      \
        long status_ = (call);                                \
        check(status_ == (status), #call, status_, (status)); \
    } while (0)

enum { N = 600, TASKS = 3, REQUEST = 5, CANDIDATE = 5, MOST = 64 };

static int64_t user[1] = {42}, history[2] = {1, 39}, history_rows[2] = {0, 2}, city_ends[2] = {0, 5};
static float context[3] = {1, 2, 3}, age[1] = {33};
static int64_t ad[N], no_ids[1], no_rows[N + 1];
static float seen[N], price[2 * N], expected[TASKS * N];
static polyscore_model *model;
static polyscore_column request[REQUEST], candidates[CANDIDATE];

static polyscore_column column(const char *name, uint32_t type, const void *values, size_t length, const int64_t *rows) {
    polyscore_column c;
    memset(&c, 0, sizeof c);
    c.struct_size = sizeof c;
    c.type = type;
    c.values = values;
    c.values_len = length;
    c.row_offsets = rows;
    c.row_offsets_len = rows == NULL ? 0 : rows == no_rows ? N + 1 : 2;
    EXPECT(POLYSCORE_OK, polyscore_model_find_feature(model, name, &c.feature, NULL));
    return c;
}

static void fill_columns(void) {
    for (int i = 0; i < N; i++) {
        ad[i] = i % 41;
        seen[i] = (float)(i % 7);
        price[2 * i] = (float)(i % 11);
        price[2 * i + 1] = (float)(i % 5);
    }
    request[0] = column("user", POLYSCORE_COLUMN_I64, user, 1, NULL);
    request[1] = column("context", POLYSCORE_COLUMN_F32, context, 3, NULL);
    request[2] = column("history", POLYSCORE_COLUMN_I64, history, 2, history_rows);
    request[3] = column("city", POLYSCORE_COLUMN_TEXT, "Delft", 5, NULL);
    request[3].text_offsets = city_ends;
    request[3].text_offsets_len = 2;
    request[4] = column("age", POLYSCORE_COLUMN_F32, age, 1, NULL);
    candidates[0] = column("ad", POLYSCORE_COLUMN_I64, ad, N, NULL);
    candidates[1] = column("tags", POLYSCORE_COLUMN_I64, no_ids, 0, no_rows);
    candidates[2] = column("seen", POLYSCORE_COLUMN_F32, seen, N, NULL);
    candidates[3] = column("price", POLYSCORE_COLUMN_F32, price, 2 * N, NULL);
    candidates[4] = column("match", POLYSCORE_COLUMN_I64, no_ids, 0, no_rows);
}

static int32_t score(polyscore_scorer *scorer, float *out) {
    int32_t status = polyscore_scorer_prepare(scorer, 0, request, REQUEST, NULL);
    if (status != POLYSCORE_OK) return status;
    return polyscore_scorer_score(scorer, N, candidates, CANDIDATE, NULL, 0, out, TASKS * N, NULL);
}

static void same_bits(polyscore_scorer *scorer, const char *what) {
    static float out[TASKS * N];
    memset(out, 0, sizeof out);
    EXPECT(POLYSCORE_OK, score(scorer, out));
    check(memcmp(out, expected, sizeof out) == 0, what, 0, 1);
}

static polyscore_pool_options options_of(uint32_t threads) {
    polyscore_pool_options options;
    memset(&options, 0, sizeof options);
    options.struct_size = sizeof options;
    options.threads = threads;
    return options;
}

static polyscore_pool *pool_of(uint32_t threads, const char *name, polyscore_run run, void *executor) {
    polyscore_pool_options options = options_of(threads);
    polyscore_pool *pool = NULL;
    options.name = name;
    options.run = run;
    options.executor = executor;
    EXPECT(POLYSCORE_OK, polyscore_pool_new(&options, &pool, NULL));
    return pool;
}

static polyscore_scorer *scorer_of(polyscore_pool *pool) {
    polyscore_scorer *scorer = NULL;
    EXPECT(POLYSCORE_OK, polyscore_scorer_new_parallel(model, pool, &scorer, NULL));
    return scorer;
}

static void own_threads(void) {
    for (uint32_t threads = 1; threads <= 4; threads++) {
        polyscore_pool *pool = pool_of(threads, "own", NULL, NULL);
        uint32_t count = 0;
        EXPECT(POLYSCORE_OK, polyscore_pool_threads(pool, &count, NULL));
        check(count == threads, "threads", count, threads);
        polyscore_scorer *scorer = scorer_of(pool);
        same_bits(scorer, "own threads");
        EXPECT(POLYSCORE_OK, polyscore_pool_close(pool));
        EXPECT(POLYSCORE_INVALID_HANDLE, polyscore_pool_close(pool));
        EXPECT(POLYSCORE_INVALID_HANDLE, polyscore_pool_threads(pool, &count, NULL));
        same_bits(scorer, "a scorer outlives its pool's handle");
        EXPECT(POLYSCORE_OK, polyscore_scorer_close(scorer));
    }
}

static void misuse(void) {
    polyscore_pool_options options;
    polyscore_pool *pool = NULL, *good = pool_of(2, NULL, NULL, NULL);
    polyscore_scorer *scorer = NULL;
    polyscore_error error = {.struct_size = sizeof error};
    uint32_t count = 77;
    int one = 1;
#define REFUSED(status, change)                                      \
    do {                                                             \
        options = options_of(2);                                     \
        change;                                                      \
        EXPECT(status, polyscore_pool_new(&options, &pool, &error)); \
        check(pool == NULL, "out is not written", 0, 1);             \
    } while (0)
    REFUSED(POLYSCORE_STRUCT_SIZE, options.struct_size = 0);
    REFUSED(POLYSCORE_STRUCT_SIZE, options.struct_size = sizeof options - 1);
    REFUSED(POLYSCORE_STRUCT_SIZE, options.struct_size = UINT32_MAX);
    REFUSED(POLYSCORE_INVALID_ARGUMENT, options.threads = 257);
    check(strcmp(error.subject, "threads") == 0, error.subject, 0, 1);
    REFUSED(POLYSCORE_INVALID_ARGUMENT, options.threads = UINT32_MAX);
    REFUSED(POLYSCORE_INVALID_ARGUMENT, options.name = "");
    REFUSED(POLYSCORE_INVALID_ARGUMENT, options.name = "twelve-bytes");
    REFUSED(POLYSCORE_INVALID_ARGUMENT, options.name = "\xff");
    check(strcmp(error.subject, "name") == 0, error.subject, 0, 1);
    REFUSED(POLYSCORE_INVALID_ARGUMENT, options.executor = &one);
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_pool_new(NULL, NULL, NULL));
    EXPECT(POLYSCORE_OK, polyscore_pool_close(NULL));
    EXPECT(POLYSCORE_INVALID_HANDLE, polyscore_pool_close((polyscore_pool *)(void *)model));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_pool_threads(NULL, &count, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_pool_threads(good, NULL, NULL));
    EXPECT(POLYSCORE_INVALID_HANDLE, polyscore_pool_threads((polyscore_pool *)(void *)model, &count, NULL));
    check(count == 77, "count is not written", count, 77);
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_scorer_new_parallel(model, NULL, &scorer, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_scorer_new_parallel(NULL, good, &scorer, NULL));
    EXPECT(POLYSCORE_NULL_ARGUMENT, polyscore_scorer_new_parallel(model, good, NULL, NULL));
    EXPECT(POLYSCORE_INVALID_HANDLE, polyscore_scorer_new_parallel(model, (polyscore_pool *)(void *)model, &scorer, NULL));
    EXPECT(POLYSCORE_INVALID_HANDLE, polyscore_scorer_new_parallel((polyscore_model *)(void *)good, good, &scorer, NULL));
    check(scorer == NULL, "scorer is not written", 0, 1);
    EXPECT(POLYSCORE_OK, polyscore_pool_close(good));
}

/* Hosts. */
struct host {
    int tasks;
    pthread_t threads[MOST];
    struct call {
        polyscore_task task;
        void *context;
        size_t index;
    } calls[MOST];
};

static void *one_task(void *given) {
    struct call *call = given;
    call->task(call->context, call->index);
    return NULL;
}

static void start(struct host *host, size_t tasks, polyscore_task task, void *context) {
    host->tasks = (int)tasks;
    for (size_t i = 0; i < tasks; i++) {
        struct call call = {task, context, i};
        host->calls[i] = call;
        if (pthread_create(&host->threads[i], NULL, one_task, &host->calls[i]) != 0) abort();
    }
}

static void join(struct host *host) {
    for (int i = 0; i < host->tasks; i++) pthread_join(host->threads[i], NULL);
    host->tasks = 0;
}

static void on_threads(void *executor, size_t tasks, polyscore_task task, void *context) {
    start(executor, tasks, task, context);
    join(executor);
}

static void in_turn(void *executor, size_t tasks, polyscore_task task, void *context) {
    *(size_t *)executor = tasks;
    for (size_t i = tasks; i-- > 0;) task(context, i);
}

static void nothing(void *executor, size_t tasks, polyscore_task task, void *context) {
    (void)executor, (void)tasks, (void)task, (void)context;
}

static void all_but_one(void *executor, size_t tasks, polyscore_task task, void *context) {
    (void)executor;
    for (size_t i = 1; i < tasks; i++) task(context, i);
}

static void twice(void *executor, size_t tasks, polyscore_task task, void *context) {
    (void)executor;
    for (size_t i = 0; i < 2 * tasks; i++) task(context, i / 2);
}

static void beyond(void *executor, size_t tasks, polyscore_task task, void *context) {
    (void)executor;
    for (size_t i = 0; i <= tasks; i++) task(context, i);
    task(context, SIZE_MAX);
}

/* Returns while its threads still run. */
static void early(void *executor, size_t tasks, polyscore_task task, void *context) {
    start(executor, tasks, task, context);
}

/* Keeps what it was given, to call it when its time is over. */
static void late(void *executor, size_t tasks, polyscore_task task, void *context) {
    struct call *kept = executor, call = {task, context, 0};
    *kept = call;
    for (size_t i = 0; i < tasks; i++) task(context, i);
}

static void host_threads(void) {
    static struct host host;
    size_t tasks = 0;
    struct call kept = {NULL, NULL, 0};
    polyscore_pool *pool = pool_of(3, NULL, on_threads, &host);
    polyscore_scorer *scorer = scorer_of(pool);
    for (int i = 0; i < 5; i++) same_bits(scorer, "the host's threads");
    polyscore_scorer_close(scorer);
    polyscore_pool_close(pool);

    pool = pool_of(MOST, NULL, in_turn, &tasks);
    scorer = scorer_of(pool);
    same_bits(scorer, "a host of one thread");
    check(tasks > 1 && tasks <= MOST, "tasks", (long)tasks, MOST);
    polyscore_scorer_close(scorer);
    polyscore_pool_close(pool);

    pool = pool_of(3, NULL, late, &kept);
    scorer = scorer_of(pool);
    for (int i = 0; i < 5; i++) {
        same_bits(scorer, "a host that keeps a task");
        for (size_t index = 0; index < 4; index++) kept.task(kept.context, index);
    }
    polyscore_scorer_close(scorer);
    polyscore_pool_close(pool);
    kept.task(kept.context, 0);
    kept.task(NULL, 0);
    kept.task(&kept, 1);
}

static void broken_hosts(void) {
    static struct host host;
    static float out[TASKS * N];
    polyscore_run hosts[] = {nothing, all_but_one, twice, beyond};
    for (int i = 0; i < TASKS * N; i++) out[i] = NAN;
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        polyscore_pool *pool = pool_of(3, NULL, hosts[i], NULL);
        polyscore_scorer *scorer = scorer_of(pool);
        polyscore_error error = {.struct_size = sizeof error};
        for (int round = 0; round < 2; round++) EXPECT(POLYSCORE_EXECUTOR, score(scorer, out));
        EXPECT(POLYSCORE_EXECUTOR, polyscore_scorer_score(scorer, N, candidates, CANDIDATE, NULL, 0, out, TASKS * N, &error));
        check(strstr(error.message, "exactly once") != NULL, error.message, 0, 1);
        for (int j = 0; j < TASKS * N; j++) check(isnan(out[j]), "nothing is written", j, -1);
        polyscore_scorer_close(scorer);
        polyscore_pool_close(pool);
    }
    check(strcmp(polyscore_status_name(POLYSCORE_EXECUTOR), "POLYSCORE_EXECUTOR") == 0, "name", 0, 1);

    /* Whether a host that returns early is in time depends on its threads; either way nothing is half written. */
    polyscore_pool *pool = pool_of(4, NULL, early, &host);
    polyscore_scorer *scorer = scorer_of(pool);
    int wrong = 0;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < TASKS * N; i++) out[i] = NAN;
        int32_t status = score(scorer, out);
        int is_whole = memcmp(out, expected, sizeof out) == 0, is_empty = 1;
        for (int i = 0; i < TASKS * N; i++) is_empty &= isnan(out[i]);
        wrong += status == POLYSCORE_OK ? !is_whole : status != POLYSCORE_EXECUTOR || !is_empty;
        join(&host);
    }
    check(wrong == 0, "a host that returns early", wrong, 0);
    polyscore_scorer_close(scorer);
    polyscore_pool_close(pool);
}

/* Many threads, each with a scorer and a buffer of its own, over one pool. */
static void *score_often(void *given) {
    polyscore_scorer *scorer = given;
    float *out = malloc(sizeof expected);
    int wrong = out == NULL;
    for (int i = 0; i < 10 && !wrong; i++) {
        memset(out, 0, sizeof expected);
        wrong = score(scorer, out) != POLYSCORE_OK || memcmp(out, expected, sizeof expected) != 0;
    }
    free(out);
    return wrong ? given : NULL;
}

static void shared_pool(void) {
    enum { THREADS = 4 };
    polyscore_pool *pool = pool_of(3, "shared", NULL, NULL);
    polyscore_scorer *scorers[THREADS];
    pthread_t threads[THREADS];
    void *result = NULL;
    for (int i = 0; i < THREADS; i++) scorers[i] = scorer_of(pool);
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, score_often, scorers[i]);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &result);
        check(result == NULL, "a thread of a shared pool", i, -1);
        EXPECT(POLYSCORE_OK, polyscore_scorer_close(scorers[i]));
    }
    EXPECT(POLYSCORE_OK, polyscore_pool_close(pool));
}

static int threads_named(const char *name) {
    char command[128];
    int count = -1;
    snprintf(command, sizeof command, "cat /proc/%d/task/*/comm | grep -c '^%s-'", (int)getpid(), name);
    FILE *pipe = popen(command, "r");
    if (pipe == NULL || fscanf(pipe, "%d", &count) != 1) count = -1;
    if (pipe != NULL) pclose(pipe);
    return count;
}

/* In a child: old and new scorers of the parent's pool score, on threads of the child, which has children of its own. */
static int in_child(polyscore_pool *pool, polyscore_scorer *scorer, int generation) {
    alarm(60); /* A deadlock ends the child, and the test fails. */
    failed = 0;
    check(threads_named("fork") == 0, "threads right after the fork", threads_named("fork"), 0);
    if (generation == 1) {
        /* Not used in this process, and closed: the parent's threads are not waited for. */
        polyscore_pool *unused = pool_of(3, "unused", NULL, NULL);
        EXPECT(POLYSCORE_OK, polyscore_pool_close(unused));
    }
    for (int i = 0; i < 3; i++) same_bits(scorer, "a scorer of the parent");
    check(threads_named("fork") == 2, "threads of the child", threads_named("fork"), 2);
    polyscore_scorer *fresh = scorer_of(pool);
    same_bits(fresh, "a scorer of the child");
    check(threads_named("fork") == 2, "threads are shared", threads_named("fork"), 2);
    if (generation < 3) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) exit(in_child(pool, fresh, generation + 1));
        int status = -1;
        waitpid(child, &status, 0);
        check(status == 0, "a child's child", status, 0);
    }
    EXPECT(POLYSCORE_OK, polyscore_scorer_close(fresh));
    EXPECT(POLYSCORE_OK, polyscore_scorer_close(scorer));
    EXPECT(POLYSCORE_OK, polyscore_pool_close(pool));
    return failed != 0;
}

static polyscore_scorer *forked_scorer;
static volatile int is_forking;

static void *keep_pool_busy(void *out) {
    while (is_forking) {
        if (score(forked_scorer, out) != POLYSCORE_OK) abort();
    }
    return NULL;
}

static void forks(void) {
    static float out[TASKS * N];
    polyscore_pool *pool = pool_of(3, "fork", NULL, NULL);
    polyscore_scorer *scorer = scorer_of(pool);
    same_bits(scorer, "before the fork");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) exit(in_child(pool, scorer, 1));
    int status = -1;
    waitpid(child, &status, 0);
    check(status == 0, "a child", status, 0);
    same_bits(scorer, "the parent after the fork");

    /* Forks while the pool's threads work. */
    pthread_t thread;
    forked_scorer = scorer_of(pool);
    is_forking = 1;
    pthread_create(&thread, NULL, keep_pool_busy, out);
    int wrong = 0;
    for (int i = 0; i < 30; i++) {
        fflush(stdout);
        child = fork();
        if (child == 0) {
            alarm(60);
            failed = 0;
            same_bits(scorer, "a fork of a busy parent");
            polyscore_scorer_close(scorer);
            polyscore_pool_close(pool);
            _exit(failed != 0);
        }
        waitpid(child, &status, 0);
        wrong += status != 0;
    }
    is_forking = 0;
    pthread_join(thread, NULL);
    check(wrong == 0, "forks of a busy parent", wrong, 0);
    EXPECT(POLYSCORE_OK, polyscore_scorer_close(forked_scorer));
    EXPECT(POLYSCORE_OK, polyscore_scorer_close(scorer));
    EXPECT(POLYSCORE_OK, polyscore_pool_close(pool));
}

/* A pool that is left to choose has as many threads as there are CPUs that this thread may run on. */
static void usable_cpus(void) {
    cpu_set_t all, one;
    uint32_t count = 0;
    polyscore_pool *pool = NULL;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof all, &all) != 0) return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all) && CPU_COUNT(&one) == 0) CPU_SET(cpu, &one);
    }
    EXPECT(0, sched_setaffinity(0, sizeof one, &one));
    EXPECT(POLYSCORE_OK, polyscore_pool_new(NULL, &pool, NULL));
    EXPECT(POLYSCORE_OK, polyscore_pool_threads(pool, &count, NULL));
    check(count == 1, "usable CPUs", count, 1);
    EXPECT(POLYSCORE_OK, polyscore_pool_close(pool));
    EXPECT(0, sched_setaffinity(0, sizeof all, &all));
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    EXPECT(POLYSCORE_OK, polyscore_model_open(argv[1], NULL, &model, NULL));
    if (model == NULL) return 1;
    fill_columns();
    polyscore_scorer *serial = NULL;
    EXPECT(POLYSCORE_OK, polyscore_scorer_new(model, &serial, NULL));
    EXPECT(POLYSCORE_OK, score(serial, expected));
    check(expected[0] > 0 && expected[0] != expected[1], "scores", 0, 1);
    EXPECT(POLYSCORE_OK, polyscore_scorer_close(serial));
    own_threads();
    misuse();
    host_threads();
    broken_hosts();
    shared_pool();
    if (argc == 2) forks();
    usable_cpus();
    EXPECT(POLYSCORE_OK, polyscore_model_close(model));
    printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}
