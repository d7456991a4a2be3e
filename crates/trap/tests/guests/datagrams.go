package main

import (
	"fmt"
	"net"
)

func main() {
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		panic(err)
	}
	for _, host := range []string{"10.9.0.1:53", "10.9.0.2:53"} {
		to, _ := net.ResolveUDPAddr("udp", host)
		c.WriteToUDP([]byte("hello"), to)
		buffer := make([]byte, 99)
		n, from, err := c.ReadFromUDP(buffer)
		if err != nil {
			panic(err)
		}
		fmt.Println(from, string(buffer[:n]))
	}
}
