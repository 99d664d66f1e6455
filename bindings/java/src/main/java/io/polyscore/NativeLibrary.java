package io.polyscore;

import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Locale;

/** Finds and loads the shim, which loads the engine beside it; the order is told at {@link Polyscore}. */
final class NativeLibrary {
    private static final String SHIM = "libpolyscore_jni.so";
    private static final String ENGINE = "libpolyscore.so";
    private static final String SUMS = "SHA256SUMS";
    private static final String PATH = "polyscore.native.path";
    private static final String WORKDIR = "polyscore.native.workdir";
    private static final int MESSAGE_BYTES = 4096;

    private static boolean isAssumed;
    private static volatile String origin;

    private NativeLibrary() {}

    static synchronized void assumeLoaded() {
        isAssumed = true;
    }

    /** Loads once, and says from where. */
    static String load() {
        String loaded = origin;
        return loaded != null ? loaded : loadOnce();
    }

    private static synchronized String loadOnce() {
        if (origin == null) {
            origin = find();
        }
        return origin;
    }

    private static String find() {
        if (isAssumed) {
            bind("assumeLoaded()");
            return "assumeLoaded()";
        }
        String directory = System.getProperty(PATH);
        if (directory != null) {
            loadFrom(Path.of(directory));
            return PATH + ": " + directory;
        }
        for (String entry : System.getProperty("java.library.path", "").split(File.pathSeparator)) {
            if (!entry.isEmpty() && Files.exists(Path.of(entry, SHIM))) {
                loadFrom(Path.of(entry));
                return "java.library.path: " + entry;
            }
        }
        return "jar: " + unpack();
    }

    /** Loads the shim of a directory; it loads the engine of the same. */
    private static void loadFrom(Path directory) {
        for (String name : new String[] {SHIM, ENGINE}) {
            if (!Files.isRegularFile(directory.resolve(name))) {
                throw new PolyscoreUnsupportedException(directory.resolve(name).toString(), "is not there");
            }
        }
        String file = directory.resolve(SHIM).toAbsolutePath().toString();
        try {
            System.load(file);
        } catch (UnsatisfiedLinkError failure) {
            throw new PolyscoreUnsupportedException(file, explain(String.valueOf(failure.getMessage())));
        }
        bind(file);
    }

    /** What a failure to load means, and what to do. */
    static String explain(String reason) {
        if (reason.contains("failed to map segment") || reason.contains("Operation not permitted")) {
            return "cannot be mapped for execution: its file system seems to be mounted noexec. Set the system property "
                    + WORKDIR + " to a directory that allows execution, or " + PATH
                    + " to one that holds the libraries unpacked (" + reason + ")";
        }
        if (reason.contains("already loaded in another classloader")) {
            return "is loaded by another class loader of this JVM already, which can only be once a file: put the jar where"
                    + " both class loaders share it, or leave " + PATH + " and java.library.path to let each unpack its own ("
                    + reason + ")";
        }
        return "cannot be loaded: " + reason;
    }

    private static void bind(String file) {
        try (Memory message = new Memory(MESSAGE_BYTES)) {
            if (Native.bind(Native.VERSION, message.address, MESSAGE_BYTES) != 0) {
                throw new PolyscoreUnsupportedException(file, message.text(0, MESSAGE_BYTES));
            }
        } catch (UnsatisfiedLinkError failure) {
            throw new PolyscoreUnsupportedException(
                    file, SHIM + " is not loaded, or is of another version than the jar: " + failure.getMessage());
        }
    }

    /** Unpacks the libraries of the jar, loads them, deletes them; says where from. */
    private static String unpack() {
        String platform = platform(System.getProperty("os.name", ""), System.getProperty("os.arch", ""));
        String folder = "/io/polyscore/native/" + platform + "/";
        String base = System.getProperty(WORKDIR, System.getProperty("java.io.tmpdir"));
        byte[] sums = resource(folder + SUMS);
        String prefix = "polyscore-" + hex(digest(sums)).substring(0, 8) + "-" + ProcessHandle.current().pid() + "-";
        Path directory;
        try {
            directory = Files.createTempDirectory(
                    Path.of(base), prefix, PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
        } catch (IOException failure) {
            throw new PolyscoreUnsupportedException(
                    base, "cannot take the libraries of the jar; set the system property " + WORKDIR + " (" + failure + ")");
        }
        try {
            for (String name : new String[] {SHIM, ENGINE}) {
                Path file = directory.resolve(name);
                Files.write(file, resource(folder + name));
                String sum = hex(digest(Files.readAllBytes(file))) + "  " + name;
                if (!new String(sums, StandardCharsets.US_ASCII).lines().anyMatch(sum::equals)) {
                    throw new PolyscoreUnsupportedException(file.toString(), "has not the hash that the jar states for it");
                }
            }
            loadFrom(directory);
            return folder;
        } catch (IOException failure) {
            throw new PolyscoreUnsupportedException(
                    directory.toString(),
                    "cannot be written; set the system property " + WORKDIR + " (" + failure + ")");
        } finally {
            for (Path file : new Path[] {directory.resolve(SHIM), directory.resolve(ENGINE), directory}) {
                // A file that cannot be deleted costs space, nothing else.
                file.toFile().delete();
            }
        }
    }

    /** The folder of a platform; refuses those for which there are no libraries. */
    static String platform(String system, String architecture) {
        String cpu = architecture.equals("amd64") ? "x86_64" : architecture;
        String platform = system.toLowerCase(Locale.ROOT) + "-" + cpu;
        if (NativeLibrary.class.getResource("/io/polyscore/native/" + platform + "/" + SUMS) == null) {
            throw new PolyscoreUnsupportedException(platform, "has no libraries in this jar");
        }
        return platform;
    }

    private static byte[] resource(String name) {
        try (InputStream stream = NativeLibrary.class.getResourceAsStream(name)) {
            if (stream == null) {
                throw new PolyscoreUnsupportedException(name, "is not in this jar");
            }
            return stream.readAllBytes();
        } catch (IOException failure) {
            throw new PolyscoreUnsupportedException(name, "cannot be read: " + failure);
        }
    }

    private static byte[] digest(byte[] bytes) {
        try {
            return MessageDigest.getInstance("SHA-256").digest(bytes);
        } catch (NoSuchAlgorithmException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        for (byte value : bytes) {
            text.append(String.format("%02x", value));
        }
        return text.toString();
    }
}
