import java.nio.file.NoSuchFileException;
import java.util.HashMap;
import java.util.Map;

/** Guest BEHAVIOUR[=ARGUMENT]...: for each `== BEHAVIOUR` and the lines of what it saw. */
public final class Guest {
    interface Behaviour {
        void run(String argument) throws Exception;
    }

    static final String FILES = "/data/conformance/";
    static final String ECHO = "10.77.0.40";
    static final String ECHO_SIX = "fd00:77::40";
    static final int PORT = 7000;
    static final int CLOSED = 9;
    static final String POD = "10.77.0.10";
    static final int POD_PORT = 8080;

    static void say(Object line) {
        System.out.println(line);
        System.out.flush();
    }

    /** The errno's name, out of Java's words. */
    static String nameOf(Exception problem) {
        String text = String.valueOf(problem.getMessage());
        if (problem instanceof NoSuchFileException || text.contains("No such file")) return "ENOENT";
        if (text.contains("Connection refused")) return "ECONNREFUSED";
        if (text.contains("Network is unreachable")) return "ENETUNREACH";
        if (text.contains("Cannot assign requested address")) return "EADDRNOTAVAIL";
        if (text.contains("Read-only file system")) return "EROFS";
        return problem.toString();
    }

    public static void main(String[] words) {
        Map<String, Behaviour> behaviours = new HashMap<>();
        Files.add(behaviours);
        Sockets.add(behaviours);
        for (String word : words) {
            int at = word.indexOf('=');
            String name = at < 0 ? word : word.substring(0, at);
            // A child's lines belong to what its parent was told to do.
            if (!name.equals("child")) say("== " + name);
            Behaviour behaviour = behaviours.get(name);
            if (behaviour == null) {
                say("unknown to this guest");
                continue;
            }
            try {
                behaviour.run(at < 0 ? "" : word.substring(at + 1));
            } catch (Exception problem) {
                say("failed " + nameOf(problem));
            }
        }
        System.exit(0);
    }
}
