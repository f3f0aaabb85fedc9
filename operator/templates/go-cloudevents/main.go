// Takes CloudEvents on $PORT: attributes come as headers, the data as the body. An answer of 2xx says that
// the event is done; after any other it comes again.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

func take(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	id := r.Header.Get("ce-id")
	fmt.Println("took", r.Header.Get("ce-type"), id, string(data))
	fmt.Fprintln(w, "took", id)
}

func main() {
	http.HandleFunc("/", take)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
