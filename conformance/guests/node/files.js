// The pod's files, environment, host name; children.
"use strict";
const fs = require("fs");
const os = require("os");
const path = require("path");
const { spawnSync, spawn } = require("child_process");

const FILES = "/data/conformance/";
const firstLine = file => fs.readFileSync(file, "utf8").split("\n")[0];
const attempt = (say, what, run) => {
  try {
    say(run());
  } catch (error) {
    say(what, error.code);
  }
};
const kind = (name, found) =>
  found.isFile() ? `${name} file ${found.size}` : `${name} ${found.isDirectory() ? "directory" : found.isSymbolicLink() ? "link" : "something"}`;
const self = path.join(__dirname, "guest.js");
const run = (say, words, options = {}) => new Promise(done => {
  const child = spawn(words[0], words.slice(1), { stdio: ["ignore", 1, 2], ...options });
  child.on("error", error => { say(error.code); done(); });
  child.on("exit", (code, signal) => { if (code !== 0) say("status", code ?? signal); done(); });
});

module.exports = {
  "read": (_, say) => {
    attempt(say, "text", () => firstLine(FILES + "text"));
    attempt(say, "absent", () => firstLine(FILES + "absent"));
  },
  "list": (_, say) => say(...fs.readdirSync(FILES + "directory").sort()),
  "cwd": (_, say) => say("cwd", process.cwd()),
  "chdir": (_, say) => {
    const before = process.cwd();
    process.chdir(FILES + "directory");
    say(process.cwd());
    say("one:", firstLine("one"));
    say("text:", firstLine("../text"));
    process.chdir(before);
  },
  "symlinks": (_, say) => {
    say("link ->", fs.readlinkSync(FILES + "link"));
    say(fs.realpathSync.native(FILES + "link/one"));
  },
  "stat": (_, say) => {
    attempt(say, "text", () => kind("text", fs.statSync(FILES + "text")));
    attempt(say, "directory", () => kind("directory", fs.statSync(FILES + "directory")));
    attempt(say, "link", () => kind("link", fs.lstatSync(FILES + "link")));
    attempt(say, "absent", () => kind("absent", fs.statSync(FILES + "absent")));
  },
  "access": (_, say) => {
    for (const name of ["text", "absent"]) attempt(say, name, () => fs.accessSync(FILES + name, fs.constants.R_OK) ?? `${name} yes`);
  },
  "write": (_, say) => attempt(say, "open", () => fs.openSync(FILES + "text", "r+") && "open for writing"),
  "local-file": (directory, say) => {
    const file = `${directory}/mine-${process.pid}`;
    fs.writeFileSync(file, "kept here\n", { flag: "wx" });
    say(firstLine(file));
    fs.unlinkSync(file);
    say("removed");
  },
  "script": (_, say) => say(spawnSync(FILES + "script", ["hello"], { encoding: "utf8" }).stdout?.trim()),
  "environment": (_, say) => {
    say(process.env.SHOP_CURRENCY ?? "unset");
    say("NODE_OPTIONS", "NODE_OPTIONS" in process.env ? "set" : "unset");
  },
  "host-name": (_, say) => say(os.hostname()),
  "interfaces": (_, say) =>
    say("lo", (os.networkInterfaces().lo ?? []).find(one => one.family === "IPv4")?.address),
  "spawn-child": (_, say) => run(say, [process.execPath, self, "child"]),
  "bare-environment": (_, say) => run(say, [process.execPath, self, "child"], { env: {} }),
};
