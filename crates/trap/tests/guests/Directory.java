import java.io.File;
import java.nio.file.*;
public class Directory {
    public static void main(String[] a) throws Exception {
        Process p = new ProcessBuilder("/bin/sh", "-c", "pwd; cat config").directory(new File("/data")).inheritIO().start();
        System.out.println(p.waitFor());
    }
}
