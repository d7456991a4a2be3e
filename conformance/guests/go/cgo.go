//go:build withcgo

package main

// Makes the program dynamic, as every import of a C library does.

// #include <unistd.h>
import "C"

func init() { _ = C.getppid() }
