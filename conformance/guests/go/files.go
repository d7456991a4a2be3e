// The pod's files, environment, host name; children.
package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

func init() {
	add(map[string]func(string) error{
		"read": read, "list": list, "cwd": cwd, "chdir": chdir, "dirfd": dirfd, "symlinks": symlinks, "mmap": mapped,
		"stat": stat, "access": access, "write": write, "local-file": localFile, "script": script,
		"environment": environment, "host-name": hostName, "interfaces": interfaces,
		"spawn-child": spawnChild, "bare-environment": bareEnvironment, "child": child,
	})
}

func firstLine(path string) string {
	file, problem := os.Open(path)
	if problem != nil {
		return nameOf(problem)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Scan()
	return lines.Text()
}

func read(string) error {
	say("%s", firstLine(files+"text"))
	say("absent %s", firstLine(files+"absent"))
	return nil
}

func list(string) error {
	entries, problem := os.ReadDir(files + "directory")
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	say("%s", strings.Join(found, " "))
	return problem
}

func cwd(string) error {
	// os.Getwd believes $PWD.
	here, problem := syscall.Getwd()
	say("cwd %s", here)
	return problem
}

func chdir(string) error {
	before, problem := syscall.Getwd()
	if problem != nil {
		return problem
	}
	if problem := os.Chdir(files + "directory"); problem != nil {
		return problem
	}
	here, problem := syscall.Getwd()
	say("%s", here)
	say("one: %s", firstLine("one"))
	say("text: %s", firstLine("../text"))
	if problem != nil {
		return problem
	}
	return os.Chdir(before)
}

func dirfd(string) error {
	directory, problem := syscall.Open(files+"directory", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if problem != nil {
		return problem
	}
	defer syscall.Close(directory)
	file, problem := syscall.Openat(directory, "one", syscall.O_RDONLY, 0)
	if problem != nil {
		return problem
	}
	defer syscall.Close(file)
	text := make([]byte, 64)
	length, problem := syscall.Read(file, text)
	if problem != nil {
		return problem
	}
	say("one: %s", strings.TrimSpace(string(text[:length])))
	// os.Root is openat and fstatat all through.
	root, problem := os.OpenRoot(files + "directory")
	if problem != nil {
		return problem
	}
	defer root.Close()
	found, problem := root.Stat("one")
	if problem == nil {
		say("size %d", found.Size())
	}
	return problem
}

func symlinks(string) error {
	target, problem := os.Readlink(files + "link")
	if problem != nil {
		return problem
	}
	say("link -> %s", target)
	path, problem := filepath.EvalSymlinks(files + "link/one")
	say("%s", path)
	return problem
}

func mapped(string) error {
	file, problem := os.Open(files + "blob")
	if problem != nil {
		return problem
	}
	defer file.Close()
	found, _ := file.Stat()
	bytes, problem := syscall.Mmap(int(file.Fd()), 0, int(found.Size()), syscall.PROT_READ, syscall.MAP_PRIVATE)
	if problem != nil {
		return problem
	}
	sum := 0
	for _, one := range bytes {
		sum += int(one)
	}
	say("%d bytes, sum %d", len(bytes), sum)
	return syscall.Munmap(bytes)
}

func kind(name string, found os.FileInfo, problem error) {
	switch {
	case problem != nil:
		say("%s %s", name, nameOf(problem))
	case found.Mode().IsRegular():
		say("%s file %d", name, found.Size())
	case found.IsDir():
		say("%s directory", name)
	case found.Mode()&os.ModeSymlink != 0:
		say("%s link", name)
	}
}

func stat(string) error {
	for _, name := range []string{"text", "directory"} {
		found, problem := os.Stat(files + name)
		kind(name, found, problem)
	}
	found, problem := os.Lstat(files + "link")
	kind("link", found, problem)
	found, problem = os.Stat(files + "absent")
	kind("absent", found, problem)
	return nil
}

func access(string) error {
	for _, name := range []string{"text", "absent"} {
		if problem := syscall.Access(files+name, 4); problem != nil {
			say("%s %s", name, nameOf(problem))
		} else {
			say("%s yes", name)
		}
	}
	return nil
}

func write(string) error {
	file, problem := os.OpenFile(files+"text", os.O_WRONLY, 0)
	if problem != nil {
		say("open %s", nameOf(problem))
		return nil
	}
	say("open for writing")
	return file.Close()
}

func localFile(directory string) error {
	path := fmt.Sprintf("%s/mine-%d", directory, os.Getpid())
	if problem := os.WriteFile(path, []byte("kept here\n"), 0o600); problem != nil {
		return problem
	}
	say("%s", firstLine(path))
	if problem := os.Remove(path); problem != nil {
		return problem
	}
	say("removed")
	return nil
}

func run(command *exec.Cmd) error {
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	return command.Run()
}

func script(string) error { return run(exec.Command(files+"script", "hello")) }

func environment(string) error {
	if currency, is := os.LookupEnv("SHOP_CURRENCY"); is {
		say("%s", currency)
	} else {
		say("unset")
	}
	if _, is := os.LookupEnv("NODE_OPTIONS"); is {
		say("NODE_OPTIONS set")
	} else {
		say("NODE_OPTIONS unset")
	}
	return nil
}

func hostName(string) error {
	// os.Hostname asks uname first.
	name, problem := os.Hostname()
	say("%s", name)
	return problem
}

func interfaces(string) error {
	lo, problem := net.InterfaceByName("lo")
	if problem != nil {
		return problem
	}
	addresses, problem := lo.Addrs()
	for _, address := range addresses {
		if address.String() == "127.0.0.1/8" {
			say("lo 127.0.0.1")
		}
	}
	return problem
}

func self() *exec.Cmd {
	path, problem := os.Executable()
	if problem != nil {
		path = os.Args[0]
	}
	return exec.Command(path, "child")
}

func spawnChild(string) error { return run(self()) }

func bareEnvironment(string) error {
	command := self()
	command.Env = []string{}
	return run(command)
}

func child(string) error {
	say("child: %s", firstLine(files+"text"))
	connection, problem := net.Dial("tcp", echo)
	if problem != nil {
		say("child: %s", nameOf(problem))
		return nil
	}
	defer connection.Close()
	say("child: %s", talk(connection))
	return nil
}
