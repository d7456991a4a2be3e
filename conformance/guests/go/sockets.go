// Names, connections, datagrams, servers.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
)

func init() {
	resolve := func(name string) func(string) error {
		return func(string) error { return lookUp(name) }
	}
	dialing := func(network, address string) func(string) error {
		return func(string) error {
			connection, problem := net.Dial(network, address)
			if problem != nil {
				return problem
			}
			return converse(connection)
		}
	}
	add(map[string]func(string) error{
		"resolve": resolve("echo.shop.internal"), "resolve-hosts": resolve("stock.shop.internal"),
		"resolve-search": resolve("echo"), "resolve-absent": resolve("absent.shop.internal"),
		"resolve-numeric": resolve("10.1.2.3"),
		"connect":         blocking, "connect-six": dialing("tcp6", echoSix), "connect-nonblocking": dialing("tcp", echo),
		"connect-name": dialing("tcp", "echo.shop.internal:7000"), "happy-eyeballs": dialing("tcp", "dual.shop.internal:7000"),
		"refused": blockingRefused, "refused-nonblocking": refused, "many": many, "socket-names": socketNames,
		"large": large, "udp-connected": udpConnected, "udp-unconnected": udpUnconnected, "dup": dup,
		"closed-descriptors": closedDescriptors, "threads": threads, "own-listener": ownListener,
		"bind-pod-address": bindPodAddress,
		"serve":            serving("0.0.0.0"), "serve-mirrored": serving("0.0.0.0"), "serve-nonblocking": serving("0.0.0.0"),
		"serve-pod-address": serving("10.77.0.10"),
	})
}

func lookUp(name string) error {
	found, problem := net.DefaultResolver.LookupIP(context.Background(), "ip4", name)
	var unknown *net.DNSError
	if errors.As(problem, &unknown) && unknown.IsNotFound {
		say("not found")
		return nil
	}
	if problem != nil {
		return problem
	}
	say("%s", found[0])
	return nil
}

func talk(connection net.Conn) string {
	if _, problem := connection.Write([]byte("ping")); problem != nil {
		return nameOf(problem)
	}
	back := make([]byte, 4)
	if _, problem := io.ReadFull(connection, back); problem != nil {
		return nameOf(problem)
	}
	return string(back)
}

func converse(connection net.Conn) error {
	defer connection.Close()
	say("peer %s", connection.RemoteAddr())
	say("%s", talk(connection))
	if problem := connection.(*net.TCPConn).CloseWrite(); problem != nil {
		return problem
	}
	_, problem := connection.Read(make([]byte, 1))
	if problem == io.EOF {
		say("end")
		return nil
	}
	say("more")
	return problem
}

// What package net never makes: a blocking socket.
func dialBlocking(address string) (int, error) {
	to, _ := net.ResolveTCPAddr("tcp4", address)
	fd, problem := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if problem != nil {
		return -1, problem
	}
	in := syscall.SockaddrInet4{Port: to.Port}
	copy(in.Addr[:], to.IP.To4())
	// The runtime's own signals (preemption) may interrupt it; the connection goes on.
	for {
		problem = syscall.Connect(fd, &in)
		if problem == syscall.EISCONN {
			problem = nil
		}
		if problem != syscall.EINTR && problem != syscall.EALREADY {
			break
		}
	}
	if problem != nil {
		syscall.Close(fd)
		return -1, problem
	}
	return fd, nil
}

// How package net takes over a descriptor: duplicated, and named by getpeername.
func adopt(fd int) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	return net.FileConn(file)
}

func blocking(string) error {
	fd, problem := dialBlocking(echo)
	if problem != nil {
		return problem
	}
	connection, problem := adopt(fd)
	if problem != nil {
		return problem
	}
	return converse(connection)
}

func blockingRefused(string) error {
	_, problem := dialBlocking(closed)
	if problem == nil {
		say("connected")
	} else {
		say("%s", nameOf(problem))
	}
	return nil
}

func refused(string) error {
	_, problem := net.Dial("tcp", closed)
	if problem == nil {
		say("connected")
	} else {
		say("%s", nameOf(problem))
	}
	return nil
}

func many(string) error {
	var all sync.WaitGroup
	var lock sync.Mutex
	connected, turnedAway, other := 0, 0, 0
	for number := range 50 {
		all.Go(func() {
			address := echo
			if number%2 == 1 {
				address = closed
			}
			connection, problem := net.Dial("tcp", address)
			lock.Lock()
			defer lock.Unlock()
			switch {
			case problem == nil:
				connected++
				connection.Close()
			case errors.Is(problem, syscall.ECONNREFUSED):
				turnedAway++
			default:
				other++
			}
		})
	}
	all.Wait()
	say("%d connected, %d refused, %d other", connected, turnedAway, other)
	return nil
}

func socketNames(string) error {
	connection, problem := net.Dial("tcp", pod)
	if problem != nil {
		return problem
	}
	defer connection.Close()
	say("peer %s", connection.RemoteAddr())
	fmt.Fprint(connection, "GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
	answer, problem := io.ReadAll(connection)
	if strings.Contains(string(answer), fmt.Sprintf("\nclient=%s\n", connection.LocalAddr())) {
		say("the server saw this address")
	} else {
		say("the server saw another address")
	}
	return problem
}

func large(string) error {
	const length = 8 << 20
	connection, problem := net.Dial("tcp", echo)
	if problem != nil {
		return problem
	}
	defer connection.Close()
	pattern := func(at int) byte { return byte(uint32(at) * 2654435761 >> 24) }
	go func() {
		piece := make([]byte, 17321)
		for at := 0; at < length; at += len(piece) {
			piece = piece[:min(17321, length-at)]
			for i := range piece {
				piece[i] = pattern(at + i)
			}
			if _, problem := connection.Write(piece); problem != nil {
				return
			}
		}
		connection.(*net.TCPConn).CloseWrite()
	}()
	piece, same := make([]byte, 9973), 0
	for {
		got, problem := connection.Read(piece)
		for i := range got {
			if piece[i] != pattern(same) {
				say("another byte at %d", same)
				return nil
			}
			same++
		}
		if problem == io.EOF {
			break
		}
		if problem != nil {
			return problem
		}
	}
	say("%d bytes came back as they were sent", same)
	return nil
}

func udpConnected(string) error {
	connection, problem := net.Dial("udp", echo)
	if problem != nil {
		return problem
	}
	defer connection.Close()
	say("%s says %s", connection.RemoteAddr(), talk(connection))
	return nil
}

func udpUnconnected(string) error {
	some, problem := net.ListenPacket("udp4", ":0")
	if problem != nil {
		return problem
	}
	defer some.Close()
	to, _ := net.ResolveUDPAddr("udp4", echo)
	if _, problem := some.WriteTo([]byte("ping"), to); problem != nil {
		return problem
	}
	back := make([]byte, 16)
	length, from, problem := some.ReadFrom(back)
	say("%s says %s", from, back[:length])
	return problem
}

func dup(string) error {
	first, problem := dialBlocking(echo)
	if problem != nil {
		return problem
	}
	second, problem := syscall.Dup(first)
	if problem != nil {
		return problem
	}
	syscall.Close(first)
	third, problem := syscall.Dup(second)
	if problem != nil {
		return problem
	}
	connection, problem := adopt(second)
	if problem != nil {
		return problem
	}
	say("%s", talk(connection))
	connection.Close()
	if connection, problem = adopt(third); problem != nil {
		return problem
	}
	return converse(connection)
}

func closedDescriptors(string) error {
	var kept [3]int
	for number := range kept {
		copied, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(number), syscall.F_DUPFD_CLOEXEC, 200)
		if errno != 0 {
			return errno
		}
		kept[number] = int(copied)
	}
	for number := range kept {
		syscall.Close(number)
	}
	file, fileProblem := syscall.Open(files+"text", syscall.O_RDONLY, 0)
	socket, socketProblem := dialBlocking(echo)
	copied, _ := syscall.Dup(file)
	text, back := make([]byte, 64), make([]byte, 4)
	length, _ := syscall.Read(copied, text)
	syscall.Write(socket, []byte("ping"))
	syscall.Read(socket, back)
	for number, old := range kept {
		syscall.Dup3(old, number, 0)
	}
	if problem := errors.Join(fileProblem, socketProblem); problem != nil {
		return problem
	}
	say("file %d, socket %d, copy %d", file, socket, copied)
	say("%s, %s", strings.TrimSpace(string(text[:max(length, 0)])), back)
	return nil
}

func threads(string) error {
	var all sync.WaitGroup
	var lock sync.Mutex
	echoes := 0
	for range 8 {
		all.Go(func() {
			connection, problem := net.Dial("tcp", echo)
			if problem != nil {
				return
			}
			defer connection.Close()
			lock.Lock()
			defer lock.Unlock()
			if talk(connection) == "ping" && firstLine(files+"text") == "hello from the pod" {
				echoes++
			}
		})
	}
	all.Wait()
	say("%d echoes", echoes)
	return nil
}

func ownListener(string) error {
	listener, problem := net.Listen("tcp", "127.0.0.1:0")
	if problem != nil {
		return problem
	}
	defer listener.Close()
	client, problem := net.Dial("tcp", listener.Addr().String())
	if problem != nil {
		return problem
	}
	defer client.Close()
	accepted, problem := listener.Accept()
	if problem != nil {
		return problem
	}
	defer accepted.Close()
	if accepted.RemoteAddr().String() == client.LocalAddr().String() {
		say("own")
	} else {
		say("another's")
	}
	return nil
}

func bindPodAddress(string) error {
	listener, problem := net.Listen("tcp4", "10.77.0.10:0")
	if problem != nil {
		return problem
	}
	defer listener.Close()
	host, _, _ := net.SplitHostPort(listener.Addr().String())
	say("bound to %s", host)
	return nil
}

func serving(host string) func(string) error {
	return func(port string) error {
		listener, problem := net.Listen("tcp4", host+":"+port)
		if problem != nil {
			return problem
		}
		defer listener.Close()
		say("listening")
		connection, problem := listener.Accept()
		if problem != nil {
			return problem
		}
		defer connection.Close()
		// accept's address; getpeername's is asked for by hand.
		peer, raw := "", connection.RemoteAddr().String()
		control, _ := connection.(*net.TCPConn).SyscallConn()
		control.Control(func(fd uintptr) {
			if in, problem := syscall.Getpeername(int(fd)); problem == nil {
				four := in.(*syscall.SockaddrInet4)
				peer = fmt.Sprintf("%s:%d", net.IP(four.Addr[:]), four.Port)
			}
		})
		if peer == raw {
			peer = "twice"
		}
		say("client %s, %s", raw, peer)
		line, _ := bufio.NewReader(connection).ReadString('\n')
		say("said %s", strings.TrimSpace(line))
		_, problem = io.WriteString(connection, "pong\n")
		return problem
	}
}
