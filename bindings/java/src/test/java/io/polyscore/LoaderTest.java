package io.polyscore;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The order in which the native library is looked for, and what is refused: each case in a JVM of its own. */
class LoaderTest {
    private static final String SHIM = "libpolyscore_jni.so";
    private static final String ENGINE = "libpolyscore.so";
    private static final Path NATIVE = Path.of(System.getProperty("polyscore.test.native"));
    private static final Path ROOT = Path.of(System.getProperty("polyscore.test.root"));
    private static final String JAR = System.getProperty("polyscore.test.jar");

    @TempDir
    Path directory;

    private Path temporary;

    @BeforeEach
    void makeTemporary() throws IOException {
        temporary = Files.createDirectory(directory.resolve("tmp"));
    }

    /** Runs the probe in a new JVM; {@code before} goes before the jar on the class path, or is null. */
    private String probe(List<String> wrapper, Path before, List<String> options, String... arguments) throws Exception {
        List<String> command = new ArrayList<>(wrapper);
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(List.of("-Xcheck:jni", "-Xshare:auto", "-Djava.io.tmpdir=" + temporary));
        command.addAll(options);
        String classes = JAR + File.pathSeparator + System.getProperty("polyscore.test.classes");
        command.addAll(List.of("-cp", before == null ? classes : before + File.pathSeparator + classes));
        command.add(LoaderProbe.class.getName());
        command.addAll(List.of(arguments));
        Path output = directory.resolve("output");
        Process process =
                new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(output.toFile()).start();
        assertTrue(process.waitFor(120, TimeUnit.SECONDS));
        String text = Files.readString(output);
        assertEquals(0, process.exitValue(), text);
        assertFalse(text.contains("WARNING"), text);
        return text;
    }

    private String probe(List<String> options, String... arguments) throws Exception {
        return probe(List.of(), null, options, arguments);
    }

    private Path copyOf(String... names) throws IOException {
        Path copy = Files.createTempDirectory(directory, "copy");
        for (String name : names) {
            Files.copy(NATIVE.resolve(name), copy.resolve(name));
        }
        return copy;
    }

    private static void assertContains(String text, String... parts) {
        for (String part : parts) {
            assertTrue(text.contains(part), "no <" + part + "> in:\n" + text);
        }
    }

    private static void assertEmpty(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            assertEquals(List.of(), files.collect(Collectors.toList()));
        }
    }

    @Test
    void theJarUnpacksItsCopiesAndLeavesNothing() throws Exception {
        String text = probe(List.of("-Djava.library.path="), "load");
        assertContains(text, "origin: jar: /io/polyscore/native/linux-", "version: 0.1.0, ABI 1");
        assertContains(text, temporary + "/polyscore-", SHIM + " (deleted)", ENGINE + " (deleted)");
        assertEmpty(temporary);
    }

    @Test
    void theJarUnpacksToTheWorkDirectoryThatIsNamed() throws Exception {
        Path work = Files.createDirectory(directory.resolve("work"));
        String text = probe(List.of("-Djava.library.path=", "-Dpolyscore.native.workdir=" + work), "load");
        assertContains(text, "origin: jar: ", work + "/polyscore-");
        assertFalse(text.contains(temporary.toString()), text);
        assertEmpty(work);
        text = probe(List.of("-Djava.library.path=", "-Dpolyscore.native.workdir=/nowhere"), "load");
        assertContains(text, "PolyscoreUnsupportedException 206: /nowhere: ", "polyscore.native.workdir");
    }

    @Test
    void theLibraryPathGoesBeforeTheJar() throws Exception {
        Path copy = copyOf(SHIM, ENGINE);
        String text = probe(List.of("-Djava.library.path=/nowhere::" + temporary + ":" + copy), "load");
        assertContains(text, "origin: java.library.path: " + copy, copy.toRealPath().resolve(ENGINE).toString());
        text = probe(List.of("-Djava.library.path=" + copyOf(SHIM)), "load");
        assertContains(text, "PolyscoreUnsupportedException", ENGINE + ": is not there");
    }

    @Test
    void thePathPropertyGoesBeforeTheLibraryPathAndHasNoFallback() throws Exception {
        Path copy = copyOf(SHIM, ENGINE);
        List<String> library = List.of("-Djava.library.path=" + copyOf(SHIM, ENGINE));
        List<String> options = new ArrayList<>(library);
        options.add("-Dpolyscore.native.path=" + copy);
        assertContains(probe(options, "load"), "origin: polyscore.native.path: " + copy);
        options.set(1, "-Dpolyscore.native.path=" + temporary);
        assertContains(probe(options, "load"), "PolyscoreUnsupportedException", temporary.resolve(SHIM) + ": is not there");
    }

    @Test
    void assumeLoadedGoesBeforeAll() throws Exception {
        Path copy = copyOf(SHIM, ENGINE);
        String text = probe(List.of("-Dpolyscore.native.path=/nowhere"), "load-and-assume", copy.resolve(SHIM).toString());
        assertContains(text, "origin: assumeLoaded()", copy.toRealPath().resolve(ENGINE).toString());
        text = probe(List.of("-Dpolyscore.native.path=" + copy), "assume");
        assertContains(text, "PolyscoreUnsupportedException", "assumeLoaded(): " + SHIM + " is not loaded");
    }

    @Test
    void aFailedLoadMayBeTriedAgain() throws Exception {
        String text = probe(List.of("-Djava.library.path="), "retry");
        assertContains(text, "first: /nowhere/" + SHIM + ": is not there", "origin: jar: ");
    }

    @Test
    void everyClassLoaderUnpacksItsOwn() throws Exception {
        String text = probe(List.of("-Djava.library.path="), "twice");
        assertEquals(2, text.split("origin: jar: ", -1).length - 1, text);
        text = probe(List.of("-Dpolyscore.native.path=" + NATIVE), "twice");
        assertContains(text, "origin: polyscore.native.path", "PolyscoreUnsupportedException", "another class loader");
    }

    @Test
    void aLibraryThatIsNotAsTheJarStatesIsRefused() throws Exception {
        String resource = probe(List.of("-Djava.library.path="), "load").replaceAll("(?s).*origin: jar: (\\S+).*", "$1");
        Path other = directory.resolve("classes");
        Path folder = Files.createDirectories(other.resolve(resource.substring(1)));
        byte[] engine = Files.readAllBytes(NATIVE.resolve(ENGINE));
        engine[engine.length / 2] ^= 1;
        Files.write(folder.resolve(ENGINE), engine);
        String text = probe(List.of(), other, List.of("-Djava.library.path="), "load");
        assertContains(text, "PolyscoreUnsupportedException", ENGINE + ": has not the hash");
        assertEmpty(temporary);
    }

    @Test
    void anEngineOfAnotherAbiIsRefusedWithItsFileAndVersions() throws Exception {
        Path copy = copyOf(SHIM);
        StringBuilder source = new StringBuilder("unsigned polyscore_abi_version(void) { return 99; }\n");
        for (String symbol : Files.readAllLines(ROOT.resolve("tests/abi/symbols.txt"))) {
            if (!symbol.isBlank() && !symbol.equals("polyscore_abi_version")) {
                source.append("int ").append(symbol).append("(void) { return 0; }\n");
            }
        }
        Path file = Files.writeString(directory.resolve("other.c"), source);
        Process compiler = new ProcessBuilder(
                        "gcc", "-shared", "-fPIC", "-o", copy.resolve(ENGINE).toString(), file.toString())
                .inheritIO()
                .start();
        assertEquals(0, compiler.waitFor());
        String text = probe(List.of("-Dpolyscore.native.path=" + copy), "load");
        assertContains(text, "PolyscoreUnsupportedException", copy.toRealPath().resolve(ENGINE).toString(), "99", " 1");
    }

    @Test
    void aFileThatIsNoLibraryIsRefused() throws Exception {
        Path copy = copyOf(SHIM);
        Files.writeString(copy.resolve(ENGINE), "not a library");
        String text = probe(List.of("-Dpolyscore.native.path=" + copy), "load");
        assertContains(text, "PolyscoreUnsupportedException", copy.toRealPath().resolve(ENGINE).toString());
        copy = copyOf(ENGINE);
        Files.writeString(copy.resolve(SHIM), "not a library");
        text = probe(List.of("-Dpolyscore.native.path=" + copy), "load");
        assertContains(text, "PolyscoreUnsupportedException", copy.resolve(SHIM) + ": cannot be loaded");
    }

    @Test
    void aShimOfAnotherVersionIsRefused() {
        Polyscore.load();
        try (Memory message = new Memory(256)) {
            assertEquals(-1, Native.bind(Native.VERSION + 1, message.address, 256));
            assertContains(message.text(0, 256), "it has interface 3, the jar 4");
        }
        assertEquals(1, Polyscore.abiVersion());
    }

    @Test
    void aNoexecDirectoryIsCalledThatAndTheWayOutNamed() throws Exception {
        Path work = Files.createDirectory(directory.resolve("noexec"));
        List<String> wrapper = List.of("unshare", "--mount", "--map-root-user", "sh", "-c",
                "mount -t tmpfs -o noexec,size=64m none '" + work + "' && exec \"$0\" \"$@\"");
        List<String> trial = new ArrayList<>(wrapper);
        trial.add("true");
        Process process = new ProcessBuilder(trial).redirectErrorStream(true).start();
        process.getInputStream().readAllBytes();
        assumeTrue(process.waitFor() == 0, "this user may not mount");
        String text =
                probe(wrapper, null, List.of("-Djava.library.path=", "-Dpolyscore.native.workdir=" + work), "load");
        assertContains(text, "PolyscoreUnsupportedException", "noexec", "polyscore.native.workdir", work.toString());
    }

    @Test
    void reasonsOfTheDynamicLoaderAreExplained() {
        assertContains(NativeLibrary.explain("x.so: failed to map segment from shared object"), "noexec",
                "polyscore.native.workdir", "x.so: failed to map segment from shared object");
        assertContains(NativeLibrary.explain("x.so already loaded in another classloader"), "another class loader");
        assertContains(NativeLibrary.explain("no such symbol"), "cannot be loaded: no such symbol");
    }

    @Test
    void aPlatformWithoutLibrariesIsRefused() {
        PolyscoreException failure = assertThrows(
                PolyscoreUnsupportedException.class, () -> NativeLibrary.platform("Mac OS X", "sparc"));
        assertContains(failure.getMessage(), "sparc", "no libraries in this jar");
        String here = NativeLibrary.platform(System.getProperty("os.name"), System.getProperty("os.arch"));
        assertTrue(here.startsWith("linux-"), here);
    }
}
