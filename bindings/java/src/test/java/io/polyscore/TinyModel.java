package io.polyscore;

import com.google.gson.Gson;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * A model with a feature of every sort and no hidden layer, so that a test can say its scores: the probability of a task is
 * the sigmoid of a weighted sum of what the features contribute.
 */
final class TinyModel {
    private static final int WIDTH = 17;

    private static final String DESCRIPTION = String.join("\n",
            "{'format_version':1,'name':'tiny','features':[",
            "{'name':'user','rate':'request','kind':'id','table':'user','transform':{'type':'identity'},'oov':0},",
            "{'name':'history','rate':'request','kind':'ids','table':'ad','transform':{'type':'identity'},'oov':0},",
            "{'name':'zip','rate':'request','kind':'id','table':'zip','transform':",
            "  {'type':'vocabulary','values':['Rural','\u017di\u017ekov \u20ac \ud83c\udfd9','?'],'offset':1},'oov':0,'missing':0},",
            "{'name':'age','rate':'request','kind':'id','table':'age','transform':",
            "  {'type':'bucketize','boundaries':[18,35]},'oov':0,'missing':0},",
            "{'name':'profile','rate':'request','kind':'dense','width':2,'missing':0.5},",
            "{'name':'ad','rate':'item','kind':'id','table':'ad','transform':{'type':'identity'},'oov':0},",
            "{'name':'tags','rate':'item','kind':'ids','pooling':'sum','table':'zip','transform':",
            "  {'type':'vocabulary','values':['red','green'],'offset':1},'oov':0},",
            "{'name':'dwell','rate':'pair','kind':'ids','pooling':'max','table':'age','transform':",
            "  {'type':'bucketize','boundaries':[1,10]},'oov':0},",
            "{'name':'price','rate':'pair','kind':'dense','width':1,'missing':0.0}],",
            "'scenarios':[{'name':'feed','id':7},{'name':'video','id':-9,'fallback':'feed'}],",
            "'tasks':[{'name':'ctr'},{'name':'cvr','fallback':0.25},{'name':'ctcvr','composition':['ctr','cvr']}],",
            "'network':{'type':'shared_bottom','bottom':[],'tower':[]}}");

    private final Map<String, int[]> shapes = new LinkedHashMap<>();
    private final Map<String, float[]> values = new LinkedHashMap<>();
    private String description = DESCRIPTION;

    TinyModel() {
        fill("user", 5, 2);
        fill("ad", 6, 2);
        fill("zip", 4, 2);
        fill("age", 3, 2);
        for (String task : new String[] {"ctr", "cvr"}) {
            fill("heads." + task + ".weight", 1, WIDTH);
            fill("heads." + task + ".bias", 1);
        }
    }

    /** With {@code from} in the description replaced by {@code to}. */
    TinyModel described(String from, String to) {
        if (!description.contains(from)) {
            throw new IllegalArgumentException(from);
        }
        description = description.replace(from, to);
        return this;
    }

    private void fill(String name, int... shape) {
        int length = 1;
        for (int size : shape) {
            length *= size;
        }
        float[] numbers = new float[length];
        for (int i = 0; i < length; i++) {
            numbers[i] = (float) Math.sin(1 + name.hashCode() % 97 + 1.7 * i);
        }
        shapes.put(name, shape);
        values.put(name, numbers);
    }

    /** A row of a table. */
    float[] row(String table, int row) {
        float[] numbers = values.get(table);
        return new float[] {numbers[2 * row], numbers[2 * row + 1]};
    }

    /** The probability of a task for what all features contribute, in their order. */
    double probability(String task, float[]... parts) {
        float[] weight = values.get("heads." + task + ".weight");
        double sum = values.get("heads." + task + ".bias")[0];
        int at = 0;
        for (float[] part : parts) {
            for (float value : part) {
                sum += (double) weight[at++] * value;
            }
        }
        if (at != WIDTH) {
            throw new IllegalArgumentException("parts of width " + at);
        }
        return 1 / (1 + Math.exp(-sum));
    }

    /** Writes the model as a safetensors file. */
    Path write(Path path) {
        StringBuilder header = new StringBuilder("{\"__metadata__\":{\"polyscore\":");
        header.append(new Gson().toJson(description.replace('\'', '"'))).append('}');
        ByteArrayOutputStream data = new ByteArrayOutputStream();
        values.forEach((name, numbers) -> {
            ByteBuffer bytes = ByteBuffer.allocate(numbers.length * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
            bytes.asFloatBuffer().put(numbers);
            String shape = Arrays.toString(shapes.get(name));
            header.append(String.format(",\"%s\":{\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[%d,%d]}",
                    name, shape, data.size(), data.size() + bytes.capacity()));
            data.writeBytes(bytes.array());
        });
        byte[] text = header.append('}').toString().getBytes(StandardCharsets.UTF_8);
        int padded = (text.length + 7) / 8 * 8;
        ByteBuffer file = ByteBuffer.allocate(8 + padded + data.size()).order(ByteOrder.LITTLE_ENDIAN);
        file.putLong(padded).put(text);
        while (file.position() < 8 + padded) {
            file.put((byte) ' ');
        }
        file.put(data.toByteArray());
        try {
            return Files.write(path, file.array());
        } catch (IOException failure) {
            throw new UncheckedIOException(failure);
        }
    }

    Model open(Path directory) {
        return Model.open(write(directory.resolve("tiny.safetensors")));
    }
}
