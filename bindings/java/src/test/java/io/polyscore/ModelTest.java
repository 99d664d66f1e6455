package io.polyscore;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ModelTest {
    @TempDir
    Path directory;

    @Test
    void theTestsRunUnderCheckJni() {
        assertTrue(ManagementFactory.getRuntimeMXBean().getInputArguments().contains("-Xcheck:jni"));
    }

    @Test
    void saysWhatItIs() {
        try (Model model = new TinyModel().open(directory)) {
            ModelInfo info = model.info();
            assertEquals("tiny", info.name());
            assertEquals(9, info.features());
            assertEquals(3, info.tasks());
            assertEquals(2, info.scenarios());
            assertTrue(info.mappedBytes() > 0 && info.scratchBytes() > 0 && info.tile() > 0);
            assertFalse(info.isKeptPerScorer());
            assertTrue(info.keptScenarios() > 0 && info.scenarioBytes() == 0 && info.modelBytes() >= 0);
            assertFalse(info.isa().isEmpty());
            assertEquals(0, info.goldenRequests());
            assertTrue(model.plan().contains("ctr"), model.plan());
            assertTrue(model.description().contains("\"tiny\""), model.description());
        }
    }

    @Test
    void describesItsFeatures() {
        try (Model model = new TinyModel().open(directory)) {
            String all = model.features().stream()
                    .map(feature -> feature.slot() + " " + feature.name() + " " + feature.rate() + " " + feature.kind() + " "
                            + feature.value() + " " + feature.width() + " " + feature.isOptional())
                    .collect(Collectors.joining("\n"));
            assertEquals(
                    String.join("\n",
                            "0 user REQUEST ID INTEGER 1 false",
                            "1 history REQUEST IDS INTEGER 1 false",
                            "2 zip REQUEST ID TEXT 1 true",
                            "3 age REQUEST ID FLOAT 1 true",
                            "4 profile REQUEST DENSE FLOAT 2 true",
                            "5 ad ITEM ID INTEGER 1 false",
                            "6 tags ITEM IDS TEXT 1 false",
                            "7 dwell PAIR IDS FLOAT 1 false",
                            "8 price PAIR DENSE FLOAT 1 true"),
                    all);
            assertThrows(UnsupportedOperationException.class, () -> model.features().clear());
        }
    }

    @Test
    void resolvesNames() {
        try (Model model = new TinyModel().open(directory)) {
            assertEquals(3, model.feature("age"));
            assertEquals(2, model.task("ctcvr"));
            assertTrue(model.tasks().get(2).isComposed());
            assertEquals(0.25f, model.tasks().get(1).fallback());
            assertEquals("cvr", model.tasks().get(1).name());
            assertEquals(1, model.scenario("video"));
            assertEquals(0, model.scenarios().get(1).row());
            assertEquals(-9, model.scenarios().get(1).id());
            assertEquals("video", model.scenarios().get(1).name());
            assertEquals(1, model.scenarioById(-9));
            assertEquals(Scenario.UNKNOWN, model.scenario("splash"));
            assertEquals(Scenario.UNKNOWN, model.scenario(null));
            assertEquals(Scenario.UNKNOWN, model.scenarioById(1));
            PolyscoreException unknown =
                    assertThrows(PolyscoreInvalidArgumentException.class, () -> model.feature("weight"));
            assertEquals(Status.UNKNOWN_FEATURE, unknown.code());
            assertEquals("feature `weight`", unknown.subject());
            unknown = assertThrows(PolyscoreInvalidArgumentException.class, () -> model.task("cpc"));
            assertEquals(Status.UNKNOWN_TASK, unknown.code());
        }
    }

    @Test
    void opensInEveryModeAndPrecision() {
        Path path = new TinyModel().write(directory.resolve("caf\u00e9 \u017di\u017ekov.safetensors"));
        for (Options.Mode mode : Options.Mode.values()) {
            for (Options.Precision precision : Options.Precision.values()) {
                Options options = new Options().mode(mode).precision(precision).isa("scalar").split(false).tile(8);
                if (precision == Options.Precision.AUTO) {
                    // The file has no golden requests to choose by.
                    PolyscoreException refused =
                            assertThrows(PolyscoreException.class, () -> Model.open(path, options).close());
                    assertEquals(Status.UNSUPPORTED, refused.code());
                    continue;
                }
                try (Model model = Model.open(path, options)) {
                    assertEquals("scalar", model.info().isa());
                    assertEquals(8, model.info().tile());
                    assertEquals(mode == Options.Mode.MAP, model.info().mappedBytes() > 0, mode.toString());
                }
            }
        }
    }

    @Test
    void refusesWhatItCannotOpenWithATypedError() throws Exception {
        Path none = directory.resolve("none.safetensors");
        PolyscoreException failure = assertThrows(PolyscoreException.class, () -> Model.open(none));
        assertEquals(Status.IO, failure.code());
        assertTrue(failure.getMessage().contains("none.safetensors"), failure.getMessage());

        Path damaged = Files.write(directory.resolve("damaged.safetensors"), new byte[100]);
        failure = assertThrows(PolyscoreModelFormatException.class, () -> Model.open(damaged));
        assertEquals(Status.FORMAT, failure.code());

        Path described = new TinyModel().described("[18,35]", "[18,17]").write(directory.resolve("described"));
        failure = assertThrows(PolyscoreModelFormatException.class, () -> Model.open(described));
        assertEquals(Status.DESCRIPTION, failure.code());
        assertEquals("features[3].transform.boundaries[1]", failure.subject());

        Path sound = new TinyModel().write(directory.resolve("sound"));
        failure = assertThrows(PolyscoreUnsupportedException.class, () -> Model.open(sound, new Options().isa("sse9")));
        assertEquals(Status.UNSUPPORTED, failure.code());
        failure = assertThrows(PolyscoreModelFormatException.class, () -> Model.open(sound, new Options().maxBytes(64)));
        assertEquals(Status.LIMIT, failure.code());
    }

    @Test
    void isOfNoUseAfterCloseButItsScorersAre() {
        TinyModel tiny = new TinyModel();
        Model model = tiny.open(directory);
        Scorer scorer = model.scorer();
        Request request = new Request(model);
        Scores scores = model.scores(Request.CANDIDATES);
        model.close();
        model.close();
        PolyscoreException closed = assertThrows(PolyscoreClosedException.class, model::scorer);
        assertEquals(Status.INVALID_HANDLE, closed.code());
        assertEquals("model", closed.subject());
        assertThrows(PolyscoreClosedException.class, model::plan);
        assertThrows(PolyscoreClosedException.class, model::info);
        assertThrows(PolyscoreClosedException.class, model::columns);
        assertThrows(PolyscoreClosedException.class, () -> model.scores(1));
        assertThrows(PolyscoreClosedException.class, () -> model.feature("age"));
        assertThrows(PolyscoreClosedException.class, () -> model.scenario("feed"));
        scorer.prepare(0, request.request);
        scorer.score(Request.CANDIDATES, request.candidates, scores);
        request.check(tiny, scores);
        scorer.close();
        scorer.close();
        closed = assertThrows(PolyscoreClosedException.class, () -> scorer.prepare(0, request.request));
        assertEquals("scorer", closed.subject());
        assertThrows(PolyscoreClosedException.class,
                () -> scorer.score(Request.CANDIDATES, request.candidates, scores));
        assertThrows(PolyscoreClosedException.class, scorer::counters);
    }
}
