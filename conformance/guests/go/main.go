// guest BEHAVIOUR[=ARGUMENT]...: for each `== BEHAVIOUR` and the lines of what it saw.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

const (
	files   = "/data/conformance/"
	echo    = "10.77.0.40:7000"
	echoSix = "[fd00:77::40]:7000"
	closed  = "10.77.0.40:9"
	pod     = "10.77.0.10:8080"
)

var behaviours = map[string]func(argument string) error{}

func add(more map[string]func(string) error) {
	for name, run := range more {
		behaviours[name] = run
	}
}

func say(format string, words ...any) {
	fmt.Fprintf(os.Stdout, format+"\n", words...)
}

var names = map[syscall.Errno]string{
	syscall.EACCES: "EACCES", syscall.EADDRNOTAVAIL: "EADDRNOTAVAIL", syscall.ECONNREFUSED: "ECONNREFUSED",
	syscall.ECONNRESET: "ECONNRESET", syscall.EINTR: "EINTR", syscall.ENETUNREACH: "ENETUNREACH",
	syscall.ENOENT: "ENOENT", syscall.EROFS: "EROFS", syscall.ETIMEDOUT: "ETIMEDOUT",
}

func nameOf(problem error) string {
	var errno syscall.Errno
	if errors.As(problem, &errno) && names[errno] != "" {
		return names[errno]
	}
	return problem.Error()
}

func main() {
	for _, word := range os.Args[1:] {
		name, argument, _ := strings.Cut(word, "=")
		// A child's lines belong to what its parent was told to do.
		if name != "child" {
			say("== %s", name)
		}
		run := behaviours[name]
		if run == nil {
			say("unknown to this guest")
		} else if problem := run(argument); problem != nil {
			say("failed %s", nameOf(problem))
		}
	}
}
