package io.polyscore;

/**
 * The native library: where it comes from and which one it is.
 *
 * <p>{@link Model#open} loads it, in this order, and the first that applies decides: nothing is tried after it.
 * <ol>
 *   <li>{@link #assumeLoaded} was called: the caller has loaded {@code libpolyscore_jni.so} itself.
 *   <li>The system property {@code polyscore.native.path}: a directory with {@code libpolyscore_jni.so} and
 *       {@code libpolyscore.so}.
 *   <li>The first directory of {@code java.library.path} that has {@code libpolyscore_jni.so}; {@code libpolyscore.so} lies
 *       beside it.
 *   <li>The copies in the jar, unpacked to a new directory, owner-only, in that of the system property
 *       {@code polyscore.native.workdir}, else {@code java.io.tmpdir}. They are checked by hash, and deleted once loaded.
 * </ol>
 * A library of another ABI version than this binding is refused. A load that failed may be tried again.
 */
public final class Polyscore {
    private Polyscore() {}

    /**
     * Says that the caller has loaded {@code libpolyscore_jni.so} with {@link System#load}, by the class loader of this
     * class. To be called before anything else.
     */
    public static void assumeLoaded() {
        NativeLibrary.assumeLoaded();
    }

    /**
     * Loads the native library, unless it is loaded.
     *
     * @throws PolyscoreUnsupportedException if it cannot be; the message names the file and the reason
     */
    public static void load() {
        NativeLibrary.load();
    }

    /** Where the native library was loaded from, in words, for logs. Loads it if need be. */
    public static String origin() {
        return NativeLibrary.load();
    }

    /** The version of the native library, such as "0.1.0". Loads it if need be. */
    public static String version() {
        load();
        return Native.version();
    }

    /** The version of its ABI. Loads it if need be. */
    public static int abiVersion() {
        load();
        return Native.abiVersion();
    }
}
