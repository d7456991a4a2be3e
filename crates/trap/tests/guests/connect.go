package main

import (
	"fmt"
	"net"
	"sync"
)

func main() {
	var group sync.WaitGroup
	var lock sync.Mutex
	count, peer := 0, ""
	for i := 0; i < 50; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			c, err := net.Dial("tcp", "10.9.0.1:80")
			if err != nil {
				panic(err)
			}
			c.Write([]byte("x"))
			c.Read(make([]byte, 1))
			lock.Lock()
			count, peer = count+1, c.RemoteAddr().String()
			lock.Unlock()
		}()
	}
	group.Wait()
	fmt.Println(count, peer)
	for _, bad := range []string{"10.9.0.2:80", "10.9.0.3:80"} {
		_, err := net.Dial("tcp", bad)
		fmt.Println(err)
	}
}
