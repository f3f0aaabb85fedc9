// Package hello is as Google's builders want it: without a main of its own.
package hello

import (
	"fmt"
	"net/http"

	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
)

func init() {
	functions.HTTP("hello", hello)
}

func hello(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, "hello from Go")
}
