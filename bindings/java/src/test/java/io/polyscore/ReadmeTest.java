package io.polyscore;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The Java blocks of README.md compile and run, from the root of the repository. */
class ReadmeTest {
    @TempDir
    Path directory;

    @Test
    void itsProgramsRun() throws Exception {
        Path root = Path.of(System.getProperty("polyscore.test.root"));
        String text = Files.readString(root.resolve("bindings/java/README.md"));
        Matcher blocks = Pattern.compile("^```java\n(.*?)^```$", Pattern.MULTILINE | Pattern.DOTALL).matcher(text);
        int count = 0;
        while (blocks.find()) {
            Path source = Files.writeString(directory.resolve("Block" + count++ + ".java"), blocks.group(1));
            Process process = new ProcessBuilder(
                            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                            "-cp", System.getProperty("polyscore.test.jar"), source.toString())
                    .directory(root.toFile())
                    .redirectErrorStream(true)
                    .start();
            String output = new String(process.getInputStream().readAllBytes());
            assertEquals(0, process.waitFor(), output);
            assertTrue(output.contains("conversion 0.0"), output);
        }
        assertEquals(1, count);
    }
}
