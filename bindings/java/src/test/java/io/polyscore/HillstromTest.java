package io.polyscore;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The trained model: its golden requests, read in place from its file, have the scores that PyTorch wrote beside them. */
class HillstromTest {
    static final Path PATH =
            Path.of(System.getProperty("polyscore.test.root"), "tests", "models", "hillstrom.safetensors");

    private static ByteBuffer file;
    private static JsonObject header;
    private static JsonObject description;
    private static Model model;

    @BeforeAll
    static void open() throws IOException {
        try (FileChannel channel = FileChannel.open(PATH)) {
            file = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size()).order(ByteOrder.nativeOrder());
        }
        byte[] text = new byte[(int) file.getLong(0)];
        for (int i = 0; i < text.length; i++) {
            text[i] = file.get(Long.BYTES + i);
        }
        header = JsonParser.parseString(new String(text, StandardCharsets.UTF_8)).getAsJsonObject();
        String json = header.getAsJsonObject("__metadata__").get("polyscore").getAsString();
        description = JsonParser.parseString(json).getAsJsonObject();
        model = Model.open(PATH);
    }

    @AfterAll
    static void close() {
        model.close();
    }

    /** The bytes of a tensor where the file is mapped, or null. */
    private static ByteBuffer tensor(String name) {
        if (!header.has(name)) {
            return null;
        }
        JsonArray offsets = header.getAsJsonObject(name).getAsJsonArray("data_offsets");
        int start = Long.BYTES + (int) file.getLong(0);
        return file.duplicate()
                .limit(start + offsets.get(1).getAsInt())
                .position(start + offsets.get(0).getAsInt())
                .slice()
                .order(ByteOrder.nativeOrder());
    }

    private static void borrow(Columns columns, Feature feature, String name) {
        ByteBuffer values = tensor(name);
        if (values == null) {
            return;
        }
        ByteBuffer textOffsets = tensor(name + ".text_offsets");
        if (textOffsets != null) {
            columns.setText(feature.slot(), values, textOffsets.asLongBuffer());
        } else if (feature.value() == Feature.Value.FLOAT) {
            columns.set(feature.slot(), values.asFloatBuffer());
        } else {
            columns.set(feature.slot(), values.asLongBuffer());
        }
    }

    @Test
    void goldenRequestsHaveTheirScores() {
        JsonArray requests = description.getAsJsonObject("golden").getAsJsonArray("requests");
        assertEquals(requests.size(), model.info().goldenRequests());
        assertTrue(model.info().goldenError() <= 1e-5);
        assertTrue(requests.size() >= 3);
        Columns request = model.columns();
        Columns candidates = model.columns();
        try (Scorer scorer = model.scorer()) {
            for (int i = 0; i < requests.size(); i++) {
                JsonObject golden = requests.get(i).getAsJsonObject();
                int count = golden.get("candidates").getAsInt();
                JsonElement scenario = golden.get("scenario");
                String name = scenario == null || scenario.isJsonNull() ? null : scenario.getAsString();
                request.clear();
                candidates.clear();
                for (Feature feature : model.features()) {
                    borrow(request, feature, "golden." + i + ".request." + feature.name());
                    borrow(candidates, feature, "golden." + i + ".candidates." + feature.name());
                }
                Scores scores = model.scores(count);
                scorer.prepare(model.scenario(name), request);
                scorer.score(count, candidates, scores);
                for (int task = 0; task < scores.tasks(); task++) {
                    String tensor = "golden." + i + ".scores." + model.tasks().get(task).name();
                    FloatBuffer expected = tensor(tensor).asFloatBuffer();
                    for (int c = 0; c < count; c++) {
                        assertEquals(expected.get(c), scores.get(task, c), 1e-5, tensor + " " + c);
                    }
                }
            }
            assertEquals(requests.size(), scorer.counters().requests());
            assertEquals(1, scorer.counters().unknownScenarios(), "the last golden request has no scenario");
        }
    }

    @Test
    void candidatesAreFoundByTheirKeys() {
        String[] emails = {"Mens E-Mail", "No E-Mail", "Womens E-Mail"};
        // Without the type that a measurement decides on.
        for (Options.ItemRows rows : EnumSet.complementOf(EnumSet.of(Options.ItemRows.F32))) {
            Options options = new Options().itemBytes(1 << 20).itemRows(rows).maxError(0.1);
            try (Model cached = Model.open(PATH, options);
                    Scorer scorer = cached.scorer();
                    Scorer usual = model.scorer()) {
                assertTrue(cached.info().itemRoom() >= 3 && cached.info().itemBytes() <= 1 << 20);
                Columns request = cached.columns().set(cached.feature("zip_code"), "Urban");
                Columns candidates = cached.columns().set(cached.feature("email"), emails);
                Scores scores = cached.scores(3, "visit");
                Scores expected = model.scores(3, "visit");
                usual.prepare(0, model.columns().set(model.feature("zip_code"), "Urban"));
                usual.score(3, model.columns().set(model.feature("email"), emails), expected);
                long[] keys = {5, Columns.MISSING_LONG, -7};
                LongBuffer borrowed = ByteBuffer.allocateDirect(24).order(ByteOrder.nativeOrder()).asLongBuffer();
                borrowed.put(keys).flip();
                for (int turn = 0; turn < 3; turn++) {
                    candidates = turn == 0 ? candidates.setItemKeys(keys) : candidates.setItemKeys(borrowed);
                    assertEquals(2, candidates.count());
                    scorer.prepare(0, request);
                    scorer.score(3, candidates, scores);
                    for (int candidate = 0; candidate < 3; candidate++) {
                        double bound = rows == Options.ItemRows.F32_ALWAYS ? 0 : 0.1;
                        assertEquals(expected.get(0, candidate), scores.get(0, candidate), bound);
                    }
                }
                assertEquals(4, scorer.counters().itemHits());
                assertEquals(2, scorer.counters().itemMisses());
                Columns tooFew = candidates.setItemKeys(new long[] {1});
                PolyscoreException refused =
                        assertThrows(PolyscoreException.class, () -> scorer.score(3, tooFew, scores));
                assertEquals("item keys", refused.subject());
                scorer.score(3, candidates.clear().set(cached.feature("email"), emails), scores);
            }
        }
    }

    @Test
    void productTablesStayWithinTheirBudget() {
        String[] emails = {"Mens E-Mail", "No E-Mail"};
        for (long bytes : new long[] {0, 1, 2000}) {
            try (Model tabulated = Model.open(PATH, new Options().productBytes(bytes));
                    Scorer scorer = tabulated.scorer();
                    Scorer usual = model.scorer()) {
                long found = tabulated.info().productBytes();
                assertTrue(bytes == 0 ? found == model.info().productBytes() : bytes == 1 ? found == 0 : found > 0, "" + found);
                Scores scores = tabulated.scores(2, "visit");
                Scores expected = model.scores(2, "visit");
                Columns request = tabulated.columns().set(tabulated.feature("zip_code"), "Urban");
                scorer.prepare(0, request);
                scorer.score(2, tabulated.columns().set(tabulated.feature("email"), emails), scores);
                usual.prepare(0, model.columns().set(model.feature("zip_code"), "Urban"));
                usual.score(2, model.columns().set(model.feature("email"), emails), expected);
                for (int candidate = 0; candidate < 2; candidate++) {
                    assertEquals(expected.get(0, candidate), scores.get(0, candidate), 2e-6);
                }
            }
        }
    }

    @Test
    void scenariosOfCandidatesHaveTheScoresOfRequestsOfTheirs() {
        int[] scenarios = {model.scenario("Web"), Scenario.UNKNOWN, model.scenario("Phone"), model.scenario("Web"), 99};
        Columns request = model.columns().set(model.feature("zip_code"), "Urban").set(model.feature("mens"), 1L);
        String[] emails = {"Mens E-Mail", "No E-Mail", "Womens E-Mail", "Womens E-Mail", "No E-Mail"};
        Columns candidates = model.columns().set(model.feature("email"), emails);
        for (long bytes : new long[] {0, 1, 64}) {
            try (Model kept = Model.open(PATH, new Options().scenarioBytes(bytes));
                    Scorer mixing = kept.scorer();
                    Scorer scorer = model.scorer()) {
                assertEquals(bytes != 0, kept.info().isKeptPerScorer());
                assertEquals(bytes == 0, kept.info().scenarioBytes() > 0);
                assertTrue(bytes != 1 || kept.info().keptScenarios() == 0);
                Columns sameRequest = kept.columns().set(kept.feature("zip_code"), "Urban").set(kept.feature("mens"), 1L);
                Columns sameCandidates = kept.columns().set(kept.feature("email"), emails);
                Scores mixed = kept.scores(5, "visit", "conversion");
                Scores each = kept.scores(25, "visit", "conversion");
                Scores own = kept.scores(5, "visit", "conversion");
                mixing.prepare(scenarios[2], sameRequest);
                mixing.scoreMixed(5, scenarios, sameCandidates, mixed);
                mixing.scoreEach(5, scenarios, sameCandidates, each);
                mixing.score(5, sameCandidates, own);
                assertEquals(4, mixing.counters().unknownScenarios());
                assertEquals(5 + 25 + 5, mixing.counters().candidates());
                assertEquals(bytes != 0, mixing.counters().scenariosFolded() > 0);
                assertEquals(1, mixed.scenarios());
                assertEquals(5, each.scenarios());
                assertEquals(5, each.candidates());
                Scores expected = model.scores(5, "visit", "conversion");
                float[] copy = new float[5];
                for (int scenario = 0; scenario < 5; scenario++) {
                    scorer.prepare(scenarios[scenario], request);
                    scorer.score(5, candidates, expected);
                    for (int task = 0; task < 2; task++) {
                        assertEquals(expected.get(task, scenario), mixed.get(task, scenario));
                        each.copy(scenario, task, copy);
                        for (int c = 0; c < 5; c++) {
                            assertEquals(expected.get(task, c), each.get(scenario, task, c));
                            assertEquals(expected.get(task, c), copy[c]);
                            if (scenario == 2) {
                                assertEquals(expected.get(task, c), own.get(task, c));
                            }
                        }
                    }
                }
                assertTrue(each.get(0, 0, 0) != each.get(2, 0, 0), "scenarios differ");
                assertEquals(each.get(0, 1, 3), each.get(1, 3));
            }
        }
    }

    /** The requests of the command line, from Java values, are the first golden requests. */
    @Test
    void requestsFromJsonHaveTheSameScores() throws IOException {
        List<String> lines = Files.readAllLines(PATH.resolveSibling("hillstrom.requests.jsonl"));
        assertEquals(3, lines.size());
        try (Scorer scorer = model.scorer()) {
            Scores scores = model.scores(3, "conversion", "visit");
            for (int i = 0; i < lines.size(); i++) {
                JsonObject line = JsonParser.parseString(lines.get(i)).getAsJsonObject();
                Columns request = model.columns();
                line.getAsJsonObject("request").entrySet().forEach(entry -> {
                    Feature feature = model.features().get(model.feature(entry.getKey()));
                    switch (feature.value()) {
                        case FLOAT:
                            request.set(feature.slot(), entry.getValue().getAsFloat());
                            break;
                        case TEXT:
                            request.set(feature.slot(), entry.getValue().getAsString());
                            break;
                        default:
                            request.set(feature.slot(), entry.getValue().getAsLong());
                    }
                });
                List<String> emails = new ArrayList<>();
                line.getAsJsonObject("candidates").getAsJsonArray("email").forEach(email -> emails.add(email.getAsString()));
                Columns candidates = model.columns().set(model.feature("email"), emails.toArray(new String[0]));
                scorer.prepare(model.scenario(line.get("scenario").getAsString()), request);
                scorer.score(3, candidates, scores);
                for (int c = 0; c < 3; c++) {
                    String golden = "golden." + i + ".scores.";
                    assertEquals(tensor(golden + "conversion").asFloatBuffer().get(c), scores.get(0, c), 1e-5);
                    assertEquals(tensor(golden + "visit").asFloatBuffer().get(c), scores.get(1, c), 1e-5);
                }
            }
        }
    }
}
