// The DNS server of the local cluster: CoreDNS with no more plugins than its configuration names.
//
// Upstream's program holds those of all cloud providers too and takes ten times as long to build.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

func main() {
	// A request passes the plugins in this order, wherever they stand in the configuration.
	dnsserver.Directives = []string{
		"reload", "ready", "health", "errors", "cache", "kubernetes", "forward",
	}
	coremain.Run()
}
