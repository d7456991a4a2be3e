import java.io.BufferedReader;
import java.io.File;
import java.net.InetAddress;
import java.net.NetworkInterface;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** The pod's files, environment, host name; children. */
final class Files {
    interface Line {
        String get() throws Exception;
    }

    static void attempt(String what, Line line) {
        try {
            Guest.say(line.get());
        } catch (Exception problem) {
            Guest.say(what + " " + Guest.nameOf(problem));
        }
    }

    static Path at(String name) {
        return Path.of(Guest.FILES + name);
    }

    static String firstLine(Path path) throws Exception {
        try (BufferedReader reader = java.nio.file.Files.newBufferedReader(path)) {
            return reader.readLine();
        }
    }

    static String kind(String name, LinkOption... options) throws Exception {
        BasicFileAttributes found = java.nio.file.Files.readAttributes(at(name), BasicFileAttributes.class, options);
        if (found.isRegularFile()) return name + " file " + found.size();
        return name + (found.isDirectory() ? " directory" : found.isSymbolicLink() ? " link" : " something");
    }

    static void run(ProcessBuilder builder) throws Exception {
        int status = builder.inheritIO().start().waitFor();
        if (status != 0) Guest.say("status " + status);
    }

    /** This program again. */
    static ProcessBuilder self() {
        ProcessHandle.Info info = ProcessHandle.current().info();
        return new ProcessBuilder(
                info.command().orElseThrow(),
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-cp",
                System.getProperty("java.class.path"),
                "Guest",
                "child");
    }

    static void add(Map<String, Guest.Behaviour> all) {
        all.put("read", argument -> {
            attempt("text", () -> firstLine(at("text")));
            attempt("absent", () -> firstLine(at("absent")));
        });
        all.put("list", argument -> {
            try (Stream<Path> entries = java.nio.file.Files.list(at("directory"))) {
                Guest.say(entries.map(path -> path.getFileName().toString()).sorted().collect(Collectors.joining(" ")));
            }
        });
        all.put("cwd", argument -> Guest.say("cwd " + Path.of("").toRealPath()));
        all.put("symlinks", argument -> {
            Guest.say("link -> " + java.nio.file.Files.readSymbolicLink(at("link")));
            Guest.say(at("link/one").toRealPath());
        });
        all.put("mmap", argument -> {
            try (FileChannel channel = FileChannel.open(at("blob"))) {
                MappedByteBuffer bytes = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size());
                long sum = 0;
                int length = bytes.remaining();
                while (bytes.hasRemaining()) sum += bytes.get() & 0xff;
                Guest.say(length + " bytes, sum " + sum);
            }
        });
        all.put("stat", argument -> {
            attempt("text", () -> kind("text"));
            attempt("directory", () -> kind("directory"));
            attempt("link", () -> kind("link", LinkOption.NOFOLLOW_LINKS));
            attempt("absent", () -> kind("absent"));
        });
        all.put("access", argument -> {
            Guest.say("text " + (java.nio.file.Files.isReadable(at("text")) ? "yes" : "no"));
            // The class tells no reason.
            Guest.say("absent " + (new File(Guest.FILES + "absent").canRead() ? "yes" : "ENOENT"));
        });
        all.put("write", argument -> attempt("open", () -> {
            FileChannel.open(at("text"), StandardOpenOption.WRITE).close();
            return "open for writing";
        }));
        all.put("local-file", directory -> {
            Path path = Path.of(directory, "mine-" + ProcessHandle.current().pid());
            java.nio.file.Files.writeString(path, "kept here\n", StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
            Guest.say(firstLine(path));
            java.nio.file.Files.delete(path);
            Guest.say("removed");
        });
        all.put("script", argument -> run(new ProcessBuilder(Guest.FILES + "script", "hello")));
        all.put("environment", argument -> {
            Guest.say(System.getenv().getOrDefault("SHOP_CURRENCY", "unset"));
            Guest.say("NODE_OPTIONS " + (System.getenv("NODE_OPTIONS") == null ? "unset" : "set"));
        });
        // Java has no call for it but this one, which looks the name up as well.
        all.put("host-name", argument -> Guest.say(InetAddress.getLocalHost().getHostName()));
        all.put("interfaces", argument -> {
            NetworkInterface lo = NetworkInterface.getByName("lo");
            List<InetAddress> addresses = Collections.list(lo.getInetAddresses());
            Guest.say(addresses.stream().anyMatch(one -> one.getHostAddress().equals("127.0.0.1")) ? "lo 127.0.0.1" : "no lo");
        });
        all.put("spawn-child", argument -> run(self()));
        all.put("bare-environment", argument -> {
            ProcessBuilder builder = self();
            builder.environment().clear();
            run(builder);
        });
        all.put("child", argument -> {
            attempt("child: text", () -> "child: " + firstLine(at("text")));
            attempt("child: connect", () -> {
                try (java.net.Socket socket = new java.net.Socket(Guest.ECHO, Guest.PORT)) {
                    return "child: " + Sockets.talk(socket);
                }
            });
        });
    }
}
