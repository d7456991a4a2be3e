package main

import (
	"fmt"
	"io"
	"net"
	"os"
)

func main() {
	l, err := net.Listen("tcp", ":"+os.Args[1])
	if err != nil {
		panic(err)
	}
	for i := 0; i < 20; i++ {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		data, _ := io.ReadAll(c)
		fmt.Fprintf(c, "%s %s", c.RemoteAddr(), data)
		c.Close()
	}
}
