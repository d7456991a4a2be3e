// One static binary holds every Kubernetes program that the testbed runs, so that their common code is compiled and
// linked once. It acts as the program it is called by (a symbolic link) or, failing that, as its first argument names.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	_ "k8s.io/client-go/plugin/pkg/client/auth"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var programs = map[string]func() int{
	"apiserver":          run(func() *cobra.Command { return apiserver.NewAPIServerCommand() }),
	"controller-manager": run(func() *cobra.Command { return controllermanager.NewControllerManagerCommand() }),
	"scheduler":          run(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"proxy":              run(func() *cobra.Command { return proxy.NewProxyCommand() }),
	"kubelet":            run(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubectl":            runKubectl,
}

func main() {
	if program, ok := programs[filepath.Base(os.Args[0])]; ok {
		os.Exit(program())
	}
	if len(os.Args) < 2 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: kubernetes apiserver|controller-manager|scheduler|proxy|kubelet|kubectl ARGUMENT...")
		os.Exit(2)
	}
	os.Args = os.Args[1:]
	os.Exit(programs[os.Args[0]]())
}

func run(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

// kubectl prints its errors itself, and exits with the code of the command that it ran in a container.
func runKubectl() int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return 0
}
