// Prints the page at the URL in the first argument.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	answer, problem := http.Get(os.Args[1])
	if problem != nil {
		log.Fatal(problem)
	}
	defer answer.Body.Close()
	if _, problem := io.Copy(os.Stdout, answer.Body); problem != nil {
		log.Fatal(problem)
	}
}
