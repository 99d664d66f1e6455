package io.polyscore;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** A warm thread that fills columns, prepares and scores allocates no byte on the Java heap. */
class AllocationTest {
    private static final int CALLS = 2_000;
    private static final int WARM_UP_ROUNDS = 30;

    @TempDir
    Path directory;

    private static long allocated(Runnable work) {
        ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
        assertTrue(threads.isThreadAllocatedMemorySupported() && threads.isThreadAllocatedMemoryEnabled());
        long thread = Thread.currentThread().getId();
        long before = threads.getThreadAllocatedBytes(thread);
        for (int i = 0; i < CALLS; i++) {
            work.run();
        }
        return threads.getThreadAllocatedBytes(thread) - before;
    }

    /** Code that the JVM compiles anew moves the objects it had optimised away to the heap, once: warm is when that is over. */
    private static void assertAllocatesNothing(Runnable work) {
        for (int round = 0; round < WARM_UP_ROUNDS; round++) {
            allocated(work);
            allocated(() -> {});
        }
        assertEquals(allocated(() -> {}), allocated(work));
    }

    @Test
    void borrowedColumns() {
        try (Model model = new TinyModel().open(directory); Scorer scorer = model.scorer()) {
            Request request = new Request(model);
            Scores scores = model.scores(Request.CANDIDATES, "ctcvr", "ctr");
            assertAllocatesNothing(() -> {
                scorer.prepare(1, request.request);
                scorer.score(Request.CANDIDATES, request.candidates, scores);
                scorer.score(Request.CANDIDATES, request.candidates, scores);
            });
        }
    }

    @Test
    void scenariosOfCandidates() {
        try (Model model = new TinyModel().open(directory); Scorer scorer = model.scorer()) {
            Request request = new Request(model);
            int[] scenarios = {1, Scenario.UNKNOWN, 0};
            Scores scores = model.scores(Request.CANDIDATES * scenarios.length);
            scorer.prepare(1, request.request);
            assertAllocatesNothing(() -> {
                scorer.scoreMixed(Request.CANDIDATES, scenarios, request.candidates, scores);
                scorer.scoreEach(Request.CANDIDATES, scenarios, request.candidates, scores);
            });
        }
    }

    @Test
    void columnsSetAnew() {
        try (Model model = new TinyModel().open(directory); Scorer scorer = model.scorer()) {
            Request request = new Request(model);
            Scores scores = model.scores(Request.CANDIDATES);
            int user = model.feature("user");
            int history = model.feature("history");
            int zip = model.feature("zip");
            int age = model.feature("age");
            int profile = model.feature("profile");
            int price = model.feature("price");
            String[] zips = {"Rural", "\u017di\u017ekov \u20ac \ud83c\udfd9", null};
            long[] seen = {1, 2, 3};
            float[] facts = {1, 2};
            var prices = Direct.floats(1, 2, 3);
            int[] calls = {0};
            assertAllocatesNothing(() -> {
                int call = calls[0]++;
                request.request.clear()
                        .set(user, (long) call)
                        .setBag(history, seen)
                        .set(zip, zips[call % 3])
                        .set(age, (float) call)
                        .set(profile, facts);
                request.candidates.set(price, prices);
                scorer.prepare(0, request.request);
                scorer.score(Request.CANDIDATES, request.candidates, scores);
            });
        }
    }
}
