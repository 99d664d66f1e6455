package io.polyscore;

import static org.junit.jupiter.api.Assertions.assertEquals;

/** A request to a {@link TinyModel} with its candidates, from direct buffers, and the scores that it has. */
final class Request {
    static final int CANDIDATES = 3;

    final Columns request;
    final Columns candidates;

    Request(Model model) {
        request = model.columns()
                .set(model.feature("user"), Direct.longs(3))
                .setBags(model.feature("history"), Direct.ints(5, 1), Direct.longs(0, 2))
                .setText(model.feature("zip"), Direct.text("Rural"), Direct.offsets("Rural"))
                .set(model.feature("age"), Direct.floats(40))
                .set(model.feature("profile"), Direct.floats(0.25f, -1));
        candidates = model.columns()
                .set(model.feature("ad"), Direct.ints(2, 4, 99))
                .setTextBags(
                        model.feature("tags"),
                        Direct.text("red", "green"),
                        Direct.offsets("red", "green"),
                        Direct.longs(0, 2, 2, 2))
                .setBags(model.feature("dwell"), Direct.floats(0, 20, 5), Direct.longs(0, 0, 2, 3))
                .set(model.feature("price"), Direct.floats(0.5f, -2, Columns.MISSING_FLOAT));
    }

    /** Checks the scores of the tasks that were asked for against the formula. */
    void check(TinyModel tiny, Scores scores) {
        check(tiny, scores, tiny.row("zip", 1));
    }

    void check(TinyModel tiny, Scores scores, float[] zip) {
        String[] names = {"ctr", "cvr", "ctcvr"};
        assertEquals(CANDIDATES, scores.candidates());
        for (int task = 0; task < scores.tasks(); task++) {
            for (int i = 0; i < CANDIDATES; i++) {
                String name = names[scores.task(task)];
                assertEquals(expected(tiny, name, i, zip), scores.get(task, i), 2e-6, name + " of candidate " + i);
            }
        }
    }

    private static double expected(TinyModel tiny, String task, int candidate, float[] zip) {
        if (task.equals("ctcvr")) {
            return expected(tiny, "ctr", candidate, zip) * expected(tiny, "cvr", candidate, zip);
        }
        float[] first = tiny.row("ad", 5);
        float[] second = tiny.row("ad", 1);
        float[] none = {0, 0};
        float[] young = tiny.row("age", 0);
        float[] old = tiny.row("age", 2);
        float[] red = tiny.row("zip", 1);
        float[] green = tiny.row("zip", 2);
        float[][] ads = {tiny.row("ad", 2), tiny.row("ad", 4), tiny.row("ad", 0)};
        float[][] tags = {{red[0] + green[0], red[1] + green[1]}, none, none};
        float[][] dwells = {none, {Math.max(young[0], old[0]), Math.max(young[1], old[1])}, tiny.row("age", 1)};
        float[] prices = {0.5f, -2, 0};
        return tiny.probability(
                task,
                tiny.row("user", 3),
                new float[] {(first[0] + second[0]) / 2, (first[1] + second[1]) / 2},
                zip,
                tiny.row("age", 2),
                new float[] {0.25f, -1},
                ads[candidate],
                tags[candidate],
                dwells[candidate],
                new float[] {prices[candidate]});
    }
}
