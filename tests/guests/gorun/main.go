// What a program sees that `go run` builds and starts.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	text, err := os.ReadFile("/etc/shop/shop.toml")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	host, _ := os.Hostname()
	names, err := net.LookupHost("web.default.svc.cluster.local")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(os.Getenv("SERVICE"), strings.Split(string(text), "\n")[1], host == os.Getenv("POD_NAME"), len(names))
}
