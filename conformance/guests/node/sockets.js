// Names, connections, datagrams, servers.
"use strict";
const dns = require("dns").promises;
const dgram = require("dgram");
const fs = require("fs");
const net = require("net");
const { once } = require("events");

const FILES = "/data/conformance/";
const ECHO = "10.77.0.40", PORT = 7000, CLOSED = 9, ECHO_SIX = "fd00:77::40";
const POD = "10.77.0.10", POD_PORT = 8080;
const shown = (host, port) => (host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);

// dns.lookup is getaddrinfo.
const lookUp = name => async (_, say) => {
  try {
    say((await dns.lookup(name, { family: 4 })).address);
  } catch (error) {
    say(error.code === "ENOTFOUND" ? "not found" : error.code);
  }
};

const dial = (host, port, more = {}) => new Promise((done, failed) => {
  const socket = net.connect({ host, port, allowHalfOpen: true, ...more });
  socket.once("connect", () => done(socket)).once("error", failed);
});
// What comes back until `length` bytes are there.
const receive = async (socket, length) => {
  let back = "";
  while (back.length < length) {
    const piece = socket.read();
    if (piece) back += piece;
    else if (socket.readableEnded) return "end too early";
    else await Promise.race([once(socket, "readable"), once(socket, "end")]);
  }
  return back;
};
const talk = async socket => {
  socket.write("ping");
  return receive(socket, 4);
};
const converse = async (socket, say) => {
  say("peer", shown(socket.remoteAddress, socket.remotePort));
  say(await talk(socket));
  socket.end();
  socket.resume();
  if (!socket.readableEnded) await once(socket, "end");
  say("end");
};
const refused = async (_, say) => {
  try {
    await dial(ECHO, CLOSED);
    say("connected");
  } catch (error) {
    say(error.code);
  }
};

const udp = connected => (_, say) => new Promise((done, failed) => {
  const socket = dgram.createSocket("udp4");
  socket.on("error", failed).on("message", (back, from) => {
    say(shown(from.address, from.port), "says", back);
    socket.close(done);
  });
  if (connected) socket.connect(PORT, ECHO, error => (error ? failed(error) : socket.send("ping")));
  else socket.send("ping", PORT, ECHO, error => error && failed(error));
});

const serve = host => (port, say) => new Promise((done, failed) => {
  const server = net.createServer(socket => {
    // libuv accepts without an address; this is getpeername.
    say(`client ${shown(socket.remoteAddress, socket.remotePort)}, twice`);
    socket.once("data", data => {
      say("said", data.toString().trim());
      socket.end("pong\n", () => server.close(done));
    });
  });
  server.on("error", failed).listen(Number(port), host, () => say("listening"));
});

module.exports = {
  "child": async (_, say) => {
    try {
      say("child:", fs.readFileSync(FILES + "text", "utf8").trim());
      say("child:", await talk(await dial(ECHO, PORT)));
    } catch (error) {
      say("child:", error.code);
    }
  },
  "resolve": lookUp("echo.shop.internal"),
  "resolve-hosts": lookUp("stock.shop.internal"),
  "resolve-search": lookUp("echo"),
  "resolve-absent": lookUp("absent.shop.internal"),
  "resolve-numeric": lookUp("10.1.2.3"),
  "connect-six": async (_, say) => converse(await dial(ECHO_SIX, PORT), say),
  "connect-nonblocking": async (_, say) => converse(await dial(ECHO, PORT), say),
  "connect-name": async (_, say) => converse(await dial("echo.shop.internal", PORT), say),
  "happy-eyeballs": async (_, say) => converse(await dial("dual.shop.internal", PORT, { autoSelectFamily: true }), say),
  "refused-nonblocking": refused,
  "many": async (_, say) => {
    const one = number => dial(ECHO, number % 2 ? CLOSED : PORT).then(
      socket => { socket.destroy(); return "connected"; },
      error => (error.code === "ECONNREFUSED" ? "refused" : "other"));
    const all = await Promise.all([...Array(50).keys()].map(one));
    say(["connected", "refused", "other"].map(outcome => `${all.filter(one => one === outcome).length} ${outcome}`).join(", "));
  },
  "socket-names": async (_, say) => {
    const socket = await dial(POD, POD_PORT);
    say("peer", shown(socket.remoteAddress, socket.remotePort));
    const here = shown(socket.localAddress, socket.localPort);
    socket.write("GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
    let answer = "";
    for await (const piece of socket) answer += piece;
    say(`the server saw ${answer.split("\n").includes(`client=${here}`) ? "this" : "another"} address`);
  },
  "large": async (_, say) => {
    const length = 8 << 20;
    const sent = Buffer.alloc(length);
    for (let at = 0; at < length; at++) sent[at] = Math.imul(at, 2654435761) >>> 24;
    const socket = await dial(ECHO, PORT);
    (async () => {
      for (let at = 0; at < length; at += 17321)
        if (!socket.write(sent.subarray(at, at + 17321))) await once(socket, "drain");
      socket.end();
    })();
    const pieces = [];
    for await (const piece of socket) pieces.push(piece);
    const back = Buffer.concat(pieces);
    say(back.equals(sent) ? `${back.length} bytes came back as they were sent` : `${back.length} other bytes`);
  },
  "udp-connected": udp(true),
  "udp-unconnected": udp(false),
  // Worker threads, each with a loop of its own.
  "threads": async (_, say) => {
    const { Worker } = require("worker_threads");
    const one = () => new Promise(done => {
      const code = `const net = require("net"), fs = require("fs");
        fs.readFileSync("${FILES}text");
        net.connect(${PORT}, "${ECHO}", function () { this.write("ping"); })
          .on("data", data => { require("worker_threads").parentPort.postMessage(String(data)); process.exit(); });`;
      new Worker(code, { eval: true }).on("message", done).on("error", error => done(error.code));
    });
    const all = await Promise.all([...Array(8)].map(one));
    say(all.filter(text => text === "ping").length, "echoes");
  },
  "own-listener": async (_, say) => {
    const server = net.createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const accepted = once(server, "connection");
    const client = await dial("127.0.0.1", server.address().port);
    const [socket] = await accepted;
    say(socket.remotePort === client.localPort && socket.remoteAddress === client.localAddress ? "own" : "another's");
    client.destroy();
    socket.destroy();
    server.close();
  },
  "bind-pod-address": async (_, say) => {
    const server = net.createServer();
    server.listen(0, POD);
    await once(server, "listening");
    say("bound to", server.address().address);
    server.close();
  },
  "serve": serve("0.0.0.0"),
  "serve-mirrored": serve("0.0.0.0"),
  "serve-nonblocking": serve("0.0.0.0"),
  "serve-pod-address": serve(POD),
};
