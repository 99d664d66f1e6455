package io.polyscore;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ThreadsTest {
    @TempDir
    Path directory;

    private final TinyModel tiny = new TinyModel();

    private static void inThreads(int threads, Callable<Void> work) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        try {
            List<Future<Void>> all = new ArrayList<>();
            for (int i = 0; i < threads; i++) {
                all.add(pool.submit(work));
            }
            for (Future<Void> one : all) {
                one.get();
            }
        } finally {
            pool.shutdownNow();
        }
    }

    private static float[] copy(Scores scores) {
        FloatBuffer buffer = scores.buffer().duplicate();
        float[] copy = new float[buffer.remaining()];
        buffer.get(copy);
        return copy;
    }

    private float[] reference(Model model) {
        try (Scorer scorer = model.scorer()) {
            Request request = new Request(model);
            Scores scores = model.scores(Request.CANDIDATES);
            scorer.prepare(0, request.request);
            scorer.score(Request.CANDIDATES, request.candidates, scores);
            request.check(tiny, scores);
            return copy(scores);
        }
    }

    @Test
    void manyThreadsShareAModelAndGetTheSameBits() throws Exception {
        try (Model model = tiny.open(directory)) {
            float[] expected = reference(model);
            AtomicLong calls = new AtomicLong();
            inThreads(8, () -> {
                try (Scorer scorer = model.scorer()) {
                    Request request = new Request(model);
                    Scores scores = model.scores(Request.CANDIDATES);
                    for (int i = 0; i < 1000; i++) {
                        scorer.prepare(0, request.request);
                        scorer.score(Request.CANDIDATES, request.candidates, scores);
                        assertArrayEquals(expected, copy(scores));
                        calls.incrementAndGet();
                    }
                }
                return null;
            });
            assertEquals(8000, calls.get());
        }
    }

    /** Scorers and models are closed under threads that score with them: each call succeeds whole or says closed or busy. */
    @Test
    void closeWhileOthersScoreIsSafe() throws Exception {
        Path path = tiny.write(directory.resolve("closed"));
        AtomicReference<Model> model = new AtomicReference<>(Model.open(path));
        AtomicReference<Scorer> scorer = new AtomicReference<>(model.get().scorer());
        float[] expected = reference(model.get());
        AtomicBoolean isDone = new AtomicBoolean();
        AtomicLong scored = new AtomicLong();
        AtomicLong closed = new AtomicLong();
        AtomicLong busy = new AtomicLong();
        ExecutorService pool = Executors.newFixedThreadPool(3);
        List<Future<Void>> all = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            all.add(pool.submit(() -> {
                Model mine = null;
                Request request = null;
                Scores scores = null;
                while (!isDone.get()) {
                    Model current = model.get();
                    try {
                        if (mine != current) {
                            request = new Request(current);
                            scores = current.scores(Request.CANDIDATES);
                            mine = current;
                        }
                        Scorer now = scorer.get();
                        now.prepare(0, request.request);
                        now.score(Request.CANDIDATES, request.candidates, scores);
                        assertArrayEquals(expected, copy(scores));
                        scored.incrementAndGet();
                    } catch (PolyscoreClosedException failure) {
                        closed.incrementAndGet();
                    } catch (PolyscoreBusyException failure) {
                        busy.incrementAndGet();
                    } catch (PolyscoreInvalidArgumentException failure) {
                        assertTrue(failure.getMessage().contains("is not the scorer's"), failure.getMessage());
                    }
                }
                return null;
            }));
        }
        long rounds = 0;
        long deadline = System.nanoTime() + 60_000_000_000L;
        while (rounds < 4000 || scored.get() < 100 || closed.get() < 100) {
            assertTrue(System.nanoTime() < deadline, scored + " scored, " + closed + " closed, " + busy + " busy");
            Scorer last = scorer.get();
            if (rounds % 10 == 9) {
                Model old = model.getAndSet(Model.open(path));
                scorer.set(model.get().scorer());
                old.close();
            } else {
                scorer.set(model.get().scorer());
            }
            Thread.yield();
            last.close();
            rounds++;
        }
        isDone.set(true);
        for (Future<Void> one : all) {
            one.get();
        }
        pool.shutdown();
        scorer.get().close();
        model.get().close();
    }

    @Test
    void aSecondThreadInAScorerIsBusy() throws Exception {
        try (Model model = tiny.open(directory); Scorer scorer = model.scorer()) {
            AtomicBoolean wasBusy = new AtomicBoolean();
            long deadline = System.nanoTime() + 60_000_000_000L;
            inThreads(2, () -> {
                Request request = new Request(model);
                while (!wasBusy.get()) {
                    assertTrue(System.nanoTime() < deadline, "never busy");
                    try {
                        scorer.prepare(0, request.request);
                    } catch (PolyscoreBusyException busy) {
                        assertEquals(Status.BUSY, busy.code());
                        assertEquals("scorer", busy.subject());
                        wasBusy.set(true);
                    }
                }
                return null;
            });
            scorer.prepare(0, new Request(model).request);
        }
    }

    @Test
    void columnsThatAThreadIsUsingAreBusy() {
        try (Model model = tiny.open(directory); Scorer scorer = model.scorer()) {
            Request request = new Request(model);
            request.request.enter();
            assertThrows(PolyscoreBusyException.class, () -> request.request.set(0, 1L));
            assertThrows(PolyscoreBusyException.class, () -> request.request.set(0, Direct.longs(1)));
            assertThrows(PolyscoreBusyException.class, request.request::clear);
            assertThrows(PolyscoreBusyException.class, () -> scorer.prepare(0, request.request));
            request.request.leave();
            scorer.prepare(0, request.request);
        }
    }

    @Test
    void aForgottenModelIsUnmappedOnceItsForgottenScorerIs() throws Exception {
        Path path = tiny.write(directory.resolve("forgotten.safetensors"));
        openAndForget(path);
        assertTrueWithin(60, () -> !isMapped(path));
    }

    private static void openAndForget(Path path) throws IOException {
        Model model = Model.open(path);
        Scorer scorer = model.scorer();
        scorer.prepare(0, new Request(model).request);
        assertTrue(isMapped(path));
    }

    private static boolean isMapped(Path path) throws IOException {
        return Files.readString(Path.of("/proc/self/maps")).contains(path.getFileName().toString());
    }

    private static void assertTrueWithin(int seconds, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + seconds * 1_000_000_000L;
        while (!condition.call()) {
            assertTrue(System.nanoTime() < deadline, "not within " + seconds + " s");
            System.gc();
            Thread.sleep(20);
        }
    }
}
