package io.polyscore;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.FloatBuffer;
import java.nio.file.Path;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ScorerTest {
    @TempDir
    Path directory;

    private final TinyModel tiny = new TinyModel();
    private Model model;
    private Scorer scorer;
    private Request request;

    @BeforeEach
    void open() {
        model = tiny.open(directory);
        scorer = model.scorer();
        request = new Request(model);
    }

    @AfterEach
    void close() {
        scorer.close();
        model.close();
    }

    private void score(Scores scores) {
        scorer.prepare(model.scenario("feed"), request.request);
        scorer.score(Request.CANDIDATES, request.candidates, scores);
    }

    private PolyscoreInvalidArgumentException refused(int code, Runnable call) {
        PolyscoreInvalidArgumentException failure = assertThrows(PolyscoreInvalidArgumentException.class, call::run);
        assertEquals(code, failure.code(), failure.getMessage());
        return failure;
    }

    @Test
    void scoresAllTasks() {
        Scores scores = model.scores(10);
        assertEquals(3, scores.tasks());
        assertEquals(0, scores.candidates());
        score(scores);
        request.check(tiny, scores);
        float[] copy = new float[4];
        scores.copy(1, copy);
        for (int i = 0; i < Request.CANDIDATES; i++) {
            assertEquals(scores.get(1, i), copy[i]);
            assertEquals(scores.get(1, i), scores.buffer().get(Request.CANDIDATES + i));
        }
        assertTrue(scores.buffer().isDirect() && scores.buffer().isReadOnly());
    }

    @Test
    void scoresTheTasksAskedForInTheirOrder() {
        for (String[] tasks : new String[][] {{"cvr"}, {"ctcvr", "ctr"}, {"cvr", "ctr", "ctcvr"}}) {
            Scores scores = model.scores(Request.CANDIDATES, tasks);
            score(scores);
            assertEquals(tasks.length, scores.tasks());
            assertEquals(model.task(tasks[0]), scores.task(0));
            request.check(tiny, scores);
        }
        refused(Status.DUPLICATE_TASK, () -> model.scores(3, "ctr", "ctr"));
        refused(Status.UNKNOWN_TASK, () -> model.scores(3, "cpc"));
    }

    @Test
    void writesToABufferOfTheCallerBetweenPositionAndLimit() {
        FloatBuffer buffer = Direct.floats(new float[10]);
        Scores scores = model.scores(buffer.duplicate().position(2).limit(8), "ctr", "cvr");
        score(scores);
        request.check(tiny, scores);
        assertEquals(scores.get(0, 0), buffer.get(2));
        assertEquals(scores.get(1, 2), buffer.get(7));
        assertEquals(0, buffer.get(1) + buffer.get(8));
    }

    @Test
    void copiedValuesScoreAsBorrowedOnes() {
        for (int round = 0; round < 3; round++) {
            request.request.clear()
                    .set(model.feature("user"), 3L)
                    .setBag(model.feature("history"), 5, 1)
                    .set(model.feature("zip"), "Rural")
                    .set(model.feature("age"), 40f)
                    .set(model.feature("profile"), new float[] {0.25f, -1});
            request.candidates.clear()
                    .set(model.feature("ad"), new long[] {2, 4, 99})
                    .setTextBags(
                            model.feature("tags"),
                            Direct.text("red", "green"),
                            Direct.offsets("red", "green"),
                            Direct.longs(0, 2, 2, 2))
                    .setBags(model.feature("dwell"), Direct.floats(0, 20, 5), Direct.longs(0, 0, 2, 3))
                    .set(model.feature("price"), new float[] {0.5f, -2, Float.NaN});
            assertEquals(5, request.request.count());
            Scores scores = model.scores(3);
            score(scores);
            request.check(tiny, scores);
        }
    }

    @Test
    void readsWhatTheHostWroteIntoABorrowedBufferSince() {
        FloatBuffer price = Direct.floats(9, 9, 9, 9);
        request.candidates.set(model.feature("price"), price.position(1));
        price.put(1, 0.5f).put(2, -2f).put(3, Float.NEGATIVE_INFINITY);
        Scores scores = model.scores(3);
        score(scores);
        request.check(tiny, scores);
    }

    @Test
    void textIsUtf8AndNullOrEmptyIsMissing() {
        Scores scores = model.scores(3);
        int zip = model.feature("zip");
        Object[][] cases = {
            {"\u017di\u017ekov \u20ac \ud83c\udfd9", 2}, {"Rural", 1}, {"\ud83c", 3}, {"\udfd9", 3}, {"rural", 0}, {"", 0}, {null, 0}
        };
        for (Object[] one : cases) {
            request.request.set(zip, (String) one[0]);
            score(scores);
            request.check(tiny, scores, tiny.row("zip", (int) one[1]));
        }
        FeatureCounters counters = scorer.counters(zip);
        assertEquals(cases.length, counters.values());
        assertEquals(1, counters.outOfVocabulary());
        assertEquals(2, counters.missing());
    }

    @Test
    void textsOfManyRowsAndABagOfTextsAreCopied() {
        Path path = new TinyModel()
                .described("'tags','rate':'item','kind':'ids','pooling':'sum'", "'tags','rate':'item','kind':'id'")
                .described("'history','rate':'request','kind':'ids','table':'ad','transform':{'type':'identity'}",
                        "'history','rate':'request','kind':'ids','table':'ad','transform':"
                        + "{'type':'vocabulary','values':['a','b','c','d','e']}")
                .write(directory.resolve("texts"));
        try (Model texts = Model.open(path); Scorer textScorer = texts.scorer()) {
            Columns columns = texts.columns()
                    .set(texts.feature("user"), 3)
                    .setTextBag(texts.feature("history"), "", "e", null, "d", "what");
            Columns candidates = texts.columns()
                    .set(texts.feature("ad"), new long[] {1, 2, 3, Columns.MISSING_LONG})
                    .set(texts.feature("tags"), new String[] {"", "green", null, "blue"})
                    .setBags(texts.feature("dwell"), Direct.floats(), Direct.longs(0, 0, 0, 0, 0));
            textScorer.prepare(Scenario.UNKNOWN, columns);
            textScorer.score(4, candidates, texts.scores(4));
            FeatureCounters history = textScorer.counters(texts.feature("history"));
            assertEquals(5, history.values());
            assertEquals(1, history.outOfVocabulary());
            assertEquals(2, history.missing());
            FeatureCounters tags = textScorer.counters(texts.feature("tags"));
            assertEquals(4, tags.values());
            assertEquals(1, tags.outOfVocabulary());
            assertEquals(2, tags.missing());
            assertEquals(1, textScorer.counters(texts.feature("ad")).missing());
        }
    }

    @Test
    void countsWhatItSees() {
        Scores scores = model.scores(3);
        score(scores);
        scorer.prepare(Scenario.UNKNOWN, request.request);
        scorer.score(3, request.candidates, scores);
        scorer.score(3, request.candidates, scores);
        request.check(tiny, scores);
        Counters counters = scorer.counters();
        assertEquals(2, counters.requests());
        assertEquals(9, counters.candidates());
        assertEquals(1, counters.unknownScenarios());
        assertEquals(0, counters.nonFinite());
        assertEquals(3, scorer.counters(model.feature("ad")).outOfVocabulary());
        refused(Status.UNKNOWN_FEATURE, () -> scorer.counters(9));
    }

    @Test
    void scoresNoCandidates() {
        Scores scores = model.scores(3);
        scorer.prepare(0, request.request);
        Columns none = model.columns()
                .set(model.feature("ad"), Direct.longs())
                .setTextBags(model.feature("tags"), Direct.text(), Direct.longs(0), Direct.longs(0))
                .setBags(model.feature("dwell"), Direct.floats(), Direct.longs(0))
                .set(model.feature("price"), new float[0]);
        scorer.score(0, none, scores);
        assertEquals(0, scores.candidates());
    }

    @Test
    void needsAPrepareAndAFailedOneIsNone() {
        Scores scores = model.scores(3);
        refused(Status.NOT_PREPARED, () -> scorer.score(3, request.candidates, scores));
        score(scores);
        refused(Status.MISSING_FEATURE, () -> scorer.prepare(0, model.columns()));
        refused(Status.NOT_PREPARED, () -> scorer.score(3, request.candidates, scores));
    }

    @Test
    void aFailureNamesTheFeatureAndLeavesTheScores() {
        Scores scores = model.scores(3);
        score(scores);
        float[] before = new float[9];
        scores.buffer().duplicate().get(before);
        int ad = model.feature("ad");
        request.candidates.set(ad, new float[] {1, 2, 3});
        assertEquals("feature `ad`", refused(Status.COLUMN_TYPE, this::scoreThree).subject());
        request.candidates.set(ad, new long[] {1, 2});
        assertEquals("feature `ad`", refused(Status.COLUMN_LENGTH, this::scoreThree).subject());
        request.candidates.setBags(model.feature("dwell"), Direct.floats(1), Direct.longs(0, 1, 0, 1));
        request.candidates.set(ad, new long[] {1, 2, 3});
        assertEquals("feature `dwell`", refused(Status.COLUMN_OFFSETS, this::scoreThree).subject());
        assertEquals("feature `user`", refused(Status.COLUMN_SIDE,
                () -> scorer.score(3, model.columns().set(model.feature("user"), 1), scores)).subject());
        assertEquals(3, scores.candidates());
        float[] after = new float[9];
        scores.buffer().duplicate().get(after);
        assertArrayEquals(before, after);
    }

    private void scoreThree() {
        scorer.score(3, request.candidates, model.scores(3));
    }

    @Test
    void refusesScoresThatAreTooSmallOrOverlapTheColumns() {
        scorer.prepare(0, request.request);
        refused(Status.BUFFER_TOO_SMALL, () -> scorer.score(3, request.candidates, model.scores(2)));
        refused(Status.INVALID_ARGUMENT, () -> scorer.score(-1, request.candidates, model.scores(2)));
        refused(Status.INVALID_ARGUMENT, () -> model.scores(-1));
        FloatBuffer shared = Direct.floats(1, 2, 3, 4, 5, 6, 7, 8, 9);
        request.candidates.set(model.feature("price"), shared.duplicate().limit(3));
        refused(Status.OVERLAP, () -> scorer.score(3, request.candidates, model.scores(shared)));
    }

    @Test
    void refusesColumnsAndScoresOfAnotherModel() {
        Path path = tiny.write(directory.resolve("other"));
        try (Model other = Model.open(path)) {
            refused(Status.INVALID_ARGUMENT, () -> scorer.prepare(0, other.columns()));
            refused(Status.INVALID_ARGUMENT, () -> scorer.score(0, model.columns(), other.scores(1)));
        }
    }

    @Test
    void anIndexThatIsNoScenarioIsAnUnknownOne() {
        scorer.prepare(2, request.request);
        scorer.prepare(Integer.MIN_VALUE, request.request);
        scorer.prepare(1, request.request);
        assertEquals(2, scorer.counters().unknownScenarios());
    }

    @Test
    void callsThatNameScenariosRefuseWhatScoreRefuses() {
        Scores scores = model.scores(6, "ctr");
        int[] three = {0, 1, Scenario.UNKNOWN};
        refused(Status.NOT_PREPARED, () -> scorer.scoreMixed(3, three, request.candidates, scores));
        refused(Status.NOT_PREPARED, () -> scorer.scoreEach(3, new int[] {0}, request.candidates, scores));
        score(scores);
        assertEquals("scenarios", refused(Status.COLUMN_LENGTH,
                () -> scorer.scoreMixed(3, new int[2], request.candidates, scores)).subject());
        refused(Status.INVALID_ARGUMENT, () -> scorer.scoreMixed(-1, three, request.candidates, scores));
        refused(Status.INVALID_ARGUMENT, () -> scorer.scoreEach(-1, three, request.candidates, scores));
        refused(Status.BUFFER_TOO_SMALL, () -> scorer.scoreMixed(3, three, request.candidates, model.scores(2)));
        refused(Status.BUFFER_TOO_SMALL, () -> scorer.scoreEach(3, three, request.candidates, scores));
        refused(Status.MISSING_FEATURE, () -> scorer.scoreMixed(3, three, model.columns(), scores));
        refused(Status.MISSING_FEATURE, () -> scorer.scoreEach(3, new int[] {0}, model.columns(), scores));
        request.check(tiny, scores);
        assertEquals(0, scorer.counters().unknownScenarios());
        scorer.scoreMixed(3, new int[] {0, 1, Scenario.UNKNOWN, 7}, request.candidates, scores);
        request.check(tiny, scores);
        scorer.scoreEach(3, new int[] {1, Scenario.UNKNOWN}, request.candidates, scores);
        request.check(tiny, scores);
        assertEquals(2, scores.scenarios());
        assertEquals(scores.get(0, 0, 2), scores.get(1, 0, 2));
        refused(Status.INVALID_ARGUMENT, () -> scores.get(2, 0, 0));
        refused(Status.INVALID_ARGUMENT, () -> scores.copy(-1, 0, new float[3]));
        assertEquals(2, scorer.counters().unknownScenarios());
        assertEquals(12, scorer.counters().candidates());
        int[] many = new int[100];
        scorer.scoreEach(3, many, request.candidates, model.scores(300, "ctr"));
        scorer.scoreEach(3, new int[0], request.candidates, scores);
        assertEquals(0, scores.scenarios());
        refused(Status.INVALID_ARGUMENT, () -> scores.get(0, 0));
    }

    @Test
    void takesSequencesAsBags() {
        Path path = Path.of(System.getProperty("polyscore.test.root"), "tests", "models", "zoo", "mmoe_din.safetensors");
        try (Model din = Model.open(path); Scorer dinScorer = din.scorer()) {
            assertEquals(Feature.Kind.SEQUENCE, din.features().get(din.feature("clicks")).kind());
            assertEquals(Feature.Value.INTEGER_OR_TEXT, din.features().get(din.feature("searches")).value());
            Columns user = din.columns()
                    .set(din.feature("user"), 3L)
                    .setBag(din.feature("history"), 5, 1)
                    .set(din.feature("age"), 33f)
                    .set(din.feature("city"), "Delft")
                    .set(din.feature("device"), 1L)
                    .set(din.feature("slot"), 2L)
                    .setBag(din.feature("clicks"), 7, 9, 11)
                    .setBag(din.feature("clicked_tags"), 3, 5, 8)
                    .setTextBag(din.feature("searches"), "tent", "red shoes");
            Columns ads = din.columns()
                    .set(din.feature("ad"), new long[] {1, 9})
                    .setBags(din.feature("tags"), Direct.longs(3, 5), Direct.longs(0, 1, 2))
                    .set(din.feature("seen"), new float[] {0, 2})
                    .set(din.feature("price"), new float[] {1, 2, 3, 4})
                    .setBags(din.feature("match"), Direct.longs(4), Direct.longs(0, 1, 1))
                    .set(din.feature("category"), new long[] {2, 3});
            Scores first = din.scores(2, "ctr");
            Scores second = din.scores(2, "ctr");
            dinScorer.prepare(0, user);
            dinScorer.score(2, ads, first);
            user.setBags(din.feature("clicks"), Direct.ints(9, 7, 30), Direct.longs(0, 3));
            dinScorer.prepare(0, user);
            dinScorer.score(2, ads, second);
            assertTrue(first.get(0, 0) != second.get(0, 0));
            user.setBag(din.feature("clicks"), new long[2]);
            refused(Status.COLUMN_LENGTH, () -> dinScorer.prepare(0, user));
            user.setBag(din.feature("clicks"), new long[13]);
            assertEquals("feature `clicks`", refused(Status.COLUMN_LENGTH, () -> dinScorer.prepare(0, user)).subject());
        }
    }

    @Test
    void refusesPositionsOutOfRange() {
        Scores scores = model.scores(5);
        refused(Status.INVALID_ARGUMENT, () -> scores.get(0, 0));
        score(scores);
        refused(Status.INVALID_ARGUMENT, () -> scores.get(0, 3));
        refused(Status.INVALID_ARGUMENT, () -> scores.get(3, 0));
        refused(Status.INVALID_ARGUMENT, () -> scores.get(0, -1));
        refused(Status.INVALID_ARGUMENT, () -> scores.task(3));
        refused(Status.INVALID_ARGUMENT, () -> scores.copy(0, new float[2]));
    }
}
