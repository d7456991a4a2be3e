// A server and 32 clients that keep their connections, in one program: what net/http serves at full load, on this
// machine alone. `http SECONDS` says `requests_per_s N`.
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const clients = 32

func main() {
	seconds, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	body := make([]byte, 1024)
	server := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		answer.Write(body)
	}))
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	var served atomic.Int64
	var group sync.WaitGroup
	begun := time.Now()
	end := begun.Add(time.Duration(seconds) * time.Second)
	for range clients {
		group.Go(func() {
			for time.Now().Before(end) {
				answer, err := client.Get(server.URL)
				if err != nil {
					panic(err)
				}
				if _, err := io.Copy(io.Discard, answer.Body); err != nil {
					panic(err)
				}
				answer.Body.Close()
				served.Add(1)
			}
		})
	}
	group.Wait()
	fmt.Printf("requests_per_s %f\n", float64(served.Load())/time.Since(begun).Seconds())
}
