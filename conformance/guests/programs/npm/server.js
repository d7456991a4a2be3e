// Answers with a file of the pod at the port in the first argument.
const fs = require("fs");
require("http")
  .createServer((_, answer) => answer.end(fs.readFileSync("/data/conformance/text")))
  .listen(Number(process.argv[2]), "0.0.0.0");
