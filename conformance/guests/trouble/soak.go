// soak SECONDS DIRECTORY: a thousand goroutines on files and connections, of the pod and of this machine, every byte looked at,
// with the collector and its preemptions under stress. Twelve times they all pause between two operations, and open descriptors are counted.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	workers = 1000
	samples = 12
	blob    = "/data/conformance/blob"
	text    = "/data/conformance/text"
	echo    = "10.77.0.40:7000"
)

var (
	// Read-locked during an operation: whoever has it for writing sees none under way.
	working sync.RWMutex
	ended   atomic.Bool
	done    [4]atomic.Int64
	// New connections are few a second: ports that were closed rest for a minute.
	dials = make(chan struct{})
	local string
	// The workers' connections.
	holds []*sync.Map
)

func fail(format string, words ...any) {
	fmt.Printf("failed: "+format+"\n", words...)
	os.Exit(1)
}

func must(problem error, what string) {
	if problem != nil {
		fail("%s: %v", what, problem)
	}
}

func remoteFile(random *rand.Rand, _ string) {
	file, problem := os.Open(blob)
	must(problem, "open")
	defer file.Close()
	read := make([]byte, 1+random.Intn(8192))
	offset := random.Intn(1<<20 - len(read))
	_, problem = file.ReadAt(read, int64(offset))
	must(problem, "read")
	for at, found := range read {
		if found != byte(offset+at) {
			fail("byte %d of the pod's file is %d", offset+at, found)
		}
	}
	found, problem := os.Stat(text)
	must(problem, "stat")
	if found.Size() != 19 {
		fail("the pod's file has %d bytes", found.Size())
	}
	if _, problem = os.Stat("/data/conformance/absent"); !os.IsNotExist(problem) {
		fail("an absent file: %v", problem)
	}
}

func localFile(random *rand.Rand, path string) {
	written := make([]byte, 1+random.Intn(8192))
	random.Read(written)
	must(os.WriteFile(path, written, 0o600), "write")
	read, problem := os.ReadFile(path)
	must(problem, "read")
	if !bytes.Equal(written, read) {
		fail("%s: not what was written", path)
	}
	must(os.Remove(path), "remove")
}

// One connection, and what must come back over it.
func exchange(random *rand.Rand, connection net.Conn) {
	sent := make([]byte, 8+random.Intn(16384))
	random.Read(sent)
	binary.BigEndian.PutUint64(sent, random.Uint64())
	wrote := make(chan error, 1)
	go func() {
		_, problem := connection.Write(sent)
		wrote <- problem
	}()
	back := make([]byte, len(sent))
	_, problem := io.ReadFull(connection, back)
	must(problem, "echo")
	must(<-wrote, "send")
	if !bytes.Equal(sent, back) {
		fail("another echo than what was sent")
	}
}

// Several exchanges over each connection, which stays open over other operations and pauses.
func connections(address *string) func(*rand.Rand, string) {
	held := new(sync.Map)
	holds = append(holds, held)
	return func(random *rand.Rand, own string) {
		kept, ok := held.Load(own)
		if !ok {
			<-dials
			connection, problem := net.Dial("tcp", *address)
			must(problem, "connect")
			kept = connection
			held.Store(own, kept)
		}
		connection := kept.(net.Conn)
		exchange(random, connection)
		if random.Intn(200) == 0 {
			held.Delete(own)
			connection.Close()
		}
	}
}

func work(number int, directory string, kinds []func(*rand.Rand, string)) {
	random := rand.New(rand.NewSource(int64(number)))
	own := filepath.Join(directory, strconv.Itoa(number))
	kind := number % len(kinds)
	for !ended.Load() {
		working.RLock()
		kinds[kind](random, own)
		working.RUnlock()
		done[kind].Add(1)
		// Garbage, and a place to be preempted at.
		_ = fmt.Sprint(make([]byte, random.Intn(512)))
		time.Sleep(time.Duration(random.Intn(20)) * time.Millisecond)
	}
}

func serve() {
	listener, problem := net.Listen("tcp", "127.0.0.1:0")
	must(problem, "listen")
	local = listener.Addr().String()
	go func() {
		for {
			connection, problem := listener.Accept()
			must(problem, "accept")
			go func() {
				io.Copy(connection, connection)
				connection.Close()
			}()
		}
	}()
}

func open(process int) int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", process))
	return len(entries)
}

// The supervisor and what else it has started.
func inpod() []int {
	found := []int{os.Getppid()}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", found[0]))
	for _, task := range tasks {
		children, _ := os.ReadFile(task)
		for _, word := range strings.Fields(string(children)) {
			if child, _ := strconv.Atoi(word); child != os.Getpid() {
				found = append(found, child)
			}
		}
	}
	return found
}

// With nothing under way and every connection closed.
func count(number int, others []int) {
	working.Lock()
	defer working.Unlock()
	for _, held := range holds {
		held.Range(func(own, connection any) bool {
			connection.(net.Conn).Close()
			held.Delete(own)
			return true
		})
	}
	least := make([]int, len(others)+1)
	for i := range least {
		least[i] = 1 << 30
	}
	// The other ends of what was closed go a little later.
	for range 30 {
		for i, process := range append([]int{os.Getpid()}, others...) {
			least[i] = min(least[i], open(process))
		}
		time.Sleep(20 * time.Millisecond)
	}
	fmt.Printf("sample %d:", number)
	for _, found := range least {
		fmt.Printf(" %d", found)
	}
	fmt.Println()
}

func main() {
	seconds, problem := strconv.Atoi(os.Args[1])
	must(problem, "the first word")
	remote := echo
	serve()
	go func() {
		for {
			dials <- struct{}{}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	// Preempts whoever runs.
	go func() {
		for !ended.Load() {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	}()
	kinds := []func(*rand.Rand, string){remoteFile, localFile, connections(&remote), connections(&local)}
	var all sync.WaitGroup
	for number := range workers {
		all.Go(func() { work(number, os.Args[2], kinds) })
	}
	others := inpod()
	step := time.Duration(seconds) * time.Second / samples
	for number := range samples {
		time.Sleep(step)
		count(number, others)
	}
	ended.Store(true)
	all.Wait()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Printf("done: %d and %d files, %d and %d exchanges, %d collections\n",
		done[0].Load(), done[1].Load(), done[2].Load(), done[3].Load(), stats.NumGC)
}
