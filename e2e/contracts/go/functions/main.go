// Functions for the functions framework, which in Go is compiled in.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"
	"github.com/GoogleCloudPlatform/functions-framework-go/functions"
	"github.com/cloudevents/sdk-go/v2/event"
)

func main() {
	functions.HTTP("hello", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("x-path", r.URL.Path)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "hello from go %s", body)
	})
	functions.CloudEvent("take", func(_ context.Context, e event.Event) error {
		fmt.Println("took", e.ID(), e.Type(), string(e.Data()))
		return nil
	})
	if err := funcframework.StartHostPort("", os.Getenv("PORT")); err != nil {
		log.Fatal(err)
	}
}
