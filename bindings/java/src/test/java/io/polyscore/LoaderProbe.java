package io.polyscore;

import java.io.File;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** The program of the JVMs that {@link LoaderTest} starts: loads the library in some way, and says what came of it. */
final class LoaderProbe {
    private LoaderProbe() {}

    public static void main(String[] arguments) throws Exception {
        try {
            switch (arguments[0]) {
                case "load":
                    break;
                case "assume":
                    Polyscore.assumeLoaded();
                    break;
                case "load-and-assume":
                    System.load(arguments[1]);
                    Polyscore.assumeLoaded();
                    break;
                case "retry":
                    System.setProperty("polyscore.native.path", "/nowhere");
                    try {
                        Polyscore.load();
                    } catch (PolyscoreUnsupportedException first) {
                        System.out.println("first: " + first.getMessage());
                    }
                    System.clearProperty("polyscore.native.path");
                    break;
                case "twice":
                    twice();
                    return;
                default:
                    throw new IllegalArgumentException(arguments[0]);
            }
            System.out.println("origin: " + Polyscore.origin());
            System.out.println("version: " + Polyscore.version() + ", ABI " + Polyscore.abiVersion());
            Files.readAllLines(Path.of("/proc/self/maps")).stream()
                    .filter(line -> line.contains("libpolyscore"))
                    .forEach(System.out::println);
        } catch (PolyscoreException failure) {
            System.out.println(failure.getClass().getSimpleName() + " " + failure.code() + ": " + failure.getMessage());
        }
    }

    /** Two class loaders, as two web applications have. */
    private static void twice() throws Exception {
        List<URL> urls = new ArrayList<>();
        for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
            urls.add(Path.of(entry).toUri().toURL());
        }
        for (int i = 0; i < 2; i++) {
            URLClassLoader loader = new URLClassLoader(urls.toArray(new URL[0]), ClassLoader.getPlatformClassLoader());
            Class<?> probe = Class.forName(LoaderProbe.class.getName(), true, loader);
            var main = probe.getDeclaredMethod("main", String[].class);
            main.setAccessible(true);
            main.invoke(null, (Object) new String[] {"load"});
        }
    }
}
