package io.polyscore;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * An open model. It does not change; any number of threads may use it at the same time.
 *
 * <p>Resolve names once, after opening: slots, task indices and scenario indices are numbers of this model only.
 *
 * <p>Close it when no new scorer is needed: its scorers stay usable, and keep the file open until they are closed too. A
 * model that is forgotten is closed by the garbage collector, at no known time.
 */
public final class Model implements AutoCloseable {
    private final Handle handle;
    private final ModelInfo info;
    private final List<Feature> features;
    private final List<Task> tasks;
    private final List<Scenario> scenarios;
    private final Map<String, Integer> slots = new HashMap<>();
    private final Map<String, Integer> taskIndices = new HashMap<>();
    private final Map<String, Integer> scenarioIndices = new HashMap<>();
    private final Map<Long, Integer> scenarioIds = new HashMap<>();

    private Model(long model) {
        handle = Handle.of(this, "model", model, Native::modelClose);
        info = new ModelInfo(Memory.read(Layout.INFO_SIZE, (out, error) -> Native.modelInfo(model, out, error)));
        features = list(info.features(), Layout.FEATURE_SIZE, (i, out, error) -> Native.modelFeature(model, i, out, error),
                Feature::new);
        tasks = list(info.tasks(), Layout.TASK_SIZE, (i, out, error) -> Native.modelTask(model, i, out, error),
                (i, memory) -> new Task(memory));
        scenarios = list(info.scenarios(), Layout.SCENARIO_SIZE,
                (i, out, error) -> Native.modelScenario(model, i, out, error), (i, memory) -> new Scenario(memory));
        features.forEach(feature -> slots.put(feature.name(), feature.slot()));
        tasks.forEach(task -> taskIndices.put(task.name(), taskIndices.size()));
        scenarios.forEach(scenario -> {
            scenarioIds.put(scenario.id(), scenarioIndices.size());
            scenarioIndices.put(scenario.name(), scenarioIndices.size());
        });
    }

    /** Opens a model with the default options. */
    public static Model open(Path path) {
        return open(path, new Options());
    }

    /**
     * Opens a {@code .safetensors} file, or a sharded set by its {@code .safetensors.index.json}: checks it whole, packs its
     * weights and replays its golden requests. Loads the native library if need be.
     *
     * @throws PolyscoreModelFormatException if the file is not a sound model
     * @throws PolyscoreUnsupportedException if this machine cannot run it, or the native library cannot be loaded
     * @throws PolyscoreException if the file cannot be read, with {@link Status#IO}
     */
    public static Model open(Path path, Options options) {
        Polyscore.load();
        try (Memory text = Memory.text(path.toFile().getPath());
                Memory isa = options.isaText();
                Memory struct = options.struct(isa);
                Memory out = new Memory(Long.BYTES);
                NativeError error = new NativeError()) {
            error.check(Native.modelOpen(text.address, struct.address, out.address, error.address()));
            return new Model(out.bytes.getLong(0));
        }
    }

    /** What the model is and takes up. */
    public ModelInfo info() {
        handle.value();
        return info;
    }

    /** The features, by slot. */
    public List<Feature> features() {
        handle.value();
        return features;
    }

    /** The tasks, by index, in the order of the funnel. */
    public List<Task> tasks() {
        handle.value();
        return tasks;
    }

    /** The scenarios, by index. */
    public List<Scenario> scenarios() {
        handle.value();
        return scenarios;
    }

    /**
     * The slot of a feature.
     *
     * @throws PolyscoreInvalidArgumentException if the model has none of that name
     */
    public int feature(String name) {
        handle.value();
        return index(slots, name, Status.UNKNOWN_FEATURE, "feature");
    }

    /**
     * The index of a task.
     *
     * @throws PolyscoreInvalidArgumentException if the model has none of that name
     */
    public int task(String name) {
        handle.value();
        return index(taskIndices, name, Status.UNKNOWN_TASK, "task");
    }

    /** The index of a scenario; {@link Scenario#UNKNOWN} if the model has none of that name. */
    public int scenario(String name) {
        handle.value();
        return scenarioIndices.getOrDefault(name, Scenario.UNKNOWN);
    }

    /** The index of the scenario that hosts know by {@code id}; {@link Scenario#UNKNOWN} if there is none. */
    public int scenarioById(long id) {
        handle.value();
        return scenarioIds.getOrDefault(id, Scenario.UNKNOWN);
    }

    /** The plan as a table: every step with its rate, kernel and bytes. */
    public String plan() {
        return text((model, buffer, capacity, length, error) ->
                Native.modelPlan(model, buffer, capacity, length, error));
    }

    /** The description of the model, a JSON text. */
    public String description() {
        return text((model, buffer, capacity, length, error) ->
                Native.modelDescription(model, buffer, capacity, length, error));
    }

    /** A feature as the subject of an error. */
    String subject(int slot) {
        return "feature `" + features.get(slot).name() + "`";
    }

    /** Makes a scorer, with its scratch. One for each thread. */
    public Scorer scorer() {
        return new Scorer(this, handle.value(), null);
    }

    /**
     * Makes a scorer whose calls are shared among the threads of a pool. A call of few candidates, or one that finds the
     * pool's own threads busy, runs on its caller's thread; so does {@code prepare}. The scores have the same bits. It has
     * scratch of its own and for each thread, and its calls allocate.
     */
    public Scorer scorer(Pool pool) {
        return new Scorer(this, handle.value(), pool);
    }

    /** Makes columns, empty. A thread needs two: one for requests, one for candidates. */
    public Columns columns() {
        handle.value();
        return new Columns(this, features.size());
    }

    /**
     * Makes room for the scores of up to {@code capacity} candidates; for {@link Scorer#scoreEach}, of candidates times
     * scenarios.
     *
     * @param tasks the tasks to compute, in the order wanted; none for all
     * @throws PolyscoreInvalidArgumentException if the model lacks a task, or one is named twice
     */
    public Scores scores(int capacity, String... tasks) {
        if (capacity < 0) {
            throw new PolyscoreInvalidArgumentException(Status.INVALID_ARGUMENT, "capacity", "is negative");
        }
        long bytes = (long) capacity * (tasks.length == 0 ? this.tasks.size() : tasks.length) * Float.BYTES;
        if (bytes > Integer.MAX_VALUE) {
            throw new PolyscoreInvalidArgumentException(Status.INVALID_ARGUMENT, "capacity", "takes more than 2 GiB");
        }
        ByteBuffer buffer = ByteBuffer.allocateDirect((int) bytes).order(ByteOrder.nativeOrder());
        return scores(buffer.asFloatBuffer(), tasks);
    }

    /**
     * Scores that are written to a buffer of the caller's, between its position and limit of now.
     *
     * @param buffer direct, of native byte order, writable
     * @param tasks the tasks to compute, in the order wanted; none for all
     * @throws PolyscoreInvalidArgumentException if the buffer is of another sort, the model lacks a task, or one is named
     *     twice
     */
    public Scores scores(FloatBuffer buffer, String... tasks) {
        int[] indices = new int[tasks.length == 0 ? this.tasks.size() : tasks.length];
        for (int i = 0; i < indices.length; i++) {
            indices[i] = tasks.length == 0 ? i : task(tasks[i]);
            for (int j = 0; j < i; j++) {
                if (indices[i] == indices[j]) {
                    throw new PolyscoreInvalidArgumentException(Status.DUPLICATE_TASK, "task `" + tasks[i] + "`", "was asked for twice");
                }
            }
        }
        handle.value();
        return new Scores(this, buffer, indices);
    }

    /** Closes the model. A second time does nothing. Calls that other threads are inside of finish first. */
    @Override
    public void close() {
        handle.run();
    }

    private static int index(Map<String, Integer> indices, String name, int code, String noun) {
        Integer index = indices.get(name);
        if (index == null) {
            String detail = "is not a " + noun + " of the model";
            throw new PolyscoreInvalidArgumentException(code, noun + " `" + name + "`", detail);
        }
        return index;
    }

    private interface IndexedReader {
        int read(int index, long out, long error);
    }

    private interface Maker<T> {
        T make(int index, Memory memory);
    }

    private interface TextReader {
        int read(long model, long buffer, long capacity, long length, long error);
    }

    private static <T> List<T> list(int length, int size, IndexedReader reader, Maker<T> maker) {
        List<T> list = new ArrayList<>(length);
        for (int i = 0; i < length; i++) {
            int index = i;
            list.add(maker.make(i, Memory.read(size, (out, error) -> reader.read(index, out, error))));
        }
        return Collections.unmodifiableList(list);
    }

    private String text(TextReader reader) {
        int capacity = 0;
        while (true) {
            try (Memory buffer = new Memory(capacity);
                    Memory length = new Memory(Long.BYTES);
                    NativeError error = new NativeError()) {
                int status = reader.read(handle.value(), buffer.address, capacity, length.address, error.address());
                if (status != Status.BUFFER_TOO_SMALL) {
                    error.check(status);
                    return buffer.text(0, capacity);
                }
                capacity = Math.toIntExact(length.bytes.getLong(0) + 1);
            } finally {
                Reference.reachabilityFence(this);
            }
        }
    }
}
