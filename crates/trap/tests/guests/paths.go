package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	entries, err := os.ReadDir(os.Args[1])
	if err != nil {
		panic(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	fmt.Println(strings.Join(names, " "))
	text, err := os.ReadFile(os.Args[1] + "/config")
	if err != nil {
		panic(err)
	}
	fmt.Print(string(text))
}
