package calls;

import io.polyscore.Columns;
import io.polyscore.Model;
import io.polyscore.Scenario;
import io.polyscore.Scorer;
import io.polyscore.Scores;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.LongBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;

/** Times of calls from Java, by JMH; see languages.py. The properties `calls.*` are the arguments of the other programs. */
@State(Scope.Thread)
@BenchmarkMode(Mode.SampleTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
public class Calls {
    private Model model;
    private Scorer scorer;
    private Columns request;
    private Columns ads;
    private Scores scores;
    private LongBuffer[][] columns;
    private int[] userSlots;
    private int[] itemSlots;
    private int candidates;
    private int place;

    @Setup
    public void open() throws IOException {
        int user = Integer.getInteger("calls.user");
        int items = Integer.getInteger("calls.items");
        candidates = Integer.getInteger("calls.candidates");
        byte[] bytes = Files.readAllBytes(Path.of(System.getProperty("calls.ids")));
        LongBuffer ids = ByteBuffer.allocateDirect(bytes.length).put(bytes).flip().order(ByteOrder.nativeOrder()).asLongBuffer();
        model = Model.open(Path.of(System.getProperty("calls.model")));
        scorer = model.scorer();
        request = model.columns();
        ads = model.columns();
        scores = model.scores(candidates);
        userSlots = slots("u", user);
        itemSlots = slots("i", items);
        int size = user + items * candidates;
        columns = new LongBuffer[ids.remaining() / size][user + items];
        for (int r = 0; r < columns.length; r++) {
            for (int k = 0; k < user + items; k++) {
                int start = k < user ? k : user + (k - user) * candidates;
                columns[r][k] = ids.duplicate().position(r * size + start)
                        .limit(r * size + start + (k < user ? 1 : candidates)).slice();
            }
        }
    }

    private int[] slots(String side, int count) {
        int[] found = new int[count];
        for (int k = 0; k < count; k++) {
            found[k] = model.feature(side + k);
        }
        return found;
    }

    @Benchmark
    public float score() {
        LongBuffer[] given = columns[place];
        place = (place + 1) % columns.length;
        for (int k = 0; k < userSlots.length; k++) {
            request.set(userSlots[k], given[k]);
        }
        for (int k = 0; k < itemSlots.length; k++) {
            ads.set(itemSlots[k], given[userSlots.length + k]);
        }
        scorer.prepare(Scenario.UNKNOWN, request);
        scorer.score(candidates, ads, scores);
        return scores.get(0, 0);
    }

    @TearDown
    public void close() {
        scorer.close();
        model.close();
    }
}
