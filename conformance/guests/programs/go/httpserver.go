// Answers with a file of the pod at the port in the first argument.
package main

import (
	"log"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("/", func(out http.ResponseWriter, _ *http.Request) {
		text, problem := os.ReadFile("/data/conformance/text")
		if problem != nil {
			http.Error(out, problem.Error(), http.StatusInternalServerError)
			return
		}
		out.Write(text)
	})
	log.Fatal(http.ListenAndServe("0.0.0.0:"+os.Args[1], nil))
}
