import io.polyscore.Columns;
import io.polyscore.Model;
import io.polyscore.Scorer;
import io.polyscore.Scores;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.LongBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;

/** The demo of tests/demo/README.md in Java. usage: Demo MODEL */
public final class Demo {
    private static final class Customer {
        final String scenario;
        final float recency;
        final String historySegment;
        final float history;
        final long mens;
        final long womens;
        final String zipCode;
        final long newbie;

        Customer(String scenario, float recency, String historySegment, float history, long mens, long womens,
                String zipCode, long newbie) {
            this.scenario = scenario;
            this.recency = recency;
            this.historySegment = historySegment;
            this.history = history;
            this.mens = mens;
            this.womens = womens;
            this.zipCode = zipCode;
            this.newbie = newbie;
        }
    }

    private static final Customer[] CUSTOMERS = {
        new Customer("Web", 2, "2) $100 - $200", 150, 1, 0, "Urban", 0),
        new Customer("Phone", 11, "1) $0 - $100", 33.5f, 0, 1, "Rural", 1),
        new Customer("Multichannel", 5, "7) $1,000 +", 1750, 1, 1, "Surburban", 0),
    };

    private static final String[] EMAILS = {"No E-Mail", "Mens E-Mail", "Womens E-Mail"};
    private static final double[] COSTS = {0.0, 0.10, 0.10};

    public static void main(String[] arguments) {
        byte[] text = String.join("", EMAILS).getBytes(StandardCharsets.UTF_8);
        ByteBuffer bytes = ByteBuffer.allocateDirect(text.length).put(text).flip();
        LongBuffer offsets =
                ByteBuffer.allocateDirect((EMAILS.length + 1) * Long.BYTES).order(ByteOrder.nativeOrder()).asLongBuffer();
        for (int e = 0; e < EMAILS.length; e++) {
            offsets.put(e + 1, offsets.get(e) + EMAILS[e].length());
        }

        try (Model model = Model.open(Path.of(arguments[0])); Scorer scorer = model.scorer()) {
            Columns request = model.columns();
            Columns candidates = model.columns().setText(model.feature("email"), bytes, offsets);
            Scores scores = model.scores(EMAILS.length, "visit", "conversion");
            for (Customer customer : CUSTOMERS) {
                request.set(model.feature("recency"), customer.recency)
                        .set(model.feature("history_segment"), customer.historySegment)
                        .set(model.feature("history"), customer.history)
                        .set(model.feature("mens"), customer.mens)
                        .set(model.feature("womens"), customer.womens)
                        .set(model.feature("zip_code"), customer.zipCode)
                        .set(model.feature("newbie"), customer.newbie);
                scorer.prepare(model.scenario(customer.scenario), request);
                scorer.score(EMAILS.length, candidates, scores);

                double[] values = new double[EMAILS.length];
                Integer[] order = new Integer[EMAILS.length];
                for (int e = 0; e < EMAILS.length; e++) {
                    values[e] = 100.0 * scores.get(1, e) - COSTS[e];
                    order[e] = e;
                }
                Arrays.sort(order, Comparator.comparingDouble(e -> -values[e]));
                for (int rank = 1; rank <= EMAILS.length; rank++) {
                    int e = order[rank - 1];
                    System.out.println(String.join("\t", customer.scenario, String.valueOf(rank), EMAILS[e],
                            fixed(scores.get(0, e), 6), fixed(scores.get(1, e), 6), fixed(values[e], 4)));
                }
            }
        }
    }

    /** As printf of C has it: the exact value, rounded half to even. Java's formatter rounds the shortest decimal half up. */
    private static String fixed(double value, int digits) {
        return new BigDecimal(value).setScale(digits, RoundingMode.HALF_EVEN).toPlainString();
    }

    private Demo() {}
}
