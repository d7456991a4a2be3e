// A child's directory, and the program's own.
package main

import (
	"fmt"
	"os"
	"os/exec"
)

func main() {
	command := exec.Command("/bin/cat", "config")
	command.Dir = "/data"
	out, err := command.CombinedOutput()
	fmt.Printf("%s%v\n", out, err)
	directory, _ := os.Open("/data/deep")
	fmt.Println(directory.Chdir(), os.Chdir("er"))
	here, err := os.Getwd()
	text, _ := os.ReadFile("../../config")
	fmt.Printf("%s %v %s", here, err, text)
	fmt.Println(os.Chdir(".."), os.Chdir("../.."))
}
