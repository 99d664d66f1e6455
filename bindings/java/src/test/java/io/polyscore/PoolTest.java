package io.polyscore;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Parallel scorers: the bits of serial ones, whatever the threads. */
class PoolTest {
    /** Enough of them that the calls of so small a model are shared. */
    private static final int CANDIDATES = 200_000;

    @TempDir
    Path directory;

    private Model model;
    private IntBuffer ads;
    private FloatBuffer prices;

    @BeforeEach
    void open() {
        model = new TinyModel().open(directory);
        ads = ByteBuffer.allocateDirect(4 * CANDIDATES).order(ByteOrder.nativeOrder()).asIntBuffer();
        prices = ByteBuffer.allocateDirect(4 * CANDIDATES).order(ByteOrder.nativeOrder()).asFloatBuffer();
        for (int i = 0; i < CANDIDATES; i++) {
            ads.put(i, i % 7);
            prices.put(i, (i % 1000) / 500f - 1);
        }
    }

    @AfterEach
    void close() {
        model.close();
    }

    private Columns columns(boolean isRequest) {
        Request request = new Request(model);
        if (isRequest) {
            return request.request;
        }
        LongBuffer offsets =
                ByteBuffer.allocateDirect(8 * (CANDIDATES + 1)).order(ByteOrder.nativeOrder()).asLongBuffer();
        return model.columns()
                .set(model.feature("ad"), ads)
                .set(model.feature("price"), prices)
                .setTextBags(model.feature("tags"), Direct.text(), Direct.longs(0), offsets)
                .setBags(model.feature("dwell"), Direct.floats(), offsets);
    }

    private float[] scores(Scorer scorer) {
        Scores scores = model.scores(CANDIDATES, "cvr", "ctr");
        scorer.prepare(0, columns(true));
        scorer.score(CANDIDATES, columns(false), scores);
        float[] copy = new float[2 * CANDIDATES];
        scores.buffer().duplicate().get(copy);
        return copy;
    }

    private float[] expected() {
        try (Scorer scorer = model.scorer()) {
            return scores(scorer);
        }
    }

    @Test
    void itsOwnThreadsGiveTheBitsOfASerialScorer() throws IOException {
        float[] expected = expected();
        try (Pool pool = Pool.own(3, "java-pool"); Scorer scorer = model.scorer(pool)) {
            assertEquals(3, pool.threads());
            assertArrayEquals(expected, scores(scorer));
            assertEquals(2, threadsNamed("java-pool-"));
            assertEquals(CANDIDATES, scorer.counters().candidates());
            pool.close();
            pool.close();
            assertThrows(PolyscoreClosedException.class, pool::threads);
            assertThrows(PolyscoreClosedException.class, () -> model.scorer(pool));
            assertArrayEquals(expected, scores(scorer), "a scorer outlives its pool");
        }
        try (Pool pool = Pool.own()) {
            assertEquals(Runtime.getRuntime().availableProcessors(), pool.threads());
        }
    }

    private static long threadsNamed(String prefix) throws IOException {
        try (Stream<Path> tasks = Files.list(Path.of("/proc/self/task"))) {
            return tasks.filter(task -> {
                try {
                    return Files.readString(task.resolve("comm")).startsWith(prefix);
                } catch (IOException gone) {
                    return false;
                }
            }).count();
        }
    }

    @Test
    void anExecutorsThreadsGiveTheBitsOfASerialScorer() {
        float[] expected = expected();
        Set<Thread> seen = ConcurrentHashMap.newKeySet();
        ExecutorService threads = Executors.newFixedThreadPool(2);
        CountDownLatch running = new CountDownLatch(1);
        Executor watched = task -> threads.execute(() -> {
            seen.add(Thread.currentThread());
            running.countDown();
            task.run();
        });
        try (Pool pool = Pool.over(watched, 3); Scorer scorer = model.scorer(pool)) {
            for (int i = 0; i < 10; i++) {
                assertArrayEquals(expected, scores(scorer));
            }
            running.await();
            assertFalse(seen.contains(Thread.currentThread()));
        } catch (InterruptedException interrupted) {
            throw new AssertionError(interrupted);
        } finally {
            threads.shutdown();
        }
        try (Pool pool = Pool.over(ForkJoinPool.commonPool(), 4); Scorer scorer = model.scorer(pool)) {
            assertArrayEquals(expected, scores(scorer));
        }
    }

    /** The only thread of an executor scores over that executor: nobody else can run its tasks. */
    @Test
    void anExecutorsOwnThreadMayScoreOverIt() throws Exception {
        float[] expected = expected();
        ExecutorService one = Executors.newSingleThreadExecutor();
        try (Pool pool = Pool.over(one, 4); Scorer scorer = model.scorer(pool)) {
            Future<float[]> scored = one.submit(() -> scores(scorer));
            assertArrayEquals(expected, scored.get());
        } finally {
            one.shutdown();
        }
    }

    @Test
    void whatAnExecutorRejectsForgetsOrRunsTwiceIsDoneOnce() {
        float[] expected = expected();
        List<Runnable> kept = new ArrayList<>();
        List<Executor> executors = List.of(
                task -> {
                    throw new RejectedExecutionException("full");
                },
                kept::add,
                task -> {
                    task.run();
                    task.run();
                },
                Runnable::run);
        for (Executor executor : executors) {
            try (Pool pool = Pool.over(executor, 3); Scorer scorer = model.scorer(pool)) {
                assertArrayEquals(expected, scores(scorer));
                assertEquals(CANDIDATES, scorer.counters().candidates());
            }
        }
        assertFalse(kept.isEmpty());
        kept.forEach(Runnable::run);
    }

    @Test
    void whatAnExecutorThrowsReachesTheCallerAndNothingBreaks() {
        float[] expected = expected();
        boolean[] isBroken = {true};
        Executor executor = task -> {
            if (isBroken[0]) {
                throw new IllegalStateException("broken");
            }
            task.run();
        };
        try (Pool pool = Pool.over(executor, 3); Scorer scorer = model.scorer(pool)) {
            IllegalStateException thrown = assertThrows(IllegalStateException.class, () -> scores(scorer));
            assertEquals("broken", thrown.getMessage());
            isBroken[0] = false;
            assertArrayEquals(expected, scores(scorer));
        }
    }

    /** Scores over another pool inside of a task of the first. */
    @Test
    void poolsNest() {
        float[] expected = expected();
        try (Pool inner = Pool.over(Runnable::run, 2); Scorer second = model.scorer(inner)) {
            List<float[]> inside = new ArrayList<>();
            Executor executor = task -> {
                inside.add(scores(second));
                task.run();
            };
            try (Pool outer = Pool.over(executor, 2); Scorer first = model.scorer(outer)) {
                assertArrayEquals(expected, scores(first));
                assertArrayEquals(expected, scores(first));
            }
            assertEquals(2, inside.size());
            inside.forEach(scores -> assertArrayEquals(expected, scores));
        }
    }

    @Test
    void wrongNumbersAndNamesAreRefused() {
        for (int threads : new int[] {-1, 257}) {
            assertThrows(PolyscoreInvalidArgumentException.class, () -> Pool.own(threads, "name"));
            assertThrows(PolyscoreInvalidArgumentException.class, () -> Pool.over(Runnable::run, threads));
        }
        PolyscoreException refused = assertThrows(PolyscoreInvalidArgumentException.class, () -> Pool.own(2, "twelve-bytes"));
        assertEquals("name", refused.subject());
        assertThrows(NullPointerException.class, () -> Pool.over(null, 2));
        assertThrows(NullPointerException.class, () -> Pool.own(2, null));
    }
}
