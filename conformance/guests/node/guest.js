// guest BEHAVIOUR[=ARGUMENT]...: for each `== BEHAVIOUR` and the lines of what it saw.
"use strict";
const fs = require("fs");
const behaviours = { ...require("./files.js"), ...require("./sockets.js") };

// Synchronous, so that lines of children keep their place.
const say = (...words) => fs.writeSync(1, words.join(" ") + "\n");

(async () => {
  for (const word of process.argv.slice(2)) {
    const [name, argument] = word.split("=");
    // A child's lines belong to what its parent was told to do.
    if (name !== "child") say("==", name);
    if (!behaviours[name]) {
      say("unknown to this guest");
      continue;
    }
    try {
      await behaviours[name](argument, say);
    } catch (error) {
      say("failed", error.code ?? error);
    }
  }
  process.exit(0);
})();
