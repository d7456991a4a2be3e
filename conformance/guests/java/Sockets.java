import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.Inet4Address;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.UnknownHostException;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;

/** Names, connections, datagrams, servers. */
final class Sockets {
    static String shown(InetAddress address, int port) {
        String text = address.getHostAddress();
        if (address instanceof Inet4Address) return text + ":" + port;
        // Java writes every group out.
        return "[" + text.replaceFirst("(:0)+:", "::") + "]:" + port;
    }

    static String shown(InetSocketAddress address) {
        return shown(address.getAddress(), address.getPort());
    }

    static String talk(Socket socket) throws IOException {
        socket.getOutputStream().write("ping".getBytes());
        return new String(socket.getInputStream().readNBytes(4));
    }

    static void converse(Socket socket) throws IOException {
        try (socket) {
            Guest.say("peer " + shown(socket.getInetAddress(), socket.getPort()));
            Guest.say(talk(socket));
            socket.shutdownOutput();
            Guest.say(socket.getInputStream().read() < 0 ? "end" : "more");
        }
    }

    static void lookUp(String name) {
        try {
            for (InetAddress one : InetAddress.getAllByName(name)) {
                if (!(one instanceof Inet4Address)) continue;
                Guest.say(one.getHostAddress());
                return;
            }
            Guest.say("no IPv4");
        } catch (UnknownHostException problem) {
            // EAI_NONAME in glibc's words.
            Guest.say(problem.getMessage().contains("Name or service not known") ? "not found" : problem);
        }
    }

    /** NIO: connects by a selector. */
    static SocketChannel bySelector(String host, int port) throws IOException {
        SocketChannel channel = SocketChannel.open();
        channel.configureBlocking(false);
        if (!channel.connect(new InetSocketAddress(host, port))) {
            try (Selector selector = Selector.open()) {
                channel.register(selector, SelectionKey.OP_CONNECT);
                while (!channel.finishConnect()) selector.select();
            }
        }
        channel.configureBlocking(true);
        return channel;
    }

    static void many() throws IOException {
        int connected = 0, refused = 0, other = 0;
        try (Selector selector = Selector.open()) {
            for (int number = 0; number < 50; number++) {
                SocketChannel channel = SocketChannel.open();
                channel.configureBlocking(false);
                channel.register(selector, SelectionKey.OP_CONNECT);
                channel.connect(new InetSocketAddress(Guest.ECHO, number % 2 == 1 ? Guest.CLOSED : Guest.PORT));
            }
            while (connected + refused + other < 50) {
                selector.select();
                for (SelectionKey key : selector.selectedKeys()) {
                    try (SocketChannel channel = (SocketChannel) key.channel()) {
                        channel.finishConnect();
                        connected++;
                    } catch (java.net.ConnectException problem) {
                        refused++;
                    } catch (IOException problem) {
                        other++;
                    }
                }
                selector.selectedKeys().clear();
            }
        }
        Guest.say(connected + " connected, " + refused + " refused, " + other + " other");
    }

    static void socketNames() throws IOException {
        try (Socket socket = new Socket(Guest.POD, Guest.POD_PORT)) {
            Guest.say("peer " + shown(socket.getInetAddress(), socket.getPort()));
            String here = "client=" + shown(socket.getLocalAddress(), socket.getLocalPort());
            socket.getOutputStream().write("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n".getBytes());
            String answer = new String(socket.getInputStream().readAllBytes());
            Guest.say("the server saw " + (Arrays.asList(answer.split("\n")).contains(here) ? "this" : "another") + " address");
        }
    }

    static void large() throws Exception {
        byte[] sent = new byte[8 << 20];
        for (int at = 0; at < sent.length; at++) sent[at] = (byte) (at * 0x9e3779b1 >>> 24);
        try (Socket socket = new Socket(Guest.ECHO, Guest.PORT)) {
            Thread writer = new Thread(() -> {
                try {
                    for (int at = 0; at < sent.length; at += 17321)
                        socket.getOutputStream().write(sent, at, Math.min(17321, sent.length - at));
                    socket.shutdownOutput();
                } catch (IOException problem) {
                    Guest.say(problem);
                }
            });
            writer.start();
            byte[] back = socket.getInputStream().readAllBytes();
            writer.join();
            Guest.say(back.length + (Arrays.equals(back, sent) ? " bytes came back as they were sent" : " other bytes"));
        }
    }

    static void threads() throws InterruptedException {
        AtomicInteger echoes = new AtomicInteger();
        Thread[] all = new Thread[8];
        for (int number = 0; number < all.length; number++) {
            all[number] = new Thread(() -> {
                try (Socket socket = new Socket(Guest.ECHO, Guest.PORT)) {
                    if (talk(socket).equals("ping") && Files.firstLine(Files.at("text")) != null) echoes.incrementAndGet();
                } catch (Exception problem) {
                    Guest.say(problem);
                }
            });
            all[number].start();
        }
        for (Thread thread : all) thread.join();
        Guest.say(echoes + " echoes");
    }

    static void udp(boolean connected) throws IOException {
        try (DatagramSocket socket = new DatagramSocket()) {
            InetSocketAddress to = new InetSocketAddress(Guest.ECHO, Guest.PORT);
            if (connected) socket.connect(to);
            socket.send(new DatagramPacket("ping".getBytes(), 4, to));
            DatagramPacket back = new DatagramPacket(new byte[16], 16);
            socket.receive(back);
            String text = new String(back.getData(), 0, back.getLength());
            Guest.say(shown((InetSocketAddress) back.getSocketAddress()) + " says " + text);
        }
    }

    static void answer(Socket socket) throws IOException {
        try (socket) {
            // accept's address is all that Java asks for.
            Guest.say("client " + shown(socket.getInetAddress(), socket.getPort()) + ", twice");
            BufferedReader reader = new BufferedReader(new InputStreamReader(socket.getInputStream()));
            Guest.say("said " + reader.readLine());
            socket.getOutputStream().write("pong\n".getBytes());
        }
    }

    static void serve(String host, String port) throws IOException {
        try (ServerSocket listener = new ServerSocket(Integer.parseInt(port), 50, InetAddress.getByName(host))) {
            Guest.say("listening");
            answer(listener.accept());
        }
    }

    static void serveBySelector(String port) throws IOException {
        try (ServerSocketChannel listener = ServerSocketChannel.open(); Selector selector = Selector.open()) {
            listener.bind(new InetSocketAddress("0.0.0.0", Integer.parseInt(port)));
            listener.configureBlocking(false);
            listener.register(selector, SelectionKey.OP_ACCEPT);
            Guest.say("listening");
            SocketChannel channel;
            do {
                selector.select();
                selector.selectedKeys().clear();
                channel = listener.accept();
            } while (channel == null);
            channel.configureBlocking(true);
            answer(channel.socket());
        }
    }

    static void ownListener() throws IOException {
        try (ServerSocket listener = new ServerSocket(0, 8, InetAddress.getByName("127.0.0.1"));
                Socket client = new Socket("127.0.0.1", listener.getLocalPort());
                Socket accepted = listener.accept()) {
            Guest.say(accepted.getPort() == client.getLocalPort() ? "own" : "another's");
        }
    }

    static void add(Map<String, Guest.Behaviour> all) {
        all.put("resolve", argument -> lookUp("echo.shop.internal"));
        all.put("resolve-hosts", argument -> lookUp("stock.shop.internal"));
        all.put("resolve-search", argument -> lookUp("echo"));
        all.put("resolve-absent", argument -> lookUp("absent.shop.internal"));
        all.put("resolve-numeric", argument -> lookUp("10.1.2.3"));
        all.put("connect", argument -> converse(new Socket(Guest.ECHO, Guest.PORT)));
        all.put("connect-six", argument -> converse(new Socket(Guest.ECHO_SIX, Guest.PORT)));
        all.put("connect-name", argument -> converse(new Socket("echo.shop.internal", Guest.PORT)));
        all.put("connect-nonblocking", argument -> converse(bySelector(Guest.ECHO, Guest.PORT).socket()));
        all.put("happy-eyeballs", argument -> {
            IOException last = null;
            for (InetAddress one : InetAddress.getAllByName("dual.shop.internal")) {
                try {
                    converse(new Socket(one, Guest.PORT));
                    return;
                } catch (IOException problem) {
                    last = problem;
                }
            }
            throw last;
        });
        all.put("refused", argument -> {
            try {
                new Socket(Guest.ECHO, Guest.CLOSED).close();
                Guest.say("connected");
            } catch (IOException problem) {
                Guest.say(Guest.nameOf(problem));
            }
        });
        all.put("refused-nonblocking", argument -> {
            try {
                bySelector(Guest.ECHO, Guest.CLOSED).close();
                Guest.say("connected");
            } catch (IOException problem) {
                Guest.say(Guest.nameOf(problem));
            }
        });
        all.put("many", argument -> many());
        all.put("socket-names", argument -> socketNames());
        all.put("large", argument -> large());
        all.put("threads", argument -> threads());
        all.put("udp-connected", argument -> udp(true));
        all.put("udp-unconnected", argument -> udp(false));
        all.put("own-listener", argument -> ownListener());
        all.put("serve", port -> serve("0.0.0.0", port));
        all.put("serve-mirrored", port -> serve("0.0.0.0", port));
        all.put("serve-nonblocking", port -> serveBySelector(port));
        all.put("serve-pod-address", port -> serve(Guest.POD, port));
    }
}
